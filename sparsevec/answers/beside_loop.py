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
from typing import Any

from sparsevec.contract.adapter import AsyncAdapter, Page
from sparsevec.errors import AdapterClosed

__all__ = ["BesideLoop"]


class BesideLoop:
    """Each method waits for the adapter's own, which runs in `loop`, under the deadlines of the calling thread."""

    def __init__(self, adapter: AsyncAdapter, loop: asyncio.AbstractEventLoop) -> None:
        self._adapter, self._loop = adapter, loop
        self._now: Future[Any] | None = None
        self._left = False

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

        if self._left:
            raise AdapterClosed("the task that was writing has been cancelled")
        self._now = asyncio.run_coroutine_threadsafe(asked(), self._loop)
        try:
            return self._now.result()
        except CancelledError:
            raise AdapterClosed("the task that was writing has been cancelled") from None

    def leave(self) -> None:
        """Give up what is under way, and answer no more."""
        self._left = True
        if self._now is not None:
            self._now.cancel()


async def _next(pages: AsyncIterator[Page]) -> Page | None:
    return await anext(pages, None)
