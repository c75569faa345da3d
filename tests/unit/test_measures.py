"""Precision, recall, mAP and nDCG, against small cases worked out by hand; relevance by label."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.errors import InvalidInput
from sparsevec.measure.labels import by_label, quality, without_themselves

RANKING = np.array([4, 0, 2, 7])  # 0 and 7 are relevant, and 9, which was not found


def test_precision_recall_average_precision_and_ndcg_of_one_ranking() -> None:
    found = quality([RANKING], {0: {0: 1, 7: 1, 9: 1}}, at=(1, 2, 4, 8))
    assert found.precision == pytest.approx({1: 0, 2: 1 / 2, 4: 2 / 4, 8: 2 / 8})
    assert found.recall == pytest.approx({1: 0, 2: 1 / 3, 4: 2 / 3, 8: 2 / 3})
    assert found.average_precision == pytest.approx((1 / 2 + 2 / 4) / 3)
    best = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found.ndcg[4] == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / best)


def test_ndcg_counts_grades_and_precision_does_not() -> None:
    found = quality([np.array([1, 2])], {0: {1: 1, 2: 3, 5: 0}}, at=(1, 2))
    assert found.precision == {1: 1, 2: 1}
    assert found.ndcg[1] == pytest.approx(1 / 3)


def test_the_order_is_that_of_the_ranking_whatever_the_rows_are_called() -> None:
    assert quality([np.array([10, 9, 100])], {0: {10: 1}}).precision[1] == 1
    assert quality([np.array([9, 10, 100])], {0: {10: 1}}).precision[1] == 0


def test_an_empty_ranking_counts_as_zero_and_a_query_without_answers_not_at_all() -> None:
    found = quality([np.array([3]), np.empty(0, np.int64), np.array([1])], {0: {3: 1}, 1: {3: 1}, 2: {1: 0}})
    assert (found.queries, found.precision[1], found.average_precision) == (2, 0.5, 0.5)


def test_rankings_may_be_lists() -> None:
    assert quality([RANKING.tolist()], {0: {0: 1}}) == quality([RANKING], {0: {0: 1}})
    assert [ranking.tolist() for ranking in without_themselves([[0, 2], [0, 1]])] == [[2], [0]]  # type: ignore[list-item]


def test_grades_may_be_numbers_of_numpy() -> None:
    grades: Any = {np.int64(0): {np.int32(1): np.int8(1)}}
    assert quality([np.array([2, 1])], grades, at=[1]) == quality([np.array([2, 1])], {0: {1: 1}}, at=[1])


def test_relevant_are_the_documents_of_the_same_label() -> None:
    assert by_label([7, 5, 7], [5, 7, 6]) == {0: {1: 1}, 1: {0: 1, 2: 1}}
    assert by_label(["cat", "dog"], ["dog"]) == {0: {1: 1}}


def test_documents_that_ask_for_one_another_are_not_relevant_to_themselves() -> None:
    assert by_label([7, 5, 7]) == {0: {2: 1}, 2: {0: 1}}
    assert [r.tolist() for r in without_themselves([np.array([0, 2, 1]), np.array([2])])] == [[2, 1], [2]]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 5), st.randoms(use_true_random=False))
def test_precision_by_label_is_the_share_of_the_label_in_the_first_k(labels: list[int], k: int, random: Random) -> None:
    order = np.argsort([random.random() for _ in labels])
    found = quality([order] * len(labels), by_label(labels, labels), at=(k,))
    due = [np.sum(np.array(labels)[order[:k]] == label) / k for label in labels]
    assert found.precision[k] == pytest.approx(np.mean(due))


def test_five_thousand_queries_among_fifteen_thousand_documents_are_judged() -> None:
    rng = np.random.default_rng(0)
    labels, query_labels = rng.integers(0, 100, 15_000), rng.integers(0, 100, 5_000)
    rows = np.argsort(rng.random((5_000, 400)), axis=1)[:, :100] * 37  # each once
    found = quality(list(rows), by_label(labels, query_labels))
    due = (labels[rows] == query_labels[:, None])[:, :16].mean()
    assert found.precision[16] == pytest.approx(due)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: quality([RANKING], {}), "at least one query"),
        (lambda: quality([RANKING], {0: {1: 0}}), "at least one query"),
        (lambda: quality([RANKING], {1: {0: 1}}), "query 1 has relevant documents, but there are 1 rankings"),
        (lambda: quality([np.array([1, 1])], {0: {1: 1}}), r"each once; found \[1, 1\]"),
        (lambda: quality([np.array([1, -1])], {0: {1: 1}}), r"each once; found \[1, -1\]"),
        (lambda: quality([RANKING], {0: {0: 1}}, at=(0,)), "k must be an int"),
        (lambda: quality([RANKING], {0: {0: 1}}, at=5), "expected a sequence of depths, found 5"),  # type: ignore[arg-type]
        (lambda: quality([RANKING.astype(float)], {0: {0: 1}}), r"whole numbers \(m,\), found float64 of shape \(4,\)"),
        (lambda: quality([RANKING], {0: {0: "1"}}), "all whole numbers, found '1' among them"),  # type: ignore[dict-item]
        (lambda: quality([RANKING], {0: {0: 1.0}}), "all whole numbers, found 1.0 among them"),  # type: ignore[dict-item]
        (lambda: quality([RANKING], {"q": {0: 1}}), "all whole numbers, found 'q' among them"),  # type: ignore[dict-item]
        (lambda: without_themselves([5]), r"whole numbers \(m,\), found int64 of shape \(\)"),  # type: ignore[list-item]
        (lambda: without_themselves([[[1], [1, 2]]]), r"expected rankings of rows, whole numbers"),  # type: ignore[list-item]
        (lambda: by_label([[1], [1, 2]]), "labels must be integers or strings"),
        (lambda: by_label([0.5, 1.0]), r"integers or strings of shape \(n,\), found float64 \(2,\)"),
        (lambda: by_label([[1, 2]]), r"found int64 \(1, 2\)"),
    ],
)
def test_what_cannot_be_judged_is_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        wrong()
