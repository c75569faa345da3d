"""Whatever stops `ingest`, the report is at hand; what it prints and logs harms nobody."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sparsevec as sv
from sparsevec.contract.adapter import Failure, Written
from sparsevec.contract.deadlines import remaining
from sparsevec.errors import BackendDown, WriteFailed
from tests.misbehaving import Clock, Interrupted, Misbehaving, down, honest

DIMENSION = 8
N = 10
VECTORS = sv.SparseVectors.from_rows([{i % DIMENSION: 1.0 + i} for i in range(N)], dimension=DIMENSION)


@pytest.fixture
def adapter() -> Iterator[Misbehaving]:
    with Misbehaving() as adapter:
        adapter.create(DIMENSION)
        yield adapter


def raising(error: BaseException) -> Any:
    def act(*request: Any) -> Written:
        raise error

    return act


class Closed(Exception):
    """Takes no report."""

    report = property(lambda _self: None)


ERRORS = [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), Interrupted("by the caller"), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_any_exception_leaves_with_the_report(adapter: Misbehaving, tmp_path: Path, error: BaseException) -> None:
    adapter.script = [honest, honest, raising(error)]
    with pytest.raises(type(error)) as stopped:
        sv.ingest(adapter, range(N), VECTORS, batch_count=2, journal=tmp_path / "j")
    assert stopped.value is error
    report = stopped.value.report  # type: ignore[attr-defined]
    assert (report.given, report.written) == (4, 4)
    (note,) = stopped.value.__notes__
    assert note.startswith("ingest: 4 documents: 4 written, 0 skipped, 0 failed")
    assert note.endswith(f"the same call with the journal {tmp_path / 'j'} goes on")


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_after_any_exception_the_same_call_goes_on(adapter: Misbehaving, tmp_path: Path, error: BaseException) -> None:
    adapter.script = [honest, honest, raising(error)]
    with pytest.raises(type(error)):
        sv.ingest(adapter, range(N), VECTORS, batch_count=2, journal=tmp_path / "j")
    adapter.requests.clear()
    report = sv.ingest(adapter, range(N), VECTORS, batch_count=2, journal=tmp_path / "j")
    assert adapter.requests == [[4, 5], [6, 7], [8, 9]]
    assert report.written == adapter.count() == N


def test_a_source_that_raises_leaves_with_the_report(adapter: Misbehaving) -> None:
    def chunks() -> Iterator[sv.SparseVectors]:
        yield VECTORS[:5]
        raise EOFError("the file ends here")

    with pytest.raises(EOFError) as stopped:
        sv.ingest(adapter, range(N), chunks())
    assert stopped.value.report.written == adapter.count() == 5  # type: ignore[attr-defined]
    assert "give the documents from position 5 on" in stopped.value.__notes__[0]


def test_whoever_watches_may_stop_the_run_too(adapter: Misbehaving) -> None:
    def stop(progress: sv.IngestProgress) -> None:
        if progress.documents == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        sv.ingest(adapter, range(N), VECTORS, batch_count=2, on_progress=stop)
    assert stopped.value.report.written == adapter.count() == 4  # type: ignore[attr-defined]


def test_an_exception_that_takes_no_attribute_gets_out_all_the_same(adapter: Misbehaving) -> None:
    adapter.script = [raising(Closed())]
    with pytest.raises(Closed):
        sv.ingest(adapter, range(N), VECTORS)


# ---- what is printed

HARMFUL = "\x1b]0;owned\x07 \x9b31m \u202e dloh \n\r \u2028"
SHOWN = r"\x1b]0;owned\x07 \x9b31m \u202e dloh \n\r \u2028"


def test_what_others_wrote_does_nothing_to_the_screen(adapter: Misbehaving) -> None:
    def refusing(write: Any, ids: Any, *rest: Any) -> Written:
        return Written(failed={ids[0]: Failure(f"400: {HARMFUL}")})

    adapter.script = [refusing]
    report = sv.ingest(adapter, [f"id {HARMFUL}"], VECTORS[:1])
    assert f"id {SHOWN}" in str(report)
    assert f": 400: {SHOWN}" in str(report)
    assert len(str(report).splitlines()) == 2


def test_a_harmful_reason_is_shown_harmless_in_an_error_too(adapter: Misbehaving) -> None:
    told: list[sv.IngestProgress] = []
    adapter.script = [raising(BackendDown(f"503: {HARMFUL}"))] * 100
    with pytest.raises(WriteFailed) as stopped:
        sv.ingest(adapter, range(N), VECTORS, timing=Clock().timing, on_progress=told.append)
    assert f"last: 503: {SHOWN}" in str(stopped.value)
    assert told[1].waiting == f"503: {SHOWN}"


def test_a_harmful_key_of_a_payload_is_shown_harmless(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, [1], VECTORS[:1], [{"a\x1b\u202eb": {1, 2}}])
    assert r"payload of id 1: a\x1b\u202eb: expected a JSON value, found set" in str(report)


# ---- an id given twice, told


def test_an_id_given_twice_counts_twice_and_the_report_says_so(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, [1, "1", 1, 2, 1], VECTORS[:5], batch_count=2)
    assert (report.given, report.written, report.repeated, adapter.count()) == (5, 5, 2, 3)
    assert "2 gave an id again: each counts, the collection holds the last of each id" in str(report)


def test_an_id_given_again_after_a_restart_is_told_too(adapter: Misbehaving, tmp_path: Path) -> None:
    sv.ingest(adapter, [1, 2], VECTORS[:2], journal=tmp_path / "j")
    assert sv.ingest(adapter, [1, 2, 1], VECTORS[[0, 1, 2]], journal=tmp_path / "j").repeated == 1


def test_ids_that_are_given_once_are_not_told_to_be_repeated(adapter: Misbehaving) -> None:
    report = sv.ingest(adapter, [1, "1", 2**63, 0, "a"], VECTORS[:5])
    assert report.repeated == 0
    assert "again" not in str(report)


# ---- what is logged


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]


def test_a_run_leaves_a_line_at_its_begin_and_one_at_its_end(
    adapter: Misbehaving, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sparsevec"):
        sv.ingest(adapter, range(N), VECTORS, batch_count=2)
    begin, end = logged(caplog)
    assert begin == "ingest into <Misbehaving memory> begins, 0 documents are settled already"
    assert end.startswith("ingest into <Misbehaving memory> ends: 10 documents: 10 written")


def test_a_long_wait_leaves_a_trace_and_a_short_one_none(
    adapter: Misbehaving, caplog: pytest.LogCaptureFixture
) -> None:
    adapter.script = [down, honest, *[down] * 10]
    with caplog.at_level(logging.INFO, "sparsevec"):
        sv.ingest(adapter, range(N), VECTORS, batch_count=5, timing=Clock().timing)
    _, waits, answers, _ = logged(caplog)
    assert waits == "waiting for the backend since 13 s: connection refused"
    assert answers == "the backend answers again, after 85 s"


def test_a_run_that_stops_says_where(adapter: Misbehaving, caplog: pytest.LogCaptureFixture) -> None:
    adapter.script = [honest, raising(Interrupted())]
    with caplog.at_level(logging.INFO, "sparsevec"), pytest.raises(Interrupted):
        sv.ingest(adapter, range(N), VECTORS, batch_count=5)
    assert logged(caplog)[-1] == "ingest stops at position 5: Interrupted"


# ---- the deadline bounds a request


def test_a_request_may_wait_no_longer_than_half_of_what_is_left(adapter: Misbehaving) -> None:
    granted: list[float] = []

    def held(*request: Any) -> Written:
        granted.append(remaining(600.0))
        clock.now += 2.0
        raise BackendDown("no answer")

    clock = Clock(draw=0.0)
    adapter.script = [held] * 100
    with pytest.raises(WriteFailed, match="no progress for 5 s, tried 3 times"):
        sv.ingest(adapter, range(N), VECTORS, deadline=5, timing=clock.timing)
    assert granted == pytest.approx([2.5, 1.5, 1], abs=0.2)
    assert clock.now == 6


def test_what_a_source_takes_is_not_held_against_the_backend(adapter: Misbehaving) -> None:
    clock, granted = Clock(), []

    def chunks() -> Iterator[sv.SparseVectors]:
        for row in range(N):
            clock.now += 1000
            yield VECTORS[row : row + 1]

    def note(write: Any, *request: Any) -> Written:
        granted.append(remaining(600.0))
        return write(*request)  # type: ignore[no-any-return]

    adapter.script = [note] * N
    report = sv.ingest(adapter, range(N), chunks(), batch_count=1, deadline=5, timing=clock.timing)
    assert granted == pytest.approx([2.5] * N, abs=0.2)
    assert report.seconds == 0
