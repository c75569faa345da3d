"""Exact sparse scores, from an inverted index in numpy: what a score *is*, for the judge and for `blocks`.

float32 weights, products and sums in float64, added in ascending dimension order. A float64 holds the product of two
float32 exactly, so nothing but that order matters, and the score is the same bit for bit whatever the batch, the block
or the thread. Ties: score descending, row ascending.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sparsevec.dense import best
from sparsevec.vectors import Float32s, Int64s, SparseVector, SparseVectors

__all__ = ["Float64s", "Mask", "PostingLists", "shared"]

Float64s: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]


class PostingLists:
    """`documents` (n, dimension) by dimension, to be scored exactly."""

    def __init__(self, documents: SparseVectors) -> None:
        rows = np.repeat(np.arange(len(documents)), documents.row_nnz)
        order = np.argsort(documents.indices, kind="stable")
        self._n = len(documents)
        self._dimension = documents.dimension
        self._dimensions, starts = np.unique(documents.indices[order], return_index=True)
        self._ends = np.append(starts, len(order)).astype(np.int64)
        self._rows, self._weights = rows[order], documents.values[order].astype(np.float64)

    def scores(self, query: SparseVector) -> tuple[Int64s, Float64s]:
        """The rows (m,) that share a dimension with `query`, ascending, and their exact scores (m,)."""
        at, query_weights = shared(self._dimensions, query)
        lists = [slice(start, end) for start, end in zip(self._ends[at], self._ends[at + 1], strict=True)]
        if not lists:
            return np.empty(0, np.int64), np.empty(0)
        rows = np.concatenate([self._rows[postings] for postings in lists])
        products = np.concatenate([float(q) * self._weights[p] for q, p in zip(query_weights, lists, strict=True)])
        sums = np.bincount(rows, weights=products, minlength=self._n)  # adds in the order given: dimensions ascending
        touched = np.flatnonzero(np.bincount(rows, minlength=self._n))
        return touched.astype(np.int64, copy=False), sums[touched].astype(np.float64, copy=False)

    def search(self, query: SparseVector, k: int, allowed: Mask | None = None) -> tuple[Int64s, Float64s]:
        """The k best rows, of those that the mask (n,) allows, and their exact scores: higher first, then lower row."""
        rows, scores = self.scores(query)
        if allowed is not None:
            rows, scores = rows[allowed[rows]], scores[allowed[rows]]
        top = best(scores, k)
        return rows[top], scores[top]


def shared(dimensions: npt.NDArray[Any], query: SparseVector) -> tuple[Int64s, Float32s]:
    """Where those indices of `query` that do stand in the ascending `dimensions`, and their weights."""
    at = np.searchsorted(dimensions, query.indices)
    known = at < len(dimensions)
    known[known] = dimensions[at[known]] == query.indices[known]
    return at[known], query.values[known]
