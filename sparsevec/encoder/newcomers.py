"""Documents that come after `refine`, each fitted alone to who asks near it, without torch: .4 ms, 1 ms without numba.

Refining taught every row that asks which of its candidates to prefer. Kept of it are some of those rows, their codes,
and for each the logarithm of two sums over its candidates, of what the dense vectors and of what the codes say. The
weights of a newcomer, on the dimensions that the head gives it, then solve a logistic regression: each of the rows that
ask near it should prefer it to its own candidates as much as the dense vectors do. Last, all weights are multiplied by
one factor, which keeps newcomers and fitted documents on one scale.

A row gives the same bits alone or in any batch, on any number of threads and any machine: weights, codes and what the
regression is off by are kept to fixed point, so that products and their sums are exact whatever the order (see
`encoder.head`), and the logistic function is a table.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sparsevec.dense import Dense
from sparsevec.encoder.head import LOOPS, Cut, Float64s, Projection, encoded
from sparsevec.encoder.recipe import NewcomerRecipe, spare
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["TENSORS", "WHOLE", "Newcomers", "packed", "shapes"]

TENSORS = ("asking_rows", "asking_sums", "asking_lengths", "asking_indices", "asking_values")
WHOLE = ("asking_lengths", "asking_indices")
"""of these, the tensors of whole numbers"""
_WEIGHT_BITS, _CODE_BITS, _OFF_BITS = 24, 20, 24  # 20 + 24 and nine of a sum of 512 make 53
_REACH, _STEPS = 16, 256  # of the table: beyond, nothing is learned; a step is off by a thousandth at most


class Newcomers:
    """Fits documents one by one to rows that ask, as `packed` keeps them.

    temperature: of the dense products in `asking_sums`; scale: of the sparse ones; factor: of the weights in the end.
    """

    def __init__(
        self,
        tensors: Mapping[str, Float32s],
        scale: float,
        temperature: float,
        factor: float,
        recipe: NewcomerRecipe,
    ) -> None:
        rows, sums, lengths, indices, values = (tensors[name] for name in TENSORS)
        self._scale, self._temperature, self._factor, self._recipe = scale, temperature, factor, recipe
        self._dense_sums, self._sparse_sums = sums.astype(np.float64)
        self._asking = Projection(rows, np.zeros(len(rows), np.float32), np.zeros(rows.shape[1], np.float32))
        order = np.argsort(indices, kind="stable")  # by dimension: who asks there, and how much
        self._askers = np.repeat(np.arange(len(rows)), lengths.astype(np.int64))[order]
        self._asked = _to_grid(values[order].astype(np.float64), _CODE_BITS)
        self._ends = np.searchsorted(indices[order], np.arange(int(indices.max(initial=-1)) + 2))

    def encoded(self, rows: Dense, head: Projection, cut: Cut, nnz: int) -> SparseVectors:
        """(n, columns) to codes of at most `nnz` weights, none of them empty. They start as the head's, and longer."""
        start = encoded(rows, head, Cut(nnz + spare(nnz), 0.0, cut.sixteenths))
        ends, number = start.indptr.tolist(), 0
        found = [(np.empty(0, np.int64), np.empty(0, np.float32))]
        for near, similar in self._asking.largest(rows, min(self._recipe.near, self._asking.dimension)):
            for askers, similarities in zip(near, similar, strict=True):
                own = slice(ends[number], ends[number + 1])
                weights = start.values[own].astype(np.float64)
                found.append(self._fitted(start.indices[own].astype(np.int64), weights, askers, similarities, nnz))
                number += 1
        indptr = np.cumsum([len(indices) for indices, _ in found])
        indices, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return SparseVectors(indptr, indices, values, head.dimension)

    def _fitted(
        self, dimensions: Int64s, weights: Float64s, askers: Int64s, similarities: Float64s, nnz: int
    ) -> tuple[Int64s, Float32s]:
        """The indices and values of one document: its strongest weights, ties to the lower dimension."""
        wanted = _sigmoid(similarities / self._temperature - self._dense_sums[askers])
        weights = self._solved(weights, dimensions, askers, wanted)
        kept = np.sort(np.argsort(-weights, kind="stable")[:nnz])
        kept = kept[weights[kept] > 0] if weights.any() else kept[:1]
        return dimensions[kept], np.maximum(self._factor * weights[kept], 2.0**-_CODE_BITS).astype(np.float32)

    def _solved(self, weights: Float64s, dimensions: Int64s, askers: Int64s, wanted: Float64s) -> Float64s:
        others, recipe = self._sparse_sums[askers], self._recipe
        if (loops := LOOPS.get()) is None:
            return self._regressed(weights, self._met(dimensions, askers), wanted, others)
        lists = self._ends, self._askers, self._asked, self._asking.dimension
        sums, adam = (wanted, others, self._scale, _TABLE, _STEPS), (recipe.steps, recipe.rate, *recipe.betas)
        loops.regressed(dimensions, *lists, askers, *sums, *adam, 2.0**_WEIGHT_BITS, 2.0**_OFF_BITS, weights)
        return weights

    def _met(self, dimensions: Int64s, askers: Int64s) -> Float64s:
        """What each of those who ask (a,) weighs those dimensions (k,): (k, a)."""
        places = np.full(self._asking.dimension, -1)
        places[askers] = np.arange(len(askers))
        starts, ends = self._ends.take([dimensions, dimensions + 1], mode="clip")
        lists = [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        at = np.concatenate([places[self._askers[one]] for one in lists])
        values = np.concatenate([self._asked[one] for one in lists])
        rows = np.repeat(np.arange(len(lists)), ends - starts)
        met, there = np.zeros((len(lists), len(askers))), at >= 0
        met[rows[there], at[there]] = values[there]
        return met

    def _regressed(self, weights: Float64s, met: Float64s, wanted: Float64s, others: Float64s) -> Float64s:
        """By Adam, in a fixed number of steps; no weight below zero."""
        recipe = self._recipe
        first, second, first_left, second_left = np.zeros(len(weights)), np.zeros(len(weights)), 1.0, 1.0
        weights = _to_grid(weights, _WEIGHT_BITS)
        for step in range(recipe.steps):
            off = _to_grid(_sigmoid(self._scale * (weights @ met) - others) - wanted, _OFF_BITS)
            slope = met @ off
            first_left, second_left = first_left * recipe.betas[0], second_left * recipe.betas[1]
            first += (1 - recipe.betas[0]) * (slope - first)
            second += (1 - recipe.betas[1]) * (slope * slope - second)
            stride = recipe.rate * (1 - step / recipe.steps) / (1 - first_left)
            weights = weights - stride * first / (np.sqrt(second / (1 - second_left)) + 1e-12)
            weights = _to_grid(np.maximum(weights, 0), _WEIGHT_BITS)
        return weights


def packed(rows: Float32s, sums: Float64s, codes: SparseVectors) -> dict[str, Float32s]:
    """`TENSORS`: unit rows (m, columns) that ask, their log sums (2, m), dense then sparse, and their codes."""
    made = rows, sums, codes.row_nnz, codes.indices, codes.values
    types = (np.float32, np.float32, np.int32, np.int32, np.float32)
    return {name: np.ascontiguousarray(array, kind) for name, array, kind in zip(TENSORS, made, types, strict=True)}


def shapes(asking: int, columns: int, weights: int) -> dict[str, tuple[int, ...]]:
    """Of the tensors; weights: of all codes together."""
    return dict(zip(TENSORS, ((asking, columns), (2, asking), (asking,), (weights,), (weights,)), strict=True))


def _to_grid(values: Float64s, bits: int) -> Float64s:
    grid: Float64s = np.rint(values * 2.0**bits)
    grid *= 2.0**-bits
    return grid


_TABLE = _to_grid(1 / (1 + np.exp(-np.arange(-_REACH * _STEPS, _REACH * _STEPS + 1) / _STEPS)), _OFF_BITS)


def _sigmoid(values: Float64s) -> Float64s:
    at = np.rint(np.clip(values, -_REACH, _REACH) * _STEPS).astype(np.int64)
    found: Float64s = _TABLE[at + _REACH * _STEPS]
    return found
