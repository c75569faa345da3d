"""Why a document is a hit: what each shared dimension adds to its score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparsevec.contract.adapter import Hit, Hits
from sparsevec.errors import InvalidVectors
from sparsevec.vectors import SparseVector

__all__ = ["Contribution", "Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """One dimension that query and document share: `score` is the product of their weights, `share` that of the sum."""

    dimension: int
    query_weight: float
    document_weight: float
    score: float
    share: float
    examples: tuple[Hit, ...] = ()
    """documents that use the dimension most, where they were asked for"""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one score: the contributions, largest magnitude first, add up to it, with `constant` and `residual` where a
    residual code has its part in it."""

    score: float
    contributions: tuple[Contribution, ...]
    constant: float = 0.0
    """of a residual score: what it adds for every document alike"""
    residual: float | None = None
    """what the residual code adds; None where there is none"""

    def __iter__(self) -> Iterator[Contribution]:
        return iter(self.contributions)

    def __len__(self) -> int:
        return len(self.contributions)

    def of(self, score: float) -> Explanation:
        """The same dimensions, as parts of another score."""
        parts = tuple(replace(one, share=one.score / score if score else 0.0) for one in self.contributions)
        return replace(self, score=score, contributions=parts)

    def with_examples(self, found: Sequence[Hits]) -> Explanation:
        """The same; `found`, of the first dimensions each, are the documents that use it most."""
        first = zip(self.contributions, found, strict=False)
        shown = tuple(replace(one, examples=tuple(hits)) for one, hits in first)
        return replace(self, contributions=shown + self.contributions[len(shown) :])

    def __str__(self) -> str:
        lines = [f"score {self.score:.6g} from {len(self)} shared dimensions"]
        lines += [f"  {one.dimension:>8}  {one.score:+.4f}  {one.share:6.1%}" for one in self.contributions]
        if self.residual is not None:
            share = self.residual / self.score if self.score else 0.0
            lines += [f"  {'residual':>8}  {self.residual:+.4f}  {share:6.1%}", f"  {'all':>8}  {self.constant:+.4f}"]
        return "\n".join(lines)


def explain(query: SparseVector, document: SparseVector) -> Explanation:
    """What each dimension adds to the dot product of one query row and one document row, as the backend keeps it.

    `document` should be `adapter.stored(...)` of the vector: then the sum is the exact score, in float64, added in
    ascending dimension order. Raises InvalidVectors when the two are of different dimensions.
    """
    for row in (query, document):
        if not isinstance(row, SparseVector):
            raise InvalidVectors(f"expected one row of SparseVectors, such as vectors[0], found {type(row).__name__}")
    shared, of_query, of_document = np.intersect1d(
        query.indices, document.indices, assume_unique=True, return_indices=True
    )
    asked = query.values[of_query].astype(np.float64)
    held = document.values[of_document].astype(np.float64)
    products = asked * held
    score = float(np.cumsum(products)[-1]) if len(products) else 0.0
    order = np.argsort(-np.abs(products), kind="stable")
    parts = zip(
        shared[order].tolist(), asked[order].tolist(), held[order].tolist(), products[order].tolist(), strict=True
    )
    return Explanation(score, tuple(Contribution(j, q, d, p, p / score if score else 0.0) for j, q, d, p in parts))
