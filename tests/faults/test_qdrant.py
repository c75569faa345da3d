"""What can go wrong between us and Qdrant: each fault is told apart, and none loses or doubles a document."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sparsevec import connect
from sparsevec.errors import (
    AdapterError,
    BackendDown,
    BackendUnsupported,
    CollectionError,
    OutOfLimits,
    SparsevecError,
    StorageFailed,
    WriteFailed,
    WrongSpace,
)
from tests.faults.conftest import DIMENSION, Collection, documents, http
from tests.faults.proxy import (
    Answer,
    Exchange,
    Fault,
    Proxy,
    Script,
    answer_lost,
    answer_torn,
    refused_next,
    request_torn,
    slow,
    status,
    status_after_write,
)
from tests.integration.qdrant_shim import QdrantShim

JSON = {"content-type": "application/json"}


@pytest.fixture(params=["loopback", "server"])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Collection]:
    if request.param == "loopback":
        with QdrantShim(tmp_path) as shim, collection_at(f"qdrant://127.0.0.1:{shim.port}") as made:
            yield made
    else:
        with collection_at(request.getfixturevalue("qdrant_url")) as made:
            yield made


@contextmanager
def collection_at(server: str) -> Iterator[Collection]:
    """A collection of ours on `server`, with a proxy in front of it."""
    name, engine = f"faults-{uuid4().hex[:12]}", server.replace("qdrant", "http", 1)
    with Proxy(engine) as proxy, closing(connect(f"{server}/{name}")) as adapter:
        adapter.create(DIMENSION)
        yield Collection(f"{server}/{name}", f"{engine}/collections/{name}", proxy)
        adapter.drop()


def once(fault: Fault, path: str = "/points/batch") -> Script:
    """The first request to `path` meets `fault`."""
    left = [fault]
    return lambda exchange: left.pop() if left and exchange.path.partition("?")[0].endswith(path) else None


def says(code: int, reason: str) -> Fault:
    """The server's own refusal, in its own form."""

    def refuse(exchange: Exchange) -> None:
        exchange.body()
        exchange.answer(Answer(code, JSON, json.dumps({"status": {"error": reason}, "time": 0}).encode()))

    return refuse


def not_yet_applied(exchange: Exchange) -> None:
    """The write is in the queue, and the server says no more than that."""
    exchange.headers.replace_header("accept-encoding", "identity")  # to be read here
    answer = exchange.forward()
    exchange.answer(Answer(answer.status, answer.headers, answer.body.replace(b"completed", b"acknowledged")))


def html(exchange: Exchange) -> None:
    """Something else answers, and calls it a success."""
    exchange.body()
    exchange.answer(Answer(200, {"content-type": "text/html"}, b"<html>welcome</html>"))


def garbled(exchange: Exchange) -> None:
    """A proxy packs the answer, and not as it says."""
    exchange.body()
    exchange.answer(Answer(200, {**JSON, "content-encoding": "gzip"}, b"packed otherwise"))


