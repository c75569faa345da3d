"""The weight of a regulariser over the steps of a training: fixed, rising, or found so that a budget is met.

A loop asks `weight(step)` before a step and calls `saw(seen)` after it; it needs to know nothing else. A weight that is
large from the start kills dimensions before they mean anything, so two of ours begin gently: Paria et al. (ICLR 2020)
raise the weight, `BudgetController` lowers what it aims at. `Evenness` is for codes whose nnz is fixed from the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sparsevec.contract.checks import is_positive
from sparsevec.errors import InvalidInput
from sparsevec.measure.cost import r_sub
from sparsevec.training.codes import Shares
from sparsevec.training.settings import check_real, check_whole

__all__ = ["BudgetController", "Evenness", "Limits", "Ramp", "Schedule", "Seen", "constant", "quadratic_ramp"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the codes of one step measured."""

    nnz: float
    """mean non-zeros a row, of the side that the weight is for"""
    flops: float
    """F: non-zeros that a pair has in common"""
    documents: Shares | None = None
    """(dimension,) the share of documents that use each dimension"""
    queries: Shares | None = None
    """of queries; of documents again, where there are none"""


@runtime_checkable
class Schedule(Protocol):
    """What a training loop asks of a weight. Its `repr` states the settings and nothing of the state."""

    def weight(self, step: int) -> float:
        """For the step of that number, counted from 0."""

    def saw(self, seen: Seen) -> None:
        """Called once after each step."""

    def state_dict(self) -> Mapping[str, Any]:
        """All that `saw` has changed: a schedule with the same settings that loads it goes on exactly from here."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises InvalidInput when `state` is not that of such a schedule."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """full · min(1, step / steps)^2; with steps = 0 it is `full` from the start. Raises InvalidInput."""

    full: float
    steps: int

    def __post_init__(self) -> None:
        expected = "the weight of a regularizer must be a finite number of at least 0"
        check_real(expected, self.full, lambda real: real >= 0)
        check_whole("a ramp must take a number of steps of at least 0", self.steps, 0)

    def weight(self, step: int) -> float:
        return self.full * min(1.0, step / self.steps) ** 2 if self.steps else self.full

    def saw(self, seen: Seen) -> None:
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


_STARTS = "the controller multiplies its weight, so it must start above 0"


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
        check_real(_STARTS, weight, is_positive)
        check_whole("the aim must fall over a ramp of at least 1 step", ramp, 1)
        limits = [getattr(budget, name, None) for name in ("nnz", "flops")]
        if limits == [None, None]:
            raise InvalidInput(f"the controller needs a budget with nnz, flops or both, found {budget!r:.80}")
        for limit in limits:
            check_real("the limits of a budget must be above 0", limit if limit is not None else 1, is_positive)
        self._budget, self._guess, self._ramp = budget, weight, ramp
        self._state = {"seen": 0.0, "nnz": 0.0, "flops": 0.0, "first_excess": 0.0, "error": 0.0, "log_factor": 0.0}

    def __repr__(self) -> str:
        return f"BudgetController({self._budget!r}, weight={self._guess!r}, ramp={self._ramp!r})"

    def weight(self, step: int) -> float:  # noqa: ARG002  what was seen decides, not the number of the step
        return self._guess * math.exp(self._state["log_factor"] + 10 * self._state["error"])

    def saw(self, seen: Seen) -> None:
        """Raises InvalidInput for an nnz or an F that cannot be one.

        F counted within one small batch is too high by about nnz / b, as every row has all its non-zeros in common with
        itself: give it without that bias, or from shares smoothed over many batches.
        """
        state = self._state
        share = 1.0 if not state["seen"] else min(1.0, 60 / self._ramp)
        state["nnz"] += share * (_counted(seen.nnz) - state["nnz"])
        state["flops"] += share * (_counted(seen.flops) - state["flops"])
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


class Evenness:
    """Raises the weight while the dimensions are used less evenly than R_sub = `spread`, and lowers it otherwise.

    R_sub is that of shares smoothed over about 1 / `smoothing` steps, so that what a query and its own neighbours have
    in common within one batch is averaged out. After each step

        weight *= (R_sub / spread)^gain,   kept within [least, most]

    For codes that keep the k largest of a row: their nnz is given, and the regulariser's one task is to spread them.
    Raises InvalidInput.
    """

    def __init__(
        self,
        spread: float,
        *,
        weight: float,
        smoothing: float = 0.03,
        gain: float = 0.02,
        least: float = 1.0,
        most: float = 300.0,
    ) -> None:
        check_real("the R_sub to aim at must be above 0", spread, is_positive, "; 1 is even")
        for bound in (least, most):
            check_real("the weight must stay within positive bounds", bound, is_positive)
        if least > most:
            raise InvalidInput(f"the weight must stay within positive bounds, found [{least!r}, {most!r}]")
        check_real(_STARTS, weight, is_positive)
        check_real("expected smoothing in (0, 1]", smoothing, lambda real: 0 < real <= 1)
        check_real("expected gain from 0", gain, lambda real: real >= 0)
        self._spread, self._smoothing, self._gain, self._bounds = spread, smoothing, gain, (least, most)
        self._began, self._weight = weight, weight
        self._queries: Shares | None = None
        self._documents: Shares | None = None

    def __repr__(self) -> str:
        settings = f"smoothing={self._smoothing!r}, gain={self._gain!r}, least={self._bounds[0]!r}"
        return f"Evenness({self._spread!r}, weight={self._began!r}, {settings}, most={self._bounds[1]!r})"

    def weight(self, step: int) -> float:  # noqa: ARG002  what was seen decides, not the number of the step
        return self._weight

    def saw(self, seen: Seen) -> None:
        """Raises InvalidInput for a step that does not say which dimensions were used."""
        if seen.documents is None or seen.queries is None:
            raise InvalidInput("Evenness needs the shares of documents and queries that use each dimension, found none")
        self._documents = self._smoothed(self._documents, seen.documents)
        self._queries = self._smoothed(self._queries, seen.queries)
        nnz, query_nnz = float(self._documents.sum()), float(self._queries.sum())
        found = r_sub(float(self._queries @ self._documents), nnz, query_nnz, len(self._documents))
        if math.isfinite(found):
            least, most = self._bounds
            self._weight = min(max(self._weight * (found / self._spread) ** self._gain, least), most)

    def _smoothed(self, before: Shares | None, now: Shares) -> Shares:
        return now if before is None else (1 - self._smoothing) * before + self._smoothing * now

    def state_dict(self) -> dict[str, Any]:
        shares = {"documents": self._documents, "queries": self._queries}
        return {"weight": self._weight} | {n: None if s is None else s.tolist() for n, s in shares.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        _expect(state, {"weight", "documents", "queries"})
        self._weight = float(state["weight"])
        self._documents, self._queries = (
            None if state[name] is None else np.array(state[name]) for name in ("documents", "queries")
        )


def _counted(number: float) -> float:
    if not (math.isfinite(number) and number >= 0):
        raise InvalidInput(f"nnz and flops must be finite and at least 0, found {number!r}: has the loss turned NaN?")
    return number


def _within(number: float, bound: float) -> float:
    return min(max(number, -bound), bound)


def _expect(state: Mapping[str, Any], names: set[str]) -> None:
    if set(state) != names:
        raise InvalidInput(
            f"the state of this schedule has {sorted(names) or 'nothing'}, found {sorted(state)}: "
            "it belongs to a schedule of another kind; load it into that one"
        )
