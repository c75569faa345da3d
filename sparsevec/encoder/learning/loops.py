"""The inner loop of learning, compiled by numba when this is imported; `sparsevec.compiler` does that in a thread.

Written so that the compiler makes it of instructions for many numbers at once: loops over whole slices, counters as
wide as the numbers, and comparisons that are added up, not branched on.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import int16, int32, int64, void

from sparsevec.compiler import compiled, given

__all__ = ["strongest"]

_Array: TypeAlias = npt.NDArray[Any]

_KINDS = (int16, int32)
_COUNTED = 2**14  # numbers at once: int16 can say how many of them


@compiled([void(given(kind), kind[::1]) for kind in _KINDS])
def _ordered(bits: _Array, numbers: _Array) -> None:
    """Whole numbers in the order of the bfloat16 or float32 whose bits these are, NaN the largest: of a negative one
    all but the sign is turned."""
    kind, shift = bits.dtype.type, 8 * bits.itemsize - 1
    rest = kind((1 << shift) - 1)
    infinite = kind(rest ^ kind((1 << (shift - 8)) - 1))
    for at in range(len(bits)):
        turned = kind(bits[at] ^ kind(kind(bits[at] >> kind(shift)) & rest))
        numbers[at] = rest if kind(bits[at] & rest) > infinite else turned


@compiled([int64(kind[::1], kind) for kind in _KINDS])
def _reaching(numbers: _Array, least: Any) -> Any:
    """How many numbers are `least` or more."""
    kind, total = numbers.dtype.type, 0
    for start in range(0, len(numbers), _COUNTED):
        some, count = numbers[start : start + _COUNTED], kind(0)
        for at in range(len(some)):
            count = kind(count + kind(some[at] >= least))
        total += count
    return total


@compiled([int64(kind[::1], int64) for kind in _KINDS])
def _kth(numbers: _Array, k: int) -> Any:
    """The k-th largest number, found bit by bit."""
    top = np.int64(1) << (8 * numbers.itemsize - 1)
    found, step = -top, top
    while step:
        if found + step < top and _reaching(numbers, numbers.dtype.type(found + step)) >= k:
            found += step
        step >>= 1
    return found


@compiled([void(given(kind, 2), int64, int64, int64[:, ::1]) for kind in _KINDS])
def strongest(z: _Array, k: int, groups: int, found: _Array) -> None:
    """Where the k largest floats of each row (b, m) are, whose bits are `z`: `found` (b, k), in no order.

    What does not reach the k-th largest of the maxima of `groups`, k or more, is not among them; of equal ones the
    first groups' are.
    """
    m = z.shape[1]
    numbers, maxima, some = np.empty(m, z.dtype), np.empty(groups, z.dtype), np.empty(m, z.dtype)
    members, places = np.empty(groups + 1, np.int64), np.empty(m + 1, np.int64)
    for row in range(len(z)):
        _ordered(z[row], numbers)
        maxima[:] = numbers[:groups]
        for start in range(groups, m, groups):
            line = numbers[start : start + groups]
            for group in range(len(line)):
                maxima[group] = line[group] if line[group] > maxima[group] else maxima[group]
        least, count, size = _kth(maxima, k), np.int64(0), np.int64(0)
        for group in range(groups):
            members[count] = group
            count += np.int64(maxima[group] >= least)
        for member in range(count):
            for at in range(members[member], m, groups):
                some[size], places[size] = numbers[at], at
                size += np.int64(numbers[at] >= least)
        bar, taken, equal = _kth(some[:size], k), 0, np.int64(k)
        for at in range(size):
            equal -= np.int64(some[at] > bar)
        for at in range(size):
            if some[at] > bar or (some[at] == bar and equal > 0):
                equal -= np.int64(some[at] == bar)
                found[row, taken] = places[at]
                taken += 1
