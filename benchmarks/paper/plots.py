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

LEARNED = {"dense": "black", "ReLU": "tab:gray", "FLOPs": "tab:red", "L1": "tab:blue", "SDH": "tab:green"}
OTHERS = ("o", "s", "^", "v", "D", "P", "X", "*", "<", ">")


def pareto(name: str, rows: Sequence[Row], target: Path) -> None:
    """Write a picture: on the left the price that is counted, on the right the time that was measured."""
    k = next(iter(rows[0].precision))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for side, price in zip(axes, ("operations", "microseconds"), strict=True):
        _draw(side, rows, price, k)
    axes[0].set(xlabel="operations of a query-document pair", ylabel=f"precision@{k}", title=name)
    axes[1].set(xlabel="µs of a query, one thread", title=name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize="small")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def _draw(side: Axes, rows: Sequence[Row], price: str, k: str) -> None:
    """The learned methods in colour and joined, the others in grey with a mark of their own."""
    methods = list(dict.fromkeys(row.method for row in rows))
    marks = iter(OTHERS * len(methods))
    for method in methods:
        points = sorted((getattr(row, price), row.precision[k]) for row in rows if row.method == method)
        across, up = zip(*points, strict=True)
        if method in LEARNED:
            side.plot(across, up, "o-", color=LEARNED[method], label=method, markersize=5)
        else:
            side.plot(across, up, next(marks), color="0.55", label=method, markersize=5)
    side.set_xscale("log")
    side.grid(alpha=0.3)
