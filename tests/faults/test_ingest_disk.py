"""A disk that is really full, under the journal, the dead letters and the collection: an error in words, no loss."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sparsevec as sv
from sparsevec.errors import StorageFailed
from sparsevec.ingestion.dead_letters import read_dead_letters
from tests.misbehaving import Misbehaving

DIMENSION = 8
N = 200
VECTORS = sv.SparseVectors.from_rows([{i % DIMENSION: 1.0 + i} if i % 4 else {} for i in range(N)], dimension=DIMENSION)
FULL = sv.SparseVectors.from_rows([{i % DIMENSION: 1.0 + i} for i in range(N)], dimension=DIMENSION)
PAYLOADS = [{"text": "x" * 2000, "n": i} for i in range(N)]


@dataclass
class Disk:
    """A filesystem of its own, in memory."""

    path: Path

    def fill(self, left: int) -> None:
        """So that `left` bytes are free, in whole pages."""
        free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
        (self.path / "filler").write_bytes(b"\0" * (free - left))

    def free(self) -> None:
        (self.path / "filler").unlink()

    def grow(self, megabytes: int) -> None:
        mount("-o", f"remount,size={megabytes}m", str(self.path))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small filesystem can be mounted here, which root may: {error}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def adapter() -> Iterator[Misbehaving]:
    with Misbehaving() as adapter:
        adapter.create(DIMENSION)
        yield adapter


@pytest.mark.parametrize("left", [0, 4096, 8192, 20480])
def test_a_full_disk_under_the_journal_stops_the_run_and_loses_nothing(
    disk: Disk, adapter: Misbehaving, tmp_path: Path, left: int
) -> None:
    journal, failed = disk.path / "j", tmp_path / "failed.jsonl"
    disk.fill(left)
    with pytest.raises(StorageFailed, match=r"could not be .*No space left on device") as stopped:
        sv.ingest(adapter, range(N), VECTORS, batch_count=1, journal=journal, failed=failed)
    assert stopped.value.report.given <= N
    disk.free()
    report = sv.ingest(adapter, range(N), VECTORS, batch_count=1, journal=journal, failed=failed)
    assert (report.given, report.written, report.failed) == (N, 150, 50)
    assert [letter.position for letter in read_dead_letters(failed)] == list(range(0, N, 4))


@pytest.mark.parametrize("left", [0, 4096, 8192])
def test_a_full_disk_under_the_dead_letters_leaves_whole_ones(
    disk: Disk, adapter: Misbehaving, tmp_path: Path, left: int
) -> None:
    journal, failed = tmp_path / "j", disk.path / "failed.jsonl"
    disk.fill(left)
    with pytest.raises(StorageFailed, match="No space left on device") as stopped:
        sv.ingest(adapter, range(N), VECTORS, PAYLOADS, batch_count=1, journal=journal, failed=failed)
    assert len(list(read_dead_letters(failed))) == stopped.value.report.failed
    disk.free()
    report = sv.ingest(adapter, range(N), VECTORS, PAYLOADS, batch_count=1, journal=journal, failed=failed)
    assert (report.given, report.written, report.failed) == (N, 150, 50)
    assert [letter.position for letter in read_dead_letters(failed)] == list(range(0, N, 4))


COLLECTIONS = [
    "reference:{}/reference",
    "local:{}/local",
    pytest.param("qdrant+edge:{}/edge", marks=pytest.mark.qdrant),
]


@pytest.mark.parametrize("url", COLLECTIONS)
def test_a_full_disk_under_the_collection_stops_the_run_and_loses_nothing(disk: Disk, tmp_path: Path, url: str) -> None:
    disk.grow(200)
    options: dict[str, Any] = {"journal": tmp_path / "j", "batch_count": 10}
    with sv.connect(url.format(disk.path)) as adapter:
        adapter.create(DIMENSION)
        disk.fill(200_000)
        with pytest.raises(StorageFailed) as stopped:
            sv.ingest(adapter, range(N), FULL, PAYLOADS, **options)
    disk.free()
    with sv.connect(url.format(disk.path)) as adapter:
        assert adapter.count() >= stopped.value.report.written
        report = sv.ingest(adapter, range(N), FULL, PAYLOADS, **options)
        assert (report.given, report.written) == (N, N)
        assert adapter.fetch(range(N)).vectors == FULL
