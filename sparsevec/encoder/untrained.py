"""Codes that nobody learned: for collections that are too small to learn from, and to be beaten by what was learned.

Directions are those of documents, then random mixtures of them, then, where there are none, any. In a small collection
each document has a dimension of its own, which it and its copies fire, and which a query fires by its similarity: so
the few that are there are found nearly as the dense rows are. Later documents are found by the mixtures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sparsevec.dense import distinct
from sparsevec.encoder.split import all_alike
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["decoder", "own_dimensions", "random_directions"]

_MIXED = 2000  # documents that mixtures are made of
_COPY = 0.9  # a document fires the dimension of one that is so much like it, and less where less
_SHARP = 10.0  # times what is above that: of itself, its own length
_SURE = 4.0  # a query's weight at a document's own dimension over that at a mixture; half of it finds .03 less of 82
_RIDGE = 1e-3


def random_directions(units: Float32s, dimension: int, seed: int) -> dict[str, Float32s]:
    """`mean`, and `weights` (dimension, d) for both sides: each of unit rows (n, d), less their mean, or a mixture."""
    generator = np.random.default_rng([seed, 3])
    mean, centred = _centred(units)
    different = centred[distinct(units)]  # equal rows would all have the same direction
    picked = different[generator.permutation(len(different))[:dimension]]
    mixed = _mixtures(centred, dimension - len(picked), generator)
    weights = np.concatenate([_unit(picked), mixed]).astype(np.float32)
    return _tensors(mean, weights, np.zeros(dimension), weights, np.zeros(dimension))


def own_dimensions(units: Float32s, dimension: int, seed: int) -> dict[str, Float32s]:
    """The first n dimensions are the documents' own, half of all at most; the others are mixtures of them."""
    generator = np.random.default_rng([seed, 3])
    mean, centred = _centred(units)
    own = centred[: dimension // 2].astype(np.float64)
    own = own[np.linalg.norm(own, axis=1) > 0]
    lengths, directions = np.linalg.norm(own, axis=1), _unit(own)
    mixed = _mixtures(centred, dimension - len(own), generator)
    bias = np.zeros(dimension)
    bias[: len(own)] = -_SHARP * _COPY * lengths
    documents, queries = (np.concatenate([times * directions, mixed]) for times in (_SHARP, _SURE))
    return _tensors(mean, documents, bias, queries, np.zeros(dimension))


def decoder(codes: SparseVectors, units: Float32s, mean: Float32s) -> Float32s:
    """(dimension, d): the ridge regression of unit rows, less their mean, on their few codes."""
    stored = codes.to_scipy()
    gram = (stored @ stored.T).toarray().astype(np.float64)
    solved = np.linalg.solve(gram + _RIDGE * np.eye(len(units)), units.astype(np.float64) - mean)
    return np.asarray(stored.T @ solved, np.float32)


def _centred(units: Float32s) -> tuple[Float32s, Float32s]:
    equal = not len(units) or all_alike(units)  # which would be nothing, less their mean
    mean = np.zeros(units.shape[1], np.float32) if equal else units.mean(axis=0)
    return mean, units - mean


def _mixtures(centred: Float32s, count: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Random sums of the rows, and a little of everything: directions with the spread of the rows themselves."""
    some = centred[generator.permutation(len(centred))[:_MIXED]].astype(np.float64)
    anywhere = generator.standard_normal((count, centred.shape[1])) / np.sqrt(centred.shape[1])
    spread = np.sqrt(np.square(some).sum(axis=1).mean()) if len(some) else 0.0
    if not spread:
        return _unit(anywhere)
    mixed = generator.standard_normal((count, len(some))) @ some / (spread * np.sqrt(len(some)))
    return _unit(mixed + anywhere)


def _unit(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    wide = rows.astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30)
    return wide


def _tensors(
    mean: Float32s,
    weights: npt.NDArray[np.floating],
    bias: npt.NDArray[np.floating],
    query_weights: npt.NDArray[np.floating],
    query_bias: npt.NDArray[np.floating],
) -> dict[str, Float32s]:
    found = {"mean": mean, "weights": weights, "bias": bias, "query_weights": query_weights, "query_bias": query_bias}
    return {name: tensor.astype(np.float32) for name, tensor in found.items()}
