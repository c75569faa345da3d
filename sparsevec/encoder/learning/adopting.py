"""Queries of another model: a map into the documents' dense space, and a query tower for what the map makes of them.

Relational distillation (Park et al., "Relational Knowledge Distillation", CVPR 2019): each row of theirs should have
the cosines to documents that its pair has in the documents' own model, first as a mapped row, then as a sparse query
against the codes that the documents have. Neither the documents' side nor the codes move. The steps are those of
`sparsevec.training.train`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sparsevec.encoder.budget import Limits
from sparsevec.encoder.learning.codes import dot_products, linear_top_k, padded
from sparsevec.encoder.learning.following import STRETCH, chosen_device, followed, within_memory
from sparsevec.encoder.learning.learn import Tensors, paid_length
from sparsevec.encoder.recipe import AdoptRecipe, adopt_recipe, tempered
from sparsevec.progress import Whole
from sparsevec.training.codes import TopK, shares
from sparsevec.training.loop import Objective, Plan, train
from sparsevec.training.losses import listwise_kl
from sparsevec.training.schedules import constant
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["Pairs", "Searched", "learned_adoption"]


class Pairs(NamedTuple):
    """Unit rows of the other model (m, their columns), and of the documents' (m, columns), of the same texts."""

    theirs: Float32s
    ours: Float32s


class Searched(NamedTuple):
    """Unit rows of documents (n, columns), and their codes."""

    rows: Float32s
    codes: SparseVectors


@within_memory
def learned_adoption(
    pairs: Pairs,
    twins: SparseVectors,
    searched: Searched,
    tensors: Tensors,
    limits: Limits,
    spread: float,
    seed: int,
    whole: Whole,
    device: str,
) -> Tensors:
    """`adopted_weights` (columns, their columns), `adopted_bias`, `adopted_mean`, `query_weights` and `query_bias`.

    twins: what the pairs' own rows are as documents, so that each is among those that its pair must tell apart. spread:
    as `tempered` has it. Raises what `train` raises, InvalidInput for an unknown device.
    """
    place, recipe = chosen_device(device), tempered(adopt_recipe(len(pairs.theirs)), spread)
    mean = pairs.theirs.mean(axis=0)
    start = _ridge(pairs.theirs - mean, pairs.ours, recipe.ridge)
    adopted = Adopted(start, pairs.ours.mean(axis=0), tensors).to(place)
    rows = torch.from_numpy(pairs.theirs - mean).to(place)
    ours, documents = (torch.from_numpy(rows).to(place) for rows in (pairs.ours, searched.rows))
    codes, own = padded(searched.codes, 0).to(place), padded(twins, 0).to(place)
    used = shares(codes.values, codes.indices, codes.dimension)
    with torch.no_grad():
        mapped = adopted.mapped(rows)
    tower = (adopted.mean, adopted.query_weights, adopted.query_bias)
    longest = paid_length(mapped, *tower, used, limits, recipe.longer)
    objective = Adopting(adopted, rows, ours, own, documents, codes, longest, recipe)
    optimizer = torch.optim.Adam(
        [
            {"params": [adopted.map, adopted.offset], "lr": recipe.map_rate},
            {"params": [adopted.query_weights, adopted.query_bias], "lr": recipe.tower_rate},
        ],
        betas=recipe.betas,
        fused=True,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / recipe.steps)
    plan = Plan(
        steps=recipe.steps,
        document_regularizer_weight=constant(0.0),  # the codes are what they are
        seed=seed,
        settings=asdict(recipe) | {"longest": longest, "data": zlib.crc32(pairs.theirs.data)},
    )
    followed(train(adopted, objective, objective, optimizer, plan, scheduler=scheduler), "adopt", whole)
    found = {
        "adopted_weights": adopted.map,
        "adopted_bias": adopted.offset,
        "query_weights": adopted.query_weights,
        "query_bias": adopted.query_bias,
    }
    return {"adopted_mean": mean} | {name: tensor.detach().cpu().numpy() for name, tensor in found.items()}


def _ridge(rows: Float32s, targets: Float32s, ridge: float) -> Float32s:
    """(columns, their columns) of least squares from centred rows to centred targets."""
    wide = rows.astype(np.float64)
    gram = wide.T @ wide + ridge * np.eye(wide.shape[1])
    return np.linalg.solve(gram, wide.T @ (targets - targets.mean(axis=0))).T.astype(np.float32)


class Adopted(nn.Module):
    """y = unit(map (x - their mean) + offset), of which a tower makes sparse queries."""

    mean: Tensor  # (columns,) of the documents' model

    def __init__(self, start: Float32s, offset: Float32s, tensors: Tensors) -> None:
        super().__init__()
        self.map, self.offset = nn.Parameter(torch.from_numpy(start)), nn.Parameter(torch.from_numpy(offset))
        self.query_weights = nn.Parameter(torch.from_numpy(tensors["query_weights"].copy()))
        self.query_bias = nn.Parameter(torch.from_numpy(tensors["query_bias"].copy()))
        self.register_buffer("mean", torch.from_numpy(tensors["mean"].copy()), persistent=False)

    def mapped(self, centred: Tensor) -> Tensor:
        """(b, their columns) to unit rows (b, columns)."""
        return F.normalize(torch.addmm(self.offset, centred, self.map.T), dim=1)


@dataclass(frozen=True, slots=True)
class Adopting:
    """The objective, and the numbers of pairs and of documents that it is asked about."""

    adopted: Adopted
    theirs: Tensor  # (m, their columns), their mean taken off
    ours: Tensor  # (m, columns)
    twins: TopK  # (m, k) codes of ours
    documents: Tensor  # (n, columns)
    codes: TopK  # (n, k)
    longest: int
    recipe: AdoptRecipe

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        recipe, device = self.recipe, self.theirs.device
        for _ in range(STRETCH):
            pairs = torch.randint(len(self.theirs), (recipe.batch,), device=device)
            yield pairs, torch.randint(len(self.documents), (recipe.documents,), device=device)

    def __call__(self, drawn: tuple[Tensor, Tensor]) -> Objective:
        adopted, recipe, (pairs, documents) = self.adopted, self.recipe, drawn
        candidates = torch.cat([self.ours[pairs], self.documents[documents]])
        teacher = self.ours[pairs] @ candidates.T / recipe.temperature
        mapped = adopted.mapped(self.theirs[pairs])
        loss = listwise_kl(teacher, mapped @ candidates.T / recipe.temperature).mean()

        tower = (adopted.query_weights, adopted.query_bias)
        raw = linear_top_k(mapped.detach() - adopted.mean, *tower, self.longest)
        queries = TopK(F.normalize(raw.values, dim=1), raw.indices, raw.dimension)
        stored = _both(self.twins, pairs, self.codes, documents)
        loss = loss + listwise_kl(teacher, dot_products(queries, stored) * recipe.sparse_scale).mean()
        return Objective(loss, stored, queries)


def _both(first: TopK, some: Tensor, second: TopK, others: Tensor) -> TopK:
    """Rows of two batches as one, as wide as the wider; what is filled up weighs nothing."""
    parts = [(codes.values[rows], codes.indices[rows]) for codes, rows in ((first, some), (second, others))]
    wide = max(values.shape[1] for values, _ in parts)
    padded = [(F.pad(values, (0, wide - values.shape[1])), F.pad(at, (0, wide - at.shape[1]))) for values, at in parts]
    values, indices = (torch.cat(same) for same in zip(*padded, strict=True))
    return TopK(values, indices, first.dimension)
