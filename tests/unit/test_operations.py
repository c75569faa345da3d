"""Operations: a whole backend, which is also how an adapter is written, and what both drivers make of it."""

# ruff: noqa: ARG002  # a toy leaves most of the contract out

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from sparsevec.contract.adapter import AsyncAdapter, Documents, Finding, Hits, Info, Page, Written
from sparsevec.contract.capabilities import Capabilities
from sparsevec.contract.checks import Id, Queries, check_queries
from sparsevec.contract.connect import connect
from sparsevec.contract.deadlines import remaining, within
from sparsevec.contract.filters import Where
from sparsevec.contract.operations import (
    AsyncAdapterBase,
    InThreads,
    Operation,
    Operations,
    SyncAdapter,
    Together,
    arun,
    run,
)
from sparsevec.contract.searches import Search
from sparsevec.errors import AdapterClosed, BackendDown, InvalidInput
from sparsevec.testing.forks import in_a_forked_child
from sparsevec.vectors import Float32s, SparseVectors

# ---- a backend: a dict behind a wire


@dataclass(frozen=True)
class Ask:
    """A request. Its `str` is what is logged: neither secrets nor documents."""

    verb: str
    id: Id | None = None
    row: Any = None
    secret: str = "hunter2"

    def __str__(self) -> str:
        return f"{self.verb} of the toy"


class Toy:
    """Its conversations. They know nothing of threads, of asyncio, or of how a request travels."""

    def info(self) -> Operation[Info]:
        dimension = yield Ask("dimension")
        return Info("toy 1.0", Capabilities(), dimension is not None, dimension=dimension)

    def check(self) -> Operation[list[Finding]]:
        yield from ()
        return [Finding("fine", "version", "toy 1.0")]

    def create(self, dimension: int, fingerprint: str | None, code_bytes: int | None) -> Operation[None]:
        yield Ask("create", row=dimension)

    def upsert(self, ids: Sequence[Id], vectors: SparseVectors, payloads: Any, **options: Any) -> Operation[Written]:
        yield Together([Ask("put", id_, row) for id_, row in zip(ids, vectors, strict=True)])
        return Written(tuple(ids))

    def search(self, queries: Queries, k: int, search: Search) -> Operation[list[Hits]]:
        answers = yield Together([Ask("best", row=query) for query in check_queries(queries, None)])
        return [Hits(tuple(ids[:k]), np.ones(len(ids[:k]), np.float32)) for ids in answers]

    def fetch(self, ids: Sequence[Id], dense: str | None) -> Operation[Documents]:
        found = yield Together([Ask("get", id_) for id_ in ids])
        held = [(id_, row.to_dict()) for id_, row in zip(ids, found, strict=True) if row is not None]
        vectors = SparseVectors.from_rows([row for _, row in held], dimension=9)
        return Documents(tuple(id_ for id_, _ in held), vectors, tuple({} for _ in held))

    def matching(self, where: Where, most: int, dense: str | None) -> Operation[Documents | None]:
        yield Ask("ids")
        return None

    def page(
        self,
        *,
        vectors: bool,
        payloads: bool,
        dense: str | None,
        after: str | None,
        size: int,
        where: Where | None,
        codes: bool = False,
    ) -> Operation[Page]:
        ids = yield Ask("ids")
        start = int(after or 0)
        return Page(tuple(ids[start : start + size]), str(start + size) if start + size < len(ids) else None)

    def delete(self, ids: Sequence[Id]) -> Operation[None]:
        yield Together([Ask("drop", id_) for id_ in ids])

    def count(self, where: Where | None) -> Operation[int]:
        try:
            ids = yield Ask("ids")
        except BackendDown:  # the errors of a wire are raised where the request was yielded
            ids = yield Ask("ids")
        return len(ids)

    def drop(self) -> Operation[None]:
        yield Ask("forget")

    def slack(self, vectors: SparseVectors) -> Operation[Float32s]:
        yield from ()
        return np.zeros(vectors.nnz, np.float32)

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return vectors


class ToyWire:
    """The way to it. `faults` are raised, one a request, until there are none."""

    def __init__(self, *faults: BaseException) -> None:
        self.held: dict[Id, Any] = {}
        self.faults, self.closed, self.sent = list(faults), 0, list[Ask]()

    def send(self, request: Ask, /) -> object:
        self.sent.append(request)
        if self.faults:
            raise self.faults.pop(0)
        answers: dict[str, Callable[[], object]] = {
            "dimension": lambda: 9,
            "put": lambda: self.held.update({request.id or 0: request.row}),
            "get": lambda: self.held.get(request.id or 0),
            "drop": lambda: self.held.pop(request.id or 0, None),
            "best": lambda: [id_ for id_, row in self.held.items() if set(row.indices) & set(request.row.indices)],
            "ids": lambda: list(self.held),
        }
        return answers.get(request.verb, lambda: None)()

    def close(self) -> None:
        self.closed += 1


