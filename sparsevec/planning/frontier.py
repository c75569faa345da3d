"""What a search of configurations found: each with its costs and its recall, measured or predicted."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from sparsevec.encoder import Budget
from sparsevec.errors import InvalidInput, described
from sparsevec.measure.intervals import Interval
from sparsevec.planning.trials import Goal, Shape

__all__ = ["AXES", "HEADER", "Axis", "Configuration", "CostLimits", "Frontier", "check_limits", "is_positive"]

Axis: TypeAlias = Literal["flops", "bytes", "milliseconds"]
AXES: dict[Axis, str] = {
    "flops": "F, multiplications a pair",
    "bytes": "bytes a document",
    "milliseconds": "milliseconds a query",
}


def is_positive(number: object) -> bool:
    """Whether it is a plain number above 0 that a float can hold."""
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 < number <= sys.float_info.max


@dataclass(frozen=True, slots=True)
class CostLimits:
    """What a search may cost; all that are given hold. Raises InvalidInput."""

    flops: float | None = None
    """F, multiplications of a query-document pair"""
    bytes: float | None = None
    """of a document: 8 a weight, and its residual code"""
    milliseconds: float | None = None
    """of a query on the engine of a latency model"""

    def __post_init__(self) -> None:
        for axis, limit in self.given.items():
            if not is_positive(limit):
                raise InvalidInput(f"the limit of {axis} must be a positive number, found {described(limit)}")
        if not self.given:
            raise InvalidInput(f"expected a limit of {', '.join(AXES)} or several of them, found none")

    @property
    def given(self) -> dict[Axis, float]:
        return {axis: limit for axis in AXES if (limit := getattr(self, axis)) is not None}

    def __str__(self) -> str:
        said = {"flops": "F ≤ {:g}", "bytes": "≤ {:g} bytes a document", "milliseconds": "≤ {:g} ms a query"}
        return ", ".join(said[axis].format(limit) for axis, limit in self.given.items()) or "no limit"


def check_limits(limits: object) -> CostLimits:
    """Raises InvalidInput for anything but CostLimits."""
    if isinstance(limits, CostLimits):
        return limits
    hint = "CostLimits(**your_dict)" if isinstance(limits, dict) else "CostLimits(flops=0.65)"
    raise InvalidInput(
        f"limits must be a sparsevec.CostLimits, found {type(limits).__name__} {limits!r:.60}; try limits={hint}"
    )


class Configuration(BaseModel):
    """One way to set an encoder, what it costs, and what it finds among all documents."""

    model_config = ConfigDict(frozen=True)

    shape: Shape
    query_nnz: int | None
    """at most so many weights a query; None: as many as F pays for"""
    residual_bytes: int
    """0: a second look instead"""
    lists: float
    """weights of a query, in the mean"""
    flops: float
    bytes: float
    milliseconds: float | None
    """of the search for the candidates, where a latency model was given"""
    recall: float
    interval: Interval
    """95 %: over queries where it was measured, of the prediction where it was not"""
    measured: bool
    """with all documents; otherwise predicted from fewer"""

    @property
    def budget(self) -> Budget:
        """For `SparseEncoder(…, shape.dimension).fit`: F rounded up to two digits."""
        step = 10.0 ** (math.floor(math.log10(self.flops)) - 1)
        return Budget(
            nnz=self.shape.nnz,
            flops=min(self.shape.nnz, float(f"{math.ceil(self.flops / step) * step:.6g}")),
            query_nnz=self.query_nnz,
            residual_bytes=self.residual_bytes or None,
        )

    @property
    def cautious(self) -> float:
        """Recall to count on: what was measured, or the low end of what was predicted."""
        return self.recall if self.measured else self.interval.low

    def cost(self, axis: Axis) -> float:
        """Infinite where it is not known."""
        found: float | None = getattr(self, axis)
        return math.inf if found is None else found

    def excess(self, limits: Mapping[Axis, float]) -> float:
        """The largest of its costs over their limits; at most 1 where all hold."""
        return max((self.cost(axis) / limit for axis, limit in limits.items()), default=0.0)

    def cells(self) -> tuple[str, ...]:
        """As a table has them."""
        length = "as F pays" if self.query_nnz is None else str(self.query_nnz)
        taken = () if self.milliseconds is None else (f"{self.milliseconds:.3g}",)
        said = "measured" if self.measured else "predicted"
        sizes = (f"{self.shape.dimension:,}", str(self.shape.nnz), length, str(self.residual_bytes or "–"))
        costs = (f"{self.lists:.0f}", f"{self.flops:.3f}", f"{self.bytes:.0f}", *taken)
        return (*sizes, *costs, f"{self.recall:.3f}", str(self.interval), said)


HEADER = ("dimension", "nnz", "query nnz", "residual bytes", "lists", "F", "bytes")
"""what a configuration is and costs, column by column of a table"""


class Frontier(BaseModel):
    """All configurations that were looked at, among `documents` documents; `take` answers a budget from them."""

    model_config = ConfigDict(frozen=True)

    documents: int
    queries: int
    """that judged, of which nothing was learned"""
    goal: Goal
    engine: str | None
    """whose milliseconds these are"""
    configurations: tuple[Configuration, ...]
    limits: CostLimits
    best: Configuration
    """within the limits"""
    warning: str | None
    """where F misleads"""
    predicted: str
    """how predictions were made, and how far they were off where that can be known"""
    trials: int
    seconds: float
    """of all trials"""
    left: float | None = None
    """seconds that the next run takes, where the time was spent before all were made"""

    @property
    def unfinished(self) -> str | None:
        """What the time did not suffice for."""
        if self.left is None:
            return None
        enough = self.seconds + 1.2 * self.left
        return (
            f"The time was spent before the last run; the next takes about {self.left:,.0f} s. With {enough:,.0f} "
            "seconds in all the same search goes on from here."
        )

    def take(self, limits: CostLimits) -> Configuration:
        """The best configuration within `limits`. Raises InvalidInput, naming the nearest, where there is none, and for
        milliseconds of no engine."""
        if check_limits(limits).milliseconds is not None and self.engine is None:
            raise InvalidInput(
                "no milliseconds are known: the search had no latency model; find_frontier(…, latency=latency_model(…))"
            )
        return best_within(self.configurations, limits)

    def front(self, axis: Axis) -> list[Configuration]:
        """Those that nothing cheaper on that axis is as good as, cheapest first; within the other limits. Raises
        InvalidInput for another axis."""
        if axis not in AXES:
            raise InvalidInput(f"axis must be one of {', '.join(AXES)}, found {axis!r:.80}")
        others = {name: limit for name, limit in self.limits.given.items() if name != axis}
        return pareto((one for one in self.configurations if one.excess(others) <= 1), axis)

    @property
    def header(self) -> tuple[str, ...]:
        """Of the table of configurations."""
        taken = () if self.engine is None else ("ms",)
        return (*HEADER, *taken, f"recall of the {self.goal}", "95 %", "")

    @property
    def axis(self) -> Axis:
        """Of the first limit that was given."""
        return next(iter(self.limits.given))

    @property
    def advice(self) -> str:
        """In one line."""
        one, budget = self.best, self.best.budget
        said = "measured" if one.measured else "predicted"
        sizes = [f"dimension {one.shape.dimension}, {budget!r}"]
        costs = f"F {one.flops:.3f}, {one.bytes:.0f} bytes" + (
            "" if one.milliseconds is None else f", {one.milliseconds:.3g} ms"
        )
        return (
            f"For {self.limits} among {self.documents:,} documents take {sizes[0]}: "
            f"recall of the {self.goal} {one.recall:.3f} ({one.interval}, {said}), {costs}"
        )

    def __str__(self) -> str:
        front = self.front(self.axis)
        rows = [self.header, *(one.cells() for one in front)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if self.best in front:
            table[1 + front.index(self.best)] += "  <- take"
        headed = f"The best at each cost in {AXES[self.axis]}, within the other limits:"
        said = filter(None, [self.predicted, self.warning, self.unfinished])
        return "\n".join([headed, *table, "", *said, self.advice])


def best_within(configurations: Iterable[Configuration], limits: CostLimits) -> Configuration:
    """The one to count on most, of those within; of equals the cheapest. Raises InvalidInput, naming the nearest."""
    every = list(configurations)
    within = [one for one in every if one.excess(limits.given) <= 1]
    if not within:
        nearest = min(every, key=lambda one: one.excess(limits.given))
        costs = ", ".join(f"{axis} {nearest.cost(axis):.3g}" for axis in limits.given)
        raise InvalidInput(
            f"no configuration that was looked at meets {limits}; the nearest has {costs}: {nearest.shape} a document, "
            f"{nearest.lists:.0f} weights a query, {nearest.residual_bytes} residual bytes"
        )
    return max(within, key=lambda one: (round(one.cautious, 4), -one.flops, -one.bytes))


def pareto(configurations: Iterable[Configuration], axis: Axis) -> list[Configuration]:
    """Cheapest first, each better than all that are cheaper."""
    front: list[Configuration] = []
    for one in sorted(configurations, key=lambda one: (one.cost(axis), -one.recall)):
        if not front or one.recall > front[-1].recall:
            front.append(one)
    return front
