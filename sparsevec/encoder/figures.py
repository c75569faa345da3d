"""What `fit` and `refine` say of themselves, by the one ruler, beside what needs no learning and beside the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsevec.dense import Dense, Nearest, best, nearest, unit_rows
from sparsevec.encoder.calibration import query_cut
from sparsevec.encoder.head import Cut, Projection, encoded
from sparsevec.encoder.model import Model
from sparsevec.encoder.split import Split
from sparsevec.measure.cost import usage
from sparsevec.measure.intervals import paired_interval
from sparsevec.measure.recall import evaluate, recalls, sparse_top
from sparsevec.postings import Float64s
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Judge"]

_PLAIN = 16  # sixteenths of a power: weights as they are


@dataclass(frozen=True, slots=True)
class Judge:
    """Held-out rows that ask, and the documents of the corpus that they search, at most `most` evenly spaced ones."""

    documents: Dense
    asking: Dense
    itself: Int64s | None
    """of documents that ask, the place of each among `documents`, or -1"""
    asked_sample: bool
    units: Float32s
    asking_units: Float32s
    truth: Nearest

    @classmethod
    def of(cls, rows: Split, most: int) -> Judge:
        step = spacing(len(rows.documents), most)
        documents, asking, itself = rows.documents[::step], rows.queries_to_measure(), None
        if rows.queries is None:
            itself = np.where(rows.held_documents % step, -1, rows.held_documents // step)
        units, asking_units = unit_rows(documents), unit_rows(asking)
        truth = nearest(units, asking_units, 10, itself=itself)
        return cls(documents, asking, itself, rows.queries is not None, units, asking_units, truth)

    def recall_10(self, documents: SparseVectors, queries: SparseVectors) -> Float64s:
        """(q,) of the codes of the same rows."""
        candidates = sparse_top(documents, queries, 10, itself=self.itself)
        return recalls(self.units, self.asking_units, candidates, self.truth)

    def without_learning(self, ours: Float64s, dimension: int, nnz: int, flops: float) -> dict[str, Any]:
        """What `Figures` say of the untrained baseline beside our recall_10 (q,)."""
        theirs = self.untrained(dimension, nnz, flops)
        return {"untrained_recall_10": float(theirs.mean()), "untrained_is_better": is_worse(ours, theirs)}

    def untrained(self, dimension: int, nnz: int, flops: float) -> Float64s:
        """recall_10 (q,) without learning, at the same price: documents keep their nnz largest dot products with
        random documents, queries as many as `flops` pays for."""
        mean = self.units.mean(axis=0)
        picked = np.random.default_rng(0).permutation(dimension) % len(self.units)
        projection = Projection(self.units[picked] - mean, np.zeros(dimension, np.float32), mean)
        codes = encoded(self.documents, projection, Cut(nnz))
        cut = query_cut(self.asking, projection, usage(codes), flops, _PLAIN)
        return self.recall_10(codes, encoded(self.asking, projection, cut))

    def second_look(self, documents: SparseVectors, queries: SparseVectors, looks: SparseVectors) -> Float64s:
        """recall_10 (q,) of the sparse top 100 in the order of the second look."""
        stored = documents.to_scipy()
        found = []
        for look, rows in zip(looks, sparse_top(documents, queries, 100, itself=self.itself), strict=True):
            query = np.zeros(documents.dimension)
            query[look.indices] = look.values
            rows = np.sort(rows)
            found.append(rows[best(stored[rows] @ query, 10)])
        return recalls(self.units, self.asking_units, found, self.truth)

    def residual(self, model: Model, documents: SparseVectors, queries: SparseVectors, candidates: int) -> Float64s:
        """recall_10 (q,) of so many sparse candidates, re-ranked by their residual codes."""
        residuals, found = model.residuals, []
        assert residuals is not None
        codes = residuals.encoded(self.documents, documents)
        for number, rows in enumerate(sparse_top(documents, queries, candidates, itself=self.itself)):
            rows = np.sort(rows)
            scores = residuals.scores(self.asking[number : number + 1], documents[rows], codes[rows])
            found.append(rows[best(scores, 10)])
        return recalls(self.units, self.asking_units, found, self.truth)

    def figures(self, documents: SparseVectors, queries: SparseVectors, **more: Any) -> dict[str, Any]:
        """The fields of `Figures`, `more` among them."""
        found = evaluate(self.documents, self.asking, documents, queries, itself=self.itself)
        return found.model_dump() | {"asked": "sample" if self.asked_sample else "documents"} | more


def is_worse(ours: Float64s, theirs: Float64s) -> bool:
    """Whether ours are lower, of the same queries, by more than a 95 % interval of the difference."""
    return paired_interval(ours, theirs).high < 0


def spacing(n: int, most: int) -> int:
    """Every so manieth of n rows gives at most `most`."""
    return max(1, -(-n // most))
