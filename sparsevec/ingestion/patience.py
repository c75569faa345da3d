"""When to ask a backend again, and when to give up: full jitter, doubling, capped, and a deadline since the last
progress, which bounds each request as well."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from sparsevec.contract.checks import as_real
from sparsevec.contract.deadlines import within
from sparsevec.errors import BackendDown, InvalidInput, printable

__all__ = ["SYSTEM_TIME", "OutOfPatience", "Patience", "Stopped", "Timing", "check_deadline"]

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_ASKED = 0.2, 20.0, 60.0  # seconds; a backend may ask for the last
_LEAST_REQUEST = 1.0  # seconds that a request gets, however little is left
_LONG_WAIT = 10.0  # seconds after which a line in the log says so

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How to tell the time (seconds), to wait and to draw from [0, 1): a test brings its own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


SYSTEM_TIME = Timing()


class OutOfPatience(Exception):
    """The deadline passed without progress; `__cause__` is what the backend said last."""


class Stopped(Exception):
    """The run has ended while this request was still to be sent again."""


def check_deadline(deadline: object) -> None:
    """Raises InvalidInput unless it is a number of seconds."""
    seconds = as_real(deadline)
    if seconds is None or not seconds >= 0:
        raise InvalidInput(f"deadline must be a number of seconds, found {deadline!r:.80}")


@dataclass(slots=True)
class _Run:
    """What all requests of one run share."""

    since: float  # the last progress
    long: bool = False  # a line in the log has said that nothing goes on
    not_before: float = float("-inf")  # a busy backend asked for so much quiet


class Patience:
    """Of one run, or `of_request` of it: `start` when a request begins, `progress` when something was settled, `wait`
    when it was not. Progress of any request is progress of the run."""

    def __init__(self, deadline: float, timing: Timing) -> None:
        self.deadline = as_real(deadline) or 0.0
        self.on_wait: Callable[[str], None] = lambda _reason: None
        """called with the reason before each pause"""
        self._timing = timing
        self._stopped = threading.Event()
        self._rested = float("-inf")  # until when it has been quiet itself
        self._run = _Run(timing.clock())
        self.start()

    def of_request(self, on_wait: Callable[[str], None]) -> Patience:
        """Of one request of this run, in a thread of its own."""
        one = Patience(self.deadline, self._timing)
        one.on_wait, one._stopped, one._run = on_wait, self._stopped, self._run
        return one

    def start(self) -> None:
        """What is counted from here on: seconds, retries, and the time until the deadline."""
        self._begun = self._timing.clock()
        self.retries = self._tries = 0
        self.progress()

    def stop(self) -> None:
        """Nothing is sent again: whoever pauses, or is about to, raises Stopped."""
        self._stopped.set()

    @property
    def seconds(self) -> float:
        """Since `start`."""
        return self._timing.clock() - self._begun

    def progress(self) -> None:
        """Something was settled: the deadline is as far away as ever."""
        now = self._timing.clock()
        if self._run.long:
            _log.info("the backend answers again, after %.0f s", now - self._run.since)
        self._run.since, self._run.long = now, False
        self._tries = 0

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """No request inside waits for longer than half of what is left until the deadline, so that there is time for
        another try (but for a second, where less is left). It begins when the backend has had the quiet it asked for
        of another."""
        if (until := self._run.not_before) > self._rested:
            self._rested = until
            if (quiet := min(until - self._timing.clock(), self._left())) > 0:
                self._pause(quiet)
        with within(max(self._left() / 2, _LEAST_REQUEST)):
            yield

    def ask(self, call: Callable[[], T]) -> T:
        """The answer to `call`, asked again while the backend is down. Raises OutOfPatience."""
        while True:
            try:
                with self.bounded():
                    answer = call()
            except BackendDown as error:
                self.wait(error)
            else:
                self.progress()
                return answer

    def wait(self, error: BackendDown) -> None:
        """Pause before the next try. Raises OutOfPatience when it is too late for one, Stopped after `stop`."""
        left = self._left()
        if left <= 0:
            reason = printable(error)
            raise OutOfPatience(
                f"no progress for {self.deadline:g} s, tried {self._tries + 1} times, last: {reason}"
            ) from error
        self.on_wait(printable(error))
        self._note(error)
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._tries, 10))
        self._tries += 1
        self.retries += 1
        asked = min(error.retry_after or 0.0, _LONGEST_ASKED)
        if asked:
            self._rested = self._timing.clock() + min(left, asked)
            self._run.not_before = max(self._run.not_before, self._rested)
        self._pause(min(left, max(longest * self._timing.random(), asked)))

    def _pause(self, seconds: float) -> None:
        if self._timing is SYSTEM_TIME:
            self._stopped.wait(seconds)
        else:
            self._timing.sleep(seconds)
        if self._stopped.is_set():
            raise Stopped

    def _left(self) -> float:
        return self._run.since + self.deadline - self._timing.clock()

    def _note(self, error: BackendDown) -> None:
        waited = self._timing.clock() - self._run.since
        if waited >= _LONG_WAIT and not self._run.long:
            self._run.long = True
            _log.info("waiting for the backend since %.0f s: %s", waited, printable(error))
