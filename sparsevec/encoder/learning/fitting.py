"""Stages 1 and 2: a linear head for documents and queries, then a tower for each, taught by the dense vectors.

Each step draws documents and queries with some of their nearest documents, encodes them all, and asks three things:
that sparse similarities rank the batch as dense ones do, that a linear decoder can rebuild the dense rows from the
codes (this keeps every dimension meaning something), and that the dimensions are used evenly (the FLOPs regulariser,
with the weight that a controller finds). In stage 1 both sides share one head, and their codes are equally long. In
stage 2 they part, and queries keep more weights than documents. The steps are those of `sparsevec.training.train`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sparsevec.dense import distinct
from sparsevec.encoder.learning.codes import arithmetic, dot_products, linear_top_k
from sparsevec.encoder.learning.following import STRETCH
from sparsevec.encoder.learning.noise import noisy
from sparsevec.encoder.recipe import HeadRecipe
from sparsevec.training.codes import TopK
from sparsevec.training.loop import Objective, Plan, TrainStep, train
from sparsevec.training.losses import listwise_kl, relative_error
from sparsevec.training.schedules import Evenness

__all__ = ["Fitting", "Head", "Pool", "fitting", "new_head"]

_SETTLED = 20  # steps: top-k codes have their nnz at once, and a head of documents is even from the start


class Head(nn.Module):
    """Activations are (row - mean) @ weights.T + bias; documents and queries share them until `part`."""

    mean: Tensor  # (input_dim,)

    def __init__(self, mean: Tensor, weights: Tensor, recipe: HeadRecipe) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.weights = self.query_weights = nn.Parameter(weights)  # (dimension, input_dim)
        self.bias = self.query_bias = nn.Parameter(torch.zeros(len(weights)))  # (dimension,)
        self.decoder = nn.Parameter(recipe.decoder * weights)  # (dimension, input_dim)
        # sparse cosines times its exponential are compared with dense ones over the temperature
        self.log_scale = nn.Parameter(torch.tensor(math.log(recipe.student_scale)))

    def part(self) -> None:
        """Give queries a copy of their own."""
        self.query_weights = nn.Parameter(self.weights.detach().clone())
        self.query_bias = nn.Parameter(self.bias.detach().clone())


def new_head(documents: Tensor, dimension: int, recipe: HeadRecipe, generator: torch.Generator) -> Head:
    """Every dimension starts as the direction of one document, with noise: so each fires for something at once."""
    mean = documents.mean(dim=0)
    centred = documents - mean
    different = torch.from_numpy(distinct(documents.numpy()))  # equal rows would all have the same direction
    seeds = centred[different[torch.randint(len(different), (dimension,), generator=generator)]]
    noise = torch.randn(seeds.shape, generator=generator) * centred.std(dim=0)
    return Head(mean, F.normalize(seeds + recipe.seed_noise * noise, dim=1), recipe)


class Batch(NamedTuple):
    documents: Tensor  # (b, input_dim)
    queries: Tensor  # (q, input_dim)
    anchors: Tensor  # rows of `documents` whose ranking is asked for


@dataclass(frozen=True, slots=True)
class Pool:
    """What training draws from: unit rows, and for each row the numbers of its nearest documents, best first.

    Iterating draws a stretch of batches, from torch's global generator.
    """

    documents: Tensor  # (n, input_dim)
    document_neighbours: Tensor  # (n, m), itself left out
    queries: Tensor  # (q, input_dim)
    query_neighbours: Tensor  # (q, m)
    recipe: HeadRecipe

    def __iter__(self) -> Iterator[Batch]:
        return (self._draw() for _ in range(STRETCH))

    def _draw(self) -> Batch:
        recipe, device = self.recipe, self.documents.device
        anchors = torch.randint(len(self.documents), (recipe.documents,), device=device)
        queries = torch.randint(len(self.queries), (recipe.queries,), device=device)
        drawn = [anchors, self._near(self.document_neighbours, anchors), self._near(self.query_neighbours, queries)]
        numbers = torch.unique(torch.cat(drawn))
        rows = noisy(self.queries[queries], share=recipe.noisy)
        return Batch(self.documents[numbers], rows, torch.searchsorted(numbers, anchors))

    def _near(self, neighbours: Tensor, rows: Tensor) -> Tensor:
        picks = torch.randint(neighbours.shape[1], (len(rows), self.recipe.positives), device=rows.device)
        return neighbours[rows[:, None], picks].reshape(-1)


@dataclass(frozen=True, slots=True)
class Fitting:
    """The objective: documents keep `nnz` weights, queries `longest`."""

    head: Head
    nnz: int
    longest: int
    recipe: HeadRecipe

    def __call__(self, batch: Batch) -> Objective:
        head, recipe, anchors = self.head, self.recipe, len(batch.anchors)
        centred = batch.documents - head.mean
        asking = torch.cat([batch.documents[batch.anchors], batch.queries])
        raw, queries = self._codes(centred, batch.queries - head.mean, batch.anchors)
        documents, queries = _unit(raw), _unit(queries)

        student = dot_products(queries, documents) * head.log_scale.exp()
        teacher = asking @ batch.documents.T / recipe.temperature
        itself = torch.zeros_like(student, dtype=torch.bool)
        itself[torch.arange(anchors), batch.anchors] = True
        kl = listwise_kl(teacher.masked_fill(itself, -1e9), student.masked_fill(itself, -1e9))
        matching = recipe.query_share * kl[anchors:].mean() + (1 - recipe.query_share) * kl[:anchors].mean()

        rebuilt = F.embedding_bag(raw.indices, head.decoder, per_sample_weights=raw.values, mode="sum")
        loss = matching + recipe.reconstruction * relative_error(rebuilt, centred)
        asked = TopK(queries.values[anchors:], queries.indices[anchors:], queries.dimension)
        return Objective(loss, documents, asked)

    def _codes(self, documents: Tensor, queries: Tensor, anchors: Tensor) -> tuple[TopK, TopK]:
        """Of centred documents (b, input_dim), and of those of them that ask before the queries (q, input_dim)."""
        head = self.head
        if head.query_weights is head.weights and self.longest == self.nnz:  # of one head at once: anchors have codes
            made, b = linear_top_k(torch.cat([documents, queries]), head.weights, head.bias, self.nnz), len(documents)
            asking = torch.cat([anchors, torch.arange(b, len(made), device=anchors.device)])
            of_documents = TopK(made.values[:b], made.indices[:b], made.dimension)
            return of_documents, TopK(made.values[asking], made.indices[asking], made.dimension)
        asking = torch.cat([documents[anchors], queries])
        of_documents = linear_top_k(documents, head.weights, head.bias, self.nnz)
        return of_documents, linear_top_k(asking, head.query_weights, head.query_bias, self.longest)


def _unit(codes: TopK) -> TopK:
    return TopK(F.normalize(codes.values, dim=1), codes.indices, codes.dimension)


def fitting(objective: Fitting, pool: Pool, seed: int, data: int, checkpoint: Path | None) -> Iterator[TrainStep]:
    """Train the objective's head in place.

    data: a checksum of what is learned from; a checkpoint of other data is refused. Raises what `train` raises.
    """
    head, recipe = objective.head, objective.recipe
    optimizer = torch.optim.Adam(head.parameters(), lr=recipe.rate, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe))
    evenness = Evenness(
        recipe.spread,
        weight=recipe.evenness,
        smoothing=recipe.smoothing,
        gain=recipe.gain,
        least=recipe.least_weight,
        most=recipe.most_weight,
    )
    plan = Plan(
        steps=recipe.steps,
        pair_regularizer_weight=evenness,
        clip=recipe.clip,
        seed=seed,
        expected_nnz=objective.nnz,
        settled=_SETTLED,
        settings=asdict(recipe)
        | {"longest": objective.longest, "data": data, "products": arithmetic(head.mean.device)},
    )
    return train(
        head,
        pool,
        objective,
        optimizer,
        plan,
        scheduler=scheduler,
        checkpoint=checkpoint,
        every=recipe.checkpoint_every,
    )


def _rate(step: int, recipe: HeadRecipe) -> float:
    """Linear warm-up, then a cosine to the floor."""
    warm = min(1.0, (step + 1) / recipe.warm_up)
    return warm * (recipe.floor + (1 - recipe.floor) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))
