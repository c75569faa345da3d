"""How much of what the dense vectors find is found by the sparse ones, and for how many multiplications.

Two figures, because a sparse search is used in two ways: as the answer (recall_10, the overlap of the two top tens) and
as the candidate stage before a re-ranking with dense vectors (recall_10_at_100: the dense top ten inside the sparse top
hundred, and nDCG@10 after that re-ranking when relevant documents are known).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from sparsevec.errors import ClientMissing, InvalidInput, InvalidVectors
from sparsevec.exact.reference import PostingLists, best
from sparsevec.measure.cost import Cost, cost
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Evaluation", "Qrels", "dense_top", "evaluate", "evaluate_dense", "ndcg", "recall", "sparse_top", "unit"]

Qrels = Mapping[int, Mapping[int, int]]
"""The relevance of document rows, by query row; what is not named is not relevant."""

_SCORES = 2**24  # dense scores held at a time


class Evaluation(BaseModel):
    """Quality and cost of sparse vectors beside the dense ones they stand for; the names as in `flops.Cost`."""

    documents: int
    queries: int
    recall_10: float
    """share of the dense top 10 in the sparse top 10"""
    recall_10_at_100: float
    """share of the dense top 10 in the sparse top 100"""
    ndcg_10: float | None = None
    """nDCG@10 of the sparse top 100, re-ranked with the dense vectors; None without relevant documents"""
    dense_ndcg_10: float | None = None
    """nDCG@10 of the dense vectors alone"""
    active_dims: float
    query_active_dims: float
    sparsity_ratio: float
    flops: float
    r_sub: float
    dead_dims: int
    max_document_frequency: float
    bytes: int
    """of one document's postings"""
    dense_bytes: int
    """of one document's dense float32 vector"""


def evaluate(
    dense: npt.ArrayLike,
    dense_queries: npt.ArrayLike,
    documents: SparseVectors,
    queries: SparseVectors,
    *,
    qrels: Qrels | None = None,
) -> Evaluation:
    """Compare `documents` and `queries` with the dense rows (n, input_dim) and (q, input_dim) they were made of.

    "Dense" means exact cosine. Raises InvalidVectors when the four do not fit together.
    """
    rows, asked = unit(dense), unit(dense_queries)
    if (found := (len(documents), len(queries))) != (due := (len(rows), len(asked))):
        raise InvalidVectors(f"sparse (documents, queries) must be as many as dense, {due}, found {found}")
    return _evaluation(rows, asked, sparse_top(documents, queries, 100), cost(queries, documents), qrels)


def evaluate_dense(
    dense: npt.ArrayLike,
    dense_queries: npt.ArrayLike,
    codes: Float32s,
    code_queries: Float32s,
    *,
    qrels: Qrels | None = None,
) -> Evaluation:
    """The same of short dense codes (n, m) and (q, m), such as a PCA's: every pair costs m multiplications."""
    m = codes.shape[1]
    spent = Cost(
        active_dims=m,
        query_active_dims=m,
        sparsity_ratio=0,
        flops=m,
        r_sub=1,
        dead_dims=0,
        max_document_frequency=1,
        bytes=4 * m,
    )
    return _evaluation(unit(dense), unit(dense_queries), dense_top(codes, code_queries, 100), spent, qrels)


def _evaluation(
    rows: Float32s, asked: Float32s, candidates: Sequence[Int64s], spent: Cost, qrels: Qrels | None
) -> Evaluation:
    truth = dense_top(rows, asked, 10)
    return Evaluation(
        documents=len(rows),
        queries=len(asked),
        recall_10=recall([found[:10] for found in candidates], truth),
        recall_10_at_100=recall(candidates, truth),
        ndcg_10=None if qrels is None else ndcg(rows, asked, candidates, qrels),
        dense_ndcg_10=None if qrels is None else ndcg(rows, asked, truth, qrels),
        dense_bytes=4 * rows.shape[1],
        **asdict(spent),
    )


def unit(dense: npt.ArrayLike) -> Float32s:
    """The rows (n, d) at length 1. Raises InvalidVectors for anything else than rows of finite numbers, none zero."""
    rows = np.asarray(dense, np.float32)
    if rows.ndim != 2 or not len(rows):
        raise InvalidVectors(f"dense vectors must have shape (n, d) with n at least 1, found shape {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (sound := (np.isfinite(lengths) & (lengths > 0))[:, 0]).all():
        raise InvalidVectors(f"dense vector {int(np.argmin(sound))} is zero or not finite; it has no direction")
    return np.asarray(rows / lengths)


def dense_top(rows: Float32s, queries: Float32s, k: int) -> list[Int64s]:
    """Of each query (q, d) the k nearest rows (n, d) by dot product, best first."""
    size = max(1, _SCORES // len(rows))
    blocks = [queries[start : start + size] @ rows.T for start in range(0, len(queries), size)]
    return [best(scores.astype(np.float64), k) for block in blocks for scores in block]


def sparse_top(documents: SparseVectors, queries: SparseVectors, k: int) -> list[Int64s]:
    """Of each query the rows of its k best documents, best first, by exact score."""
    lists = PostingLists(documents)
    found = []
    for query in queries:
        rows, scores = lists.scores(query)
        found.append(rows[best(scores, k)])
    return found


def recall(candidates: Sequence[Int64s], truth: Sequence[Int64s]) -> float:
    """The share of `truth` that is among the `candidates` of the same query, in the mean."""
    return float(np.mean([np.isin(due, found).mean() for found, due in zip(candidates, truth, strict=True)]))


def ndcg(rows: Float32s, queries: Float32s, candidates: Sequence[Int64s], qrels: Qrels) -> float:
    """nDCG@10 of the `candidates` of each query, re-ranked with the dense rows, over the queries in `qrels`.

    Raises ClientMissing without ir-measures, InvalidInput when no query has a relevant document.
    """
    try:
        from ir_measures import calc_aggregate, nDCG
    except ImportError:
        raise ClientMissing.extra("ir-measures", "cli") from None
    if not qrels:
        raise InvalidInput("expected relevant documents for at least one query, found none")
    run = {
        str(query): dict(zip(map(str, found.tolist()), (rows[found] @ queries[query]).tolist(), strict=True))
        for query, found in enumerate(candidates)
        if query in qrels
    }
    judged = {str(query): {str(row): grade for row, grade in rows.items()} for query, rows in qrels.items()}
    return float(calc_aggregate([nDCG @ 10], judged, run)[nDCG @ 10])
