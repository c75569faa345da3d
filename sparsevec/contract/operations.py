"""What an adapter does, written once: a conversation that yields requests and is sent the answers.

    def count(self) -> Operation[Request, Answer, int]:
        answer = yield Request("POST", f"/{self._index}/_count")
        return int(answer.body["count"])

`run` drives it over a synchronous `send`, `arun` over an asynchronous one; neither knows what a request is. What `send`
raises is raised inside the conversation, where it was yielded; one that does not catch it ends with it. Ctrl-C and a
cancelled task are not raised inside: the conversation is closed where it stands, and may ask nothing more. So a
conversation is tested without a server, and an adapter for threads and one for asyncio are the same code. `SyncAdapter`
and `AsyncAdapterBase` turn a backend's `Operations` into the two contracts; `tests/unit/test_operations.py` has a whole
backend in 40 lines.

At level DEBUG each request is logged, by its `str`, with the time it took: so a request's `str` holds neither secrets
nor documents.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from sparsevec.contract.adapter import (
    Adapter,
    AsyncAdapter,
    Documents,
    Finding,
    Hits,
    Info,
    Missing,
    Page,
    UInt8s,
    Version,
    Written,
    says_the_contract,
)
from sparsevec.contract.checks import Id, Payload, Queries, check_k, check_size, ids_or_where
from sparsevec.contract.filters import Where
from sparsevec.contract.searches import Search
from sparsevec.errors import AdapterClosed, InvalidInput
from sparsevec.vectors import Float32s, SparseVectors

__all__ = [
    "AsyncAdapterBase",
    "AsyncWire",
    "Connection",
    "InThreads",
    "Operation",
    "Operations",
    "SyncAdapter",
    "Together",
    "Wire",
    "arun",
    "counted",
    "run",
]

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Result = TypeVar("Result")
Asked = TypeVar("Asked", contravariant=True)
Answered = TypeVar("Answered", covariant=True)

_log = logging.getLogger(__name__)
_AT_ONCE = 8  # requests of one conversation that an asynchronous driver has under way


@dataclass(frozen=True, slots=True)
class Together(Generic[Request]):
    """Requests that do not wait for each other: yielded as one, answered by the list of their answers.

    When one fails, its error is raised; those not sent yet are not sent, and those under way are given up.
    """

    requests: Sequence[Request]


Operation: TypeAlias = Generator[Any, Any, Result]
"""Yields requests (or `Together`), is sent their answers, returns the result."""


class Wire(Protocol[Asked, Answered]):
    """The way to a backend. `send` raises errors of ours only: BackendDown when no whole answer came back."""

    def send(self, request: Asked, /) -> Answered:
        """One request, once, within `deadlines.remaining`."""

    def close(self) -> None:
        """Let go of what this wire opened itself."""


class AsyncWire(Protocol[Asked, Answered]):
    """The same for asyncio."""

    async def send(self, request: Asked, /) -> Answered: ...

    async def close(self) -> None: ...


def run(operation: Operation[Result], send: Callable[[Any], Any]) -> Result:
    """The result of `operation`, its requests answered by `send`; those that are `Together` in threads."""

    def answer(request: object) -> object:
        if isinstance(request, Together):
            return _answers(send, request.requests)
        return _timed(send, request)

    step: Callable[[], Any] = lambda: next(operation)  # noqa: E731
    while True:
        try:
            request = step()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            answered = answer(request)
        except Exception as error:
            step = _thrown(operation, error)
        except BaseException:  # Ctrl-C
            _abandon(operation)
            raise
        else:
            step = _sent(operation, answered)


def _answers(send: Callable[[Any], Any], requests: Sequence[Any]) -> list[Any]:
    """At most _AT_ONCE are under way at a time. When one fails, those under way are left to themselves."""
    if len(requests) < 2:
        return [_timed(send, one) for one in requests]
    threads = ThreadPoolExecutor(min(len(requests), _AT_ONCE), "sparsevec-request")
    try:
        sent = [threads.submit(copy_context().run, _timed, send, one) for one in requests]
        return [one.result() for one in sent]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


async def arun(operation: Operation[Result], send: Callable[[Any], Awaitable[Any]]) -> Result:
    """The same over an asynchronous `send`; requests that are `Together` are under way at the same time."""

    async def answer(request: object) -> object:
        if isinstance(request, Together):
            return await _all_answers(send, request.requests)
        return await _atimed(send, request)

    step: Callable[[], Any] = lambda: next(operation)  # noqa: E731
    while True:
        try:
            request = step()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            answered = await answer(request)
        except Exception as error:
            step = _thrown(operation, error)
        except BaseException:  # cancelled
            _abandon(operation)
            raise
        else:
            step = _sent(operation, answered)


async def _all_answers(send: Callable[[Any], Awaitable[Any]], requests: Sequence[Any]) -> list[Any]:
    """At most _AT_ONCE are under way at a time, and none is when this returns or raises."""
    at_once, failed = asyncio.Semaphore(_AT_ONCE), asyncio.Event()

    async def one(request: object) -> Any:
        async with at_once:
            if failed.is_set():
                return None
            try:
                return await _atimed(send, request)
            except BaseException:
                failed.set()
                raise

    tasks = [asyncio.ensure_future(one(request)) for request in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _sent(operation: Operation[Any], answered: object) -> Callable[[], Any]:
    return lambda: operation.send(answered)


def _thrown(operation: Operation[Any], error: Exception) -> Callable[[], Any]:
    return lambda: operation.throw(error)


def _abandon(operation: Operation[Any]) -> None:
    with suppress(RuntimeError):  # it asked for more on its way out, and nobody answers
        operation.close()


def _timed(send: Callable[[Any], Any], request: object) -> Any:
    began = time.perf_counter()
    try:
        answered = send(request)
    except BaseException as error:
        _note(request, began, type(error).__name__)
        raise
    _note(request, began)
    return answered


async def _atimed(send: Callable[[Any], Awaitable[Any]], request: object) -> Any:
    began = time.perf_counter()
    try:
        answered = await send(request)
    except BaseException as error:
        _note(request, began, type(error).__name__)
        raise
    _note(request, began)
    return answered


def _note(request: object, began: float, error: str = "") -> None:
    if _log.isEnabledFor(logging.DEBUG):  # of an error only the name: its message may quote what was sent
        took = 1000 * (time.perf_counter() - began)
        _log.debug("%s took %.1f ms%s", request, took, f" and failed: {error}" if error else "")


class Operations(Protocol):
    """What a backend does: a conversation for each clause, whose arguments and result are the contract's."""

    def info(self) -> Operation[Info]: ...

    def check(self) -> Operation[list[Finding]]: ...

    def create(self, dimension: int, fingerprint: str | None, code_bytes: int | None) -> Operation[None]: ...

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None,
        *,
        versions: Sequence[Version | None] | None,
        routing: Sequence[str | None] | None,
        missing: Missing | None,
        codes: UInt8s | None,
    ) -> Operation[Written]: ...

    def search(self, queries: Queries, k: int, search: Search) -> Operation[list[Hits]]: ...

    def fetch(self, ids: Sequence[Id], dense: str | None) -> Operation[Documents]: ...

    def matching(self, where: Where, most: int, dense: str | None) -> Operation[Documents | None]: ...

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
        """One page of a scan: the first, or the one behind `after`; perhaps empty, and more behind it."""

    def delete(self, ids: Sequence[Id]) -> Operation[None]: ...

    def count(self, where: Where | None) -> Operation[int]: ...

    def drop(self) -> Operation[None]: ...

    def slack(self, vectors: SparseVectors) -> Operation[Float32s]: ...

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        """Pure, so not a conversation."""


