"""The inner loops of one query, compiled by numba when this is imported; `compiler` does that in a thread.

Sums that `head` and `residual` keep exact are added in the order that is fastest, all others in their own.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import float32, float64, int8, int16, int32, int64, uint8, void

from sparsevec.compiler import compiled, given

__all__ = ["bounds", "dots", "scores"]

_Array: TypeAlias = npt.NDArray[Any]


@compiled([float64(given(one), given(float64)) for one in (float32, float64, int16, int32)], any_order=True)
def _dot(row: _Array, query: _Array) -> Any:
    """Exact."""
    total = 0.0
    for at in range(len(query)):
        total += np.float64(row[at]) * query[at]
    return total


@compiled(void(given(float64), given(float64), float64[::1]))
def _fixed(row: _Array, mean: _Array, found: _Array) -> None:
    """A row over its length, as `head.unit` has it, less the mean, as whole numbers, 2**24 for 1: (m,)."""
    top, square = 0.0, np.int64(0)
    for number in row:
        top = max(top, abs(number))
    bits = 23 - math.frexp(top)[1]
    first, second = math.ldexp(1.0, bits // 2), math.ldexp(1.0, bits - bits // 2)
    for at in range(len(row)):
        found[at] = np.rint(row[at] * first * second)
        square += np.int64(found[at]) * np.int64(found[at])
    length = math.sqrt(np.float64(square))
    for at in range(len(row)):
        found[at] = np.rint((found[at] / length - mean[at]) * 2.0**24)


@compiled(void(given(float32, 2), given(int64), given(float64), float64[::1]))
def dots(weights: _Array, rows: _Array, query: _Array, found: _Array) -> None:
    """Of some rows of weights with a query: (c,)."""
    for at in range(len(rows)):
        found[at] = _dot(weights[rows[at]], query)


_small = (given(int8, 2), given(float64), given(float64), given(float64))


@compiled(void(*_small, given(float64), given(float64), float64, float64, *(float64[::1],) * 3))
def bounds(
    small: _Array,
    steps: _Array,
    errors: _Array,
    bias: _Array,
    row: _Array,
    mean: _Array,
    longest: float,
    least: float,
    x: _Array,
    lows: _Array,
    highs: _Array,
) -> None:
    """Of a row (m,): the whole numbers `x` (m,) that meet the weights; what no activation is above, `highs` (n,); and
    what the largest of each group of them is not below, `lows` (groups,), by weights W_j of n dimensions in 8 bits.

    Let W_j = s_j V_j + R_j, V_j (`small`) whole numbers up to 127, and x = t y + r, y whole numbers and t a power of
    two. Then W_j . x = s_j t (V_j . y) + R_j . x + s_j V_j . r, where V_j . y is exact in int32, since |y| is at most
    2**14 and adds up to less than 2**24; by Cauchy-Schwarz the rest is no more than |R_j| |x| + (|W_j| + |R_j|) |r|,
    and |R_j| <= sqrt(m) |W_j| / 254 < 2 |W_j|. What float64 rounds of all this is below 2**-30 |W_j| |x| and `least`.

    `steps` are the s_j, and `errors` no less than |R_j| + 2**-30 |W_j|; `longest` is no less than any |W_j|.
    """
    _fixed(row, mean, x)
    top = total = 0.0
    for number in x:
        top, total = max(top, abs(number)), total + abs(number)
    step = 2.0 ** max(0, math.frexp(top)[1] - 14, math.frexp(total)[1] - 23)
    query, rest = np.empty(len(x), np.int16), np.empty(len(x))
    for at in range(len(x)):
        whole = np.rint(x[at] / step)
        query[at], rest[at] = whole, x[at] - whole * step
    length, least = math.sqrt(_dot(x, x)), least + 3 * longest * math.sqrt(_dot(rest, rest))
    lines = (len(small) + len(lows) - 1) // len(lows)
    for group in range(len(lows)):
        low = -np.inf
        for at in range(group * lines, min((group + 1) * lines, len(small))):
            weights, product = small[at], np.int32(0)
            for column in range(len(query)):
                product = np.int32(product + np.int32(np.int32(weights[column]) * np.int32(query[column])))
            activation, error = product * (steps[at] * step) + bias[at], errors[at] * length + least
            highs[at] = activation + error
            low = max(low, activation - error)
        lows[group] = low


_stored = (given(int32), given(int32), given(float32))
_coded = (given(int32, 2), float64, given(int32, 2), given(int64), given(float64))


@compiled(
    void(given(float64), given(float64), given(int16, 2), float64, *_stored, *_coded, given(uint8, 2), float32[::1])
)
def scores(
    dense: _Array,
    mean: _Array,
    decoder: _Array,
    unit: float,
    indptr: _Array,
    indices: _Array,
    values: _Array,
    components: _Array,
    fine: float,
    codewords: _Array,
    starts: _Array,
    gains: _Array,
    codes: _Array,
    found: _Array,
) -> None:
    """What `ResidualCodes.scores` gives m candidates of a row, `found` (m,), in the same fixed point: `decoder`,
    `components` and `codewords` are whole numbers, products with them are in steps of `unit`, `fine` and 2**-40."""
    query = np.empty(len(dense))
    _fixed(dense, np.zeros(len(dense)), query)
    constant = _dot(np.rint(mean * 2.0**24), query) * 2.0**-48
    met, products = np.zeros(len(decoder), np.bool_), np.empty(len(decoder))
    for at in range(len(indices)):
        met[indices[at]] = True
    coarse = np.rint(query * 2.0**-4)
    for dimension in range(len(decoder)):
        if met[dimension]:
            products[dimension] = _dot(decoder[dimension], coarse) * unit
    groups, left = len(starts) - 1, np.zeros(len(codes))
    table, header = np.empty(codewords.shape[1]), codes.shape[1] - groups
    for group in range(groups):
        table[:] = 0.0
        for component in range(starts[group], starts[group + 1]):
            asked, words = np.rint(_dot(components[component], query) * fine), codewords[component]
            for word in range(len(table)):
                table[word] += asked * words[word]
        for row in range(len(codes)):
            left[row] += table[codes[row, header + group]]
    for row in range(len(codes)):
        explained = 0.0
        for at in range(indptr[row], indptr[row + 1]):
            explained += products[indices[at]] * np.float64(values[at])
        found[row] = constant + explained + gains[codes[row, 1]] * (left[row] * 2.0**-40)
