"""`Blocking`: an asynchronous adapter behind the contract for threads, so that one suite holds both to it."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from functools import cache
from typing import Any, Self, TypeVar

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
)
from sparsevec.contract.checks import Id, Payload, Queries
from sparsevec.contract.connect import aconnect
from sparsevec.contract.filters import Where
from sparsevec.contract.urls import Url
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["Blocking"]

T = TypeVar("T")


class Blocking:
    """Each call is a task on an event loop that runs in a thread: eight threads that call are eight tasks at a time."""

    def __init__(self, opened: Callable[[], Coroutine[Any, Any, AsyncAdapter]]) -> None:
        """`opened` makes the adapter, inside the loop."""
        self._adapter = _wait(opened())

    @classmethod
    def to(cls, where: Any, **options: Any) -> Blocking:
        """What `aconnect` finds behind a url, or around a client."""
        return cls(lambda: aconnect(where, **options))

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Blocking:
        raise NotImplementedError("Blocking.to(url) opens one")

    def info(self) -> Info:
        return _wait(self._adapter.info())

    def check(self) -> list[Finding]:
        return _wait(self._adapter.check())

    def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        _wait(self._adapter.create(dimension, fingerprint=fingerprint, code_bytes=code_bytes))

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
        return _wait(self._adapter.upsert(ids, vectors, payloads, **given))

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
        call = self._adapter.search(
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
        return _wait(call)

    def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        return _wait(self._adapter.fetch(ids, dense=dense))

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        return _wait(self._adapter.matching(where, most, dense=dense))

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
        asked: dict[str, Any] = {"vectors": vectors, "payloads": payloads, "codes": codes, "dense": dense}
        pages = self._adapter.scan(**asked, after=after, size=size, where=where)
        while (page := _wait(_next(pages))) is not None:
            yield page

    def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        _wait(self._adapter.delete(ids, where=where))

    def count(self, where: Where | None = None) -> int:
        return _wait(self._adapter.count(where))

    def drop(self) -> None:
        _wait(self._adapter.drop())

    def close(self) -> None:
        _wait(self._adapter.close())

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return self._adapter.stored(vectors)

    def slack(self, vectors: SparseVectors) -> Float32s:
        return _wait(self._adapter.slack(vectors))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Blocking {self._adapter!r}>"


async def _next(pages: AsyncIterator[Page]) -> Page | None:
    return await anext(pages, None)


def _wait(call: Coroutine[Any, Any, T]) -> T:
    loop, process = _loop()
    if process != os.getpid():  # a forked child: the thread of the loop did not come along
        return asyncio.run(call)
    return asyncio.run_coroutine_threadsafe(call, loop).result()


@cache
def _loop() -> tuple[asyncio.AbstractEventLoop, int]:
    """One for this process, until it ends; and the process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sparsevec-blocking", daemon=True)
    thread.start()

    def stop() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    atexit.register(stop)
    return loop, os.getpid()


_contract: type[Adapter] = Blocking
