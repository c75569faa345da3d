"""`Conformance`: the clauses C1..C18 of `sparsevec.contract.adapter`, one or more tests each, for any adapter.

    class TestMine(Conformance):
        @pytest.fixture
        def adapter(self) -> Iterator[Adapter]:
            yield connect("qdrant://localhost:6333/conformance")
            connect("qdrant://localhost:6333/conformance").drop()  # the test may have closed the first one

`adapter` is fresh for every test, and its collection is not there yet. Override `reopen` when a backend outlives its
adapter. What a backend cannot hold may come back as failed, with a reason; what it holds must be exact, and nothing may
get lost in silence. `verify` is the judge of scores and of what was left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.checks import Id, Payload
from sparsevec.contract.filters import Where, conditions, matches
from sparsevec.errors import AdapterError, CollectionError, InvalidInput, InvalidVectors, SparsevecError
from sparsevec.exact.verify import verify
from sparsevec.vectors import SparseVectors

__all__ = ["Conformance"]

DIMENSION = 1000

PAYLOADS: tuple[Payload, ...] = (
    {"n": 1},
    {"n": "1"},
    {"n": True},
    {"n": 1.0},
    {"n": 2.5, "brand": "acme"},
    {"n": -3, "brand": "Acme"},
    {"n": [1, 7], "brand": ["acme", "zeta"]},
    {"n": [], "brand": None},
    {"brand": "acme inc", "on": False},
    {"maker": {"name": "acme", "size": {"staff": 12}}, "on": True},
    {"maker": [{"name": "zeta"}, {"name": "acme"}], "on": [False, True]},
    {"maker": "acme", "n": [[1]]},
    {"Größe in m": 7, "brand": ""},
    {"n": 2**53 - 1},
    {"n": 2**62 + 1},
    {},
)

MALFORMED_WRITES: tuple[tuple[Any, Any], ...] = (  # of two documents: ids and payloads
    ([1], None),
    ([1, 2, 3], None),
    ([1, 1], None),
    (["a", "a"], None),
    ([1, -1], None),
    ([1, 2**64], None),
    ([1, ""], None),
    ([1, True], None),
    ([1, 2.0], None),
    ([1, b"x"], None),
    ([1, "\ud800"], None),
    ([1, 2], [{}]),
    ([1, 2], [{}, {"a.b": 1}]),
    ([1, 2], [{}, {"n": float("nan")}]),
    ([1, 2], [{}, {"n": 2**63}]),
    ([1, 2], [{}, {"n": object()}]),
    ([1, 2], [{}, {"_sparsevec_id": "x"}]),
)

TYPED_FILTERS: tuple[Where, ...] = (
    {"n": 1},
    {"n": "1"},
    {"n": True},
    {"n": 1.0},
    {"n": 2.5},
    {"n": -3},
    {"n": 2**53 - 1},
    {"n": ["1", 2.5, True]},
    {"on": True},
    {"on": False},
)

STRING_FILTERS: tuple[Where, ...] = (
    {"brand": "acme"},
    {"brand": "Acme"},
    {"brand": ""},
    {"brand": "nobody"},
    {"brand": ["acme", "zeta", "nobody"]},
    {"nowhere": 1},
    {"Größe in m": 7},
)

RANGE_FILTERS: tuple[Where, ...] = (
    {"n": {"gte": 1}},
    {"n": {"gt": 1}},
    {"n": {"lte": 1}},
    {"n": {"lt": 2.5}},
    {"n": {"gte": 1, "lt": 7}},
    {"n": {"gt": 0}, "brand": "acme"},
)

NESTED_FILTERS: tuple[Where, ...] = (
    {"n": 7},
    {"maker.name": "acme"},
    {"maker.name": "zeta"},
    {"maker.size.staff": {"gte": 12}},
    {"maker": "acme"},
)


def rows(*documents: Mapping[int, float]) -> SparseVectors:
    return SparseVectors.from_rows(documents, dimension=DIMENSION)


def corpus(n: int, seed: int = 0, nnz: int = 12) -> SparseVectors:
    """n documents over few enough dimensions that they meet, with weights of many sizes."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(60, size=rng.integers(1, nnz + 1), replace=False) for _ in range(n)]
    return rows(*(dict(zip(map(int, c), map(float, rng.lognormal(0, 2, len(c))), strict=True)) for c in chosen))


