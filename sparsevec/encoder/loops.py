"""The inner loops of encoding and scoring, compiled by numba when this is imported; `compiler` does that in a thread.

Sums that `head` and `residual` keep exact are added in the order that is fastest, all others in their own. What goes
through many numbers is written so that the compiler makes it of instructions for many at once: loops over whole slices,
counters as wide as the numbers, and comparisons that are added up, not branched on.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import boolean, float32, float64, int8, int16, int32, int64, uint8, void

from sparsevec.compiler import compiled, given
from sparsevec.ordering import in_order

__all__ = [
    "KINDS",
    "bounds",
    "cut",
    "dots",
    "kth",
    "largest",
    "largest_of_few",
    "ordered",
    "regressed",
    "scores",
    "signatures",
]

_Array: TypeAlias = npt.NDArray[Any]

KINDS = (int16, int32)
_COUNTED = 2**14  # numbers at once: int16 can say how many of them
_STRONGEST = 32  # as in `head`


@compiled([void(given(kind), kind[::1]) for kind in KINDS])
def ordered(bits: _Array, numbers: _Array) -> None:
    """Whole numbers in the order of the bfloat16 or float32 whose bits these are, NaN the largest: of a negative one
    all but the sign is turned."""
    kind, shift = bits.dtype.type, 8 * bits.itemsize - 1
    rest = kind((1 << shift) - 1)
    infinite = kind(rest ^ kind((1 << (shift - 8)) - 1))
    for at in range(len(bits)):
        turned = kind(bits[at] ^ kind(kind(bits[at] >> kind(shift)) & rest))
        numbers[at] = rest if kind(bits[at] & rest) > infinite else turned


@compiled([int64(kind[::1], kind) for kind in KINDS])
def _reaching(numbers: _Array, least: Any) -> Any:
    """How many numbers are `least` or more."""
    kind, total = numbers.dtype.type, 0
    for start in range(0, len(numbers), _COUNTED):
        some, count = numbers[start : start + _COUNTED], kind(0)
        for at in range(len(some)):
            count = kind(count + kind(some[at] >= least))
        total += count
    return total


@compiled([int64(kind[::1], int64) for kind in KINDS])
def kth(numbers: _Array, k: int) -> Any:
    """The k-th largest number, found bit by bit."""
    top = np.int64(1) << (8 * numbers.itemsize - 1)
    found, step = -top, top
    while step:
        if found + step < top and _reaching(numbers, numbers.dtype.type(found + step)) >= k:
            found += step
        step >>= 1
    return found


@compiled([float64(given(one), given(float64)) for one in (float32, float64, int16, int32)], any_order=True)
def _dot(row: _Array, query: _Array) -> Any:
    """Exact."""
    total = 0.0
    for at in range(len(query)):
        total += np.float64(row[at]) * query[at]
    return total


@compiled(int32(given(int16), given(int16)))
def _small_dot(row: _Array, query: _Array) -> Any:
    """Of whole numbers that add up to less than 2**31."""
    total = np.int32(0)
    for at in range(len(query)):
        total = np.int32(total + np.int32(np.int32(row[at]) * np.int32(query[at])))
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


@compiled(float32(float32[::1], int64, int32[::1]))
def _kth_largest(values: _Array, k: int, numbers: _Array) -> Any:
    """Of values (m,); `numbers` (m,) is room."""
    ordered(values.view(np.int32), numbers)
    least, found = kth(numbers, k), np.float32(np.inf)
    for at in range(len(values)):
        found = min(found, values[at] if numbers[at] >= least else found)
    return found


@compiled(void(int64, float64[::1], int64[::1], float64[::1], int64[::1]))
def _keep(size: int, found: _Array, at_found: _Array, values: _Array, indices: _Array) -> None:
    """The k best of `size` candidates, best first, equal ones by index: `values` and `indices` (k,)."""
    in_order(size, found, at_found)
    for place in range(len(values)):
        values[place], indices[place] = found[place], at_found[place]


_rough = (given(float32, 2), given(float32), given(float64), int64, int64)
_exact = (given(float32, 2), given(float64, 2), float64, given(float64))


@compiled(boolean(*_rough, *_exact, int64[:, ::1], float64[:, ::1]))
def largest(
    rough: _Array,
    rough_bias: _Array,
    errors: _Array,
    k: int,
    groups: int,
    weights: _Array,
    rows: _Array,
    scale: float,
    bias: _Array,
    indices: _Array,
    values: _Array,
) -> bool:
    """The k largest activations of each row (b, m), best first, equal ones by index: `indices` and `values` (b, k).

    Those that `Projection._candidates` names are computed exactly: `rough` (b, n) and `rough_bias` (n,) make
    activations that are off by up to `errors` (b,). False as soon as a row has so many candidates that this is no help.
    """
    n = rough.shape[1]
    maxima, numbers = np.empty(groups, np.float32), np.empty(groups, np.int32)
    found, at_found = np.empty(n // 4), np.empty(n // 4, np.int64)
    for row in range(len(rough)):
        activations = rough[row]
        for start in range(0, n, groups):
            line, more = activations[start : start + groups], rough_bias[start : start + groups]
            for group in range(len(line)):
                activation = line[group] + more[group]
                maxima[group] = activation if start == 0 or activation > maxima[group] else maxima[group]
        lowest = _kth_largest(maxima, k, numbers)
        bar = np.nextafter(np.float32(lowest - 2 * errors[row]), np.float32(-np.inf))
        candidates = 0
        for group in range(groups):
            if not maxima[group] >= bar:
                continue
            for at in range(group, n, groups):
                if not activations[at] + rough_bias[at] >= bar:
                    continue
                if candidates == len(found):
                    return False
                found[candidates], at_found[candidates] = _dot(weights[at], rows[row]) * scale + bias[at], at
                candidates += 1
        _keep(candidates, found, at_found, values[row], indices[row])
    return True


_small = (given(int8, 2), given(float64), given(float64), given(float64))


@compiled(void(*_small, given(float64), given(float64), float64, float64, float64[::1], float32[::1], float64[::1]))
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
        lows[group] = np.nextafter(np.float32(low), np.float32(-np.inf))


@compiled(boolean(*_small, given(float64), float64, float64, int64, int64, *_exact[:3], int64[:, ::1], float64[:, ::1]))
def largest_of_few(
    small: _Array,
    steps: _Array,
    errors: _Array,
    bias: _Array,
    mean: _Array,
    longest: float,
    least: float,
    k: int,
    groups: int,
    weights: _Array,
    rows: _Array,
    scale: float,
    indices: _Array,
    values: _Array,
) -> bool:
    """The k largest activations of each row (b, m), as `largest` gives them, by what `bounds` takes: without a product
    of rows and weights. False as soon as a row has so many candidates that this is no help."""
    n, x = len(small), np.empty(rows.shape[1])
    lows, highs, numbers = np.empty(groups, np.float32), np.empty(n), np.empty(groups, np.int32)
    found, at_found = np.empty(n // 4), np.empty(n // 4, np.int64)
    for row in range(len(rows)):
        bounds(small, steps, errors, bias, rows[row], mean, longest, least, x, lows, highs)
        bar, candidates = _kth_largest(lows, k, numbers), 0
        for at in range(n):
            if not highs[at] >= bar:
                continue
            if candidates == len(found):
                return False
            found[candidates], at_found[candidates] = _dot(weights[at], x) * scale + bias[at], at
            candidates += 1
        _keep(candidates, found, at_found, values[row], indices[row])
    return True


_found = (given(int64, 2), given(float64, 2))


@compiled(int64(*_found, float64, int64, given(float64), float64, float64, int64[::1], int64[::1], float32[::1]))
def cut(
    indices: _Array,
    values: _Array,
    threshold: float,
    sixteenths: int,
    prices: _Array,
    spend: float,
    dear: float,
    kept: _Array,
    columns: _Array,
    weights: _Array,
) -> int:
    """What `head._sparse` makes of the m largest activations of each row (b, m), by the same operations: how many each
    row has `kept` (b,), and one row after the other their dimensions and weights, best first. No `prices`: no purse."""
    b, m = values.shape
    end, strong = 0, np.empty(m)
    for row in range(b):
        square, spent = 0.0, 0.0
        for at in range(min(m, _STRONGEST)):
            square += max(values[row, at], 0.0) * max(values[row, at], 0.0)
        least, begin, length = threshold * math.sqrt(square) if threshold > 0 else 0.0, end, 0.0
        for at in range(m):
            value = values[row, at]
            takes = value > 0 and value > least
            if len(prices):
                price = prices[indices[row, at]]
                fair = at == 0 or (price <= dear and value > 0)
                spent += price if fair else 0.0
                takes = takes and fair and spent <= spend
            if at and not takes:
                continue
            root = value if value > 0 else 1.0  # nothing fired: the dimension that came nearest
            weight = root if sixteenths >= 16 else 1.0
            if sixteenths % 16:
                for bit in (8, 4, 2, 1):
                    root = math.sqrt(root)
                    if sixteenths % 16 & bit:
                        weight *= root
            length += weight * weight
            strong[end - begin], columns[end] = weight, indices[row, at]
            end += 1
        kept[row] = end - begin
        for at in range(begin, end):
            weights[at] = strong[at - begin] / math.sqrt(length)
    return end


@compiled(float64(float64, float64))
def _on_grid(value: float, steps: float) -> Any:
    return np.rint(value * steps) / steps


_asked = (given(int64), given(int64), given(int64), given(float64), int64)
_sums = (given(float64), given(float64), float64, given(float64), float64)
_adam = (int64, float64, float64, float64)


@compiled(void(*_asked, given(int64), *_sums, *_adam, float64, float64, float64[::1]))
def regressed(
    dimensions: _Array,
    ends: _Array,
    askers: _Array,
    asked: _Array,
    asking: int,
    near: _Array,
    wanted: _Array,
    others: _Array,
    scale: float,
    table: _Array,
    table_steps: float,
    steps: int,
    rate: float,
    beta1: float,
    beta2: float,
    weight_steps: float,
    off_steps: float,
    weights: _Array,
) -> None:
    """What `Newcomers._regressed` makes of `weights` (k,) on those dimensions, by the same operations.

    Only what is not zero of `Newcomers._met` is gone through: of dimension d the rows `askers[ends[d] : ends[d + 1]]`
    that ask, `asking` in all, weigh `asked`; those of `near` (a,) count.
    """
    k, a, places = len(dimensions), len(near), np.full(asking, -1, np.int64)
    for place in range(a):
        places[near[place]] = place
    room, bounds = 0, np.zeros(k + 1, np.int64)
    for at in range(k):
        if dimensions[at] + 1 < len(ends):
            room += ends[dimensions[at] + 1] - ends[dimensions[at]]
    rows, met, count = np.empty(room, np.int64), np.empty(room), 0
    for at in range(k):
        if dimensions[at] + 1 < len(ends):
            for posting in range(ends[dimensions[at]], ends[dimensions[at] + 1]):
                place = places[askers[posting]]
                if place >= 0:
                    rows[count], met[count] = place, asked[posting]
                    count += 1
        bounds[at + 1] = count
    reach, off = len(table) // 2, np.empty(a)
    first, second, first_left, second_left = np.zeros(k), np.zeros(k), 1.0, 1.0
    for at in range(k):
        weights[at] = _on_grid(weights[at], weight_steps)
    for step in range(steps):
        off[:] = 0.0
        for at in range(k):
            for place in range(bounds[at], bounds[at + 1]):
                off[rows[place]] += weights[at] * met[place]
        for place in range(a):
            number = (scale * off[place] - others[place]) * table_steps
            number = np.rint(number) if -reach < number < reach else (reach if number >= reach else -reach)  # NaN, too
            off[place] = _on_grid(table[np.int64(number) + reach] - wanted[place], off_steps)
        first_left, second_left = first_left * beta1, second_left * beta2
        stride = rate * (1 - step / steps) / (1 - first_left)
        for at in range(k):
            slope = 0.0
            for place in range(bounds[at], bounds[at + 1]):
                slope += met[place] * off[rows[place]]
            first[at] += (1 - beta1) * (slope - first[at])
            second[at] += (1 - beta2) * (slope * slope - second[at])
            moved = weights[at] - stride * first[at] / (np.sqrt(second[at] / (1 - second_left)) + 1e-12)
            weights[at] = _on_grid(max(moved, 0.0), weight_steps)


@compiled(void(given(uint8, 2), given(uint8), uint8, uint8[::1]))
def signatures(codes: _Array, key: _Array, tag: int, found: _Array) -> None:
    """What `ResidualCodes._signatures` gives m codes, `found` (m,): bytes add and multiply modulo 256 as they are."""
    for row in range(len(codes)):
        code, total = codes[row, 1:], np.uint8(tag)
        for at in range(len(key)):
            total = np.uint8(total + np.uint8(code[at] * key[at]))
        found[row] = total


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
    high, low = np.empty(len(query), np.int16), np.empty(len(query), np.int16)
    for at in range(len(query)):
        coarse = np.rint(query[at] * 2.0**-4)
        high[at] = np.rint(coarse * 2.0**-8)
        low[at] = coarse - high[at] * 2.0**8
    for dimension in range(len(decoder)):
        if met[dimension]:
            weights = decoder[dimension]
            products[dimension] = (_small_dot(weights, high) * 2.0**8 + _small_dot(weights, low)) * unit
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
