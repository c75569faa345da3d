"""Makes a budget true on rows that were not trained on: finds the cuts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sparsevec.dense import Dense
from sparsevec.encoder.budget import least_cut
from sparsevec.encoder.head import Cut, Float64s, Projection, strengths
from sparsevec.encoder.recipe import CalibrationRecipe
from sparsevec.errors import TrainingCollapsed
from sparsevec.vectors import Int64s

__all__ = ["document_cut", "query_cut"]


def document_cut(
    rows: Dense, projection: Projection, nnz: int, sixteenths: int, recipe: CalibrationRecipe | None = None
) -> Cut:
    """A cut that leaves `nnz` weights a row in the mean; raises TrainingCollapsed when too few are positive."""
    filled = (recipe or CalibrationRecipe()).filled
    _, values = _activations(rows, projection, min(4 * nnz, projection.dimension))
    for cap in range(nnz, values.shape[1] + 1):
        if float((values[:, :cap] > 0).sum(axis=1).mean()) >= filled * nnz:
            break
    else:
        found = float((values > 0).sum(axis=1).mean())
        raise TrainingCollapsed(
            f"only {found:.1f} activations of a document are positive, {nnz} weights were asked for"
        )
    threshold = least_cut(lambda t: float(strengths(values[:, :cap], t).sum(axis=1).mean()), nnz)
    return Cut(cap, threshold, sixteenths)


def query_cut(
    rows: Dense,
    projection: Projection,
    usage: npt.NDArray[np.float64],
    flops: float,
    sixteenths: int,
    recipe: CalibrationRecipe | None = None,
) -> Cut:
    """The cut that spends `flops` against documents that use each dimension as often as `usage` (dimension,) says."""
    allowed = (recipe or CalibrationRecipe()).margin * flops
    longest = min(
        projection.dimension, int(4 * flops * projection.dimension / usage.sum()) + 8
    )  # 4 times the mean or so
    indices, values = _activations(rows, projection, longest)
    prices = usage[indices]  # (b, longest)
    threshold = least_cut(lambda t: float((prices * strengths(values, t)).sum(axis=1).mean()), allowed)
    most = int(strengths(values, threshold).sum(axis=1).max())
    return Cut(min(longest, most + most // 4), threshold, sixteenths)


def _activations(rows: Dense, projection: Projection, m: int) -> tuple[Int64s, Float64s]:
    parts = list(projection.largest(rows, m))
    return np.concatenate([indices for indices, _ in parts]), np.concatenate([values for _, values in parts])
