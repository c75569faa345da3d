"""Budgets: what is asked for is what unseen rows cost, and nonsense is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.budget import least_cut, resolved
from sparsevec.errors import InvalidInput
from sparsevec.measure.cost import cost
from sparsevec.vectors import Float32s, SparseVectors
from tests.training.conftest import FLOPS, INPUT, NNZ, OUTPUT, clustered, ranking_overlap, unit


def test_the_budget_holds_on_rows_that_were_not_trained_on(encoder: SparseEncoder, unseen_queries: Float32s) -> None:
    spent = cost(encoder.encode_query(unseen_queries), encoder.encode_document(clustered(2000, seed=4)))
    assert spent.active_dims == pytest.approx(NNZ, rel=0.01)
    assert spent.flops == pytest.approx(FLOPS, rel=0.05)


def test_refining_keeps_the_budget(refined: tuple[SparseEncoder, SparseVectors], unseen_queries: Float32s) -> None:
    encoder, corpus = refined
    spent = cost(encoder.encode_query(unseen_queries), corpus)
    assert spent.active_dims == pytest.approx(NNZ, rel=0.01)
    assert spent.flops == pytest.approx(FLOPS, rel=0.05)


def test_nothing_is_dead_or_empty(encoder: SparseEncoder, documents: Float32s) -> None:
    corpus = encoder.encode_document(documents)
    assert corpus.row_nnz.min() > 0
    assert np.mean(np.bincount(corpus.indices, minlength=OUTPUT) == 0) < 0.01


def test_sparse_search_ranks_much_like_dense_search_and_refining_helps(
    encoder: SparseEncoder,
    refined: tuple[SparseEncoder, SparseVectors],
    documents: Float32s,
    unseen_queries: Float32s,
) -> None:
    dense = unit(unseen_queries) @ unit(documents).T
    head = ranking_overlap(encoder.encode_query(unseen_queries), encoder.encode_document(documents), dense)
    better = ranking_overlap(refined[0].encode_query(unseen_queries), refined[1], dense)
    chance = 10 / len(documents)
    assert head > 20 * chance
    assert better > head


def test_the_measured_figures_are_true_of_unseen_queries(
    encoder: SparseEncoder, documents: Float32s, unseen_queries: Float32s
) -> None:
    dense = unit(unseen_queries) @ unit(documents).T
    found = ranking_overlap(encoder.encode_query(unseen_queries), encoder.encode_document(documents), dense)
    assert encoder.config.figures.recall_10 == pytest.approx(found, abs=0.05)


@pytest.mark.parametrize(
    ("budget", "output_dim", "due"),
    [
        (Budget(nnz=32), 8192, (32, 0.64)),
        (Budget(flops=0.64), 8192, (32, 0.64)),
        (Budget(nnz=64, flops=1.2), 8192, (64, 1.2)),
        (Budget(nnz=32), 512, (32, 3.0)),  # narrow: a query is still about as long as a document
        (Budget(flops=0.64), 600, (16, 0.64)),
    ],
)
def test_what_a_budget_leaves_open_follows_from_the_rest(
    budget: Budget, output_dim: int, due: tuple[int, float]
) -> None:
    assert resolved(budget, output_dim)[:2] == pytest.approx(due)


@pytest.mark.parametrize(
    ("nnz", "flops", "says"),
    [
        (None, None, "nnz, flops or both"),
        (0, None, "at least 1"),
        (-3, 0.5, "at least 1"),
        (1.5, None, "whole number"),
        (True, None, "whole number"),
        (32, 0.0, "positive"),
        (32, float("nan"), "positive"),
        (32, float("inf"), "positive"),
        (32, "much", "positive"),
        (32, 10**400, "positive"),
        (2**31, None, r"below 2\*\*31, found one of 32 bits"),
        (10**400, None, r"below 2\*\*31"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(nnz: Any, flops: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        Budget(nnz=nnz, flops=flops)


@pytest.mark.parametrize("engine", [3, "engine:", {"engine": "made up"}])
def test_milliseconds_of_what_is_no_latency_model_are_refused(engine: Any) -> None:
    with pytest.raises(InvalidInput, match="milliseconds are those of an engine"):
        Budget(nnz=8, milliseconds=1.0, engine=engine)


def test_a_budget_of_no_dimensions_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not sparse in output_dim=0"):
        resolved(Budget(nnz=8), 0)


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        (Budget(nnz=200), "not sparse"),
        (Budget(nnz=8, flops=0.001), "cannot be met"),
        (Budget(nnz=8, flops=9.0), "cannot be spent"),
        (Budget(flops=1e-9), "cannot be met"),
    ],
)
def test_a_budget_that_the_dimension_cannot_meet_is_refused_before_training(
    documents: Float32s, budget: Budget, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        SparseEncoder(INPUT, OUTPUT).fit(documents, budget=budget)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 30))
def test_the_least_cut_stays_within_what_is_allowed(values: list[float], allowed: float) -> None:
    cut = least_cut(lambda threshold: float(sum(value > threshold for value in values)), allowed)
    assert sum(value > cut for value in values) <= allowed or cut == 1
