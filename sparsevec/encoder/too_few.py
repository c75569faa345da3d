"""Too few documents to learn from: codes that need no learning, each document a dimension of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sparsevec.dense import Dense, unit_rows
from sparsevec.encoder.calibration import document_cut
from sparsevec.encoder.head import encoded
from sparsevec.encoder.model import Model
from sparsevec.encoder.recipe import CalibrationRecipe, SecondLookRecipe
from sparsevec.encoder.towers import Task, Towers, document_side, purchased
from sparsevec.encoder.untrained import decoder, own_dimensions
from sparsevec.measure.cost import usage
from sparsevec.measure.recall import evaluate
from sparsevec.progress import Whole

__all__ = ["unlearned"]


def unlearned(task: Task, documents: Dense, queries: Dense, asked: str, whole: Whole) -> Model:
    """A dimension of its own for each of a few documents, or none. queries: the sample, or the documents as queries.

    To find 20 of 40 documents takes an F of one half, whatever was asked for: that much it may be, and costs nothing
    while they are so few. Where there are none, all come later, and the budget holds for them.
    """
    recipe, limits = CalibrationRecipe(), task.limits
    if len(documents):
        touched = min(limits.nnz, recipe.least_touched / len(documents))
        limits = limits._replace(flops=max(limits.flops, touched))
    units = unit_rows(documents)
    tensors: dict[str, Any] = own_dimensions(units, task.output_dim, task.seed)
    projection = document_side(tensors)
    anything = np.random.default_rng([task.seed, 4]).standard_normal((recipe.usage_rows, units.shape[1]))
    some = documents if len(documents) else anything
    cut = document_cut(some, projection, limits.nnz, recipe.refined_sixteenths, recipe)
    kinds = [queries if len(queries) else anything]
    towers = purchased(tensors, cut, encoded(some, projection, cut), kinds, recipe.refined_sixteenths, limits)
    codes = encoded(documents, projection, cut)
    look = decoder(codes, units, tensors["mean"]) if len(codes) else np.zeros_like(tensors["weights"])
    towers = replace(towers, tensors=tensors | {"second_look": look})
    itself = np.arange(len(documents)) if asked == "documents" else None
    if len(documents) > 1 and len(queries):
        figures = evaluate(documents, queries, codes, towers.asked[0], itself=itself).model_dump()
    else:  # nobody can be found
        used = usage(towers.codes)
        figures = _nothing_measured(task, towers, float(usage(towers.asked[0]) @ used), len(documents))
    figures |= {"asked": asked, "too_few": True, "allowed_flops": limits.flops, "seconds": whole.seconds}
    return towers.model(task, "untrained", figures, SecondLookRecipe().first)


def _nothing_measured(task: Task, towers: Towers, spent: float, documents: int) -> dict[str, Any]:
    nnz = towers.codes.nnz / len(towers.codes)
    return {
        "documents": documents,
        "queries": 0,
        "recall_10": 0.0,
        "recall_10_at_100": 0.0,
        "active_dims": nnz,
        "query_active_dims": towers.asked[0].nnz / len(towers.asked[0]),
        "sparsity_ratio": 1 - nnz / task.output_dim,
        "flops": spent,
        "r_sub": 1.0,
        "dead_dims": 0,
        "max_document_frequency": 0.0,
        "bytes": 8 * round(nnz),
        "dense_bytes": 4 * task.input_dim,
    }
