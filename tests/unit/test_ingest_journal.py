"""A journal: what was acknowledged is not written again, and a journal of anything else is refused untouched."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sparsevec as sv
from sparsevec.errors import JournalMismatch, SparsevecError, StorageFailed
from sparsevec.ingestion.dead_letters import read_dead_letters
from sparsevec.ingestion.journal import Entry, Journal
from tests.full_disk import files_up_to
from tests.misbehaving import Interrupted, Misbehaving, honest, interrupted

DIMENSION = 8
N = 10


@pytest.fixture
def adapter() -> Iterator[Misbehaving]:
    adapter = Misbehaving()
    adapter.create(DIMENSION)
    yield adapter
    adapter.close()


VECTORS = sv.SparseVectors.from_rows([{i % DIMENSION: 1.0 + i} if i % 4 else {} for i in range(N)], dimension=DIMENSION)
FULL = sv.SparseVectors.from_rows([{i % DIMENSION: 1.0 + i} for i in range(N)], dimension=DIMENSION)


def interrupt(adapter: Misbehaving, journal: Path) -> None:
    """Ingest FULL in batches of two, up to the third."""
    adapter.script = [honest, honest, interrupted]
    with pytest.raises(Interrupted):
        sv.ingest(adapter, range(N), FULL, batch_count=2, journal=journal)
    adapter.requests.clear()


def test_a_second_run_changes_nothing_and_reports_the_same(adapter: Misbehaving, tmp_path: Path) -> None:
    journal = tmp_path / "run.journal"
    first = sv.ingest(adapter, range(N), VECTORS, batch_count=3, journal=journal)
    before = journal.read_bytes(), (tmp_path / "run.failed.jsonl").read_bytes()
    adapter.requests.clear()
    second = sv.ingest(adapter, range(N), VECTORS, batch_count=5, journal=journal)
    assert second == first
    assert second.failed == len(list(read_dead_letters(tmp_path / "run.failed.jsonl"))) == 3
    assert adapter.requests == []
    assert (journal.read_bytes(), (tmp_path / "run.failed.jsonl").read_bytes()) == before


def test_what_was_acknowledged_is_not_written_again(adapter: Misbehaving, tmp_path: Path) -> None:
    interrupt(adapter, tmp_path / "j")
    report = sv.ingest(adapter, range(N), FULL, batch_count=4, journal=tmp_path / "j")
    assert adapter.requests == [[4, 5, 6, 7], [8, 9]]
    assert (report.given, report.written) == (N, N)
    assert adapter.fetch(range(N)).vectors == FULL


def test_a_stream_that_has_grown_is_gone_on_with(adapter: Misbehaving, tmp_path: Path) -> None:
    sv.ingest(adapter, range(5), FULL[:5], journal=tmp_path / "j")
    report = sv.ingest(adapter, range(N), FULL, journal=tmp_path / "j")
    assert adapter.requests == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert report.written == N


def test_how_the_chunks_are_cut_does_not_matter(adapter: Misbehaving, tmp_path: Path) -> None:
    interrupt(adapter, tmp_path / "j")
    report = sv.ingest(adapter, range(N), (FULL[i : i + 1] for i in range(N)), journal=tmp_path / "j")
    assert report.written == N


def like_full(**other: Any) -> sv.SparseVectors:
    """FULL with another part."""
    parts = {"indptr": FULL.indptr, "indices": FULL.indices, "values": FULL.values, "dimension": DIMENSION}
    return sv.SparseVectors(**{**parts, **other})


CHANGES: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "another id": lambda: ([99, *range(1, N)], FULL, None),
    "an id of another kind": lambda: (["0", *range(1, N)], FULL, None),
    "ids in another order": lambda: ([1, 0, *range(2, N)], FULL, None),
    "another weight": lambda: (range(N), like_full(values=FULL.values * 2), None),
    "weights at other indices": lambda: (range(N), like_full(indices=FULL.indices[::-1]), None),
    "weights in other rows": lambda: (range(N), like_full(indptr=[0, 0, *range(2, N + 1)]), None),
    "another payload": lambda: (range(N), FULL, [{"a": 1}] + [{}] * (N - 1)),
    "a bad id": lambda: ([-1, *range(1, N)], FULL, None),
    "another dimension": lambda: (range(N), like_full(dimension=DIMENSION + 1), None),
    "fewer documents": lambda: (range(3), FULL[:3], None),
    "none at all": lambda: ([], FULL[:0], None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stream_that_was_changed_is_refused(adapter: Misbehaving, tmp_path: Path, change: str) -> None:
    journal = tmp_path / "j"
    interrupt(adapter, journal)
    before = journal.read_bytes()
    with pytest.raises(JournalMismatch, match=r"positions \[\d, \d\) are not those that the journal calls settled"):
        sv.ingest(adapter, *CHANGES[change](), journal=journal)
    assert journal.read_bytes() == before
    assert adapter.requests == []


def test_another_policy_for_empty_vectors_is_refused(adapter: Misbehaving, tmp_path: Path) -> None:
    sv.ingest(adapter, range(N), VECTORS, empty="skip", journal=tmp_path / "j")
    with pytest.raises(JournalMismatch, match=r"of a run with empty='skip', .*this one has empty='write'"):
        sv.ingest(adapter, range(N), VECTORS, empty="write", journal=tmp_path / "j")


def test_a_collection_that_was_made_anew_is_refused_not_left_empty(adapter: Misbehaving, tmp_path: Path) -> None:
    sv.ingest(adapter, range(N), FULL, journal=tmp_path / "j")
    adapter.drop()
    adapter.create(DIMENSION)
    with pytest.raises(JournalMismatch, match="it was dropped and made anew since, or is another"):
        sv.ingest(adapter, range(N), FULL, journal=tmp_path / "j")


def test_a_source_that_fails_while_it_is_read_again_says_so_itself(adapter: Misbehaving, tmp_path: Path) -> None:
    def chunks() -> Iterator[sv.SparseVectors]:
        yield FULL[:3]
        raise EOFError("the disk was pulled")

    interrupt(adapter, tmp_path / "j")
    with pytest.raises(EOFError, match="the disk was pulled"):
        sv.ingest(adapter, range(N), chunks(), journal=tmp_path / "j")


# ---- the file


@given(cut=st.integers(0, 2000))
def test_a_torn_last_line_is_forgotten(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    journal = tmp_path_factory.mktemp("torn") / "j"
    adapter = Misbehaving()
    adapter.create(DIMENSION)
    sv.ingest(adapter, range(N), FULL, batch_count=2, journal=journal)
    journal.write_bytes(journal.read_bytes()[: cut % (journal.stat().st_size + 1)])
    report = sv.ingest(adapter, range(N), FULL, batch_count=2, journal=journal)
    assert (report.given, report.written) == (N, N)
    assert len(journal.read_bytes().splitlines()) == 1 + N / 2
    assert sv.ingest(adapter, range(N), FULL, journal=journal) == report
    adapter.close()


@dataclass
class Edit:
    """Of the text of a journal: the first `old` becomes `new`."""

    old: str
    new: str

    def __call__(self, text: str) -> str:
        return re.sub(self.old, self.new, text, count=1, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit(".*", "my diary\n"), "is not a journal of ours"),
        (Edit(".*", "\x00\x01"), "is not a journal of ours"),
        (Edit(".*", "{}\n"), "is not a journal of ours"),
        (Edit("journal/2", "journal/1"), "is a journal of the format 'sparsevec.journal/1', this version goes on with"),
        (Edit("journal/2", "journal/9"), "is a journal of the format 'sparsevec.journal/9'"),
        (Edit('"kind":"batch"', '"kind":"undo"'), "has an entry of the kind 'undo', which this version does not know"),
        (Edit('"hash"', '"hush"'), "cannot be read at line 2"),
        (Edit('"written":2', '"written":-2'), "cannot be read at line 2"),
        (lambda text: text + "[" * 100_000 + "\n", "cannot be read at line"),
        (Edit('"written":2', '"written":3'), "does not add up at line 2"),
        (Edit('"start":2', '"start":3'), "does not add up at line 3"),
        (
            lambda text: "".join(text.splitlines(keepends=True)[:1] + text.splitlines(keepends=True)[2:]),
            "add up at line 2",
        ),
    ],
)
def test_a_file_that_is_not_a_journal_of_ours_is_refused_untouched(
    adapter: Misbehaving, tmp_path: Path, edit: Edit, message: str
) -> None:
    journal = tmp_path / "j"
    sv.ingest(adapter, range(N), FULL, batch_count=2, journal=journal)
    journal.write_text(edit(journal.read_text()))
    before = journal.read_bytes()
    with pytest.raises(JournalMismatch, match=message):
        sv.ingest(adapter, range(N), FULL, journal=journal)
    assert journal.read_bytes() == before


@given(content=st.binary(min_size=1, max_size=300))
def test_any_other_file_is_refused_untouched(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    journal = tmp_path_factory.mktemp("other") / "j"
    journal.write_bytes(b"x" + content)
    with pytest.raises(JournalMismatch, match="was left as it is"):
        Journal(journal)
    assert journal.read_bytes() == b"x" + content


@pytest.mark.parametrize("content", ["to do: mend these\n", "[" * 100_000 + "\n"])
def test_dead_letters_that_were_edited_into_something_else_are_left_alone(
    adapter: Misbehaving, tmp_path: Path, content: str
) -> None:
    sv.ingest(adapter, range(N), VECTORS, journal=tmp_path / "j")
    (tmp_path / "j.failed.jsonl").write_text(content)
    with pytest.raises(JournalMismatch, match="no dead letter of ours at line 1"):
        sv.ingest(adapter, range(N), VECTORS, journal=tmp_path / "j")
    assert (tmp_path / "j.failed.jsonl").read_text() == content


def test_dead_letters_that_were_refused_and_are_mended_are_gone_on_with(adapter: Misbehaving, tmp_path: Path) -> None:
    first = sv.ingest(adapter, range(N), VECTORS, journal=tmp_path / "j")
    letters = (tmp_path / "j.failed.jsonl").read_text()
    (tmp_path / "j.failed.jsonl").write_text("edited\n")
    with pytest.raises(JournalMismatch, match="no dead letter of ours"):
        sv.ingest(adapter, range(N), VECTORS, journal=tmp_path / "j")
    (tmp_path / "j.failed.jsonl").write_text(letters)
    assert sv.ingest(adapter, range(N), VECTORS, journal=tmp_path / "j").failed == first.failed


def test_dead_letters_that_were_moved_away_are_not_missed(adapter: Misbehaving, tmp_path: Path) -> None:
    first = sv.ingest(adapter, range(N), VECTORS, journal=tmp_path / "j")
    (tmp_path / "j.failed.jsonl").rename(tmp_path / "to mend")
    assert sv.ingest(adapter, range(N), VECTORS, journal=tmp_path / "j").failed == first.failed == 3


@pytest.mark.parametrize("whole", [1, 2, 3])
def test_dead_letters_of_a_batch_that_was_not_acknowledged_are_cut_off(
    adapter: Misbehaving, tmp_path: Path, whole: int
) -> None:
    journal, failed = tmp_path / "j", tmp_path / "j.failed.jsonl"
    sv.ingest(adapter, range(N), VECTORS, batch_count=2, journal=journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]))  # killed after the letters were written, before the entry was
    failed.write_bytes(b"".join(failed.read_bytes().splitlines(keepends=True)[:whole]) + b'{"position":')
    report = sv.ingest(adapter, range(N), VECTORS, batch_count=2, journal=journal)
    assert [letter.position for letter in read_dead_letters(failed)] == [0, 4, 8]
    assert report.failed == 3


def test_two_runs_cannot_hold_one_journal(adapter: Misbehaving, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    with pytest.raises(JournalMismatch, match="another run holds"):
        sv.ingest(adapter, range(N), FULL, journal=tmp_path / "j")
    journal.close()
    assert sv.ingest(adapter, range(N), FULL, journal=tmp_path / "j").written == N


@pytest.mark.parametrize("place", ["missing/j", "file/j"])
def test_a_journal_that_cannot_be_opened_is_a_storage_error(adapter: Misbehaving, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="could not be opened"):
        sv.ingest(adapter, range(N), FULL, journal=tmp_path / place)
    assert adapter.count() == 0


@pytest.mark.parametrize("option", ["journal", "failed"])
def test_a_file_with_a_name_that_is_too_long_is_a_storage_error(
    adapter: Misbehaving, tmp_path: Path, option: str
) -> None:
    options: Any = {option: tmp_path / ("x" * 300)}
    with pytest.raises(StorageFailed, match="File name too long"):
        sv.ingest(adapter, range(N), FULL, **options)
    assert adapter.count() == 0


def test_a_folder_or_a_pipe_is_not_a_journal(adapter: Misbehaving, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(JournalMismatch, match="not a regular file"):
        sv.ingest(adapter, range(N), FULL, journal=tmp_path / "pipe")
    with pytest.raises(StorageFailed):
        sv.ingest(adapter, range(N), FULL, journal=tmp_path)


# ---- a full disk


@pytest.mark.parametrize("size", [0, 30, 100, 300, 500, 777])
def test_a_full_disk_stops_the_run_and_loses_nothing(adapter: Misbehaving, tmp_path: Path, size: int) -> None:
    journal, failed = tmp_path / "run.journal", tmp_path / "run.failed.jsonl"
    with files_up_to(size), pytest.raises(StorageFailed, match="what it held before is still there"):
        sv.ingest(adapter, range(N), VECTORS, batch_count=1, journal=journal)
    report = sv.ingest(adapter, range(N), VECTORS, batch_count=1, journal=journal)
    assert (report.given, report.written, report.failed) == (N, 7, 3)
    assert [letter.position for letter in read_dead_letters(failed)] == [0, 4, 8]
    assert adapter.count() == 7


def test_a_full_disk_leaves_whole_dead_letters_without_a_journal_too(adapter: Misbehaving, tmp_path: Path) -> None:
    failed = tmp_path / "failed.jsonl"
    with files_up_to(500), pytest.raises(StorageFailed) as stopped:
        sv.ingest(adapter, range(N), VECTORS, batch_count=1, failed=failed)
    assert len(list(read_dead_letters(failed))) == stopped.value.report.failed == 2


def test_a_full_disk_under_the_collection_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    adapter = sv.Reference(str(tmp_path / "reference"))
    adapter.create(DIMENSION)
    payloads = [{"text": "x" * 4000}] * N
    with files_up_to(200_000), pytest.raises(SparsevecError) as stopped:
        sv.ingest(adapter, range(N), FULL, payloads, batch_count=1, journal=tmp_path / "j")
    assert isinstance(stopped.value, StorageFailed)
    assert stopped.value.report.written == adapter.count() > 0
    report = sv.ingest(adapter, range(N), FULL, payloads, batch_count=1, journal=tmp_path / "j")
    assert report.written == adapter.count() == N
    assert adapter.fetch(range(N)).vectors == FULL
    adapter.close()


def test_entries_survive_as_json() -> None:
    entry = Entry(start=0, stop=2, hash="ab", written=1, skipped=0, failed=1, retries=3, bytes=10, seconds=0.5)
    assert Entry.model_validate_json(entry.model_dump_json()) == entry
