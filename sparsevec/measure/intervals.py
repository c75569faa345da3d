"""How sure a mean over queries is: 95 % intervals by the bootstrap, the same for the same numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparsevec.contract.checks import as_floats, check_seed
from sparsevec.errors import InvalidInput

__all__ = ["Interval", "interval", "paired_interval"]

_EXPECTED = "an interval needs one finite number for each query"
_RESAMPLES = 1000  # the ends then move by about a tenth of the interval's half from one seed to another
_DRAWN = 2**15  # numbers held at a time


class Interval(NamedTuple):
    """Of a mean, 95 %."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f}-{self.high:.3f}"


def interval(values: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """Where the mean of `values` (q,), one number a query, would lie for other queries of the same kind.

    Percentile bootstrap (Efron, 1979): queries are drawn again with replacement, a thousand times. Raises InvalidInput.
    """
    found = as_floats(_EXPECTED, values)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise InvalidInput(f"{_EXPECTED}, found shape {found.shape}")
    generator = np.random.default_rng(check_seed(seed))
    at_once = max(1, _DRAWN // len(found))
    sizes = [min(at_once, _RESAMPLES - done) for done in range(0, _RESAMPLES, at_once)]
    drawn = (found[generator.integers(len(found), size=(size, len(found)))] for size in sizes)
    low, high = np.quantile(np.concatenate([rows.mean(axis=1) for rows in drawn]), [0.025, 0.975]).tolist()
    return Interval(low, high)


def paired_interval(ours: npt.ArrayLike, theirs: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """Of the mean of ours - theirs, both (q,) and of the same queries in the same order.

    "No worse" is said where the high end is at least 0; "better" where the low end is above 0. Raises InvalidInput.
    """
    pair = as_floats(_EXPECTED, ours), as_floats(_EXPECTED, theirs)
    if pair[0].shape != pair[1].shape:
        raise InvalidInput(
            f"a paired interval compares the same queries, found {pair[0].shape} and {pair[1].shape} numbers"
        )
    return interval(pair[0] - pair[1], seed=seed)
