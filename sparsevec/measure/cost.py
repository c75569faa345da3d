"""What a search over these vectors costs, counted: F, its distance from the optimum, and who is responsible.

F = sum_j p^q_j p^d_j is the expected number of multiplications of one query-document pair (Paria et al., ICLR 2020,
section 3; for queries and documents that differ, as SPLADE reports it). R_sub = F / (d pbar^q pbar^d) compares it with
dimensions that are all used equally often. Where both sides use them alike, 1 is the least; below it, queries avoid the
dimensions that many documents use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparsevec.contract.checks import check_vectors
from sparsevec.errors import InvalidVectors
from sparsevec.vectors import Int64s, SparseVectors

__all__ = ["Cost", "cost", "document_frequency", "flops", "r_sub", "touched", "touched_by_each", "usage"]

POSTING_BYTES = 8  # a 32-bit document number and a float32 weight


def document_frequency(vectors: SparseVectors) -> Int64s:
    """How many vectors use each dimension, (dimension,)."""
    return np.bincount(vectors.indices, minlength=vectors.dimension)


def usage(vectors: SparseVectors) -> npt.NDArray[np.float64]:
    """p_j: the share of vectors that use dimension j, (dimension,)."""
    if len(vectors) == 0:
        raise InvalidVectors("expected at least one vector to count, found none")
    return document_frequency(vectors) / len(vectors)


def flops(queries: SparseVectors, documents: SparseVectors) -> float:
    """F = sum_j p^q_j p^d_j, multiplications per query-document pair."""
    _check(queries, documents)
    return float(usage(queries) @ usage(documents))


def r_sub(f: float, nnz: float, query_nnz: float, dimension: int) -> float:
    """F over that of an even spread of the same numbers of weights; NaN when one side has none."""
    return f * dimension / (nnz * query_nnz) if nnz and query_nnz else float("nan")


def touched(queries: SparseVectors, documents: SparseVectors) -> float:
    """The share of the documents that share at least one dimension with a query, in the mean: what has to be ranked.

    At most F, and less where pairs share several dimensions. Counted, not estimated: it visits every posting.
    """
    return float(touched_by_each(queries, documents).mean() / len(documents))


def touched_by_each(queries: SparseVectors, documents: SparseVectors) -> Int64s:
    """How many documents share at least one dimension with each query, (q,)."""
    _check(queries, documents)
    if not len(queries) or not len(documents):
        raise InvalidVectors("expected at least one query and one document to count, found none")
    used, columns = np.unique(np.concatenate([queries.indices, documents.indices]), return_inverse=True)
    sides = zip((queries, documents), np.split(columns, [queries.nnz]), strict=True)
    asked, answering = (  # ones, not the weights: their products could cancel
        sp.csr_array((np.ones(batch.nnz, np.int32), own, batch.indptr), shape=(len(batch), len(used)))
        for batch, own in sides
    )
    postings = answering.T.tocsr()
    blocks = (asked[start : start + _QUERIES] @ postings for start in range(0, len(queries), _QUERIES))
    return np.concatenate([np.diff(block.indptr) for block in blocks]).astype(np.int64)


_QUERIES = 256  # at a time, so that their pairs stay in memory


def _check(queries: SparseVectors, documents: SparseVectors) -> None:
    check_vectors(queries, "queries")
    check_vectors(documents, "documents")
    if queries.dimension != documents.dimension:
        raise InvalidVectors(f"queries have dimension {queries.dimension}, documents {documents.dimension}")


@dataclass(frozen=True, slots=True)
class Cost:
    """The figures of a report; names as sentence-transformers users know them."""

    active_dims: float
    """mean nnz of a document"""
    query_active_dims: float
    """mean nnz of a query"""
    sparsity_ratio: float
    """share of zeros in a document"""
    flops: float
    """F, multiplications per query-document pair"""
    r_sub: float
    """F over that of an even spread at the same mean nnz"""
    dead_dims: int
    """dimensions that no document uses"""
    max_document_frequency: float
    """share of the documents in the longest posting list"""
    bytes: int
    """of one document's postings, 8 bytes a weight"""


def cost(queries: SparseVectors, documents: SparseVectors) -> Cost:
    """Count `queries` (q, dimension) against `documents` (n, dimension). Raises InvalidVectors."""
    f = flops(queries, documents)
    p_documents = usage(documents)
    mean_documents, mean_queries = documents.nnz / len(documents), queries.nnz / len(queries)
    return Cost(
        active_dims=mean_documents,
        query_active_dims=mean_queries,
        sparsity_ratio=1 - mean_documents / documents.dimension,
        flops=f,
        r_sub=r_sub(f, mean_documents, mean_queries, documents.dimension),
        dead_dims=int((p_documents == 0).sum()),
        max_document_frequency=float(p_documents.max()),
        bytes=round(mean_documents * POSTING_BYTES),
    )
