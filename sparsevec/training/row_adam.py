"""`RowAdam`: Adam for a table of rows of which a step touches few.

Adam (Kingma and Ba, ICLR 2015) moves every row at every step, one without a gradient by what is left of its momentum.
For a table with a row for each document that costs more than the gradients; and the fewer steps touch a row, the
further each of them moves it, since the second moment fades in between: in a million rows several times as far as in
few. Here only the steps that touch a row count for it, so that it moves alike in a table of any size ("lazy" Adam; as
`torch.optim.SparseAdam`, but the bias corrections count a row's own steps).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RowAdam"]

_MOMENTS = ("exp_avg", "exp_avg_sq")  # as Adam names them


class RowAdam(torch.optim.Adam):
    """Adam; of parameters (n, …) whose gradient is sparse (`embedding(…, sparse=True)`) only the rows that have one are
    moved, each as by an Adam of its own. Weight decay, amsgrad and closures are not for these."""

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
            state["step"] = parameter.new_zeros(len(parameter))  # of each row
        rows, of_rows = gradient.indices()[0], gradient.values()
        steps = state["step"].index_select(0, rows) + 1
        first, second = (state[name].index_select(0, rows) for name in _MOMENTS)
        first.lerp_(of_rows, 1 - beta1)
        second.mul_(beta2).addcmul_(of_rows, of_rows, value=1 - beta2)
        rate = group["lr"] * (1 - beta2**steps).sqrt() / (1 - beta1**steps)
        length = second.sqrt().add_(group["eps"])
        distance = torch.div(first, length, out=length).mul_(rate.view(-1, *[1] * (first.dim() - 1)))
        parameter.index_copy_(0, rows, parameter.index_select(0, rows).sub_(distance))  # `index_add_` takes longer
        for name, moved in (("exp_avg", first), ("exp_avg_sq", second), ("step", steps)):
            state[name].index_copy_(0, rows, moved)
