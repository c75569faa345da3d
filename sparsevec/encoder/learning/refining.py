"""Stage 3: the weights of one corpus become free parameters, and the queries' tower is fitted together with them.

Documents keep the dimensions that the head chose. Each query is asked to rank its nearest documents, and random ones
beside them, as the dense vectors do, and to avoid dimensions that many documents use: for the same F its code is then
longer. Documents that come later are still encoded by the head, on the same scale. The steps are those of
`sparsevec.training.train`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sparsevec.dense import nearest
from sparsevec.encoder.learning.cells import nearest_in_cells
from sparsevec.encoder.learning.codes import arithmetic, largest, linear_top_k, rounds
from sparsevec.encoder.learning.noise import mixed
from sparsevec.encoder.recipe import RefineRecipe
from sparsevec.training.codes import TopK
from sparsevec.training.loop import Objective, Plan, TrainStep, train
from sparsevec.training.losses import listwise_kl
from sparsevec.training.regularizers import priced
from sparsevec.training.row_adam import RowAdam
from sparsevec.training.schedules import constant

__all__ = ["Asking", "Epochs", "Refined", "Refining", "candidate_scores", "near", "near_among", "refining"]

_SCORES = 2**28  # held at a time on a GPU: 1 GB
_ROUNDED = 2**23  # held at a time on a CPU: 16 MB
_TOLD_APART = 0.05  # between the nearest and the m-th at least: a cosine that is rounded to bfloat16 is off by .003
_SETTLED = 20  # steps: the codes are the head's, which are sound


@dataclass(frozen=True, slots=True)
class Asking:
    """Unit rows (r, input_dim), the numbers of their nearest documents (r, m), and the dense products.

    asking: those of the rows that ask, by their numbers (q,); None: all of them, q = r. A corpus is not copied for it.
    """

    rows: Tensor
    near: Tensor
    similarities: Tensor
    asking: Tensor | None = None

    @property
    def count(self) -> int:
        return len(self.rows if self.asking is None else self.asking)

    def some(self, numbers: Tensor) -> Asking:
        """Those of the q that ask."""
        at = numbers if self.asking is None else self.asking[numbers]
        return Asking(self.rows[at], self.near[at], self.similarities[at])


def near(rows: Tensor, documents: Tensor, m: int, looked: int | None = None, *, itself: bool = False) -> Asking:
    """The rows (q, input_dim) with their m nearest documents, best first: of all, or on a CPU of about `looked`.

    itself: the rows are the documents, in their order, and none finds itself.
    """
    own = torch.arange(len(rows), device=rows.device) if itself else None
    if rows.device.type == "cpu":
        units, asking, numbers = documents.numpy(), rows.numpy(), None if own is None else own.numpy()
        if looked is None:
            found = nearest(units, asking, m, itself=numbers)
        else:
            found = nearest_in_cells(units, asking, m, looked, itself=numbers)
        return Asking(rows, torch.from_numpy(found.rows), torch.from_numpy(found.scores))
    size = max(1, _SCORES // max(1, len(documents)))
    tops = []
    for start in range(0, len(rows), size):
        scores = rows[start : start + size] @ documents.T
        if own is not None:
            scores.scatter_(1, own[start : start + size, None], -math.inf)
        tops.append(scores.topk(m, dim=1))
    similarities, found_rows = (torch.cat(same) for same in zip(*tops, strict=True))
    return Asking(rows, found_rows, similarities)


def _near_by_bfloat16(rows: Tensor, documents: Tensor, m: int) -> Asking:
    """The rows (q, input_dim) with the m nearest documents, best first, by products that are rounded to bfloat16: of
    100 they are 99, in a third of the time. Of rows whose m nearest are too alike for that, the nearest."""
    rounded = documents.bfloat16().T
    blocks = rows.split(max(1, _ROUNDED // len(documents)))  # type: ignore[no-untyped-call]
    parts = [largest(block.bfloat16() @ rounded, m) for block in blocks]
    values, numbers = (torch.cat(same) for same in zip(*parts, strict=True))
    values, order = values.sort(dim=1, descending=True)
    found, similarities = numbers.gather(1, order), values.to(rows.dtype)
    alike = (similarities[:, 0] - similarities[:, -1] < _TOLD_APART).nonzero()[:, 0]
    again = near(rows[alike], documents, m)
    found[alike], similarities[alike] = again.near, again.similarities
    return Asking(rows, found, similarities)


def near_among(rows: Tensor, candidates: Tensor, documents: Tensor, m: int) -> Asking:
    """The rows (q, input_dim) with the m nearest of their own candidates (q, c), best first; one may be there twice."""
    parts = [_best_of(*pair, documents, m) for pair in zip(rows, candidates, strict=True)]
    numbers, similarities = (torch.stack(same) for same in zip(*parts, strict=True))
    return Asking(rows, numbers, similarities)


def _best_of(row: Tensor, candidates: Tensor, documents: Tensor, m: int) -> tuple[Tensor, Tensor]:
    some = torch.unique(candidates)  # in the order in which they lie in memory: read in a third of the time
    similarities, at = (documents.index_select(0, some) @ row).topk(m)
    return some[at], similarities


class Refined(nn.Module):
    """Free document weights on fixed dimensions, of which a negative one counts as zero; and the queries' tower.

    Queries are the `longest` largest activations (row - mean) @ query_weights.T + query_bias, of unit length.
    """

    indices: Tensor  # (n, k) int64
    mean: Tensor  # (input_dim,)

    def __init__(self, documents: TopK, mean: Tensor, weights: Tensor, bias: Tensor, scale: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(documents.values)  # (n, k)
        self.query_weights, self.query_bias = nn.Parameter(weights), nn.Parameter(bias)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.register_buffer("indices", documents.indices, persistent=False)
        self.register_buffer("mean", mean, persistent=False)

    def documents(self, numbers: Tensor) -> TopK:
        return TopK(self.weights[numbers].clamp_min(0), self.indices[numbers], len(self.query_bias))


@dataclass(frozen=True, slots=True)
class Epochs:
    """Each time it is iterated: the documents, the sample, and new mixtures of its queries, shuffled into batches.

    own: documents that ask too, for the others like them. They keep every document's weights in use, and are what keeps
    a small sample from being learned by heart. Draws from torch's global generator.
    """

    documents: Tensor  # (n, input_dim)
    sample: Asking
    own: Asking
    alike: Tensor  # (q, m) of each query of the sample, the others like it
    wide: Tensor | None  # (q, c) more of its nearest, among which those of mixtures are found; None: among all
    recipe: RefineRecipe

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return math.ceil(((1 + self.recipe.copies) * self.sample.count + self.own.count) / self.recipe.batch)

    def __iter__(self) -> Iterator[Asking]:
        parts = self._drawn()
        order = torch.randperm(sum(part.count for part in parts), device=self.documents.device)
        return (_picked(parts, rows) for rows in order.split(self.recipe.batch))  # type: ignore[no-untyped-call]

    def _drawn(self) -> list[Asking]:
        """Who asks in an epoch."""
        parts = [self.own, self.sample]
        if len(self.sample.rows):
            copies = [mixed(self.sample.rows, self.alike, self.recipe.reach) for _ in range(self.recipe.copies)]
            parts += [self._found(*copy) for copy in copies]
        return parts

    def _found(self, mixtures: Tensor, others: Tensor) -> Asking:
        """Mixtures of the sample's queries, each with another one, and their nearest documents."""
        m = self.sample.near.shape[1]
        if self.wide is None:
            return (_near_by_bfloat16 if rounds(mixtures.device) else near)(mixtures, self.documents, m)
        return near_among(mixtures, torch.cat([self.wide, self.wide[others]], dim=1), self.documents, m)


