"""Which rows are trained on and which are kept back, so that a budget is calibrated on rows nobody has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsevec.dense import Dense, unit_rows
from sparsevec.encoder.recipe import SplitRecipe
from sparsevec.errors import InvalidVectors
from sparsevec.vectors import Float32s, Int64s

__all__ = ["Split", "all_alike", "split"]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of `documents` and of `queries`; without a sample of queries the documents stand in for them."""

    documents: Dense
    queries: Dense | None
    documents_asking: Dense
    """the documents as queries: the same rows where the similarity is the cosine"""
    trained_documents: Int64s
    held_documents: Int64s
    trained_queries: Int64s
    held_queries: Int64s

    def documents_to_train_on(self) -> Float32s:
        return unit_rows(self.documents[self.trained_documents])

    def documents_that_ask(self) -> Float32s:
        """Those to train on, as queries."""
        return unit_rows(self.documents_asking[self.trained_documents])

    def queries_to_train_on(self) -> Float32s | None:
        return None if self.queries is None else unit_rows(self.queries[self.trained_queries])

    def documents_not_held(self) -> Int64s:
        """Numbers of all that may ask while their own weights are learned: one that nobody asks for is not learned."""
        return np.setdiff1d(np.arange(len(self.documents)), self.held_documents)

    def documents_to_measure(self) -> Dense:
        return self.documents[self.held_documents]

    def queries_to_measure(self) -> Dense | None:
        return None if self.queries is None else self.queries[self.held_queries]


def split(documents: Dense, queries: Dense | None, documents_asking: Dense, seed: int) -> Split:
    """Hold out some of each (`SplitRecipe`). Raises InvalidVectors when there is too little to learn from."""
    recipe = SplitRecipe()
    if len(documents) < recipe.least_documents:
        raise InvalidVectors(
            f"expected at least {recipe.least_documents} documents to learn from, found {len(documents)}"
        )
    if queries is not None and len(queries) < recipe.least_queries:
        raise InvalidVectors(
            f"expected at least {recipe.least_queries} sample queries, found {len(queries)}; leave queries out to "
            "learn from documents alone"
        )
    some = unit_rows(documents[:: max(1, len(documents) // 1000)])
    if all_alike(some):
        raise InvalidVectors(
            f"the {len(documents)} documents all have the same direction; there is nothing to tell apart"
        )
    generator = np.random.default_rng([seed, 1])
    held_documents, trained_documents = _two(len(documents), recipe, generator)
    held_queries, trained_queries = _two(0 if queries is None else len(queries), recipe, generator)
    return Split(documents, queries, documents_asking, trained_documents, held_documents, trained_queries, held_queries)


def all_alike(units: Float32s) -> bool:
    """Whether rows of length 1 (n, d) all have the same direction."""
    return float(np.ptp(units, axis=0).max()) < 1e-6


def _two(n: int, recipe: SplitRecipe, generator: np.random.Generator) -> tuple[Int64s, Int64s]:
    shuffled = generator.permutation(n)
    held = min(recipe.held_out, n // recipe.held_share)
    return np.sort(shuffled[:held]), np.sort(shuffled[held : held + recipe.trained])
