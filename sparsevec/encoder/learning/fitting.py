"""Stages 1 and 2: a linear head for documents and queries, then a tower for each, taught by the dense vectors.

Each step draws documents and queries with some of their nearest documents, encodes them all, and asks three things:
that sparse similarities rank the batch as dense ones do, that a linear decoder can rebuild the dense rows from the
codes (this keeps every dimension meaning something), and that the dimensions are used evenly (the FLOPs regulariser,
with the weight that a controller finds). In stage 1 both sides share one head, and their codes are equally long. In
stage 2 they part, and queries keep more weights than documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sparsevec.encoder.learning.codes import column_sums, dot_products, linear_top_k, shares
from sparsevec.encoder.learning.noise import noisy
from sparsevec.encoder.recipe import HeadRecipe, Step
from sparsevec.errors import TrainingCollapsed
from sparsevec.training.collapse import diagnosis
from sparsevec.training.losses import listwise_kl, relative_error
from sparsevec.training.regularizers import pair_flops

__all__ = ["Evenness", "Head", "Pool", "new_head", "train"]

_WATCH_EVERY = 20


@dataclass(slots=True)
class Pool:
    """What training draws from: unit rows, and for each row the numbers of its nearest documents, best first."""

    documents: Tensor  # (n, input_dim)
    document_neighbours: Tensor  # (n, m), itself left out
    queries: Tensor  # (q, input_dim)
    query_neighbours: Tensor  # (q, m)


@dataclass(slots=True)
class Head:
    """Activations are (row - mean) @ weights.T + bias; documents and queries share them until `part`."""

    mean: Tensor  # (input_dim,)
    weights: Tensor  # (dimension, input_dim)
    bias: Tensor  # (dimension,)
    query_weights: Tensor
    query_bias: Tensor
    decoder: Tensor  # (dimension, input_dim)
    log_scale: Tensor  # () sparse cosines times its exponential are compared with dense ones over the temperature

    @property
    def parameters(self) -> list[Tensor]:
        documents, queries = [self.weights, self.bias], [self.query_weights, self.query_bias]
        towers = documents if self.query_weights is self.weights else documents + queries
        return [*towers, self.decoder, self.log_scale]

    def part(self) -> None:
        """Give queries a copy of their own."""
        self.query_weights = self.weights.detach().clone().requires_grad_()
        self.query_bias = self.bias.detach().clone().requires_grad_()


def new_head(documents: Tensor, dimension: int, generator: torch.Generator) -> Head:
    """Every dimension starts as the direction of one document, with noise: so each fires for something at once."""
    mean = documents.mean(dim=0)
    centred = documents - mean
    seeds = centred[torch.randint(len(documents), (dimension,), generator=generator)]
    noise = torch.randn(seeds.shape, generator=generator) * centred.std(dim=0)
    weights = F.normalize(seeds + 0.3 * noise, dim=1)
    bias, decoder = torch.zeros(dimension), 0.1 * weights  # smaller than the encoder: codes grow into it
    head = Head(mean, weights, bias, weights, bias, decoder, torch.tensor(math.log(10.0)))
    for parameter in head.parameters:
        parameter.requires_grad_()
    return head


class Evenness:
    """The controller of the regulariser's weight: raises it while the dimensions are used less evenly than `spread`."""

    def __init__(self, weight: float, spread: float) -> None:
        self.weight = weight
        self._target = spread
        self._queries: npt.NDArray[np.float64] | None = None
        self._documents: npt.NDArray[np.float64] | None = None

    def saw(self, queries: npt.NDArray[np.float64], documents: npt.NDArray[np.float64]) -> None:
        """Shares (dimension,) of one batch's queries and documents that use each dimension."""
        if self._queries is None or self._documents is None:
            self._queries, self._documents = queries, documents
        self._queries = 0.97 * self._queries + 0.03 * queries
        self._documents = 0.97 * self._documents + 0.03 * documents
        self.weight *= (self.spread / self._target) ** 0.02
        self.weight = min(max(self.weight, 1.0), 300.0)

    @property
    def usage(self) -> npt.NDArray[np.float64]:
        """Of documents, smoothed over the last 30 or so batches."""
        assert self._documents is not None
        return self._documents

    @property
    def flops(self) -> float:
        assert self._queries is not None
        return float(self._queries @ self.usage)

    @property
    def spread(self) -> float:
        assert self._queries is not None
        least = float(self._queries.sum() * self.usage.sum()) / len(self.usage)
        return self.flops / least if least else 1.0


