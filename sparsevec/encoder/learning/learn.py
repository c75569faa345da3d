"""The stages of training, arrays in and arrays out: the only door to torch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from sparsevec.dense import Nearest
from sparsevec.encoder.budget import Limits
from sparsevec.encoder.learning.codes import linear_top_k, padded
from sparsevec.encoder.learning.fitting import Fitting, Head, Pool, fitting, new_head
from sparsevec.encoder.learning.following import checkpoint_file, chosen_device, followed, within_memory
from sparsevec.encoder.learning.refining import Asking, Epochs, Refined, Refining, near, refining
from sparsevec.encoder.neighbours import nearest_once
from sparsevec.encoder.recipe import (
    CalibrationRecipe,
    HeadRecipe,
    RefineRecipe,
    head_recipe,
    refine_recipe,
    shared,
    tempered,
    towers_recipe,
)
from sparsevec.progress import Whole
from sparsevec.training.codes import Shares, shares
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Corpus", "Tensors", "learned_towers", "new_corpus", "paid_length", "refined"]

Tensors: TypeAlias = dict[str, Float32s]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Unit rows of documents, and who asks for them, each with its nearest: found once, used by every stage."""

    documents: Tensor  # (n, input_dim)
    own: Asking  # the documents, of which some ask, for others than themselves
    sample: Asking  # of queries; empty where there is none
    wide: Tensor | None = None  # (q, c) more of the sample's nearest, in a corpus too large to search each epoch

    @property
    def asking(self) -> Asking:
        """The sample, or the documents that stand in for one."""
        return self.sample if self.sample.count else self.own

    def some_asking(self) -> Tensor:
        """Their rows, evenly spaced ones where there are many."""
        return self.asking.some(_some(torch.arange(self.asking.count))).rows

    @property
    def spread(self) -> float:
        """The mean standard deviation of the similarities of a document's nearest: the scale of the teacher."""
        return float(self.own.similarities.std(dim=1, correction=0).mean())

    @property
    def checksum(self) -> int:
        return zlib.crc32(self.sample.rows.cpu().numpy().data, zlib.crc32(self.documents.cpu().numpy().data))


