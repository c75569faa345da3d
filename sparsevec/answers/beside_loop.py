"""`BesideLoop`: an adapter for asyncio, to be used from a thread beside the loop that it lives in.

So what is written once for threads (`ingest`, with its journal and its patience) serves an asynchronous adapter too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextvars import copy_context
from functools import partial
from inspect import iscoroutinefunction
from threading import Event
from typing import Any, TypeVar

from sparsevec.contract.adapter import AsyncAdapter, Page
from sparsevec.errors import AdapterClosed

__all__ = ["BesideLoop"]

T = TypeVar("T")

_LEAVING = 5.0  # seconds that a cancelled task waits for its thread, which encodes or pauses where it takes longer


class BesideLoop:
    """Each method waits for the adapter's own, which runs in `loop`, under the deadlines of the calling thread."""

    def __init__(self, adapter: AsyncAdapter, loop: asyncio.AbstractEventLoop) -> None:
        self._adapter, self._loop = adapter, loop
        self._under_way: set[Future[Any]] = set()
        self._left = Event()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        return partial(self._wait, found) if iscoroutinefunction(found) else found

    def scan(self, **asked: Any) -> Iterator[Page]:
        """Page by page, each waited for."""
        pages = self._adapter.scan(**asked)
        while (page := self._wait(_next, pages)) is not None:
            yield page

    def __repr__(self) -> str:
        return repr(self._adapter)

    def _wait(self, method: Callable[..., Coroutine[Any, Any, Any]], *given: Any, **named: Any) -> Any:
        context = copy_context()

        async def asked() -> Any:
            return await self._loop.create_task(method(*given, **named), context=context)

        if self._left.is_set():
            raise AdapterClosed("the task that was writing has been cancelled")
        now = asyncio.run_coroutine_threadsafe(asked(), self._loop)
        self._under_way.add(now)
        if self._left.is_set():  # in the meantime
            now.cancel()
        try:
            return now.result()
        except CancelledError:
            raise AdapterClosed("the task that was writing has been cancelled") from None
        finally:
            self._under_way.discard(now)

    def _leave(self) -> None:
        """Give up what is under way, and answer no more."""
        self._left.set()
        for now in tuple(self._under_way):
            now.cancel()

    async def run(self, function: Callable[..., T], *given: Any, **named: Any) -> T:
        """What `function` gives in a thread of its own. A task that is cancelled leaves, and waits for the thread to
        notice: until then it holds its journal, which whoever calls again needs."""
        work = asyncio.create_task(asyncio.to_thread(function, *given, **named))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # of one that nobody awaits any more
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            self._leave()
            await asyncio.wait([work], timeout=_LEAVING)
            raise
        return work.result()


async def _next(pages: AsyncIterator[Page]) -> Page | None:
    return await anext(pages, None)
