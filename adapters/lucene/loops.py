"""The inner loops of bodies and of answers, compiled by numba when this is imported; `sparsevec.compiler` does that in
a thread."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import boolean, float32, int32, int64, uint8, uint32, void

from sparsevec.compiler import compiled, given

__all__ = ["assemble", "scores", "unpack"]

_Array: TypeAlias = npt.NDArray[Any]

_INFINITE = 0x7F80_0000 >> 15  # what is kept of the first float32 that is no number


@compiled(void(given(uint8), given(int64), given(int64), given(uint32), uint8[::1], int64[::1]))
def assemble(text: _Array, ends: _Array, indptr: _Array, indices: _Array, out: _Array, starts: _Array) -> None:
    """Write each row to `out`, and where it starts to `starts` (n + 1,). `text` holds the values, each of which `ends`
    somewhere, and 16 bytes more, as `out` does."""
    at, begin = 0, 1  # in `out`, and of the next value in `text`
    for row in range(len(indptr) - 1):
        starts[row] = at
        out[at] = 123  # {
        at += 1
        for k in range(indptr[row], indptr[row + 1]):
            if k > indptr[row]:
                out[at] = 44  # ,
                at += 1
            left = np.uint32(indices[k])
            digits, power = 1, np.uint64(10)
            while left >= power:
                power *= np.uint64(10)
                digits += 1
            out[at] = 34  # "
            for place in range(digits, 0, -1):
                tenth = left // np.uint32(10)
                out[at + place] = np.uint8(48) + np.uint8(left - tenth * np.uint32(10))
                left = tenth
            at += digits + 1
            out[at], out[at + 1] = 34, 58  # ":
            at += 2
            length = ends[k] - begin
            for place in range(16):  # a number of known length is copied at once
                out[at + place] = text[begin + place]
            for place in range(16, length):
                out[at + place] = text[begin + place]
            at += length
            begin = ends[k] + 1
        out[at] = 125  # }
        at += 1
    starts[len(indptr) - 1] = at


@compiled(int64(given(uint8), int64, int64))
def _number(record: _Array, start: int, bits: int) -> int:
    """Of so many bits, 57 at most, from the bit `start` on."""
    number, stop = 0, start + bits
    for place in range(start >> 3, (stop + 7) >> 3):
        number = number << 8 | record[place]
    return number >> (-stop & 7) & ((1 << bits) - 1)


@compiled(boolean(given(uint8, 2), int64, int64, int64, int64, int64, int32[::1], int32[::1], uint32[::1]))
def unpack(
    records: _Array,
    dimension: int,
    most: int,
    low: int,
    bits: int,
    middle: int,
    indptr: _Array,
    indices: _Array,
    values: _Array,
) -> bool:
    """What `Packing.unpacked` reads in records (m, width) of at most so many weights, whose lower bits begin at
    `middle`; `values` as the bits of float32. False where one is no vector."""
    end = 0
    for row in range(len(records)):
        record, first, last = records[row], end, -1
        top = _number(record, 0, 16)
        for bit in range(16, middle):
            if record[bit >> 3] >> (7 - (bit & 7)) & 1:
                place = end - first
                if place == most:
                    return False
                index = (bit - 16 - place) << low | _number(record, middle + place * low, low)
                kept = top - _number(record, middle + most * low + place * bits, bits)
                if not (last < index < dimension and 0 < kept < _INFINITE):
                    return False
                indices[end], values[end] = index, kept << 15
                last, end = index, end + 1
        indptr[row + 1] = end
    return True


_query = (given(int64), given(float32), int64)


@compiled(void(*_query, given(int32), given(int32), given(float32), float32[::1]))
def scores(
    asked: _Array, weights: _Array, dimension: int, indptr: _Array, indices: _Array, values: _Array, found: _Array
) -> None:
    """What `weights.scores` gives documents, `found` (n,), for the dimensions that are `asked` and their weights."""
    table = np.zeros(dimension, np.float32)
    for at in range(len(asked)):
        table[asked[at]] = weights[at]
    for row in range(len(found)):
        total = 0.0
        for at in range(indptr[row], indptr[row + 1]):
            total += np.float64(np.float32(table[indices[at]] * values[at]))
        found[row] = total
