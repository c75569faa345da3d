"""What `refine` keeps for documents that come later (`encoder.newcomers`), and what share of their places these get.

The factor of their weights is found on documents of the corpus, taken for newcomers: each is fitted alone and asked
for, by rows that were not learned from, among the others as refining left them. At the factor where as many are
returned as should be, most is found of the whole corpus; but then a newcomer is found much less often than a fitted
document, since not all that are returned are the right ones. `NewcomerRecipe.returned` is as many as the head's codes
return: newcomers and fitted documents are then both found more often than with those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from sparsevec.encoder.config import NewcomersConfig
from sparsevec.encoder.figures import Asking, Judge, is_worse, spacing
from sparsevec.encoder.head import Cut, Float64s, Projection, encoded
from sparsevec.encoder.newcomers import Newcomers, packed
from sparsevec.encoder.recipe import NewcomerRecipe
from sparsevec.measure.intervals import interval
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.postings import BlockLists
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Asked", "Corpus", "some_tried", "welcomed"]


_Kind: TypeAlias = tuple[Asking, SparseVectors]


class Asked(NamedTuple):
    """Rows (m, columns) of unit length that ask, their codes, and the documents nearest to each (m, near)."""

    rows: Float32s
    codes: SparseVectors
    near: Int64s


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents as refining left them, and how the head makes codes of others."""

    units: Float32s
    codes: SparseVectors
    head: Projection
    cut: Cut
    nnz: int
    scale: float
    """of sparse products, as refining learned it"""
    temperature: float
    """of the dense ones"""