class AsyncToyWire:
    """The same for asyncio; counts how many requests are under way."""

    def __init__(self, *faults: BaseException) -> None:
        self.wire = ToyWire(*faults)
        self.under_way = self.most = 0

    async def send(self, request: Ask, /) -> object:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0.001)
            return self.wire.send(request)
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        self.wire.close()


_operations: type[Operations] = Toy

VECTORS = SparseVectors.from_rows([{i % 9: 1.0} for i in range(20)], dimension=9)


# ---- both contracts


def test_a_backend_serves_threads() -> None:
    with SyncAdapter(Toy(), ToyWire(), "toy") as adapter:
        adapter.create(9)
        assert adapter.upsert(range(20), VECTORS).written == tuple(range(20))
        assert [hits.ids for hits in adapter.search(VECTORS[:2], 5)] == [(0, 9, 18), (1, 10, 19)]
        assert adapter.fetch([3, 77]).ids == (3,)
        adapter.delete([0])
        assert adapter.count() == 19
        assert [len(page) for page in adapter.scan(size=8)] == [8, 8, 3]
        assert [len(page) for page in adapter.scan(size=8, after="16")] == [3]
        assert adapter.info().dimension == 9
        assert adapter.check()[0].level == "fine"
        assert adapter.slack(adapter.stored(VECTORS)).shape == (20,)
        adapter.drop()


def test_the_same_backend_serves_asyncio() -> None:
    async def conversation() -> int:
        wire = AsyncToyWire()
        async with AsyncAdapterBase(Toy(), wire, "toy") as adapter:
            await adapter.create(9)
            assert (await adapter.upsert(range(20), VECTORS)).written == tuple(range(20))
            assert [hits.ids for hits in await adapter.search(VECTORS[:2], 5)] == [(0, 9, 18), (1, 10, 19)]
            assert (await adapter.fetch([3, 77])).ids == (3,)
            await adapter.delete([0])
            assert await adapter.count() == 19
            assert [len(page) async for page in adapter.scan(size=8)] == [8, 8, 3]
            assert (await adapter.info()).dimension == 9
            assert (await adapter.check())[0].level == "fine"
            assert (await adapter.slack(adapter.stored(VECTORS))).shape == (20,)
            await adapter.drop()
        assert wire.wire.closed == 1
        return wire.most

    assert asyncio.run(conversation()) == 8  # of twenty that do not wait for each other


@pytest.mark.parametrize("size", [0, -1, True, 2.0])
def test_a_page_of_no_size_is_refused_before_anything_is_sent(size: Any) -> None:
    wire = ToyWire()
    with SyncAdapter(Toy(), wire, "toy") as adapter, pytest.raises(InvalidInput, match="size must be an int"):
        next(adapter.scan(size=size))
    assert wire.sent == []


# ---- drivers


async def awaited(send: Callable[[Any], Any], request: Any) -> Any:
    return send(request)


Driver = Callable[[Operation[Any], Callable[[Any], Any]], Any]
DRIVERS: dict[str, Driver] = {
    "run": run,
    "arun": lambda operation, send: asyncio.run(arun(operation, lambda request: awaited(send, request))),
}


