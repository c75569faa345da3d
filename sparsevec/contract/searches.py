"""`Search`: what one search asks for beside its queries and k, and the second look where an engine has none itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Queries, check_k, check_queries
from sparsevec.contract.filters import Where
from sparsevec.errors import CollectionError, InvalidInput
from sparsevec.vectors import Float32s, SparseVector, SparseVectors

__all__ = ["Search", "as_given", "no_place", "products", "rescored"]


@dataclass(frozen=True, slots=True)
class Search:
    """The arguments of `Adapter.search` behind `queries` and `k`."""

    where: Where | None = None
    with_payloads: bool = False
    with_vectors: bool = False
    with_codes: bool = False
    rescore: Queries | None = None
    candidates: int | None = None
    after: str | None = None

    def depth(self, k: int) -> int:
        """How many documents the first look brings. Raises InvalidInput."""
        if self.candidates is None:
            return check_k(k)
        if self.rescore is None:
            raise InvalidInput("candidates= says how many documents rescore= re-orders; give rescore=, or leave it out")
        if check_k(self.candidates, "candidates") < check_k(k):
            raise InvalidInput(f"expected candidates >= k, found {self.candidates} candidates for k={k}")
        return int(self.candidates)

    def second_look(self, first: SparseVectors, dimension: int | None, fingerprint: str | None) -> SparseVectors | None:
        """The queries that re-order the candidates of `first`, one each, if any. Raises InvalidInput, WrongSpace."""
        if self.after is not None and not isinstance(self.after, str):
            raise no_place(self.after)
        if self.after is not None and (self.rescore is not None or len(first) != 1):
            found = "rescore=" if self.rescore is not None else f"{len(first)} queries"
            raise InvalidInput(f"after= reads on in the ranking of one query, without rescore=; found {found}")
        if self.rescore is None:
            return None
        second = check_queries(self.rescore, dimension, fingerprint)
        if len(second) != len(first):
            raise InvalidInput(f"expected one row of rescore= a query, found {len(second)} and {len(first)}")
        return second

    def check_codes(self, code_bytes: int | None) -> None:
        """Raises CollectionError when codes are asked of a collection that keeps none."""
        if self.with_codes and code_bytes is None:
            raise CollectionError(
                "the collection keeps no residual codes; create(dimension, code_bytes=...) makes one that does, and "
                "a search without with_codes= works here"
            )


def no_place(after: object) -> InvalidInput:
    """For an `after` that no hits gave."""
    return InvalidInput(f'expected after="" to begin, or the `after` of earlier hits, found {after!r:.80}')


def rescored(hits: Hits, query: SparseVector, k: int, *, with_vectors: bool) -> Hits:
    """The k best of `hits`, which bring their vectors, by their product with `query`: the score is defined as that of a
    first look (float32 weights, float64 sums in ascending dimension order); ties in the order of `hits`."""
    assert hits.vectors is not None
    scores, touched = products(query, hits.vectors)
    kept = np.flatnonzero(touched)  # who shares no dimension is no hit
    best = kept[np.argsort(-scores[kept], kind="stable")][:k]
    chosen = hits.rows(best)
    return replace(chosen, scores=scores[best], vectors=chosen.vectors if with_vectors else None)


def products(query: SparseVector, vectors: SparseVectors) -> tuple[Float32s, npt.NDArray[np.bool_]]:
    """The score (n,) of each row as it is defined, and whether the row shares a dimension with the query, (n,)."""
    at = np.searchsorted(query.indices, vectors.indices)
    known = at < len(query)
    known[known] = query.indices[at[known]] == vectors.indices[known]
    rows = np.repeat(np.arange(len(vectors)), vectors.row_nnz)[known]
    parts = query.values[at[known]].astype(np.float64) * vectors.values[known].astype(np.float64)
    sums = np.bincount(rows, parts, len(vectors))  # adds in the order given: dimensions ascending
    return as_given(sums), np.bincount(rows, minlength=len(vectors)) > 0


def as_given(scores: npt.NDArray[Any]) -> Float32s:
    """`Hits.scores`: rounded to float32, which is inf where they are beyond it."""
    with np.errstate(over="ignore"):
        return scores.astype(np.float32)
