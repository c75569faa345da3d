"""Whatever happens on the way to an engine: every document is written once, and every answer is exact."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Collection, Documents, documents
from tests.faults.proxy import (
    Exchange,
    Fault,
    Script,
    answer_lost,
    answer_torn,
    at_random,
    in_turn,
    refused_next,
    request_torn,
    slow,
    status,
    status_after_write,
)

FAULTS: dict[str, Fault] = {
    "the answer is lost after the write": answer_lost,
    "the answer is torn": answer_torn,
    "the request is torn": request_torn,
    "the connection is refused": refused_next,
    "408": status(408),
    "429": status(429),
    "429 with Retry-After": status(429, retry_after="3"),
    "500": status(500),
    "502": status(502),
    "503": status(503),
    "504": status(504),
    "502 after the write": status_after_write(502),
    "504 after the write": status_after_write(504),
    "the answer is slow": slow(0.2),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_write_survives(fault: Fault, collection: Collection) -> None:
    given = documents(200)
    collection.proxy.script = in_turn([None, fault, fault, None, fault])
    report = collection.ingest(given, batch_count=40)
    assert collection.proxy.injected.total() == 3
    collection.check(report, given)


def test_a_busy_backend_is_left_alone_for_as_long_as_it_asks(collection: Collection) -> None:
    given = documents(10)
    collection.proxy.script = in_turn([status(429, retry_after="7"), status(503, retry_after="9")])
    report = collection.ingest(given)
    first, second = collection.pauses
    assert (first, second) >= (7, 9)
    assert report.retries == 2
    collection.check(report, given)


def test_a_request_that_is_too_large_is_split(collection: Collection) -> None:
    given = documents(200)
    collection.proxy.script = too_large(8_000)
    report = collection.ingest(given)
    assert collection.proxy.injected.total() > 0
    collection.check(report, given)


def test_a_document_that_is_too_large_for_any_request_fails_alone(collection: Collection) -> None:
    given = documents(100)
    collection.proxy.script = too_large(20_000)
    given.payloads[50]["text"] = "x" * 30_000
    report = collection.ingest(given)
    assert (report.given, report.written, report.failed) == (100, 99, 1)
    assert report.failures[0].id == given.ids[50]
    assert "too large" in report.failures[0].reason
    collection.check_holds(given.without(50))


def too_large(limit: int) -> Script:
    """413 for every write of more than `limit` bytes."""

    def script(exchange: Exchange) -> Fault | None:
        return status(413) if exchange.writes and exchange.size > limit else None

    return script


@pytest.mark.parametrize("faults", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_faults_at_random_lose_and_double_nothing(faults: int, collection: Collection) -> None:
    """Many small ingests; each must end complete, and the whole must be exact."""
    collection.proxy.script = at_random([fault for name, fault in FAULTS.items() if "slow" not in name], 0.4, seed=7)
    given: list[Documents] = []
    while collection.proxy.injected.total() < faults:
        given.append(documents(60, seed=len(given)))
        report = collection.ingest(given[-1], batch_count=10)
        assert (report.given, report.written, report.skipped, report.failed) == (60, 60, 0, 0)
    collection.check_holds(*given)
