"""One run of the frontier: an encoder learned from some of the rows, and what it finds and costs with several numbers
of weights, lengths of query and widths of residual code.

Only dimensions need a training of their own. About as many weights are the same encoder's within another budget
(`SparseEncoder.at`), shorter queries are cut to their largest weights, and residual codes are learned on top of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from sparsevec.dense import Nearest, nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.figures import by_residual, by_second_look
from sparsevec.encoder.recipe import CalibrationRecipe, ResidualRecipe, SplitRecipe
from sparsevec.encoder.residual import ResidualCodes, UInt8s
from sparsevec.encoder.stages import residual_codes
from sparsevec.measure.cost import POSTING_BYTES, cost, touched
from sparsevec.measure.intervals import Interval, interval
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.progress import Listener, Whole
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["Goal", "Point", "Rows", "Shape", "Trial", "runs", "tried"]

Goal: TypeAlias = Literal["answers", "candidates"]
"""What recall is of: the final ten, after the second look or residual codes; or the hundred that are re-ranked."""

_LENGTHS = (16, 32, 64, 128, 256)  # of queries, beside what F pays for
_CODED = (32, 128, None)  # those that are tried with residual codes, whose scores are what takes time
_FULLEST = 8  # dimensions that a query has, for each of its weights
_CANDIDATES = 100  # that the second look orders


class Shape(BaseModel):
    """Of an encoder."""

    model_config = ConfigDict(frozen=True)

    dimension: int
    nnz: int
    """weights of a document, in the mean"""

    def __str__(self) -> str:
        return f"{self.dimension:,} dimensions, {self.nnz} weights"


class Point(BaseModel):
    """What one configuration finds and costs."""

    model_config = ConfigDict(frozen=True)

    query_nnz: int | None
    """at most so many weights a query; None: as many as an F of nnz / 50 pays for"""
    residual_bytes: int
    """beside each document; 0 for none: a second look orders the candidates"""
    lists: float
    """weights of a query, in the mean"""
    flops: float
    """F"""
    touched: float
    """share of the documents that have to be ranked"""
    bytes: float
    """of a document: 8 a weight, and its residual code"""
    hits: int
    """that the engine hands over for the ten answers"""
    answers: float
    """share of the dense top 10 in the ten answers"""
    answers_interval: Interval
    candidates: float
    """share of the dense top 10 in the sparse top 100"""
    candidates_interval: Interval

    def recall(self, goal: Goal) -> float:
        return self.answers if goal == "answers" else self.candidates

    def interval(self, goal: Goal) -> Interval:
        return self.answers_interval if goal == "answers" else self.candidates_interval


class Trial(BaseModel):
    """A shape, learned from so many documents and asked by queries that it has not seen."""

    model_config = ConfigDict(frozen=True)

    shape: Shape
    learned_nnz: int | None = None
    """weights that its encoder was learned for, where it is `at` another budget"""
    documents: int
    queries: int
    seconds: float
    """that it took, here"""
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Dense rows in an order in which the first n are a fair sample of all, and who asks."""

    documents: Float32s
    sample: Float32s | None
    """queries to learn from"""
    asking: Float32s
    """queries that judge, of which nothing is learned"""

    def first(self, n: int) -> Rows:
        return Rows(self.documents[:n], self.sample, self.asking)


def runs(shapes: Sequence[Shape]) -> list[list[Shape]]:
    """Shapes that share a training, in their order: the first of each is the one that is learned."""
    found: list[list[Shape]] = []
    for shape in shapes:
        run = next((run for run in found if _shared(run[0], shape)), None)
        if run is None:
            found.append([shape])
        else:
            run.append(shape)
    return found


def _shared(learned: Shape, shape: Shape) -> bool:
    return learned.dimension == shape.dimension and CalibrationRecipe().reaches(learned.nnz, shape.nnz)


