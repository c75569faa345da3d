"""Retrieval as in the paper (Paria et al., ICLR 2020, section 5): inverted index, score threshold, top k, re-ranking.

    retrieval = Retrieval(pruned(documents, 0.05), dense=rows)
    retrieval.search(pruned(queries, 0.1), k=10, score_threshold=0.25)
    retrieval.search_reranked(queries, dense_queries, k=10, shortlist=1000, score_threshold=0.25)

Two thresholds that are not the same thing: `pruned` drops small weights, of queries and of documents each by its own,
and so changes the scores; the score threshold drops documents whose score is too low, and changes no other score.

The sparse scores are those of `sparsevec.postings`, bit for bit: float64, added in ascending dimension order.
So are the dense ones. Ties go to the lower row.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sparsevec.contract.checks import as_real, check_k
from sparsevec.dense import as_array, best
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.postings import BlockLists, Float64s
from sparsevec.postings.blocks import LOOPS
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Ranking", "Retrieval", "pruned"]


class Ranking(NamedTuple):
    """The answer to one query: `rows` of the documents (m,) and their `scores` (m,), best first."""

    rows: Int64s
    scores: Float64s


def pruned(vectors: SparseVectors, threshold: float) -> SparseVectors:
    """`vectors` without the weights of at most `threshold`, whatever their sign; a row may become empty.

    The threshold is rounded to float32, as the weights are. Raises InvalidInput unless it is at least 0 and finite.
    """
    least = as_real(threshold)
    if least is None or not (math.isfinite(least) and least >= 0):
        raise InvalidInput(f"a threshold of weights must be at least 0 and finite, found {threshold!r:.80}")
    with np.errstate(over="ignore"):  # 1e39 becomes inf and drops everything
        kept = np.abs(vectors.values) > np.float32(least)
    indptr = np.concatenate(([0], np.cumsum(kept)))[vectors.indptr]
    parts = indptr, vectors.indices[kept], vectors.values[kept], vectors.dimension
    return SparseVectors(*parts, fingerprint=vectors.fingerprint)


class Retrieval:
    """An inverted index of `documents` (n, dimension) and, for re-ranking, their `dense` rows (n, d).

    Compiled where numba is installed (the extra `fast`), else numpy: the same rows and scores.
    """

    def __init__(self, documents: SparseVectors, *, dense: Any | None = None) -> None:
        """Raises InvalidVectors when `dense` has not one finite row for each document."""
        self._n, self._dimension = len(documents), documents.dimension
        self._lists = BlockLists(documents)
        LOOPS.load()
        self._dense = None if dense is None else _rows(dense, len(documents), "documents")

    def search(self, queries: SparseVectors, k: int, *, score_threshold: float = -math.inf) -> list[Ranking]:
        """Of each query the k best of the documents that share a dimension with it and score above the threshold.

        A document that scores the threshold exactly is left out. Raises InvalidVectors for queries of another
        dimension, InvalidInput for a k below 1 or a threshold that is not a number.
        """
        check_k(k)
        if (least := as_real(score_threshold)) is None or math.isnan(least):
            raise InvalidInput(f"the score threshold must be a number, found {score_threshold!r:.80}")
        if queries.dimension != self._dimension:
            raise InvalidVectors(f"queries have dimension {queries.dimension}, documents {self._dimension}")
        found = self._lists.search_all(queries, k)
        return [_above(least, *ranking) for ranking in found]

    def search_reranked(
        self,
        queries: SparseVectors,
        dense_queries: Any,
        k: int,
        *,
        shortlist: int,
        score_threshold: float = -math.inf,
    ) -> list[Ranking]:
        """Of each query the k best of its sparse `shortlist`, by dot product of the dense rows; those are the scores.

        `dense_queries` (q, d) float32, as they are: give unit rows on both sides for the cosine. Raises InvalidInput
        without dense documents or with a shortlist shorter than k, InvalidVectors for rows that do not fit.
        """
        if self._dense is None:
            raise InvalidInput("re-ranking needs the documents' dense rows; give them as Retrieval(..., dense=rows)")
        if check_k(shortlist, "shortlist") < check_k(k):
            raise InvalidInput(f"expected a shortlist of at least k = {k}, found {shortlist}")
        asked = _rows(dense_queries, len(queries), "queries")
        if asked.shape[1] != self._dense.shape[1]:
            raise InvalidVectors(f"dense queries have {asked.shape[1]} columns, dense documents {self._dense.shape[1]}")
        found = self.search(queries, shortlist, score_threshold=score_threshold)
        return [_reranked(rows, self._dense, query, k) for (rows, _), query in zip(found, asked, strict=True)]


def _rows(dense: Any, n: int, of: str) -> Float32s:
    with np.errstate(over="ignore"):  # 1e39 becomes inf and is refused as such
        rows = as_array(dense, of).astype(np.float32, copy=False)
    if rows.ndim != 2 or len(rows) != n or rows.shape[1] == 0:
        raise InvalidVectors(f"expected dense rows of shape ({n}, d) for the {of}, found shape {rows.shape}")
    if not (sound := np.isfinite(rows).all(axis=1)).all():
        raise InvalidVectors(f"dense row {int(np.argmin(sound))} of the {of} is not finite")
    return rows


def _above(threshold: float, rows: Int64s, scores: Float64s) -> Ranking:
    """Best first, so what is above the threshold stands in front: the k best of all, cut, are the k best of those."""
    m = int(np.count_nonzero(scores > threshold))
    return Ranking(rows[:m], scores[:m])


def _reranked(rows: Int64s, dense: Float32s, query: Float32s, k: int) -> Ranking:
    rows = np.sort(rows)  # so that ties go to the lower row
    products = dense[rows].astype(np.float64) * query
    scores = np.cumsum(products, axis=1)[:, -1]  # one after the other: sum() and @ add in an order of their own
    top = best(scores, k)
    return Ranking(rows[top], scores[top])
