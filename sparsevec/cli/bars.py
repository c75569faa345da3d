"""Progress on stderr: a bar that fills once, or without a terminal a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from sparsevec.errors import printable
from sparsevec.live.telling import BEFORE
from sparsevec.progress import Listener
from sparsevec.progress import Progress as Event

__all__ = ["Bars", "Lines", "Progressed", "progress", "stages", "watching"]

_EVERY = 5.0  # seconds between two lines


class Progressed(Protocol):
    """Told how much of the work is done, 0 to 1, and what it waits for while it does."""

    def __call__(self, share: float, waiting: str | None = None) -> None: ...


@contextmanager
def progress(name: str) -> Iterator[Progressed]:
    """One bar, from now until the block ends."""
    began = time.perf_counter()
    with stages() as watch:
        watch(name, 0.0)

        def told(share: float, waiting: str | None = None) -> None:
            watch.waiting = waiting
            watch(name, min(share, 0.999))

        yield told
        told(0.999)
        watch(name, 1.0, time.perf_counter() - began)


@contextmanager
def stages() -> Iterator[Bars | Lines]:
    """A bar for each stage, made when it is first named; it never runs backwards."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"), _Seconds())
    with Progress(SpinnerColumn(finished_text="[green]✓[/]"), *columns, console=console) as bars:
        yield Bars(bars)


@contextmanager
def watching(*, quiet: bool) -> Iterator[Listener]:
    """A listener to stages that follow each other: a bar for each, whole when the next begins or all is done."""
    with nullcontext() if quiet else stages() as watch:
        if watch is None:
            yield lambda _progress: None
            return
        followed = _Followed(watch)
        yield followed
        followed.end()


class _Followed:
    def __init__(self, watch: Bars | Lines) -> None:
        self._watch = watch
        self._stage: str | None = None
        self._began = 0.0

    def __call__(self, progress: Event) -> None:
        if progress.stage == BEFORE:
            self._watch.note(progress.text)
            return
        if progress.stage != self._stage:
            self.end()
            self._stage, self._began = progress.stage, time.perf_counter()
        self._watch(progress.stage, min(progress.step / max(1, progress.steps), 0.999))

    def end(self) -> None:
        if self._stage is not None:
            self._watch(self._stage, 1.0, time.perf_counter() - self._began)


class _Seconds(ProgressColumn):
    """Those of the stage: running, then as they were measured."""

    def render(self, task: Task) -> Text:
        measured = task.fields.get("seconds")
        return Text(f"{task.elapsed or 0.0 if measured is None else measured:6.1f} s", style="progress.elapsed")


class Bars:
    """A bar for each stage, on a terminal."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self.waiting: str | None = None

    @property
    def tasks(self) -> list[Task]:
        return list(self._bars.tasks)

    def note(self, line: str) -> None:
        """A line above the bars."""
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __call__(self, name: str, share: float, seconds: float | None = None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(escape(name), total=1.0, seconds=None)
        self._shares[name] = max(share, self._shares.get(name, 0.0))
        words = f"{name}, waiting: {printable(self.waiting, 200)}" if self.waiting else name
        self._bars.update(self._tasks[name], completed=self._shares[name], description=escape(words), seconds=seconds)


class Lines:
    """A line every few seconds, and one when a stage has ended."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.perf_counter) -> None:
        self._console, self._clock = console, clock
        self._began: dict[str, float] = {}
        self._last = clock()
        self.waiting: str | None = None

    def __call__(self, name: str, share: float, seconds: float | None = None) -> None:
        now = self._clock()
        began = self._began.setdefault(name, now)
        if seconds is not None:
            self.note(f"{name}: done in {seconds:.1f} s")
        elif now - self._last >= _EVERY:
            words = f", waiting: {printable(self.waiting, 200)}" if self.waiting else ""
            self.note(f"{name}: {share:.0%} after {now - began:.0f} s{words}")

    def note(self, line: str) -> None:
        """A line among the others."""
        self._last = self._clock()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
