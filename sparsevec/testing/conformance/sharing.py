"""C10, C12, C13, C16, C17 in a collection that others made, only what is ours is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id
from sparsevec.errors import CollectionError
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.documents import DIMENSION, ask, corpus, rows
from sparsevec.testing.conformance.suite import Others, Suite

__all__ = ["Sharing"]

Fields = Mapping[Id, Mapping[str, Any]]


def kept(theirs: Fields, now: Fields) -> dict[Id, dict[str, Any]]:
    """What is now in the fields that were theirs."""
    return {id_: {name: now[id_].get(name) for name in fields} for id_, fields in theirs.items()}


def moved_in(adapter: Adapter, others: Others) -> None:
    """A vector of ours for each of their documents."""
    adapter.create(DIMENSION)
    assert adapter.upsert(others.ids, corpus(len(others.ids))).written == others.ids


class Sharing(Suite):
    def test_c1_create_adds_our_vector_and_changes_no_document_of_theirs(
        self, adapter: Adapter, others: Others
    ) -> None:
        before = others.documents()
        assert not adapter.info().exists
        adapter.create(DIMENSION)
        info = adapter.info()
        assert (info.exists, info.ours, info.dimension, adapter.count()) == (True, False, DIMENSION, 0)
        assert others.documents() == before

    def test_c1_a_second_create_is_an_error_there_too(self, adapter: Adapter, others: Others) -> None:
        moved_in(adapter, others)
        with pytest.raises(CollectionError):
            adapter.create(DIMENSION)
        assert adapter.count() == len(others.ids)

    def test_c10_ids_are_theirs_and_an_int_is_asked_for_in_their_spelling(
        self, adapter: Adapter, others: Others
    ) -> None:
        adapter.create(DIMENSION)
        documents = rows(*({i: 1.0} for i in range(len(others.asked))))
        assert adapter.upsert(others.asked, documents).written == others.asked
        assert set(others.documents()) == set(others.ids)
        assert [ask(adapter, {i: 1.0}).ids for i in range(len(others.ids))] == [(id_,) for id_ in others.ids]
        assert adapter.fetch(others.asked).ids == others.ids

    def test_c12_deleting_takes_our_vector_and_leaves_their_document(self, adapter: Adapter, others: Others) -> None:
        before = others.documents()
        moved_in(adapter, others)
        gone, *rest = others.ids
        adapter.delete([gone])
        assert adapter.count() == len(rest)
        assert adapter.fetch(others.ids).ids == tuple(rest)
        assert kept(before, others.documents()) == before

    def test_c12_what_a_filter_leaves_of_theirs_loses_our_vector_alone(self, adapter: Adapter, others: Others) -> None:
        before = others.documents()
        adapter.create(DIMENSION)
        assert adapter.upsert(others.ids[:2], corpus(2)).written == others.ids[:2]
        assert {id_ for page in adapter.scan(where={}) for id_ in page.ids} == set(others.ids)
        assert {id_ for page in adapter.scan(where={}) for id_ in page.held} == set(others.ids[:2])
        assert list(adapter.scan(where={"nobody has this": {"exists": True}})) == []
        assert (adapter.count({}), adapter.count({"nobody has this": {"exists": False}})) == (2, 2)
        adapter.delete(where={"nobody has this": {"exists": True}})
        assert adapter.count() == 2
        adapter.delete(where={})
        assert adapter.count() == 0
        assert kept(before, others.documents()) == before
        assert set(others.documents()) == set(before)

    def test_c13_drop_forgets_ours_and_leaves_theirs(self, adapter: Adapter, others: Others) -> None:
        before = others.documents()
        moved_in(adapter, others)
        adapter.drop()
        adapter.drop()
        assert not adapter.info().exists
        assert kept(before, others.documents()) == before
        assert set(others.documents()) == set(before)

    def test_c13_after_a_drop_our_vector_can_be_added_anew(self, adapter: Adapter, others: Others) -> None:
        moved_in(adapter, others)
        adapter.drop()
        adapter.create(DIMENSION)
        assert adapter.count() == 0
        assert adapter.upsert(others.ids[:1], rows({3: 1.0})).written == others.ids[:1]
        assert ask(adapter, {3: 1.0}).ids == others.ids[:1]

    def test_c16_a_scan_yields_their_documents_and_says_which_hold_our_vector(
        self, adapter: Adapter, others: Others
    ) -> None:
        adapter.create(DIMENSION)
        adapter.upsert(others.ids[:1], rows({1: 1.0}))
        holds: dict[Id, bool] = {}
        for page in adapter.scan(size=2):
            assert page.holds is not None
            holds |= dict(zip(page.ids, page.holds.tolist(), strict=True))
        assert holds == {id_: id_ == others.ids[0] for id_ in others.ids}

    def test_c17_a_write_keeps_every_other_field_as_it_is(self, adapter: Adapter, others: Others) -> None:
        before = others.documents()
        moved_in(adapter, others)
        assert kept(before, others.documents()) == before
        assert set(others.documents()) == set(before)
        verify(adapter, corpus(len(others.ids)), corpus(5, seed=1), ids=others.ids).require_exact()

    @pytest.mark.parametrize("missing", [None, "fail"])
    def test_c17_an_id_that_is_not_there_fails_and_is_not_made(
        self, adapter: Adapter, others: Others, missing: Literal["fail"] | None
    ) -> None:
        adapter.create(DIMENSION)
        report = adapter.upsert([others.absent, others.ids[0]], corpus(2), missing=missing)
        assert report.written == others.ids[:1]
        assert {id_: (f.kind, f.retryable) for id_, f in report.failed.items()} == {others.absent: ("missing", False)}
        assert set(others.documents()) == set(others.ids)

    def test_c17_an_id_that_is_not_there_is_skipped_when_told(self, adapter: Adapter, others: Others) -> None:
        adapter.create(DIMENSION)
        report = adapter.upsert([others.absent, others.ids[0]], corpus(2), missing="skip")
        assert (report.written, set(report.skipped), dict(report.failed)) == (others.ids[:1], {others.absent}, {})
        assert set(others.documents()) == set(others.ids)

    def test_c17_an_id_that_is_not_there_is_made_when_told(self, adapter: Adapter, others: Others) -> None:
        adapter.create(DIMENSION)
        before = others.documents()
        given = (others.absent, others.ids[0])
        assert set(adapter.upsert(given, corpus(2), missing="create").written) == set(given)
        assert set(others.documents()) == {*others.ids, others.absent}
        assert kept(before, others.documents()) == before

    def test_c17_a_document_that_they_delete_is_not_brought_back(self, adapter: Adapter, others: Others) -> None:
        moved_in(adapter, others)
        gone, *rest = others.ids
        others.remove(gone)
        report = adapter.upsert(others.ids, corpus(len(others.ids), seed=1))
        assert (set(report.written), set(report.failed)) == (set(rest), {gone})
        assert set(others.documents()) == set(rest)

    def test_c17_what_they_change_beside_us_stays_changed(self, adapter: Adapter, others: Others) -> None:
        moved_in(adapter, others)
        changed = others.ids[0]
        others.edit(changed, {"title": "edited beside us"})
        adapter.upsert(others.ids, corpus(len(others.ids), seed=1))
        assert others.documents()[changed]["title"] == "edited beside us"

    def test_c17_a_version_guards_against_what_they_changed_since(self, versioned: Adapter, others: Others) -> None:
        versioned.create(DIMENSION)
        (page,) = versioned.scan()
        assert page.versions is not None
        others.edit(page.ids[0], {"title": "edited since"})
        report = versioned.upsert(page.ids, corpus(len(page)), versions=page.versions)
        assert set(report.written) == set(page.ids[1:])
        assert {id_: failure.kind for id_, failure in report.failed.items()} == {page.ids[0]: "stale"}

    def test_c17_looking_changes_nothing(self, adapter: Adapter, others: Others) -> None:
        before = others.documents()
        adapter.info()
        assert [finding for finding in adapter.check() if finding.level == "blocking"] == []
        assert others.documents() == before
        assert not adapter.info().exists

    def test_c17_routing_is_kept(self, adapter: Adapter, routed: Others) -> None:
        before = routed.documents()
        adapter.create(DIMENSION)
        (page,) = adapter.scan()
        assert page.routing is not None
        assert adapter.upsert(page.ids, corpus(len(page)), routing=page.routing).written == page.ids
        assert kept(before, routed.documents()) == before
        assert set(routed.documents()) == set(before)
        assert adapter.count() == len(routed.ids)
