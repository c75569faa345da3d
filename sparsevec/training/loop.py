"""`train`: a backbone and a sparse head learn together, to a loss of yours plus the cost of searching their codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from sparsevec.errors import InvalidInput, TrainingCollapsed
from sparsevec.training.regularizers import flops
from sparsevec.training.schedules import Schedule

__all__ = ["Objective", "Plan", "TrainStep", "train"]

Batch = TypeVar("Batch")


class Objective(NamedTuple):
    """What the caller's forward makes of a batch."""

    loss: Tensor
    """() the mean over the batch, without any regulariser"""
    documents: Tensor
    """(b, dimension) activations, of unit length"""
    queries: Tensor | None = None
    """(q, dimension), where queries are another thing than documents"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train. Raises InvalidInput."""

    steps: int
    document_regularizer_weight: Schedule
    query_regularizer_weight: Schedule | None = None
    regularizer: Callable[[Tensor], Tensor] = flops
    clip: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainStep:
    """One step, in plain numbers."""

    step: int
    """1 .. steps"""
    steps: int
    loss: float
    """of the objective, without the regularisers"""
    regularizer: float
    """of the documents, without its weight"""
    query_regularizer: float
    document_weight: float
    query_weight: float
    nnz: float
    """mean weights of a document in the batch"""
    query_nnz: float
    """of a query; of a document, where queries are none"""
    flops: float
    """F of the batch: of its queries against its documents, or of two different documents"""
    spread: float
    """R_sub = F / (nnz query_nnz / dimension): 1 is even"""


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    objective: Callable[[Batch], Objective],
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    *,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> Iterator[TrainStep]:
    """Train `model` in place, a step at a time."""
    stream = _endless(batches)
    for step in range(plan.steps):
        loss, documents, queries = objective(next(stream))
        weights = plan.document_regularizer_weight.weight(step), _weight(plan.query_regularizer_weight, step)
        costs = plan.regularizer(documents), loss.new_zeros(()) if queries is None else plan.regularizer(queries)
        total = loss + weights[0] * costs[0] + weights[1] * costs[1]
        if not math.isfinite(total.item()):
            raise TrainingCollapsed(f"stopped at step {step + 1} of {plan.steps}: the loss is {total.item()}")
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        if plan.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        nnz, query_nnz, f, spread = _measured(documents.detach(), None if queries is None else queries.detach())
        plan.document_regularizer_weight.saw(nnz, f)
        if plan.query_regularizer_weight is not None:
            plan.query_regularizer_weight.saw(query_nnz, f)
        of_documents, of_queries = (cost.item() for cost in costs)
        yield TrainStep(
            step + 1, plan.steps, loss.item(), of_documents, of_queries, *weights, nnz, query_nnz, f, spread
        )


def _endless(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        n = 0
        for n, batch in enumerate(batches, 1):  # noqa: B007
            yield batch
        if not n:
            raise InvalidInput("the batches have come to an end")


def _weight(schedule: Schedule | None, step: int) -> float:
    return 0.0 if schedule is None else schedule.weight(step)


def _measured(documents: Tensor, queries: Tensor | None) -> tuple[float, float, float, float]:
    b, dimension = documents.shape
    counts = (documents != 0).sum(dim=0).double()
    asked, q = (counts, b) if queries is None else ((queries != 0).sum(dim=0).double(), len(queries))
    nnz, query_nnz = counts.sum().item() / b, asked.sum().item() / q
    pairs = counts * (counts - 1) / (b * (b - 1)) if queries is None else asked * counts / (q * b)
    f = pairs.sum().item()
    least = nnz * query_nnz / dimension
    return nnz, query_nnz, f, f / least if least else 1.0
