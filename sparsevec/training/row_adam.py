"""`RowAdam`: Adam for a table of rows of which a step touches few, at the price of those few.

Adam (Kingma and Ba, ICLR 2015) moves every row at every step: one that has no gradient by what is left of its momentum.
For a table with a row for each document that costs more than the gradient itself. Here a row is moved by all that it
missed when it is next asked for: after a step that left it moments m and v, the steps without a gradient are
rate m r^j / sqrt(v), j = 1, 2, …, with r = beta1 / sqrt(beta2), whose sum is known. It differs from Adam's only by the
change of the rate, and of the bias corrections, in the few steps that a momentum lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RowAdam"]

_MOMENTS = ("exp_avg", "exp_avg_sq")  # as Adam names them
_ROWS = 2**16  # moved at a time, when all are


class RowAdam(torch.optim.Adam):
    """Adam; of parameters (n, …) whose gradient is sparse (`embedding(…, sparse=True)`), rows are moved when needed.

    Before rows are read, `catch_up` with their numbers; after the last step, with none. Parameters with dense gradients
    are moved as Adam moves them. Weight decay, amsgrad and closures are not for sparse gradients.
    """

    @torch.no_grad()
    def catch_up(self, parameter: nn.Parameter, rows: Tensor | None = None) -> None:
        """Make the moves that these rows (m,), each once, have missed; None: all rows."""
        state = self.state[parameter]
        if "moved" not in state:  # no step yet, or one with a dense gradient: none was missed
            return
        betas = next(g["betas"] for g in self.param_groups if any(p is parameter for p in g["params"]))
        every = torch.arange(len(parameter), device=parameter.device) if rows is None else rows
        for some in every.split(_ROWS):  # type: ignore[no-untyped-call]
            self._caught_up(parameter, some, betas)

    def _caught_up(self, parameter: nn.Parameter, rows: Tensor, betas: tuple[float, float]) -> None:
        state, r = self.state[parameter], betas[0] / math.sqrt(betas[1])
        missed = state["step"] - state["moved"].index_select(0, rows)
        if not missed.any():
            return
        first, second = (state[name].index_select(0, rows) for name in _MOMENTS)
        distance = state["rate"].index_select(0, rows) * (r - r ** (missed + 1)) / (1 - r)
        _move(parameter, rows, _direction(first, second).mul_(_beside(distance, first)))
        for name, moment, beta in zip(_MOMENTS, (first, second), betas, strict=True):
            state[name].index_copy_(0, rows, moment.mul_(_beside(beta**missed, moment)))
        state["moved"].index_fill_(0, rows, float(state["step"]))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_rows(parameter, parameter.grad.coalesce(), group)
                    parameter.grad = None  # Adam has no part in it
        return super().step(closure)  # type: ignore[no-any-return]

    def _step_rows(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state |= {name: torch.zeros_like(parameter) for name in _MOMENTS}
            state |= {name: parameter.new_zeros(len(parameter)) for name in ("moved", "rate")}
            state["step"] = torch.zeros((), dtype=torch.float32)
        rows, of_rows = gradient.indices()[0], gradient.values()
        self.catch_up(parameter, rows)
        step = float(state["step"]) + 1
        rate = float(group["lr"]) * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        first, second = (state[name].index_select(0, rows) for name in _MOMENTS)
        first.lerp_(of_rows, 1 - beta1)
        second.mul_(beta2).addcmul_(of_rows, of_rows, value=1 - beta2)
        _move(parameter, rows, _direction(first, second).mul_(rate))
        for name, moved in zip(_MOMENTS, (first, second), strict=True):
            state[name].index_copy_(0, rows, moved)
        for name, number in (("moved", step), ("rate", rate)):
            state[name].index_fill_(0, rows, number)
        state["step"].fill_(step)


def _move(parameter: Tensor, rows: Tensor, distance: Tensor) -> None:
    """By minus the distance: `index_add_` is several times slower."""
    parameter.index_copy_(0, rows, parameter.index_select(0, rows).sub_(distance))


def _beside(numbers: Tensor, rows: Tensor) -> Tensor:
    """(m,) as (m, 1, …), to multiply rows (m, …) with."""
    return numbers.view(-1, *[1] * (rows.dim() - 1))


def _direction(first: Tensor, second: Tensor) -> Tensor:
    length = second.sqrt().add_(1e-8)
    return torch.div(first, length, out=length)
