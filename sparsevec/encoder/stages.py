"""What `fit` and `refine` do, stage after stage: learn, make the budget true, compare with less learning, measure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sparsevec.dense import Dense, unit_rows
from sparsevec.encoder import welcome
from sparsevec.encoder.budget import Limits
from sparsevec.encoder.calibration import document_cut, query_purse
from sparsevec.encoder.figures import Judge, agreement, spacing
from sparsevec.encoder.head import Cut, Float64s, Projection, Purse, encoded
from sparsevec.encoder.model import Model, query_projection
from sparsevec.encoder.recipe import (
    CalibrationRecipe,
    NewcomerRecipe,
    ResidualRecipe,
    SecondLookRecipe,
    head_recipe,
    refine_recipe,
    tempered,
)
from sparsevec.encoder.residual import name_of
from sparsevec.encoder.similarity import Similarity
from sparsevec.encoder.split import Split
from sparsevec.encoder.store import Config, CutConfig, Figures, NewcomersConfig, ResidualConfig, Stage, fingerprint
from sparsevec.encoder.untrained import decoder, own_dimensions, random_directions
from sparsevec.errors import ClientMissing
from sparsevec.measure.cost import usage
from sparsevec.measure.recall import evaluate
from sparsevec.progress import Whole
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["Task", "fitted", "learning", "recalibrated", "refined", "residual_codes", "unlearned"]


@dataclass(frozen=True, slots=True)
class Task:
    """Of whom, to what."""

    similarity: Similarity
    input_dim: int
    output_dim: int
    seed: int
    limits: Limits
    residual_bytes: int | None
    device: str
    """of torch"""


@dataclass(frozen=True, slots=True)
class _Towers:
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


def _purchased(
    tensors: dict[str, Any], cut: Cut, codes: SparseVectors, kinds: list[Dense], sixteenths: int, limits: Limits
) -> _Towers:
    """The documents' codes are there; finds the purse."""
    prices = usage(codes).astype(np.float32).astype(np.float64)  # as they are kept
    asked_by = query_projection(tensors)
    queries, purse = query_purse(kinds, asked_by, prices, limits.flops, sixteenths, limits.query_nnz)
    asked = [encoded(rows, asked_by, queries, purse) for rows in kinds]
    return _Towers(tensors, cut, queries, purse, codes, asked)


def _calibrated(tensors: dict[str, Any], rows: Split, judge: Judge, limits: Limits) -> _Towers:
    recipe, projection = CalibrationRecipe(), _document_side(tensors)
    cut = document_cut(rows.documents_to_measure(), projection, limits.nnz, recipe.document_sixteenths, recipe)
    kinds = [asking.rows for asking in judge.kinds]
    codes = encoded(judge.documents, projection, cut)
    return _purchased(tensors, cut, codes, kinds, recipe.query_sixteenths, limits)


# ---- fit


def fitted(task: Task, rows: Split, whole: Whole, checkpoint: Path | None) -> Model:
    """The head, or directions that nobody learned where these do better on rows that were not learned from."""
    whole.at("neighbours", 0, 1, "finding the nearest documents of each row")
    documents, limits = rows.documents_to_train_on(), task.limits
    neighbours = head_recipe(len(documents), task.output_dim, limits.nnz).neighbours
    learn, asking = learning(), np.arange(len(documents))
    sample = rows.queries_to_train_on()
    corpus = learn.new_corpus(documents, rows.documents_that_ask(), asking, sample, neighbours, task.device)
    whole.at("neighbours", 1, 1)
    tensors = learn.learned_towers(corpus, task.output_dim, limits, task.seed, whole, checkpoint)

    whole.at("budget", 0, 1, "calibrating the budget")
    judge = Judge.of(rows, CalibrationRecipe().most_measured)
    head = _calibrated(tensors, rows, judge, limits)
    some = judge.units[:: spacing(len(judge.units), CalibrationRecipe().usage_rows)]
    plain = _calibrated(random_directions(some, task.output_dim, task.seed), rows, judge, limits)
    ours, theirs = (float(judge.recall_10(side.codes, side.asked[0]).mean()) for side in (head, plain))
    shared = None if sample is None else agreement(rows.documents_that_ask(), sample)
    kept, figures = head, {"untrained_recall_10": theirs, "head_recall_10": ours, "sample_agreement": shared}
    stage: Stage = "head"
    if theirs > ours:
        kept, stage = plain, "untrained"
        figures |= {"head_recall_10": theirs, "learned_recall_10": ours}
    whole.at("budget", 1, 1)
    trained = encoded(rows.documents[rows.trained_documents], _document_side(kept.tensors), kept.documents)
    kept, first = _with_second_look(kept, rows, trained, task, whole, checkpoint, "second look")
    whole.at("measure", 1, 2, "measuring on queries that were not learned from")
    return _measured(kept, judge, rows, trained, task, stage, figures, first, whole)


