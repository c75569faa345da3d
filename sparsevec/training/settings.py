"""Numbers that a caller sets, checked where they enter."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from sparsevec.contract.checks import as_real
from sparsevec.errors import InvalidInput

__all__ = ["check_real", "check_whole"]


def check_real(expected: str, number: object, holds: Callable[[float], bool] = math.isfinite, hint: str = "") -> None:
    """Raises InvalidInput for what is no finite number, or one that does not hold. A tensor () is one: it may learn."""
    real = as_real(number.item() if isinstance(number, Tensor) and number.ndim == 0 else number)
    if real is None or not math.isfinite(real) or not holds(real):
        raise InvalidInput(f"{expected}, found {number!r:.80}{hint}")


def check_whole(expected: str, number: object, least: int) -> None:
    """Raises InvalidInput for what is no whole number of at least `least`."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or not least <= number < 2**63:
        raise InvalidInput(f"{expected}, found {number!r:.80}")
