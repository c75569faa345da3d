"""Stage 3: the weights of one corpus become free parameters, and the queries' tower is fitted together with them.

Documents keep the dimensions that the head chose. Each query is asked to rank its nearest documents, and random ones
beside them, as the dense vectors do, and to avoid dimensions that many documents use: for the same F its code is then
longer. Documents that come later are still encoded by the head, on the same scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sparsevec.encoder.learning.codes import Codes, column_sums, linear_top_k, shares
from sparsevec.encoder.learning.neighbours import nearest
from sparsevec.encoder.learning.noise import mixed
from sparsevec.encoder.recipe import RefineRecipe, Step
from sparsevec.errors import TrainingCollapsed
from sparsevec.training.collapse import diagnosis
from sparsevec.training.losses import listwise_kl
from sparsevec.training.regularizers import pair_flops

__all__ = ["DocumentCodes", "Queries", "QueryTower", "refine"]


@dataclass(slots=True)
class DocumentCodes:
    """Free document weights on fixed dimensions; a negative one counts as zero."""

    weights: Tensor  # (n, k)
    indices: Tensor  # (n, k) int64


@dataclass(slots=True)
class Queries:
    """Unit rows (q, input_dim), the numbers of their nearest documents (q, m), and the dense products with these."""

    rows: Tensor
    near: Tensor
    similarities: Tensor

    def some(self, numbers: Tensor) -> Queries:
        return Queries(self.rows[numbers], self.near[numbers], self.similarities[numbers])


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
    codes: DocumentCodes,
    tower: QueryTower,
    documents: Tensor,
    sample: Queries,
    own: Queries,
    recipe: RefineRecipe,
    generator: torch.Generator,
) -> Iterator[Step]:
    """Move `codes` and `tower` in place; raises TrainingCollapsed when the codes are degenerate.

    own: documents that ask too, for the others like them. They keep every document's weights in use, and are what keeps
    a small sample from being learned by heart.
    """
    groups: list[dict[str, Any]] = [
        {"params": [codes.weights], "lr": recipe.document_rate},
        {"params": tower.parameters, "lr": recipe.query_rate},
        {"params": [tower.log_scale], "lr": recipe.scale_rate},
    ]
    for parameter in (parameter for group in groups for parameter in group["params"]):
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
    an_epoch = math.ceil(((1 + recipe.copies) * len(sample.rows) + len(own.rows)) / recipe.batch)
    epochs = max(recipe.epochs, math.ceil(recipe.least_steps / an_epoch))
    steps = epochs * an_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    step, dimension = 0, len(tower.bias)
    used = shares(codes.weights, codes.indices, dimension)
    prices = recipe.price * torch.from_numpy(used / used.mean()).float()
    for _ in range(epochs):
        epoch = _epoch(sample, own, documents, recipe, generator)
        order = torch.randperm(len(epoch.rows), generator=generator)
        for rows in order.split(recipe.batch):  # type: ignore[no-untyped-call]
            step += 1
            queries = epoch.some(rows)
            raw, indices = linear_top_k(queries.rows - tower.mean, tower.weights, tower.bias, tower.longest)
            asked = F.normalize(raw, dim=1)
            ranking = _ranking(codes, (asked, indices), tower, documents, queries, recipe, generator)
            loss = ranking + pair_flops(column_sums(asked, indices, dimension) / len(asked), prices)
            if fault := diagnosis(loss.item(), used, float(used.sum())):
                raise TrainingCollapsed(f"refine: stopped at step {step} of {steps}: {fault}")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            shared = shares(raw, indices, dimension)
            flops, least = float(shared @ used), float(shared.sum() * used.sum()) / dimension
            yield Step("refine", step, steps, loss.item(), float(used.sum()), flops, flops / least, recipe.price)


def _epoch(
    sample: Queries, own: Queries, documents: Tensor, recipe: RefineRecipe, generator: torch.Generator
) -> Queries:
    """The documents, the sample, and mixtures of each of its queries with one like it."""
    parts = [own, sample]
    if len(sample.rows):
        alike, _ = nearest(sample.rows, sample.rows, min(11, len(sample.rows)))
        for _ in range(recipe.copies):
            copy = mixed(sample.rows, alike[:, 1:], generator)
            parts.append(Queries(copy, *nearest(copy, documents, sample.near.shape[1])))
    return Queries(*(torch.cat([getattr(part, name) for part in parts]) for name in Queries.__slots__))


def _ranking(
    codes: DocumentCodes,
    asked: Codes,
    tower: QueryTower,
    documents: Tensor,
    queries: Queries,
    recipe: RefineRecipe,
    generator: torch.Generator,
) -> Tensor:
    drawn = torch.randint(len(documents), (recipe.drawn,), generator=generator)
    picks = torch.randint(recipe.drawn, (len(queries.rows), recipe.random), generator=generator)
    candidates = torch.cat([queries.near.long(), drawn[picks]], dim=1)  # (b, m)
    strangers = (queries.rows @ documents[drawn].T).gather(1, picks)
    teacher = torch.cat([queries.similarities, strangers], dim=1) / recipe.temperature
    scores = candidate_scores(asked, codes, candidates, len(tower.bias))
    return listwise_kl(teacher, scores * tower.log_scale.exp()).mean()


def candidate_scores(queries: Codes, documents: DocumentCodes, candidates: Tensor, dimension: int) -> Tensor:
    """Dot products of query codes (b, k) with the codes of their own `candidates` (b, m): (b, m)."""
    arguments = (*queries, documents.weights, documents.indices, candidates, dimension)
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