def recalibrated(model: Model, task: Task, rows: Split, whole: Whole) -> Model:
    """The same head and query tower with the cut and the purse of other limits, and a second look learned beside the
    weights that documents then have: one that was learned beside half as many orders candidates far worse."""
    whole.at("budget", 0, 1, "calibrating the budget")
    judge = Judge.of(rows, CalibrationRecipe().most_measured)
    names = ("mean", "weights", "bias", "query_weights", "query_bias")
    made = _calibrated({name: model.tensors[name] for name in names if name in model.tensors}, rows, judge, task.limits)
    whole.at("budget", 1, 1)
    trained = encoded(rows.documents[rows.trained_documents], _document_side(made.tensors), made.documents)
    made, first = _with_second_look(made, rows, trained, task, whole, None, "second look")
    config, more = model.config, {"seconds": model.config.figures.seconds}
    found = _measured(made, judge, rows, trained, task, config.stage, more, first, whole, config.fingerprint)
    learned = config.learned_nnz or config.nnz
    return Model(found.config.model_copy(update={"learned_nnz": learned}), found.tensors)


def _measured(
    kept: _Towers,
    judge: Judge,
    rows: Split,
    trained: SparseVectors,
    task: Task,
    stage: Stage,
    more: dict[str, Any],
    first: float,
    whole: Whole,
    name: str = "",
) -> Model:
    seconds = more.pop("seconds", 0)
    figures = judge.figures(kept.codes, kept.asked) | more | {"seconds": seconds + whole.seconds}
    model = kept.model(task, stage, figures, first, name)
    again = judge.second_look(kept.codes, kept.asked[0], model.second_looks(judge.first.rows, kept.asked[0]))
    model = _with_figure(model, "second_look_recall_10", again)
    model = _with_residual(model, task, rows, trained, (judge, kept), whole)
    whole.at("measure", 2, 2, str(model.config.figures))
    return model


def _with_figure(model: Model, name: str, recall: Float64s) -> Model:
    figures = model.config.figures.model_copy(update={name: float(recall.mean())})
    return Model(model.config.model_copy(update={"figures": figures}), model.tensors)


def _with_residual(
    model: Model, task: Task, rows: Split, codes: SparseVectors, measured: tuple[Judge, _Towers], whole: Whole
) -> Model:
    """The same model with residual codes, learned from the codes of the trained documents."""
    if task.residual_bytes is None:
        return model
    documents, sample, recipe = rows.documents_to_train_on(), rows.queries_to_train_on(), ResidualRecipe()
    head, asking = (model.tensors["weights"], model.tensors["mean"]), sample
    if asking is None:
        asking = rows.documents_that_ask()
    learned, kept = residual_codes(documents, codes, asking, head, task.residual_bytes, task.seed, whole)
    coded = Model(model.config.model_copy(update={"residual": kept}), model.tensors | learned)
    judge, towers = measured
    return _with_figure(
        coded, "residual_recall_10", judge.residual(coded, towers.codes, towers.asked[0], recipe.candidates)
    )


