"""`BlockLists`: posting lists in a few plain arrays, built by counting and scored exactly.

Postings are kept in blocks of 2**15 documents, so that a block's float64 sums stay in the processor's cache and a
document's number fits in 16 bits: 6 bytes a posting. Within a block they stand dimension after dimension, so that sums
are added in ascending dimension order, which is what `postings.plain` defines a score to be.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparsevec.compiler import Loops
from sparsevec.dense import best
from sparsevec.postings.plain import Float64s, Mask
from sparsevec.vectors import Float32s, Int64s, SparseVector, SparseVectors

__all__ = ["BLOCK", "LOOPS", "BlockLists", "Lists", "Top", "are_ends"]

LOOPS: Final = Loops("sparsevec.postings.loops", worth=1000)
"""of queries; who serves does not wait for so many, and loads them"""

BLOCK = 2**15
_SPARE = 64  # candidates that are held beside 2 k of them, before all but the best k are dropped
_HELD = 2**20  # candidates held at once, 16 MB: more queries are answered in several turns
_WORTH_A_THREAD = 2**19  # postings of a query, 1 ms of work
_FEW = 2**14  # postings that are sorted sooner than counted
_ALL: Mask = np.empty(0, np.bool_)


class Lists(NamedTuple):
    """The arrays of n documents in b blocks over w dimensions; all may be mapped from a file."""

    starts: npt.NDArray[np.uint32]
    """(b * (w + 1),): where the postings of a dimension begin, counted from the first of the block"""
    bases: Int64s
    """(b + 1,): the first posting of each block"""
    numbers: npt.NDArray[np.uint16]
    """(nnz,): of the document, in its block"""
    weights: npt.NDArray[np.float32]
    """(nnz,)"""
    dimensions: npt.NDArray[Any]
    """(w,) ascending: which dimensions these are; empty: all of them, w = dimension"""

    def fault(self, n: int, nnz: int) -> str | None:
        """What of these arrays, from a file, is not so as of n documents, and might end the process that searches them;
        None where nothing is.

        Not looked at, which would be to read all: the weights, and the numbers of blocks that are full.
        """
        starts, bases, numbers, weights, dimensions = self
        blocks = -(-n // BLOCK)
        if (len(bases), len(numbers), len(weights)) != (blocks + 1, nnz, nnz) or not are_ends(bases, nnz):
            return "the blocks do not hold the postings"
        width = len(starts) // max(blocks, 1) - 1
        if len(starts) != blocks * (width + 1) or (len(dimensions) and len(dimensions) != width):
            return "the dimensions are not all there"
        several = zip(starts.reshape(blocks, -1), np.diff(bases).tolist(), strict=True) if blocks else ()
        if not all(are_ends(block, postings) for block, postings in several):
            return "postings do not follow one another"
        if bool((dimensions[1:] <= dimensions[:-1]).any()):
            return "the dimensions do not ascend"
        last = numbers[int(bases[-2]) :] if blocks else numbers
        return "a posting is of no document" if len(last) and int(last.max()) >= n - (blocks - 1) * BLOCK else None


def are_ends(ends: npt.NDArray[Any], size: int) -> bool:
    """Whether these are 0 and then the ends of parts, one behind the other, `size` in all."""
    return len(ends) > 0 and bool(ends[0] == 0 and ends[-1] == size and (ends[1:] >= ends[:-1]).all())


class Top(NamedTuple):
    """The answer to one query, best first: higher score, then lower row."""

    rows: Int64s
    scores: Float64s


class BlockLists:
    """`documents` (n, dimension) as posting lists by block and dimension."""

    def __init__(self, documents: SparseVectors, lists: Lists | None = None) -> None:
        """`lists`: what was made of the same documents before."""
        self._n = len(documents)
        self.lists = Lists(*[_read_only(array) for array in lists or _inverted(documents)])
        self._blocks = len(self.lists.bases) - 1
        self._width = len(self.lists.starts) // max(self._blocks, 1) - 1

    def search(self, query: SparseVector, k: int, allowed: Mask | None = None) -> Top:
        """The k best rows, of those that the mask (n,) allows, and their exact scores: higher first, then lower row.

        A query of much work is shared out by blocks among the processors.
        """
        return self._answers(np.array([0, len(query)]), query.indices, query.values, k, allowed)[0]

    def search_all(self, queries: SparseVectors, k: int, allowed: Mask | None = None) -> list[Top]:
        """`search` for each query; the queries are shared out among the processors."""
        return self._answers(queries.indptr, queries.indices, queries.values, k, allowed)

    def _answers(self, indptr: Any, indices: Any, values: Any, k: int, allowed: Mask | None) -> list[Top]:
        k, q = min(k, self._n), len(indptr) - 1
        if k == 0 or q == 0:
            return [Top(np.empty(0, np.int64), np.empty(0))] * q
        asked = self._known(indptr, indices, values)
        if (loops := LOOPS.get(q)) is None:
            return [self._by_numpy(*_one(asked, query), k, allowed) for query in range(q)]
        mask = _ALL if allowed is None else _read_only(allowed)

        def some(part: tuple[int, int, int, int]) -> list[Top]:
            return self._some(loops, asked, k, mask, *part)

        if q == 1:
            return [_merged(_shared_out(some, [(0, 1, *blocks) for blocks in self._turns(asked[1])]), k)]
        size = max(1, min(-(-q // _processors()), _HELD // (2 * k + _SPARE)))
        turns = [(start, min(start + size, q), 0, self._blocks) for start in range(0, q, size)]
        return [top for tops in _shared_out(some, turns) for top in tops]

    def _known(self, indptr: Any, indices: Any, values: Any) -> tuple[Int64s, Int64s, Float32s]:
        """The queries without dimensions that no document has, as the loop takes them."""
        indptr, columns, dimensions = indptr.astype(np.int64), indices.astype(np.int64), self.lists.dimensions
        one = len(indptr) == 2  # whose dimensions ascend
        if not len(dimensions) and (not len(columns) or (columns[-1] if one else columns.max()) < self._width):
            return _read_only(indptr), _read_only(columns), _read_only(values)
        if len(dimensions):
            at = np.searchsorted(dimensions, columns)
            known = dimensions[np.minimum(at, self._width - 1)] == columns
        else:
            at, known = columns, columns < self._width
        ends = np.concatenate(([0], np.cumsum(known)))[indptr]
        return _read_only(ends), _read_only(at[known]), _read_only(values[known])

    def _turns(self, columns: Int64s) -> list[tuple[int, int]]:
        """The blocks, in as many parts as one query's postings are worth threads."""
        parts = min(_processors(), self._blocks)
        if parts > 1:
            parts = max(1, min(parts, int(self._postings[columns].sum(dtype=np.int64)) // _WORTH_A_THREAD))
        return list(pairwise(self._blocks * part // parts for part in range(parts + 1)))

    @cached_property
    def _postings(self) -> npt.NDArray[np.uint32]:
        """Of each dimension, in all blocks, (w,)."""
        totals = np.zeros(self._width, np.uint32)
        for block in self.lists.starts.reshape(self._blocks, -1):
            totals += block[1:] - block[:-1]
        return totals

    def _some(self, loops: Any, asked: Any, k: int, mask: Mask, first: int, end: int, *blocks: int) -> list[Top]:
        """The answers to queries first to end, from some blocks."""
        indptr, columns, values = asked
        q, room = end - first, min(2 * k + _SPARE, self._n + 1)
        scores, rows, sizes = np.empty((q, room)), np.empty((q, room), np.int64), np.zeros(q, np.int64)
        index = (*self.lists[:4], self._n)
        loops.search(*index, indptr[first : end + 1], columns, values, k, mask, *blocks, _sums(), scores, rows, sizes)
        return [Top(rows[i, :size].copy(), scores[i, :size].copy()) for i, size in enumerate(sizes.tolist())]

    def _by_numpy(self, columns: Int64s, values: Float32s, k: int, allowed: Mask | None) -> Top:
        starts, bases, numbers, weights, _ = self.lists
        starts = starts.reshape(self._blocks, self._width + 1)
        tops: list[list[Top]] = []
        for block in range(self._blocks):
            begins, ends = (starts[block, at].astype(np.int64) + bases[block] for at in (columns, columns + 1))
            lists = [slice(begin, end) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
            if not (begins < ends).any():
                continue
            found = np.concatenate([numbers[one] for one in lists])
            products = [
                value * weights[one].astype(np.float64) for value, one in zip(values.tolist(), lists, strict=True)
            ]
            # adds in the order given: dimensions ascending
            sums = np.asarray(np.bincount(found, np.concatenate(products)), np.float64)
            here = np.flatnonzero(np.bincount(found)[:BLOCK])  # others a damaged file may speak of
            rows = here + block * BLOCK
            if allowed is not None:
                here, rows = here[allowed[rows]], rows[allowed[rows]]
            top = best(sums[here], k)
            tops.append([Top(rows[top], sums[here[top]])])
        return _merged(tops, k)


def _inverted_few(documents: SparseVectors) -> Lists:
    order = np.argsort(documents.indices, kind="stable")
    columns = documents.indices[order]
    first = np.flatnonzero(np.concatenate(([True], columns[1:] != columns[:-1])))
    starts = np.append(first, len(order)).astype(np.uint32)
    numbers = np.repeat(np.arange(len(documents), dtype=np.uint16), np.diff(documents.indptr))[order]
    return Lists(starts, np.array([0, len(order)]), numbers, documents.values[order], columns[first])


def _inverted(documents: SparseVectors) -> Lists:
    """By a counting sort of each block, in scipy: its CSC holds the rows of a column in ascending order.

    One block after the other: the documents take longer to read, and what each thread had freed it would keep.
    """
    if 0 < documents.nnz <= _FEW and len(documents) <= BLOCK:
        return _inverted_few(documents)
    n, dimension = documents.shape
    indptr, indices = (
        documents.indptr,
        documents.indices.astype(np.int64 if dimension > 2**31 else np.int32, copy=False),
    )
    dimensions = indices[:0]
    ends = np.append(np.arange(0, n, BLOCK), n)
    if dimension * (len(ends) - 1) > 4 * documents.nnz:  # the starts would take more than the postings
        dimensions, columns = np.unique(indices, return_inverse=True)
        indices = columns.astype(np.int32)
        dimension = len(dimensions)
    starts = np.zeros((len(ends) - 1, dimension + 1), np.uint32)
    numbers, weights = np.empty(documents.nnz, np.uint16), np.empty(documents.nnz, np.float32)

    for block, (first, last) in enumerate(pairwise(ends.tolist() if dimension else [])):
        begin, end = int(indptr[first]), int(indptr[last])
        some = (documents.values[begin:end], indices[begin:end], indptr[first : last + 1] - begin)
        columns = sp.csr_array(some, shape=(last - first, dimension)).tocsc()
        starts[block], numbers[begin:end], weights[begin:end] = columns.indptr, columns.indices, columns.data
    return Lists(starts.ravel(), indptr[ends].astype(np.int64), numbers, weights, dimensions)


def _one(asked: tuple[Int64s, Int64s, Float32s], query: int) -> tuple[Int64s, Float32s]:
    indptr, columns, values = asked
    within = slice(int(indptr[query]), int(indptr[query + 1]))
    return columns[within], values[within]


def _ordered(rows: Int64s, scores: Float64s) -> Top:
    order = np.argsort(-scores)
    ranked = scores[order]
    if (ranked[1:] == ranked[:-1]).any():
        order = np.lexsort((rows, -scores))
        ranked = scores[order]
    return Top(rows[order], ranked)


def _merged(tops: list[list[Top]], k: int) -> Top:
    """The k best of one query's answers from different blocks."""
    if len(tops) == 1:
        return tops[0][0]
    rows = np.concatenate([np.empty(0, np.int64), *(part[0].rows for part in tops)])
    top = _ordered(rows, np.concatenate([np.empty(0), *(part[0].scores for part in tops)]))
    return Top(top.rows[:k], top.scores[:k])


# ---- threads


@cache
def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_processors(), "sparsevec-searches")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads stay behind

_of_thread = threading.local()


def _sums() -> Float64s:
    """Of a block, and of numbers beyond it, one array a thread: -0.0 everywhere, and the loop leaves the block so."""
    if not hasattr(_of_thread, "sums"):
        _of_thread.sums = np.full(2**16, -0.0)
    sums: Float64s = _of_thread.sums
    return sums


def _shared_out(function: Callable[[Any], Any], parts: Any) -> list[Any]:
    """`function` of each part, on all processors where there are several."""
    if len(parts) > 1:
        with suppress(RuntimeError):  # a process at its end, whose other threads go on, or one that gets no thread
            return list(_pool().map(function, parts))
    return [function(part) for part in parts]


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As the compiled loop takes it: contiguous, and of one type whether it is mapped or not."""
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array
