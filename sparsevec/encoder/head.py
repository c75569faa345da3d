"""The head: dense rows in, sparse rows out, the same bits whatever the batch, the order, the threads or the BLAS.

A floating sum depends on its order, and a BLAS chooses the order by batch and threads. So rows and weights are rounded
to fixed point first, coarse enough that every product and every partial sum is a whole number below 2**53: float64 then
adds exactly, and any order gives the same bits. What follows (ReLU, roots, sums along a row in a fixed order) uses only
operations that IEEE 754 rounds correctly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsevec.dense import Dense, blocks, largest
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Cut", "Float64s", "Projection", "encoded", "strengths"]

Float64s = npt.NDArray[np.float64]

_ROW_BITS = 24  # a unit row is kept to 2**-24
_NORM_BITS = 23  # squares of 23-bit integers add exactly in int64 up to 2**17 columns
_STRONGEST = 32  # a cut is relative to the length of this many largest activations


class Projection:
    """z = W (unit(x) - mean) + b, exactly, for weights W (dimension, input_dim), b (dimension,), mean (input_dim,)."""

    def __init__(self, weights: Float32s, bias: Float32s, mean: Float32s) -> None:
        longest = float(np.sqrt(np.square(weights, dtype=np.float64).sum(axis=1).max(initial=1e-30)))
        # |partial sum| <= |unit(x) - mean| * |W_j| <= 2 * longest by Cauchy-Schwarz; one bit is left for the rounding
        weight_bits = 51 - _ROW_BITS - math.frexp(2 * longest)[1]
        self._weights = np.rint(np.ldexp(weights.astype(np.float64), weight_bits)).T
        self._scale = 2.0 ** -(_ROW_BITS + weight_bits)
        self._bias = bias.astype(np.float64)
        self._mean = mean.astype(np.float64)
        self.dimension = len(bias)

    def __call__(self, rows: Dense) -> Float64s:
        """(b, input_dim), finite and not zero, to activations (b, dimension)."""
        centred = _unit(rows) - self._mean
        activations = np.rint(np.ldexp(centred, _ROW_BITS)) @ self._weights
        activations *= self._scale
        activations += self._bias
        return activations


def _unit(rows: Dense) -> Float64s:
    """Rows over their length; the length is a sum of whole numbers, so no order of adding changes it."""
    rows = rows.astype(np.float64)
    _, exponent = np.frexp(np.abs(rows).max(axis=1))
    fixed = np.rint(np.ldexp(rows, _NORM_BITS - exponent[:, None]))
    lengths = np.sqrt(np.square(fixed.astype(np.int64)).sum(axis=1).astype(np.float64))
    units: Float64s = fixed / lengths[:, None]
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


def encoded(rows: Dense, projection: Projection, cut: Cut) -> SparseVectors:
    """Each row of (n, input_dim) as its cut activations, of length 1; no row is empty."""
    cap = min(cut.cap, projection.dimension)
    parts = [_sparse(*largest(projection(block), cap), cut, projection.dimension) for _, block in blocks(rows, 512)]
    if not parts:
        return SparseVectors([0], [], np.empty(0, np.float32), projection.dimension)
    return SparseVectors.concat(parts)


def strengths(values: Float64s, threshold: float) -> npt.NDArray[np.bool_]:
    """Which of the m largest activations (b, m), best first, survive `threshold`; the best one always does."""
    positive = np.maximum(values, 0)
    length = np.sqrt(np.cumsum(np.square(positive[:, :_STRONGEST]), axis=1)[:, -1:])
    kept: npt.NDArray[np.bool_] = (positive > 0) & (positive > threshold * length)
    kept[:, 0] = True
    return kept


def _sparse(indices: Int64s, values: Float64s, cut: Cut, dimension: int) -> SparseVectors:
    kept = strengths(values, cut.threshold)
    values = np.where(kept, values, 0)
    values[values[:, 0] <= 0, 0] = 1  # nothing fired: the dimension that came nearest
    weights = _power(values, cut.sixteenths)
    weights /= np.sqrt(np.cumsum(np.square(weights), axis=1)[:, -1:])  # cumsum adds from left to right, always
    order = np.argsort(np.where(kept, indices, dimension), axis=1, kind="stable")
    kept = np.take_along_axis(kept, order, axis=1)
    columns = np.take_along_axis(indices, order, axis=1)[kept]
    strength = np.take_along_axis(weights, order, axis=1)[kept].astype(np.float32)
    return SparseVectors(np.concatenate(([0], np.cumsum(kept.sum(axis=1)))), columns, strength, dimension)


def _power(values: Float64s, sixteenths: int) -> Float64s:
    """values ** (sixteenths / 16) by square roots, which every machine rounds alike; `pow` is not."""
    result = np.ones_like(values) if sixteenths < 16 else values.copy()
    root = values
    for bit in (8, 4, 2, 1):
        root = np.sqrt(root)
        if sixteenths % 16 & bit:
            result = result * root
    result[values == 0] = 0
    return result