NO_SPACE = "Service internal error: No space left on device (os error 28)"
TRANSIENT: dict[str, Fault] = {
    "answer lost after the write": answer_lost,
    "half an answer": answer_torn,
    "half a request": request_torn,
    "acknowledged, not applied": not_yet_applied,
    "a stranger's success": html,
    "an answer that cannot be unpacked": garbled,
    "408": status(408),
    "429": status(429),
    "429 with seconds": status(429, retry_after="7"),
    "429 with a date": status(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
    "500": says(500, "Service internal error: 1 of 1 read operations failed"),
    "502": status(502),
    "503": status(503),
    "504": status(504),
    "a gateway that lies": status_after_write(502),
    "slow": slow(3),
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_a_fault_that_may_pass_is_a_backend_that_is_down(collection: Collection, fault: Fault) -> None:
    given = documents(3)
    collection.proxy.script = once(fault)
    with closing(connect(collection.flaky_url, timeout=2)) as adapter:
        with pytest.raises(BackendDown):
            adapter.upsert(given.ids, given.vectors, given.payloads)
        assert adapter.upsert(given.ids, given.vectors, given.payloads).written == tuple(given.ids)
    collection.check_holds(given)


@pytest.mark.parametrize("path", ["/points", "/points/query/batch", "/points/count", "/points/batch", "/points/scroll"])
def test_a_fault_of_any_request_is_a_backend_that_is_down(collection: Collection, path: str) -> None:
    given = documents(3)
    collection.proxy.script = once(answer_torn, path)
    calls: dict[str, Callable[[Any], object]] = {
        "/points": lambda adapter: adapter.fetch(given.ids),
        "/points/query/batch": lambda adapter: adapter.search(given.vectors, 1),
        "/points/count": lambda adapter: adapter.count(),
        "/points/batch": lambda adapter: adapter.delete([77]),
        "/points/scroll": lambda adapter: list(adapter.scan()),
    }
    with closing(connect(collection.flaky_url)) as adapter:
        with pytest.raises(BackendDown):
            calls[path](adapter)
        calls[path](adapter)


def test_the_seconds_that_the_server_asks_for_are_passed_on(collection: Collection) -> None:
    given = documents(1)
    collection.proxy.script = once(status(429, retry_after="7"))
    with closing(connect(collection.flaky_url)) as adapter, pytest.raises(BackendDown) as busy:
        adapter.upsert(given.ids, given.vectors)
    assert busy.value.retry_after == 7


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (says(400, "Format error in JSON body: expected value"), AdapterError),
        (says(401, "Must provide an API key or an Authorization bearer token"), BackendUnsupported),
        (says(403, "Forbidden: Write access to collection is required"), BackendUnsupported),
        (says(404, "Not found: Collection `x` doesn't exist!"), CollectionError),
        (says(409, "Wrong input: Collection `x` already exists!"), CollectionError),
        (says(422, "Validation error in JSON body"), AdapterError),
        (says(500, NO_SPACE), StorageFailed),
        (says(507, "quota exceeded"), StorageFailed),
        (says(400, 'Limit exceeded 10001 > 100 for "limit"'), OutOfLimits),
    ],
)
def test_a_fault_that_will_not_pass_is_told_with_the_servers_reason(
    collection: Collection, fault: Fault, error: type[SparsevecError]
) -> None:
    given = documents(1)
    collection.proxy.script = once(fault)
    with closing(connect(collection.flaky_url)) as adapter, pytest.raises(error) as refused:
        adapter.upsert(given.ids, given.vectors)
    assert type(refused.value) is error
    assert "the server answered" in str(refused.value)
    assert refused.value.__cause__ is not None


@pytest.mark.parametrize(
    "fault",
    [
        status(413),
        says(400, "Payload error: JSON payload has exceeded limit (33554432 bytes)."),
        says(400, 'Limit exceeded 1000 > 100 for "upsert limit"'),
    ],
)
def test_a_request_that_is_too_large_for_the_server_is_worth_splitting(collection: Collection, fault: Fault) -> None:
    given = documents(2)
    collection.proxy.script = once(fault)
    with closing(connect(collection.flaky_url)) as adapter, pytest.raises(OutOfLimits) as refused:
        adapter.upsert(given.ids, given.vectors)
    assert refused.value.splittable


# ---- a whole ingest


@pytest.mark.parametrize("fault", [answer_lost, answer_torn, not_yet_applied, status_after_write(502)])
def test_after_a_fault_everything_is_written_once(collection: Collection, fault: Fault) -> None:
    given = documents(60)
    collection.proxy.script = once(fault)
    report = collection.ingest(given, batch_count=20)
    assert collection.proxy.injected.total() == 1
    collection.check(report, given)


def test_a_server_that_goes_away_and_comes_back_is_waited_for(collection: Collection) -> None:
    given = documents(60)
    collection.proxy.script = once(refused_next)
    report = collection.ingest(given, batch_count=20)
    assert report.retries
    collection.check(report, given)


def test_a_proxy_that_takes_small_requests_only_gets_small_ones(collection: Collection) -> None:
    given = documents(60)
    collection.proxy.script = lambda exchange: status(413) if exchange.size > 4000 else None
    report = collection.ingest(given)
    collection.check(report, given)


def test_a_document_deleted_by_somebody_else_in_mid_write_is_written_all_the_same(collection: Collection) -> None:
    """The same request makes it, if it is not there: nothing was looked up that could be out of date."""
    given = documents(5)
    collection.ingest(given)

    def deleted_meanwhile(exchange: Exchange) -> None:
        http("POST", f"{collection.engine}/points/delete?wait=true", {"points": [given.ids[1]]})
        exchange.answer(exchange.forward())

    collection.proxy.script = once(deleted_meanwhile)
    report = collection.ingest(given)
    assert report.retries == 0
    collection.check(report, given)