def tried(
    run: Sequence[Shape],
    rows: Rows,
    *,
    widths: Sequence[int] = (),
    refine: bool = False,
    seed: int = 0,
    checkpoint: Path | None = None,
    on_step: Listener | None = None,
) -> list[Trial]:
    """Learn the first shape from `rows`, take the others from it, and measure each. widths: bytes of residual codes.
    checkpoint: a folder, as `fit` has it.

    Raises what `SparseEncoder.fit` raises.
    """
    first, *others = run
    began, fit = time.perf_counter(), None if checkpoint is None else checkpoint / "fit"
    encoder = SparseEncoder(rows.documents.shape[1], first.dimension, seed)
    encoder.fit(rows.documents, rows.sample, budget=Budget(nnz=first.nnz), checkpoint=fit, on_step=on_step)
    learning, trials = time.perf_counter() - began, []
    for shape in [*others, first]:  # the first last: it may be refined, and then has no other budget
        began, one = time.perf_counter(), encoder
        if shape is not first:
            one = encoder.at(Budget(nnz=shape.nnz), rows.documents, rows.sample, on_step=on_step)
        if refine:
            kept = None if checkpoint is None else checkpoint / f"refine-{shape.nnz}"
            codes = one.refine(rows.documents, rows.sample, checkpoint=kept, on_step=on_step)
        else:
            codes = one.encode_document(rows.documents)
        judge = _Judge.of(rows, codes, [_coded(one, rows, codes, width) for width in widths])
        trials.append(
            Trial(
                shape=shape,
                learned_nnz=one.config.learned_nnz,
                documents=len(rows.documents),
                queries=len(rows.asking),
                points=tuple(point for length in _lengths(shape) for point in judge.points(one, length)),
                seconds=time.perf_counter() - began + (learning if shape is first else 0),
            )
        )
    return trials


def _lengths(shape: Shape) -> list[int | None]:
    return [*(length for length in _LENGTHS if length * _FULLEST <= shape.dimension), None]


@dataclass(frozen=True, slots=True)
class _Coded:
    """Residual codes of one width."""

    codes: ResidualCodes
    documents: UInt8s


def _coded(encoder: SparseEncoder, rows: Rows, codes: SparseVectors, width: int) -> _Coded:
    head, some = encoder.head("document"), slice(SplitRecipe().trained)
    units = unit_rows(rows.documents[some])
    asking = units if rows.sample is None else unit_rows(rows.sample)
    parts = (head.weights, head.mean)
    learned, kept = residual_codes(units, codes[some], asking, parts, width, encoder.seed, Whole(None, {}))
    found = ResidualCodes(learned, head.mean, kept.groups, kept.name)
    return _Coded(found, found.encoded(rows.documents, codes))


@dataclass(frozen=True, slots=True)
class _Judge:
    """The codes of the documents, and what the dense rows say of who asks."""

    rows: Rows
    codes: SparseVectors
    coded: Sequence[_Coded]
    units: Float32s
    asking: Float32s
    truth: Nearest

    @classmethod
    def of(cls, rows: Rows, codes: SparseVectors, coded: Sequence[_Coded]) -> _Judge:
        units, asking = unit_rows(rows.documents), unit_rows(rows.asking)
        return cls(rows, codes, coded, units, asking, nearest(units, asking, 10))

    def points(self, encoder: SparseEncoder, length: int | None) -> Iterator[Point]:
        """With the second look, and with residual codes of each width."""
        queries = encoder.encode_query(self.rows.asking, length)
        hits = ResidualRecipe().candidates
        found = sparse_top(self.codes, queries, hits)
        some = [rows[:_CANDIDATES] for rows in found]
        at_100 = recalls(self.units, self.asking, some, self.truth)
        spent, reached = cost(queries, self.codes), touched(queries, self.codes)

        def point(width: int, ranked: list[Int64s], handed: int) -> Point:
            answers = recalls(self.units, self.asking, ranked, self.truth)
            return Point(
                query_nnz=length,
                residual_bytes=width,
                lists=spent.query_active_dims,
                flops=spent.flops,
                touched=reached,
                bytes=spent.active_dims * POSTING_BYTES + width,
                hits=handed,
                answers=float(answers.mean()),
                answers_interval=interval(answers),
                candidates=float(at_100.mean()),
                candidates_interval=interval(at_100),
            )

        looks = encoder.encode_second_look(self.rows.asking, queries=queries)
        yield point(0, by_second_look(self.codes, looks, some), _CANDIDATES)
        for one in self.coded if length in _CODED else ():
            ranked = by_residual(one.codes, self.rows.asking, self.codes, one.documents, found)
            yield point(one.codes.width, ranked, hits)
