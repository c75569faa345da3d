"""The head: dense rows in, sparse rows out, the same bits whatever the batch, the order, the threads or the BLAS.

A floating sum depends on its order, and a BLAS chooses the order by batch and threads. So rows and weights are rounded
to fixed point first, coarse enough that every product and every partial sum is a whole number below 2**53: float64 then
adds exactly, and any order gives the same bits. What follows (ReLU, roots, sums along a row in a fixed order) uses only
operations that IEEE 754 rounds correctly.

Only the largest activations of a row are wanted. So float32 computes all of them first, and no further off than a bound
that holds for every order of adding; whatever may be among the largest by that bound, a few more than are wanted, is
then computed exactly: by compiled loops, where numba is installed (`compiler`). Few rows spend that time on reading the
weights: a loop reads a copy of them in 8 bits instead, and no more of the others than the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sparsevec.compiler import Loops
from sparsevec.dense import Dense, blocks, largest
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["LOOPS", "Cut", "Float64s", "Head", "Projection", "Purse", "encoded", "strengths", "unit"]

Float64s = npt.NDArray[np.float64]

LOOPS: Final = Loops("sparsevec.encoder.loops", worth=16)
"""a process that encodes or scores little ends sooner without them"""

_ROW_BITS = 24  # a unit row is kept to 2**-24
_NORM_BITS = 23  # squares of 23-bit integers add exactly in int64 up to 2**17 columns
_DEAR = 4  # a dimension that takes a quarter of a purse, and four times the usual price, is left out
_STRONGEST = 32  # a cut is relative to the length of this many largest activations
_ROWS, _HELD = 512, 2**23  # at most so many rows, and so many activations, in one matrix product
_SLICE = 2**18  # activations looked at together, so that they stay in the processor's cache
_PART = 2**20  # weights that are float64 at once
_GROUPS = 8  # groups for each activation that is wanted: with more of them fewer are computed exactly
_FEW = 4  # rows whose candidates a loop finds faster than a matrix product
_SAFE_BITS = range(-40, 61)  # of the weights' scale, so that float32 can neither overflow nor underflow


class Projection:
    """z = W (unit(x) - mean) + b, exactly, for weights W (dimension, input_dim), b (dimension,), mean (input_dim,)."""

    def __init__(self, weights: Float32s, bias: Float32s, mean: Float32s) -> None:
        longest = float(np.sqrt(np.square(weights, dtype=np.float64).sum(axis=1).max(initial=1e-30)))
        # |partial sum| <= |unit(x) - mean| * |W_j| <= 2 * longest by Cauchy-Schwarz; one bit is left for the rounding
        weight_bits = 51 - _ROW_BITS - math.frexp(2 * longest)[1]
        # whole numbers, which float32 holds: on a grid no number has more digits than it had before
        self._weights = np.rint(np.ldexp(weights.astype(np.float64, order="C"), weight_bits)).astype(np.float32)
        self._scale = 2.0 ** -(_ROW_BITS + weight_bits)
        self._bias = bias.astype(np.float64)
        self._mean = mean.astype(np.float64)
        self.dimension, m = weights.shape
        self._float32 = weight_bits in _SAFE_BITS and m < 2**17
        # float32 rounds x once, adds m products in any order, then adds b: in the first order of u = 2**-24 it is off
        # by (m + 1) u |x| |W_j| + u (|z| + |b|), and |z| <= |x| |W_j| + |b|. A sixteenth more covers the other orders.
        unit_roundoff = (1 + 1 / 16) * 2.0**-24
        self._longest = longest * 2.0**-_ROW_BITS  # in activations, of a row that is a whole number
        self._error_of_row = unit_roundoff * (m + 2) * self._longest
        self._error_of_bias = unit_roundoff * 2 * float(np.abs(self._bias).max(initial=0))

    def __call__(self, rows: Dense) -> Float64s:
        """(b, input_dim), finite and not zero, to activations (b, dimension)."""
        return self._exact(self._fixed(rows))

    def at(self, rows: Dense, columns: Int64s) -> Float64s:
        """The activations (b, c) of those dimensions alone: the same bits, for less."""
        fixed, bias, loops = self._fixed(rows), self._bias[columns], LOOPS.get() if len(rows) <= _FEW else None
        activations = np.empty((len(rows), len(columns)))
        if loops is None:
            np.matmul(fixed, self._weights.take(columns, axis=0).astype(np.float64).T, out=activations)
        else:
            for row, x in enumerate(fixed):
                loops.dots(self._weights, np.ascontiguousarray(columns, np.int64), x, activations[row])
        activations *= self._scale
        activations += bias
        return activations

    def largest(self, rows: Dense, k: int) -> Iterator[tuple[Int64s, Float64s]]:
        """The k <= dimension largest activations of each row, block after block: indices and values (b, k), best first.

        Equal ones by index.
        """
        groups = 1 << (_GROUPS * k - 1).bit_length()
        groups = groups if 4 * groups <= self.dimension else self.dimension  # each dimension a group of its own
        groups = -(-self.dimension // (self.dimension // groups))  # of one size, but for the last
        size = max(1, min(_ROWS, _HELD // self.dimension))
        held = np.empty((min(size, len(rows)), self.dimension), np.float32)
        for _, block in blocks(rows, size):
            found = None
            if self._float32 and 4 * k <= self.dimension:
                found = self._by_bounds(block, k, groups, held)
            yield largest(self(block), k) if found is None else found

    def _fixed(self, rows: Dense) -> Float64s:
        """unit(x) - mean as whole numbers (b, input_dim), 2**24 for 1."""
        centred = unit(rows)
        centred -= self._mean
        centred *= 2.0**_ROW_BITS
        return np.rint(centred, out=centred)

    def _exact(self, fixed: Float64s) -> Float64s:
        activations = np.empty((len(fixed), self.dimension))
        step = max(1, _PART // fixed.shape[1])
        for start in range(0, self.dimension, step):
            part = slice(start, start + step)
            np.matmul(fixed, self._weights[part].astype(np.float64).T, out=activations[:, part])
        activations *= self._scale
        activations += self._bias
        return activations

    def _by_bounds(self, rows: Dense, k: int, groups: int, held: Float32s) -> tuple[Int64s, Float64s] | None:
        """The k largest of each row; None when so many may be among them that bounds do not help."""
        loops = LOOPS.get()
        if loops is not None and len(rows) <= _FEW:
            return self._of_few(rows.astype(np.float64, order="C"), k, groups, loops)
        fixed = self._fixed(rows)
        errors = self._error_of_row * np.sqrt(np.square(fixed).sum(axis=1)) + self._error_of_bias
        rough = np.matmul((fixed * self._scale).astype(np.float32), self._weights.T, out=held[: len(rows)])
        if loops is None:
            return self._of_candidates(fixed, *self._candidates(rough, errors, k, groups), k)
        indices, values = np.empty((len(rows), k), np.int64), np.empty((len(rows), k))
        exact = self._weights, fixed, self._scale, self._bias
        few = loops.largest(rough, self._bias.astype(np.float32), errors, k, groups, *exact, indices, values)
        return (indices, values) if few else None

    def _candidates(self, rough: Float32s, errors: Float64s, k: int, groups: int) -> tuple[Int64s, Int64s]:
        """Rows and dimensions (c,) of all that may be among the k largest of their row, in order.

        rough (b, dimension): activations without bias, off by up to `errors` (b,) with it. The k-th largest of the
        maxima of groups is no more than the k-th largest of all; what float32 puts below it by more than twice its
        error cannot be wanted. Groups are strided, so that maxima are taken of whole lines.
        """
        bias, found = self._bias.astype(np.float32), []
        step = max(1, _SLICE // self.dimension)
        for start in range(0, len(rough), step):
            some = rough[start : start + step]
            some += bias
            maxima = some[:, :groups].copy()
            for line in range(groups, self.dimension, groups):
                stop = min(line + groups, self.dimension)
                np.maximum(maxima[:, : stop - line], some[:, line:stop], out=maxima[:, : stop - line])
            bars = np.partition(maxima, groups - k, axis=1)[:, groups - k] - 2 * errors[start : start + step]
            bars = np.nextafter(bars.astype(np.float32), np.float32(-np.inf))
            rows, columns = np.nonzero(maxima >= bars[:, None])
            at = columns[:, None] + np.arange(0, self.dimension, groups)  # every member of a group that has one
            values = some[rows[:, None], np.minimum(at, self.dimension - 1)]
            above = (values >= bars[rows, None]) & (at < self.dimension)
            found.append(np.sort(((rows[:, None] + start) * self.dimension + at)[above]))
        return np.divmod(np.concatenate(found), self.dimension)

    def _of_candidates(self, fixed: Float64s, rows: Int64s, columns: Int64s, k: int) -> tuple[Int64s, Float64s] | None:
        """The k largest among candidates; None when these are so many that float32 did not help."""
        counts = np.bincount(rows, minlength=len(fixed))
        longest = int(counts.max())
        if 4 * longest > self.dimension:
            return None
        values, indices = np.full((len(fixed), longest), -np.inf), np.zeros((len(fixed), longest), np.int64)
        present = np.arange(longest) < counts[:, None]
        indices[present] = columns
        for row, count in enumerate(counts.tolist()):
            weights = self._weights.take(indices[row, :count], axis=0).astype(np.float64)
            np.dot(weights, fixed[row], out=values[row, :count])
        values *= self._scale
        values += self._bias[indices]
        order = np.argsort(-values, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(indices, order, axis=1), np.take_along_axis(values, order, axis=1)

    def _of_few(self, rows: Float64s, k: int, groups: int, loops: Any) -> tuple[Int64s, Float64s] | None:
        """The k largest of each of a few rows; None when 8 bits leave so many candidates that they did not help."""
        found = np.empty((len(rows), k), np.int64), np.empty((len(rows), k))
        about = *self._small, self._bias, self._mean, self._longest, self._error_of_bias
        few = loops.largest_of_few(*about, k, groups, self._weights, rows, self._scale, *found)
        return found if few else None

    @cached_property
    def _small(self) -> tuple[npt.NDArray[np.int8], Float64s, Float64s]:
        """Weights (dimension, input_dim) in 8 bits, their steps and their errors (dimension,), for `loops`."""
        small, size = np.empty(self._weights.shape, np.int8), max(1, _SLICE // self._weights.shape[1])
        steps, errors = np.empty(self.dimension), np.empty(self.dimension)
        for start in range(0, self.dimension, size):
            part = slice(start, start + size)
            weights = self._weights[part].astype(np.float64)
            steps[part] = np.maximum(np.abs(weights).max(axis=1), 1) / 127
            small[part] = np.rint(weights / steps[part, None])
            weights -= steps[part, None] * small[part]
            errors[part] = np.sqrt(np.square(weights).sum(axis=1))
        return small, steps * self._scale, errors * self._scale + 2.0**-30 * self._longest


def unit(rows: Dense) -> Float64s:
    """Rows over their length; the length is a sum of whole numbers, so no order of adding changes it."""
    rows = rows.astype(np.float64, order="C")
    _, exponent = np.frexp(np.maximum(rows.max(axis=1), -rows.min(axis=1)))
    half = (_NORM_BITS - exponent) // 2
    rows *= np.ldexp(1.0, half)[:, None]  # in two steps: a power of two may itself be too large
    rows *= np.ldexp(1.0, _NORM_BITS - exponent - half)[:, None]
    units: Float64s = np.rint(rows, out=rows)
    whole = units.astype(np.int64)
    units /= np.sqrt(np.einsum("ij,ij->i", whole, whole).astype(np.float64))[:, None]
    return units


@dataclass(frozen=True, slots=True)
class Cut:
    """Which activations of a row become weights, and how strong these are.

    `cap`: at most so many, the largest. `threshold`: only those above this share of the length of the row's 32 largest.
    `sixteenths`: weights are activations to the power sixteenths / 16 (16 leaves them alone).
    """

    cap: int
    threshold: float = 0.0
    sixteenths: int = 16


class Purse:
    """What a query may spend: it buys its largest activations until `spend` multiplications a document are gone.

    prices (dimension,): the share of the documents that use each dimension, so a purse is F, of every single query and
    not only in the mean. A dimension that many equal rows share would empty a purse at once, and is left out unless it
    is the row's best.
    """

    def __init__(self, prices: npt.NDArray[np.floating], spend: float) -> None:
        self.prices = prices.astype(np.float64)
        self.spend = spend
        self.dear = max(spend / _DEAR, _DEAR * float(self.prices.mean()))

    def bought(self, indices: Int64s, values: Float64s) -> npt.NDArray[np.bool_]:
        """Which of the m largest activations (b, m), best first, a row can pay for; always the best one."""
        prices = self.prices[indices]
        fair = (prices <= self.dear) & (values > 0)
        fair[:, 0] = True
        spent = np.cumsum(np.where(fair, prices, 0), axis=1)  # from left to right, always
        kept: npt.NDArray[np.bool_] = fair & (spent <= self.spend)
        kept[:, 0] = True
        return kept


@dataclass(frozen=True, slots=True)
class Head:
    """z = weights (unit(x) - mean) + bias, cut: (dimension, input_dim), (dimension,), (input_dim,), all float32."""

    weights: Float32s
    bias: Float32s
    mean: Float32s
    cut: Cut
    purse: Purse | None = None
    """of queries"""


def encoded(rows: Dense, projection: Projection, cut: Cut, purse: Purse | None = None) -> SparseVectors:
    """Each row of (n, input_dim) as its cut activations, of length 1; no row is empty."""
    cap = min(cut.cap, projection.dimension)
    parts = [_sparse(*found, cut, projection.dimension, purse) for found in projection.largest(rows, cap)]
    if not parts:
        return SparseVectors([0], [], np.empty(0, np.float32), projection.dimension)
    return SparseVectors.concat(parts)


def strengths(values: Float64s, threshold: float) -> npt.NDArray[np.bool_]:
    """Which of the m largest activations (b, m), best first, survive `threshold`; the best one always does."""
    kept: npt.NDArray[np.bool_] = values > 0
    if threshold > 0:
        positive = np.maximum(values[:, :_STRONGEST], 0)
        kept &= values > threshold * np.sqrt(np.cumsum(np.square(positive), axis=1)[:, -1:])
    kept[:, 0] = True
    return kept


def _sparse(indices: Int64s, values: Float64s, cut: Cut, dimension: int, purse: Purse | None = None) -> SparseVectors:
    columns, weights, counts = _cut(indices, values, cut, purse)
    ends = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    order = np.argsort(columns if len(counts) == 1 else np.repeat(np.arange(len(counts)) * dimension, counts) + columns)
    return SparseVectors._made(ends, columns[order].astype(np.int32), weights[order], dimension, None)


def _cut(indices: Int64s, values: Float64s, cut: Cut, purse: Purse | None) -> tuple[Int64s, Float32s, Int64s]:
    """The dimensions and weights that are kept, one row after the other, and how many of each row, (b,)."""
    if (loops := LOOPS.get(0)) is not None:
        counts, columns = np.empty(len(values), np.int64), np.empty(values.size, np.int64)
        weights = np.empty(values.size, np.float32)
        costs = (np.empty(0), 0.0, 0.0) if purse is None else (purse.prices, purse.spend, purse.dear)
        end = loops.cut(indices, values, cut.threshold, cut.sixteenths, *costs, counts, columns, weights)
        return columns[:end], weights[:end], counts
    kept = strengths(values, cut.threshold)
    if purse is not None:
        kept &= purse.bought(indices, values)
    values = np.where(kept, values, 0)
    values[values[:, 0] <= 0, 0] = 1  # nothing fired: the dimension that came nearest
    strong = _power(values, cut.sixteenths)
    strong /= np.sqrt(np.cumsum(np.square(strong), axis=1)[:, -1:])  # cumsum adds from left to right, always
    return indices[kept], strong[kept].astype(np.float32), kept.sum(axis=1)


def _power(values: Float64s, sixteenths: int) -> Float64s:
    """values ** (sixteenths / 16) by square roots, which every machine rounds alike; `pow` is not."""
    result = np.ones_like(values) if sixteenths < 16 else values.copy()
    root = values
    for bit in (8, 4, 2, 1) if sixteenths % 16 else ():
        root = np.sqrt(root)
        if sixteenths % 16 & bit:
            result = result * root
    result[values == 0] = 0
    return result
