"""Tensors of an encoder with the cuts that make a budget true: what every stage ends in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsevec.dense import Dense
from sparsevec.encoder.budget import Limits
from sparsevec.encoder.calibration import document_cut, query_purse
from sparsevec.encoder.config import Config, CutConfig, Figures, Stage
from sparsevec.encoder.figures import Judge
from sparsevec.encoder.head import Cut, Projection, Purse, encoded
from sparsevec.encoder.model import Model, query_projection
from sparsevec.encoder.recipe import CalibrationRecipe
from sparsevec.encoder.split import Split
from sparsevec.encoder.store import fingerprint
from sparsevec.measure.cost import usage
from sparsevec.similarity import Similarity
from sparsevec.vectors import SparseVectors

__all__ = ["Task", "Towers", "calibrated", "document_side", "purchased"]


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learned: of whom, to what."""

    similarity: Similarity
    input_dim: int
    output_dim: int
    seed: int
    limits: Limits
    residual_bytes: int | None
    device: str
    """of torch"""


@dataclass(frozen=True, slots=True)
class Towers:
    """Tensors with the cuts that make the budget true, and the codes of the judge's documents and queries."""

    tensors: dict[str, Any]
    documents: Cut
    queries: Cut
    purse: Purse
    codes: SparseVectors
    asked: list[SparseVectors]
    """one batch a kind"""

    def model(self, task: Task, stage: Stage, figures: dict[str, Any], first: float | None, name: str = "") -> Model:
        tensors = self.tensors | task.similarity.tensors | {"prices": self.purse.prices.astype(np.float32)}
        limits = task.limits
        asked = self.asked[0].nnz / max(1, len(self.asked[0]))
        short = limits.query_nnz is not None and asked > 0.95 * limits.query_nnz
        config = Config(
            input_dim=task.input_dim,
            output_dim=task.output_dim,
            seed=task.seed,
            nnz=limits.nnz,
            flops=limits.flops,
            query_nnz=limits.query_nnz,
            similarity=task.similarity.near,
            stage=stage,
            documents=CutConfig.of(self.documents),
            queries=CutConfig.of(self.queries, self.purse),
            figures=Figures(**({"allowed_flops": None if short else limits.flops} | figures)),
            second_look=first,
            fingerprint=name or fingerprint(tensors),
        )
        return Model(config, tensors)


def purchased(
    tensors: dict[str, Any], cut: Cut, codes: SparseVectors, kinds: list[Dense], sixteenths: int, limits: Limits
) -> Towers:
    """Where the documents' codes are there: with the purse that `limits` leave for queries of each of the kinds."""
    prices = usage(codes).astype(np.float32).astype(np.float64)  # as they are kept
    asked_by = query_projection(tensors)
    queries, purse = query_purse(kinds, asked_by, prices, limits.flops, sixteenths, limits.query_nnz)
    asked = [encoded(rows, asked_by, queries, purse) for rows in kinds]
    return Towers(tensors, cut, queries, purse, codes, asked)


def calibrated(tensors: dict[str, Any], rows: Split, judge: Judge, limits: Limits) -> Towers:
    """With the cut of documents, found on those held out, and the purse."""
    recipe, projection = CalibrationRecipe(), document_side(tensors)
    cut = document_cut(rows.documents_to_measure(), projection, limits.nnz, recipe.document_sixteenths, recipe)
    kinds = [asking.rows for asking in judge.kinds]
    codes = encoded(judge.documents, projection, cut)
    return purchased(tensors, cut, codes, kinds, recipe.query_sixteenths, limits)


def document_side(tensors: dict[str, Any]) -> Projection:
    """What makes activations of documents."""
    return Projection(tensors["weights"], tensors["bias"], tensors["mean"])
