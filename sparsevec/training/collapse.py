"""Degenerate codes, named early: all zero, all dense, few dimensions doing everything, a loss that is no number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsevec.errors import InvalidInput

__all__ = ["Watch", "diagnosis"]

_AT_FIRST = 20  # steps in which nothing is judged


def diagnosis(loss: float, usage: npt.NDArray[np.floating], expected: float) -> str | None:
    """What is wrong, or None.

    usage (dimension,): share of recent documents that use each dimension. expected: the nnz that was asked for.
    """
    dimension, nnz = len(usage), float(usage.sum())
    if not math.isfinite(loss):
        return f"the loss is {loss}: the weights have left the range of float32"
    if nnz < 0.05 * expected:
        return f"all zero: a document keeps {nnz:.2f} weights of {expected:g} asked for"
    if nnz > max(0.5 * dimension, 2 * expected):
        return f"all dense: a document keeps {nnz:.0f} of {dimension} weights, {expected:g} were asked for"
    even = _even(usage)
    if even < min(0.1 * dimension, 4 * expected):
        return f"few dimensions do everything: the documents use them as if there were {even:.0f} of {dimension}"
    return None


def _even(usage: npt.NDArray[np.floating]) -> float:
    """As many dimensions, evenly used, would give the same concentration."""
    return float(usage.sum()) ** 2 / float(np.square(usage).sum())


class Watch:
    """Sees how each step's documents use the dimensions, and says when training is lost.

    Sparse training begins dense and, before the backbone has learned anything, with codes that are alike. So only codes
    that are all zero, from which no gradient leads back, are a fault at any time. From the step `settled` on it is one
    too that every document has the same dimensions, and, where `expected` states the nnz to end with, what `diagnosis`
    says. Without it, dense or concentrated codes are a result: the steps show them as nnz and spread.
    """

    def __init__(self, expected: float | None, settled: int) -> None:
        self._expected, self._settled = expected, settled
        self._usage: npt.NDArray[np.float64] | None = None

    def saw(self, usage: npt.NDArray[np.float64]) -> None:
        """Shares (dimension,) of one batch; smoothed over the last 10 or so. InvalidInput for another dimension."""
        if self._usage is None:
            self._usage = usage
        if len(usage) != len(self._usage):
            raise InvalidInput(f"the activations had dimension {len(self._usage)}, now they have {len(usage)}")
        self._usage = 0.9 * self._usage + 0.1 * usage

    def fault(self, step: int) -> str | None:
        """What is wrong with the codes after `step` steps, and what to do; or None."""
        if step < min(_AT_FIRST, self._settled) or self._usage is None:
            return None
        nnz, dimension = float(self._usage.sum()), len(self._usage)
        if nnz < 0.05 * (self._expected or 1):
            return f"all zero: a document keeps {nnz:.2f} weights; lower the regularizer's weight, or let it rise later"
        if step < self._settled:
            return None
        if self._expected is not None:
            return diagnosis(0.0, self._usage, self._expected)
        if nnz < 0.25 * dimension and _even(self._usage) < 1.25 * nnz:
            return (
                f"few dimensions do everything: every document has the same {nnz:.0f} of {dimension}; lower the "
                "learning rate, or let the regularizer's weight rise later"
            )
        return None

    def state_dict(self) -> dict[str, list[float] | None]:
        return {"usage": None if self._usage is None else self._usage.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._usage = None if state["usage"] is None else np.array(state["usage"])
