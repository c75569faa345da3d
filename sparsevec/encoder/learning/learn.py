"""The stages of training, arrays in and arrays out: the only door to torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparsevec.encoder.learning.codes import linear_top_k, shares
from sparsevec.encoder.learning.fitting import Pool, new_head, train
from sparsevec.encoder.learning.neighbours import nearest
from sparsevec.encoder.learning.refining import DocumentCodes, Queries, QueryTower, refine
from sparsevec.encoder.recipe import Listener, Step, head_recipe, refine_recipe, towers_recipe
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Corpus", "Tensors", "learned_towers", "new_corpus", "refined"]

Tensors: TypeAlias = dict[str, Float32s]
Shares: TypeAlias = npt.NDArray[np.float64]

_NEIGHBOURS = 100  # nearest documents: the head draws from them, refining judges a query on all
_LONGER = 1.7  # times the query that the budget pays for
_MEASURED = 2000  # rows of which usage and lengths are found


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


def learned_towers(
    corpus: Corpus, dimension: int, nnz: int, flops: float, seed: int, on_step: Listener | None
) -> Tensors:
    """Stages 1 and 2, where every document asks: `mean`, `weights`, `bias`, `query_weights` and `query_bias`."""
    generator = torch.Generator().manual_seed(seed)
    pool = Pool(corpus.documents, corpus.own.near, corpus.asking.rows, corpus.asking.near)
    head = new_head(pool.documents, dimension, generator)
    recipe = head_recipe(len(pool.documents), dimension, nnz)
    _heard(train(head, pool, nnz, nnz, recipe, generator), on_step)
    head.part()
    codes = linear_top_k(_some(pool.documents) - head.mean, head.weights, head.bias, nnz)
    longest = _longest(pool.queries, head.mean, head.weights, head.bias, shares(*codes, dimension), nnz, flops)
    _heard(train(head, pool, nnz, longest, towers_recipe(recipe), generator), on_step)
    names = ("mean", "weights", "bias", "query_weights", "query_bias")
    return {name: getattr(head, name).detach().numpy() for name in names}


def _heard(steps: Iterator[Step], on_step: Listener | None) -> None:
    for step in steps:
        if on_step is not None:
            on_step(step)


def _near(queries: Tensor, documents: Tensor, own: Int64s | None) -> Queries:
    """`queries` with their nearest documents; `own` (q,) are their numbers when they are documents, left out."""
    m = min(_NEIGHBOURS, len(documents) // 4)
    if own is None:
        return Queries(queries, *nearest(queries, documents, m))
    near, similarities = nearest(queries, documents, m + 1)
    others = near != torch.from_numpy(own)[:, None]
    others[others.all(dim=1), -1] = False  # pushed out by equal rows: then the last goes
    return Queries(queries, near[others].view(-1, m), similarities[others].view(-1, m))


def refined(
    corpus: Corpus, start: SparseVectors, tensors: Tensors, nnz: int, flops: float, seed: int, on_step: Listener | None
) -> tuple[SparseVectors, Tensors]:
    """Stage 3: the codes of the documents, and `query_weights` and `query_bias` fitted to them.

    start: the head's code of each document, a few weights longer than `nnz`.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = _padded(start)
    mean, weights, bias = (torch.from_numpy(tensors[n].copy()) for n in ("mean", "query_weights", "query_bias"))
    used = shares(codes.weights, codes.indices, len(bias))
    longest = _longest(corpus.asking.rows, mean, weights, bias, used, nnz, flops)
    tower = QueryTower(mean, weights, bias, torch.tensor(np.log(18.0), dtype=torch.float32), longest)
    recipe = refine_recipe(len(bias), nnz)
    _heard(refine(codes, tower, corpus.documents, corpus.sample, corpus.own, recipe, generator), on_step)
    fitted = {"query_weights": tower.weights.detach().numpy(), "query_bias": tower.bias.detach().numpy()}
    return _strongest(codes, nnz, start.dimension), fitted


def _padded(vectors: SparseVectors) -> DocumentCodes:
    """(n, longest row); what is missing is a negative weight, which counts as zero and stays."""
    lengths, k = vectors.row_nnz, int(vectors.row_nnz.max())
    filled = np.arange(k) < lengths[:, None]
    weights, indices = np.full(filled.shape, -1, np.float32), np.zeros(filled.shape, np.int64)
    weights[filled], indices[filled] = vectors.values, vectors.indices
    return DocumentCodes(torch.from_numpy(weights), torch.from_numpy(indices))


def _some(rows: Tensor) -> Tensor:
    return rows[:: -(-len(rows) // _MEASURED)]


def _longest(queries: Tensor, mean: Tensor, weights: Tensor, bias: Tensor, used: Shares, nnz: int, flops: float) -> int:
    """How many of a query's largest activations to train: more than `flops` pays for now.

    used (dimension,): share of the documents that use each dimension. Training makes queries avoid the dimensions that
    cost much, so that the budget will pay for more of them.
    """
    prices = torch.from_numpy(nnz / used.sum() * used)  # of one weight at each dimension, in multiplications
    values, indices = torch.addmm(bias, _some(queries) - mean, weights.T).sort(dim=1, descending=True)
    spent = (prices[indices] * (values > 0)).cumsum(dim=1).mean(dim=0)
    paid = int((spent <= flops).sum())
    return min(max(1, int(_LONGER * paid)), len(bias))


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
