"""C20 and C21: candidates are re-ordered by a second query, and a ranking is read on page by page."""

from __future__ import annotations

import numpy as np
import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.searches import rescored
from sparsevec.errors import InvalidInput, InvalidVectors, SparsevecError
from sparsevec.testing.conformance.documents import DIMENSION, ask, corpus, fill, rows
from sparsevec.testing.conformance.suite import Suite
from sparsevec.vectors import SparseVectors

__all__ = ["LookingAgain"]

_DEEP = 10_500  # more hits than one answer of Lucene's may have


def signed(n: int, seed: int = 1) -> SparseVectors:
    """n second queries, long and of either sign."""
    dense = np.random.default_rng(seed).normal(size=(n, 60)).astype(np.float32)
    return SparseVectors.from_dense(np.pad(dense, ((0, 0), (0, DIMENSION - 60))))


def whole_ranking(adapter: Adapter, query: SparseVectors, size: int, **options: object) -> list[tuple[object, float]]:
    """Every hit, page by page."""
    found: list[tuple[object, float]] = []
    after: str | None = ""
    while after is not None:
        (hits,) = adapter.search(query, size, after=after, **options)  # type: ignore[arg-type]
        found += zip(hits.ids, hits.scores.tolist(), strict=True)
        assert hits.after is None or len(hits) == size
        after = hits.after
    return found


