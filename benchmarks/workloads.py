"""Made-up collections whose posting lists are as long, and as unequal, as those that are met.

topics: 4,096 dimensions of about equal use, 58 weights a document and 60 a query. words: 30,522 dimensions, a few in
most documents, 163 and 31 weights, like SPLADE. codes: 8,192 dimensions, 32 and 186 weights, like an encoder of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsevec.vectors import Int64s, SparseVectors

__all__ = ["SHAPES", "Shape", "made"]


@dataclass(frozen=True, slots=True)
class Shape:
    dimension: int
    document_nnz: int
    query_nnz: int
    spread: float
    """of the logarithm of how often a dimension is used"""


SHAPES = {
    "topics": Shape(4096, 58, 60, 0.7),
    "words": Shape(30522, 163, 31, 2.2),
    "codes": Shape(8192, 32, 186, 0.3),
}


def made(shape: Shape, n: int, queries: int, seed: int = 0) -> tuple[SparseVectors, SparseVectors]:
    """n documents and some queries, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    shares = np.cumsum(rng.lognormal(0, shape.spread, shape.dimension))
    shares /= shares[-1]
    parts = [_rows(rng, shape, shares, min(10_000, n - start), shape.document_nnz) for start in range(0, n, 10_000)]
    return SparseVectors.concat(parts), _rows(rng, shape, shares, queries, shape.query_nnz)


def _rows(rng: np.random.Generator, shape: Shape, shares: np.ndarray, n: int, nnz: int) -> SparseVectors:
    """Three of ten dimensions of a row are those of one of 200 topics."""
    drawn: Int64s = np.searchsorted(shares, rng.random((n, 2 * nnz))).astype(np.int64)
    of_topic = (7919 * drawn + 104_729 * rng.integers(0, 200, (n, 1))) % shape.dimension
    drawn = np.sort(np.where(rng.random(drawn.shape) < 0.3, of_topic, drawn), axis=1)
    order = rng.random(drawn.shape)
    order[:, 1:][drawn[:, 1:] == drawn[:, :-1]] = 2  # a repetition comes last
    picked = np.argsort(order, axis=1)[:, :nnz]
    kept = np.take_along_axis(order, picked, axis=1) < 2
    columns = np.sort(np.where(kept, np.take_along_axis(drawn, picked, axis=1), shape.dimension), axis=1)
    kept = columns < shape.dimension
    weights = rng.gamma(2, 0.5, int(kept.sum())) + 0.01
    return SparseVectors(np.concatenate(([0], np.cumsum(kept.sum(axis=1)))), columns[kept], weights, shape.dimension)
