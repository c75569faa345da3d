"""Stage 1: one linear head for documents and queries, taught by the dense vectors themselves.

Each step draws documents and queries with some of their nearest documents, encodes them all, and asks three things:
that sparse similarities rank the batch as dense ones do, that a linear decoder can rebuild the dense rows from the
codes (this keeps every dimension meaning something), and that the dimensions are used evenly (the FLOPs regulariser,
with the weight that a controller finds).
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

from sparsevec.encoder.codes import column_sums, dot_products, linear_top_k, shares
from sparsevec.encoder.noise import noisy
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
    """Parameters of stage 1; activations are (row - mean) @ weights.T + bias."""

    mean: Tensor  # (input_dim,)
    weights: Tensor  # (dimension, input_dim)
    bias: Tensor  # (dimension,)
    decoder: Tensor  # (dimension, input_dim)
    log_scale: Tensor  # () sparse cosines times its exponential are compared with dense ones over the temperature

    @property
    def parameters(self) -> list[Tensor]:
        return [self.weights, self.bias, self.decoder, self.log_scale]


def new_head(documents: Tensor, dimension: int, generator: torch.Generator) -> Head:
    """Every dimension starts as the direction of one document, with noise: so each fires for something at once."""
    mean = documents.mean(dim=0)
    centred = documents - mean
    seeds = centred[torch.randint(len(documents), (dimension,), generator=generator)]
    noise = torch.randn(seeds.shape, generator=generator) * centred.std(dim=0)
    weights = F.normalize(seeds + 0.3 * noise, dim=1)
    decoder = 0.1 * weights  # smaller than the encoder: codes grow into it
    head = Head(mean, weights, torch.zeros(dimension), decoder, torch.tensor(math.log(10.0)))
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


def train(head: Head, pool: Pool, nnz: int, recipe: HeadRecipe, generator: torch.Generator) -> Iterator[Step]:
    """Train `head` in place; raises TrainingCollapsed when the codes degenerate."""
    optimizer = torch.optim.Adam(head.parameters, lr=recipe.rate, fused=True)
    evenness = Evenness(weight=30.0 * (len(head.bias) / 8192) ** 0.6, spread=recipe.spread)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * _schedule(step, recipe)
        batch = _draw(pool, recipe, generator)
        loss = _loss(head, batch, nnz, recipe, evenness)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(head.parameters, recipe.clip)
        optimizer.step()
        if step % _WATCH_EVERY == _WATCH_EVERY - 1 and (fault := diagnosis(loss.item(), evenness.usage, nnz)):
            raise TrainingCollapsed(f"stopped at step {step + 1} of {recipe.steps}: {fault}")
        usage = float(evenness.usage.sum())
        yield Step("head", step + 1, recipe.steps, loss.item(), usage, evenness.flops, evenness.spread, evenness.weight)


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


def _loss(head: Head, batch: _Batch, nnz: int, recipe: HeadRecipe, evenness: Evenness) -> Tensor:
    b, dimension = len(batch.documents), len(head.bias)
    centred = torch.cat([batch.documents, batch.queries]) - head.mean
    raw, indices = linear_top_k(centred, head.weights, head.bias, nnz)
    codes = F.normalize(raw, dim=1)
    evenness.saw(shares(raw[b:], indices[b:], dimension), shares(raw[:b], indices[:b], dimension))

    asked = torch.cat([batch.anchors, torch.arange(b, len(codes))])
    student = dot_products((codes[asked], indices[asked]), (codes[:b], indices[:b]), dimension) * head.log_scale.exp()
    teacher = torch.cat([batch.documents[batch.anchors], batch.queries]) @ batch.documents.T / recipe.temperature
    itself = torch.zeros(student.shape, dtype=torch.bool)
    itself[torch.arange(len(batch.anchors)), batch.anchors] = True
    kl = listwise_kl(teacher.masked_fill(itself, -1e9), student.masked_fill(itself, -1e9))
    of_documents, of_queries = kl[: len(batch.anchors)].mean(), kl[len(batch.anchors) :].mean()
    matching = recipe.query_share * of_queries + (1 - recipe.query_share) * of_documents

    rebuilt = F.embedding_bag(indices[:b], head.decoder, per_sample_weights=raw[:b], mode="sum")
    rebuilding = recipe.reconstruction * relative_error(rebuilt, centred[:b])
    query_means = column_sums(codes[b:], indices[b:], dimension) / len(batch.queries)
    cost = pair_flops(query_means, column_sums(codes[:b], indices[:b], dimension) / b)
    total: Tensor = matching + rebuilding + evenness.weight * cost
    return total
