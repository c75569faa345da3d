"""The second look: a signed linear map of queries that re-orders candidates by the weights that are stored anyway.

A candidate's second score is y . s for its stored code s and y = M (q - mean) + a x, with x the sparse query that found
it. M starts as a decoder: the ridge regression of the documents' dense rows on their codes, so that y . s comes near
the dense product. Then M and a learn to rank each query's own candidates as the dense vectors do.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sparsevec.encoder.learning.codes import padded
from sparsevec.encoder.learning.decoder import ridge_decoder
from sparsevec.encoder.recipe import SecondLookRecipe, tempered
from sparsevec.progress import Whole
from sparsevec.training.losses import listwise_kl
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Asked", "learned_second_look"]

_SCORES = 2**22  # held at a time


Asked: TypeAlias = tuple[Float32s, SparseVectors, Int64s]
"""Queries: unit rows (q, input_dim), their codes, and the number of the document that each is, -1 for none."""


def learned_second_look(
    documents: Float32s,
    codes: SparseVectors,
    asked: Asked,
    mean: Float32s,
    recipe: SecondLookRecipe,
    seed: int,
    whole: Whole,
    device: torch.device,
) -> tuple[Float32s, float]:
    """M (dimension, input_dim) and a, for unit rows `documents` (n, input_dim) and their codes."""
    stored, (rows, asked_codes, own) = codes.to_scipy(), asked
    candidates, scores = _candidates(stored, asked_codes, own, min(recipe.candidates, len(documents) - 1))
    teacher = np.stack([documents[near] @ query for near, query in zip(candidates, rows, strict=True)])
    recipe = tempered(recipe, float(teacher.std(axis=1).mean()))
    start = recipe.shrink * ridge_decoder(stored, documents - mean, recipe.ridge, recipe.decoder_steps)
    look = _Look(start, recipe.first, codes, rows - mean, candidates, scores, teacher, device)
    optimizer = torch.optim.Adam(
        [{"params": [look.map], "lr": recipe.rate}, {"params": [look.first], "lr": recipe.first_rate}],
        betas=recipe.betas,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / recipe.steps))
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, recipe.steps + 1):
        drawn = torch.randint(len(rows), (recipe.batch,), generator=generator).to(device)
        loss = listwise_kl(look.teacher[drawn] / recipe.temperature, look(drawn) / recipe.temperature).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        whole.at("second look", step, recipe.steps, f"second look {step}/{recipe.steps}", loss=loss.item())
    learned: Float32s = look.map.detach().cpu().numpy()
    return learned, float(look.first.detach())


def _candidates(stored: sp.csr_array, asked: SparseVectors, itself: Int64s, k: int) -> tuple[Int64s, Float32s]:
    """Of each query the k documents with the best sparse scores, without itself, in no order: (q, k), and scores."""
    columns, queries = stored.T.tocsr(), asked.to_scipy()
    size = max(1, _SCORES // stored.shape[0])
    rows, scores = [], []
    for start in range(0, len(asked), size):
        block = (queries[start : start + size] @ columns).toarray()
        own = itself[start : start + size]
        block[np.flatnonzero(own >= 0), own[own >= 0]] = -1
        best = np.argpartition(-block, k - 1, axis=1)[:, :k].copy()  # a view would keep all of it
        rows.append(best)
        scores.append(np.take_along_axis(block, best, axis=1))
    return np.concatenate(rows), np.concatenate(scores).astype(np.float32)


class _Look:
    """Scores of each query's candidates as a function of the map and of `first`, a."""

    def __init__(
        self,
        start: Float32s,
        first: float,
        codes: SparseVectors,
        queries: Float32s,
        candidates: Int64s,
        scores: Float32s,
        teacher: Float32s,
        device: torch.device,
    ) -> None:
        self.map = torch.from_numpy(start).to(device).requires_grad_()
        self.first = torch.tensor(first, device=device, requires_grad=True)
        self.teacher = torch.from_numpy(teacher.astype(np.float32)).to(device)
        self._queries, self._candidates = torch.from_numpy(queries).to(device), torch.from_numpy(candidates).to(device)
        self._scores = torch.from_numpy(scores).to(device)
        self._stored = padded(codes, 0).to(device)

    def __call__(self, rows: Tensor) -> Tensor:
        """(b,) query numbers to (b, candidates) second scores."""
        candidates = self._candidates[rows]
        b, m = candidates.shape
        met = self._stored.indices[candidates].view(b, -1)
        strengths = (self._queries[rows] @ self.map.T).gather(1, met) * self._stored.values[candidates].view(b, -1)
        return strengths.view(b, m, -1).sum(dim=2) + self.first * self._scores[rows]
