"""A deadline that whoever asks sets once, and that every request below it keeps.

with within(5.0):               # seconds
    adapter.search(queries)     # BackendDown when the backend held the request for longer
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sparsevec.errors import BackendDown

__all__ = ["check_time", "remaining", "within"]

_until: ContextVar[float | None] = ContextVar("sparsevec_deadline", default=None)
_LEAST = 0.05  # seconds; a request that is sent at all gets as much


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Inside, no request waits for its answer beyond `seconds` from now, nor beyond a deadline set further out."""
    outer, until = _until.get(), time.monotonic() + seconds
    token = _until.set(until if outer is None else min(until, outer))
    try:
        yield
    finally:
        _until.reset(token)


def remaining(longest: float) -> float:
    """How many seconds the next request may wait: `longest`, or what is left until the deadline."""
    until = _until.get()
    return longest if until is None else min(longest, max(_LEAST, until - time.monotonic()))


def check_time() -> None:
    """Raises BackendDown when the deadline has passed, so that what needs several steps begins no further one."""
    until = _until.get()
    if until is not None and time.monotonic() >= until:
        raise BackendDown("the deadline passed before the answer was complete")