def some_tried(documents: int, unseen: Int64s, seed: int) -> Int64s:
    """Places of documents to find the factor by, none of the unseen. They must not ask."""
    recipe = NewcomerRecipe()
    others = np.setdiff1d(np.arange(documents), unseen)
    count = min(recipe.tried, documents // recipe.tried_share)
    return np.sort(np.random.default_rng([seed, 5]).permutation(others)[:count])


def welcomed(
    corpus: Corpus, asked: Asked, judge: Judge, queries: list[SparseVectors], tried: Int64s, unseen: Int64s, seed: int
) -> tuple[dict[str, Float32s], NewcomersConfig] | None:
    """The tensors and settings that fit newcomers; None where the head's codes do better, or nobody asks for any.

    queries: codes of the judge's kinds. tried: places, among the judge's documents, of those to find the factor by;
    unseen: of those that the head has not learned from, to measure on.
    """
    recipe = NewcomerRecipe()
    tensors = packed(asked.rows, _log_sums(corpus, asked, recipe, seed), asked.codes)

    def fitted(factor: float, places: Int64s) -> SparseVectors:
        newcomers = Newcomers(tensors, corpus.scale, corpus.temperature, factor, recipe)
        return newcomers.encoded(judge.documents[places], corpus.head, corpus.cut, corpus.nnz)

    stored = corpus.codes[:: spacing(len(corpus.codes), len(judge.documents))]
    asking = list(zip(judge.kinds, queries, strict=True))[:-1]  # all but the off-topic ones
    factor = _factor(stored, fitted(1.0, tried), tried, asking, recipe.returned)
    if factor is None or not any(np.isin(kind.truth.rows, unseen).any() for kind, _ in asking):
        return None
    by_head = encoded(judge.documents[unseen], corpus.head, corpus.cut)
    ways = [_replaced(stored, codes, unseen) for codes in (fitted(factor, unseen), by_head)]
    ours, theirs, before = (_Found.of(judge, codes, asking, unseen) for codes in (*ways, stored))
    if is_worse(ours.recall_10, theirs.recall_10):
        return None
    kept = NewcomersConfig(
        asking=len(asked.rows),
        weights=asked.codes.nnz,
        scale=corpus.scale,
        temperature=corpus.temperature,
        factor=factor,
        pairs=ours.pairs,
        found=float(ours.shares.mean()),
        found_interval=interval(ours.shares),
        found_by_head=float(theirs.shares.mean()),
        found_refined=float(before.shares.mean()),
    )
    return tensors, kept


def _log_sums(corpus: Corpus, asked: Asked, recipe: NewcomerRecipe, seed: int) -> Float64s:
    """(2, m): of each row that asks, over its candidates, the log sum exp of dense and of sparse products."""
    generator, stored = np.random.default_rng([seed, 6]), corpus.codes.to_scipy()
    sums, query = np.empty((2, len(asked.rows))), np.zeros(corpus.codes.dimension, np.float32)
    for number, (row, code, near) in enumerate(zip(asked.rows, asked.codes, asked.near, strict=True)):
        candidates = np.concatenate([near, generator.integers(len(corpus.units), size=recipe.strangers)])
        query[code.indices] = code.values
        sums[0, number] = _log_sum(corpus.units[candidates] @ row / corpus.temperature)
        sums[1, number] = _log_sum(stored[candidates] @ query * corpus.scale)
        query[code.indices] = 0
    return sums


def _log_sum(values: Float32s) -> float:
    top = float(values.max())
    return top + float(np.log(np.exp(values - top).sum(dtype=np.float64)))


def _factor(
    stored: SparseVectors, newcomers: SparseVectors, places: Int64s, asking: list[_Kind], returned: float
) -> float | None:
    """At which newcomers are in the top tens `returned` times as often as they should be; None if never.

    The i-th best newcomer of a query is in its top ten once it scores more than the (10 - i)-th best of the others.
    """
    others, new = BlockLists(stored), BlockLists(newcomers)
    allowed, ratios, due = np.ones(len(stored), bool), [], 0
    allowed[places] = False
    for kind, codes in asking:
        for number, code in enumerate(codes):
            itself = -1 if kind.itself is None else int(kind.itself[number])
            here, not_itself = allowed.copy(), places != itself
            here[itself] &= itself < 0
            bars, scores = np.zeros(10), np.zeros(10)
            best_others, best_new = others.search(code, 10, here)[1], new.search(code, 10, not_itself)[1]
            bars[: len(best_others)], scores[: len(best_new)] = best_others, best_new
            ratios.append((bars[::-1] / np.maximum(scores, 1e-30))[scores > 0])
        due += int(np.isin(kind.truth.rows, places).sum())
    rising, wanted = np.sort(np.concatenate(ratios)), round(returned * due)
    return float(rising[wanted - 1]) if 0 < wanted <= len(rising) and rising[wanted - 1] > 0 else None


def _replaced(stored: SparseVectors, codes: SparseVectors, places: Int64s) -> SparseVectors:
    order = np.arange(len(stored))
    order[places] = len(stored) + np.arange(len(places))
    return SparseVectors.concat([stored, codes])[order]


@dataclass(frozen=True, slots=True)
class _Found:
    """Of some documents in codes of one way."""

    recall_10: Float64s
    """(q,)"""
    shares: Float64s
    """of the newcomers that should be there, one number for each query that has any"""
    pairs: int
    """of such a query and such a newcomer"""

    @classmethod
    def of(cls, judge: Judge, codes: SparseVectors, asking: list[_Kind], places: Int64s) -> _Found:
        recall, shares, pairs = [], [], 0
        for kind, queries in asking:
            found = sparse_top(codes, queries, 10, itself=kind.itself)
            recall.append(recalls(judge.units, kind.units, found, kind.truth))
            due = np.isin(kind.truth.rows, places)
            hit = np.array([np.isin(rows, got) for rows, got in zip(kind.truth.rows, found, strict=True)]) & due
            shares.append(hit.sum(axis=1)[due.any(axis=1)] / due.sum(axis=1)[due.any(axis=1)])
            pairs += int(due.sum())
        return cls(np.concatenate(recall), np.concatenate(shares), pairs)
