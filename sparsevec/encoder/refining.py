"""Stage 2: fit the weights of one corpus, and a query tower to them.

Documents keep the dimensions that the head chose and their weights become free parameters; queries get a copy of the
head that moves. Each query is asked to rank its nearest documents, and random ones beside them, as the dense vectors
do. Documents that come later are still encoded by the head, on the same scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sparsevec.encoder.activations import linear_top_k
from sparsevec.encoder.collapse import diagnosis
from sparsevec.encoder.losses import listwise_kl
from sparsevec.encoder.neighbours import nearest
from sparsevec.encoder.noise import noisy
from sparsevec.encoder.recipe import RefineRecipe, Step
from sparsevec.encoder.training import Pool
from sparsevec.errors import TrainingCollapsed

__all__ = ["Codes", "QueryTower", "refine"]


@dataclass(slots=True)
class Codes:
    """Free document weights on fixed dimensions; a negative one counts as zero."""

    weights: Tensor  # (n, k)
    indices: Tensor  # (n, k) int64


@dataclass(slots=True)
class QueryTower:
    """Queries are the `longest` largest activations (row - mean) @ weights.T + bias, of unit length."""

    mean: Tensor
    weights: Tensor  # (dimension, input_dim)
    bias: Tensor
    log_scale: Tensor
    longest: int

    @property
    def parameters(self) -> list[Tensor]:
        return [self.weights, self.bias]


def refine(
    codes: Codes, tower: QueryTower, pool: Pool, recipe: RefineRecipe, generator: torch.Generator
) -> Iterator[Step]:
    """Move `codes` and `tower` in place; raises TrainingCollapsed when the loss is no number."""
    moving = [codes.weights, *tower.parameters, tower.log_scale]
    for parameter in moving:
        parameter.requires_grad_()
    groups = [
        {"params": [codes.weights], "lr": recipe.document_rate},
        {"params": tower.parameters, "lr": recipe.query_rate},
        {"params": [tower.log_scale], "lr": recipe.scale_rate},
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
    an_epoch = math.ceil((1 + recipe.copies) * len(pool.queries) / recipe.batch)
    epochs = max(recipe.epochs, math.ceil(recipe.least_steps / an_epoch))
    steps = epochs * an_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    step = 0
    for _ in range(epochs):
        queries, neighbours = _epoch(pool, recipe, generator)
        for rows in torch.randperm(len(queries), generator=generator).split(recipe.batch):  # type: ignore[no-untyped-call]
            step += 1
            loss = _loss(codes, tower, pool.documents, queries[rows], neighbours[rows], recipe, generator)
            if not math.isfinite(loss.item()):
                fault = diagnosis(loss.item(), np.ones(len(tower.bias)), 1)
                raise TrainingCollapsed(f"refining stopped at step {step} of {steps}: {fault}")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            yield Step("refine", step, steps, loss.item(), codes.weights.shape[1], math.nan, math.nan, 0.0)


def _epoch(pool: Pool, recipe: RefineRecipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The queries and noisy copies of them: rows, and the nearest documents of each."""
    m = pool.query_neighbours.shape[1]
    copies = [noisy(pool.queries, generator) for _ in range(recipe.copies)]
    neighbours = [pool.query_neighbours, *(nearest(copy, pool.documents, m) for copy in copies)]
    return torch.cat([pool.queries, *copies]), torch.cat(neighbours)


def _loss(
    codes: Codes, tower: QueryTower, documents: Tensor, queries: Tensor, near: Tensor, recipe: RefineRecipe,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    strangers = torch.randint(len(documents), (len(queries), min(recipe.random, len(documents))), generator=generator)
    candidates = torch.cat([near.long(), strangers], dim=1)  # (b, m)
    raw, indices = linear_top_k(queries - tower.mean, tower.weights, tower.bias, tower.longest)
    scores = candidate_scores(F.normalize(raw, dim=1), indices, codes, candidates, len(tower.bias))
    rows = documents.index_select(0, candidates.reshape(-1)).view(*candidates.shape, -1)
    teacher = torch.bmm(rows, queries[:, :, None]).squeeze(2) / recipe.temperature
    return listwise_kl(teacher, scores * tower.log_scale.exp()).mean()


def candidate_scores(values: Tensor, indices: Tensor, codes: Codes, candidates: Tensor, dimension: int) -> Tensor:
    """Dot products of sparse queries (values, indices (b, k)) with the codes of their `candidates` (b, m): (b, m)."""
    arguments = (values, indices, codes.weights, codes.indices, candidates, dimension)
    return cast("Tensor", _CandidateScores.apply(*arguments))


class _CandidateScores(torch.autograd.Function):
    """By hand, because autograd would keep a dense (b, dimension) gradient for every step in between."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        indices: Tensor,
        weights: Tensor,
        dimensions: Tensor,
        candidates: Tensor,
        dimension: int,
    ) -> Tensor:
        b, m = candidates.shape
        k = weights.shape[1]
        flat = candidates.reshape(-1)
        met = dimensions.index_select(0, flat).view(b, m * k)
        strength = weights.index_select(0, flat).view(b, m * k)
        query = torch.zeros(b, dimension).scatter_(1, indices, values).gather(1, met)
        ctx.save_for_backward(indices, met, strength, query, flat)
        ctx.shape = (b, m, k, dimension, len(weights))
        return (query * strength.clamp_min(0)).view(b, m, k).sum(dim=2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None, None, None]:
        indices, met, strength, query, flat = ctx.saved_tensors
        b, m, k, dimension, n = ctx.shape
        spread = gradients[0].reshape(b, m, 1).expand(b, m, k).reshape(b, m * k) * (strength > 0)
        of_weights = torch.zeros(n, k).index_add_(0, flat, (spread * query).view(b * m, k))
        of_query = torch.zeros(b, dimension).scatter_add_(1, met, spread * strength)
        return of_query.gather(1, indices), None, of_weights, None, None, None
