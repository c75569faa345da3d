"""Degenerate codes, named early: all zero, all dense, few dimensions doing everything, a loss that is no number."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["diagnosis"]


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
    even = nnz**2 / float(np.square(usage).sum())  # as many dimensions, evenly used, would give the same concentration
    if even < min(0.1 * dimension, 4 * expected):
        return f"few dimensions do everything: the documents use them as if there were {even:.0f} of {dimension}"
    return None
