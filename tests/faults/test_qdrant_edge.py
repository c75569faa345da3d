"""kill -9 in the middle of writing, and a full disk: what was reported as written is there, and is exact."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sparsevec as sv
from sparsevec.errors import StorageFailed
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.documents import corpus

BATCH = 50
DOCUMENTS = corpus(6_000)
WRITER = """
import sys, sparsevec
from sparsevec.testing.conformance.documents import corpus
documents = corpus(6_000)
adapter = sparsevec.connect("qdrant+edge:" + sys.argv[1])
if adapter.info().dimension is None:
    adapter.create(documents.dimension)
for start in range(int(sys.argv[2]), 6_000, 50):
    ids = [f"d{i}" for i in range(start, start + 50)]
    adapter.upsert(ids, documents[start : start + 50], [{"n": i} for i in ids])
    print(start + 50, flush=True)
"""


def kill_in_mid_write(folder: Path, start: int, batches: int) -> int:
    """How many documents were acknowledged when the writer was killed, right after `batches` acknowledgements."""
    command = [sys.executable, "-c", WRITER, str(folder), str(start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(batches):
            writer.stdout.readline()
        writer.kill()
        rest = writer.stdout.read().split()  # acknowledged while the signal was on its way
    return int(rest[-1]) if rest else start + batches * BATCH


def check(folder: Path, acknowledged: int) -> None:
    adapter = sv.connect(f"qdrant+edge:{folder}")
    there = adapter.count()
    assert acknowledged <= there <= acknowledged + BATCH  # the batch under way may be there
    assert there % BATCH == 0  # whole or not at all
    ids = [f"d{i}" for i in range(there)]
    assert adapter.fetch(ids).payloads == tuple({"n": id_} for id_ in ids)
    verify(adapter, DOCUMENTS[:there], corpus(20, seed=1), ids=ids).require_exact()
    adapter.close()


def test_a_killed_writer_loses_nothing_that_it_reported(tmp_path: Path) -> None:
    acknowledged = kill_in_mid_write(tmp_path / "edge", start=0, batches=7)
    check(tmp_path / "edge", acknowledged)


@pytest.mark.slow
def test_a_writer_killed_twenty_times_on_end_loses_nothing_that_it_reported(tmp_path: Path) -> None:
    acknowledged = 0
    for round_ in range(20):
        acknowledged = kill_in_mid_write(tmp_path / "edge", start=acknowledged, batches=1 + round_ % 5)
        check(tmp_path / "edge", acknowledged)


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of its own of 160 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small filesystem can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_stops_the_writer_in_words_and_what_was_written_is_there(small_disk: Path) -> None:
    adapter = sv.connect(f"qdrant+edge:{small_disk}/edge")
    adapter.create(DOCUMENTS.dimension)
    starts = iter(range(0, len(DOCUMENTS), BATCH))

    def write_on() -> None:
        for start in starts:
            payloads = [{"text": "x" * 60_000}] * BATCH
            adapter.upsert(range(start, start + BATCH), DOCUMENTS[start : start + BATCH], payloads)

    with pytest.raises(StorageFailed, match=r"MiB are free on its disk.*nothing was written"):
        write_on()
    written = next(starts) - BATCH
    assert written > BATCH
    assert adapter.count() == written
    adapter.close()
    again = sv.connect(f"qdrant+edge:{small_disk}/edge")
    verify(again, DOCUMENTS[:written], corpus(20, seed=1)).require_exact()
    again.close()


def test_a_disk_with_little_room_is_found_by_check_and_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = sv.connect(f"qdrant+edge:{tmp_path}/edge")
    little = shutil.disk_usage(tmp_path)._replace(free=10 * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: little)
    assert "blocking" in {finding.level for finding in adapter.check()}
    with pytest.raises(StorageFailed, match="10 MiB are free"):
        adapter.create(10)
    assert not (tmp_path / "edge").exists()
    adapter.close()
