"""The weight of a regulariser over the steps of a training: fixed, rising, or found so that a budget is met.

A loop asks `weight(step)` before a step and tells `saw(nnz, flops)` after it; it needs to know nothing else. A weight
that is large from the start kills dimensions before they mean anything, so both ways of ours begin gently: Paria et al.
(ICLR 2020) raise the weight, the controller lowers what it aims at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sparsevec.errors import InvalidInput

__all__ = ["BudgetController", "Limits", "Ramp", "Schedule", "constant", "quadratic_ramp"]


@runtime_checkable
class Schedule(Protocol):
    """What a training loop asks of a weight. Its `repr` states the settings and nothing of the state."""

    def weight(self, step: int) -> float:
        """For the step of that number, counted from 0."""

    def saw(self, nnz: float, flops: float) -> None:
        """What the codes of one step measured: mean non-zeros a row, and F, non-zeros a pair has in common."""

    def state_dict(self) -> dict[str, float]:
        """All that `saw` has changed: a schedule with the same settings that loads it goes on exactly from here."""

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Raises InvalidInput when `state` is not that of such a schedule."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """full · min(1, step / steps)^2; with steps = 0 it is `full` from the start. Raises InvalidInput."""

    full: float
    steps: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.full) and self.full >= 0):
            raise InvalidInput(
                f"the weight of a regularizer must be a finite number of at least 0, found {self.full!r}"
            )
        if self.steps < 0:
            raise InvalidInput(f"a ramp must take a number of steps of at least 0, found {self.steps!r}")

    def weight(self, step: int) -> float:
        return self.full * min(1.0, step / self.steps) ** 2 if self.steps else self.full

    def saw(self, nnz: float, flops: float) -> None:
        """Nothing: the weight depends on the step alone."""

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        _expect(state, set())


def constant(weight: float) -> Ramp:
    """`weight` at every step."""
    return Ramp(weight, 0)


def quadratic_ramp(weight: float, steps: int) -> Ramp:
    """weight · min(1, step / steps)^2, the schedule of Paria et al., ICLR 2020 (`dynamic_4` in their code)."""
    return Ramp(weight, steps)


class Limits(Protocol):
    """A `sparsevec.Budget`, or anything with its two limits, at least one of them given."""

    @property
    def nnz(self) -> int | None: ...

    @property
    def flops(self) -> float | None: ...


class BudgetController:
    """Finds the weight at which what is measured meets `budget`: nnz, flops, or whichever of both is harder to meet.

    The aim starts at what the first step measures and falls by an equal factor a step, until after `ramp` steps it is
    the budget. With e = log(measured / aim), measured being smoothed over ramp / 60 steps, halved for F since F is like
    nnz squared, for two limits the larger, and kept within +-1/4:

        log base += 30 e / ramp        weight = base · exp(10 e)

    An integral controller in logarithms, since weight and cost both range over decades, with a proportional term that
    damps it: the codes answer a changed weight late. All times are shares of `ramp`, so choose it long against the time
    in which the codes follow the weight: a third of the training is a fair choice, and leaves time to settle.

    weight: to start with, a guess, better too low than too high. The base stays within a factor of a million of it.
    Raises InvalidInput.
    """

    def __init__(self, budget: Limits, *, weight: float, ramp: int) -> None:
        if not (math.isfinite(weight) and weight > 0):
            raise InvalidInput(f"the controller multiplies its weight, so it must start above 0, found {weight!r}")
        if ramp < 1:
            raise InvalidInput(f"the aim must fall over a ramp of at least 1 step, found {ramp!r}")
        self._budget, self._guess, self._ramp = budget, weight, ramp
        self._state = {"seen": 0.0, "nnz": 0.0, "flops": 0.0, "first_excess": 0.0, "error": 0.0, "log_factor": 0.0}

    def __repr__(self) -> str:
        return f"BudgetController({self._budget!r}, weight={self._guess!r}, ramp={self._ramp!r})"

    def weight(self, step: int) -> float:  # noqa: ARG002  what was seen decides, not the number of the step
        return self._guess * math.exp(self._state["log_factor"] + 10 * self._state["error"])

    def saw(self, nnz: float, flops: float) -> None:
        """Mean non-zeros a row and F of one step; raises InvalidInput for a number that cannot be either.

        F counted within one small batch is too high by about nnz / b, as every row has all its non-zeros in common with
        itself: give it without that bias, or from shares smoothed over many batches.
        """
        state = self._state
        share = 1.0 if not state["seen"] else min(1.0, 60 / self._ramp)
        state["nnz"] += share * (_counted(nnz) - state["nnz"])
        state["flops"] += share * (_counted(flops) - state["flops"])
        excess = self._excess(state["nnz"], state["flops"])
        if not state["seen"]:
            state["first_excess"] = max(0.0, excess)
        state["seen"] += 1
        remaining = max(0.0, 1 - state["seen"] / self._ramp)
        state["error"] = _within(excess - remaining * state["first_excess"], 0.25)
        state["log_factor"] = _within(state["log_factor"] + 30 * state["error"] / self._ramp, math.log(1e6))

    def _excess(self, nnz: float, flops: float) -> float:
        """log(nnz / budget) or log(flops / budget) / 2, since F is like nnz squared; the larger for two limits."""
        measured = [(nnz, self._budget.nnz, 1.0), (flops, self._budget.flops, 0.5)]
        return max(power * math.log(max(n, 1e-12) / limit) for n, limit, power in measured if limit is not None)

    def state_dict(self) -> dict[str, float]:
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        _expect(state, set(self._state))
        self._state = {name: float(value) for name, value in state.items()}


def _counted(number: float) -> float:
    if not (math.isfinite(number) and number >= 0):
        raise InvalidInput(f"nnz and flops must be finite and at least 0, found {number!r}: has the loss turned NaN?")
    return number


def _within(number: float, bound: float) -> float:
    return min(max(number, -bound), bound)


def _expect(state: Mapping[str, float], names: set[str]) -> None:
    if set(state) != names:
        raise InvalidInput(
            f"the state of this schedule has {sorted(names) or 'nothing'}, found {sorted(state)}: "
            "it belongs to a schedule of another kind; load it into that one"
        )