def train(
    head: Head, pool: Pool, nnz: int, longest: int, recipe: HeadRecipe, generator: torch.Generator
) -> Iterator[Step]:
    """Train `head` in place, documents with `nnz` weights and queries with `longest`.

    Raises TrainingCollapsed when the codes degenerate.
    """
    optimizer = torch.optim.Adam(head.parameters, lr=recipe.rate, fused=True)
    evenness = Evenness(weight=30.0 * (len(head.bias) / 8192) ** 0.6, spread=recipe.spread)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * _schedule(step, recipe)
        batch = _draw(pool, recipe, generator)
        loss = _loss(head, batch, nnz, longest, recipe, evenness)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(head.parameters, recipe.clip)
        optimizer.step()
        if step % _WATCH_EVERY == _WATCH_EVERY - 1 and (fault := diagnosis(loss.item(), evenness.usage, nnz)):
            raise TrainingCollapsed(f"{recipe.stage}: stopped at step {step + 1} of {recipe.steps}: {fault}")
        seen = float(evenness.usage.sum()), evenness.flops, evenness.spread, evenness.weight
        yield Step(recipe.stage, step + 1, recipe.steps, loss.item(), *seen)


def _schedule(step: int, recipe: HeadRecipe) -> float:
    """Linear warm-up, then a cosine to 2 %."""
    warm = min(1.0, (step + 1) / recipe.warm_up)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))


@dataclass(slots=True)
class _Batch:
    documents: Tensor  # (b, input_dim)
    queries: Tensor  # (q, input_dim)
    anchors: Tensor  # rows of `documents` whose ranking is asked for


def _draw(pool: Pool, recipe: HeadRecipe, generator: torch.Generator) -> _Batch:
    def some(n: int, size: int) -> Tensor:
        return torch.randint(n, (size,), generator=generator)

    def near(neighbours: Tensor, rows: Tensor) -> Tensor:
        picks = torch.randint(neighbours.shape[1], (len(rows), recipe.positives), generator=generator)
        return neighbours[rows[:, None], picks].reshape(-1).long()

    anchors, queries = some(len(pool.documents), recipe.documents), some(len(pool.queries), recipe.queries)
    drawn = [anchors, near(pool.document_neighbours, anchors), near(pool.query_neighbours, queries)]
    numbers = torch.unique(torch.cat(drawn))
    rows = noisy(pool.queries[queries], generator, share=recipe.noisy)
    return _Batch(pool.documents[numbers], rows, torch.searchsorted(numbers, anchors))


def _loss(head: Head, batch: _Batch, nnz: int, longest: int, recipe: HeadRecipe, evenness: Evenness) -> Tensor:
    dimension, anchors = len(head.bias), len(batch.anchors)
    centred = batch.documents - head.mean
    asking = torch.cat([batch.documents[batch.anchors], batch.queries])
    raw, indices = linear_top_k(centred, head.weights, head.bias, nnz)
    asked, asked_indices = linear_top_k(asking - head.mean, head.query_weights, head.query_bias, longest)
    documents, queries = F.normalize(raw, dim=1), F.normalize(asked, dim=1)
    evenness.saw(shares(asked[anchors:], asked_indices[anchors:], dimension), shares(raw, indices, dimension))

    student = dot_products((queries, asked_indices), (documents, indices), dimension) * head.log_scale.exp()
    teacher = asking @ batch.documents.T / recipe.temperature
    itself = torch.zeros(student.shape, dtype=torch.bool)
    itself[torch.arange(anchors), batch.anchors] = True
    kl = listwise_kl(teacher.masked_fill(itself, -1e9), student.masked_fill(itself, -1e9))
    matching = recipe.query_share * kl[anchors:].mean() + (1 - recipe.query_share) * kl[:anchors].mean()

    rebuilt = F.embedding_bag(indices, head.decoder, per_sample_weights=raw, mode="sum")
    rebuilding = recipe.reconstruction * relative_error(rebuilt, centred)
    query_means = column_sums(queries[anchors:], asked_indices[anchors:], dimension) / len(batch.queries)
    cost = pair_flops(query_means, column_sums(documents, indices, dimension) / len(documents))
    total: Tensor = matching + rebuilding + evenness.weight * cost
    return total
