"""The stages of training, arrays in and arrays out: the only door to torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from sparsevec.encoder.codes import shares
from sparsevec.encoder.fitting import Pool, new_head, train
from sparsevec.encoder.neighbours import nearest
from sparsevec.encoder.recipe import Listener, RefineRecipe, head_recipe, query_recipe, refine_recipe
from sparsevec.encoder.refining import DocumentCodes, Queries, QueryTower, refine
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Corpus", "Tensors", "learned_head", "learned_queries", "new_corpus", "refined"]

Tensors: TypeAlias = dict[str, Float32s]

_NEIGHBOURS = 100


@dataclass(frozen=True, slots=True)
class Corpus:
    """Unit rows of documents, and who asks for them, each with its nearest: found once, used by every stage."""

    documents: Tensor  # (n, input_dim)
    own: Queries  # documents that ask, for others than themselves
    sample: Queries  # of queries; empty where there is none

    @property
    def asking(self) -> Queries:
        """The sample, or the documents that stand in for one."""
        return self.sample if len(self.sample.rows) else self.own


def new_corpus(documents: Float32s, asking: Int64s, queries: Float32s | None) -> Corpus:
    """Of unit rows (n, input_dim) and (q, input_dim); asking (m,): the numbers of the documents that ask too."""
    rows = torch.from_numpy(documents)
    own = _near(rows[asking], rows, asking)
    sample = own.some(torch.arange(0)) if queries is None else _near(torch.from_numpy(queries), rows, None)
    return Corpus(rows, own, sample)


def learned_head(corpus: Corpus, dimension: int, nnz: int, seed: int, on_step: Listener | None) -> Tensors:
    """Stage 1, where every document asks: `mean`, `weights` and `bias`."""
    generator = torch.Generator().manual_seed(seed)
    pool = Pool(corpus.documents, corpus.own.near, corpus.asking.rows, corpus.asking.near)
    head = new_head(pool.documents, dimension, generator)
    for step in train(head, pool, nnz, head_recipe(len(pool.documents), dimension, nnz), generator):
        if on_step is not None:
            on_step(step)
    found = {"mean": head.mean, "weights": head.weights, "bias": head.bias}
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def _near(queries: Tensor, documents: Tensor, own: Int64s | None) -> Queries:
    """`queries` with their nearest documents; `own` (q,) are their numbers when they are documents, left out."""
    m = min(_NEIGHBOURS, len(documents) // 4)
    if own is None:
        return Queries(queries, *nearest(queries, documents, m))
    near, similarities = nearest(queries, documents, m + 1)
    others = near != torch.from_numpy(own)[:, None]
    others[others.all(dim=1), -1] = False  # pushed out by equal rows: then the last goes
    return Queries(queries, near[others].view(-1, m), similarities[others].view(-1, m))


def learned_queries(
    corpus: Corpus, codes: SparseVectors, tensors: Tensors, nnz: int, flops: float, seed: int, on_step: Listener | None
) -> Tensors:
    """Stage 2 on the head's codes of the documents: `query_weights` and `query_bias`."""
    return _fitted(corpus, _padded(codes), tensors, nnz, flops, seed, query_recipe(), on_step)


def refined(
    corpus: Corpus, start: SparseVectors, tensors: Tensors, nnz: int, flops: float, seed: int, on_step: Listener | None
) -> tuple[SparseVectors, Tensors]:
    """Stage 3: the codes of the documents, and `query_weights` and `query_bias` fitted to them.

    start: the head's code of each document, a few weights longer than `nnz`.
    """
    codes = _padded(start)
    tower = _fitted(corpus, codes, tensors, nnz, flops, seed, refine_recipe(nnz), on_step)
    return _strongest(codes, nnz, start.dimension), tower


def _fitted(
    corpus: Corpus,
    codes: DocumentCodes,
    tensors: Tensors,
    nnz: int,
    flops: float,
    seed: int,
    recipe: RefineRecipe,
    on_step: Listener | None,
) -> Tensors:
    """A query tower, from the head on; `codes` move in place where the recipe lets them."""
    generator = torch.Generator().manual_seed(seed)
    mean, weights, bias = (torch.from_numpy(tensors[n].copy()) for n in ("mean", "weights", "bias"))
    longest = _longest(corpus.asking.rows[:2000], mean, weights, bias, codes, nnz, flops)
    tower = QueryTower(mean, weights, bias, torch.tensor(np.log(18.0), dtype=torch.float32), longest)
    for step in refine(codes, tower, corpus.documents, corpus.sample, corpus.own, recipe, generator):
        if on_step is not None:
            on_step(step)
    return {"query_weights": tower.weights.detach().numpy(), "query_bias": tower.bias.detach().numpy()}


def _padded(vectors: SparseVectors) -> DocumentCodes:
    """(n, longest row); what is missing is a negative weight, which counts as zero and stays."""
    lengths, k = vectors.row_nnz, int(vectors.row_nnz.max())
    filled = np.arange(k) < lengths[:, None]
    weights, indices = np.full(filled.shape, -1, np.float32), np.zeros(filled.shape, np.int64)
    weights[filled], indices[filled] = vectors.values, vectors.indices
    return DocumentCodes(torch.from_numpy(weights), torch.from_numpy(indices))


def _longest(
    queries: Tensor, mean: Tensor, weights: Tensor, bias: Tensor, codes: DocumentCodes, nnz: int, flops: float
) -> int:
    """How many of a query's largest activations the budget pays for."""
    used = shares(codes.weights, codes.indices, len(bias))
    prices = torch.from_numpy(nnz / used.sum() * used)  # of one weight at each dimension, in multiplications
    values, indices = torch.addmm(bias, queries - mean, weights.T).sort(dim=1, descending=True)
    spent = (prices[indices] * (values > 0)).cumsum(dim=1).mean(dim=0)
    return max(1, int((spent <= flops).sum()))


def _strongest(codes: DocumentCodes, nnz: int, dimension: int) -> SparseVectors:
    """The corpus with `nnz` weights a document in the mean: its weakest weights go, never a document's strongest."""
    weights, indices = codes.weights.detach().clamp_min(0).numpy(), codes.indices.numpy()
    kept = weights > 0
    if (excess := int(kept.sum()) - nnz * len(weights)) > 0:
        strongest = weights.argmax(axis=1)[:, None]
        candidates = np.where(kept, weights, np.inf)
        np.put_along_axis(candidates, strongest, np.inf, axis=1)
        flat = candidates.reshape(-1)
        kept.reshape(-1)[np.argpartition(flat, excess)[:excess]] = False
    empty = ~kept.any(axis=1)
    weights[empty, 0], kept[empty, 0] = 1e-6, True
    order = np.argsort(np.where(kept, indices, dimension), axis=1, kind="stable")
    kept = np.take_along_axis(kept, order, axis=1)
    columns = np.take_along_axis(indices, order, axis=1)[kept]
    values = np.take_along_axis(weights, order, axis=1)[kept]
    return SparseVectors(np.concatenate(([0], np.cumsum(kept.sum(axis=1)))), columns, values, dimension)
