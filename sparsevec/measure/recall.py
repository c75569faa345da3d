"""How much of what the dense vectors find is found by the sparse ones, and for how many multiplications.

Two figures, because a sparse search is used in two ways: as the answer (recall_10, the overlap of the two top tens) and
as the candidate stage before a re-ranking with dense vectors (recall_10_at_100: the dense top ten inside the sparse top
hundred, and nDCG@10 after that re-ranking when relevant documents are known).

Ties count by score: a returned document is one of the dense top k when its cosine is at least that of the k-th best,
less what rounding makes of a cosine; at most min(k, n) count. So equal documents are neither punished nor rewarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from sparsevec.contract.checks import check_space, check_vectors
from sparsevec.dense import Nearest, best, dense_rows, nearest, unit_rows
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.measure.cost import Cost, cost
from sparsevec.measure.intervals import Interval, interval
from sparsevec.measure.labels import Qrels, check_rows, ndcgs
from sparsevec.postings import BlockLists, Float64s
from sparsevec.similarity import COLUMNS, Near, Similarity, check_similarity
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = [
    "COSINE_TOLERANCE",
    "Evaluation",
    "Judged",
    "Qrels",
    "dense_top",
    "evaluate",
    "evaluate_dense",
    "judged",
    "recalls",
    "reranked",
    "sparse_top",
]

COSINE_TOLERANCE = 2.0**-20
"""Of a cosine: rounding unit rows to float32 and adding a thousand products in float32 changes it by less."""


class Evaluation(BaseModel):
    """Quality and cost of sparse vectors beside the dense ones they stand for; the names as in `Cost`."""

    documents: int
    """searched over"""
    queries: int
    """asked"""
    recall_10: float
    """share of the dense top 10 in the sparse top 10"""
    recall_10_interval: Interval | None = None
    """95 %, over queries"""
    recall_10_at_100: float
    """share of the dense top 10 in the sparse top 100"""
    recall_10_at_100_interval: Interval | None = None
    ndcg_10: float | None = None
    """nDCG@10 of the sparse top 100, re-ranked with the dense vectors; None without relevant documents"""
    ndcg_10_interval: Interval | None = None
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
    dense: Any,
    dense_queries: Any,
    documents: SparseVectors,
    queries: SparseVectors,
    *,
    qrels: Qrels | None = None,
    itself: Int64s | None = None,
    similarity: Near = "cosine",
) -> Evaluation:
    """Compare `documents` and `queries` with the dense rows (n, input_dim) and (q, input_dim) they were made of.

    similarity: what the dense search ranks by, "cosine", "dot" or "l2", exactly; the encoder's own,
    `encoder.similarity`. itself (q,): the document that each query is, which then finds others only; -1 where it is
    none. Raises InvalidVectors when the four do not fit together, WrongSpace for queries of another encoder than that
    of the documents, InvalidInput for another similarity, and for relevant documents that are not rows of these.
    """
    documents, queries = check_vectors(documents), check_vectors(queries, what="queries")
    rows, asked = _units(dense, dense_queries, check_similarity(similarity))
    if (found := (len(documents), len(queries))) != (expected := (len(rows), len(asked))):
        raise InvalidVectors(f"expected as many sparse (documents, queries) as dense, {expected}, found {found}")
    check_space(queries, documents.fingerprint)
    if qrels is not None:
        check_rows(qrels, len(documents))
    if itself is not None:
        itself = _rows_of_queries(itself, len(queries), len(documents))
    candidates = sparse_top(documents, queries, 100, itself=itself)
    worth = judged(rows, asked, candidates, qrels=qrels, itself=itself)
    return _evaluation(worth, cost(queries, documents), len(rows), rows.shape[1] - COLUMNS[similarity])


def _rows_of_queries(itself: Any, q: int, n: int) -> Int64s:
    try:
        found = np.asarray(itself)
    except ValueError:  # of several lengths
        found = np.empty(0, object)
    if found.shape != (q,) or found.dtype.kind not in "iu" or found.min() < -1 or found.max() >= n:
        raise InvalidInput(
            f"itself must be the row of a document, or -1, for each of {q} queries, whole numbers in [-1, {n}), found "
            f"{found.dtype} of shape {found.shape}"
            + (f" in [{found.min()}, {found.max()}]" if found.size and found.dtype.kind in "iu" else "")
        )
    return found.astype(np.int64)


def evaluate_dense(
    dense: Any, dense_queries: Any, codes: Float32s, code_queries: Float32s, *, qrels: Qrels | None = None
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
    rows, asked = _units(dense, dense_queries, "cosine")
    worth = judged(rows, asked, dense_top(codes, code_queries, 100), qrels=qrels)
    return _evaluation(worth, spent, *rows.shape)


def _units(dense: Any, dense_queries: Any, near: Near) -> tuple[Float32s, Float32s]:
    """As unit rows whose cosines rank as `near` does."""
    rows = dense_rows(dense, what="documents", zeros=near != "cosine")
    asked = dense_rows(dense_queries, what="queries", zeros=near == "l2")
    if not len(rows) or not len(asked):
        raise InvalidVectors(f"expected at least one document and one query, found {len(rows)} and {len(asked)}")
    if rows.shape[1] != asked.shape[1]:
        raise InvalidVectors(f"documents have {rows.shape[1]} columns, queries {asked.shape[1]}; one model made both")
    reduced = Similarity.of(near, rows)
    return unit_rows(reduced.documents(rows)), unit_rows(reduced.queries(asked))


def _evaluation(quality: Judged, spent: Cost, n: int, columns: int) -> Evaluation:
    at_10, at_100, gains = quality.recall_10, quality.recall_10_at_100, quality.ndcg_10
    return Evaluation(
        documents=n,
        queries=len(at_10),
        recall_10=float(at_10.mean()),
        recall_10_interval=interval(at_10),
        recall_10_at_100=float(at_100.mean()),
        recall_10_at_100_interval=interval(at_100),
        ndcg_10=None if gains is None else float(gains.mean()),
        ndcg_10_interval=None if gains is None else interval(gains),
        dense_ndcg_10=None if quality.dense_ndcg_10 is None else float(quality.dense_ndcg_10.mean()),
        dense_bytes=4 * columns,
        **asdict(spent),
    )


# ---- the ruler


@dataclass(frozen=True, slots=True)
class Judged:
    """What one ranking of each query is worth, a number for each, so that two of them can be compared in pairs."""

    recall_10: Float64s
    """(q,)"""
    recall_10_at_100: Float64s
    """(q,)"""
    ndcg_10: Float64s | None = None
    """of the queries that have a relevant document, after re-ranking the candidates with the dense rows"""
    dense_ndcg_10: Float64s | None = None


def judged(
    rows: Float32s,
    queries: Float32s,
    candidates: Sequence[Int64s],
    *,
    qrels: Qrels | None = None,
    itself: Int64s | None = None,
) -> Judged:
    """Judge the candidates (up to 100, best first) of each query by unit `rows` (n, d) and `queries` (q, d).

    Raises ClientMissing for `qrels` without ir-measures, InvalidInput when no query has a relevant document.
    """
    truth = nearest(rows, queries, 10, itself=itself)
    gains = dense_gains = None
    if qrels is not None:
        gains = ndcgs(reranked(rows, queries, candidates), qrels, 10)
        dense_gains = ndcgs(list(truth.rows), qrels, 10)
    return Judged(
        recalls(rows, queries, [found[:10] for found in candidates], truth),
        recalls(rows, queries, candidates, truth),
        gains,
        dense_gains,
    )


def recalls(rows: Float32s, queries: Float32s, candidates: Sequence[Int64s], truth: Nearest) -> Float64s:
    """For each query the share of its dense top k, `truth` (q, k), that is among its candidates: (q,).

    Unit rows (n, d) and queries (q, d). Raises InvalidVectors when there is nobody to find.
    """
    k = truth.rows.shape[1]
    if k == 0:
        raise InvalidVectors("expected at least one document that a query could find, found none")
    shares = np.empty(len(queries))
    for number, (query, found) in enumerate(zip(queries, candidates, strict=True)):
        wide = query.astype(np.float64)
        bar = float((rows[truth.rows[number]].astype(np.float64) @ wide).min()) - COSINE_TOLERANCE
        reached = int((rows[found].astype(np.float64) @ wide >= bar).sum())
        shares[number] = min(reached, k) / k
    return shares


def dense_top(rows: Float32s, queries: Float32s, k: int, *, itself: Int64s | None = None) -> list[Int64s]:
    """Of each query (q, d) the k nearest rows (n, d) by dot product, best first."""
    return list(nearest(rows, queries, k, itself=itself).rows)


def sparse_top(
    documents: SparseVectors, queries: SparseVectors, k: int, *, itself: Int64s | None = None
) -> list[Int64s]:
    """Of each query the rows of its k best documents, best first, by exact score; without the query `itself` (q,)."""
    lists = BlockLists(documents)
    if itself is None:
        return [top.rows for top in lists.search_all(queries, k)]
    tops = lists.search_all(queries, k + 1)
    return [top.rows[top.rows != own][:k] for top, own in zip(tops, itself.tolist(), strict=True)]


def reranked(rows: Float32s, queries: Float32s, candidates: Sequence[Int64s]) -> list[Int64s]:
    """The candidates of each query (q, d) in the order of their dense rows (n, d), ties to the lower row."""
    ordered = [np.sort(found) for found in candidates]
    return [found[best(rows[found] @ query, len(found))] for found, query in zip(ordered, queries, strict=True)]