def _picked(parts: Sequence[Asking], numbers: Tensor) -> Asking:
    """Those of the numbers, counted through all parts, which together would be a second copy of a large corpus."""
    bounds = torch.tensor([0, *(part.count for part in parts)], device=numbers.device).cumsum(0)
    at = torch.bucketize(numbers, bounds[1:], right=True)
    order = at.argsort(stable=True)
    some = [part.some(numbers[at == place] - bounds[place]) for place, part in enumerate(parts)]
    back = order.argsort()
    parts_of = ((part.rows, part.near, part.similarities) for part in some)
    return Asking(*(torch.cat(same)[back] for same in zip(*parts_of, strict=True)))


@dataclass(frozen=True, slots=True)
class Refining:
    """The objective: rank each query's candidates as the dense rows do."""

    refined: Refined
    documents: Tensor
    longest: int
    recipe: RefineRecipe

    def __call__(self, batch: Asking) -> Objective:
        refined, recipe = self.refined, self.recipe
        raw = linear_top_k(batch.rows - refined.mean, refined.query_weights, refined.query_bias, self.longest)
        queries = TopK(F.normalize(raw.values, dim=1), raw.indices, raw.dimension)
        drawn = torch.randint(len(self.documents), (recipe.drawn,), device=self.documents.device)
        picks = torch.randint(recipe.drawn, (len(batch.rows), recipe.random), device=drawn.device)
        candidates = torch.cat([batch.near, drawn[picks]], dim=1)  # (b, m)
        strangers = (batch.rows @ self.documents[drawn].T).gather(1, picks)
        teacher = torch.cat([batch.similarities, strangers], dim=1) / recipe.temperature
        scores = candidate_scores(queries, *self._weights(candidates))
        loss = listwise_kl(teacher, scores * refined.log_scale.exp()).mean()
        with torch.no_grad():
            usual = refined.documents(drawn)  # a fair sample of the corpus, for what a step says of nnz and F
        return Objective(loss, usual, queries)

    @property
    def alone(self) -> bool:
        """Whether a step moves the weights that it touches and no others."""
        return len(self.documents) > self.recipe.all_moved

    def _weights(self, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and dimensions among which those of the candidates are, and where: of few documents all, of many
        the candidates' own, which alone have a gradient then."""
        refined = self.refined
        if not self.alone:
            return refined.weights, refined.indices, candidates
        numbers, places = _distinct(candidates, len(self.documents))
        return F.embedding(numbers, refined.weights, sparse=True), refined.indices.index_select(0, numbers), places


def _distinct(numbers: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """What different numbers below n there are, ascending, and of each where it is among them: without a sort."""
    there = torch.zeros(n, dtype=torch.bool, device=numbers.device)
    there[numbers.reshape(-1)] = True
    different = there.nonzero()[:, 0]
    place = torch.empty(n, dtype=torch.int64, device=numbers.device)
    place[different] = torch.arange(len(different), device=numbers.device)
    return different, place.index_select(0, numbers.reshape(-1)).view_as(numbers)


def refining(
    objective: Refining, epochs: Epochs, prices: Tensor, seed: int, data: int, checkpoint: Path | None
) -> Iterator[TrainStep]:
    """Train the objective's `refined` in place; a query's weights cost `prices` (dimension,).

    data: a checksum of what is learned from; a checkpoint of other data is refused. Raises what `train` raises.
    """
    refined, recipe = objective.refined, objective.recipe
    groups: list[dict[str, Any]] = [
        {"params": [refined.weights], "lr": recipe.alone_rate if objective.alone else recipe.document_rate},
        {"params": [refined.query_weights, refined.query_bias], "lr": recipe.query_rate},
        {"params": [refined.log_scale], "lr": recipe.scale_rate},
    ]
    optimizer = RowAdam(groups, betas=recipe.betas, fused=True)
    steps = epochs.batches * max(recipe.epochs, math.ceil(recipe.least_steps / epochs.batches))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    plan = Plan(
        steps=steps,
        query_regularizer_weight=constant(1.0),  # the prices are its weight
        query_regularizer=partial(priced, prices=prices),
        seed=seed,
        expected_nnz=float((refined.weights > 0).sum()) / len(refined.weights),
        settled=_SETTLED,
        settings=asdict(recipe)
        | {"longest": objective.longest, "data": data, "products": arithmetic(objective.documents.device)},
    )
    return train(
        refined,
        epochs,
        objective,
        optimizer,
        plan,
        scheduler=scheduler,
        checkpoint=checkpoint,
        every=recipe.checkpoint_every,
    )


def candidate_scores(queries: TopK, weights: Tensor, dimensions: Tensor, candidates: Tensor) -> Tensor:
    """Dot products of query codes (b, k) with the codes of their own `candidates` (b, m): (b, m).

    weights, dimensions (n, k): of all documents; a negative weight counts as zero.
    """
    arguments = (queries.values, queries.indices, weights, dimensions, candidates, queries.dimension)
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
        strength = weights.index_select(0, flat).clamp_min_(0).view(b, m * k)
        query = values.new_zeros(b, dimension).scatter_(1, indices, values).gather(1, met)
        ctx.save_for_backward(indices, met, strength, query, flat)
        ctx.shape = (b, m, k, dimension, len(weights))
        return (query * strength).view(b, m, k).sum(dim=2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None, None, None]:
        indices, met, strength, query, flat = ctx.saved_tensors
        b, m, k, dimension, n = ctx.shape
        spread = gradients[0].reshape(b, m, 1).expand(b, m, k).reshape(b, m * k)
        to_weights = (spread * query).mul_(strength > 0).view(b * m, k)
        of_weights = spread.new_zeros(n, k).index_add_(0, flat, to_weights)
        of_query = spread.new_zeros(b, dimension).scatter_add_(1, met, spread * strength)
        return of_query.gather(1, indices), None, of_weights, None, None, None