def residual_codes(
    documents: Float32s,
    codes: SparseVectors,
    asking: Float32s,
    head: tuple[Float32s, Float32s],
    width: int,
    seed: int,
    whole: Whole,
) -> tuple[dict[str, Float32s], ResidualConfig]:
    """Of unit rows (n, columns), their codes and who asks (q, columns); head: its weights and its mean."""
    learn = learning("residual").learned_residual_codes
    learned, groups = learn(documents, codes, asking, head, width, ResidualRecipe(), seed, whole)
    return learned, ResidualConfig(bytes=width, groups=groups, name=name_of(learned, head[1]))


def _with_second_look(
    towers: _Towers,
    rows: Split,
    codes: SparseVectors,
    task: Task,
    whole: Whole,
    checkpoint: Path | None,
    stage: str,
) -> tuple[_Towers, float]:
    """With the map that re-orders candidates, learned from the codes of the trained documents, and a. `stage` names
    its checkpoint: fit and refine may share a folder."""
    documents, sample, recipe = rows.documents_to_train_on(), rows.queries_to_train_on(), SecondLookRecipe()
    own = np.random.default_rng([task.seed, 2]).permutation(len(documents))[: recipe.most_own]
    asking = rows.documents_that_ask()[own]
    asking = asking if sample is None else np.concatenate([sample, asking])
    numbers = np.concatenate([np.full(len(asking) - len(own), -1), own])
    asked = encoded(asking, query_projection(towers.tensors), towers.queries, towers.purse)
    learned, first = learning("second_look").learned_second_look(
        documents,
        codes,
        (asking, asked, numbers),
        towers.tensors["mean"],
        recipe,
        3 * task.seed,
        whole,
        checkpoint,
        stage,
        task.device,
    )
    return replace(towers, tensors=towers.tensors | {"second_look": learned}), first


# ---- refine


def refined(
    model: Model, task: Task, rows: Split, whole: Whole, checkpoint: Path | None
) -> tuple[Model, SparseVectors]:
    """The corpus and the query tower fitted to it, or the head and its codes where these do better."""
    config, recipe, limits = model.config, CalibrationRecipe(), task.limits
    whole.at("encode", 0, 1, "encoding the documents with the head")
    stage = refine_recipe(task.output_dim, limits.nnz)
    longer = Cut(limits.nnz + stage.spare, 0.0, recipe.document_sixteenths)
    start = encoded(rows.documents, model.document_projection, longer)
    whole.at("neighbours", 0, 1, "finding the nearest documents of each row")
    learn, documents = learning(), unit_rows(rows.documents)
    asking = rows.documents_that_ask(), rows.trained_documents
    sample = rows.queries_to_train_on()
    wide = stage.wide if len(documents) > stage.searched else None
    corpus = learn.new_corpus(documents, *asking, sample, stage.neighbours, task.device, wide)
    whole.at("neighbours", 1, 1)
    codes: SparseVectors
    codes, tower, scale = learn.refined(corpus, start, model.tensors, limits, task.seed, whole, checkpoint)

    whole.at("budget", 0, 1, "calibrating the budget")
    judge = Judge.of(rows, recipe.most_measured)
    every = np.arange(0, len(codes), spacing(len(codes), recipe.most_measured))
    kinds = [asking.rows for asking in judge.kinds]
    made = _purchased(
        model.tensors | tower, config.documents.cut(), codes[every], kinds, recipe.refined_sixteenths, limits
    )
    found, more = judge.recall_10(made.codes, made.asked[0]), {"seconds": config.figures.seconds}
    beside = config.figures
    figures: dict[str, Any] = {
        "untrained_recall_10": beside.untrained_recall_10,
        "head_recall_10": beside.head_recall_10,
        "sample_agreement": None if sample is None else agreement(rows.documents_that_ask(), sample),
    }
    if config.stage != "refined":
        head = model.documents(judge.documents, None)
        before = judge.recall_10(head, model.queries(judge.first.rows, None))
        figures |= {"head_recall_10": float(before.mean())}
        if found.mean() < before.mean():
            whole.at("measure", 2, 2, "the head did better, and is kept")
            figures |= {"refined_recall_10": float(found.mean()), "refined_is_worse": True}
            kept = config.figures.model_copy(update=figures | {"seconds": beside.seconds + whole.seconds})
            model = Model(config.model_copy(update={"figures": kept}), model.tensors)
            return model, model.documents(rows.documents, None)
    elif beside.head_recall_10 is not None:
        figures |= {"refined_is_worse": float(found.mean()) < beside.head_recall_10}
    whole.at("budget", 1, 1)
    made, first = _with_second_look(made, rows, codes[rows.trained_documents], task, whole, checkpoint, "refined look")
    whole.at("newcomers", 0, 1, "fitting documents taken for newcomers")
    left = welcome.Corpus(
        documents,
        codes,
        model.document_projection,
        config.documents.cut(),
        limits.nnz,
        scale,
        tempered(stage, corpus.spread).temperature,
    )
    later = _welcome(left, corpus, made, rows, judge, task.seed)
    whole.at("measure", 1, 2, "measuring on queries that were not learned from, beside the head")
    model = _measured(
        made,
        judge,
        rows,
        codes[rows.trained_documents],
        task,
        "refined",
        figures | more,
        first,
        whole,
        config.fingerprint,
    )
    if later is not None:
        tensors, settings = later
        model = Model(model.config.model_copy(update={"newcomers": settings}), model.tensors | tensors)
    return model, codes.with_fingerprint(config.fingerprint)


