"""In which order things happen: what is acknowledged is on disk, and nobody else may read it."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sparsevec as sv
from sparsevec.errors import StorageFailed
from sparsevec.ingestion.journal import Header, Journal
from tests.misbehaving import Misbehaving

DIMENSION = 8
VECTORS = sv.SparseVectors.from_rows([{0: 1.0}, {}, {1: 2.0}, {}], dimension=DIMENSION)  # every second is refused


class Recorded(Misbehaving):
    """Notes each request among the calls of the operating system."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.create(DIMENSION)
        self._calls = calls

    def upsert(self, *args: Any, **options: Any) -> Any:
        self._calls.append("request")
        return super().upsert(*args, **options)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was written and synced, by the name of the file or folder, in order."""
    recorded: list[str] = []
    write, fsync = os.write, os.fsync

    def name(handle: int) -> str:
        return Path(f"/proc/self/fd/{handle}").readlink().name

    def recording_write(handle: int, content: Any) -> int:
        recorded.append(f"write {name(handle)}")
        return write(handle, content)

    def recording_fsync(handle: int) -> None:
        recorded.append(f"sync {name(handle)}")
        fsync(handle)

    monkeypatch.setattr(os, "write", recording_write)
    monkeypatch.setattr(os, "fsync", recording_fsync)
    return recorded


def test_a_batch_is_written_then_synced_then_acknowledged(calls: list[str], tmp_path: Path) -> None:
    with Recorded(calls) as adapter:
        sv.ingest(
            adapter,
            range(4),
            VECTORS,
            journal=tmp_path / "x.journal",
            batch_count=2,
            on_progress=lambda progress: calls.append(f"acknowledged {progress.documents}"),
        )
    letters = ["write x.failed.jsonl", "sync x.failed.jsonl"]
    entry = ["write x.journal", "sync x.journal"]
    assert calls == [
        f"sync {tmp_path.name}",  # the journal's name is in its folder
        *entry,  # its header
        "acknowledged 0",
        "request",
        f"sync {tmp_path.name}",  # the name of the dead letters
        *letters,
        *entry,
        "acknowledged 2",
        "request",
        *letters,
        *entry,
        "acknowledged 4",
    ]


def test_a_batch_that_could_not_be_synced_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    with Recorded([]) as adapter:
        sv.ingest(adapter, [0], VECTORS[:1], journal=journal)
        before = journal.read_bytes()

        def refuse(handle: int) -> None:
            if Path(f"/proc/self/fd/{handle}").readlink() == journal:
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageFailed, match="what it held before is still there") as stopped:
            sv.ingest(adapter, [0, 2], VECTORS[[0, 2]], journal=journal)
    assert stopped.value.report.given == 1
    assert journal.read_bytes() == before


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_journal_and_dead_letters_are_their_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Recorded([]) as adapter:
            sv.ingest(adapter, range(4), VECTORS, journal=tmp_path / "x.journal")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"x.journal": 0o600, "x.failed.jsonl": 0o600}


@pytest.fixture
def forked(tmp_path: Path) -> Iterator[Journal]:
    """A journal that was open when this process forked; the child lives on."""
    journal = Journal(tmp_path / "j")
    journal.bind(Header())
    ready, tell = os.pipe()
    if (child := os.fork()) == 0:
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    yield journal
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready)
    os.close(tell)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_hold_the_journal_of_its_parent(forked: Journal) -> None:
    forked.close()
    Journal(forked.path).close()
