"""What `sparsevec demo` and `eval` show, as functions of values: tables, two pictures, and one HTML page that needs
nothing beside itself."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparsevec.errors import ClientMissing
from sparsevec.measure.recall import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "Found", "Search", "Story", "page", "quality_picture", "table", "usage_picture"]

_COLOURS = ["#0d9488", "#e0663f", "#8b7bd8", "#4a90d9", "#b8860b"]  # readable on white and on black
_OPEN = 9  # searches that show at once; the rest unfolds
_INK = "#012345"  # stands for the page's own text colour


@dataclass(frozen=True, slots=True)
class Curve:
    """One method at several costs: a line of the quality picture."""

    name: str
    evaluations: Sequence[Evaluation]


@dataclass(frozen=True, slots=True)
class Found:
    """One hit as a person reads it."""

    id: int | str
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Search:
    """A query in words and its best documents."""

    text: str
    found: Sequence[Found]


@dataclass(frozen=True, slots=True)
class Story:
    """All that a page tells."""

    title: str
    corpus: str
    """what was learned from, in a sentence"""
    engine: str
    seconds: Mapping[str, float]
    """by stage"""
    written: str
    """the ingest report, in words"""
    verdict: str
    """the verify report, in words"""
    exact: bool
    rows: Mapping[str, Evaluation]
    """the table, by method; the last row is ours"""
    curves: Sequence[Curve]
    """ours first"""
    usages: Mapping[str, npt.NDArray[np.float64]]
    """p_j of the documents, by method; ours first"""
    searches: Sequence[Search]


# ---- tables


def table(rows: Mapping[str, Evaluation]) -> list[list[str]]:
    """A header and a line for each method, as text."""
    judged = any(row.ndcg_10 is not None for row in rows.values())
    header = ["", "recall@10", "@100", *(["nDCG@10"] if judged else []), "weights d/q", "F", "R_sub", "bytes"]
    return [header, *([name, *_line(row, judged)] for name, row in rows.items())]


def _line(row: Evaluation, judged: bool) -> list[str]:
    ndcg = [f"{row.ndcg_10:.3f}" if row.ndcg_10 is not None else "-"] if judged else []
    weights = f"{row.active_dims:.0f} / {row.query_active_dims:.0f}"
    quality = [f"{row.recall_10:.3f}", f"{row.recall_10_at_100:.3f}", *ndcg]
    return [*quality, weights, f"{row.flops:.3g}", f"{row.r_sub:.2f}", f"{row.bytes:,}"]


# ---- pictures


def quality_picture(curves: Sequence[Curve]) -> str:
    """Recall against multiplications per query-document pair, as SVG in the colours of the page around it."""
    figure = _figure(7.6, 3.9)
    panels = [("recall@10, as the answer", "recall_10"), ("recall@100, as candidates", "recall_10_at_100")]
    for axes, (title, field) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        for colour, curve in zip(_COLOURS, curves, strict=False):
            costs = [point.flops for point in curve.evaluations]
            recalls = [getattr(point, field) for point in curve.evaluations]
            axes.plot(costs, recalls, "o-", color=colour, label=curve.name, linewidth=2, markersize=5)
        axes.set(title=title, xscale="log", ylim=(0, 1.04), xlabel="multiplications per pair, F")
        _inked(axes)
    lines, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=3, frameon=False, labelcolor=_INK, fontsize=9)
    return _svg(figure, "quality")


def usage_picture(usages: Mapping[str, npt.NDArray[np.float64]]) -> str:
    """How many documents use each dimension, most used first: the flatter, the cheaper. SVG."""
    figure = _figure(7.6, 3.0)
    axes = figure.subplots()
    used = np.concatenate([usage[usage > 0] for usage in usages.values()]) * 100
    axes.set_yscale("log")
    axes.set_ylim(used.min() / 2, used.max() * 2)
    for colour, (name, usage) in zip(_COLOURS, usages.items(), strict=False):
        axes.plot(np.sort(usage)[::-1] * 100, color=colour, label=name, linewidth=2)
    even = next(iter(usages.values())).mean() * 100
    axes.axhline(even, color=_INK, linewidth=1, linestyle=":", label="perfectly even")
    axes.set(xlabel="dimensions, most used first", ylabel="% of the documents use it")
    _inked(axes)
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9)
    return _svg(figure, "usage")


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ClientMissing.extra("matplotlib", "cli") from None
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def _inked(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.grid(color=_INK, alpha=0.15)
    axes.tick_params(colors=_INK, which="both", labelsize=8)
    for side, spine in axes.spines.items():
        spine.set(color=_INK, alpha=0.4, visible=side in ("left", "bottom"))
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set(color=_INK, fontsize=9.5)


def _svg(figure: Figure, name: str) -> str:
    from matplotlib import rc_context

    picture = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):  # text stays text; ids differ between pictures
        figure.savefig(picture, format="svg", metadata={"Date": None}, transparent=True)
    svg = picture.getvalue()
    return svg[svg.index("<svg") :].replace(_INK, "currentColor").replace("'DejaVu Sans'", "inherit")


# ---- the page


def page(story: Story) -> str:
    """One HTML page with everything inlined, readable in light and dark and on a phone."""
    ours, dense = list(story.rows.values())[-1], next(iter(story.rows.values()))
    return Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(story.title),
        corpus=html.escape(story.corpus),
        engine=html.escape(story.engine),
        cards="".join(_card(*card) for card in _cards(ours, dense)),
        searches="".join(map(_search, story.searches[:_OPEN])),
        more="".join(map(_search, story.searches[_OPEN:])),
        exact="Every answer is exact" if story.exact else "Not every answer is exact",
        verdict=html.escape(story.verdict),
        written=html.escape(story.written),
        table=_html_table(table(story.rows)),
        quality=quality_picture(story.curves),
        usage=usage_picture(story.usages),
        stages="".join(f"<li>{html.escape(name)}: {took:.1f} s</li>" for name, took in story.seconds.items()),
        total=f"{sum(story.seconds.values()):.0f}",
    )


def _cards(ours: Evaluation, dense: Evaluation) -> list[tuple[str, str]]:
    return [
        (f"{ours.flops:.2f}", f"multiplications per pair, dense needs {dense.flops:.0f}"),
        (f"{ours.recall_10_at_100:.1%}", "of the dense top 10 are in the sparse top 100"),
        (f"{ours.bytes:,}", f"bytes a document, dense {dense.bytes:,}"),
        (f"{ours.r_sub:.2f}", "× the cost of using all dimensions equally often (1 = perfectly even)"),
    ]


def _card(figure: str, words: str) -> str:
    return f"<div><b>{html.escape(figure)}</b><span>{html.escape(words)}</span></div>"


def _search(search: Search) -> str:
    hits = "".join(
        f"<li><b>{html.escape(str(hit.id))}</b> <small>{hit.score:.3f}</small><br>{html.escape(hit.text)}</li>"
        for hit in search.found
    )
    return f"<article><h3>{html.escape(search.text)}</h3><ol>{hits}</ol></article>"


def _html_table(lines: list[list[str]]) -> str:
    header, *rows = lines
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