class Connection:
    """What every adapter knows of itself: where it came from, whether it was closed, and whose process it is in.

    What it opened belongs to the process that opened it: in a forked child every call raises AdapterClosed, and `close`
    lets go of nothing, for the parent still uses it.
    """

    def __init__(self, place: str, origin: str | None = None) -> None:
        """`place` names the collection in messages; `origin` is the url that opens it again, without secrets."""
        self._place, self._origin = place, origin
        self._closed, self._process = False, os.getpid()

    def check_open(self) -> None:
        """Raises AdapterClosed after `close`, and in a forked child (C15)."""
        if self._closed:
            raise AdapterClosed(f"this adapter of {self._place} was closed; connect again")
        if self._process != os.getpid():
            raise AdapterClosed(
                f"this adapter of {self._place} was connected in process {self._process} and is now in its forked "
                f"child {os.getpid()}, where its connections and locks cannot be used; connect again in the child"
            )

    def _close_once(self) -> bool:
        """Closed from now on; whether there is something of this process to let go of."""
        first, self._closed = not self._closed, True
        return first and self._process == os.getpid()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._place}{' (closed)' if self._closed else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """By pickle or copy: connected anew from its url."""
        if self._origin is None:
            raise InvalidInput(
                f"{self!r} cannot be copied or sent to another process: it was made with credentials, or around a "
                "client or memory of its own; send the url, and connect there"
            )
        return type(self)._again, (self._origin,)

    @classmethod
    def _again(cls, origin: str) -> Any:
        raise NotImplementedError


@says_the_contract
class SyncAdapter(Connection):
    """The contract for threads over a backend's `operations` and a `wire`. A door adds `connect` and `from_client`."""

    def __init__(self, operations: Operations, wire: Wire[Any, Any], place: str, origin: str | None = None) -> None:
        super().__init__(place, origin)
        self._operations, self._wire = operations, wire

    def _run(self, operation: Operation[Result]) -> Result:
        self.check_open()
        return run(operation, self._wire.send)

    def info(self) -> Info:
        return self._run(self._operations.info())

    def check(self) -> list[Finding]:
        return self._run(self._operations.check())

    def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        self._run(self._operations.create(dimension, fingerprint, code_bytes))

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written:
        given: dict[str, Any] = {"versions": versions, "routing": routing, "missing": missing, "codes": codes}
        return self._run(self._operations.upsert(ids, vectors, payloads, **given))

    def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]:
        search = Search(where, with_payloads, with_vectors, with_codes, rescore, candidates, after)
        return self._run(self._operations.search(queries, k, search))

    def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        return self._run(self._operations.fetch(ids, dense))

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        return self._run(self._operations.matching(where, check_k(most), dense))

    def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        codes: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
        where: Where | None = None,
    ) -> Iterator[Page]:
        size = check_size(size)
        while True:
            asked: dict[str, Any] = {"vectors": vectors, "payloads": payloads, "codes": codes, "dense": dense}
            page = self._run(self._operations.page(**asked, after=after, size=size, where=where))
            if len(page):
                yield page
            if (after := page.after) is None:
                return

    def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        self._run(_deleting(self._operations, ids, where))

    def count(self, where: Where | None = None) -> int:
        return self._run(self._operations.count(where))

    def drop(self) -> None:
        self._run(self._operations.drop())

    def close(self) -> None:
        if self._close_once():
            self._wire.close()

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return self._operations.stored(vectors)

    def slack(self, vectors: SparseVectors) -> Float32s:
        return self._run(self._operations.slack(vectors))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def counted(page: Callable[..., Operation[Page]], where: Where | None) -> Operation[int]:
    """How many documents with a vector of ours a scan brings, where the backend cannot count them itself."""
    asked: dict[str, Any] = {"vectors": False, "payloads": False, "dense": None, "size": _LOOKED_AT, "where": where}
    found = yield from page(after=None, **asked)
    many = len(found.held)
    while found.after is not None:
        found = yield from page(after=found.after, **asked)
        many += len(found.held)
    return many


