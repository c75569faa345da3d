"""`ingest` into a collection that others made, or of another space: what is not there, changed, or does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sparsevec as sv
from sparsevec.contract.adapter import Missing
from sparsevec.errors import CollectionError, InvalidInput, JournalMismatch, WrongSpace
from sparsevec.ingestion.dead_letters import read_dead_letters
from tests.misbehaving import Clock, Guarding, Misbehaving, down, honest, lost

DIMENSION = 8
N = 6


def some(n: int, *, space: str | None = None) -> sv.SparseVectors:
    """n vectors, each another."""
    rows = [{i % DIMENSION: 1.0 + i} for i in range(n)]
    return sv.SparseVectors.from_rows(rows, dimension=DIMENSION).with_fingerprint(space)


@pytest.fixture
def adapter() -> Iterator[Misbehaving]:
    with Misbehaving() as adapter:
        adapter.create(DIMENSION)
        yield adapter


@pytest.fixture
def others() -> Iterator[Guarding]:
    """Holds documents 0 to 5, each of version 1."""
    with Guarding() as adapter:
        adapter.create(DIMENSION)
        sv.ingest(adapter, range(N), some(N))
        adapter.requests.clear()
        adapter.told.clear()
        yield adapter


# ---- what is not there, what has changed


@pytest.mark.parametrize(
    ("missing", "counted"), [("fail", (3, 2, 0, 1, 1)), ("skip", (3, 2, 1, 0, 1)), ("create", (3, 3, 0, 0, 0))]
)
def test_a_document_that_is_not_there_fails_is_skipped_or_made(
    adapter: Misbehaving, missing: Missing, counted: tuple[int, ...]
) -> None:
    sv.ingest(adapter, [0, 2], some(2))
    report = sv.ingest(adapter, range(3), some(3), missing=missing)
    assert (report.given, report.written, report.skipped, report.failed, report.missing) == counted
    assert adapter.count() == counted[1]


def test_the_report_says_how_many_were_not_there_or_had_changed(others: Guarding) -> None:
    report = sv.ingest(others, [0, 1, 99], some(3), versions=["1", "0", None], missing="fail")
    assert (report.written, report.failed, report.missing, report.stale) == (1, 2, 1, 1)
    assert "of these 1 were not there, 1 had changed since they were read" in str(report)
    assert [failure.reason for failure in report.failures] == ["it has changed", "it is not there"]


def test_another_policy_for_missing_documents_is_another_run(adapter: Misbehaving, tmp_path: Path) -> None:
    sv.ingest(adapter, [1], some(1), journal=tmp_path / "j")
    with pytest.raises(JournalMismatch, match=r"missing=None, .*this one has .*missing='skip'"):
        sv.ingest(adapter, [1], some(1), journal=tmp_path / "j", missing="skip")


def test_versions_and_routing_go_to_the_backend_with_their_documents(others: Guarding) -> None:
    sv.ingest(others, iter(range(3)), some(3), versions=iter(["1", "1", None]), routing=["a", None, "b"], batch_count=2)
    assert others.told == [
        {"versions": ["1", "1"], "routing": ["a", None], "missing": None},
        {"versions": None, "routing": ["b"], "missing": None},
    ]


def test_our_own_write_whose_answer_was_lost_is_not_taken_for_a_change_of_others(others: Guarding) -> None:
    others.script = [lost]
    report = sv.ingest(others, range(3), some(4)[1:], versions=["1"] * 3, timing=Clock().timing)
    assert (report.written, report.stale) == (3, 0)
    assert others.fetch(range(3)).vectors == some(4)[1:]


def test_a_change_of_others_while_our_answer_was_lost_is_still_one(others: Guarding) -> None:
    def lost_and_overtaken(write: Any, *request: Any) -> Any:
        write(*request)
        others.script = [honest, honest]
        others.upsert([1], some(N)[5:])
        return down()

    others.script = [lost_and_overtaken]
    report = sv.ingest(others, range(3), some(3), versions=["1"] * 3, timing=Clock().timing)
    assert (report.written, report.stale) == (2, 1)


def test_versions_where_the_backend_has_none_stop_the_run_before_it_writes(adapter: Misbehaving) -> None:
    with pytest.raises(InvalidInput, match="has no versions of documents"):
        sv.ingest(adapter, [1], some(1), versions=["1"])
    with pytest.raises(InvalidInput, match="has no routing"):
        sv.ingest(adapter, [1], some(1), routing=["a"])
    assert adapter.requests == []


@pytest.mark.parametrize("wrong", [{"versions": [7]}, {"routing": [""]}, {"routing": ["half \ud800"]}])
def test_a_version_or_routing_that_is_none_fails_alone(others: Guarding, wrong: dict[str, Any]) -> None:
    report = sv.ingest(others, [1], some(1), **wrong)
    assert report.failed == 1
    assert "version and routing of id 1 must be non-empty strings" in report.failures[0].reason


def test_a_dead_letter_keeps_the_routing(others: Guarding, tmp_path: Path) -> None:
    sv.ingest(others, [99], some(1), routing=["a"], missing="fail", failed=tmp_path / "failed")
    assert [letter.routing for letter in read_dead_letters(tmp_path / "failed")] == ["a"]


def test_an_unknown_policy_is_refused(adapter: Misbehaving) -> None:
    with pytest.raises(InvalidInput, match="missing must be one of"):
        sv.ingest(adapter, [1], some(1), missing="ignore")  # type: ignore[arg-type]


# ---- spaces


def test_vectors_of_another_space_are_refused_before_the_first_write(adapter: Misbehaving) -> None:
    sv.ingest(adapter, [1], some(1, space="one"))
    adapter.requests.clear()
    with pytest.raises(WrongSpace, match="of the space one, these are of two") as stopped:
        sv.ingest(adapter, [2], some(1, space="two"))
    assert adapter.requests == []
    assert stopped.value.report.given == 0


def test_a_stream_that_changes_its_space_stops_there(adapter: Misbehaving) -> None:
    with pytest.raises(WrongSpace) as stopped:
        sv.ingest(adapter, range(4), [some(2, space="one"), some(2, space="two")], batch_count=2)
    assert stopped.value.report.written == adapter.count() == 2


def test_the_report_names_the_spaces(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, [1], some(1, space="one"))
    assert (report.fingerprint, report.collection_fingerprint) == ("one", "one")
    assert "foreign" not in str(report)


def test_foreign_vectors_are_taken_and_the_report_says_so(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, [1], some(1))
    assert (report.fingerprint, report.collection_fingerprint) == (None, None)
    assert "the vectors name no space (foreign)" in str(report)


# ---- the tie of a journal to its collection


def test_a_collection_without_identity_is_known_by_its_documents(others: Guarding, tmp_path: Path) -> None:
    first = sv.ingest(others, range(N), some(N), journal=tmp_path / "j", batch_count=2)
    assert sv.ingest(others, range(N), some(N), journal=tmp_path / "j") == first
    others.delete([0, 1])
    assert sv.ingest(others, range(N), some(N), journal=tmp_path / "j") == first


@pytest.mark.parametrize("left", [[], [5], [4, 5]])
def test_another_collection_that_holds_a_few_of_the_documents_is_refused(
    others: Guarding, tmp_path: Path, left: list[int]
) -> None:
    sv.ingest(others, range(N), some(N), journal=tmp_path / "j", batch_count=2)
    others.delete([id_ for id_ in range(N) if id_ not in left])
    with pytest.raises(JournalMismatch, match=f"the collection holds {len(left)}: it is another one"):
        sv.ingest(others, range(N), some(N), journal=tmp_path / "j")


def test_a_journal_that_settled_nothing_binds_nobody(tmp_path: Path) -> None:
    for collection in (Misbehaving(), Misbehaving()):
        collection.create(DIMENSION)
        sv.ingest(collection, [], some(0), journal=tmp_path / "j")
    assert sv.ingest(collection, [1], some(1), journal=tmp_path / "j").written == 1


def test_a_collection_that_is_not_there_leaves_no_header_behind(adapter: Misbehaving, tmp_path: Path) -> None:
    with pytest.raises(CollectionError):
        sv.ingest(sv.Reference(), [1], some(1), journal=tmp_path / "j")
    assert sv.ingest(adapter, [1], some(1), journal=tmp_path / "j").written == 1