def test_a_writer_who_is_overtaken_between_two_requests_sees_whose_collection_it_is(collection: Collection) -> None:
    blue, red = (documents(1).vectors.with_fingerprint(space) for space in ("blue", "red"))

    def overtaken(exchange: Exchange) -> None:
        with closing(connect(collection.url)) as first:
            first.upsert([1], blue)
        exchange.answer(exchange.forward())

    collection.proxy.script = once(overtaken, "/points/count")
    with closing(connect(collection.flaky_url)) as late, pytest.raises(WrongSpace, match=r"blue.*red"):
        late.upsert([2], red)
    assert collection.proxy.injected.total() == 1


def test_a_writer_who_meets_the_bid_of_another_leaves_the_space_to_it(collection: Collection) -> None:
    """One that bids while another has won and not said so yet, and one whose rival died long ago."""
    red = documents(1).vectors.with_fingerprint("red")
    (note,) = (key for key in metadata(collection) if key.startswith("sparsevec:"))
    key = f"sparsevec-bid:{note.rpartition(':')[2]}:a-writer"

    def bids(space: str, age: float) -> None:
        bid = {"fingerprint": space, "since": time.time() - age}
        http("PATCH", collection.engine, {"metadata": {key: bid}})

    with closing(connect(collection.url)) as adapter:
        bids("blue", age=0)
        with pytest.raises(BackendDown, match="another writer is setting"):
            adapter.upsert([1], red)
        assert (adapter.count(), adapter.info().fingerprint) == (0, None)
        bids("blue", age=3600)
        adapter.upsert([1], red)
        assert (adapter.count(), adapter.info().fingerprint) == (1, "red")
    assert [each for each in metadata(collection) if each.startswith("sparsevec-bid:")] == [key]


def test_a_writer_who_meets_the_bid_of_one_for_the_same_space_writes(collection: Collection) -> None:
    red = documents(1).vectors.with_fingerprint("red")
    (note,) = (key for key in metadata(collection) if key.startswith("sparsevec:"))
    key = f"sparsevec-bid:{note.rpartition(':')[2]}:a-writer"
    http("PATCH", collection.engine, {"metadata": {key: {"fingerprint": "red", "since": time.time()}}})
    with closing(connect(collection.url)) as adapter:
        adapter.upsert([1], red)
        assert (adapter.count(), adapter.info().fingerprint) == (1, "red")
    assert key in metadata(collection)


def metadata(collection: Collection) -> dict[str, Any]:
    found: dict[str, Any] = http("GET", collection.engine)["result"]["config"]["metadata"]
    return found


def test_a_disk_that_is_full_stops_the_run_and_says_how_far_it_came(collection: Collection) -> None:
    given = documents(60)
    requests = iter([None, None, says(500, NO_SPACE)])
    collection.proxy.script = lambda exchange: next(requests, None) if exchange.path.count("/batch") else None
    with pytest.raises(StorageFailed) as stopped:
        collection.ingest(given, batch_count=20, in_flight=1)
    report = getattr(stopped.value, "report")  # noqa: B009  # every error out of ingest has it
    assert (report.given, report.written, report.failed) == (40, 40, 0)


def test_a_server_that_stays_away_stops_the_run_and_nothing_is_called_lost(collection: Collection) -> None:
    given = documents(60)
    collection.proxy.script = lambda _exchange: status(503)
    with pytest.raises(WriteFailed) as stopped:
        collection.ingest(given, deadline=0)
    assert (stopped.value.report.given, stopped.value.report.failed) == (0, 0)


def test_a_hundred_faults_lose_and_double_nothing(collection: Collection) -> None:
    given = documents(400)
    faults = [fault for name, fault in TRANSIENT.items() if name != "slow"]
    dice = random.Random(0)
    collection.proxy.script = lambda _exchange: dice.choice(faults) if dice.random() < 0.4 else None
    report = collection.ingest(given, batch_count=4)
    assert collection.proxy.injected.total() >= 100
    collection.check(report, given)
