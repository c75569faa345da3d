"""The inner loop of bodies, compiled by numba when this is imported; `sparsevec.compiler` does that in a thread."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import int64, uint8, uint32, void

from sparsevec.compiler import compiled, given

__all__ = ["assemble"]

_Array: TypeAlias = npt.NDArray[Any]


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
