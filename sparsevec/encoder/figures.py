"""What `fit` and `refine` say of themselves, by the one ruler, beside what needs no learning and beside the head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sparsevec.dense import Dense, Nearest, best, distinct, nearest, unit_rows
from sparsevec.encoder.config import KindName, KindOfQuery
from sparsevec.encoder.model import Model
from sparsevec.encoder.one_bit import one_bit_top
from sparsevec.encoder.residual import ResidualCodes, UInt8s
from sparsevec.encoder.split import Split
from sparsevec.measure.cost import flops
from sparsevec.measure.intervals import interval, paired_interval
from sparsevec.measure.recall import evaluate, recalls, sparse_top
from sparsevec.postings import Float64s
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Asking", "Judge", "agreement", "by_residual", "by_second_look", "is_worse", "spacing"]

_COMPARED = 1000  # rows whose directions are compared: the agreement is to within .01
_UNEVEN = 0.2  # of documents' excess: texts have 2 and more, Gaussian noise of 128 columns .03
_ALIKE = 1e-8  # of unit rows' variances, multiplied: below, they are one row and rounding
_OTHERS = 256  # queries of each kind that is not the one learned for: their figures are to within .03

Codes: TypeAlias = tuple[SparseVectors, Sequence[SparseVectors]]
"""of documents, and of who asks, by kind"""


@dataclass(frozen=True, slots=True)
class Asking:
    """Rows (q, input_dim) of one kind that ask, none of them learned from."""

    kind: KindName
    rows: Dense
    itself: Int64s | None
    """(q,) of documents that ask, the place of each among those that are searched, or -1"""
    units: Float32s
    truth: Nearest

    @property
    def few(self) -> Asking:
        """The first of them, as many as are enough to compare kinds by."""
        some = slice(0, _OTHERS)
        itself = None if self.itself is None else self.itself[some]
        truth = Nearest(self.truth.rows[some], self.truth.scores[some])
        return Asking(self.kind, self.rows[some], itself, self.units[some], truth)


_PLAIN = 16  # sixteenths of a power: weights as they are


@dataclass(frozen=True, slots=True)
class Judge:
    """The documents of the corpus that are searched, at most `most` evenly spaced ones, and who asks."""

    documents: Dense
    units: Float32s
    step: int
    """every so manieth row of the corpus is one of these"""
    kinds: list[Asking]
    """first the kind that was learned for: the sample, or documents in its place"""

    @classmethod
    def of(cls, rows: Split, most: int) -> Judge:
        step = spacing(len(rows.documents), most)
        documents, units = rows.documents[::step], unit_rows(rows.documents[::step])
        own, held = rows.documents_asking[rows.held_documents], rows.held_documents
        itself = _places(held, step)
        kinds = []
        sample = rows.queries_to_measure()
        if sample is not None:
            kinds.append(_asking("sample", units, sample, None))
            own, itself = own[:_OTHERS], itself[:_OTHERS]
        kinds.append(_asking("documents", units, own, itself))
        kinds.append(_asking("off-topic", units, _strangers(own[:_OTHERS]), None))
        return cls(documents, units, step, kinds)

    @property
    def first(self) -> Asking:
        return self.kinds[0]

    def places(self, rows: Int64s) -> Int64s:
        """Where rows of the corpus (m,) stand among its documents; -1 for one that does not."""
        return _places(rows, self.step)

    def recall_10(self, documents: SparseVectors, queries: SparseVectors) -> Float64s:
        """(q,) of the codes of the documents and of the first kind."""
        candidates = sparse_top(documents, queries, 10, itself=self.first.itself)
        return recalls(self.units, self.first.units, candidates, self.first.truth)

    def loser(self, before: Codes, after: Codes, gained: float) -> tuple[KindName, float] | None:
        """The kind of queries that loses the largest share of its candidates, and that share; None where no kind loses
        for certain more than `gained`."""
        losses: dict[KindName, float] = {}
        for number, asking in enumerate(self.kinds):
            few, sides = asking.few, [(documents, queries[number]) for documents, queries in (before, after)]
            had, has = (recalls(self.units, few.units, _top_100(few, *side), few.truth) for side in sides)
            if paired_interval(had, has).low > gained:
                losses[asking.kind] = float(had.mean() - has.mean())
        return max(losses.items(), key=lambda one: one[1]) if losses else None

    def second_look(self, documents: SparseVectors, queries: SparseVectors, looks: SparseVectors) -> Float64s:
        """recall_10 (q,) of the sparse top 100 in the order of the second look, for the first kind."""
        candidates = sparse_top(documents, queries, 100, itself=self.first.itself)
        found = by_second_look(documents, looks, candidates)
        return recalls(self.units, self.first.units, found, self.first.truth)

    def residual(self, model: Model, documents: SparseVectors, queries: SparseVectors, candidates: int) -> Float64s:
        """recall_10 (q,) of so many sparse candidates of the first kind, re-ranked by their residual codes."""
        residuals, first = model.residuals, self.first
        assert residuals is not None
        codes = residuals.encoded(self.documents, documents)
        top = sparse_top(documents, queries, candidates, itself=first.itself)
        found = by_residual(residuals, first.rows, documents, codes, top)
        return recalls(self.units, first.units, found, first.truth)

    def figures(self, documents: SparseVectors, queries: list[SparseVectors]) -> dict[str, Any]:
        """Of the first kind, and of each, as `Figures` has them; `queries`: one batch a kind."""
        first = self.first
        found = evaluate(self.documents, first.rows, documents, queries[0], itself=first.itself).model_dump()
        kinds = [self._kind(asking, documents, codes) for asking, codes in zip(self.kinds, queries, strict=True)]
        return found | {"asked": first.kind, "kinds": tuple(kinds)}

    def _kind(self, asking: Asking, documents: SparseVectors, queries: SparseVectors) -> KindOfQuery:
        few = asking.few
        candidates = _top_100(few, documents, queries)
        scanned = one_bit_top(self.units, few.units, 100, itself=few.itself)

        def at(k: int, found: list[Int64s]) -> Float64s:
            return recalls(self.units, few.units, [rows[:k] for rows in found], few.truth)

        at_100 = at(100, candidates)
        return KindOfQuery(
            kind=asking.kind,
            queries=len(few.units),
            recall_10=float(at(10, candidates).mean()),
            recall_10_at_100=float(at_100.mean()),
            recall_10_at_100_interval=interval(at_100),
            flops=flops(queries, documents),
            query_active_dims=queries.nnz / len(queries),
            scan_recall_10=float(at(10, scanned).mean()),
            scan_recall_10_at_100=float(at(100, scanned).mean()),
        )


def _top_100(few: Asking, documents: SparseVectors, queries: SparseVectors) -> list[Int64s]:
    """`queries`: at least these."""
    return sparse_top(documents, queries[: len(few.units)], 100, itself=few.itself)


def _places(rows: Int64s, step: int) -> Int64s:
    return np.where(rows % step, -1, rows // step)


def _asking(kind: KindName, units: Float32s, rows: Dense, itself: Int64s | None) -> Asking:
    asking = unit_rows(rows)
    return Asking(kind, rows, itself, asking, nearest(units, asking, 10, itself=itself))


def _strangers(rows: Dense) -> Dense:
    """Each row mixed with one that it has nothing to do with, and as much noise: what nobody has seen before."""
    generator, units = np.random.default_rng(0), unit_rows(rows)
    others = units[np.roll(generator.permutation(len(units)), 1)]
    noise = generator.standard_normal(units.shape) * units.std(axis=0)  # none in a column that all queries share
    length = np.linalg.norm(noise, axis=1, keepdims=True)
    return np.asarray(units + others + noise / np.maximum(length, 1e-30), np.float32)


def by_second_look(documents: SparseVectors, looks: SparseVectors, candidates: Iterable[Int64s]) -> list[Int64s]:
    """The ten best of each query's candidates in the order that its second look gives them, ties to the lower row."""
    stored, found = documents.to_scipy(), []
    for look, rows in zip(looks, candidates, strict=True):
        query = np.zeros(documents.dimension)
        query[look.indices] = look.values
        rows = np.sort(rows)
        found.append(rows[best(stored[rows] @ query, 10)])
    return found


