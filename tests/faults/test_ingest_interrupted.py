"""Ctrl-C in the middle of an ingest, in a process of its own: the report is printed, and the same call goes on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sparsevec as sv
from sparsevec.ingestion.journal import Journal
from tests.expected import Expected
from tests.faults import ingest_worker
from tests.faults.ingest_worker import stream

COMMAND = [sys.executable, "-m", ingest_worker.__name__]


@pytest.mark.parametrize("batches", [1, 20, 73])
def test_ctrl_c_leaves_with_the_report_and_the_same_call_goes_on(tmp_path: Path, batches: int) -> None:
    with subprocess.Popen(
        [*COMMAND, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(batches):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    journal = Journal(tmp_path / "run.journal")
    journal.close()
    assert "KeyboardInterrupt" in said
    told = re.search(r"^ingest: ([\d,]+) documents: ", said, re.MULTILINE)
    assert told is not None
    assert int(told[1].replace(",", "")) in (journal.settled, (journal.settled or 0) - 2)  # between file and report
    assert f"the same call with the journal {tmp_path}/run.journal goes on" in said

    expected = Expected(*stream(), "error")
    with sv.connect(f"reference:{tmp_path}/reference") as adapter:
        report = sv.ingest(adapter, *stream(), journal=tmp_path / "run.journal")
        expected.require(adapter)
    assert (report.given, report.written, report.skipped, report.failed) == expected.counts
