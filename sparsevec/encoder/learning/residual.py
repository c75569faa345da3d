"""Learns residual codes: a decoder, a basis, and codewords where the variance is.

The decoder is the head's own weights, times one factor, plus the ridge regression of what these leave: far from the
documents that were there it falls back on the head, so that later ones are decoded too. The basis makes an error count
for what queries make it count, E (q . e)^2 = |e|^2 in it, and is principal for the residuals. Each byte has a group of
components whose bits, by rate-distortion theory, come to about eight; its 256 codewords start as a product of scalar
quantisers (S. P. Lloyd, 1982; levels of each by greedy allocation) and are then moved to the means of what is nearest.
"""

from __future__ import annotations

import heapq

import numpy as np
import scipy.sparse as sp

from sparsevec.encoder.head import Float64s
from sparsevec.encoder.learning.decoder import ridge_decoder
from sparsevec.encoder.recipe import ResidualRecipe
from sparsevec.encoder.residual import HEADER, TENSORS
from sparsevec.progress import Whole
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["learned_codewords", "learned_residual_codes"]

_NORMAL = (1.0, 0.3634, 0.1175, 0.03454, 0.009497, 0.002499, 0.000642, 0.000163, 0.0000411)
"""Mean squared error of the best scalar quantiser of a normal variable, 0 to 8 bits (J. Max, 1960)."""


def learned_residual_codes(
    documents: Float32s,
    codes: SparseVectors,
    queries: Float32s,
    head: tuple[Float32s, Float32s],
    width: int,
    recipe: ResidualRecipe,
    seed: int,
    whole: Whole,
) -> tuple[dict[str, Float32s], tuple[int, ...]]:
    """The tensors of `encoder.residual` and the sizes of the groups, for codes of `width` bytes.

    documents (n, columns), queries (q, columns): unit rows; codes (n, dimension), as they are stored; head: the
    document side's weights (dimension, columns) and mean (columns,).
    """
    weights, mean = head
    stored, generator = codes.to_scipy(), np.random.default_rng([seed, 3])
    whole.at("residual", 0, 3, "residual codes: learning a decoder")
    decoder = _decoder(stored, documents - mean, weights, recipe)
    residual = documents - mean - np.asarray(stored @ decoder)
    whole.at("residual", 1, 3, "residual codes: finding where the variance is")
    basis, asked = _basis(residual, queries, recipe)
    components = residual @ basis.T
    lengths = np.linalg.norm(components, axis=1)
    gains = np.geomspace(max(lengths.min() / 2, 1e-6), 3 * max(lengths.max(), 1e-6), 256)
    shaped = components / np.maximum(lengths, 1e-30)[:, None]
    whole.at("residual", 2, 3, "residual codes: placing codewords")
    some = shaped[generator.permutation(len(shaped))[: recipe.rows]]
    groups = _groups(np.square(shaped).mean(axis=0), width - HEADER, recipe.weak)
    codewords = np.concatenate([learned_codewords(some[:, group], recipe) for group in groups])
    order = np.concatenate(groups)
    whole.at("residual", 3, 3)
    made = (decoder, basis[order], asked[order], codewords, gains)
    tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in zip(TENSORS, made, strict=True)}
    return tensors, tuple(len(group) for group in groups)


def _decoder(stored: sp.csr_array, rows: Float32s, weights: Float32s, recipe: ResidualRecipe) -> Float32s:
    by_head: Float32s = np.asarray(stored @ weights)
    factor = np.float32((by_head * rows).sum() / max(float(np.square(by_head).sum()), 1e-30))
    left: Float32s = rows - factor * by_head
    decoder: Float32s = factor * weights + ridge_decoder(stored, left, recipe.ridge, recipe.decoder_steps)
    return decoder