def fill(
    adapter: Adapter, ids: Sequence[Id], documents: SparseVectors, payloads: Sequence[Payload] | None = None
) -> None:
    """A new collection with these documents in it, all of them written."""
    adapter.create(documents.dimension)
    report = adapter.upsert(ids, documents, payloads)
    assert (report.written, dict(report.skipped), dict(report.failed)) == (tuple(ids), {}, {})


def ask(adapter: Adapter, query: Mapping[int, float], k: int = 10, **options: Any) -> Hits:
    (hits,) = adapter.search(rows(query), k, **options)
    return hits


def assert_filters_mean_the_same(adapter: Adapter, filters: Sequence[Where]) -> None:
    """Each filter finds the PAYLOADS that `matches` says, all of them, and ranks them exactly."""
    documents = rows(*({1: float(i + 1)} for i in range(len(PAYLOADS))))
    fill(adapter, range(len(PAYLOADS)), documents, PAYLOADS)
    due = [{i for i, p in enumerate(PAYLOADS) if matches(p, conditions(where))} for where in filters]
    found = [set(ask(adapter, {1: 1.0}, k=100, where=where).ids) for where in filters]
    assert list(zip(filters, found, strict=True)) == list(zip(filters, due, strict=True))
    for where in filters:
        verify(adapter, documents, rows({1: 1.0}), 3, where=where, payloads=PAYLOADS).require_exact()