@pytest.fixture(params=list(DRIVERS))
def drive(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


def test_an_error_of_the_wire_is_raised_where_the_request_was_yielded(drive: Driver) -> None:
    wire = ToyWire(BackendDown("once"))
    assert drive(Toy().count(None), wire.send) == 0
    assert len(wire.sent) == 2


def test_an_error_that_nobody_catches_ends_the_conversation(drive: Driver) -> None:
    wire = ToyWire(BackendDown("first"), BackendDown("second"))
    with pytest.raises(BackendDown, match="second"):
        drive(Toy().count(None), wire.send)


def test_a_conversation_may_ask_nothing_and_its_own_errors_come_out(drive: Driver) -> None:
    def wrong() -> Operation[None]:
        yield from ()
        raise InvalidInput("k is wrong")

    with pytest.raises(InvalidInput, match="k is wrong"):
        drive(wrong(), ToyWire().send)


def test_when_one_of_several_fails_those_not_sent_are_not_sent(drive: Driver) -> None:
    wire = ToyWire(BackendDown("the first"))
    with pytest.raises(BackendDown, match="the first"):
        drive(Toy().upsert(range(20), VECTORS, None), wire.send)
    assert len(wire.sent) < 20


def tidy(events: list[str]) -> Operation[None]:
    try:
        yield Ask("wait")
    except Exception:
        events.append("answered")
        raise
    finally:
        events.append("closed")
        yield Ask("tidy up")  # which nobody answers any more


def test_ctrl_c_closes_the_conversation_and_comes_out_itself() -> None:
    events: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(tidy(events), ToyWire(KeyboardInterrupt()).send)
    assert events == ["closed"]


def test_a_cancelled_task_closes_its_conversation_and_leaves_no_request_under_way() -> None:
    events: list[str] = []

    async def cancelled(operation: Operation[Any]) -> AsyncToyWire:
        wire = AsyncToyWire()
        task = asyncio.create_task(arun(operation, wire.send))
        await asyncio.sleep(0.0005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return wire

    asyncio.run(cancelled(tidy(events)))
    wire = asyncio.run(cancelled(Toy().upsert(range(20), VECTORS, None)))
    assert events == ["closed"]
    assert wire.under_way == 0
    assert len(wire.wire.sent) < 20


def test_after_a_failure_no_request_of_the_conversation_is_under_way() -> None:
    async def failing() -> int:
        wire = AsyncToyWire(BackendDown("one of them"))
        with pytest.raises(BackendDown):
            await arun(Toy().upsert(range(20), VECTORS, None), wire.send)
        return wire.under_way

    assert asyncio.run(failing()) == 0


def test_a_deadline_holds_for_requests_of_both_drivers(drive: Driver) -> None:
    left: list[float] = []

    def send(request: Ask) -> None:
        left.append(remaining(60))

    with within(0.5):
        drive(Toy().drop(), send)
    assert 0 < left[0] <= 0.5


def test_each_request_is_logged_with_its_time_and_neither_secrets_nor_documents(
    drive: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "sparsevec.contract.conversation"):
        drive(Toy().upsert([1], VECTORS[:1], None), ToyWire().send)
        with pytest.raises(BackendDown):
            drive(Toy().drop(), ToyWire(BackendDown("hunter2 is down")).send)
    first, second = caplog.messages
    assert first.startswith("put of the toy took ")
    assert second.startswith("forget of the toy took ")
    assert second.endswith(" and failed: BackendDown")
    assert "hunter2" not in caplog.text


# ---- what every adapter knows of itself


def test_a_closed_adapter_says_so_and_closes_its_wire_once() -> None:
    wire = ToyWire()
    adapter = SyncAdapter(Toy(), wire, "the toy's collection")
    assert repr(adapter) == "<SyncAdapter the toy's collection>"
    adapter.close()
    adapter.close()
    assert wire.closed == 1
    assert repr(adapter) == "<SyncAdapter the toy's collection (closed)>"
    with pytest.raises(AdapterClosed, match="the toy's collection was closed; connect again"):
        adapter.count()


def test_in_a_forked_child_it_says_so_and_leaves_the_wire_to_its_parent() -> None:
    wire = ToyWire()
    adapter = SyncAdapter(Toy(), wire, "toy")

    def in_child() -> int:
        with pytest.raises(AdapterClosed, match="connect again in the child"):
            adapter.count()
        adapter.close()
        return wire.closed

    assert in_a_forked_child(in_child) == "returned 0"
    assert adapter.count() == 0


def test_made_with_credentials_it_cannot_be_pickled_and_says_what_to_do() -> None:
    with pytest.raises(InvalidInput, match="send the url, and connect there"):
        SyncAdapter(Toy(), ToyWire(), "toy").__reduce__()


# ---- adapters of this machine, for asyncio


@pytest.fixture
def in_threads() -> Iterator[InThreads]:
    with closing(connect("reference:")) as reference:
        yield InThreads(reference)


def test_an_adapter_of_this_machine_works_in_threads_and_keeps_the_loop_free(in_threads: InThreads) -> None:
    async def conversation() -> None:
        adapter: AsyncAdapter = in_threads
        await adapter.create(9)
        assert (await adapter.upsert(range(20), VECTORS, [{"n": 1}] * 20)).written == tuple(range(20))
        answers = await asyncio.gather(*(adapter.search(VECTORS[i], 1) for i in range(9)))
        assert [hits.ids for (hits,) in answers] == [(i,) for i in range(9)]
        pages = [page async for page in adapter.scan(payloads=True, size=15)]
        assert [len(page) for page in pages] == [15, 5]
        assert "reference" in (await adapter.info()).backend
        assert "InThreads" in repr(adapter)

    asyncio.run(conversation())


def test_in_threads_means_another_thread(in_threads: InThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_threads._adapter, "count", lambda _: threading.get_ident())
    assert asyncio.run(in_threads.count()) != threading.get_ident()