def by_residual(
    residuals: ResidualCodes, asking: Dense, documents: SparseVectors, codes: UInt8s, candidates: Iterable[Int64s]
) -> list[Int64s]:
    """The same by the residual codes (n, width) of the documents, for dense queries (q, input_dim)."""
    found = []
    for number, rows in enumerate(candidates):
        rows = np.sort(rows)
        scores = residuals.scores(asking[number : number + 1], documents[rows], codes[rows])
        found.append(rows[best(scores, 10)])
    return found


def agreement(documents: Float32s, queries: Float32s) -> float | None:
    """How far queries (q, d) spread in the directions in which documents (n, d) do: 1 as these, 0 as random rows.

    Unit rows, documents as queries. The covariances' product, tr(C D), over what rows without any direction of their
    own would give, less 1; and that over the same of two halves of the documents. None where documents spread evenly,
    as noise does, or queries are all alike: nothing is to be seen then.
    """
    different = documents[distinct(documents)]  # many equal rows would be the direction that all spread in
    spaced = different[:: spacing(len(different), 2 * _COMPARED)]
    own = _excess(spaced[::2], spaced[1::2])
    asked = _excess(spaced, queries[:: spacing(len(queries), _COMPARED)])
    return None if own is None or asked is None or own < _UNEVEN else round(asked / own, 3)


def _excess(some: Float32s, others: Float32s) -> float | None:
    some, others = some - some.mean(axis=0), others - others.mean(axis=0)
    spread = np.square(some).sum(dtype=np.float64) * np.square(others).sum(dtype=np.float64)
    if spread < _ALIKE * len(some) * len(others):
        return None
    return float(np.square(some @ others.T).sum(dtype=np.float64) * some.shape[1] / spread) - 1


def is_worse(ours: Float64s, theirs: Float64s) -> bool:
    """Whether ours are lower, of the same queries, by more than a 95 % interval of the difference."""
    return paired_interval(ours, theirs).high < 0


def spacing(n: int, most: int) -> int:
    """Every so manieth of n rows gives at most `most`."""
    return max(1, -(-n // most))
