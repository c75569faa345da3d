"""Several requests of one ingest under way at the same time: settled in order, none twice, and none after the end."""

from __future__ import annotations

import gc
import itertools
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sparsevec as sv
from sparsevec.contract.adapter import Written
from sparsevec.contract.checks import Id
from sparsevec.errors import BackendDown, CollectionError, InvalidInput
from sparsevec.ingestion.journal import Journal
from sparsevec.ingestion.patience import Patience
from sparsevec.ingestion.stream import Batch
from tests.misbehaving import Clock, Guarding, Interrupted, Misbehaving

DIMENSION = 100
PATIENCE = 30.0  # seconds, for what comes at once where all is well


def vectors(n: int, weight: float = 1.0) -> sv.SparseVectors:
    return sv.SparseVectors.from_rows([{i % DIMENSION: weight + i} for i in range(n)], dimension=DIMENSION)


class Crowd(Misbehaving):
    """Counts who is inside: `peak` at once; from the fourth on, each waits until there are as many as `expected`."""

    def __init__(self, expected: int = 1) -> None:
        super().__init__()
        self.create(DIMENSION)
        self.expected, self.peak = expected, 0
        self.inside: list[list[Id]] = []
        self.clashes: list[Id] = []
        self._door = threading.Condition()
        self._numbers = itertools.count()

    def upsert(self, ids: Sequence[Id], *args: Any, **options: Any) -> Written:
        number = next(self._numbers)
        with self._door:
            self.clashes += [id_ for others in self.inside for id_ in others if id_ in ids]
            self.inside.append(list(ids))
            self.peak = max(self.peak, len(self.inside))
            self._door.notify_all()
            if number > 2:
                self._door.wait_for(lambda: self.peak >= self.expected, PATIENCE)
        try:
            self.act(number)
            return super().upsert(ids, *args, **options)
        finally:
            with self._door:
                self.inside.remove(list(ids))

    def act(self, number: int) -> None:
        """What this request does before it writes."""


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_so_many_requests_are_under_way_and_no_more(at_once: int) -> None:
    with Crowd(expected=at_once) as adapter:
        report = sv.ingest(adapter, range(60), vectors(60), batch_count=3, in_flight=at_once)
        assert adapter.peak == at_once
        assert (report.written, report.given, adapter.count()) == (60, 60, 60)


def batches_alive() -> int:
    return sum(type(one) is Batch for one in gc.get_objects())


def test_what_is_settled_is_let_go_of() -> None:
    gc.collect()
    told, before = itertools.count(), batches_alive()
    alive: list[int] = []

    def look(_: sv.IngestProgress) -> None:
        if next(told) % 40 == 39:  # each look walks every object of the process
            alive.append(batches_alive() - before)

    with Crowd() as adapter:
        sv.ingest(adapter, range(400), vectors(400), batch_count=2, in_flight=4, on_progress=look)
    assert len(alive) >= 5
    assert max(alive) < 60  # four under way, their pieces and the window; of 200


class Backwards(Crowd):
    """Of the fourth to the seventh request, which are under way together, the fourth is answered last."""

    def __init__(self) -> None:
        super().__init__(expected=4)
        self._answered = threading.Semaphore(0)

    def act(self, number: int) -> None:
        if number == 3:
            for _ in range(3):
                assert self._answered.acquire(timeout=PATIENCE)
        elif number < 7:
            self._answered.release()


def test_what_is_answered_out_of_order_is_settled_in_order(tmp_path: Path) -> None:
    seen: list[int] = []
    with Backwards() as adapter:
        sv.ingest(
            adapter,
            range(20),
            vectors(20),
            journal=tmp_path / "j",
            batch_count=2,
            in_flight=4,
            on_progress=lambda progress: seen.append(progress.documents),
        )
    assert seen == list(range(0, 22, 2))
    journal = Journal(tmp_path / "j")
    journal.close()
    assert [(entry.start, entry.stop) for entry in journal.entries] == [(n, n + 2) for n in range(0, 20, 2)]


def test_an_id_that_is_under_way_is_not_sent_again_before_it_is_settled() -> None:
    ids = [n % 7 for n in range(70)]
    with Crowd() as adapter:
        report = sv.ingest(adapter, ids, vectors(70), batch_count=2, in_flight=4)
        assert adapter.clashes == []
        assert adapter.fetch([0, 6]).vectors == vectors(70)[[63, 69]]  # the last of each
    assert (report.written, report.repeated) == (70, 63)


class Failing(Crowd):
    def __init__(self, number: int, error: Exception) -> None:
        super().__init__()
        self._number, self._error = number, error

    def act(self, number: int) -> None:
        if number == self._number:
            raise self._error


