"""Retrieval against what numpy says of all pairs, at empty rows, ties, one dimension and signed weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sparsevec.answers.retrieval import Retrieval, pruned
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.postings.blocks import LOOPS
from sparsevec.vectors import SparseVector, SparseVectors
from tests.strategies import signed_weights, vectors

DOCUMENTS = SparseVectors.from_rows([{0: 1.0}, {0: 0.5, 1: 0.5}, {1: 1.0}, {}], dimension=2)
QUERY = SparseVectors.from_rows([{0: 1.0}], dimension=2)
DENSE = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [9.0, 9.0]], np.float32)

small = vectors(dimension=3, weights=signed_weights, min_rows=1)
thresholds = st.sampled_from([-math.inf, -1.0, 0.0, 0.25, 1.0, 4.0, math.inf])


def due(query: SparseVector, documents: SparseVectors, k: int, threshold: float) -> list[tuple[int, float]]:
    """All pairs by definition: shared dimensions added in ascending order, best first, then the lower row."""
    weights = query.to_dict()
    scored = []
    for row, document in enumerate(documents):
        products = [weights[index] * weight for index, weight in document.to_dict().items() if index in weights]
        scored += [(row, sum(products))] if products else []
    kept = [(row, score) for row, score in scored if score > threshold]
    return sorted(kept, key=lambda hit: (-hit[1], hit[0]))[:k]


@given(small, small, st.integers(1, 9), thresholds)
def test_the_k_best_above_the_threshold_are_those_of_all_pairs(
    queries: SparseVectors, documents: SparseVectors, k: int, threshold: float
) -> None:
    found = Retrieval(documents).search(queries, k, score_threshold=threshold)
    answers = [list(zip(rows.tolist(), scores.tolist(), strict=True)) for rows, scores in found]
    assert answers == [due(query, documents, k, threshold) for query in queries]


@given(small, small, st.integers(1, 9))
def test_a_threshold_at_a_score_leaves_out_its_ties_and_nothing_better(
    queries: SparseVectors, documents: SparseVectors, k: int
) -> None:
    for query, (rows, scores) in zip(queries, Retrieval(documents).search(queries, 9), strict=True):
        alone = SparseVectors([0, len(query)], query.indices, query.values, 3)
        for score in scores:
            (cut,) = Retrieval(documents).search(alone, k, score_threshold=float(score))
            assert cut.rows.tolist() == rows[scores > score][:k].tolist()


@given(small, st.sampled_from([0.0, 0.5, 1.0, 2.0, 1e39]))
@example(SparseVectors.from_rows([{0: 0.1}], dimension=3), 0.1)
def test_pruning_drops_the_weights_of_at_most_the_threshold(batch: SparseVectors, threshold: float) -> None:
    dense = batch.to_dense()
    dense[np.abs(dense) <= np.clip(threshold, 0, 3e38).astype(np.float32)] = 0
    assert pruned(batch, threshold) == SparseVectors.from_dense(dense)


def test_queries_and_documents_are_pruned_each_by_its_own_threshold() -> None:
    query = SparseVectors.from_rows([{0: 0.5, 1: 0.1}], dimension=2)
    (found,) = Retrieval(pruned(DOCUMENTS, 0.5)).search(pruned(query, 0.1), k=5)
    assert (found.rows.tolist(), found.scores.tolist()) == ([0], [0.5])


@given(small, small, st.integers(1, 4), st.integers(0, 4), st.data())
def test_a_shortlist_is_ranked_again_by_the_dense_rows(
    queries: SparseVectors, documents: SparseVectors, k: int, more: int, data: st.DataObject
) -> None:
    numbers = st.sampled_from([-1.0, 0.0, 0.1, 0.5, 3.0])
    dense, dense_queries = (
        np.array(data.draw(st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=n, max_size=n)), np.float32)
        for n in (len(documents), len(queries))
    )
    found = Retrieval(documents, dense=dense).search_reranked(queries, dense_queries, k, shortlist=k + more)
    for query, dense_query, (rows, scores) in zip(queries, dense_queries, found, strict=True):
        shortlist = [row for row, _ in due(query, documents, k + more, -math.inf)]
        wanted = [
            (row, sum(float(a) * float(b) for a, b in zip(dense[row], dense_query, strict=True))) for row in shortlist
        ]
        wanted.sort(key=lambda hit: (-hit[1], hit[0]))
        assert list(zip(rows.tolist(), scores.tolist(), strict=True)) == wanted[:k]


def test_a_re_ranking_sees_only_what_is_above_the_score_threshold() -> None:
    index = Retrieval(DOCUMENTS, dense=DENSE)
    (everything,) = index.search_reranked(QUERY, [[1.0, 0.0]], 3, shortlist=3)
    (above,) = index.search_reranked(QUERY, [[1.0, 0.0]], 3, shortlist=3, score_threshold=0.5)
    assert (everything.rows.tolist(), above.rows.tolist()) == ([1, 0], [0])


def test_a_shortlist_may_leave_out_the_densely_best() -> None:
    (found,) = Retrieval(DOCUMENTS, dense=DENSE).search_reranked(QUERY, [[1.0, 0.0]], 1, shortlist=1)
    assert found.rows.tolist() == [0]


def test_an_empty_query_and_an_empty_index_find_nothing() -> None:
    empty = SparseVectors.from_rows([{}], dimension=2)
    for index, query in [(Retrieval(DOCUMENTS), empty), (Retrieval(empty[:0], dense=np.empty((0, 2))), QUERY)]:
        (found,) = index.search(query, k=3)
        assert (len(found.rows), len(found.scores)) == (0, 0)


def test_without_numba_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Retrieval(DOCUMENTS).search(QUERY, k=2)
    monkeypatch.setattr(LOOPS, "_module", None)
    assert [ranking.rows.tolist() for ranking in Retrieval(DOCUMENTS).search(QUERY, k=2)] == [fast[0].rows.tolist()]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Retrieval(DOCUMENTS).search(QUERY, 0), "k must be an int of at least 1"),
        (lambda: Retrieval(DOCUMENTS).search(QUERY, 1, score_threshold=math.nan), "must be a number, found nan"),
        (lambda: Retrieval(DOCUMENTS).search(QUERY, 1, score_threshold="high"), "must be a number, found 'high'"),  # type: ignore[arg-type]
        (lambda: pruned(DOCUMENTS, 10**400), "must be at least 0 and finite, found 1000"),
        (lambda: pruned(DOCUMENTS, -0.1), "at least 0 and finite, found -0.1"),
        (lambda: pruned(DOCUMENTS, math.inf), "at least 0 and finite, found inf"),
        (
            lambda: Retrieval(DOCUMENTS).search_reranked(QUERY, [[1.0]], 1, shortlist=1),
            "needs the documents' dense rows",
        ),
        (
            lambda: Retrieval(DOCUMENTS, dense=DENSE).search_reranked(QUERY, [[1.0, 0.0]], 2, shortlist=1),
            "expected a shortlist of at least k = 2, found 1",
        ),
    ],
)
def test_arguments_that_mean_nothing_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        wrong()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: Retrieval(DOCUMENTS).search(SparseVectors([0], [], [], 3), 1),
            "queries have dimension 3, documents 2",
        ),
        (
            lambda: Retrieval(DOCUMENTS, dense=DENSE[:3]),
            r"shape \(4, d\) for the documents, found shape \(3, 2\)",
        ),
        (lambda: Retrieval(DOCUMENTS, dense=DENSE[:, :0]), r"found shape \(4, 0\)"),
        (lambda: Retrieval(DOCUMENTS, dense=DENSE * [[1], [1], [math.nan], [1]]), "dense row 2 of the documents"),
        (lambda: Retrieval(DOCUMENTS, dense=DENSE.astype(float) * 1e39), "dense row 0 of the documents is not finite"),
        (
            lambda: Retrieval(DOCUMENTS, dense=DENSE).search_reranked(QUERY, [1.0, 0.0], 1, shortlist=1),
            r"shape \(1, d\) for the queries, found shape \(2,\)",
        ),
        (
            lambda: Retrieval(DOCUMENTS, dense=DENSE).search_reranked(QUERY, [[1.0]], 1, shortlist=1),
            "dense queries have 1 columns, dense documents 2",
        ),
    ],
)
def test_vectors_that_do_not_fit_together_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidVectors, match=message):
        wrong()
