"""`LocalEngine`: the reference's documents and the reference's scores, bit for bit, from a compiled kernel.

Postings are kept in blocks of 2**15 documents, so that a block's float64 accumulators stay in the processor's cache and
a document number fits in 16 bits; within a block they stand dimension after dimension, so that the sums are added in
ascending dimension order, as `sparsevec.exact.reference` defines them.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from sparsevec.contract.adapter import Adapter
from sparsevec.errors import ClientMissing
from sparsevec.exact.reference import Reference
from sparsevec.postings import Float64s, Mask, shared
from sparsevec.vectors import Float32s, Int64s, SparseVector, SparseVectors

try:
    import numba
except ImportError as error:
    raise ClientMissing.extra("numba", "fast") from error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BlockLists", "LocalEngine"]

BLOCK = 2**15

_F = TypeVar("_F", bound="Callable[..., Any]")


def _compiled(function: _F) -> _F:
    """By numba, once for this machine: the result is cached beside the module."""
    compiled: Any = numba.njit(cache=True, nogil=True)(function)
    return compiled  # type: ignore[no-any-return]


class BlockLists:
    """`documents` (n, dimension) as posting lists by block and dimension."""

    def __init__(self, documents: SparseVectors) -> None:
        self._n = len(documents)
        self._dimensions, columns = np.unique(documents.indices, return_inverse=True)
        self._starts, self._rows, self._weights = _invert(
            documents.indptr, columns.astype(np.int64, copy=False), documents.values, len(self._dimensions)
        )

    def search(self, query: SparseVector, k: int, allowed: Mask | None = None) -> tuple[Int64s, Float64s]:
        """The k best rows, of those that the mask (n,) allows, and their exact scores: higher first, then lower row."""
        at, query_weights = shared(self._dimensions, query)
        mask = np.empty(0, np.bool_) if allowed is None else allowed
        return _search(self._starts, self._rows, self._weights, self._n, at, query_weights, min(k, self._n), mask)


class LocalEngine(Reference):
    """The exact engine behind `local:` (in memory) and `local:PATH` (a file like the reference's)."""

    _make_lists = BlockLists
    _engine = "local"

    @property
    def _name(self) -> str:
        return f"local engine (numba {numba.__version__})"


@_compiled
def _invert(
    indptr: Int64s, columns: Int64s, values: Float32s, width: int
) -> tuple[Int64s, npt.NDArray[np.uint16], Float32s]:
    """CSR to postings: `starts` (blocks * width + 1,), then `rows` within their block and `weights`, (nnz,) each."""
    n = len(indptr) - 1
    starts = np.zeros((n + BLOCK - 1) // BLOCK * width + 1, np.int64)
    for row in range(n):
        for at in range(indptr[row], indptr[row + 1]):
            starts[row // BLOCK * width + columns[at] + 1] += 1
    starts = np.cumsum(starts)
    free = starts.copy()
    rows, weights = np.empty(len(columns), np.uint16), np.empty(len(columns), np.float32)
    for row in range(n):
        for at in range(indptr[row], indptr[row + 1]):
            segment = row // BLOCK * width + columns[at]
            rows[free[segment]], weights[free[segment]] = row % BLOCK, values[at]
            free[segment] += 1
    return starts, rows, weights


@_compiled
def _search(
    starts: Int64s,
    rows: npt.NDArray[np.uint16],
    weights: Float32s,
    n: int,
    columns: Int64s,
    query_weights: Float32s,
    k: int,
    allowed: Mask,
) -> tuple[Int64s, Float64s]:
    """The k best of n documents for the query's `columns` and weights, both (m,); an empty mask allows all."""
    blocks = (n + BLOCK - 1) // BLOCK
    width = (len(starts) - 1) // max(blocks, 1)
    sums, touched = np.empty(BLOCK), np.empty(BLOCK, np.uint16)
    seen_in = np.full(BLOCK, -1, np.int32)
    # a heap of (score, -row): among equal scores the higher row is worse
    worst_first: list[tuple[float, int]] = [(0.0, 0) for _ in range(0)]
    threshold = -np.inf
    for block in range(blocks):
        count = 0
        for term in range(len(columns)):
            segment = block * width + columns[term]
            query_weight = np.float64(query_weights[term])
            for at in range(starts[segment], starts[segment + 1]):
                row = rows[at]
                product = query_weight * np.float64(weights[at])
                if seen_in[row] == block:
                    sums[row] += product
                else:
                    seen_in[row], sums[row], touched[count] = block, product, row
                    count += 1
        for row in touched[:count]:
            if sums[row] < threshold:
                continue
            candidate = (float(sums[row]), -(block * BLOCK + int(row)))
            if len(allowed) and not allowed[-candidate[1]]:
                continue
            if len(worst_first) < k:
                heapq.heappush(worst_first, candidate)
            elif candidate > worst_first[0]:
                heapq.heapreplace(worst_first, candidate)
            threshold = worst_first[0][0] if len(worst_first) == k else -np.inf
    best_first = sorted(worst_first)[::-1]
    return np.array([-row for _, row in best_first], np.int64), np.array([score for score, _ in best_first], np.float64)


_contract: type[Adapter] = LocalEngine
