"""Makes a budget true on rows that were not trained on: finds the cut of documents and the purse of queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsevec.dense import Dense
from sparsevec.encoder.budget import least_cut
from sparsevec.encoder.head import Cut, Float64s, Projection, Purse, strengths
from sparsevec.encoder.recipe import CalibrationRecipe
from sparsevec.errors import InvalidInput
from sparsevec.vectors import Int64s

__all__ = ["document_cut", "query_purse"]

_ROUNDING = 1e-6  # of prices kept as float32


def document_cut(
    rows: Dense, projection: Projection, nnz: int, sixteenths: int, recipe: CalibrationRecipe | None = None
) -> Cut:
    """A cut that leaves `nnz` weights a row in the mean. Raises InvalidInput when too few activations are positive."""
    filled = (recipe or CalibrationRecipe()).filled
    _, values = _activations(rows, projection, min(4 * nnz, projection.dimension))
    for cap in range(nnz, values.shape[1] + 1):
        if float((values[:, :cap] > 0).sum(axis=1).mean()) >= filled * nnz:
            break
    else:
        found = float((values > 0).sum(axis=1).mean())
        raise InvalidInput(
            f"nnz={nnz} cannot be met: only {found:.1f} activations of a document are positive in the mean; "
            f"lower it to {max(1, int(found))}, or give more output dimensions"
        )
    threshold = least_cut(lambda t: float(strengths(values[:, :cap], t).sum(axis=1).mean()), nnz)
    return Cut(cap, threshold, sixteenths)


def query_purse(
    kinds: Sequence[Dense],
    projection: Projection,
    prices: Float64s,
    flops: float,
    sixteenths: int,
    query_nnz: int | None = None,
    recipe: CalibrationRecipe | None = None,
) -> tuple[Cut, Purse]:
    """The cut and the purse at which the first of `kinds`, (q, input_dim) rows each, spends `flops` in the mean.

    It is left with less where its purse would have to be much fuller than that: no query of any kind, seen or not, may
    spend more than a twenty-fifth above. prices (dimension,): how many documents, of one, use each dimension. At most
    `query_nnz` weights a query. Raises InvalidInput when one weight a query is more than `flops`.
    """
    recipe = recipe or CalibrationRecipe()
    paid = int(recipe.longest * flops * projection.dimension / prices.sum()) + 8
    longest = min(projection.dimension, paid if query_nnz is None else query_nnz)
    found = [_activations(rows, projection, longest) for rows in kinds]

    def spent(spend: float) -> float:
        purse = Purse(prices, spend)
        indices, values = found[0]
        return float((prices[indices] * purse.bought(indices, values)).sum(axis=1).mean())

    if (least := spent(0)) > flops * (1 + _ROUNDING):
        raise InvalidInput(
            f"flops={flops:g} cannot be met: the strongest weight of a query alone costs {least:.3g} in the mean, for "
            "so many documents share it; raise flops above that, or leave out documents that are the same"
        )
    fullest = recipe.other_kinds * flops  # what a query of any kind may spend at most, so no kind spends more
    purse = Purse(prices, fullest * (1 - least_cut(lambda t: spent(fullest * (1 - t)), flops)))
    most = max(int(purse.bought(*of_a_kind).sum(axis=1).max()) for of_a_kind in found)
    return Cut(min(longest, most + most // 4 + 1), 0.0, sixteenths), purse


def _activations(rows: Dense, projection: Projection, m: int) -> tuple[Int64s, Float64s]:
    parts = list(projection.largest(rows, m))
    return np.concatenate([indices for indices, _ in parts]), np.concatenate([values for _, values in parts])
