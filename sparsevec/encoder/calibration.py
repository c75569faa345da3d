"""Makes a budget true on rows that were not trained on: finds the cuts, and measures what they give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sparsevec.encoder.budget import least_cut
from sparsevec.encoder.dense import Dense, blocks, unit_rows
from sparsevec.encoder.head import Cut, Float64s, Projection, largest, strengths
from sparsevec.errors import TrainingCollapsed
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["document_cut", "query_cut", "recall"]

_MARGIN = 0.98  # of F: two standard errors of the mean of 512 queries, so that unseen ones stay within


def document_cut(rows: Dense, projection: Projection, nnz: int, sixteenths: int) -> Cut:
    """A cut that leaves `nnz` weights a row in the mean; raises TrainingCollapsed when too few are positive."""
    _, values = _activations(rows, projection, min(4 * nnz, projection.dimension))
    for cap in range(nnz, values.shape[1] + 1):
        if float((values[:, :cap] > 0).sum(axis=1).mean()) >= 0.998 * nnz:
            break
    else:
        found = float((values > 0).sum(axis=1).mean())
        raise TrainingCollapsed(
            f"only {found:.1f} activations of a document are positive, {nnz} weights were asked for"
        )
    threshold = least_cut(lambda t: float(strengths(values[:, :cap], t).sum(axis=1).mean()), nnz)
    return Cut(cap, threshold, sixteenths)


def query_cut(
    rows: Dense, projection: Projection, usage: npt.NDArray[np.float64], flops: float, sixteenths: int
) -> Cut:
    """The cut that spends `flops` against documents that use each dimension as often as `usage` (dimension,) says."""
    longest = min(
        projection.dimension, int(4 * flops * projection.dimension / usage.sum()) + 8
    )  # 4 times the mean or so
    indices, values = _activations(rows, projection, longest)
    prices = usage[indices]  # (b, longest)
    threshold = least_cut(lambda t: float((prices * strengths(values, t)).sum(axis=1).mean()), _MARGIN * flops)
    most = int(strengths(values, threshold).sum(axis=1).max())
    return Cut(min(longest, most + most // 4), threshold, sixteenths)


def _activations(rows: Dense, projection: Projection, m: int) -> tuple[Int64s, Float64s]:
    parts = [largest(projection(block), m) for _, block in blocks(rows, 512)]
    return np.concatenate([indices for indices, _ in parts]), np.concatenate([values for _, values in parts])


def recall(
    dense_queries: Dense, dense_documents: Dense, queries: SparseVectors, documents: SparseVectors
) -> tuple[float, float]:
    """(overlap of the sparse with the exact dense top 10, share of the dense top 10 inside the sparse top 100)."""
    columns = documents.to_scipy().T.tocsr()
    sparse, units, document_units = queries.to_scipy(), unit_rows(dense_queries), unit_rows(dense_documents)
    at_10, at_100 = [], []
    for start in range(0, len(units), 256):
        due = _best(units[start : start + 256] @ document_units.T, 10)
        found = _best((sparse[start : start + 256] @ columns).toarray(), 100)
        for truth, hits in zip(due, found, strict=True):
            at_10.append(np.isin(truth, hits[:10]).mean())
            at_100.append(np.isin(truth, hits).mean())
    return float(np.mean(at_10)), float(np.mean(at_100))


def _best(scores: Float32s, k: int) -> Iterator[Int64s]:
    """Row by row the k best columns, best first."""
    k = min(k, scores.shape[1])
    for row in scores:
        candidates = np.argpartition(-row, k - 1)[:k]
        yield candidates[np.lexsort((candidates, -row[candidates]))]
