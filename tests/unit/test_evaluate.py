"""The one ruler: recall, nDCG and their intervals, against small cases that can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.dense import nearest, unit_rows
from sparsevec.errors import InvalidInput, InvalidVectors, WrongSpace
from sparsevec.measure.intervals import interval, paired_interval
from sparsevec.measure.labels import ndcgs
from sparsevec.measure.recall import dense_top, evaluate, evaluate_dense, judged, recalls, reranked, sparse_top
from sparsevec.similarity import Near
from sparsevec.vectors import SparseVectors

ROWS = np.random.default_rng(0).random((200, 8), np.float32)
QUERIES = np.random.default_rng(1).random((20, 8), np.float32)
THREE = unit_rows(np.array([[1, 0], [1, 0.2], [0, 1]]))
AXIS = unit_rows(np.array([[1.0, 0]]))


def sparse(rows: np.ndarray) -> SparseVectors:
    return SparseVectors.from_dense(rows)


def test_vectors_that_say_the_same_as_the_dense_ones_have_full_recall() -> None:
    evaluation = evaluate(ROWS * 3, QUERIES, sparse(unit_rows(ROWS)), sparse(unit_rows(QUERIES)))
    assert (evaluation.recall_10, evaluation.recall_10_at_100) == (1, 1)
    assert (evaluation.flops, evaluation.r_sub, evaluation.dense_bytes) == (8, 1, 32)


@pytest.mark.parametrize("similarity", ["dot", "l2"])
def test_what_ranks_as_the_dense_search_does_has_full_recall_by_its_similarity_and_not_by_the_cosine(
    similarity: Near,
) -> None:
    rows = ROWS * np.random.default_rng(3).uniform(0.2, 3, (200, 1)).astype(np.float32)
    if similarity == "dot":
        codes, asked = sparse(rows), sparse(QUERIES)
    else:  # |q - d|^2 is smallest where q.d - |d|^2 / 2 is largest
        codes = sparse(np.column_stack([rows, -np.square(rows).sum(axis=1) / 2]))
        asked = sparse(np.column_stack([QUERIES, np.ones(20, np.float32)]))
    found = evaluate(rows, QUERIES, codes, asked, similarity=similarity)
    assert (found.recall_10, found.recall_10_at_100, found.dense_bytes) == (1, 1, 32)
    assert evaluate(rows, QUERIES, codes, asked).recall_10 < 0.9


def test_recall_at_100_counts_what_a_re_ranking_could_reach() -> None:
    codes = unit_rows(ROWS)
    shuffled = codes + np.random.default_rng(2).normal(0, 0.1, codes.shape).clip(0).astype(np.float32)
    evaluation = evaluate(ROWS, QUERIES, sparse(shuffled), sparse(unit_rows(QUERIES)))
    assert evaluation.recall_10 < evaluation.recall_10_at_100 <= 1


def recall_of(rows: np.ndarray, query: np.ndarray, found: list[int], k: int) -> float:
    units, asked = unit_rows(rows), unit_rows(query[None])
    return float(recalls(units, asked, [np.array(found, np.int64)], nearest(units, asked, k))[0])


def test_recall_is_the_share_of_the_dense_best_that_was_found() -> None:
    rows = np.array([[1, 0.1 * row] for row in range(6)])
    assert recall_of(rows, rows[0], [0, 2, 5], k=4) == 2 / 4
    assert recall_of(rows, rows[0], [], k=4) == 0


def test_a_document_that_scores_as_much_as_the_k_th_best_counts_whatever_its_row() -> None:
    twins = np.array([[1, 0.5]] * 5 + [[1, 0.9]])
    assert recall_of(twins, np.array([1.0, 0.5]), [3, 4], k=2) == 1
    assert recall_of(twins, np.array([1.0, 0.5]), [4, 5], k=2) == 1 / 2


def test_more_ties_than_k_count_as_k_only() -> None:
    twins = np.array([[1, 0.5]] * 5)
    assert recall_of(twins, np.array([1.0, 0.5]), [0, 1, 2, 3, 4], k=2) == 1


def test_fewer_documents_than_k_are_all_there_is_to_find() -> None:
    assert recall_of(np.array([[1, 0], [1, 0.2], [0, 1.0]]), np.array([1.0, 0]), [0, 1], k=10) == 2 / 3


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_of_rows_of_small_whole_numbers_recall_is_what_exact_cosines_say(k: int, seed: int) -> None:
    """Small integers make many ties; here ties are found by exact fractions instead of floats."""
    generator = np.random.default_rng(seed)
    rows, query = generator.integers(1, 4, (15, 2)), generator.integers(1, 4, 2)
    found = generator.permutation(15)[: generator.integers(0, 13)]
    squares = [(int(row @ query) ** 2, int(row @ row)) for row in rows]  # cosine^2 times a constant, as a fraction
    better = [sum(a * y > x * b for a, b in squares) for x, y in squares]  # how many are better than each
    due = min(k, 15)
    reached = sum(better[row] < due for row in found)
    assert recall_of(rows, query, found.tolist(), k) == min(reached, due) / due


def test_a_query_that_is_a_document_leaves_itself_out() -> None:
    codes, itself = sparse(unit_rows(ROWS)), np.arange(20)
    asked = evaluate(ROWS, ROWS[:20], codes, codes[:20], itself=itself)
    assert asked.recall_10 == 1
    dense = dense_top(unit_rows(ROWS), unit_rows(ROWS)[:20], 10, itself=itself)
    for found in (dense, sparse_top(codes, codes[:20], 10, itself=itself)):
        assert all(row not in rows for row, rows in enumerate(found))


def test_finding_only_oneself_is_worth_nothing_when_one_is_left_out() -> None:
    alone = SparseVectors.from_rows([{row: 1.0} for row in range(200)], dimension=200)
    with_itself = evaluate(ROWS, ROWS[:20], alone, alone[:20])
    without = evaluate(ROWS, ROWS[:20], alone, alone[:20], itself=np.arange(20))
    assert with_itself.recall_10 == pytest.approx(0.1)
    assert without.recall_10 == 0


def test_a_query_that_is_no_document_is_minus_one_among_those_that_are() -> None:
    units = unit_rows(ROWS)
    found = nearest(units, units[:2], 3, itself=np.array([-1, 1]))
    assert found.rows[0, 0] == 0
    assert 1 not in found.rows[1]


# ---- by judgements


def ndcg_10(candidates: list[int], relevant: int) -> float:
    return float(ndcgs(reranked(THREE, AXIS, [np.array(candidates)]), {0: {relevant: 1}}, 10)[0])


def test_a_known_item_at_rank_two_is_worth_what_ndcg_says() -> None:
    assert ndcg_10([2, 1, 0], 1) == pytest.approx(1 / np.log2(3))


def test_a_re_ranking_cannot_find_what_is_no_candidate() -> None:
    assert ndcg_10([2, 1], 0) == 0


def test_a_re_ranking_gives_ties_to_the_lower_row() -> None:
    rows = unit_rows(np.array([[1.0, 0], [0, 1], [1, 0], [1, 0]]))
    assert reranked(rows, AXIS, [np.array([3, 1, 2, 0])])[0].tolist() == [0, 2, 3, 1]


def test_queries_that_nobody_judged_do_not_count() -> None:
    best = int(dense_top(unit_rows(ROWS), unit_rows(QUERIES), 1)[3][0])
    evaluation = evaluate(ROWS, QUERIES, sparse(unit_rows(ROWS)), sparse(unit_rows(QUERIES)), qrels={3: {best: 1}})
    assert (evaluation.ndcg_10, evaluation.dense_ndcg_10) == (1, 1)


def test_gains_stand_in_the_order_of_the_queries() -> None:
    rankings = [np.array([row]) for row in range(12)]
    assert ndcgs(rankings, {11: {11: 1}, 2: {3: 1}, 0: {0: 1}}, 10).tolist() == [1, 0, 1]


# ---- intervals


def test_an_interval_is_the_same_for_the_same_numbers_and_holds_their_mean() -> None:
    values = np.random.default_rng(0).random(300)
    found = interval(values)
    assert found == interval(values)
    assert found.low < values.mean() < found.high


def test_an_interval_of_many_numbers_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(5, 2, 4000)
    half = 1.96 * values.std() / np.sqrt(4000)
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    generator = np.random.default_rng(3)
    draws = [interval(generator.random(60) < 0.7) for _ in range(200)]
    assert 0.90 <= np.mean([found.low <= 0.7 <= found.high for found in draws]) <= 0.99


def test_pairs_tell_apart_what_intervals_of_each_side_cannot() -> None:
    hard = np.random.default_rng(0).random(200)
    worse = hard - 0.01 * np.random.default_rng(1).random(200)
    assert interval(worse).high > interval(hard).low  # they overlap
    assert paired_interval(worse, hard).high < 0
    assert paired_interval(hard, hard) == (0, 0)


@pytest.mark.parametrize("values", [[], [[0.5]], [0.5, np.nan]])
def test_numbers_that_have_no_interval_are_refused(values: list[float]) -> None:
    with pytest.raises(InvalidInput, match="one finite number for each query"):
        interval(values)


@pytest.mark.parametrize("seed", [-1, 1.5, "x"])
def test_a_seed_that_is_no_whole_number_is_refused(seed: Any) -> None:
    with pytest.raises(InvalidInput, match="seed must be a whole number"):
        interval([0.0, 1.0], seed=seed)


def test_a_pair_is_of_the_same_queries() -> None:
    with pytest.raises(InvalidInput, match=r"the same queries, found \(3,\) and \(2,\)"):
        paired_interval([1, 1, 0], [1, 0])


def test_every_quality_figure_has_its_interval() -> None:
    rows, queries = unit_rows(ROWS), unit_rows(QUERIES)
    codes, asked = sparse(np.where(rows > 0.4, rows, 0)), sparse(queries)
    evaluation = evaluate(ROWS, QUERIES, codes, asked, qrels={0: {0: 1}})
    quality = judged(rows, queries, sparse_top(codes, asked, 100))
    assert evaluation.recall_10 == quality.recall_10.mean()
    assert evaluation.recall_10_interval == interval(quality.recall_10)
    assert evaluation.recall_10_at_100_interval == interval(quality.recall_10_at_100)
    assert evaluation.ndcg_10_interval is not None


# ---- tops


def test_the_dense_top_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dense_top(unit_rows(ROWS), unit_rows(QUERIES), 10)
    monkeypatch.setattr("sparsevec.dense._SCORES", 3 * len(ROWS))
    assert np.array_equal(whole, dense_top(unit_rows(ROWS), unit_rows(QUERIES), 10))


def test_the_sparse_top_leaves_out_what_shares_nothing() -> None:
    documents = sparse(np.array([[1.0, 0], [0, 1], [2, 0]]))
    (found,) = sparse_top(documents, sparse(np.array([[1.0, 0]])), 10)
    assert found.tolist() == [2, 0]


def test_short_dense_codes_cost_their_length() -> None:
    evaluation = evaluate_dense(ROWS, QUERIES, unit_rows(ROWS)[:, :4], unit_rows(QUERIES)[:, :4])
    assert (evaluation.flops, evaluation.bytes) == (4, 16)
    assert evaluation.recall_10 < 1


# ---- what is refused


@pytest.mark.parametrize("rows", [np.zeros((3, 8)), np.full((3, 8), np.nan), np.full((3, 8), np.inf), np.ones(8)])
def test_dense_rows_without_a_direction_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(InvalidVectors, match=r"no direction|NaN or infinity|shape \(n, d\)"):
        evaluate(rows, QUERIES, sparse(unit_rows(ROWS)), sparse(unit_rows(QUERIES)))


def test_as_many_sparse_as_dense_vectors_are_expected() -> None:
    with pytest.raises(InvalidVectors, match=r"as many sparse .* as dense, \(200, 20\), found \(3, 20\)"):
        evaluate(ROWS, QUERIES, sparse(unit_rows(ROWS))[:3], sparse(unit_rows(QUERIES)))


def test_documents_and_queries_of_two_models_are_refused() -> None:
    with pytest.raises(InvalidVectors, match="documents have 8 columns, queries 7"):
        evaluate(ROWS, QUERIES[:, :7], sparse(ROWS), sparse(QUERIES))


def test_no_documents_or_queries_at_all_are_refused() -> None:
    with pytest.raises(InvalidVectors, match="at least one document and one query, found 200 and 0"):
        evaluate(ROWS, QUERIES[:0], sparse(ROWS), sparse(QUERIES)[:0])


def test_no_relevant_documents_at_all_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="at least one query"):
        evaluate(ROWS, QUERIES, sparse(unit_rows(ROWS)), sparse(unit_rows(QUERIES)), qrels={})


def test_what_cannot_be_evaluated_is_said() -> None:
    codes, asked = sparse(ROWS), sparse(QUERIES)
    with pytest.raises(InvalidVectors, match="expected vectors as SparseVectors, found ndarray"):
        evaluate(ROWS, QUERIES, ROWS, asked)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="similarity must be 'cosine', 'dot', 'l2', found 'manhattan'"):
        evaluate(ROWS, QUERIES, codes, asked, similarity="manhattan")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"expected relevant documents as .* found PosixPath"):
        evaluate(ROWS, QUERIES, codes, asked, qrels=Path("qrels.tsv"))  # type: ignore[arg-type]
    for row in (-1, 200):
        with pytest.raises(
            InvalidInput, match=rf"as rows of 200 documents, .* found {row}; sparsevec.files.read_qrels"
        ):
            evaluate(ROWS, QUERIES, codes, asked, qrels={0: {row: 1}})
    for itself in ([0], [200] * 20, [-2] * 20, [0.5] * 20, "abc", [[0], [1, 2]]):
        with pytest.raises(InvalidInput, match=r"itself must be the row of a document, or -1, for each of 20 queries"):
            evaluate(ROWS, QUERIES, codes, asked, itself=itself)  # type: ignore[arg-type]


def test_queries_of_another_encoder_than_the_documents_are_refused() -> None:
    codes, asked = sparse(ROWS).with_fingerprint("0" * 16), sparse(QUERIES).with_fingerprint("1" * 16)
    with pytest.raises(WrongSpace, match="made by another encoder"):
        evaluate(ROWS, QUERIES, codes, asked)
