"""The page of a frontier: recall against each cost, what to take. One HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparsevec.pages import cards, filled, legend, table, text
from sparsevec.planning.frontier import AXES, HEADER, Axis, Configuration, Frontier

__all__ = ["page", "panel"]

_PALETTE = ("#0d9488", "#e0663f", "#8b7bd8", "#4a90d9", "#b8860b", "#c2528b")  # readable on white and on black
_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 14, 46


def page(found: Frontier) -> str:
    """HTML that needs nothing beside itself."""
    axes = [axis for axis in AXES if axis != "milliseconds" or found.engine is not None]
    best, front, colours = found.best, found.front(found.axis), _widths(found)
    figures = [
        (f"{best.shape.dimension:,}", "dimension"),
        (str(best.shape.nnz), "weights a document"),
        ("as F pays" if best.query_nnz is None else str(best.query_nnz), "weights a query, at most"),
        (str(best.residual_bytes or "none"), "residual bytes"),
        (f"{best.recall:.3f}", f"recall of the {found.goal}, {best.interval}"),
    ]
    names = {width: f"{width} residual bytes" if width else _without(found) for width in colours}
    return filled(
        "sparsevec.planning",
        "frontier.html",
        title=text(f"For {found.limits} among {found.documents:,} documents"),
        advice=text(found.advice),
        cards=cards(figures),
        legend=legend({names[width]: colour for width, colour in colours.items()}),
        panels="".join(f"<figure>{panel(found, axis)}</figure>" for axis in axes),
        table=table(found.header, [one.cells() for one in front], front.index(best) if best in front else None),
        predicted=text(found.predicted),
        warning=text(found.warning or ""),
        unfinished=text(found.unfinished or ""),
        made=f"{found.trials} runs, {found.seconds:,.0f} s; {found.queries} queries judged, none was learned from.",
    )


def _without(found: Frontier) -> str:
    return "no residual code: a second look" if found.goal == "answers" else "sparse candidates"


def _widths(found: Frontier) -> dict[int, str]:
    """Each width of residual codes with its colour."""
    widths = sorted({one.residual_bytes for one in found.configurations})
    return {width: _PALETTE[number % len(_PALETTE)] for number, width in enumerate(widths)}


# ---- one panel


@dataclass(frozen=True, slots=True)
class _Scale:
    """Costs, by their logarithms, and recalls to places in the picture."""

    least: float
    most: float
    bottom: float

    @classmethod
    def of(cls, costs: Sequence[float], recalls: Sequence[float]) -> _Scale:
        return cls(min(costs) / 1.25, max(costs) * 1.25, min(0.95, math.floor(20 * min(recalls)) / 20))

    def x(self, cost: float) -> float:
        share = math.log(cost / self.least) / math.log(self.most / self.least)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, recall: float) -> float:
        share = (recall - self.bottom) / (1 - self.bottom)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    @property
    def costs(self) -> list[float]:
        """Where the axis has its numbers: 1, 2 and 5 of each power of ten, or the powers alone where these are many."""
        powers = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
        steps = (1, 2, 5) if self.most / self.least < _MANY else (1,)
        marks = (step * 10.0**power for power in powers for step in steps)
        return [mark for mark in marks if self.least <= mark <= self.most]

    @property
    def recalls(self) -> list[float]:
        step = 0.05 if self.bottom >= 0.7 else 0.1
        return [round(1 - step * number, 2) for number in range(math.floor((1 - self.bottom) / step + 1e-9) + 1)]


_MANY = 300.0  # of the largest cost over the least


def panel(found: Frontier, axis: Axis) -> str:
    """SVG: every configuration at its cost; a line through those that nothing cheaper is as good as."""
    every, limit = found.configurations, found.limits.given.get(axis)
    costs = [one.cost(axis) for one in every] + ([] if limit is None else [limit])
    scale, colours, front = _Scale.of(costs, [one.recall for one in every]), _widths(found), found.front(axis)
    steps = " ".join(f"{scale.x(one.cost(axis))},{scale.y(one.recall)}" for one in front)
    title = f"recall of the {found.goal} against {AXES[axis]}"
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(title)}">',
        _grid(scale, AXES[axis]),
        f'<polyline class="front" points="{steps}"/>',
        "" if limit is None else _limit(scale, limit),
        *(_mark(one, scale, axis, colours[one.residual_bytes]) for one in every),
        f'<circle class="best" cx="{scale.x(found.best.cost(axis))}" cy="{scale.y(found.best.recall)}" r="8"/>',
        "</svg>",
    ]
    return "".join(parts)


def _grid(scale: _Scale, name: str) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    lines = [
        f'<path class="grid" d="M{_LEFT} {scale.y(mark)}H{right}"/>'
        f'<text x="{_LEFT - 6}" y="{scale.y(mark) + 4}" text-anchor="end">{mark:g}</text>'
        for mark in scale.recalls
    ]
    lines += [
        f'<path class="grid" d="M{scale.x(mark)} {_TOP}V{bottom}"/>'
        f'<text x="{scale.x(mark)}" y="{bottom + 16}" text-anchor="middle">{mark:g}</text>'
        for mark in scale.costs
    ]
    middle = (_LEFT + right) / 2
    return "".join(lines) + f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{text(name)}</text>'


def _limit(scale: _Scale, limit: float) -> str:
    return f'<path class="limit" d="M{scale.x(limit)} {_TOP}V{_HEIGHT - _BOTTOM}"/>'


def _mark(one: Configuration, scale: _Scale, axis: Axis, colour: str) -> str:
    """Full where it was measured; hollow, with its interval, where it was predicted."""
    x, y = scale.x(one.cost(axis)), scale.y(one.recall)
    low, high = (scale.y(max(scale.bottom, end)) for end in one.interval)
    between = "" if one.measured else f'<path d="M{x} {low}V{high}" stroke="{colour}" opacity=".35"/>'
    fill = colour if one.measured else "none"
    said = ", ".join(f"{name} {cell}".strip() for name, cell in zip(HEADER, one.cells(), strict=False))
    return (
        f'{between}<circle cx="{x}" cy="{y}" r="3.2" fill="{fill}" stroke="{colour}" stroke-width="1.4">'
        f"<title>{text(said)}</title></circle>"
    )