def _deleting(operations: Operations, ids: Sequence[Id] | None, where: Where | None) -> Operation[None]:
    """Of these, or page by page of what a filter leaves."""
    if ids_or_where(ids, where) is not None:
        yield from operations.delete(ids or [])
        return
    after: str | None = None
    while True:
        page = yield from operations.page(
            vectors=False, payloads=False, dense=None, after=after, size=_LOOKED_AT, where=where
        )
        yield from operations.delete(page.held)
        if (after := page.after) is None:
            return


_LOOKED_AT = 1000  # documents of one request


@says_the_contract
class AsyncAdapterBase(Connection):
    """The contract for asyncio over the same `operations`, and an asynchronous `wire`."""

    def __init__(
        self, operations: Operations, wire: AsyncWire[Any, Any], place: str, origin: str | None = None
    ) -> None:
        super().__init__(place, origin)
        self._operations, self._wire = operations, wire

    async def _run(self, operation: Operation[Result]) -> Result:
        self.check_open()
        return await arun(operation, self._wire.send)

    async def info(self) -> Info:
        return await self._run(self._operations.info())

    async def check(self) -> list[Finding]:
        return await self._run(self._operations.check())

    async def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        await self._run(self._operations.create(dimension, fingerprint, code_bytes))

    async def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written:
        given: dict[str, Any] = {"versions": versions, "routing": routing, "missing": missing, "codes": codes}
        return await self._run(self._operations.upsert(ids, vectors, payloads, **given))

    async def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]:
        search = Search(where, with_payloads, with_vectors, with_codes, rescore, candidates, after)
        return await self._run(self._operations.search(queries, k, search))

    async def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        return await self._run(self._operations.fetch(ids, dense))

    async def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        return await self._run(self._operations.matching(where, check_k(most), dense))

    async def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        codes: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
        where: Where | None = None,
    ) -> AsyncIterator[Page]:
        size = check_size(size)
        while True:
            asked: dict[str, Any] = {"vectors": vectors, "payloads": payloads, "codes": codes, "dense": dense}
            page = await self._run(self._operations.page(**asked, after=after, size=size, where=where))
            if len(page):
                yield page
            if (after := page.after) is None:
                return

    async def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        await self._run(_deleting(self._operations, ids, where))

    async def count(self, where: Where | None = None) -> int:
        return await self._run(self._operations.count(where))

    async def drop(self) -> None:
        await self._run(self._operations.drop())

    async def close(self) -> None:
        if self._close_once():
            await self._wire.close()

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return self._operations.stored(vectors)

    async def slack(self, vectors: SparseVectors) -> Float32s:
        return await self._run(self._operations.slack(vectors))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


