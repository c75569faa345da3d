"""kill -9 in the middle of writing: what was reported as written is there, and what is there is exact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import sparsevec as sv
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance import corpus

BATCH = 50
DOCUMENTS = corpus(6_000)
WRITER = """
import sys, sparsevec
from sparsevec.testing.conformance import corpus
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