def _basis(residual: Float32s, queries: Float32s, recipe: ResidualRecipe) -> tuple[Float32s, Float32s]:
    """T and the matrix that meets it, U with U q . T r = q . r: both (columns, columns), strongest component first."""
    columns = residual.shape[1]
    asked = queries.T.astype(np.float64) @ queries
    asked *= columns / np.trace(asked)
    counts, axes = np.linalg.eigh(asked + recipe.unasked * np.eye(columns))
    there, back = axes * np.sqrt(counts), axes / np.sqrt(counts)
    seen = residual @ there
    _, turn = np.linalg.eigh(seen.T @ seen)
    return (there @ turn[:, ::-1]).T.astype(np.float32), (back @ turn[:, ::-1]).T.astype(np.float32)


def _groups(variances: Float64s, count: int, weak: float) -> list[list[int]]:
    """`count` groups of components that need about as many bits each; strong ones first in each.

    Bits by reverse water-filling, 8 a group in all. Components a little below the water share a codeword for nothing.
    """
    water = _water(variances, 8 * count)
    bits = np.maximum(0.5 * np.log2(np.maximum(variances, 1e-30) / water), 0) + 1e-3
    order = np.argsort(-variances, kind="stable")
    used = max(count, int((variances > weak * water).sum()))
    groups: list[list[int]] = [[] for _ in range(count)]
    loads = [(0.0, group) for group in range(count)]
    for component in order[:used].tolist():
        load, group = heapq.heappop(loads)
        groups[group].append(component)
        heapq.heappush(loads, (load + float(bits[component]), group))
    return groups


def _water(variances: Float64s, bits: float) -> float:
    """The distortion of each component when all of them together get `bits`."""
    low, high = 0.0, max(float(variances.max()), 1e-30)
    for _ in range(60):
        middle = (low + high) / 2
        spent = 0.5 * np.log2(np.maximum(variances / middle, 1)).sum()
        low, high = (middle, high) if spent > bits else (low, middle)
    return high


def learned_codewords(rows: Float64s, recipe: ResidualRecipe) -> Float64s:
    """Of rows (n, components) of one group: (components, 256)."""
    words = _product([_levels(column, bits) for column, bits in zip(rows.T, _shares(rows), strict=True)])
    if rows.shape[1] > 1 and len(rows) >= recipe.least_rows:  # fewer would be learned by heart
        for _ in range(recipe.moves):
            nearest = (rows @ words - np.square(words).sum(axis=0) / 2).argmax(axis=1)
            counts = np.bincount(nearest, minlength=256)
            sums = np.stack([np.bincount(nearest, column, minlength=256) for column in rows.T])
            words = np.where(counts > 0, sums / np.maximum(counts, 1), words)
    return words


def _shares(rows: Float64s) -> list[int]:
    """Bits of each component, eight in all: each to the one whose error falls most."""
    variances, bits = np.square(rows).mean(axis=0), [0] * rows.shape[1]
    for _ in range(8):
        gains = [v * (_NORMAL[b] - _NORMAL[b + 1]) for v, b in zip(variances, bits, strict=True)]
        bits[int(np.argmax(gains))] += 1
    return bits


def _levels(column: Float64s, bits: int) -> Float64s:
    """Lloyd's quantiser of one component, 2**bits levels, ascending."""
    count, values = 2**bits, np.sort(column.astype(np.float64))
    if count == 1:
        return np.zeros(1)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    levels = np.quantile(values, (np.arange(count) + 0.5) / count)
    levels = levels.mean() + 1.2 * (levels - levels.mean())  # tails need more than their share: faster to the same end
    for _ in range(30):
        borders = np.concatenate(([0], np.searchsorted(values, (levels[1:] + levels[:-1]) / 2), [len(values)]))
        counts = np.diff(borders)
        levels = np.where(counts > 0, np.diff(sums[borders]) / np.maximum(counts, 1), levels)
    return np.sort(levels)


def _product(levels: list[Float64s]) -> Float64s:
    """Every combination of levels, of which there are 256: (components, 256), the last component fastest."""
    repeats, each = [], 256
    for level in levels:
        each //= len(level)
        repeats.append(each)
    return np.stack([np.resize(np.repeat(level, each), 256) for level, each in zip(levels, repeats, strict=True)])
