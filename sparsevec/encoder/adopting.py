"""What `adopt` does: learn a map and a tower, make the budget true, and judge both on pairs that were not learned from.

The documents' side of the model stays to the bit, and with it the space and its fingerprint: nothing is written again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsevec.dense import Dense, Nearest, nearest, unit_rows
from sparsevec.encoder.budget import Limits
from sparsevec.encoder.calibration import query_purse
from sparsevec.encoder.config import AdoptedConfig, CutConfig, Figures
from sparsevec.encoder.figures import by_second_look, spacing
from sparsevec.encoder.head import encoded
from sparsevec.encoder.model import Model, query_projection
from sparsevec.encoder.recipe import CalibrationRecipe, SecondLookRecipe, SplitRecipe
from sparsevec.encoder.stages import learning
from sparsevec.errors import InvalidInput
from sparsevec.measure.cost import usage
from sparsevec.measure.intervals import paired_interval
from sparsevec.measure.recall import evaluate, recalls, sparse_top
from sparsevec.postings import Float64s
from sparsevec.progress import Whole
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Pairing", "adopted"]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Rows (m, their columns) of the other model, and what stands for the same texts here, as the model takes it."""

    theirs: Dense
    ours: Dense
    documents: Dense
    """(n, columns), searched"""
    vectors: SparseVectors
    """what the collection holds of them"""

    def held_out(self, seed: int) -> tuple[Int64s, Int64s]:
        """Numbers of pairs to judge on, and to learn from. Raises InvalidInput when they are too few."""
        recipe, many = SplitRecipe(), len(self.theirs)
        if many < recipe.least_documents:
            raise InvalidInput(
                f"expected at least {recipe.least_documents} pairs to learn from, found {many}; embed more texts with "
                "both models, such as the documents themselves"
            )
        shuffled = np.random.default_rng([seed, 5]).permutation(many)
        held = min(recipe.held_out, many // recipe.held_share)
        return np.sort(shuffled[:held]), np.sort(shuffled[held : held + recipe.trained])


def adopted(model: Model, pairing: Pairing, seed: int, whole: Whole, device: str) -> Model:
    """The same documents, asked by rows of the other model. Raises InvalidInput where the pairs tell nothing."""
    config = model.config
    held, trained = pairing.held_out(seed)
    limits = Limits(config.nnz, config.flops, config.query_nnz)
    step = spacing(len(pairing.documents), SplitRecipe().trained)
    some, stored = unit_rows(pairing.documents[::step]), pairing.vectors[::step]
    twins = encoded(pairing.ours[trained], model.document_projection, config.documents.cut())
    learn, learned_from = learning("adopting"), unit_rows(pairing.ours[trained])
    learned = learn.learned_adoption(
        learn.Pairs(unit_rows(pairing.theirs[trained]), learned_from),
        twins,
        learn.Searched(some, stored),
        model.tensors,
        limits,
        _spread(some, learned_from),
        7 * seed + 3,
        whole,
        device,
    )
    whole.at("budget", 0, 1, "calibrating the budget")
    mapped = _purchased(model, model.tensors | learned, pairing, held, limits)
    judge = _Judge.of(pairing, held)
    judge.check_same_texts(mapped)
    if config.second_look is not None:
        mapped = _with_second_look(mapped, pairing, trained, (some, stored), seed, whole, device)
    whole.at("measure", 0, 1, "measuring on pairs that were not learned from")
    measured = _measured(model, mapped, judge, len(trained), whole)
    whole.at("measure", 1, 1, str(measured.config.figures))
    return measured


def _purchased(model: Model, tensors: dict[str, Float32s], pairing: Pairing, held: Int64s, limits: Limits) -> Model:
    """With the purse that the new queries have: prices are of what the collection holds."""
    update: dict[str, Any] = {"adopted": AdoptedConfig(columns=pairing.theirs.shape[1])}
    asking = Model(model.config.model_copy(update=update), tensors).asking(pairing.theirs[held])
    prices, sixteenths = usage(pairing.vectors).astype(np.float32), CalibrationRecipe().query_sixteenths
    tower, as_kept = query_projection(tensors), prices.astype(np.float64)
    cut, purse = query_purse([asking], tower, as_kept, limits.flops, sixteenths, limits.query_nnz)
    update |= {"queries": CutConfig.of(cut, purse)}
    return Model(model.config.model_copy(update=update), tensors | {"prices": prices})


def _spread(documents: Float32s, asking: Float32s) -> float:
    """The mean standard deviation of a row's hundred nearest similarities."""
    found = nearest(documents, asking[:: spacing(len(asking), SplitRecipe().held_out)], SplitRecipe().least_documents)
    return float(found.scores.std(axis=1).mean())


def _with_second_look(
    model: Model,
    pairing: Pairing,
    trained: Int64s,
    searched: tuple[Float32s, SparseVectors],
    seed: int,
    whole: Whole,
    device: str,
) -> Model:
    """A map of its own for rows that are mapped, which learns the order that their pairs' rows have."""
    recipe = SecondLookRecipe()
    some = trained[:: spacing(len(trained), recipe.most_own)]
    rows = unit_rows(model.asking(pairing.theirs[some]))
    asked = rows, model.queries(rows, None), np.full(len(rows), -1)
    documents, codes = searched
    mean, wanted = model.tensors["mean"], unit_rows(pairing.ours[some])
    learn = learning("second_look").learned_second_look
    look, first = learn(
        documents, codes, asked, mean, recipe, 7 * seed + 4, whole, None, "adopted look", device, wanted
    )
    return Model(model.config.model_copy(update={"second_look": first}), model.tensors | {"second_look": look})


@dataclass(frozen=True, slots=True)
class _Judge:
    """Pairs that were kept back, and what their rows of the documents' model find."""

    theirs: Dense
    ours: Dense
    documents: Dense
    vectors: SparseVectors
    units: Float32s
    wanted: Float32s
    truth: Nearest

    @classmethod
    def of(cls, pairing: Pairing, held: Int64s) -> _Judge:
        step = spacing(len(pairing.documents), CalibrationRecipe().most_measured)
        documents, ours = pairing.documents[::step], pairing.ours[held]
        units, wanted = unit_rows(documents), unit_rows(ours)
        truth = nearest(units, wanted, 10)
        return cls(pairing.theirs[held], ours, documents, pairing.vectors[::step], units, wanted, truth)

    def top(self, queries: SparseVectors) -> list[Int64s]:
        return sparse_top(self.vectors, queries, 100)

    def recall(self, rows: list[Int64s]) -> Float64s:
        return recalls(self.units, self.wanted, rows, self.truth)

    def answers(self, rows: list[Int64s]) -> float:
        """nDCG@10 of the document that is nearest to the pair's own row, which is its answer or the same text."""
        places = [np.flatnonzero(found[:10] == one) for found, one in zip(rows, self.truth.rows[:, 0], strict=True)]
        return float(np.mean([1 / np.log2(at[0] + 2) if len(at) else 0.0 for at in places]))

    def check_same_texts(self, model: Model) -> None:
        """Raises InvalidInput where a query finds no more of what its own pair finds than of what another's does."""
        rows = self.top(model.queries(model.asking(self.theirs), None))
        found, strangers = self.recall(rows), self.recall(rows[1:] + rows[:1])
        if paired_interval(found, strangers).low <= 0:
            raise InvalidInput(
                f"these pairs tell nothing: on {len(found)} that were kept back, a query finds {found.mean():.3f} of "
                f"what its own pair finds and {strangers.mean():.3f} of what another's does; expected rows of the same "
                "texts, in the same order"
            )


def _measured(before: Model, model: Model, judge: _Judge, pairs: int, whole: Whole) -> Model:
    """With figures of held-out pairs: of what a pair's row of the documents' model finds, how much theirs find."""
    config, asking = model.config, model.asking(judge.theirs)
    queries = model.queries(asking, None)
    found, own = judge.top(queries), judge.top(before.queries(judge.ours, None))
    again = None
    if config.second_look is not None:
        again = judge.answers(by_second_look(judge.vectors, model.second_looks(asking, queries), found))
    kept = AdoptedConfig(
        columns=judge.theirs.shape[1],
        pairs=pairs,
        own_recall_10=float(judge.recall([rows[:10] for rows in own]).mean()),
        own_recall_10_at_100=float(judge.recall(own).mean()),
        answer_ndcg_10=judge.answers(found),
        second_look_ndcg_10=again,
        own_ndcg_10=judge.answers(own),
    )
    figures: dict[str, Any] = evaluate(judge.documents, judge.ours, judge.vectors, queries).model_dump()
    figures |= {"asked": "pairs", "seconds": config.figures.seconds + whole.seconds}
    return Model(config.model_copy(update={"figures": Figures(**figures), "adopted": kept}), model.tensors)