@within_memory
def new_corpus(
    documents: Float32s,
    own: Float32s,
    asking: Int64s | None,
    queries: Float32s | None,
    neighbours: int,
    device: str,
    large: RefineRecipe | None = None,
    kept: Int64s | None = None,
) -> Corpus:
    """Of unit rows (n, input_dim) and (q, input_dim); own (n, input_dim): the documents as queries, which may be the
    same array.

    asking (m,): numbers of the documents that ask too; None: all do. large: how to find the nearest of those, and of
    mixtures of queries, where there are more documents than are compared in all pairs, on a CPU. kept (m,): numbers,
    ascending, of the documents that are the corpus; None: all. What is learned from them is learned on `device`;
    InvalidInput for an unknown one.
    """
    place = chosen_device(device)
    if place.type != "cpu" or (large is not None and len(documents) <= large.searched):
        large = None  # a GPU compares all pairs in less time than it starts many searches
    some = slice(None) if kept is None else kept
    rows = torch.from_numpy(documents[some]).to(place)
    as_queries = rows if own is documents else torch.from_numpy(own[some]).to(place)
    m = min(neighbours, len(rows) // 4)
    looked, wide = (None, None) if large is None else (large.looked, large.wide)
    if once := place.type == "cpu" and large is None:
        others = _asking(as_queries, nearest_once(documents, own, m, themselves=True, kept=kept))
    else:
        others = near(as_queries, rows, m, looked, itself=True)
    who = None if asking is None else torch.from_numpy(asking).to(place)
    others = replace(others, near=others.near.int(), asking=who)  # half as many bytes
    if queries is None:
        return Corpus(rows, others, others.some(torch.arange(0)))
    asked = torch.from_numpy(queries).to(place)
    found = _asking(asked, nearest_once(documents, queries, m, kept=kept)) if once else near(asked, rows, wide or m)
    sample = Asking(found.rows, found.near[:, :m].clone(), found.similarities[:, :m].clone())
    return Corpus(rows, others, sample, None if wide is None else found.near)


def _asking(rows: Tensor, found: Nearest) -> Asking:
    return Asking(rows, torch.from_numpy(found.rows), torch.from_numpy(found.scores))


# ---- fit


@within_memory
def learned_towers(
    corpus: Corpus, dimension: int, limits: Limits, seed: int, whole: Whole, checkpoint: Path | None
) -> Tensors:
    """Stages 1 and 2, where every document asks: `mean`, `weights`, `bias`, `query_weights` and `query_bias`.

    checkpoint: a folder for one file a stage. Raises what `train` raises.
    """
    generator, nnz = torch.Generator().manual_seed(seed), limits.nnz
    recipe = tempered(head_recipe(len(corpus.documents), dimension, nnz), corpus.spread)
    head = new_head(corpus.documents.cpu(), dimension, recipe, generator).to(corpus.documents.device)
    _fit(head, corpus, nnz, nnz, recipe, 3 * seed, whole, checkpoint)
    head.part()
    with torch.no_grad():
        codes = linear_top_k(_some(corpus.documents) - head.mean, head.weights, head.bias, nnz)
    used = shares(codes.values, codes.indices, dimension)
    longest = paid_length(corpus.some_asking(), head.mean, head.weights, head.bias, used, limits, recipe.longer)
    towers = towers_recipe(recipe)
    _fit(head, corpus, nnz, longest, towers, 3 * seed + 1, whole, checkpoint)  # other batches than the head has seen
    names = ("mean", "weights", "bias", "query_weights", "query_bias")
    return {name: getattr(head, name).detach().cpu().numpy() for name in names}


def _fit(
    head: Head,
    corpus: Corpus,
    nnz: int,
    longest: int,
    recipe: HeadRecipe,
    seed: int,
    whole: Whole,
    checkpoint: Path | None,
) -> None:
    asking = corpus.asking
    pool = Pool(corpus.documents, corpus.own.near, asking.rows, asking.near, recipe)
    objective = Fitting(head, nnz, longest, recipe)
    file = checkpoint_file(checkpoint, recipe.stage)
    followed(fitting(objective, pool, seed, corpus.checksum, file), recipe.stage, whole)


# ---- refine


@within_memory
def refined(
    corpus: Corpus,
    start: SparseVectors,
    tensors: Tensors,
    limits: Limits,
    seed: int,
    whole: Whole,
    checkpoint: Path | None,
) -> tuple[SparseVectors, Tensors, float]:
    """Stage 3: the codes of the documents, `query_weights` and `query_bias` fitted to them, and the products' scale.

    start: the head's code of each document, a few weights longer than it may be. checkpoint: a folder for its file.
    """
    device = corpus.documents.device
    codes = padded(start, -1).to(device)  # a negative weight counts as zero and stays
    mean, weights, bias = (torch.tensor(tensors[n], device=device) for n in ("mean", "query_weights", "query_bias"))
    recipe = tempered(refine_recipe(len(bias), limits.nnz, len(codes)), corpus.spread)
    recipe = shared(recipe, corpus.sample.count, corpus.own.count)
    used = shares(codes.values.clamp_min(0), codes.indices, len(bias))
    longest = paid_length(corpus.some_asking(), mean, weights, bias, used, limits, recipe.longer)
    free = Refined(codes, mean, weights, bias, recipe.student_scale)
    alike = _alike(corpus.sample.rows, recipe.alike)
    epochs = Epochs(corpus.documents, corpus.sample, corpus.own, alike, corpus.wide, recipe)
    price = recipe.price if longest != limits.query_nnz else 0.0  # where lists are what is short, F has no price
    prices = price * torch.from_numpy(used / used.mean()).float().to(device)
    file = checkpoint_file(checkpoint, "refine")
    data = zlib.crc32(start.values.data, corpus.checksum)
    objective = Refining(free, corpus.documents, longest, recipe)
    followed(refining(objective, epochs, prices, 3 * seed + 2, data, file), "refine", whole)
    fitted = {name: getattr(free, name).detach().cpu().numpy() for name in ("query_weights", "query_bias")}
    return _strongest(free.cpu(), limits.nnz, start.dimension), fitted, float(free.log_scale.detach().exp())


def _alike(queries: Tensor, alike: int) -> Tensor:
    """Of each query (q, input_dim) so many others that are most like it."""
    return near(queries, queries, min(alike + 1, len(queries))).near[:, 1:] if len(queries) else torch.empty(0, 0)


def _some(rows: Tensor) -> Tensor:
    return rows[:: -(-len(rows) // CalibrationRecipe().usage_rows)]


def paid_length(
    queries: Tensor, mean: Tensor, weights: Tensor, bias: Tensor, used: Shares, limits: Limits, longer: float
) -> int:
    """How many of a query's largest activations to train: `longer` times what F pays for now, or all it may have.

    used (dimension,): share of the documents that use each dimension. Training makes queries avoid the dimensions that
    cost much, so that the budget will pay for more of them.
    """
    prices = torch.from_numpy(limits.nnz / used.sum() * used).to(bias.device)  # of one weight, in multiplications
    with torch.no_grad():
        values, indices = torch.addmm(bias, queries - mean, weights.T).sort(dim=1, descending=True)
    spent = (prices[indices] * (values > 0)).cumsum(dim=1).mean(dim=0)
    paid = int((spent <= limits.flops).sum())
    return min(max(1, int(longer * paid)), limits.query_nnz or len(bias), len(bias))


def _strongest(codes: Refined, nnz: int, dimension: int) -> SparseVectors:
    """The corpus with `nnz` weights a document in the mean: its weakest weights go, never a document's strongest."""
    weights, indices = codes.weights.detach().clamp_min(0).numpy(), codes.indices.numpy()
    kept = weights > 0
    if (excess := int(kept.sum()) - nnz * len(weights)) > 0:
        strongest = weights.argmax(axis=1)[:, None]
        candidates = np.where(kept, weights, np.inf)
        np.put_along_axis(candidates, strongest, np.inf, axis=1)
        flat = candidates.reshape(-1)
        kept.reshape(-1)[np.argpartition(flat, excess)[:excess]] = False
    empty = ~kept.any(axis=1)
    weights[empty, 0], kept[empty, 0] = 1e-6, True
    order = np.argsort(np.where(kept, indices, dimension), axis=1, kind="stable")
    kept = np.take_along_axis(kept, order, axis=1)
    columns = np.take_along_axis(indices, order, axis=1)[kept]
    values = np.take_along_axis(weights, order, axis=1)[kept]
    return SparseVectors(np.concatenate(([0], np.cumsum(kept.sum(axis=1)))), columns, values, dimension)