class LookingAgain(Suite):
    # ---- C20: a second look

    def test_c20_candidates_are_re_ordered_by_the_second_query(self, adapter: Adapter) -> None:
        documents = rows({1: 4.0, 2: 1.0}, {1: 3.0, 2: 4.0}, {1: 2.0, 2: 2.0}, {1: 1.0, 2: 8.0}, {2: 9.0})
        fill(adapter, range(5), documents)
        hits = ask(adapter, {1: 1.0}, k=2, rescore=rows({2: 1.0}), candidates=3)
        assert (hits.ids, hits.scores.tolist()) == ((1, 2), [4.0, 2.0])
        hits = ask(adapter, {1: 1.0}, k=3, rescore=rows({1: 0.5, 2: -1.0}))
        assert (hits.ids, hits.scores.tolist()) == ((0, 2, 1), [1.0, -1.0, -2.5])

    def test_c20_the_scores_are_products_with_what_is_stored(self, adapter: Adapter) -> None:
        documents, queries, second = corpus(300), corpus(10, seed=2), signed(10)
        fill(adapter, range(300), documents)
        first = adapter.search(queries, 50, with_vectors=True)
        answers = adapter.search(queries, 20, rescore=second, candidates=50)
        for candidates, query, hits in zip(first, second, answers, strict=True):
            expected = rescored(candidates, query, 50, with_vectors=False)
            truth = dict(zip(expected.ids, expected.scores.tolist(), strict=True))
            assert hits.scores.tolist() == pytest.approx([truth[id_] for id_ in hits.ids], rel=1e-5, abs=1e-4)
            assert hits.scores.tolist() == pytest.approx(expected.scores[:20].tolist(), rel=1e-5, abs=1e-4)

    def test_c20_a_second_query_longer_than_its_candidates_gives_the_same(self, adapter: Adapter) -> None:
        fill(adapter, range(3), rows({1: 3.0, 2: 1.0}, {1: 2.0, 2: 4.0}, {1: 1.0, 999: 3.0}))
        long = rows({i: 1.0 if i in (2, 999) else -0.5 for i in range(DIMENSION)})
        hits = ask(adapter, {1: 1.0}, k=2, rescore=long, candidates=3, with_payloads=True)
        assert (hits.ids, hits.scores.tolist()) == ((1, 2), [3.0, 2.5])
        assert hits.vectors is None

    def test_c20_who_shares_no_dimension_with_the_second_query_is_no_hit(self, adapter: Adapter) -> None:
        fill(adapter, range(3), rows({1: 3.0}, {1: 2.0, 2: 1.0}, {1: 1.0}))
        assert ask(adapter, {1: 1.0}, rescore=rows({2: 1.0})).ids == (1,)
        assert ask(adapter, {1: 1.0}, rescore=rows({})).ids == ()
        assert ask(adapter, {3: 1.0}, rescore=rows({2: 1.0})).ids == ()

    def test_c20_what_is_asked_for_comes_with_the_second_order(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, code_bytes=2)
        codes = np.array([[1, 2], [3, 4], [5, 6]], np.uint8)
        documents = rows({1: 3.0, 2: 1.0}, {1: 2.0, 2: 2.0}, {1: 1.0, 2: 3.0})
        adapter.upsert(["a", "b", "c"], documents, [{"n": 0}, {"n": 1}, {"n": 2}], codes=codes)
        options = {"with_payloads": True, "with_vectors": True, "with_codes": True}
        hits = ask(adapter, {1: 1.0}, k=2, rescore=rows({2: 1.0}), candidates=3, where={"n": {"lt": 2}}, **options)
        assert (hits.ids, hits.payloads) == (("b", "a"), ({"n": 1}, {"n": 0}))
        assert hits.vectors == adapter.stored(documents[[1, 0]])
        assert np.array_equal(hits.codes, codes[[1, 0]])  # type: ignore[arg-type]
        assert ask(adapter, {1: 1.0}, rescore=rows({2: 1.0})).vectors is None

    def test_c20_a_second_look_that_cannot_be_is_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        query = rows({1: 1.0})
        with pytest.raises(InvalidInput, match="candidates"):
            adapter.search(query, 10, rescore=query, candidates=9)
        with pytest.raises(InvalidInput, match="rescore"):
            adapter.search(query, 10, candidates=20)
        with pytest.raises(InvalidInput, match="rescore"):
            adapter.search(query, 10, rescore=rows({1: 1.0}, {1: 1.0}))
        with pytest.raises(InvalidInput, match="rescore"):
            adapter.search(query, 10, rescore=query, after="")
        with pytest.raises(InvalidVectors):
            adapter.search(query, 10, rescore=SparseVectors.from_rows([{1: 1.0}], dimension=DIMENSION + 1))

    # ---- C21: reading on

    def test_c21_pages_hold_the_whole_ranking_once_and_best_first(self, adapter: Adapter) -> None:
        documents, query = corpus(150), corpus(1, seed=5)
        fill(adapter, range(150), documents)
        (whole,) = adapter.search(query, 150)
        found = whole_ranking(adapter, query, 7)
        assert [score for _, score in found] == whole.scores.tolist()
        assert sorted(found, key=str) == sorted(zip(whole.ids, whole.scores.tolist(), strict=True), key=str)

    def test_c21_ties_are_not_lost_at_the_edge_of_a_page(self, adapter: Adapter) -> None:
        fill(adapter, range(50), rows(*({1: 1.0 + (i >= 45)} for i in range(50))))
        for size in (1, 4, 5, 24, 49, 50, 51):
            found = whole_ranking(adapter, rows({1: 1.0}), size)
            assert sorted(id_ for id_, _ in found) == list(range(50))  # type: ignore[type-var]
            assert [score for _, score in found] == [2.0] * 5 + [1.0] * 45

    def test_c21_filters_payloads_vectors_and_codes_come_with_each_page(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, code_bytes=1)
        documents = rows(*({1: 1.0 + i} for i in range(30)))
        codes = np.arange(30, dtype=np.uint8)[:, None]
        adapter.upsert(range(30), documents, [{"n": i % 2, "i": i} for i in range(30)], codes=codes)
        options = {"where": {"n": 1}, "with_payloads": True, "with_vectors": True, "with_codes": True}
        first = ask(adapter, {1: 1.0}, k=4, after="", **options)
        second = ask(adapter, {1: 1.0}, k=4, after=first.after, **options)
        assert (first.ids, second.ids) == ((29, 27, 25, 23), (21, 19, 17, 15))
        assert second.payloads == tuple({"n": 1, "i": i} for i in second.ids)
        assert second.codes is not None
        assert second.codes[:, 0].tolist() == list(second.ids)
        assert second.vectors == adapter.stored(documents)[np.array(second.ids, np.int64)]
        rest = ask(adapter, {1: 1.0}, k=40, after=second.after, **options)
        assert (rest.ids, rest.after) == ((13, 11, 9, 7, 5, 3, 1), None)

    def test_c21_a_search_that_does_not_read_on_gives_no_place(self, adapter: Adapter) -> None:
        fill(adapter, range(3), rows({1: 1.0}, {1: 2.0}, {1: 3.0}))
        assert ask(adapter, {1: 1.0}, k=1).after is None
        assert whole_ranking(adapter, rows({}), 5) == []
        assert whole_ranking(adapter, rows({2: 1.0}), 5) == []

    def test_c21_documents_written_meanwhile_do_not_show_from_one_point_in_time(self, steady: Adapter) -> None:
        adapter = steady
        fill(adapter, range(6), rows(*({1: 10.0 - i} for i in range(6))))
        first = ask(adapter, {1: 1.0}, k=2, after="")
        adapter.upsert([9, 0], rows({1: 1.5}, {1: 5.5}))
        adapter.delete([4])
        rest = ask(adapter, {1: 1.0}, k=9, after=first.after)
        assert first.ids + rest.ids == (0, 1, 2, 3, 4, 5)

    @pytest.mark.parametrize(("deleted", "written"), [(0, 0), (3, 0), (18, 0), (0, 1), (0, 90), (18, 90)])
    def test_c21_documents_that_stay_as_they_are_come_once(self, adapter: Adapter, deleted: int, written: int) -> None:
        """Four tie at each score, and a page ends amid them; above it, and level with it, documents go and come."""
        fill(adapter, range(60), rows(*({1: 1.0 + i // 4} for i in range(60))))
        first = ask(adapter, {1: 1.0}, k=22, after="")
        new = range(100, 100 + written)
        adapter.delete(first.ids[::-1][:deleted])
        adapter.upsert([99, *new], rows({1: 0.5}, *({1: 10.0 + i % 3} for i in new)))
        second = ask(adapter, {1: 1.0}, k=5, after=first.after)
        adapter.delete([*first.ids[:deleted], *new[::2]])
        adapter.upsert([98, 97], rows({1: 99.0}, {1: 0.5}))
        rest = ask(adapter, {1: 1.0}, k=200, after=second.after)
        found = [hit for hit in (*first, *second, *rest) if hit.id in range(60)]
        assert sorted(hit.id for hit in found) == list(range(60))
        assert [hit.score for hit in found] == [1.0 + i // 4 for i in range(60)][::-1]
        assert rest.after is None

    def test_c21_reading_goes_beyond_what_one_answer_may_hold(self, adapter: Adapter) -> None:
        weights = np.random.default_rng(0).integers(1, 40, _DEEP)
        documents = SparseVectors(np.arange(_DEEP + 1), np.ones(_DEEP, np.int64), weights.astype(np.float32), DIMENSION)
        adapter.create(DIMENSION)
        for start in range(0, _DEEP, 3500):
            adapter.upsert(range(start, start + 3500), documents[start : start + 3500])
        found = whole_ranking(adapter, rows({1: 1.0}), 3000)
        assert sorted(id_ for id_, _ in found) == list(range(_DEEP))  # type: ignore[type-var]
        assert [score for _, score in found] == sorted(weights.astype(float).tolist(), reverse=True)

    def test_c21_a_place_that_is_none_is_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {1: 2.0}))
        for after in ("nonsense", "[]", "{}", '["x"]', "[1,2]", "1 2"):
            with pytest.raises(InvalidInput):
                ask(adapter, {1: 1.0}, after=after)
        with pytest.raises(InvalidInput, match="one query"):
            adapter.search(rows({1: 1.0}, {1: 1.0}), 5, after="")
        with pytest.raises(SparsevecError):
            adapter.search(rows({1: 1.0}), 0, after="")
