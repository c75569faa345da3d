"""The second look: a signed linear map of queries that re-orders candidates by the weights that are stored anyway.

A candidate's second score is y . s for its stored code s and y = M (q - mean) + a x, with x the sparse query that found
it. M starts as a decoder: the ridge regression of the documents' dense rows on their codes, so that y . s comes near
the dense product. Then M and a learn to rank each query's own candidates as the dense vectors do. The steps are those
of `sparsevec.training.train`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from sparsevec.dense import largest
from sparsevec.encoder.learning.codes import padded
from sparsevec.encoder.learning.decoder import ridge_decoder
from sparsevec.encoder.learning.following import STRETCH, checkpoint_file, chosen_device, followed, within_memory
from sparsevec.encoder.recipe import SecondLookRecipe, tempered
from sparsevec.progress import Whole
from sparsevec.training.codes import TopK
from sparsevec.training.loop import Objective, Plan, TrainStep, train
from sparsevec.training.losses import listwise_kl
from sparsevec.training.schedules import constant
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Asked", "learned_second_look"]

_SCORES = 2**22  # held at a time
_USUAL = 512  # documents by which a step says what is stored


Asked: TypeAlias = tuple[Float32s, SparseVectors, Int64s]
"""Queries: unit rows (q, input_dim), their codes, and the number of the document that each is, -1 for none."""


@within_memory
def learned_second_look(
    documents: Float32s,
    codes: SparseVectors,
    asked: Asked,
    mean: Float32s,
    recipe: SecondLookRecipe,
    seed: int,
    whole: Whole,
    checkpoint: Path | None,
    stage: str,
    device: str,
    wanted: Float32s | None = None,
) -> tuple[Float32s, float]:
    """M (dimension, input_dim) and a, for unit rows `documents` (n, input_dim) and their codes.

    wanted (q, input_dim): unit rows whose dense order is taught instead of the queries' own.

    checkpoint: a folder for the file of `stage`. Raises what `train` raises, InvalidInput for an unknown device.
    """
    stored, (rows, asked_codes, own), place = codes.to_scipy(), asked, chosen_device(device)
    candidates, scores = _candidates(stored, asked_codes, own, min(recipe.candidates, len(documents) - 1))
    taught = rows if wanted is None else wanted
    teacher = np.stack([documents[near] @ query for near, query in zip(candidates, taught, strict=True)])
    recipe = tempered(recipe, float(teacher.std(axis=1).mean()))
    spaced = slice(None, None, -(-len(documents) // recipe.decoded))
    start = recipe.shrink * ridge_decoder(stored[spaced], documents[spaced] - mean, recipe.ridge, recipe.decoder_steps)
    asking = Asking(
        torch.from_numpy(rows - mean).to(place),
        padded(asked_codes, 0).to(place),
        torch.from_numpy(candidates).to(place),
        torch.from_numpy(scores).to(place),
        torch.from_numpy(teacher.astype(np.float32)).to(place),
    )
    look = Look(start, recipe.first).to(place)
    data = zlib.crc32(codes.values.data, zlib.crc32(np.ascontiguousarray(rows).data))
    objective = Looking(look, padded(codes, 0).to(place), asking, recipe)
    followed(_looking(objective, seed, data, checkpoint_file(checkpoint, stage)), "second look", whole)
    return look.map.detach().cpu().numpy(), float(look.first.detach())


def _candidates(stored: sp.csr_array, asked: SparseVectors, itself: Int64s, k: int) -> tuple[Int64s, Float32s]:
    """Of each query the k documents with the best sparse scores, without itself, best first: (q, k), and scores."""
    columns, queries = stored.T.tocsr(), asked.to_scipy()
    size = max(1, _SCORES // stored.shape[0])

    def found(start: int) -> tuple[Int64s, Float32s]:
        block = (queries[start : start + size] @ columns).toarray()
        own = itself[start : start + size]
        block[np.flatnonzero(own >= 0), own[own >= 0]] = -1
        return largest(block, k)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        parts = list(threads.map(found, range(0, len(asked), size)))
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([scores for _, scores in parts])


class Look(nn.Module):
    """M (dimension, input_dim) and a."""

    def __init__(self, start: Float32s, first: float) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.from_numpy(start))
        self.first = nn.Parameter(torch.tensor(first))


@dataclass(frozen=True, slots=True)
class Asking:
    """Queries and the candidates that each has to order."""

    rows: Tensor  # (q, input_dim), the mean taken off
    codes: TopK  # (q, k)
    candidates: Tensor  # (q, m) numbers of documents
    scores: Tensor  # (q, m), sparse
    teacher: Tensor  # (q, m), dense


@dataclass(frozen=True, slots=True)
class Looking:
    """The objective, and the numbers of queries that it is asked about."""

    look: Look
    stored: TopK  # (n, k)
    asking: Asking
    recipe: SecondLookRecipe

    def __iter__(self) -> Iterator[Tensor]:
        many, device = len(self.asking.rows), self.asking.rows.device
        return (torch.randint(many, (self.recipe.batch,), device=device) for _ in range(STRETCH))

    def __call__(self, drawn: Tensor) -> Objective:
        asking, stored, temperature = self.asking, self.stored, self.recipe.temperature
        candidates = asking.candidates[drawn]  # (b, m)
        b, m = candidates.shape
        met = stored.indices[candidates].view(b, -1)
        products = (asking.rows[drawn] @ self.look.map.T).gather(1, met) * stored.values[candidates].view(b, -1)
        scores = products.view(b, m, -1).sum(dim=2) + self.look.first * asking.scores[drawn]
        loss = listwise_kl(asking.teacher[drawn] / temperature, scores / temperature).mean()
        usual = TopK(stored.values[:_USUAL], stored.indices[:_USUAL], stored.dimension)
        return Objective(loss, usual, TopK(asking.codes.values[drawn], asking.codes.indices[drawn], stored.dimension))


def _looking(objective: Looking, seed: int, data: int, checkpoint: Path | None) -> Iterator[TrainStep]:
    """Train the objective's look in place. data: a checksum of what is learned from."""
    look, recipe = objective.look, objective.recipe
    optimizer = torch.optim.Adam(
        [{"params": [look.map], "lr": recipe.rate}, {"params": [look.first], "lr": recipe.first_rate}],
        betas=recipe.betas,
        fused=True,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / recipe.steps))
    plan = Plan(
        steps=recipe.steps,
        document_regularizer_weight=constant(0.0),  # the codes are what they are
        seed=seed,
        settled=recipe.steps + 1,  # and are not judged: equal rows have equal ones
        settings=asdict(recipe) | {"data": data},
    )
    every = recipe.checkpoint_every
    return train(look, objective, objective, optimizer, plan, scheduler=scheduler, checkpoint=checkpoint, every=every)
