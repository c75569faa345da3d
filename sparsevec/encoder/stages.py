"""What `fit` and `refine` do, stage after stage: learn, make the budget true, compare with less learning, measure."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sparsevec.dense import unit_rows
from sparsevec.encoder import welcome
from sparsevec.encoder.config import Figures, NewcomersConfig, ResidualConfig, Stage
from sparsevec.encoder.drift import found_of_themselves
from sparsevec.encoder.figures import Judge, agreement, spacing
from sparsevec.encoder.head import Cut, encoded
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
from sparsevec.encoder.split import Split
from sparsevec.encoder.towers import Task, Towers, calibrated, purchased
from sparsevec.encoder.untrained import random_directions
from sparsevec.errors import ClientMissing, InvalidInput, TrainingCollapsed
from sparsevec.measure.intervals import interval
from sparsevec.progress import Whole
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["fitted", "learning", "recalibrated", "refined", "residual_codes"]


# ---- fit


def fitted(task: Task, rows: Split, whole: Whole, checkpoint: Path | None) -> Model:
    """The head, or directions that nobody learned where these do better on rows that were not learned from."""
    whole.at("neighbours", 0, 1, "finding the nearest documents of each row")
    limits, sample = task.limits, rows.queries_to_train_on()
    corpus = _corpus(task, rows, sample)
    whole.at("neighbours", 1, 1)
    tensors, collapsed = None, None
    try:
        tensors = learning().learned_towers(corpus, task.output_dim, limits, task.seed, whole, checkpoint)
    except TrainingCollapsed as error:
        collapsed = error.diagnosis

    whole.at("budget", 0, 1, "calibrating the budget")
    judge = Judge.of(rows, CalibrationRecipe().most_measured)
    # not of rows that ask: each would find its nearest by its own
    kept = _plain(rows.documents_to_train_on(), task, rows, judge)
    theirs = float(judge.recall_10(kept.codes, kept.asked[0]).mean())
    shared = None if sample is None else agreement(rows.documents_that_ask(), sample)
    figures: dict[str, Any] = {
        "untrained_recall_10": theirs,
        "head_recall_10": theirs,
        "sample_agreement": shared,
        "collapsed": collapsed,
    }
    stage: Stage = "untrained"
    head = None
    if tensors is not None:
        try:
            head = calibrated(tensors, rows, judge, limits)
        except InvalidInput as error:  # what was learned cannot keep the budget, which codes without learning did
            figures |= {"collapsed": str(error)}
    if head is not None:
        ours = float(judge.recall_10(head.codes, head.asked[0]).mean())
        if ours >= theirs:
            kept, stage, figures = head, "head", figures | {"head_recall_10": ours}
        else:
            figures |= {"learned_recall_10": ours}
    whole.at("budget", 1, 1)
    served = _with_all(task, rows, judge, figures) if stage == "untrained" else None
    kept, first = _with_second_look(kept, rows, judge, task, whole, checkpoint, "second look")
    whole.at("measure", 1, 2, "measuring on queries that were not learned from")
    made = _measured(kept, judge, rows, None, task, stage, figures, first, whole)
    if served is None:
        return made
    return Model(served.config.model_copy(update={"figures": made.config.figures}), served.tensors)


def _corpus(task: Task, rows: Split, sample: Float32s | None) -> Any:
    """The documents to train on. Where these are all but what is held out, their nearest are those among all, which
    `refine` will ask for, too."""
    all_but_held = len(rows.trained_documents) + len(rows.held_documents) == len(rows.documents)
    some = slice(None) if all_but_held else rows.trained_documents
    same, kept = rows.documents_asking is rows.documents, rows.trained_documents if all_but_held else None
    documents = unit_rows(rows.documents[some])
    asking = documents if same else unit_rows(rows.documents_asking[some])
    neighbours = head_recipe(len(rows.trained_documents), task.output_dim, task.limits.nnz).neighbours
    return learning().new_corpus(documents, asking, None, sample, neighbours, task.device, kept=kept)


def _with_all(task: Task, rows: Split, judge: Judge, figures: dict[str, Any]) -> Model:
    """Directions of all rows, for each document is found best by its own; to be served, and not to be measured by those
    of them that ask."""
    silent = Whole(None, {})
    towers, first = _with_second_look(
        _plain(judge.units, task, rows, judge), rows, judge, task, silent, None, "second look"
    )
    return _measured(towers, judge, rows, None, task, "untrained", dict(figures), first, silent)


def _plain(units: Float32s, task: Task, rows: Split, judge: Judge) -> Towers:
    """Directions of some unit rows (n, columns), that nobody learned."""
    some = units[:: spacing(len(units), CalibrationRecipe().usage_rows)]
    return calibrated(random_directions(some, task.output_dim, task.seed), rows, judge, task.limits)


def recalibrated(model: Model, task: Task, rows: Split, whole: Whole) -> Model:
    """The same head and query tower with the cut and the purse of other limits, and a second look learned beside the
    weights that documents then have: one that was learned beside half as many orders candidates far worse."""
    whole.at("budget", 0, 1, "calibrating the budget")
    judge = Judge.of(rows, CalibrationRecipe().most_measured)
    names = ("mean", "weights", "bias", "query_weights", "query_bias")
    made = calibrated({name: model.tensors[name] for name in names if name in model.tensors}, rows, judge, task.limits)
    whole.at("budget", 1, 1)
    made, first = _with_second_look(made, rows, judge, task, whole, None, "second look")
    config, more = model.config, {"seconds": model.config.figures.seconds}
    found = _measured(made, judge, rows, None, task, config.stage, more, first, whole, config.fingerprint)
    learned = config.learned_nnz or config.nnz
    return Model(found.config.model_copy(update={"learned_nnz": learned}), found.tensors)


def _measured(
    kept: Towers,
    judge: Judge,
    rows: Split,
    trained: SparseVectors | None,
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
    model = _with_figures(model, second_look_recall_10=float(again.mean()))
    model = _with_residual(model, task, rows, trained, (judge, kept), whole)
    whole.at("measure", 2, 2, str(model.config.figures))
    return model


def _with_figures(model: Model, **known: Any) -> Model:
    figures = model.config.figures.model_copy(update=known)
    return Model(model.config.model_copy(update={"figures": figures}), model.tensors)


def _with_residual(
    model: Model, task: Task, rows: Split, codes: SparseVectors | None, measured: tuple[Judge, Towers], whole: Whole
) -> Model:
    """The same model with residual codes, learned from the codes of the trained documents; None: those of the head."""
    if task.residual_bytes is None:
        return model
    documents, sample, recipe = rows.documents_to_train_on(), rows.queries_to_train_on(), ResidualRecipe()
    if codes is None:
        codes = model.documents(rows.documents[rows.trained_documents], None)
    head, asking = (model.tensors["weights"], model.tensors["mean"]), sample
    if asking is None:
        asking = rows.documents_that_ask()
    learned, kept = residual_codes(documents, codes, asking, head, task.residual_bytes, task.seed, whole)
    coded = Model(model.config.model_copy(update={"residual": kept}), model.tensors | learned)
    judge, towers = measured
    found = judge.residual(coded, towers.codes, towers.asked[0], recipe.candidates)
    return _with_figures(coded, residual_recall_10=float(found.mean()))


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
    return learned, ResidualConfig(bytes=width, groups=groups, name=name_of(learned, head[1]), signed=True)


def _with_second_look(
    towers: Towers, rows: Split, judge: Judge, task: Task, whole: Whole, checkpoint: Path | None, stage: str
) -> tuple[Towers, float]:
    """With the map that re-orders candidates, which are as many as a search of the whole corpus gives, and a. `stage`
    names its checkpoint: fit and refine may share a folder."""
    sample, recipe = rows.queries_to_train_on(), SecondLookRecipe()
    own = np.random.default_rng([task.seed, 2]).permutation(rows.trained_documents)[: recipe.most_own]
    asking = unit_rows(rows.documents_asking[own])
    asking = asking if sample is None else np.concatenate([sample, asking])
    numbers = np.concatenate([np.full(len(asking) - len(own), -1), judge.places(own)])
    asked = encoded(asking, query_projection(towers.tensors), towers.queries, towers.purse)
    learned, first = learning("second_look").learned_second_look(
        judge.units,
        towers.codes,
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
    stage = refine_recipe(task.output_dim, limits.nnz, len(rows.documents))
    longer = Cut(limits.nnz + stage.spare, 0.0, recipe.document_sixteenths)
    start = encoded(rows.documents, model.document_projection, longer)
    whole.at("neighbours", 0, 1, "finding the nearest documents of each row")
    learn, judge = learning(), Judge.of(rows, recipe.most_measured)
    documents = judge.units if judge.step == 1 else unit_rows(rows.documents)
    same, sample = rows.documents_asking is rows.documents, rows.queries_to_train_on()
    asking = documents if same else unit_rows(rows.documents_asking)
    corpus = learn.new_corpus(
        documents, asking, rows.documents_not_held(), sample, stage.neighbours, task.device, stage
    )
    whole.at("neighbours", 1, 1)
    codes: SparseVectors
    try:
        codes, tower, scale = learn.refined(corpus, start, model.tensors, limits, task.seed, whole, checkpoint)
    except TrainingCollapsed as error:
        model = _with_figures(model, refined_is_worse=True, collapsed=error.diagnosis)
        return model, model.documents(rows.documents, None)

    whole.at("budget", 0, 1, "calibrating the budget")
    every, kinds = np.arange(0, len(codes), judge.step), [asking.rows for asking in judge.kinds]
    made = purchased(
        model.tensors | tower, config.documents.cut(), codes[every], kinds, recipe.refined_sixteenths, limits
    )
    found, more = judge.recall_10(made.codes, made.asked[0]), {"seconds": config.figures.seconds}
    beside, untrained = config.figures, config.figures.untrained_recall_10
    if untrained is not None and found.mean() < untrained:  # which may be of another corpus
        plain = _plain(rows.documents_to_train_on(), task, rows, judge)
        untrained = float(judge.recall_10(plain.codes, plain.asked[0]).mean())
    figures: dict[str, Any] = {
        "untrained_recall_10": untrained,
        "head_recall_10": beside.head_recall_10 if beside.documents == len(judge.documents) else None,
        "sample_agreement": None if sample is None else agreement(rows.documents_that_ask(), sample),
        "own_directions": sample is None and (config.stage == "untrained" or beside.own_directions),
    }
    if config.stage != "refined":
        head = model.documents(judge.documents, None)
        asked = [model.queries(asking.rows, None) for asking in judge.kinds]
        before = judge.recall_10(head, asked[0])
        figures |= {"head_recall_10": float(before.mean())}
        gained = float(found.mean() - before.mean())
        loser = None if gained < 0 else judge.loser((head, asked), (made.codes, made.asked), gained)
        if gained < 0 or loser is not None:
            whole.at("measure", 2, 2, "the head did better, and is kept")
            figures |= {"refined_recall_10": float(found.mean()), "refined_is_worse": True}
            if loser is not None:
                figures |= {"refined_loses": loser[0], "refined_loss": loser[1]}
            measured = beside.model_dump() | judge.figures(head, asked) | figures
            kept = Figures(**measured | {"seconds": beside.seconds + whole.seconds})
            model = Model(config.model_copy(update={"figures": kept}), model.tensors)
            again = judge.second_look(head, asked[0], model.second_looks(judge.first.rows, asked[0]))
            model = _with_figures(model, second_look_recall_10=float(again.mean()))
            return model, model.documents(rows.documents, None)
    elif figures["head_recall_10"] is not None:
        figures |= {"refined_is_worse": float(found.mean()) < figures["head_recall_10"]}
    whole.at("budget", 1, 1)
    made, first = _with_second_look(made, rows, judge, task, whole, checkpoint, "refined look")
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
    own = found_of_themselves(model, rows.documents, rows.documents_asking, codes)
    model = _with_figures(model, of_themselves=interval(own))
    if later is not None:
        tensors, settings = later
        model = Model(model.config.model_copy(update={"newcomers": settings}), model.tensors | tensors)
    return model, codes.with_fingerprint(config.fingerprint)


def _welcome(
    documents: welcome.Corpus, corpus: Any, made: Towers, rows: Split, judge: Judge, seed: int
) -> tuple[dict[str, Float32s], NewcomersConfig] | None:
    """What fits newcomers to the sample, and to documents that ask and were not taken for newcomers themselves."""
    unseen = judge.places(rows.held_documents)
    unseen = unseen[unseen >= 0]
    tried = welcome.some_tried(len(judge.documents), unseen, seed)
    own = np.setdiff1d(rows.documents_not_held(), tried * judge.step)
    generator, half = np.random.default_rng([seed, 7]), NewcomerRecipe().asking // 2
    sample = generator.permutation(corpus.sample.count)[:half]
    own = generator.permutation(own)[: 2 * half - len(sample)]
    some = [(corpus.sample, np.sort(sample)), (corpus.own, np.sort(own))]
    units, near = (
        np.concatenate([getattr(one, name).cpu().numpy()[at] for one, at in some]) for name in ("rows", "near")
    )
    asked = encoded(units, query_projection(made.tensors), made.queries, made.purse)
    return welcome.welcomed(documents, welcome.Asked(units, asked, near), judge, made.asked, tried, unseen, seed)


def learning(room: str = "learn") -> ModuleType:
    if find_spec("torch") is None:
        raise ClientMissing.extra("torch", "train")
    return import_module(f"sparsevec.encoder.learning.{room}")
