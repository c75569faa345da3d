"""Times of several ways to do one thing, taken in turns, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine

__all__ = ["RESULTS", "keep", "medians", "table"]

RESULTS = Path(__file__).parent / "results"


def medians(
    ways: Mapping[str, Callable[[], Any]], rounds: int = 5, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Milliseconds of each way, the median of `rounds` turns; of the processor, unless another clock is given."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            start = clock()
            way()
            taken[name].append(1000 * (clock() - start))
    return {name: float(np.median(several)) for name, several in taken.items()}


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_shown(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(cell: object) -> str:
    if cell is None:
        return ""
    return (
        f"{cell:.3g}"
        if isinstance(cell, float) and abs(cell) < 1000
        else f"{cell:,.0f}"
        if isinstance(cell, float)
        else str(cell)
    )


def keep(name: str, title: str, tables: Sequence[str], rows: Sequence[Mapping[str, Any]], where: str = "") -> None:
    """As results/NAME.json and NAME.md; with `where`, or else the machine and how busy it was."""
    busy = where or f"{machine()}; load average {os.getloadavg()[0]:.1f} at the end; {time.strftime('%Y-%m-%d')}"
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": busy, "rows": list(rows)}, indent=1) + "\n")
    text = "\n".join([f"# {name}\n", title.strip() + "\n", *tables, f"Measured on {busy}.\n"])
    (RESULTS / f"{name}.md").write_text(text)
    print(text)