def test_a_request_that_ends_the_run_leaves_a_report_of_what_was_settled_before_it(tmp_path: Path) -> None:
    with Failing(5, CollectionError("the index was closed")) as adapter:
        with pytest.raises(CollectionError) as stopped:
            sv.ingest(adapter, range(40), vectors(40), journal=tmp_path / "j", batch_count=2, in_flight=4)
        requests = len(adapter.requests)
        report = sv.ingest(adapter, range(40), vectors(40), journal=tmp_path / "j", batch_count=2, in_flight=4)
        assert adapter.count() == 40
    assert stopped.value.report.given == stopped.value.report.written == 10
    assert 5 <= requests <= 9  # those that were under way, and none after them
    assert (report.given, report.written, report.repeated) == (40, 40, 0)


def test_what_came_before_the_error_of_a_source_is_settled() -> None:
    def ids() -> Iterator[int]:
        yield from range(25)
        raise Interrupted("by the source")

    with Crowd() as adapter, pytest.raises(Interrupted) as stopped:
        sv.ingest(adapter, ids(), vectors(40), batch_count=2, in_flight=4)
    assert stopped.value.report.written == 25  # type: ignore[attr-defined]


def test_nothing_writes_after_ctrl_c_and_what_was_answered_in_order_is_in_the_report() -> None:
    def ctrl_c(progress: sv.IngestProgress) -> None:
        if progress.documents == 8:
            raise KeyboardInterrupt

    with Crowd() as adapter, pytest.raises(KeyboardInterrupt) as stopped:
        sv.ingest(adapter, range(200), vectors(200), batch_count=2, in_flight=4, on_progress=ctrl_c)
    written = adapter.requests.copy()
    assert adapter.inside == []
    assert 8 <= stopped.value.report.given <= 2 * len(written) < 200  # type: ignore[attr-defined]


def test_a_request_that_waits_to_be_sent_again_does_not_outlive_the_run() -> None:
    def ctrl_c(progress: sv.IngestProgress) -> None:
        if progress.waiting:
            raise KeyboardInterrupt

    with Failing(3, BackendDown("429", retry_after=60)) as adapter, pytest.raises(KeyboardInterrupt) as stopped:
        sv.ingest(adapter, range(20), vectors(20), batch_count=2, in_flight=2, on_progress=ctrl_c)
    assert stopped.value.report.given == 6  # type: ignore[attr-defined]
    assert stopped.value.report.retries == 1  # type: ignore[attr-defined]


def test_a_busy_backend_has_the_quiet_that_it_asked_one_request_for_from_all() -> None:
    clock = Clock(draw=0.0)
    clock.timing = replace(clock.timing, sleep=clock.pauses.append)  # whoever pauses, the time stays as it is
    run = Patience(300.0, clock.timing)
    one, other = run.of_request(lambda _: None), run.of_request(lambda _: None)
    one.wait(BackendDown("429", retry_after=7.0))
    with other.bounded():
        assert clock.pauses == [7.0, 7.0]


def test_listeners_are_called_in_the_callers_thread_while_requests_wait() -> None:
    heard: set[tuple[int, bool]] = set()
    clock = Clock()
    with Failing(4, BackendDown("down")) as adapter:
        report = sv.ingest(
            adapter,
            range(40),
            vectors(40),
            batch_count=2,
            in_flight=4,
            timing=clock.timing,
            on_progress=lambda progress: heard.add((threading.get_ident(), progress.waiting is not None)),
        )
    assert heard == {(threading.get_ident(), False), (threading.get_ident(), True)}
    assert (report.written, report.retries) == (40, 1)


class OneByOne(Guarding):
    def __init__(self) -> None:
        super().__init__()
        self.create(DIMENSION)
        self._door = threading.Lock()

    def upsert(self, *args: Any, **options: Any) -> Written:
        with self._door:
            return super().upsert(*args, **options)


def test_what_a_killed_run_wrote_before_its_journal_says_so_is_not_taken_for_a_change_of_others(tmp_path: Path) -> None:
    """With versions, each document that a request under way had written is another version when the run goes on."""
    copied: list[int] = []

    def kill(progress: sv.IngestProgress) -> None:
        if progress.documents == 4 and not copied:
            shutil.copy(tmp_path / "j", tmp_path / "killed")  # what is on disk at this moment
            copied.append(4)

    with OneByOne() as adapter:
        sv.ingest(adapter, range(12), vectors(12), missing="create")
        versions = ["1"] * 12
        given = {"versions": versions, "batch_count": 2, "in_flight": 4}
        sv.ingest(adapter, range(12), vectors(12, 0.5), journal=tmp_path / "j", on_progress=kill, **given)  # type: ignore[arg-type]
        report = sv.ingest(adapter, range(12), vectors(12, 0.5), journal=tmp_path / "killed", **given)  # type: ignore[arg-type]
    assert (report.given, report.written, report.stale) == (12, 12, 0)


@pytest.mark.parametrize("in_flight", [0, -1, 2.0, True, "4"])
def test_a_number_of_requests_that_is_none_is_refused(in_flight: Any) -> None:
    with Crowd() as adapter, pytest.raises(InvalidInput, match="in_flight must be an int of at least 1, found"):
        sv.ingest(adapter, [1], vectors(1), in_flight=in_flight)
