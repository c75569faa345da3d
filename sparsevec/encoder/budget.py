"""What a search may cost, as the user states it, and the cut that makes it true.

`nnz` is the mean number of weights of a document, `flops` is F = sum_j p^q_j p^d_j, the expected multiplications of one
query-document pair. Whichever is missing follows from the other: a query meets one document weight in fifty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np

from sparsevec.contract.checks import is_positive
from sparsevec.errors import InvalidInput, described

__all__ = ["NNZ_PER_FLOP", "Budget", "Engine", "Limits", "check_budget", "least_cut", "resolved"]

NNZ_PER_FLOP = 50
_MOST = 2**31


class Engine(Protocol):
    """Whoever knows how long a query takes: `sparsevec.LatencyModel`."""

    def longest_query(self, milliseconds: float, nnz: int, dimension: int, flops: float) -> int:
        """How many weights a query may have. Raises InvalidInput when not even one, naming what can be met."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Budget:
    """`nnz` weights a document, `flops` multiplications a pair, or both; all that are given hold. Raises InvalidInput.

    `query_nnz`, at most so many weights a query: the lists that a search opens, which is what it costs while a shard is
    small.

    `residual_bytes` beside the sparse vector of each document say what it leaves out (`SparseEncoder.residual_codes`).

    `milliseconds` of a query on `engine`, as its latency model predicts them: queries are as short as that needs.
    """

    nnz: int | None = None
    flops: float | None = None
    query_nnz: int | None = None
    residual_bytes: int | None = None
    milliseconds: float | None = None
    engine: Engine | None = None

    def __repr__(self) -> str:
        given = ((one.name, getattr(self, one.name)) for one in fields(self))
        return f"Budget({', '.join(f'{name}={value!r}' for name, value in given if value is not None)})"

    def __post_init__(self) -> None:
        if self.nnz is None and self.flops is None:
            raise InvalidInput("a budget needs nnz, flops or both, found neither; try Budget(nnz=32)")
        for name, weights in (("nnz", self.nnz), ("query_nnz", self.query_nnz)):
            if weights is not None and (isinstance(weights, bool) or not isinstance(weights, int | np.integer)):
                raise InvalidInput(f"budget {name} must be a whole number of weights, found {weights!r}")
            if weights is not None and weights < 1:
                raise InvalidInput(f"budget {name} must be at least 1, found {weights}")
        for name in ("nnz", "query_nnz", "residual_bytes"):
            number = getattr(self, name)
            if isinstance(number, int | np.integer) and number >= _MOST:
                raise InvalidInput(f"budget {name} must be below 2**31, found one of {int(number).bit_length()} bits")
        width = self.residual_bytes
        if width is not None and (isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 8):
            raise InvalidInput(f"budget residual_bytes must be a whole number of at least 8 bytes, found {width!r}")
        if self.flops is not None and not is_positive(self.flops):
            found = described(self.flops)
            raise InvalidInput(f"budget flops must be a positive number of multiplications, found {found}")
        if self.milliseconds is not None and not is_positive(self.milliseconds):
            raise InvalidInput(f"budget milliseconds must be a positive number, found {described(self.milliseconds)}")
        knows = callable(getattr(self.engine, "longest_query", None))
        if (self.milliseconds is None) != (self.engine is None) or (self.engine is not None and not knows):
            raise InvalidInput(
                "budget milliseconds are those of an engine, found "
                f"milliseconds={self.milliseconds!r} and engine={self.engine!r:.60}; give both, the engine as its "
                "latency model: sv.latency_model(adapter, documents), or --engine with what `latency --json` printed"
            )


def check_budget(budget: object) -> Budget:
    """Raises InvalidInput for anything but a Budget."""
    if isinstance(budget, Budget):
        return budget
    if isinstance(budget, dict):
        hint = "budget=Budget(**your_dict)"
    elif isinstance(budget, int) and not isinstance(budget, bool) and budget >= 1:
        hint = f"budget=Budget(nnz={budget})"
    else:
        hint = "budget=Budget(nnz=32)"
    raise InvalidInput(f"budget must be a sparsevec.Budget, found {type(budget).__name__} {budget!r:.60}; try {hint}")


class Limits(NamedTuple):
    """What holds, in full."""

    nnz: int
    """of a document, in the mean"""
    flops: float
    """multiplications of a pair, in the mean"""
    query_nnz: int | None
    """of a query, at most; None leaves it to `flops`"""


def resolved(budget: Budget, output_dim: int) -> Limits:
    """`budget` with what it leaves open filled in; raises InvalidInput when `output_dim` cannot meet it.

    Only nnz: F = nnz / 50, but no less than a query as long as a document costs when the dimensions are used evenly,
    nor than one of two weights.
    Only flops: nnz = 50 F, but no more than half of what lets a query be as long as a document.
    """
    if budget.nnz is not None:
        nnz = _sparse(int(budget.nnz), output_dim, "nnz")
        flops = budget.flops or max(nnz / NNZ_PER_FLOP, 1.5 * nnz**2 / output_dim, 2 * nnz / output_dim)
    else:
        flops = float(budget.flops or 0)
        if flops > output_dim:
            raise InvalidInput(
                f"budget flops={flops:g} cannot be spent: a pair has no more multiplications than dimensions, "
                f"output_dim={output_dim}; lower it"
            )
        paid = max(1, round(min(NNZ_PER_FLOP * flops, math.sqrt(flops * output_dim / 1.5))))
        nnz = _sparse(paid, output_dim, f"flops={flops:g}, which pays for nnz")
    if flops < (least := 2 * nnz / output_dim):
        raise InvalidInput(
            f"budget flops={flops:g} cannot be met with nnz={nnz} and output_dim={output_dim}: a query of two weights "
            f"already costs {least:g}; lower nnz, raise flops or raise output_dim"
        )
    if budget.query_nnz is not None and budget.query_nnz > output_dim:
        raise InvalidInput(f"budget query_nnz={budget.query_nnz} must be at most output_dim={output_dim}; lower it")
    if flops > nnz:
        raise InvalidInput(
            f"budget flops={flops:g} cannot be spent with nnz={nnz}: a pair has no more multiplications than the "
            f"document has weights; lower flops to {nnz / NNZ_PER_FLOP:g} or so, or raise nnz"
        )
    limits = Limits(nnz, float(flops), None if budget.query_nnz is None else int(budget.query_nnz))
    return limits if budget.milliseconds is None else _in_time(limits, budget, output_dim)


def _sparse(nnz: int, output_dim: int, said: str) -> int:
    if nnz > output_dim // 4:
        raise InvalidInput(
            f"budget {said}={nnz} is not sparse in output_dim={output_dim}: expected at most a quarter, "
            f"{output_dim // 4}; lower it or raise output_dim"
        )
    return nnz


def _in_time(limits: Limits, budget: Budget, output_dim: int) -> Limits:
    """With queries as short as the time asks for; they cost no more than as many lists of even length."""
    assert budget.engine is not None
    assert budget.milliseconds is not None
    longest = budget.engine.longest_query(budget.milliseconds, limits.nnz, output_dim, limits.flops)
    flops = min(limits.flops, max(2, longest) * limits.nnz / output_dim)
    return Limits(limits.nnz, flops, min(longest, limits.query_nnz or longest))


def least_cut(spent: Callable[[float], float], allowed: float) -> float:
    """The least threshold in [0, 1] at which the falling function `spent` is within `allowed`, to 2**-20."""
    if spent(0.0) <= allowed:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > allowed else (low, middle)
    return high
