"""Faults on the way to a backend: after each, the counts add up and the collection holds what it should, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import sparsevec as sv
from sparsevec.contract.adapter import Failure, Written
from sparsevec.errors import BackendDown, BackendUnsupported, CollectionError, InvalidInput, OutOfLimits, WriteFailed
from sparsevec.ingestion.dead_letters import read_dead_letters
from sparsevec.ingestion.ingest import IngestProgress
from tests import strategies
from tests.expected import Expected
from tests.misbehaving import (
    PASSING,
    STOPPING,
    Act,
    Clock,
    Guarding,
    Interrupted,
    Misbehaving,
    busy,
    closed,
    down,
    half_busy,
    honest,
    lost,
    unlicensed,
)

DIMENSION = 8
N = 10
VECTORS = sv.SparseVectors.from_dense(np.arange(1, N * DIMENSION + 1).reshape(N, DIMENSION))


def misbehaving(*script: Act, **behaviour: Any) -> Misbehaving:
    adapter = Misbehaving(script=script, **behaviour)
    adapter.create(DIMENSION)
    return adapter


def counts(report: sv.IngestReport) -> tuple[int, int, int, int]:
    return report.given, report.written, report.skipped, report.failed


@pytest.mark.parametrize("act", PASSING)
def test_a_fault_that_passes_leaves_no_trace(act: Act) -> None:
    adapter = misbehaving(honest, act, act, honest, act)
    report = sv.ingest(adapter, range(N), VECTORS, batch_count=4, timing=Clock().timing)
    assert counts(report) == (N, N, 0, 0)
    assert adapter.count() == N
    assert adapter.fetch(range(N)).vectors == VECTORS


def test_only_the_documents_that_were_refused_for_now_are_sent_again() -> None:
    adapter = misbehaving(half_busy)
    report = sv.ingest(adapter, range(4), VECTORS[:4], timing=Clock().timing)
    assert adapter.requests == [[0, 1, 2, 3], [0, 1]]
    assert report.retries == 1


def test_a_busy_backend_is_asked_the_same_again_and_not_more_often_for_less() -> None:
    adapter = misbehaving(*[busy, busy, honest] * 3)
    sv.ingest(adapter, range(9), VECTORS[:9], batch_count=3, in_flight=1, timing=Clock().timing)
    assert adapter.requests == [[0, 1, 2]] * 3 + [[3, 4, 5]] * 3 + [[6, 7, 8]] * 3


def test_a_request_that_a_busy_backend_refuses_again_and_again_is_halved() -> None:
    adapter = misbehaving(busy, busy, busy)
    sv.ingest(adapter, range(8), VECTORS[:8], timing=Clock().timing)
    assert adapter.requests == [list(range(8))] * 3 + [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_one_refused_document_among_a_thousand_fails_alone(tmp_path: Path) -> None:
    adapter = misbehaving(refuses=[500])
    vectors = sv.SparseVectors.concat([VECTORS] * 100)
    report = sv.ingest(adapter, range(1000), vectors, [{"n": i} for i in range(1000)], failed=tmp_path / "failed.jsonl")
    (letter,) = read_dead_letters(tmp_path / "failed.jsonl")
    assert counts(report) == (1000, 999, 0, 1)
    assert adapter.count() == 999
    assert len(adapter.requests) == 1
    assert (letter.id, letter.reason, letter.payload) == (500, "400: the mapping does not allow it", {"n": 500})
    assert letter.weights == vectors[500].values.tolist()


def test_a_request_that_is_too_large_is_halved_and_the_next_ones_are_smaller() -> None:
    adapter = misbehaving(holds=3)
    report = sv.ingest(adapter, range(100), sv.SparseVectors.concat([VECTORS] * 10), batch_count=20)
    sizes = [len(ids) for ids in adapter.requests]
    assert counts(report) == (100, 100, 0, 0)
    assert sizes[:4] == [20, 10, 5, 3]
    assert len([size for size in sizes if size > 3]) < 10


def test_a_request_that_the_backend_breaks_down_under_is_halved() -> None:
    def timed_out_above_three(write: Any, ids: Any, vectors: Any, payloads: Any) -> Written:
        return down() if len(ids) > 3 else write(ids, vectors, payloads)

    adapter = misbehaving(*[timed_out_above_three] * 20)
    report = sv.ingest(adapter, range(N), VECTORS, timing=Clock().timing)
    assert counts(report) == (N, N, 0, 0)
    assert [len(ids) for ids in adapter.requests] == [10, 5, 3, 2, 5, 3, 2]


def test_a_document_that_is_too_large_alone_fails_alone() -> None:
    adapter = misbehaving()
    holds_short_texts = Misbehaving._write

    def write(ids: Any, vectors: Any, payloads: Any) -> Written:
        if any(len(payload["text"]) > 9 for payload in payloads):
            raise OutOfLimits("413: too large", splittable=True)
        return holds_short_texts(adapter, ids, vectors, payloads)

    adapter._write = write  # type: ignore[method-assign]
    report = sv.ingest(adapter, range(N), VECTORS, [{"text": "x" * (10 if i == 6 else 1)} for i in range(N)])
    assert counts(report) == (N, N - 1, 0, 1)
    assert (report.failures[0].id, report.failures[0].reason) == (6, "413: too large")


def test_an_argument_that_only_the_backend_dislikes_fails_alone() -> None:
    def picky(write: Any, ids: Any, vectors: Any, payloads: Any) -> Written:
        if 6 in ids:
            raise InvalidInput("ids that are 6 are not for us")
        return write(ids, vectors, payloads)  # type: ignore[no-any-return]

    adapter = misbehaving(*[picky] * 20)
    report = sv.ingest(adapter, range(N), VECTORS)
    assert counts(report) == (N, N - 1, 0, 1)
    assert report.failures[0].reason == "ids that are 6 are not for us"


def test_a_limit_that_splitting_does_not_help_stops_the_run() -> None:
    def narrow(*request: Any) -> Written:
        raise OutOfLimits("at most 4 dimensions")

    with pytest.raises(OutOfLimits, match="at most 4 dimensions") as stopped:
        sv.ingest(misbehaving(honest, narrow), range(N), VECTORS, batch_count=5)
    assert counts(stopped.value.report) == (5, 5, 0, 0)


@pytest.mark.parametrize(("act", "error"), [(closed, CollectionError), (unlicensed, BackendUnsupported)])
def test_what_will_not_pass_stops_the_run_at_once(act: Act, error: type[Exception]) -> None:
    clock = Clock()
    adapter = misbehaving(honest, act)
    with pytest.raises(error) as stopped:
        sv.ingest(adapter, range(N), VECTORS, batch_count=4, timing=clock.timing)
    assert counts(stopped.value.report) == (4, 4, 0, 0)  # type: ignore[attr-defined]
    assert len(adapter.requests) == 2
    assert clock.pauses == []


# ---- patience


def test_a_backend_that_is_gone_stops_the_run_and_fails_no_document(tmp_path: Path) -> None:
    adapter = misbehaving(honest, honest, *[down] * 1000)
    clock = Clock()
    with pytest.raises(
        WriteFailed, match=r"stopped at position 4: no progress for 60 s.*connection refused"
    ) as stopped:
        sv.ingest(adapter, range(N), VECTORS, batch_count=2, deadline=60, timing=clock.timing, journal=tmp_path / "j")
    assert counts(stopped.value.report) == (4, 4, 0, 0)
    assert stopped.value.report.retries == len(clock.pauses)
    assert sum(clock.pauses) == pytest.approx(60)
    assert isinstance(stopped.value.__cause__, BackendDown)
    assert str(tmp_path / "j") in str(stopped.value)


def test_the_same_call_goes_on_when_the_backend_is_back(tmp_path: Path) -> None:
    adapter = misbehaving(honest, lost, *[down] * 1000)
    with pytest.raises(WriteFailed):
        sv.ingest(adapter, range(N), VECTORS, batch_count=2, timing=Clock().timing, journal=tmp_path / "j")
    adapter.script = []
    report = sv.ingest(adapter, range(N), VECTORS, batch_count=2, journal=tmp_path / "j")
    assert counts(report) == (N, N, 0, 0)
    assert adapter.count() == N


def test_without_a_journal_the_message_says_from_where_to_go_on() -> None:
    adapter = misbehaving(honest, *[down] * 1000)
    with pytest.raises(WriteFailed, match="give the documents from position 4 on") as stopped:
        sv.ingest(adapter, range(N), VECTORS, batch_count=4, timing=Clock().timing)
    adapter.script = []
    start = stopped.value.report.given
    sv.ingest(adapter, range(start, N), VECTORS[start:])
    assert adapter.fetch(range(N)).vectors == VECTORS


def test_one_document_that_stays_refused_for_now_stops_the_run_in_the_end() -> None:
    def never(write: Any, ids: Any, vectors: Any, payloads: Any) -> Written:
        return Written(tuple(ids[1:]), failed={ids[0]: Failure("429: the queue is full", retryable=True)})

    adapter = misbehaving(*[never] * 1000)
    with pytest.raises(WriteFailed, match="429: the queue is full") as stopped:
        sv.ingest(adapter, range(N), VECTORS, timing=Clock().timing)
    assert counts(stopped.value.report) == (0, 0, 0, 0)
    assert adapter.requests[-2:] == [[0], [9]]  # whether the backend takes another is asked before the run gives up


# ---- a document that can never pass


def never_alone(id_: int, refuse: Callable[..., Written]) -> Act:
    """Takes every document but this one, which `refuse` answers; alone, if it is not so already."""

    def act(write: Any, ids: Any, vectors: Any, payloads: Any) -> Written:
        if id_ not in ids:
            return write(ids, vectors, payloads)  # type: ignore[no-any-return]
        others = [row for row, other in enumerate(ids) if other != id_]
        answer = write([ids[row] for row in others], vectors[others], [payloads[row] for row in others])
        return Written(answer.written, failed=refuse().failed)

    return act


def too_busy_for(id_: int) -> Callable[..., Written]:
    return lambda: Written(failed={id_: Failure("429: circuit_breaking_exception", retryable=True)})


@pytest.mark.parametrize("poison", [0, 6, N - 1])
@pytest.mark.parametrize("batch_count", [2, 4, 100])
@pytest.mark.parametrize(
    "refuse", [too_busy_for, lambda _id: down, lambda _id: busy], ids=["refused for now", "no answer", "all refused"]
)
def test_a_document_that_can_never_pass_becomes_a_dead_letter_and_the_run_goes_on(
    poison: int, batch_count: int, refuse: Any, tmp_path: Path
) -> None:
    adapter = misbehaving(*[never_alone(poison, refuse(poison))] * 1000)
    options: dict[str, Any] = {"journal": tmp_path / "j", "batch_bytes": 400, "batch_count": batch_count}
    report = sv.ingest(adapter, range(N), VECTORS, timing=Clock().timing, **options)
    assert counts(report) == (N, N - 1, 0, 1)
    assert "refused for 300 s, while the backend took other documents" in report.failures[0].reason
    assert dead_letters(tmp_path / "j.failed.jsonl") == [poison]
    assert adapter.fetch(range(N)).vectors == VECTORS[[i for i in range(N) if i != poison]]


def test_a_transient_fault_is_never_a_dead_letter_however_long_it_lasts(tmp_path: Path) -> None:
    adapter = misbehaving(honest, *[down] * 1000)
    with pytest.raises(WriteFailed):
        sv.ingest(adapter, range(N), VECTORS, batch_count=1, timing=Clock().timing, journal=tmp_path / "j")
    adapter.script = []
    assert counts(sv.ingest(adapter, range(N), VECTORS, journal=tmp_path / "j")) == (N, N, 0, 0)


def test_a_document_that_passes_at_last_is_written() -> None:
    """The backend comes back exactly when it is asked for another document."""
    adapter = misbehaving(honest, *[down] * 22, honest)
    clock = Clock()
    report = sv.ingest(adapter, range(2), VECTORS[:2], batch_count=1, timing=clock.timing)
    assert adapter.requests[-3:] == [[1], [0], [1]]  # refused a last time, another, and once more
    assert sum(clock.pauses) == pytest.approx(300)
    assert counts(report) == (2, 2, 0, 0)


def test_a_document_with_a_version_is_not_sent_before_its_turn() -> None:
    adapter = Guarding(script=[down] * 1000)
    adapter.create(DIMENSION)
    with pytest.raises(WriteFailed):
        sv.ingest(adapter, range(N), VECTORS, versions=["0"] * N, batch_count=3, timing=Clock().timing)
    assert {id_ for ids in adapter.requests for id_ in ids} == {0, 1, 2}


def test_one_document_that_no_limit_lets_pass_fails_alone() -> None:
    def narrow(write: Any, ids: Any, vectors: Any, payloads: Any) -> Written:
        raise OutOfLimits("at most 4 dimensions")

    report = sv.ingest(misbehaving(honest, narrow), range(3), VECTORS[:3], batch_count=1)
    assert counts(report) == (3, 2, 0, 1)
    assert report.failures[0].reason == "at most 4 dimensions"


def test_progress_resets_the_deadline() -> None:
    clock = Clock()
    adapter = misbehaving(*[down, down, down, down, honest] * 3)
    report = sv.ingest(adapter, range(N), VECTORS, deadline=4, timing=clock.timing)
    assert counts(report) == (N, N, 0, 0)
    assert sum(clock.pauses) > 4


def test_pauses_double_up_to_a_cap() -> None:
    clock = Clock()
    sv.ingest(misbehaving(*[down] * 10), range(N), VECTORS, timing=clock.timing)
    assert clock.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20, 20])


def test_pauses_are_drawn_from_all_of_their_range() -> None:
    clock = Clock(draw=0.25)
    sv.ingest(misbehaving(*[down] * 3), range(N), VECTORS, timing=clock.timing)
    assert clock.pauses == pytest.approx([0.05, 0.1, 0.2])


def test_a_backend_that_says_when_to_come_back_is_heard_up_to_a_minute() -> None:
    def asks_for_an_hour(*request: Any) -> Written:
        raise BackendDown("503", retry_after=3600.0)

    clock = Clock()
    sv.ingest(misbehaving(busy, asks_for_an_hour), range(N), VECTORS, timing=clock.timing)
    assert clock.pauses == [7, 60]


def test_who_watches_is_told_what_the_run_waits_for() -> None:
    told: list[IngestProgress] = []
    sv.ingest(misbehaving(down), range(N), VECTORS, on_progress=told.append, timing=Clock().timing)
    assert [(progress.documents, progress.waiting) for progress in told] == [
        (0, None),
        (0, "connection refused"),
        (N, None),
    ]


# ---- any sequence of faults

payloads = st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), max_size=2)


def until_done(adapter: Misbehaving, journal: Path, *stream: Any, **options: Any) -> sv.IngestReport:
    """The report of the run that came to its end, the script of `adapter` having stopped the others."""
    while True:
        try:
            return sv.ingest(adapter, *stream, journal=journal, timing=Clock().timing, **options)
        except (CollectionError, BackendUnsupported, WriteFailed) as error:
            report = error.report
            assert report.written + report.skipped + report.failed == report.given
        except Interrupted:
            pass


def dead_letters(path: Path) -> list[int]:
    """The positions of the dead letters at `path`, which is made with the first."""
    return [letter.position for letter in read_dead_letters(path)] if path.exists() else []


@given(
    data=st.data(),
    empty=st.sampled_from(["error", "skip", "write"]),
    batch_count=st.integers(1, 5),
    batch_bytes=st.integers(1, 1000),
    script=st.lists(st.sampled_from(PASSING + STOPPING), max_size=30),
    holds=st.integers(1, 5),
    deadline=st.sampled_from([0, 1, 300]),
)
def test_whatever_happens_the_counts_add_up_and_nothing_is_lost_or_there_twice(
    data: st.DataObject,
    empty: str,
    batch_count: int,
    batch_bytes: int,
    script: list[Act],
    holds: int,
    deadline: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    vectors = data.draw(strategies.vectors(max_rows=12))
    n = len(vectors)
    ids: list[Any] = data.draw(st.lists(strategies.ids | strategies.not_ids, min_size=n, max_size=n))
    given_payloads = data.draw(st.lists(payloads, min_size=n, max_size=n))
    refused = data.draw(st.sets(st.sampled_from([*ids, "nobody"]), max_size=2))
    folder = tmp_path_factory.mktemp("run")
    adapter = Misbehaving(script=script, refuses=refused, holds=holds)
    adapter.create(vectors.dimension)
    options = {"empty": empty, "batch_count": batch_count, "batch_bytes": batch_bytes, "deadline": deadline}

    report = until_done(adapter, folder / "j", ids, vectors, given_payloads, **options)
    letters = folder / "j.failed.jsonl"
    assume(not letters.exists() or "took other documents" not in letters.read_text())  # a rule that has its own tests

    expected = Expected(ids, vectors, given_payloads, empty, refused=refused)
    assert counts(report) == expected.counts
    expected.require(adapter)
    assert dead_letters(letters) == expected.failed

    adapter.requests.clear()
    adapter.script.clear()
    assert until_done(adapter, folder / "j", ids, vectors, given_payloads, **options) == report
    assert adapter.requests == []
    adapter.close()
