"""C11: a filter means the same everywhere, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.filters import EngineFilter, Where
from sparsevec.errors import InvalidInput, OutOfLimits
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.documents import (
    COMPOSED_FILTERS,
    DATE_FILTERS,
    EXISTS_FILTERS,
    NESTED_FILTERS,
    NEW_PAYLOADS,
    NOT_FILTERS,
    RANGE_FILTERS,
    STRING_FILTERS,
    TYPED_FILTERS,
    ask,
    assert_filters_mean_the_same,
    corpus,
    fill,
    rows,
)
from sparsevec.testing.conformance.suite import Suite

__all__ = ["Filtering"]


class Filtering(Suite):
    def test_c11_types_count_in_a_filter(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, TYPED_FILTERS)

    def test_c11_strings_are_equal_as_they_are_written(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, STRING_FILTERS)

    def test_c11_ranges_are_of_numbers(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, RANGE_FILTERS)

    def test_c11_filters_look_into_lists_and_nested_objects(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, NESTED_FILTERS)

    def test_c11_not_holds_for_what_has_no_such_value(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, NOT_FILTERS, NEW_PAYLOADS)

    def test_c11_exists_means_a_value_that_is_not_null(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, EXISTS_FILTERS, NEW_PAYLOADS)

    def test_c11_ranges_are_of_dates_too(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, DATE_FILTERS, NEW_PAYLOADS)

    def test_c11_all_any_and_not_nest(self, adapter: Adapter) -> None:
        assert_filters_mean_the_same(adapter, COMPOSED_FILTERS, NEW_PAYLOADS)

    def test_c11_few_matching_documents_are_brought_whole_and_more_than_that_not_at_all(self, adapter: Adapter) -> None:
        payloads = [{"n": n, "row": [float(n), 0.5]} for n in range(9)]
        vectors = corpus(9)
        fill(adapter, range(9), vectors, payloads)
        found = adapter.matching({"n": {"lt": 3}}, 3, dense="row")
        assert found is not None
        assert sorted(found.ids, key=str) == [0, 1, 2]
        at = [int(id_) for id_ in found.ids]
        assert adapter.stored(found.vectors) == adapter.stored(vectors[at])
        assert found.payloads == tuple(payloads[row] for row in at)
        assert found.dense is not None
        assert [None if row is None else row.tolist() for row in found.dense] == [[n, 0.5] for n in at]
        assert adapter.matching({"n": {"lt": 3}}, 2) is None
        nobody = adapter.matching({"n": 77}, 1)
        assert nobody is not None
        assert nobody.ids == ()

    def test_c11_a_filter_narrows_a_scan_page_by_page(self, adapter: Adapter) -> None:
        payloads = [{"n": n, "even": n % 2 == 0} for n in range(25)]
        fill(adapter, range(25), corpus(25), payloads)
        where: Where = {"even": True, "n": {"gte": 4}}
        pages = list(adapter.scan(where=where, size=4, payloads=True))
        found = {
            int(id_): payload for page in pages for id_, payload in zip(page.ids, page.payloads or (), strict=True)
        }
        assert found == {n: payloads[n] for n in range(4, 25, 2)}
        assert sum(map(len, pages)) == len(found)
        assert max(map(len, pages)) <= 4
        first = next(iter(adapter.scan(where=where, size=4)))
        rest = adapter.scan(where=where, size=4, after=first.after)
        assert {id_ for page in rest for id_ in page.ids} == set(found) - set(first.ids)
        (bare,) = adapter.scan(where={"n": 4})
        assert (bare.payloads, bare.vectors, bare.held) == (None, None, [4])

    def test_c11_what_a_filter_leaves_is_counted_and_deleted(self, adapter: Adapter) -> None:
        fill(adapter, range(25), corpus(25), [{"n": n, "even": n % 2 == 0} for n in range(25)])
        assert (adapter.count({"even": True}), adapter.count({"n": {"gt": 99}}), adapter.count({})) == (13, 0, 25)
        adapter.delete(where={"even": True, "n": {"lt": 20}})
        assert (adapter.count({"even": True}), adapter.count()) == (3, 15)
        assert set(adapter.fetch(range(25)).ids) == {*range(1, 20, 2), *range(20, 25)}
        adapter.delete(where={"n": 99})
        assert adapter.count() == 15
        with pytest.raises(InvalidInput, match="one of the two"):
            adapter.delete()
        with pytest.raises(InvalidInput, match="one of the two"):
            adapter.delete([1], where={"n": 1})
        assert adapter.count() == 15

    def test_a_fetch_brings_the_dense_rows_that_payloads_hold(self, adapter: Adapter) -> None:
        fill(adapter, [1, "a"], rows({1: 1.0}, {2: 1.0}), [{"row": [0.25, -1.5, 0.25]}, {"n": 1}])
        found = adapter.fetch(["a", 1], dense="row")
        assert found.dense is not None
        assert [None if row is None else row.tolist() for row in found.dense] == [None, [0.25, -1.5, 0.25]]
        assert adapter.fetch([1]).dense is None

    def test_c11_a_filter_of_another_engines_own_is_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        with pytest.raises(InvalidInput, match="filter of solr"):
            ask(adapter, {1: 1.0}, where=EngineFilter("solr", {"fq": "n:1"}))
        for refused in (adapter.count, lambda where: list(adapter.scan(where=where)), _deleting(adapter)):
            with pytest.raises(InvalidInput, match="filter of solr"):
                refused(EngineFilter("solr", {"fq": "n:1"}))
        assert adapter.count() == 1

    def test_c11_a_filtered_search_is_exact(self, adapter: Adapter) -> None:
        documents = corpus(200)
        payloads = [{"shelf": i % 7, "brand": "acme" if i % 3 else "zeta"} for i in range(200)]
        fill(adapter, range(200), documents, payloads)
        filters: list[Where] = [{"shelf": 3}, {"brand": "acme"}, {"shelf": {"gte": 2, "lt": 5}, "brand": ["zeta", "x"]}]
        for where in filters:
            verify(adapter, documents, corpus(10, seed=3), where=where, payloads=payloads).require_exact()

    def test_c11_a_long_text_comes_back_whole_and_is_found_or_refused(self, adapter: Adapter) -> None:
        text = "x" * 20_000
        fill(adapter, [1, 2], rows({1: 1.0}, {1: 2.0}), [{"text": f"{text}a"}, {"text": f"{text}b"}])
        assert adapter.fetch([2, 1]).payloads == ({"text": f"{text}b"}, {"text": f"{text}a"})
        with suppress(OutOfLimits):  # both outcomes are conforming
            assert ask(adapter, {1: 1.0}, where={"text": f"{text}a"}).ids == (1,)

    def test_c11_filters_see_what_a_rewrite_changed(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {1: 2.0}), [{"n": 1}, {"n": 2}])
        adapter.upsert([1], rows({1: 3.0}), [{"n": 2}])
        assert ask(adapter, {1: 1.0}, where={"n": 1}).ids == ()
        assert ask(adapter, {1: 1.0}, where={"n": 2}).ids == (1, 2)

    def test_c11_a_malformed_filter_is_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        malformed: list[Any] = [{"": 1}, {"n": None}, {"n": []}, {"n": {}}, {"n": {"near": 1}}, {"n": {"gt": "a"}}]
        malformed += [{"$any": []}, {"$or": [{"n": 1}]}, {"$not": 1}, {"n": {"exists": 1}}, {"n": {"not": None}}, "n"]
        for where in [*malformed, {"n": float("nan")}]:
            with pytest.raises(InvalidInput):
                ask(adapter, {1: 1.0}, where=where)
            with pytest.raises(InvalidInput):
                adapter.count(where)
            with pytest.raises(InvalidInput):
                adapter.delete(where=where)
        assert adapter.count() == 1


def _deleting(adapter: Adapter) -> Callable[[Where], None]:
    return lambda where: adapter.delete(where=where)
