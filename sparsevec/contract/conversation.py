"""A conversation: a generator that yields requests and is sent the answers, and the two drivers of it.

    def count(self) -> Operation[int]:
        answer = yield Request("POST", f"/{self._index}/_count")
        return int(answer.body["count"])

`run` drives it over a synchronous `send`, `arun` over an asynchronous one; neither knows what a request is. What `send`
raises is raised inside the conversation, where it was yielded; one that does not catch it ends with it. Ctrl-C and a
cancelled task are not raised inside: the conversation is closed where it stands, and may ask nothing more. So a
conversation is tested without a server, and an adapter for threads and one for asyncio are the same code.

At level DEBUG each request is logged, by its `str`, with the time it took: so a request's `str` holds neither secrets
nor documents.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

__all__ = ["AsyncWire", "Operation", "Together", "Wire", "arun", "run"]

Request = TypeVar("Request")
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
