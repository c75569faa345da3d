"""The inner loop of a search, compiled by numba when this is imported; `compiler` does that in a thread.

A block's sums are float64 and start at -0.0, to which the first product adds as itself; no sum of products ends there,
since float64 holds the product of two float32 exactly and x - x is +0.0. So what stands at -0.0 shares no dimension
with the query, whatever the signs, and no posting needs a branch.

A list is a stretch of memory that begins anywhere, which the processor only notices when it gets there. So while one is
added up, the beginning of the next is asked for: a tenth to a fifth of the time, where lists are short.

Numbers of documents are what the file says, damaged or not: any 16 bits stand for one of the sums, of which no block
looks at the upper half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import boolean, float32, float64, int64, uint16, uint32, void
from numba.extending import intrinsic

from sparsevec.compiler import compiled, given
from sparsevec.ordering import in_order

__all__ = ["search"]

_Array: TypeAlias = npt.NDArray[Any]
_instruction: Callable[[Callable[..., Any]], Callable[..., None]] = intrinsic

_BLOCK = 2**15
_LINE = 64  # sums that are looked at together, without a branch for each
_AHEAD = np.uint64(128)  # postings of the next list that are asked for; beyond, the processor sees where it goes
_FEW = 8  # with less than a posting for so many documents, a block's postings are gone through instead of its sums


@_instruction
def _ask_for(_typing: Any, array: Any, at: Any) -> Any:
    """Have the processor fetch the line of the cache in which `array[at]` is, and wait for nothing."""

    def build(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        array, at = given
        start = context.make_array(signature.args[0])(context, builder, array).data
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        place = builder.bitcast(builder.gep(start, [at]), pointer)
        builder.call(fetch, [place, number(0), number(3), number(1)])  # to be read, often, as data
        return context.get_dummy_value()

    return void(array, at), build


@compiled(void(int64, int64, float64[::1], int64[::1]))
def _keep(k: int, size: int, scores: _Array, rows: _Array) -> None:
    """Bring the k best of `size` to the front, in any order: the higher score first, then the lower row."""
    low, high = 0, size - 1
    while low < high:
        score, row = scores[(low + high) >> 1], rows[(low + high) >> 1]
        left, right = low, high
        while left <= right:
            while scores[left] > score or (scores[left] == score and rows[left] < row):
                left += 1
            while scores[right] < score or (scores[right] == score and rows[right] > row):
                right -= 1
            if left <= right:
                scores[left], scores[right] = scores[right], scores[left]
                rows[left], rows[right] = rows[right], rows[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            return


@compiled(float64(int64, int64, float64[::1], int64[::1]))
def _worst_of_best(k: int, size: int, scores: _Array, rows: _Array) -> Any:
    """Keep the k best of `size`, more than k; the least of their scores."""
    _keep(k, size, scores, rows)
    worst = scores[0]
    for at in range(1, k):
        worst = min(worst, scores[at])
    return worst


_index = (given(uint32), given(int64), given(uint16), given(float32), int64)
_asked = (given(int64), given(int64), given(float32), int64, given(boolean), int64, int64)


@compiled(void(*_index, *_asked, float64[::1], float64[:, ::1], int64[:, ::1], int64[::1]))
def search(
    starts: _Array,
    bases: _Array,
    numbers: _Array,
    weights: _Array,
    n: int,
    indptr: _Array,
    columns: _Array,
    query_weights: _Array,
    k: int,
    allowed: _Array,
    first_block: int,
    end_block: int,
    sums: _Array,
    scores: _Array,
    rows: _Array,
    sizes: _Array,
) -> None:
    """The k best of the documents in some blocks, for each query, best first.

    `starts`, `bases`, `numbers`, `weights`, `n`: a `BlockLists`. `indptr`, `columns`, `query_weights`: the queries.
    `allowed` (n,): which documents may be found; empty for all. `sums` (2**16,): -0.0 everywhere, before and after.
    `scores`, `rows` (q, more than k) and `sizes` (q,), all 0: what is found.
    """
    width = len(starts) // max(len(bases) - 1, 1)
    room = scores.shape[1]
    masked = len(allowed) > 0
    thresholds = np.full(len(sizes), -np.inf)
    for block in range(first_block, end_block):
        first = block * _BLOCK
        held = min(_BLOCK, n - first)
        for query in range(len(sizes)):
            found_scores, found_rows = scores[query], rows[query]
            size, threshold = sizes[query], thresholds[query]
            postings = np.uint64(0)
            for term in range(indptr[query], indptr[query + 1]):
                segment = block * width + columns[term]
                begin = np.uint64(bases[block] + starts[segment])
                end = np.uint64(bases[block] + starts[segment + 1])
                weight = np.float64(query_weights[term])
                postings += end - begin
                if term + 1 < indptr[query + 1]:
                    segment = block * width + columns[term + 1]
                    ahead = np.uint64(bases[block] + starts[segment])
                    until = min(ahead + _AHEAD, np.uint64(bases[block] + starts[segment + 1]))
                    for at in range(ahead, until, 16):
                        _ask_for(weights, at)
                    for at in range(ahead, until, 32):
                        _ask_for(numbers, at)
                for at in range(begin, end):
                    sums[numbers[at]] += weight * np.float64(weights[at])
            if postings == 0:
                continue
            if postings * np.uint64(_FEW) < np.uint64(held):
                for term in range(indptr[query], indptr[query + 1]):
                    segment = block * width + columns[term]
                    begin = np.uint64(bases[block] + starts[segment])
                    end = np.uint64(bases[block] + starts[segment + 1])
                    for at in range(begin, end):
                        number = numbers[at]
                        score, row = sums[number], first + np.int64(number)
                        if score == 0.0 and np.signbit(score):
                            continue  # seen under an earlier dimension
                        sums[number] = -0.0
                        if score >= threshold and row < first + held and (not masked or allowed[row]):
                            found_scores[size], found_rows[size] = score, row
                            size += 1
                            if size == room:
                                threshold, size = _worst_of_best(k, size, found_scores, found_rows), k
            else:
                for line in range(0, held, _LINE):
                    above = np.uint32(0)
                    for number in range(line, line + _LINE):
                        above |= np.uint32(sums[number] > threshold)
                    if above:
                        for number in range(line, min(line + _LINE, held)):
                            score = sums[number]
                            if score > threshold and not (score == 0.0 and np.signbit(score)):
                                if masked and not allowed[first + number]:
                                    continue
                                found_scores[size], found_rows[size] = score, first + number
                                size += 1
                                if size == room:
                                    threshold, size = _worst_of_best(k, size, found_scores, found_rows), k
                    for number in range(line, line + _LINE):
                        sums[number] = -0.0
            sizes[query], thresholds[query] = size, threshold
    for query in range(len(sizes)):
        if sizes[query] > k:
            _keep(k, sizes[query], scores[query], rows[query])
            sizes[query] = k
        in_order(sizes[query], scores[query], rows[query])
