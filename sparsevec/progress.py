"""One kind of progress event, for everything that takes longer than a breath."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sparsevec.errors import InvalidInput

__all__ = ["Listener", "Progress", "Whole", "check_listener"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a long operation is."""

    stage: str
    """what is being done now, a word or two"""
    step: int
    """0 .. steps, of this stage"""
    steps: int
    fraction: float
    """of the whole operation: rises from 0 to 1 once, and never falls"""
    seconds: float
    """since the whole began"""
    text: str
    """what a line in a log would say"""
    figures: Mapping[str, float] = field(default_factory=dict)
    """what was measured on the way, by name: loss, nnz, flops, spread, …"""

    def __str__(self) -> str:
        return self.text


Listener = Callable[[Progress], None]


def check_listener(listener: object, name: str = "on_progress") -> None:
    """Raises InvalidInput unless it is None, or can be called."""
    if listener is not None and not callable(listener):
        raise InvalidInput(f"{name} must be a function of one argument, found {listener!r:.80}")


class Whole:
    """Makes events of several stages whose fraction rises once; `stages` are their names and relative durations.

    A stage that is not named adds nothing to the fraction. Without a listener nothing happens. Raises InvalidInput for
    one that cannot be called.
    """

    def __init__(self, listener: Listener | None, stages: Mapping[str, float]) -> None:
        check_listener(listener, "on_step")
        self._listener, self._began, self._fraction = listener, time.perf_counter(), 0.0
        total, before = sum(stages.values()), 0.0
        self._spans: dict[str, tuple[float, float]] = {}
        for stage, duration in stages.items():
            self._spans[stage] = before / total, (before + duration) / total
            before += duration

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def at(self, stage: str, step: int, steps: int, text: str = "", **figures: float) -> None:
        """`step` of `steps` of a stage is done."""
        start, end = self._spans.get(stage, (self._fraction, self._fraction))
        self._fraction = max(self._fraction, min(1.0, start + (end - start) * step / max(1, steps)))
        if self._listener is not None:
            said = text or f"{stage} {step}/{steps}"
            self._listener(Progress(stage, step, steps, self._fraction, self.seconds, said, figures))
