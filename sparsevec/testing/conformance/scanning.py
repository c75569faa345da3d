"""C16: a scan yields each document once, and goes on where an earlier one stopped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from sparsevec.contract.adapter import Adapter, Page
from sparsevec.contract.checks import Id
from sparsevec.errors import CollectionError, InvalidInput
from sparsevec.testing.conformance.documents import corpus, fill, rows
from sparsevec.testing.conformance.suite import Suite
from sparsevec.vectors import SparseVectors

__all__ = ["Scanning"]

IDS: tuple[Id, ...] = (*range(20), "a", "b", "20", 2**64 - 1, "é")
VECTORS = SparseVectors.concat([corpus(24), rows({})])


def seen(pages: Iterable[Page]) -> list[Id]:
    return [id_ for page in pages for id_ in page.ids]


class Scanning(Suite):
    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_c16_a_scan_yields_each_document_once(self, adapter: Adapter, size: int) -> None:
        fill(adapter, IDS, VECTORS)
        pages = list(adapter.scan(size=size))
        found = seen(pages)
        assert len(found) == len(IDS)
        assert set(found) == set(IDS)
        assert all(page.holds is not None and page.holds.all() and len(page.holds) == len(page) for page in pages)
        assert pages[-1].after is None

    def test_c16_what_was_not_asked_for_is_not_brought(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}), [{"n": 1}])
        (page,) = adapter.scan()
        assert (page.vectors, page.payloads, page.dense) == (None, None, None)

    def test_c16_vectors_and_payloads_come_as_they_are_held(self, adapter: Adapter) -> None:
        fill(adapter, IDS, VECTORS, [{"n": i} for i in range(len(IDS))])
        for page in adapter.scan(vectors=True, payloads=True, size=6):
            at = [IDS.index(id_) for id_ in page.ids]
            assert page.vectors is not None
            assert adapter.stored(page.vectors) == adapter.stored(VECTORS[at])
            assert page.payloads == tuple({"n": i} for i in at)

    def test_c16_a_later_scan_goes_on_behind_a_page(self, adapter: Adapter) -> None:
        fill(adapter, IDS, VECTORS)
        first = next(iter(adapter.scan(size=9)))
        assert first.after is not None
        rest = seen(adapter.scan(after=first.after, size=4))
        assert len(first) + len(rest) == len(IDS)
        assert {*first.ids, *rest} == set(IDS)

    def test_c16_another_adapter_goes_on_as_well(self, adapter: Adapter) -> None:
        fill(adapter, IDS, VECTORS)
        first = next(iter(adapter.scan(size=9)))
        assert {*first.ids, *seen(self.another(adapter).scan(after=first.after))} == set(IDS)

    def test_c16_a_scan_of_an_empty_collection_has_no_pages(self, adapter: Adapter) -> None:
        fill(adapter, [], rows())
        assert seen(adapter.scan()) == []

    def test_c16_without_a_collection_a_scan_says_so(self, adapter: Adapter) -> None:
        with pytest.raises(CollectionError):
            list(adapter.scan())

    def test_c16_a_place_or_a_size_that_is_none_is_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        malformed: list[dict[str, Any]] = [{"after": "no place"}, {"size": 0}, {"size": True}, {"size": 1.5}]
        for options in malformed:
            with pytest.raises(InvalidInput):
                list(adapter.scan(**options))

    # ---- C17, in a collection of ours: versions

    def test_c17_a_document_that_changed_since_is_left_alone_and_reported(self, versioned: Adapter) -> None:
        fill(versioned, [1, "two"], rows({1: 1.0}, {1: 2.0}))
        (page,) = versioned.scan()
        versions = dict(zip(page.ids, page.versions or (), strict=True))
        versioned.upsert([1], rows({1: 5.0}))
        report = versioned.upsert([1, "two"], rows({2: 1.0}, {2: 2.0}), versions=[versions[1], versions["two"]])
        assert report.written == ("two",)
        assert {id_: failure.kind for id_, failure in report.failed.items()} == {1: "stale"}
        assert versioned.fetch([1]).vectors == rows({1: 5.0})

    def test_c17_a_version_that_a_scan_gave_lets_the_write_through(self, versioned: Adapter) -> None:
        fill(versioned, range(5), corpus(5))
        (page,) = versioned.scan()
        assert page.versions is not None
        assert versioned.upsert(page.ids, corpus(5, seed=1), versions=page.versions).written == page.ids
        assert versioned.count() == 5
