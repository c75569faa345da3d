"""A loop that the modules of loops hold within, compiled when one of them is (`compiler`).

numba's cache of theirs does not hear of a change here, which in a new install is another file.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy.typing as npt
from numba import float64, int64, void

from sparsevec.compiler import compiled

__all__ = ["in_order"]

_Array: TypeAlias = npt.NDArray[Any]


@compiled(void(int64, float64[::1], int64[::1]))
def in_order(size: int, scores: _Array, rows: _Array) -> None:
    """Sort `size` of them: the higher score first, then the lower row. A heap, at whose root is who comes last."""
    for unsorted in range(size // 2 + size - 1, 0, -1):
        top, end = max(0, unsorted - size), min(size, unsorted)
        if unsorted < size:
            scores[0], scores[end] = scores[end], scores[0]
            rows[0], rows[end] = rows[end], rows[0]
        score, row = scores[top], rows[top]
        while 2 * top + 1 < end:
            child = 2 * top + 1
            if child + 1 < end and (
                scores[child + 1] < scores[child]
                or (scores[child + 1] == scores[child] and rows[child + 1] > rows[child])
            ):
                child += 1
            if not (scores[child] < score or (scores[child] == score and rows[child] > row)):
                break
            scores[top], rows[top] = scores[child], rows[child]
            top = child
        scores[top], rows[top] = score, row
