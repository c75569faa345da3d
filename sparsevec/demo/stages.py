"""How far a demo is, and where its time goes: stages one after another, with nothing between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Stages", "Watch"]


class Watch(Protocol):
    """Called with a stage's name, the share of it that is done, 0 to 1, and once it has ended its seconds."""

    def __call__(self, name: str, share: float, seconds: float | None = None) -> None: ...


class Stages:
    """Times each stage from the end of the one before, so that `seconds` add up to the whole."""

    def __init__(self, watch: Watch, clock: Callable[[], float] = time.perf_counter) -> None:
        self._watch, self._clock = watch, clock
        self._last = clock()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Yields a function to be called with the share that is done."""
        self._watch(name, 0.0)
        yield lambda share: self._watch(name, min(share, 0.999))
        now = self._clock()
        self.seconds[name], self._last = now - self._last, now
        self._watch(name, 1.0, self.seconds[name])