class Conformance:
    """Inherit, give the fixture `adapter`, and every test below is yours."""

    @pytest.fixture
    def adapter(self) -> Any:
        raise NotImplementedError("give your test class a fixture `adapter`; the module docstring shows how")

    def reopen(self, adapter: Adapter) -> Adapter:
        """An adapter of the same collection after the backend was restarted, if your fixture can restart it."""
        return adapter

    # ---- C1: create

    def test_c1_create_makes_an_empty_collection(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        assert adapter.count() == 0
        assert adapter.info().dimension == DIMENSION
        assert ask(adapter, {1: 1.0}).ids == ()

    def test_c1_a_second_create_is_an_error_and_changes_nothing(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        with pytest.raises(CollectionError):
            adapter.create(DIMENSION)
        assert ask(adapter, {1: 1.0}).ids == (1,)

    def test_c1_a_dimension_that_no_vector_has_is_refused(self, adapter: Adapter) -> None:
        with pytest.raises(InvalidVectors):
            adapter.create(0)
        assert adapter.info().dimension is None

    def test_c1_without_a_collection_every_call_says_so(self, adapter: Adapter) -> None:
        assert adapter.info().dimension is None
        with pytest.raises(CollectionError):
            adapter.upsert([1], rows({1: 1.0}))
        with pytest.raises(CollectionError):
            adapter.search(rows({1: 1.0}), 1)
        with pytest.raises(CollectionError):
            adapter.fetch([1])
        with pytest.raises(CollectionError):
            adapter.delete([1])
        with pytest.raises(CollectionError):
            adapter.count()

    # ---- C2: what was reported as written stays

    def test_c2_written_documents_are_searchable_at_once(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        for i in range(5):
            adapter.upsert([i], rows({i: 1.0}))
            assert ask(adapter, {i: 1.0}).ids == (i,)

    def test_c2_written_documents_survive_a_restart(self, adapter: Adapter) -> None:
        documents = corpus(40)
        fill(adapter, range(40), documents, [{"n": i} for i in range(40)])
        adapter.delete([0])
        adapter = self.reopen(adapter)
        assert adapter.count() == 39
        assert adapter.fetch([7]).payloads == ({"n": 7},)
        verify(adapter, documents[1:], corpus(10, seed=1), ids=range(1, 40)).require_exact()

    # ---- C3: replacement

    def test_c3_writing_an_id_again_replaces_its_vector(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0, 2: 1.0}))
        adapter.upsert([1], rows({2: 3.0}))
        assert adapter.count() == 1
        assert ask(adapter, {1: 1.0}).ids == ()
        assert ask(adapter, {2: 1.0}).scores.tolist() == [3.0]

    def test_c3_a_rewrite_keeps_the_payload_fields_that_are_not_given(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}), [{"kept": {"deep": [1, "two"]}, "changed": {"old": 1}}])
        adapter.upsert([1], rows({1: 2.0}), [{"changed": {"new": 2}, "added": True}])
        (payload,) = adapter.fetch([1]).payloads
        assert payload == {"kept": {"deep": [1, "two"]}, "changed": {"new": 2}, "added": True}

    def test_c3_a_rewrite_without_payload_keeps_the_payload(self, adapter: Adapter) -> None:
        fill(adapter, ["a", 2], rows({1: 1.0}, {1: 1.0}), [{"n": 1}, {"n": 2}])
        adapter.upsert(["a", 2], rows({1: 2.0}, {1: 2.0}))
        assert adapter.fetch(["a", 2]).payloads == ({"n": 1}, {"n": 2})

    def test_c3_a_field_can_be_rewritten_to_nothing(self, adapter: Adapter) -> None:
        fill(adapter, [1, "a"], rows({1: 1.0}, {1: 1.0}), [{"n": 1, "m": 1}, {"n": None}])
        adapter.upsert([1, "a"], rows({1: 2.0}, {1: 2.0}), [{"n": None, "new": [None]}, {"m": None}])
        assert adapter.fetch([1, "a"]).payloads == ({"n": None, "m": 1, "new": [None]}, {"n": None, "m": None})

    def test_c3_a_rewrite_changes_no_other_document(self, adapter: Adapter) -> None:
        documents = corpus(30)
        fill(adapter, range(30), documents, [{"n": i} for i in range(30)])
        adapter.upsert([4], documents[7:8], [{"n": "new"}])
        documents = SparseVectors.concat([documents[:4], documents[7:8], documents[5:]])
        verify(adapter, documents, corpus(10, seed=2)).require_exact()
        assert adapter.fetch([3, 5]).payloads == ({"n": 3}, {"n": 5})

    def test_c3_old_and_new_ids_in_one_write(self, adapter: Adapter) -> None:
        fill(adapter, [1, "b"], rows({1: 1.0}, {1: 1.0}), [{"n": 1}, {"n": 2}])
        report = adapter.upsert(["b", "c", 1], rows({2: 2.0}, {2: 3.0}, {2: 1.0}), [{"m": 1}, {"m": 2}, {}])
        assert report.written == ("b", "c", 1)
        assert ask(adapter, {2: 1.0}).ids == ("c", "b", 1)
        assert adapter.fetch(["b", "c", 1]).payloads == ({"n": 2, "m": 1}, {"m": 2}, {"n": 1})

    # ---- C4 to C8: search

    def test_c4_a_score_is_the_dot_product(self, adapter: Adapter) -> None:
        fill(adapter, [7], rows({1: 2.0, 2: 0.5, 9: 4.0}))
        hits = ask(adapter, {1: 3.0, 2: 8.0, 5: 1.0})
        assert hits.scores.tolist() == [10.0]
        assert hits.scores.dtype == np.float32

    def test_c4_scores_are_within_what_rounding_allows(self, adapter: Adapter) -> None:
        documents = corpus(300, nnz=50)
        fill(adapter, range(300), documents)
        verify(adapter, documents, corpus(40, seed=1, nnz=50), k=20).require_exact()

    def test_c4_the_ends_of_the_range_of_dimensions_count(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({0: 1.0}, {DIMENSION - 1: 2.0}))
        assert ask(adapter, {0: 1.0, DIMENSION - 1: 1.0}).ids == (2, 1)

    def test_c4_negative_weights_are_held_exactly_or_refused_beforehand(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        documents = rows({1: 2.0}, {1: 3.0, 2: -1.0}, {2: 4.0})
        report = adapter.upsert(["first", "signed", "last"], documents)
        assert {*report.written, *report.failed} == {"first", "signed", "last"}
        assert set(report.failed) <= {"signed"}
        assert not any(failure.retryable for failure in report.failed.values())
        held = [row for row, id_ in enumerate(["first", "signed", "last"]) if id_ in report.written]
        verify(adapter, documents[held], rows({1: 1.0, 2: 1.0}), ids=list(report.written)).require_exact()

    def test_c4_negative_query_weights_are_answered_exactly_or_refused(self, adapter: Adapter) -> None:
        documents = rows({1: 2.0}, {1: 3.0, 2: 1.0}, {2: 4.0})
        fill(adapter, range(3), documents)
        try:
            verify(adapter, documents, rows({1: 1.0, 2: -0.5}, {2: -1.0})).require_exact()
        except AdapterError as refusal:
            assert "negative" in str(refusal)  # noqa: PT017  # both outcomes are conforming

    def test_c5_documents_without_a_shared_dimension_are_no_hits(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {2: 1.0}))
        assert ask(adapter, {1: 1.0}).ids == (1,)
        assert ask(adapter, {3: 1.0}).ids == ()

    def test_c5_a_document_without_weights_is_kept_and_never_a_hit(self, adapter: Adapter) -> None:
        fill(adapter, [1, "empty"], rows({1: 1.0}, {}), [{}, {"n": 1}])
        documents = adapter.fetch(["empty"])
        assert (documents.ids, documents.vectors.nnz, documents.payloads) == (("empty",), 0, ({"n": 1},))
        assert ask(adapter, {1: 1.0}).ids == (1,)
        assert ask(adapter, {1: 1.0}, where={"n": 1}).ids == ()

    def test_c5_a_document_that_loses_its_weights_is_no_hit_any_more(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {1: 1.0}))
        adapter.upsert([1], rows({}))
        assert ask(adapter, {1: 1.0}).ids == (2,)

    def test_c6_hits_come_best_first_and_at_most_k(self, adapter: Adapter) -> None:
        fill(adapter, range(9), rows(*({1: float(i + 1)} for i in range(9))))
        assert ask(adapter, {1: 1.0}, k=3).ids == (8, 7, 6)
        assert ask(adapter, {1: 1.0}, k=1).ids == (8,)

    def test_c6_a_k_above_the_count_truncates(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {1: 2.0}))
        assert ask(adapter, {1: 1.0}, k=1000).ids == (2, 1)

    def test_c6_a_k_that_is_no_positive_int_is_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        for k in (0, -1, True, 1.0, None):
            with pytest.raises(InvalidInput):
                ask(adapter, {1: 1.0}, k=k)  # type: ignore[arg-type]

    def test_c7_ties_may_fall_either_way_but_nothing_better_is_left_out(self, adapter: Adapter) -> None:
        documents = rows(*({1: 1.0} for _ in range(20)), *({1: 2.0} for _ in range(3)))
        fill(adapter, range(23), documents)
        hits = ask(adapter, {1: 1.0}, k=10)
        assert set(hits.ids[:3]) == {20, 21, 22}
        assert len(set(hits.ids)) == 10
        assert hits.scores.tolist() == [2.0] * 3 + [1.0] * 7

    def test_c8_each_answer_belongs_to_its_query(self, adapter: Adapter) -> None:
        fill(adapter, range(50), rows(*({i: 1.0} for i in range(50))))
        answers = adapter.search(rows(*({49 - i: 1.0} for i in range(50))), 5)
        assert [hits.ids for hits in answers] == [(49 - i,) for i in range(50)]

    def test_c8_an_empty_query_has_no_hits(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        answers = adapter.search(rows({}, {1: 1.0}, {}), 5, with_payloads=True)
        assert [hits.ids for hits in answers] == [(), (1,), ()]
        assert answers[0].payloads == ()

    def test_c8_no_queries_have_no_answers(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        assert adapter.search(rows(), 5) == []

    def test_c8_payloads_come_with_the_hits_when_asked_for(self, adapter: Adapter) -> None:
        fill(adapter, [1, "two"], rows({1: 1.0}, {1: 2.0}), [{}, {"deep": {"list": [1, None, {"x": 0.5}]}}])
        assert ask(adapter, {1: 1.0}).payloads is None
        assert ask(adapter, {1: 1.0}, with_payloads=True).payloads == ({"deep": {"list": [1, None, {"x": 0.5}]}}, {})

    def test_c8_queries_of_another_dimension_are_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        with pytest.raises(InvalidVectors):
            adapter.search(SparseVectors.from_rows([{1: 1.0}], dimension=DIMENSION + 1), 5)

    # ---- C9: writes are accounted for

    def test_c9_a_write_of_nothing_writes_nothing(self, adapter: Adapter) -> None:
        fill(adapter, [], rows())
        assert adapter.count() == 0

    def test_c9_a_malformed_write_is_refused_whole(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        for ids, payloads in MALFORMED_WRITES:
            with pytest.raises(InvalidInput):
                adapter.upsert(ids, rows({1: 1.0}, {1: 1.0}), payloads)
        assert adapter.count() == 0

    def test_c9_vectors_of_another_dimension_are_refused_whole(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        with pytest.raises(InvalidVectors):
            adapter.upsert([1], SparseVectors.from_rows([{1: 1.0}], dimension=DIMENSION - 1))
        assert adapter.count() == 0

    # ---- C10: ids

    def test_c10_ids_come_out_as_they_went_in(self, adapter: Adapter) -> None:
        uuid = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
        ids: list[Id] = [0, 42, 2**63, 2**64 - 1, "0", "42", str(2**64 - 1), "é", "e\u0301", " ", "a b", "a/b?c=d#e%20"]
        ids += ['"\\\n\t', "日本語", "🙂", "_id", "-", "..", "x" * 400]
        ids += [uuid, uuid.upper(), uuid.replace("-", ""), f"{{{uuid}}}"]
        fill(adapter, ids, rows(*({i: 1.0} for i in range(len(ids)))))
        assert adapter.count() == len(ids)
        answers = adapter.search(rows(*({i: 1.0} for i in range(len(ids)))), 2)
        assert [hits.ids for hits in answers] == [(id_,) for id_ in ids]
        assert adapter.fetch(ids[::-1]).ids == tuple(ids[::-1])

    def test_c10_an_int_and_its_decimal_string_are_two_documents(self, adapter: Adapter) -> None:
        fill(adapter, [42, "42"], rows({1: 1.0}, {1: 2.0}))
        adapter.delete([42])
        assert ask(adapter, {1: 1.0}).ids == ("42",)
        adapter.upsert([42], rows({1: 5.0}))
        assert ask(adapter, {1: 1.0}).ids == (42, "42")

    def test_c10_a_very_long_id_is_written_or_reported(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        long = "x" * 5000
        report = adapter.upsert([long, 1], rows({1: 2.0}, {1: 1.0}))
        assert {*report.written, *report.failed} == {long, 1}
        assert 1 in report.written
        assert set(ask(adapter, {1: 1.0}).ids) == set(report.written)

    # ---- C11: filters

    def test_c11_types_count_in_a_filter(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, TYPED_FILTERS)

    def test_c11_strings_are_equal_as_they_are_written(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, STRING_FILTERS)

    def test_c11_ranges_are_of_numbers(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, RANGE_FILTERS)

    def test_c11_filters_look_into_lists_and_nested_objects(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, NESTED_FILTERS)

    def test_c11_a_filtered_search_is_exact(self, adapter: Adapter) -> None:
        documents = corpus(200)
        payloads = [{"shelf": i % 7, "brand": "acme" if i % 3 else "zeta"} for i in range(200)]
        fill(adapter, range(200), documents, payloads)
        filters: list[Where] = [{"shelf": 3}, {"brand": "acme"}, {"shelf": {"gte": 2, "lt": 5}, "brand": ["zeta", "x"]}]
        for where in filters:
            verify(adapter, documents, corpus(10, seed=3), where=where, payloads=payloads).require_exact()

    def test_c11_filters_see_what_a_rewrite_changed(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {1: 2.0}), [{"n": 1}, {"n": 2}])
        adapter.upsert([1], rows({1: 3.0}), [{"n": 2}])
        assert ask(adapter, {1: 1.0}, where={"n": 1}).ids == ()
        assert ask(adapter, {1: 1.0}, where={"n": 2}).ids == (1, 2)

    def test_c11_a_malformed_filter_is_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        malformed: list[Any] = [{"": 1}, {"n": None}, {"n": []}, {"n": {}}, {"n": {"near": 1}}, {"n": {"gt": "a"}}]
        for where in [*malformed, {"n": float("nan")}]:
            with pytest.raises(InvalidInput):
                ask(adapter, {1: 1.0}, where=where)

    # ---- C12: fetch, delete, count

    def test_c12_deleted_documents_are_gone_from_search_and_count(self, adapter: Adapter) -> None:
        fill(adapter, [1, "two", 3], rows({1: 1.0}, {1: 2.0}, {1: 3.0}))
        adapter.delete(["two", 3])
        assert adapter.count() == 1
        assert ask(adapter, {1: 1.0}).ids == (1,)
        assert adapter.fetch(["two", 1]).ids == (1,)

    def test_c12_deleting_unknown_ids_is_no_error(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        adapter.delete([99, "nobody"])
        adapter.delete([])
        adapter.delete([1])
        adapter.delete([1])
        assert adapter.count() == 0

    def test_c12_a_deleted_id_can_be_written_again_and_starts_afresh(self, adapter: Adapter) -> None:
        fill(adapter, ["a"], rows({1: 1.0}), [{"old": 1}])
        adapter.delete(["a"])
        adapter.upsert(["a"], rows({2: 2.0}), [{"new": 1}])
        assert adapter.fetch(["a"]).payloads == ({"new": 1},)
        assert ask(adapter, {1: 1.0, 2: 1.0}).scores.tolist() == [2.0]

    def test_c12_fetch_gives_the_documents_in_the_order_asked_for_without_unknown_ones(self, adapter: Adapter) -> None:
        documents = corpus(20)
        ids: list[Id] = [f"d{i}" if i % 2 else i for i in range(20)]
        fill(adapter, ids, documents, [{"n": i} for i in range(20)])
        found = adapter.fetch([ids[9], "nobody", ids[2], 77, ids[19]])
        assert found.ids == (ids[9], ids[2], ids[19])
        assert found.payloads == ({"n": 9}, {"n": 2}, {"n": 19})
        assert adapter.stored(found.vectors) == adapter.stored(documents[[9, 2, 19]])

    def test_c12_fetching_nothing_finds_nothing(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        assert adapter.fetch([]).ids == ()
        assert len(adapter.fetch([2]).vectors) == 0

    # ---- C13: drop

    def test_c13_drop_forgets_everything_and_may_be_called_twice(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}), [{"n": 1}])
        adapter.drop()
        adapter.drop()
        assert adapter.info().dimension is None
        with pytest.raises(CollectionError):
            adapter.count()

    def test_c13_after_a_drop_another_collection_can_be_made(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}), [{"n": 1}])
        adapter.drop()
        adapter.create(DIMENSION + 1)
        assert (adapter.info().dimension, adapter.count()) == (DIMENSION + 1, 0)
        assert adapter.fetch([1]).ids == ()

    def test_c13_dropping_what_was_never_made_is_no_error(self, adapter: Adapter) -> None:
        adapter.drop()
        assert adapter.info().dimension is None

    # ---- C14: errors are ours

    def test_c14_a_closed_adapter_says_so_in_our_words(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        adapter.close()
        adapter.close()
        with pytest.raises(SparsevecError):
            adapter.search(rows({1: 1.0}), 1)
        with pytest.raises(SparsevecError):
            adapter.upsert([2], rows({1: 1.0}))

    def test_the_name_says_which_engine_it_is(self, adapter: Adapter) -> None:
        assert adapter.info().backend
        assert not adapter.info().backend.startswith("<")

    def test_stored_is_what_is_kept_and_keeping_it_again_changes_nothing(self, adapter: Adapter) -> None:
        documents = corpus(20)
        once = adapter.stored(documents)
        assert adapter.stored(once) == once
        assert adapter.slack(documents).shape == (documents.nnz,)
        assert (adapter.slack(documents) >= 0).all()

    # ---- all of them together

    @pytest.mark.parametrize("seed", range(3))
    def test_any_sequence_of_writes_and_deletes_ends_in_what_it_should(self, adapter: Adapter, seed: int) -> None:
        rng = np.random.default_rng(seed)
        pool: list[Id] = [0, 1, 2, 3, 2**64 - 1, "0", "1", "a", "b", "é"]
        documents = corpus(200, seed=seed)
        held: dict[Id, tuple[int, Payload]] = {}
        adapter.create(DIMENSION)
        for _ in range(15):
            chosen = [pool[i] for i in rng.choice(len(pool), size=rng.integers(1, 5), replace=False)]
            if rng.random() < 0.25:
                adapter.delete(chosen)
                held = {id_: kept for id_, kept in held.items() if id_ not in chosen}
            else:
                picked = rng.choice(len(documents), size=len(chosen))
                payloads: list[Payload] = [{f"f{rng.integers(3)}": int(rng.integers(3))} for _ in chosen]
                assert adapter.upsert(chosen, documents[picked], payloads).written == tuple(chosen)
                for id_, row, payload in zip(chosen, picked, payloads, strict=True):
                    held[id_] = (int(row), {**held.get(id_, (0, {}))[1], **payload})
        ids = list(held)
        expected = documents[[row for row, _ in held.values()]]
        assert adapter.count() == len(held)
        assert adapter.fetch(ids).payloads == tuple(payload for _, payload in held.values())
        verify(adapter, expected, corpus(20, seed=99), 5, ids=ids).require_exact()
