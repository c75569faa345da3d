"""Pareto plots: precision against operations and against measured time, every method, one picture a collection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.paper.measure import Row

__all__ = ["pareto"]

LEARNED = {"dense": "black", "features": "tab:purple", "ReLU": "tab:brown"}
CURVES = {"FLOPs": "tab:red", "L1": "tab:blue", "SDH": "tab:green"}
OTHERS = ("s", "^", "v", "D", "P", "X", "*", "<", ">", "p", "h", "d")


def pareto(name: str, rows: Sequence[Row], target: Path) -> None:
    """Write a picture: on the left the price that is counted, on the right the time that was measured.

    What finds less than four fifths of the best is left to the table, so that the others can be told apart.
    """
    k = next(iter(rows[0].precision))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for side, price in zip(axes, ("operations", "microseconds"), strict=True):
        _draw(side, rows, price, k)
    best = max(row.precision[k] for row in rows)
    axes[0].set(xlabel="operations of a query-document pair", ylabel=f"precision@{k}", ylim=(0.8 * best, 1.02 * best))
    axes[1].set(xlabel="µs of a query, one thread")
    figure.suptitle(name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize="small")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def _draw(side: Axes, rows: Sequence[Row], price: str, k: str) -> None:
    """What was learned with labels in colour, its best rows joined; the others in grey, each with a mark of its own."""
    marks = iter(OTHERS)
    for method in dict.fromkeys(row.method for row in rows):
        points = sorted((getattr(row, price), row.precision[k]) for row in rows if row.method == method)
        colour = (LEARNED | CURVES).get(method, "0.55")
        mark = "o" if method in LEARNED | CURVES else next(marks)
        side.plot(*zip(*points, strict=True), mark, color=colour, label=method, markersize=5)
        if method in CURVES:
            best = [point for n, point in enumerate(points) if all(point[1] > found for _, found in points[:n])]
            side.plot(*zip(*best, strict=True), "-", color=colour)
    side.set_xscale("log")
    side.grid(alpha=0.3)
