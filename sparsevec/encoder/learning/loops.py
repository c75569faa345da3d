"""The inner loop of learning, compiled by numba when this is imported; `sparsevec.compiler` does that in a thread.

It holds loops of `encoder.loops` within, of whose changes numba's cache does not hear: who edits those deletes the
`__pycache__` beside this file.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import int64, void

from sparsevec.compiler import compiled, given
from sparsevec.encoder.loops import KINDS, kth, ordered

__all__ = ["strongest"]

_Array: TypeAlias = npt.NDArray[Any]


@compiled([void(given(kind, 2), int64, int64, int64[:, ::1]) for kind in KINDS])
def strongest(z: _Array, k: int, groups: int, found: _Array) -> None:
    """Where the k largest floats of each row (b, m) are, whose bits are `z`: `found` (b, k), in no order.

    What does not reach the k-th largest of the maxima of `groups`, k or more, is not among them; of equal ones the
    first groups' are.
    """
    m = z.shape[1]
    numbers, maxima, some = np.empty(m, z.dtype), np.empty(groups, z.dtype), np.empty(m, z.dtype)
    members, places = np.empty(groups + 1, np.int64), np.empty(m + 1, np.int64)
    for row in range(len(z)):
        ordered(z[row], numbers)
        maxima[:] = numbers[:groups]
        for start in range(groups, m, groups):
            line = numbers[start : start + groups]
            for group in range(len(line)):
                maxima[group] = line[group] if line[group] > maxima[group] else maxima[group]
        least, count, size = kth(maxima, k), np.int64(0), np.int64(0)
        for group in range(groups):
            members[count] = group
            count += np.int64(maxima[group] >= least)
        for member in range(count):
            for at in range(members[member], m, groups):
                some[size], places[size] = numbers[at], at
                size += np.int64(numbers[at] >= least)
        bar, taken, equal = kth(some[:size], k), 0, np.int64(k)
        for at in range(size):
            equal -= np.int64(some[at] > bar)
        for at in range(size):
            if some[at] > bar or (some[at] == bar and equal > 0):
                equal -= np.int64(some[at] == bar)
                found[row, taken] = places[at]
                taken += 1
