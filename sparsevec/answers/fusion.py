"""Several rankings of one query made one: by their ranks alone, or by a weighted sum of their scores. Pure functions.

What engines do on the server, and some only under a licence, said here once, so that the answer is the same
everywhere. Ties go to the document of the earlier ranking, then to the one that it has higher.

Why not on the server, where that is free. Two documents that two rankings have the other way round tie, so ties are
usual, and Qdrant 1.18 (`rrf`) answers them in another order from call to call: six tied documents came in 8 orders in
30 calls. Elasticsearch's retrievers need a licence, OpenSearch's hybrid query a search pipeline that somebody has to
make. And none of them can fuse what was re-ranked by residual codes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Id, Payload, as_real, check_k
from sparsevec.contract.payloads import is_unicode
from sparsevec.contract.searches import as_given
from sparsevec.errors import InvalidInput

__all__ = ["Fusion", "reciprocal_rank_fusion", "weighted_sum"]

_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Fusion:
    """How rankings of one query become one, and which of the engine's own are asked for. Raises InvalidInput."""

    text: Mapping[str, str]
    """fields to words"""
    dense: str | None
    """a field or vector with dense rows"""
    k: int
    depth: int
    """hits of each ranking"""
    by: str
    """ranks or scores"""
    weights: Sequence[float] | None

    def __post_init__(self) -> None:
        if self.by not in ("ranks", "scores"):
            raise InvalidInput(f'by must be "ranks" or "scores", found {self.by!r:.80}')
        if not isinstance(self.text, Mapping) or not all(map(_is_text, [*self.text, *self.text.values()])):
            raise InvalidInput(f"text must map text fields to words, all valid unicode, found {self.text!r:.80}")
        if self.dense is not None and not _is_text(self.dense):
            raise InvalidInput(f"dense must name a field with dense rows, or be None, found {self.dense!r:.80}")
        if not self.text and self.dense is None:
            raise InvalidInput("expected text= or dense=, a ranking of the engine's own to fuse with")
        if self.weights is not None:  # ours first, so that nothing is asked in vain
            _checked_weights(self.weights, 1 + len(self.text) + (self.dense is not None))

    def of(self, rankings: Sequence[Hits]) -> Hits:
        """The k best of the rankings together. Raises InvalidInput for weights that are not one a ranking."""
        fused = reciprocal_rank_fusion if self.by == "ranks" else weighted_sum
        return fused(rankings, self.k, weights=self.weights)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_unicode(value)


def reciprocal_rank_fusion(
    rankings: Sequence[Hits], k: int = 10, *, rank_constant: int = 60, weights: Sequence[float] | None = None
) -> Hits:
    """The k documents with the largest sum of `weight / (rank_constant + rank)`, ranks counted from 1.

    Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual rank learning methods",
    SIGIR 2009, with their constant 60. Scores of different kinds need no common scale. Raises InvalidInput.
    """
    check_k(rank_constant, "rank_constant")
    rankings, shares = _weighted(rankings, weights)
    scores: dict[Id, float] = {}
    for share, hits in zip(shares, rankings, strict=True):
        for rank, id_ in enumerate(hits.ids, 1):
            scores[id_] = scores.get(id_, 0.0) + share / (rank_constant + rank)
    return _best(scores, rankings, k)


def weighted_sum(rankings: Sequence[Hits], k: int = 10, *, weights: Sequence[float] | None = None) -> Hits:
    """The k documents with the largest weighted sum of scores, each ranking's scores first scaled to [0, 1].

    Scaled by its own least and greatest score; where all are equal, each counts 1. A document that a ranking lacks
    gets 0 from it. Raises InvalidInput, for NaN among the scores, too.
    """
    rankings, shares = _weighted(rankings, weights)
    scores: dict[Id, float] = {}
    for share, hits in zip(shares, rankings, strict=True):
        for id_, scaled in zip(hits.ids, _scaled(hits), strict=True):
            scores[id_] = scores.get(id_, 0.0) + share * scaled
    return _best(scores, rankings, k)


def _weighted(rankings: Iterable[Hits], weights: Iterable[float] | None) -> tuple[Sequence[Hits], Sequence[float]]:
    """The rankings, and the weight of each. Raises InvalidInput."""
    found = list(rankings) if isinstance(rankings, Iterable) else []
    if not found or not all(isinstance(hits, Hits) for hits in found):
        raise InvalidInput("expected a list of at least one ranking (Hits), all of the same query")
    return found, [1.0] * len(found) if weights is None else _checked_weights(weights, len(found))


def _checked_weights(weights: Iterable[float], n: int) -> list[float]:
    several = isinstance(weights, Iterable) and not isinstance(weights, str | bytes)
    found = [as_real(weight) for weight in weights] if several else []
    numbers = [weight for weight in found if weight is not None and math.isfinite(weight) and weight >= 0]
    if not len(numbers) == len(found) == n:
        raise InvalidInput(f"expected {n} weights of at least 0, one for each ranking, found {weights!r:.80}")
    return numbers


def _scaled(hits: Hits) -> list[float]:
    if np.isnan(hits.scores).any():
        raise InvalidInput("a ranking has a score that is no number (NaN), and cannot be scaled by its scores")
    scores = np.clip(hits.scores.astype(np.float64), -_LARGEST, _LARGEST)  # those beyond float32 are infinite there
    if not len(scores):
        return []
    least, span = scores.min(), np.ptp(scores)
    scaled: list[float] = ((scores - least) / span if span else np.ones_like(scores)).tolist()
    return scaled


def _best(scores: Mapping[Id, float], rankings: Sequence[Hits], k: int) -> Hits:
    place: dict[Id, tuple[int, int]] = {}
    payloads: dict[Id, Payload] = {}
    for number, hits in reversed(list(enumerate(rankings))):  # the earliest has the last word
        place |= {id_: (number, rank) for rank, id_ in enumerate(hits.ids)}
        payloads |= dict(zip(hits.ids, hits.payloads or (), strict=False))
    best = tuple(sorted(scores, key=lambda id_: (-scores[id_], place[id_]))[: check_k(k)])
    known = all(hits.payloads is not None for hits in rankings)
    return Hits(
        best,
        as_given(np.array([scores[id_] for id_ in best], np.float64)),
        tuple(payloads[id_] for id_ in best) if known else None,
    )
