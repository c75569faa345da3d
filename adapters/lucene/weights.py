"""Weights as Lucene's FeatureField keeps and scores them."""

from __future__ import annotations

from functools import cache

import numpy as np

from sparsevec.vectors import Float32s, SparseVector, SparseVectors

from .text import LOOPS

__all__ = ["refusals", "scores", "short", "stored"]

_MIN_NORMAL = np.finfo(np.float32).tiny
_DIGITS = 5  # four tell the 9 bits of any weight
_TABLE = 2**16  # dimensions up to which a table is faster than to search among the query's indices
_LEAST_TEN = -50
_TENS = 10.0 ** np.arange(_LEAST_TEN, 40)  # of any weight's digits


def stored(vectors: SparseVectors) -> SparseVectors:
    """`vectors` as FeatureField keeps them: 9 significant bits, the rest cut off (at most 0.390625 % too low).

    Weights that it refuses (`refusals`) stay as they are.
    """
    values = np.ascontiguousarray(vectors.values)
    if not (values.view(np.uint32) & 0x7FFF).any():
        return vectors
    cut = (values.view(np.uint32) >> 15 << 15).view(np.float32)
    kept = np.where(np.abs(values) < _MIN_NORMAL, values, cut)
    return SparseVectors(vectors.indptr, vectors.indices, kept, vectors.dimension, fingerprint=vectors.fingerprint)


def short(vectors: SparseVectors) -> SparseVectors:
    """`vectors` with weights of the fewest decimals of which FeatureField keeps the same: what is `stored` is equal.

    A weight is then written as 0.314 and not as 0.31415927, and an index that keeps it in its `_source` is a quarter
    smaller (`benchmarks/code_storage.py`).
    """
    values = np.ascontiguousarray(vectors.values)
    normal = (values >= _MIN_NORMAL) & np.isfinite(values)
    shortened = np.where(normal, _shortest().take(values.view(np.uint32) >> 15), values)
    return SparseVectors(vectors.indptr, vectors.indices, shortened, vectors.dimension, fingerprint=vectors.fingerprint)


@cache
def _shortest() -> Float32s:
    """By the bits that are kept of a weight, sign and exponent and eight more, the shortest decimal that has them:
    (2**17,), 0 where there is no such weight."""
    kept = np.arange(2**17, dtype=np.uint32)
    middle = (kept << 15 | 0x4000).view(np.float32)
    normal = (middle >= _MIN_NORMAL) & np.isfinite(middle)
    between = np.where(normal, middle, 1).astype(np.float64)
    power, shortest = np.floor(np.log10(between)).astype(np.int64) - _LEAST_TEN, np.zeros(2**17, np.float32)
    for digits in reversed(range(1, _DIGITS)):
        step = _TENS[power - (digits - 1)]
        with np.errstate(over="ignore"):
            fewer = (np.rint(between / step) * step).astype(np.float32)
        np.copyto(shortest, fewer, where=normal & (fewer.view(np.uint32) >> 15 == kept))
    return shortest


def scores(query: SparseVector, documents: SparseVectors) -> Float32s:
    """The `_score` (n,) that Lucene gives each document, to the bit; 0 where nothing is shared.

    float32 products, added up in double, rounded once. The order of adding is Lucene's own; it shows (by 1 ulp) only
    where the weights of one document span more than some 2**29.
    """
    kept = stored(documents)
    within = not len(query) or query.indices[-1] < kept.dimension  # a loop looks at no bound
    small = kept.dimension <= _TABLE and kept.indptr.dtype == np.int32
    if within and small and (loops := LOOPS.get(0)) is not None:
        found = np.empty(len(kept), np.float32)
        asked = query.indices.astype(np.int64), np.ascontiguousarray(query.values), kept.dimension
        loops.scores(*asked, kept.indptr, kept.indices, kept.values, found)
        return found
    products = _asked(query, kept) * kept.values  # float32
    rows = np.repeat(np.arange(len(kept)), kept.row_nnz)
    return np.bincount(rows, products, minlength=len(kept)).astype(np.float32)


def _asked(query: SparseVector, documents: SparseVectors) -> Float32s:
    """What the query weighs at the index of each weight (nnz,), 0 where it has none."""
    if documents.dimension <= _TABLE:
        table = np.zeros(documents.dimension, np.float32)
        table[query.indices] = query.values
        return table[documents.indices]
    indices, values = np.append(query.indices, documents.dimension), np.append(query.values, np.float32(0))
    at = np.searchsorted(indices, documents.indices)
    return np.where(indices[at] == documents.indices, values[at], np.float32(0))


def refusals(vectors: SparseVectors) -> dict[int, str]:
    """Why FeatureField would refuse a row, by row number: it takes positive normal floats only."""
    bad = np.flatnonzero(vectors.values < _MIN_NORMAL)[::-1]  # the first of a row is the last to be set
    rows = np.searchsorted(vectors.indptr, bad, side="right") - 1
    return {
        int(row): f"weight {vectors.values[i]} at index {vectors.indices[i]} cannot be held: weights must be positive "
        f"and at least {_MIN_NORMAL:.8g}"
        for row, i in zip(rows, bad, strict=True)
    }