def _welcome(
    documents: welcome.Corpus, corpus: Any, made: _Towers, rows: Split, judge: Judge, seed: int
) -> tuple[dict[str, Float32s], NewcomersConfig] | None:
    """What fits newcomers to the sample, and to documents that ask and were not taken for newcomers themselves."""
    step = spacing(len(rows.documents), CalibrationRecipe().most_measured)
    unseen = rows.held_documents[rows.held_documents % step == 0] // step
    tried = welcome.some_tried(len(judge.documents), unseen, seed)
    own = np.flatnonzero(~np.isin(rows.trained_documents, tried * step))
    generator, half = np.random.default_rng([seed, 7]), NewcomerRecipe().asking // 2
    sample = generator.permutation(len(corpus.sample.rows))[:half]
    own = generator.permutation(own)[: 2 * half - len(sample)]
    some = [(corpus.sample, np.sort(sample)), (corpus.own, np.sort(own))]
    units, near = (
        np.concatenate([getattr(one, name).cpu().numpy()[at] for one, at in some]) for name in ("rows", "near")
    )
    asked = encoded(units, query_projection(made.tensors), made.queries, made.purse)
    return welcome.welcomed(documents, welcome.Asked(units, asked, near), judge, made.asked, tried, unseen, seed)


# ---- too little to learn from


def unlearned(task: Task, documents: Dense, queries: Dense, asked: str, whole: Whole) -> Model:
    """A dimension of its own for each of a few documents, or none. queries: the sample, or the documents as queries.

    To find 20 of 40 documents takes an F of one half, whatever was asked for: that much it may be, and costs nothing.
    """
    recipe, limits = CalibrationRecipe(), task.limits
    touched = min(limits.nnz, recipe.least_touched / max(1, len(documents)))
    limits = limits._replace(flops=max(limits.flops, touched))
    units = unit_rows(documents)
    tensors: dict[str, Any] = own_dimensions(units, task.output_dim, task.seed)
    projection = _document_side(tensors)
    anything = np.random.default_rng([task.seed, 4]).standard_normal((recipe.usage_rows, units.shape[1]))
    some = documents if len(documents) else anything
    cut = document_cut(some, projection, limits.nnz, recipe.refined_sixteenths, recipe)
    kinds = [queries if len(queries) else anything]
    towers = _purchased(tensors, cut, encoded(some, projection, cut), kinds, recipe.refined_sixteenths, limits)
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


def _nothing_measured(task: Task, towers: _Towers, spent: float, documents: int) -> dict[str, Any]:
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


def learning(room: str = "learn") -> ModuleType:
    if find_spec("torch") is None:
        raise ClientMissing.extra("torch", "train")
    return import_module(f"sparsevec.encoder.learning.{room}")


def _document_side(tensors: dict[str, Any]) -> Projection:
    return Projection(tensors["weights"], tensors["bias"], tensors["mean"])