@says_the_contract
class InThreads:
    """An adapter of this machine (`reference:`, `local:`, `qdrant+edge:`) for asyncio: each call in a thread (C15).

    A call that is cancelled goes on in its thread to its end: nothing waits for it.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    async def info(self) -> Info:
        return await asyncio.to_thread(self._adapter.info)

    async def check(self) -> list[Finding]:
        return await asyncio.to_thread(self._adapter.check)

    async def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        await asyncio.to_thread(self._adapter.create, dimension, fingerprint=fingerprint, code_bytes=code_bytes)

    async def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written:
        given: dict[str, Any] = {"versions": versions, "routing": routing, "missing": missing, "codes": codes}
        return await asyncio.to_thread(self._adapter.upsert, ids, vectors, payloads, **given)

    async def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]:
        return await asyncio.to_thread(
            self._adapter.search,
            queries,
            k,
            where=where,
            with_payloads=with_payloads,
            with_vectors=with_vectors,
            with_codes=with_codes,
            rescore=rescore,
            candidates=candidates,
            after=after,
        )

    async def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        return await asyncio.to_thread(self._adapter.fetch, ids, dense=dense)

    async def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        return await asyncio.to_thread(self._adapter.matching, where, most, dense=dense)

    async def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        codes: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
        where: Where | None = None,
    ) -> AsyncIterator[Page]:
        asked: dict[str, Any] = {"vectors": vectors, "payloads": payloads, "codes": codes, "dense": dense}
        pages = self._adapter.scan(**asked, after=after, size=size, where=where)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            yield page

    async def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        await asyncio.to_thread(self._adapter.delete, ids, where=where)

    async def count(self, where: Where | None = None) -> int:
        return await asyncio.to_thread(self._adapter.count, where)

    async def drop(self) -> None:
        await asyncio.to_thread(self._adapter.drop)

    async def close(self) -> None:
        await asyncio.to_thread(self._adapter.close)

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return self._adapter.stored(vectors)

    async def slack(self, vectors: SparseVectors) -> Float32s:
        return await asyncio.to_thread(self._adapter.slack, vectors)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<InThreads {self._adapter!r}>"


_async_contract: type[AsyncAdapter] = InThreads
