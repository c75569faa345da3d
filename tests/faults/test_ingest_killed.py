"""kill -9 in the middle of an ingest, again and again, on real storage: nothing is lost, nothing counted twice."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

import sparsevec as sv
from sparsevec.journal import read_dead_letters
from tests.expected import Expected
from tests.faults.ingest_worker import N, stream

ROOT = Path(__file__).parents[2]
EDGE = pytest.param("qdrant+edge:{}/edge", id="qdrant-edge", marks=pytest.mark.qdrant)
URLS = ["reference:{}/reference", EDGE]


def worker(url: str, journal: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.ingest_worker", url, str(journal)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def kill(url: str, journal: Path, chance: Random) -> None:
    """Begin to ingest, and kill -9 the process within a few milliseconds after one of its batches, or before any."""
    with worker(url, journal) as process:
        assert process.stdout is not None
        list(itertools.islice(process.stdout, chance.randint(1, 30)))
        time.sleep(chance.uniform(0, 0.01))  # a random moment, nothing is waited for
        process.kill()


def finish(url: str, journal: Path) -> sv.IngestReport:
    with worker(url, journal) as process:
        output, _ = process.communicate()
    assert process.returncode == 0
    return sv.IngestReport.model_validate_json(output.splitlines()[-1])


def check_a_run(url: str, folder: Path, chance: Random) -> None:
    """One run, killed up to three times, resumed, and resumed once more after its end."""
    url, journal = url.format(folder), folder / "run.journal"
    for _ in range(chance.randint(1, 3)):
        kill(url, journal, chance)
    report = finish(url, journal)

    expected = Expected(*stream(), "error")
    assert (report.given, report.written, report.skipped, report.failed) == expected.counts
    assert report.given == N
    assert [letter.position for letter in read_dead_letters(folder / "run.failed.jsonl")] == expected.failed
    assert finish(url, journal) == report
    adapter = sv.connect(url)
    expected.require(adapter)
    adapter.close()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("url", URLS)
def test_a_run_that_is_killed_goes_on_where_it_stopped(url: str, seed: int, tmp_path: Path) -> None:
    check_a_run(url, tmp_path, Random(seed))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 52))
@pytest.mark.parametrize("url", URLS)
def test_a_hundred_runs_that_are_killed_lose_nothing(url: str, seed: int, tmp_path: Path) -> None:
    check_a_run(url, tmp_path, Random(seed))
