"""kill -9 in the middle of an ingest, again and again, on real storage: nothing is lost, nothing counted twice."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import pytest

import sparsevec as sv
from sparsevec.ingestion.dead_letters import read_dead_letters
from tests.expected import Expected
from tests.faults.ingest_worker import N, run, stream

EDGE = pytest.param("qdrant+edge:{}/edge", id="qdrant-edge", marks=pytest.mark.qdrant)
URLS = [pytest.param("reference:{}/reference", id="reference"), EDGE]

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([run.__module__, "sparsevec_adapters.qdrant_edge"])  # imported once, not in each process


def begin(url: str, journal: Path, in_flight: int) -> tuple[ForkServerProcess, Connection]:
    """A process that ingests, and where to hear from it; EOFError there when it is gone."""
    here, there = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=run, args=(url, str(journal), in_flight, there))
    process.start()
    there.close()
    return process, here


def kill(url: str, journal: Path, in_flight: int, chance: Random) -> None:
    """Begin to ingest, and kill -9 the process within a few milliseconds after one of its batches, or before any."""
    process, progress = begin(url, journal, in_flight)
    with suppress(EOFError):  # it came to its end first
        for _ in range(chance.randint(1, 14)):
            progress.recv()
    time.sleep(chance.uniform(0, 0.01))  # a random moment, nothing is waited for
    process.kill()
    process.join()


def finish(url: str, journal: Path, in_flight: int) -> sv.IngestReport:
    process, progress = begin(url, journal, in_flight)
    said = progress.recv()
    while not isinstance(said, sv.IngestReport):
        said = progress.recv()
    process.join()
    assert process.exitcode == 0
    return said


def check_a_run(url: str, folder: Path, in_flight: int, chance: Random) -> None:
    """One run, killed up to three times, resumed, and resumed once more after its end."""
    url, journal = url.format(folder), folder / "run.journal"
    for _ in range(chance.randint(1, 3)):
        kill(url, journal, in_flight, chance)
    report = finish(url, journal, in_flight)

    expected = Expected(*stream(), "error")
    assert (report.given, report.written, report.skipped, report.failed) == expected.counts
    assert report.given == N
    assert [letter.position for letter in read_dead_letters(folder / "run.failed.jsonl")] == expected.failed
    assert finish(url, journal, in_flight) == report
    adapter = sv.connect(url)
    expected.require(adapter)
    adapter.close()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("url", URLS)
def test_a_run_that_is_killed_goes_on_where_it_stopped(url: str, in_flight: int, seed: int, tmp_path: Path) -> None:
    check_a_run(url, tmp_path, in_flight, Random(seed))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 52))
@pytest.mark.parametrize("url", URLS)
def test_a_hundred_runs_that_are_killed_with_requests_in_flight_lose_nothing(
    url: str, seed: int, tmp_path: Path
) -> None:
    check_a_run(url, tmp_path, 4, Random(seed))
