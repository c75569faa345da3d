"""Several processes that train one model: what they exchange. With one process, nothing.

The step is that of one process with the joined batch: the loss is the mean over the processes, the regulariser sees the
activations of all of them. Let L = mean_r L_r be what is to fall, where each L_r may depend on the activations of every
process. `gather` hands the gradients of all L_r back to the process that made the activations; it then holds the
gradient of sum_r L_r by its own activations, and the mean of these over the processes is the gradient of L. A
regulariser on gathered activations has the same value in every process, so it is counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparsevec.errors import InvalidInput, SparsevecError

__all__ = ["average_gradients", "begin_equal", "by_first", "each", "gather", "mean", "place", "processes"]

Found = TypeVar("Found")


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def place() -> int:
    """Of this process among all, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def gather(rows: Tensor) -> Tensor:
    """Of all processes, in their order: (b, …) -> (processes · b, …), with gradients for each of them.

    For in-batch negatives over all processes: `info_nce(gather(queries), gather(documents), …)`, or labels beside their
    codes. Every process must call it; raises InvalidInput in all of them unless they bring the same shape.
    """
    if processes() == 1:
        return rows
    shape = torch.tensor([*rows.shape, *[-1] * 8][:8], device=rows.device)
    shapes = [torch.empty_like(shape) for _ in range(processes())]
    dist.all_gather(shapes, shape)
    if any(not torch.equal(shapes[0], other) for other in shapes):
        found = ", ".join(str(tuple(other[other >= 0].tolist())) for other in shapes)
        raise InvalidInput(
            f"every process must bring a batch of the same shape, found {found}; drop a last short batch"
        )
    together: Tensor = _Gather.apply(rows)
    return together


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        context.b = len(rows)
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(processes())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[place() * context.b :][: context.b]


def begin_equal(model: nn.Module) -> None:
    """Give every process the weights and buffers of the first."""
    if processes() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the processes; a process that has none counts as zeros."""
    if processes() == 1:
        return
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([float(parameter.grad is not None) for parameter in learned], device=learned[0].device)
    dist.all_reduce(used)
    for parameter, count in zip(learned, used.tolist(), strict=True):
        if count and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])  # one message, not one for each parameter
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, torch.split(flat / processes(), [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def mean(number: Tensor) -> Tensor:
    """() over the processes, without gradient."""
    total = number.detach().clone()
    if processes() > 1:
        dist.all_reduce(total)
    return total / processes()


def each(found: Found) -> list[Found]:
    """What every process has found, in their order, in all of them."""
    if processes() == 1:
        return [found]
    all_found: list[Any] = [None] * processes()
    dist.all_gather_object(all_found, found)
    return all_found


def by_first(act: Callable[[], Found]) -> Found:
    """What `act` returns, or raises, in the first process; the others wait for it and get the same."""
    if processes() == 1:
        return act()
    outcome: list[Any] = [None, None]
    if place() == 0:
        try:
            outcome[0] = act()
        except SparsevecError as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    found: Found = outcome[0]
    return found
