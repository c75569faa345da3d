"""One encoder within other budgets: the same head, calibrated and measured anew, and refused where it loses."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from sparsevec.dense import nearest
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.figures import by_second_look
from sparsevec.encoder.model import Model
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.measure.cost import flops
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.vectors import Float32s
from tests.training.conftest import FLOPS, INPUT, NNZ, OUTPUT, ranking_overlap, unit


@pytest.mark.parametrize(("nnz", "budget"), [(4, 0.3), (16, 1.5), (32, 4.0)])
def test_another_budget_holds_for_rows_that_nobody_has_seen(
    encoder: SparseEncoder, documents: Float32s, queries: Float32s, unseen_queries: Float32s, nnz: int, budget: float
) -> None:
    other = encoder.at(Budget(nnz=nnz, flops=budget), documents, queries)
    stored, asked = other.encode_document(documents), other.encode_query(unseen_queries)
    assert stored.nnz / len(stored) == pytest.approx(nnz, rel=0.05)
    assert flops(asked, stored) <= 1.05 * budget
    assert (other.config.nnz, other.config.learned_nnz, other.config.flops) == (nnz, NNZ, budget)
    assert other.fingerprint == encoder.fingerprint


def test_more_weights_find_more(
    encoder: SparseEncoder, documents: Float32s, queries: Float32s, unseen_queries: Float32s
) -> None:
    found = []
    for budget in (Budget(nnz=4, flops=0.3), Budget(nnz=8, flops=0.6), Budget(nnz=24, flops=2.0)):
        other = encoder.at(budget, documents, queries)
        asked = other.encode_query(unseen_queries[:500])
        dense = unit(unseen_queries[:500]) @ unit(documents).T
        found.append(ranking_overlap(asked, other.encode_document(documents), dense))
    assert found == sorted(found)


def test_its_own_budget_gives_the_same_bits_and_figures(
    encoder: SparseEncoder, documents: Float32s, queries: Float32s
) -> None:
    again = encoder.at(Budget(nnz=NNZ, flops=FLOPS), documents, queries)
    assert again.encode_document(documents) == encoder.encode_document(documents)
    assert again.encode_query(queries) == encoder.encode_query(queries)
    assert again.figures.recall_10 == encoder.figures.recall_10
    assert again.figures.second_look_recall_10 == encoder.figures.second_look_recall_10


def test_answers_are_ordered_by_what_was_learned_beside_the_new_weights(
    encoder: SparseEncoder, documents: Float32s, queries: Float32s
) -> None:
    other = encoder.at(Budget(nnz=24, flops=2.0, residual_bytes=10), documents, queries)
    mixed = copy.copy(other)
    model = other._fitted()
    mixed._model = Model(model.config, model.tensors | {"second_look": encoder._fitted().tensors["second_look"]})
    stored, asked = other.encode_document(documents), other.encode_query(queries[:200])
    top, truth = sparse_top(stored, asked, 100), nearest(unit(documents), unit(queries[:200]), 10)
    found = []
    for one in (mixed, other):
        looks = one.encode_second_look(queries[:200], queries=asked)
        ranked = by_second_look(stored, looks, top)
        found.append(float(recalls(unit(documents), unit(queries[:200]), ranked, truth).mean()))
    assert found[0] < found[1]
    assert other.config.residual is not None
    assert (other.figures.residual_recall_10 or 0) > (other.figures.recall_10)


def test_a_budget_of_a_budget_counts_from_what_was_learned(
    encoder: SparseEncoder, documents: Float32s, queries: Float32s, tmp_path: Path
) -> None:
    once = encoder.at(Budget(nnz=4, flops=0.3), documents, queries)
    once.save(tmp_path / "model")
    loaded = SparseEncoder.load(tmp_path / "model")
    assert loaded.encode_query(queries) == once.encode_query(queries)
    assert (
        "| weights of a document that were learned for, before `at` | 8 |" in (tmp_path / "model/README.md").read_text()
    )
    with pytest.raises(InvalidInput, match="2 weights are too far from the 8"):
        loaded.at(Budget(nnz=2, flops=0.2), documents, queries)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(nnz=3, flops=0.3), "3 weights are too far from the 8 that were learned for: expected 4 to 32"),
        (Budget(nnz=33, flops=4), "33 weights are too far"),
        (Budget(nnz=8, flops=0.6, residual_bytes=999), "residual_bytes"),
    ],
)
def test_budgets_in_which_it_loses_are_refused(
    encoder: SparseEncoder, documents: Float32s, budget: Budget, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        encoder.at(budget, documents)


def test_refined_weights_and_too_few_rows_are_refused(encoder: SparseEncoder, documents: Float32s) -> None:
    refined, model = copy.copy(encoder), encoder._fitted()
    refined._model = Model(model.config.model_copy(update={"stage": "refined"}), model.tensors)
    with pytest.raises(InvalidInput, match="this encoder was refined"):
        refined.at(Budget(nnz=4, flops=0.3), documents)
    with pytest.raises(InvalidVectors, match="at least 100 documents"):
        encoder.at(Budget(nnz=4, flops=0.3), documents[:99])
    few = SparseEncoder(INPUT, OUTPUT).fit(documents[:20], budget=Budget(nnz=8, flops=0.6))
    with pytest.raises(InvalidInput, match="too few documents to learn from"):
        few.at(Budget(nnz=4, flops=0.3), documents)
    with pytest.raises(InvalidInput, match=r"must be a sparsevec\.Budget"):
        encoder.at(4, documents)  # type: ignore[arg-type]
    with pytest.raises(InvalidVectors):
        encoder.at(Budget(nnz=4, flops=0.3), np.full_like(documents, np.nan))
