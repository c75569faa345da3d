"""Payloads, and vectors as they lie in points. Pure.

A document without weights is a vector of one zero weight at an index that no query has, `empty_at(dimension)`: Qdrant
refuses to update a vector to an empty one, and without a vector the document would not be counted. Reading drops zeros.
Only where all 2**32 indices may be used can a query meet it; then it may come back as a hit of score 0, which
`operations.search` drops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from sparsevec.contract.checks import Payload
from sparsevec.contract.filters import Condition, predicate
from sparsevec.errors import CollectionError, InvalidVectors
from sparsevec.vectors import MAX_DIMENSION, Float32s, SparseVector, SparseVectors

from .ids import ORIGINAL

__all__ = [
    "dense_from_wire",
    "empty_at",
    "has_null",
    "passing",
    "payload_from_wire",
    "vector_to_wire",
    "vectors_from_wire",
]

P = TypeVar("P")


def payload_from_wire(payload: Mapping[str, Any] | None) -> dict[str, Any]:
    return {field: value for field, value in (payload or {}).items() if field != ORIGINAL}


def passing(
    points: Iterable[P],
    payload_of: Callable[[P], Mapping[str, Any] | None],
    wanted: Sequence[Condition],
    *,
    exact: bool,
) -> list[P]:
    """Points that match, where the engine alone cannot tell (not `exact`)."""
    if exact:
        return list(points)
    met = predicate(wanted)
    return [point for point in points if met(payload_from_wire(payload_of(point)))]


def has_null(payload: Payload) -> bool:
    """Whether it cannot be merged into what is there: Qdrant takes a null as an order to remove the field."""
    return None in payload.values()


def empty_at(dimension: int | None) -> int:
    """Where a document without weights has its zero: the first index that no vector of the collection has."""
    return MAX_DIMENSION - 1 if dimension is None else min(dimension, MAX_DIMENSION - 1)


def vector_to_wire(row: SparseVector, dimension: int | None) -> dict[str, Any]:
    """Indices and values as arrays, which orjson writes as they are."""
    if not len(row):
        return {"indices": [empty_at(dimension)], "values": [0.0]}
    return {"indices": row.indices, "values": row.values}


def vectors_from_wire(
    rows: Sequence[tuple[Sequence[int], Sequence[float]]], dimension: int | None, fingerprint: str | None = None
) -> SparseVectors:
    """From (indices, values) pairs. Zeros, ours and those that others may have stored, score nothing: left out.
    Raises CollectionError for what no vector of this dimension holds."""
    counts = [len(indices) for indices, _ in rows]
    columns = np.fromiter(chain.from_iterable(indices for indices, _ in rows), np.int64, sum(counts))
    weights = np.fromiter(chain.from_iterable(values for _, values in rows), np.float32, sum(counts))
    kept = np.flatnonzero(weights)
    at, columns, weights = np.repeat(np.arange(len(rows)), counts)[kept], columns[kept], weights[kept]
    if ((columns[1:] < columns[:-1]) & (at[1:] == at[:-1])).any():  # others wrote it
        order = np.lexsort((columns, at))
        columns, weights = columns[order], weights[order]
    indptr = np.concatenate(([0], np.cumsum(np.bincount(at, minlength=len(rows)))))
    known = MAX_DIMENSION if dimension is None else dimension
    try:
        return SparseVectors(indptr, columns, weights, known, fingerprint=fingerprint)
    except InvalidVectors as error:
        raise CollectionError(f"the collection holds vectors that are not ours ({error}); others wrote them") from None


def dense_from_wire(value: object) -> Float32s | None:
    """A dense row, (d,), as a vector or a payload field holds it; None where it is none."""
    if not isinstance(value, (list, tuple)) or not value:
        return None
    if not {float, int}.issuperset(map(type, value)):  # a bool is neither
        return None
    return np.asarray(value, np.float32)
