"""Recall and nDCG, against small cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.measure.recall import dense_top, evaluate, evaluate_dense, ndcg, recall, sparse_top, unit
from sparsevec.vectors import SparseVectors

ROWS = np.random.default_rng(0).random((200, 8), np.float32)
QUERIES = np.random.default_rng(1).random((20, 8), np.float32)


def sparse(rows: np.ndarray) -> SparseVectors:
    return SparseVectors.from_dense(rows)


def test_vectors_that_say_the_same_as_the_dense_ones_have_full_recall() -> None:
    evaluation = evaluate(ROWS * 3, QUERIES, sparse(unit(ROWS)), sparse(unit(QUERIES)))
    assert (evaluation.recall_10, evaluation.recall_10_at_100) == (1, 1)
    assert (evaluation.flops, evaluation.r_sub, evaluation.dense_bytes) == (8, 1, 32)


def test_recall_at_100_counts_what_a_re_ranking_could_reach() -> None:
    codes = unit(ROWS)
    shuffled = codes + np.random.default_rng(2).normal(0, 0.1, codes.shape).clip(0).astype(np.float32)
    evaluation = evaluate(ROWS, QUERIES, sparse(shuffled), sparse(unit(QUERIES)))
    assert evaluation.recall_10 < evaluation.recall_10_at_100 <= 1


def test_recall_is_the_share_of_what_was_due() -> None:
    found, due = [np.array([1, 2, 3]), np.array([7])], [np.array([3, 4]), np.array([7, 8, 9, 10])]
    assert recall(found, due) == pytest.approx((0.5 + 0.25) / 2)


def test_a_known_item_at_rank_two_is_worth_what_ndcg_says() -> None:
    rows, queries = unit(np.array([[1, 0], [1, 0.2], [0, 1]])), unit(np.array([[1, 0]]))
    assert ndcg(rows, queries, [np.array([2, 1, 0])], {0: {1: 1}}) == pytest.approx(1 / np.log2(3))


def test_a_re_ranking_cannot_find_what_is_no_candidate() -> None:
    rows, queries = unit(np.array([[1, 0], [1, 0.2], [0, 1]])), unit(np.array([[1, 0]]))
    assert ndcg(rows, queries, [np.array([2, 1])], {0: {0: 1}}) == 0


def test_queries_that_nobody_judged_do_not_count() -> None:
    evaluation = evaluate(ROWS, QUERIES, sparse(unit(ROWS)), sparse(unit(QUERIES)), qrels={3: {best_of(3): 1}})
    assert (evaluation.ndcg_10, evaluation.dense_ndcg_10) == (1, 1)


def best_of(query: int) -> int:
    return int(dense_top(unit(ROWS), unit(QUERIES), 1)[query][0])


def test_the_dense_top_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dense_top(unit(ROWS), unit(QUERIES), 10)
    monkeypatch.setattr("sparsevec.measure.recall._SCORES", 3 * len(ROWS))
    assert np.array_equal(whole, dense_top(unit(ROWS), unit(QUERIES), 10))


def test_the_sparse_top_leaves_out_what_shares_nothing() -> None:
    documents = sparse(np.array([[1.0, 0], [0, 1], [2, 0]]))
    (found,) = sparse_top(documents, sparse(np.array([[1.0, 0]])), 10)
    assert found.tolist() == [2, 0]


def test_short_dense_codes_cost_their_length() -> None:
    evaluation = evaluate_dense(ROWS, QUERIES, unit(ROWS)[:, :4], unit(QUERIES)[:, :4])
    assert (evaluation.flops, evaluation.bytes) == (4, 16)
    assert evaluation.recall_10 < 1


@pytest.mark.parametrize("rows", [np.zeros((3, 8)), np.full((3, 8), np.nan), np.full((3, 8), np.inf), np.ones(8)])
def test_dense_rows_without_a_direction_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(InvalidVectors, match=r"no direction|shape \(n, d\)"):
        evaluate(rows, QUERIES, sparse(unit(ROWS)), sparse(unit(QUERIES)))


def test_as_many_sparse_as_dense_vectors_are_due() -> None:
    with pytest.raises(InvalidVectors, match=r"must be as many as dense, \(200, 20\), found \(3, 20\)"):
        evaluate(ROWS, QUERIES, sparse(unit(ROWS))[:3], sparse(unit(QUERIES)))


def test_no_relevant_documents_at_all_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="at least one query"):
        evaluate(ROWS, QUERIES, sparse(unit(ROWS)), sparse(unit(QUERIES)), qrels={})
