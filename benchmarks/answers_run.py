"""The measuring of `benchmarks.answers`, in steps: what is finished is kept, and a later run goes on behind it.

A step builds one system, changes one, or asks all systems of an engine the same queries in turn. What came of it is
written as soon as it is there. A run with other settings begins anew; one with equal settings goes on with what an
earlier one left in the engine, and builds again only what lived in its memory.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.debian12 import Data
from benchmarks.rivals import FEW, MANY, RARE, System, fields, where
from benchmarks.static_texts import Texts
from sparsevec.encoder.head import Float64s
from sparsevec.measure.intervals import interval
from sparsevec.storage import whole_file
from sparsevec.vectors import Float32s

__all__ = ["Bench", "Row", "Steps", "TimeIsUp", "moments", "rows_of", "run"]

_WARM = 3  # turns of all queries before those that are timed: a young server compiles what it runs
_ASKED = (("fresh", None), ("fresh", MANY), ("fresh", FEW), ("fresh", RARE), ("changed", None))
"""the state, and the filter"""
_LARGE = 100_000  # documents, from which on a filter that keeps .1 % keeps enough of them, and nothing is changed


class TimeIsUp(Exception):
    """The next run goes on with the steps that are left."""


@dataclass(slots=True)
class Cell:
    """Of one state and filter."""

    recall: float
    interval: tuple[float, float]
    p50: float
    p95: float
    ratio: float
    """median, over queries, of the time to that of the engine's first system"""


@dataclass(slots=True)
class Row:
    name: str
    ours: bool
    built: Any
    cells: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Steps:
    """What is finished of one engine, in a file, and when to stop (`time.monotonic`)."""

    path: Path
    settings: dict[str, Any]
    until: float
    done: dict[str, Any]

    @classmethod
    def of(cls, path: Path, settings: dict[str, Any], until: float) -> Self:
        kept = json.loads(path.read_text()) if path.exists() else {}
        return cls(path, settings, until, kept["done"] if kept.get("settings") == settings else {})

    def do(self, name: str, step: Callable[[], Any]) -> Any:
        """What came of a step, now or before. Raises TimeIsUp."""
        if name not in self.done:
            if time.monotonic() > self.until:
                raise TimeIsUp
            self.done[name] = step()
            kept = {"settings": self.settings, "done": self.done}
            whole_file(self.path, json.dumps(kept, indent=1).encode())
        return self.done[name]


@dataclass(frozen=True, slots=True)
class Bench:
    rows: Float32s
    queries: Float32s
    again: list[int]
    gone: list[int]

    @classmethod
    def of(cls, data: Data | Texts, rows: int, queries: int) -> Bench:
        order = np.random.default_rng(0).permutation(rows)
        again, gone = order[: rows // 5].tolist(), order[rows // 5 : rows // 5 + rows // 10].tolist()
        return cls(data.documents[:rows], data.queries[:queries], again, gone)

    @property
    def asked(self) -> list[tuple[str, str | None]]:
        large = len(self.rows) >= _LARGE
        return [one for one in _ASKED if one not in ([("changed", None)] if large else [("fresh", RARE)])]

    def truth(self, state: str, filter_: str | None) -> list[set[int]]:
        """The exact dense top 10 of each query, of those that are there and that the filter keeps."""
        only = (where(filter_) or {}).items()
        kept = [row for row in range(len(self.rows)) if only <= fields(row).items()]
        at = np.array(sorted(set(kept) - (set(self.gone) if state == "changed" else set())))
        return [set(at[np.argsort(-(self.rows[at] @ query), kind="stable")[:10]].tolist()) for query in self.queries]

    def measure(self, systems: Sequence[System], state: str, filter_: str | None) -> dict[str, Any]:
        """The cell of each system, each query asked of all of them before the next; and when and how busy that was."""
        for system in _WARM * list(systems):
            for query in self.queries:
                system.ask(query, filter_)
        truth = self.truth(state, filter_)
        recalls, seconds = np.empty((2, len(systems), len(self.queries)))
        for number, (query, due) in enumerate(zip(self.queries, truth, strict=True)):
            for at in np.roll(range(len(systems)), -number).tolist():
                began = time.perf_counter()
                found = systems[at].ask(query, filter_)
                seconds[at, number] = time.perf_counter() - began
                recalls[at, number] = len(due & set(found)) / len(due)
        cells = [asdict(self._cell(*one, seconds[0])) for one in zip(recalls, seconds, strict=True)]
        about = {"day": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[1])}
        return about | {"cells": {system.name: cell for system, cell in zip(systems, cells, strict=True)}}

    @staticmethod
    def _cell(recalls: Float64s, seconds: Float64s, first: Float64s) -> Cell:
        p50, p95 = (1000 * float(np.quantile(seconds, part)) for part in (0.5, 0.95))
        found = interval(recalls)
        assert found is not None  # many queries
        return Cell(float(recalls.mean()), found, p50, p95, float(np.median(seconds / first)))


def run(bench: Bench, systems: Sequence[System], steps: Steps) -> None:
    """Of one engine: all are built, then asked, then changed, then asked again. Raises TimeIsUp."""
    for system in systems:
        if not system.stays:
            steps.done.pop(f"build {system.name}", None)
        steps.do(f"build {system.name}", partial(_build, system, bench, steps))
    for state, one in bench.asked:
        able = [system for system in systems if _can(system, state, one)]
        if state == "changed":
            for system in able:
                steps.do(f"change {system.name}", partial(system.change, bench.again, bench.gone, bench.rows))
        if able:
            steps.do(f"ask {state} {one or 'all'}", partial(bench.measure, able, state, one))
    for system in reversed(systems):
        system.close()


def _build(system: System, bench: Bench, steps: Steps) -> Any:
    """Of one that shares the collection of another, what that one was."""
    return steps.done[f"build {system.shares.name}"] if system.shares else asdict(system.build(bench.rows))


def _can(system: System, state: str, filter_: str | None) -> bool:
    return (state == "fresh" or system.changes) and (filter_ is None or system.filters)


def rows_of(systems: Sequence[System], ours: type, steps: Steps) -> list[Row]:
    """What is finished, in the order of the systems."""
    rows = [
        Row(system.name, isinstance(system, ours), built)
        for system in systems
        if (built := steps.done.get(f"build {system.name}"))
    ]
    for row in rows:
        for state, one in _ASKED:
            key = f"{state} {one or 'all'}"
            if cell := steps.done.get(f"ask {key}", {"cells": {}})["cells"].get(row.name):
                row.cells[key] = cell
    return rows


def moments(steps: Steps) -> str:
    """When it was asked, and how busy the machine was."""
    asked = [found for name, found in steps.done.items() if name.startswith("ask ")]
    loads, days = [found["load"] for found in asked], sorted({found["day"] for found in asked})
    return f"load average {min(loads)} to {max(loads)}, {' and '.join(days)}" if asked else "not asked yet"
