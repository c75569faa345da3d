"""The two stages of training, arrays in and arrays out: the only door to torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsevec.encoder.fitting import Pool, new_head, train
from sparsevec.encoder.neighbours import nearest
from sparsevec.encoder.recipe import Listener, head_recipe, refine_recipe
from sparsevec.encoder.refining import DocumentCodes, Queries, QueryTower, refine
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Refined", "learned_head", "refined"]

_NEIGHBOURS = 100


def learned_head(
    documents: Float32s, queries: Float32s | None, dimension: int, nnz: int, seed: int, on_step: Listener | None
) -> dict[str, Float32s]:
    """Stage 1 on unit rows (n, input_dim) and (q, input_dim): `mean`, `weights` and `bias`."""
    generator = torch.Generator().manual_seed(seed)
    pool = _pool(torch.from_numpy(documents), None if queries is None else torch.from_numpy(queries))
    head = new_head(pool.documents, dimension, generator)
    for step in train(head, pool, nnz, head_recipe(len(documents), dimension, nnz), generator):
        if on_step is not None:
            on_step(step)
    found = {"mean": head.mean, "weights": head.weights, "bias": head.bias}
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def _pool(documents: Tensor, queries: Tensor | None) -> Pool:
    of_documents = _near(documents, documents, np.arange(len(documents))).near
    if queries is None:
        return Pool(documents, of_documents, documents, of_documents)
    return Pool(documents, of_documents, queries, _near(queries, documents, None).near)


def _near(queries: Tensor, documents: Tensor, own: Int64s | None) -> Queries:
    """`queries` with their nearest documents; `own` (q,) are their numbers when they are documents, left out."""
    m = min(_NEIGHBOURS, len(documents) // 4)
    if own is None:
        return Queries(queries, *nearest(queries, documents, m))
    near, similarities = nearest(queries, documents, m + 1)
    others = near != torch.from_numpy(own)[:, None]
    others[others.all(dim=1), -1] = False  # pushed out by equal rows: then the last goes
    return Queries(queries, near[others].view(-1, m), similarities[others].view(-1, m))


@dataclass(frozen=True, slots=True)
class Refined:
    """Stage 2's result: the corpus, and the query tower fitted to it."""

    documents: SparseVectors
    query_weights: Float32s
    query_bias: Float32s


def refined(
    documents: Float32s,
    asking: Int64s,
    queries: Float32s | None,
    start: SparseVectors,
    tensors: dict[str, Float32s],
    nnz: int,
    flops: float,
    seed: int,
    on_step: Listener | None,
) -> Refined:
    """Stage 2 on unit rows; `start` is the head's code of each document, a few weights longer than `nnz`.

    asking (m,): the numbers of the documents that are queries too.
    """
    generator = torch.Generator().manual_seed(seed)
    corpus = torch.from_numpy(documents)
    own = _near(corpus[asking], corpus, asking)
    sample = own.some(torch.arange(0)) if queries is None else _near(torch.from_numpy(queries), corpus, None)
    codes = _padded(start)
    mean, weights, bias = (torch.from_numpy(tensors[name].copy()) for name in ("mean", "weights", "bias"))
    longest = _longest((own if queries is None else sample).rows[:2000], mean, weights, bias, start, nnz, flops)
    tower = QueryTower(mean, weights, bias, torch.tensor(np.log(18.0), dtype=torch.float32), longest)
    for step in refine(codes, tower, corpus, sample, own, refine_recipe(nnz), generator):
        if on_step is not None:
            on_step(step)
    fitted = _strongest(codes, nnz, start.dimension)
    return Refined(fitted, tower.weights.detach().numpy(), tower.bias.detach().numpy())


def _padded(vectors: SparseVectors) -> DocumentCodes:
    """(n, longest row); what is missing is a negative weight, which counts as zero and stays."""
    lengths, k = vectors.row_nnz, int(vectors.row_nnz.max())
    filled = np.arange(k) < lengths[:, None]
    weights, indices = np.full(filled.shape, -1, np.float32), np.zeros(filled.shape, np.int64)
    weights[filled], indices[filled] = vectors.values, vectors.indices
    return DocumentCodes(torch.from_numpy(weights), torch.from_numpy(indices))


def _longest(
    queries: Tensor, mean: Tensor, weights: Tensor, bias: Tensor, documents: SparseVectors, nnz: int, flops: float
) -> int:
    """How many of a query's largest activations the budget pays for."""
    shares = np.bincount(documents.indices, minlength=documents.dimension) / documents.nnz
    prices = torch.from_numpy(nnz * shares)  # of one weight at each dimension, in multiplications
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
