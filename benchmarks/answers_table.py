"""The table and the picture of `benchmarks.answers`, from its json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

__all__ = ["drawn", "picture", "short", "table", "verdicts"]

Row = dict[str, Any]
Engines = Mapping[str, dict[str, Any]]

_ABOUT = (
    "Recall@10 of the exact dense top 10 (95 % interval), p50 / p95 at the client, and the median of the ratios to the "
    "first system of the engine, query by query. Codes of 200 and 300 bytes re-rank 300 candidates, the others 100, "
    "with a filter half as many again (the texts were measured before, without). How busy the "
    "machine was stands above each table.\n"
)

_COLUMNS = {
    "fresh all": "fresh",
    "fresh tens": "10 %",
    "fresh hundreds": "1 %",
    "fresh thousands": ".1 %",
    "changed all": "changed",
    "changed tens": "changed, 10 %",
    "changed hundreds": "changed, 1 %",
}


def drawn(out: Path) -> None:
    """answers.md and answers.svg from answers.json, which are beside each other."""
    engines: Engines = json.loads((out / "answers.json").read_text())
    (out / "answers.md").write_text(table(engines))
    picture(engines, out / "answers.svg")


def table(engines: Engines) -> str:
    """Recall@10 with its 95 % interval, p50 / p95 in milliseconds, and x, how long it took beside the first row."""
    lines = ["# Final answers beside what one would pick instead\n\n`python -m benchmarks.answers`. " + _ABOUT]
    for engine, about in engines.items():
        some = about["rows"]
        shown = [key for key in _COLUMNS if any(key in row["cells"] for row in some)]
        lines.append(f"\n## {engine}\n\n{about['about']}\n")
        lines.append(_line(["", "bytes a document", "ingest / merge, s", *(_COLUMNS[key] for key in shown)]))
        lines.append(_line(["---"] * (3 + len(shown))))
        lines += [
            _line([_name(row), *_built(row["built"]), *(_cell(row["cells"].get(key)) for key in shown)]) for row in some
        ]
        if first := next((row for row in some if not row["ours"]), None):
            lines += verdicts(first, [row for row in some if row["ours"]], shown)
    return "\n".join(lines) + "\n"


def short(rows: Sequence[Row]) -> list[str]:
    """The same in one line a system, for the README: recall@10 / times the first system's time, in each column."""
    shown = [key for key in _COLUMNS if any(key in row["cells"] for row in rows)]
    lines = [_line(["", "bytes a document", "ingest and merge, s", *(_COLUMNS[key] for key in shown)])]
    lines.append(_line(["---"] * (3 + len(shown))))
    for row in rows:
        cells = [row["cells"].get(key) for key in shown]
        found = [f"{cell['recall']:.3f} / {cell['ratio']:.2g}" if cell else "" for cell in cells]
        lines.append(_line([_name(row), f"{row['built']['bytes']:,.0f}", f"{_seconds(row):.0f}", *found]))
    return lines


def verdicts(first: Row, ours: Sequence[Row], shown: Sequence[str]) -> list[str]:
    """Where each of ours is better, equal and worse than the engine's own default: recall where the intervals do not
    meet, time by the median ratio, bytes and seconds to build; a tenth more or less is equal."""
    if not ours:
        return []
    lines = [f"\nOurs beside {first['name']} (recall / time):\n"]
    lines.append(_line(["", "bytes", "ingest and merge", *(_COLUMNS[key] for key in shown)]))
    lines.append(_line(["---"] * (3 + len(shown))))
    for row in ours:
        sizes = [_less(row["built"]["bytes"], first["built"]["bytes"]), _less(_seconds(row), _seconds(first))]
        cells = [_verdict(row["cells"].get(key), first["cells"].get(key)) for key in shown]
        lines.append(_line([row["name"], *sizes, *cells]))
    return lines


def _seconds(row: Row) -> float:
    return float(row["built"]["ingest"] + row["built"]["merge"])


def _less(one: float, other: float) -> str:
    return "better" if one < 0.9 * other else "worse" if one > 1.1 * other else "equal"


def _verdict(one: Row | None, other: Row | None) -> str:
    if one is None or other is None:
        return ""
    (low, high), (least, most) = one["interval"], other["interval"]
    recall = "better" if low > most else "worse" if high < least else "equal"
    return f"{recall} / {_less(one['ratio'], 1)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _name(row: Row) -> str:
    return f"**ours: {row['name']}**" if row["ours"] else str(row["name"])


def _built(built: Row) -> list[str]:
    where = " in memory" if built["memory"] else ""
    return [f"{built['bytes']:,.0f}{where}", f"{built['ingest']:.1f} / {built['merge']:.1f}"]


def _cell(cell: Row | None) -> str:
    if cell is None:
        return ""
    low, high = cell["interval"]
    return (
        f"{cell['recall']:.3f} ({low:.3f}-{high:.3f}), {cell['p50']:.1f} / {cell['p95']:.1f} ms, {cell['ratio']:.2g}x"
    )


def picture(engines: Engines, path: Path) -> None:
    """Recall against bytes, and against milliseconds; ours filled."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for axis, (of, label) in zip(axes, (("bytes", "bytes a document"), ("p50", "p50, ms")), strict=True):
        for (engine, about), colour in zip(engines.items(), ("#777777", "#1d4ed8", "#c2410c", "#15803d"), strict=False):
            for row in about["rows"]:
                cell = row["cells"]["fresh all"]
                x = row["built"]["bytes"] if of == "bytes" else cell["p50"]
                face = colour if row["ours"] else "none"
                axis.scatter(x, cell["recall"], s=46, facecolors=face, edgecolors=colour, label=engine)
                axis.annotate(row["name"], (x, cell["recall"]), xytext=(5, -3), textcoords="offset points", fontsize=7)
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("recall@10 of the exact dense top 10")
    handles, labels = axes[0].get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    axes[0].legend(known.values(), known.keys(), fontsize=8, title="filled: ours")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
