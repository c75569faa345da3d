"""The pictures of the demo's page: SVG in the colours of the page around it, one colour a method in all of them."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparsevec.errors import ClientMissing
from sparsevec.measure.recall import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "colours", "quality_pictures", "usage_picture"]

_PALETTE = ["#0d9488", "#e0663f", "#8b7bd8", "#4a90d9", "#b8860b", "#c2528b"]  # readable on white and on black
_INK = "#012345"  # stands for the page's own text colour


@dataclass(frozen=True, slots=True)
class Curve:
    """One method at several costs: a line of the quality pictures."""

    name: str
    evaluations: Sequence[Evaluation]


def colours(curves: Sequence[Curve], usages: Mapping[str, object]) -> dict[str, str]:
    """One for each method, whichever picture it is in; ours first."""
    names = list(dict.fromkeys([*(curve.name for curve in curves), *usages]))
    return {name: _PALETTE[number % len(_PALETTE)] for number, name in enumerate(names)}


def quality_pictures(curves: Sequence[Curve], colour: Mapping[str, str]) -> list[str]:
    """Recall against multiplications per query-document pair: as the answer, and as candidates."""
    panels = [("recall@10, as the answer", "recall_10"), ("recall@100, as candidates", "recall_10_at_100")]
    return [_quality(curves, colour, title, field) for title, field in panels]


def _quality(curves: Sequence[Curve], colour: Mapping[str, str], title: str, field: str) -> str:
    figure = _figure(4.2, 3.3)
    axes = figure.subplots()
    for curve in curves:
        costs = [point.flops for point in curve.evaluations]
        recalls = [getattr(point, field) for point in curve.evaluations]
        axes.plot(costs, recalls, "o-", color=colour[curve.name], linewidth=2, markersize=5)
    axes.set(title=title, xscale="log", ylim=(0, 1.04), xlabel="multiplications per pair, F")
    _inked(axes)
    return _svg(figure, field, f"{title}: {', '.join(curve.name for curve in curves)}")


def usage_picture(usages: Mapping[str, npt.NDArray[np.float64]], colour: Mapping[str, str]) -> str:
    """How many documents use each dimension, most used first: the flatter, the cheaper."""
    figure = _figure(4.2, 3.0)
    axes = figure.subplots()
    used = np.concatenate([usage[usage > 0] for usage in usages.values()]) * 100
    axes.set_yscale("log")
    axes.set_ylim(used.min() / 2, used.max() * 2)
    for name, usage in usages.items():
        axes.plot(np.sort(usage)[::-1] * 100, color=colour[name], linewidth=2)
    even = next(iter(usages.values())).mean() * 100
    axes.axhline(even, color=_INK, linewidth=1, linestyle=":")
    axes.set(xlabel="dimensions, most used first", ylabel="% of the documents use it")
    axes.locator_params(axis="x", nbins=5)
    _inked(axes)
    return _svg(figure, "usage", f"How evenly dimensions are used: {', '.join(usages)}; dotted: perfectly even")


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ClientMissing.extra("matplotlib", "demo") from None
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def _inked(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.grid(color=_INK, alpha=0.15)
    axes.tick_params(colors=_INK, which="both", labelsize=8.5)
    for side, spine in axes.spines.items():
        spine.set(color=_INK, alpha=0.4, visible=side in ("left", "bottom"))
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set(color=_INK, fontsize=9.5)


def _svg(figure: Figure, name: str, title: str) -> str:
    from matplotlib import rc_context

    picture = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):  # text stays text; ids differ between pictures
        figure.savefig(picture, format="svg", metadata={"Date": None}, transparent=True)
    svg = picture.getvalue()
    head, _, body = svg[svg.index("<svg") :].partition(">")
    titled = (
        f'{head} role="img" aria-labelledby="title-{name}"><title id="title-{name}">{html.escape(title)}</title>{body}'
    )
    return titled.replace(_INK, "currentColor").replace("'DejaVu Sans'", "inherit")
