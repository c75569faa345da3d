"""Which dimensions, weights, length of query and residual bytes are best for a budget, found on the user's own rows.

    found = find_frontier(dense, sample, limits=CostLimits(flops=0.65), seconds=900, folder="frontier/")
    print(found)                                # what is best at which cost; in the last line, what to take
    encoder = SparseEncoder(384, found.best.shape.dimension).fit(dense, sample, budget=found.best.budget)

Successive halving (Jamieson and Talwalkar, AISTATS 2016): every shape is tried with a quarter of the rows, and those of
the best two dimensions with all, the best first, as far as the time goes. Of many rows, every shape is tried with a
sixteenth and the best third of them with a quarter; of few, that would save little time and mislead. Shapes of one
dimension share a training where `SparseEncoder.at` takes them from it, which finds up to three points less than one of
their own; with all rows it is the best that is learned for. What was not tried with all rows is predicted by a law
fitted to the runs (`planning.law`), with an interval. Runs are kept one by one: after a kill the same call goes on, and
other limits are answered from the same runs.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, get_args

import numpy as np

from sparsevec.contract.checks import check_k, check_seed, check_several
from sparsevec.dense import dense_rows
from sparsevec.encoder import Budget
from sparsevec.encoder.budget import resolved
from sparsevec.encoder.recipe import CalibrationRecipe
from sparsevec.encoder.residual import most_bytes
from sparsevec.errors import InvalidInput, described
from sparsevec.planning.frontier import Configuration, CostLimits, Frontier, best_within, check_limits, is_positive
from sparsevec.planning.latency import LatencyModel
from sparsevec.planning.law import Law, Seen
from sparsevec.planning.notebook import Notebook, Settings
from sparsevec.planning.trials import Goal, Point, Rows, Shape, Trial, runs, tried
from sparsevec.progress import Listener, Progress, check_listener

__all__ = ["DIMENSIONS", "WEIGHTS", "WIDTHS", "find_frontier", "shapes_of", "shuffled"]

DIMENSIONS, WEIGHTS = (2048, 4096, 8192), (16, 32, 64)
WIDTHS = (60, 120)
_GROWTH = 4  # rows of a run over those of one of the stage before
_LEAST = 400  # rows of the smallest run: half as many again as the least that a head is learned from
_STAGES = 3
_STEADY = 5000  # rows that take as long as what a run takes for any: its steps; fewer save little, and mislead more
AGAIN = 0.3  # of the time of a training and its judging: what the same encoder within another budget takes
_SLACK = 1.2  # of a limit of F, for few rows: the same length of query costs up to so much less among all
_KEPT = 3  # of so many shapes one goes on
_FINAL = 2  # dimensions that are tried with all rows
_JUDGED = 300  # queries that judge: the standard error of a recall is then about .01, of a difference less
_NARROWEST = 8  # bytes, as `Budget` has it
_LEARNED = 50  # queries of a sample at least


def find_frontier(
    dense: Any,
    queries: Any | None = None,
    *,
    limits: CostLimits,
    seconds: float,
    goal: Goal = "answers",
    shapes: Sequence[Shape] | None = None,
    widths: Sequence[int] | None = None,
    refine: bool = False,
    latency: LatencyModel | None = None,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    on_step: Listener | None = None,
) -> Frontier:
    """Look for the best configuration for documents (n, input_dim) within `limits`, in `seconds` of wall-clock time.

    queries (q, input_dim): real ones; some learn, others judge. Without them a tenth of the documents asks, which no
    document then is. goal: recall of the final answers, or of the hundred candidates that are re-ranked. shapes: those
    that compete. widths: bytes of residual codes that do, beside none; where not given, those of WIDTHS that rows of so
    many columns can have. refine: runs are refined, too. latency: of the engine, for a limit of milliseconds; they are
    counted for as many documents as it was fitted on. folder: where runs are kept. At least one run is made, and one
    that has begun is ended. Needs the extra `train`.

    Raises InvalidInput where no configuration meets the limits, naming the nearest that was looked at;
    CheckpointMismatch for a folder with runs of other rows or settings; what `fit` raises.
    """
    if not is_positive(seconds):
        raise InvalidInput(f"seconds must be a positive number, found {described(seconds)}")
    if check_limits(limits).milliseconds is not None and latency is None:
        raise InvalidInput(
            "a limit of milliseconds needs the engine's latency model: latency=latency_model(…), or --engine"
        )
    if latency is not None and not isinstance(latency, LatencyModel):
        raise InvalidInput(f"latency must be a sparsevec.LatencyModel, found {type(latency).__name__}")
    check_listener(on_step, "on_step")
    if not isinstance(refine, bool):
        raise InvalidInput(f"refine must be True or False, found {refine!r:.80}")
    if goal not in get_args(Goal):
        raise InvalidInput(f"goal must be one of {get_args(Goal)}, found {goal!r:.80}")
    if goal == "candidates" and widths is not None and list(check_several("widths", widths)):
        raise InvalidInput(
            "residual codes re-rank candidates and find no others: leave widths (--residual-bytes) out with this goal"
        )
    rows = shuffled(dense, queries, check_seed(seed))
    used = _widths(widths, most_bytes(rows.documents.shape[1])) if goal == "answers" else ()
    competing = _feasible(shapes_of() if shapes is None else list(check_several("shapes", shapes)), limits)
    notebook = Notebook(Settings.of(rows, used, refine, seed), folder)
    return _Search(rows, limits, goal, latency, notebook, float(seconds), on_step).run(competing)


def _widths(given: Sequence[int] | None, widest: int) -> tuple[int, ...]:
    """Ascending; those of WIDTHS that fit where none are given."""
    if given is None:
        return tuple(width for width in WIDTHS if width <= widest)
    used = sorted({check_k(width, "a width of residual codes") for width in check_several("widths", given)})
    if used and not _NARROWEST <= used[0] <= used[-1] <= widest:
        raise InvalidInput(f"widths of residual codes must be {_NARROWEST} to {widest} bytes, found {used}")
    return tuple(used)


def shapes_of(dimensions: Sequence[int] = DIMENSIONS, weights: Sequence[int] = WEIGHTS) -> list[Shape]:
    """Each of the dimensions with each number of weights that is sparse in it."""
    return [Shape(dimension=d, nnz=nnz) for d in dimensions for nnz in weights if 16 * nnz <= d]


def shuffled(dense: Any, queries: Any | None, seed: int) -> Rows:
    """The rows in the order in which runs take them, with queries to learn from and others to judge."""
    documents = np.asarray(dense_rows(dense, what="documents"), np.float32)
    generator = np.random.default_rng([seed, 5])
    documents = documents[generator.permutation(len(documents))]
    if queries is None:
        asking = min(_JUDGED, len(documents) // 10)
        sample, judging, documents = None, documents[:asking], documents[asking:]
    else:
        asked = np.asarray(dense_rows(queries, documents.shape[1], "queries"), np.float32)
        asked = asked[generator.permutation(len(asked))]
        judged = min(_JUDGED, len(asked) // 2)
        judging, sample = asked[:judged], asked[judged:] if len(asked) - judged >= _LEARNED else None
    if len(documents) < _LEAST or len(judging) < _LEARNED:
        raise InvalidInput(
            f"expected at least {_LEAST} documents and {_LEARNED} queries that judge (half of those given, or a tenth "
            f"of the documents), found {len(documents)} and {len(judging)}"
        )
    return Rows(documents, sample, judging)


def _feasible(shapes: Sequence[Shape], limits: CostLimits) -> list[Shape]:
    """Those that an encoder can have and that are not too large for the limit of bytes by their weights alone."""
    if not shapes:
        raise InvalidInput(
            "expected a shape that competes, such as Shape(dimension=4096, nnz=32), found none; of dimensions and "
            "weights those compete whose dimension is at least 16 times the weights"
        )
    found = []
    for shape in shapes:
        if not isinstance(shape, Shape):
            raise InvalidInput(f"expected a shape as Shape(dimension=4096, nnz=32), found {shape!r:.80}")
        resolved(Budget(nnz=shape.nnz), shape.dimension)
        if limits.bytes is None or 8 * shape.nnz <= limits.bytes:
            found.append(shape)
    if not found:
        least = min(8 * shape.nnz for shape in shapes)
        raise InvalidInput(f"bytes={limits.bytes:g} cannot be met: the fewest weights that compete take {least}")
    return found


@dataclass
class _Search:
    """One run of halving; what is known at any moment is in the notebook."""

    rows: Rows
    limits: CostLimits
    goal: Goal
    latency: LatencyModel | None
    notebook: Notebook
    seconds: float
    on_step: Listener | None
    competing: Set[Shape] = field(init=False)
    """that may be the answer; runs of others are in the laws alone"""

    @property
    def documents(self) -> int:
        return len(self.rows.documents)

    # ---- the runs

    def run(self, shapes: Sequence[Shape]) -> Frontier:
        """Stage after stage, until all are made or the time is spent."""
        self.competing, shapes = set(shapes), _middle_first(shapes)
        for stage, size in enumerate(sizes := _sizes(self.documents)):
            known = {trial.shape for trial in self.notebook.trials if trial.documents == size}
            for run in runs([shape for shape in shapes if shape not in known]):
                while len(run) > 1 and self._expected(run, size) > self._time_left:
                    run.pop()
                if (expected := self._expected(run, size)) > self._time_left:
                    return self.frontier(expected)
                self.notebook.add(self._tried(run, size))
            shapes = self._ranked(shapes)
            if stage + 2 == len(sizes):
                shapes = _of_the_best_dimensions(shapes)
            elif stage + 1 < len(sizes):
                shapes = shapes[: math.ceil(len(shapes) / _KEPT)]
        return self.frontier()

    @property
    def _time_left(self) -> float:
        return self.seconds - self.notebook.seconds

    def _tried(self, run: Sequence[Shape], size: int) -> list[Trial]:
        settings, told = self.notebook.settings, None
        if self.on_step is not None:
            told = partial(self._tell, run[0], size, time.perf_counter())
        return tried(
            run,
            self.rows.first(size),
            widths=settings.widths,
            refine=settings.refine,
            seed=settings.seed,
            checkpoint=self.notebook.checkpoint(run[0], size),
            on_step=told,
        )

    def _tell(self, shape: Shape, size: int, began: float, event: Progress) -> None:
        assert self.on_step is not None
        spent = min(1.0, (self.notebook.seconds + time.perf_counter() - began) / self.seconds)
        said = f"{shape} a document, {size:,} rows: {event.text}"
        self.on_step(replace(event, fraction=spent, text=said))

    def _expected(self, run: Sequence[Shape], size: int) -> float:
        """Seconds of a run, by the training of the same dimension with fewer rows, or else by the largest; of the first
        of what competes so few that it is made in any case."""
        if not any(trial.shape in self.competing for trial in self.notebook.trials):
            return -math.inf
        known = [one for one in self.notebook.trials if one.shape.dimension == run[0].dimension]
        last = max(known or self.notebook.trials, key=lambda one: (one.documents, one.seconds))
        trainings = 1 + AGAIN * (len(run) - 1)
        return trainings * last.seconds * (_STEADY + size) / (_STEADY + last.documents)

    def _ranked(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Those that are about within the limits, by the best that each is expected to find there; all, if none is."""
        expected: dict[Shape, float] = {}
        about = {axis: limit if axis == "bytes" else _SLACK * limit for axis, limit in self.limits.given.items()}
        for one in self._configurations(self._laws()):
            if one.shape in shapes and one.excess(about) <= 1:
                expected[one.shape] = max(expected.get(one.shape, 0.0), one.recall)
        return sorted(expected, key=lambda shape: -expected[shape]) or list(shapes)

    # ---- what follows from them

    def frontier(self, left: float | None = None) -> Frontier:
        """Of all trials so far; left: seconds of the run that there was no time for."""
        laws = self._laws()
        configurations = self._configurations(laws)
        best = best_within(configurations, self.limits)
        return Frontier(
            documents=self.documents,
            queries=len(self.rows.asking),
            goal=self.goal,
            engine=None if self.latency is None else self.latency.engine,
            configurations=tuple(configurations),
            limits=self.limits,
            best=best,
            warning=self._warning(best),
            predicted=_said(laws),
            trials=len(self.notebook.trials),
            seconds=self.notebook.seconds,
            left=left,
        )

    def _configurations(self, laws: dict[int, Law]) -> list[Configuration]:
        """Each setting of what competes once, as measured with all documents, or else as its law predicts it from the
        largest run."""
        largest = {}
        for trial in sorted(self.notebook.trials, key=lambda trial: trial.documents):
            for point in trial.points if trial.shape in self.competing else ():
                largest[trial.shape, point.query_nnz, point.residual_bytes] = trial, point
        return [self._configuration(trial, point, laws) for trial, point in largest.values()]

    def _configuration(self, trial: Trial, point: Point, laws: dict[int, Law]) -> Configuration:
        measured = trial.documents == self.documents
        recall, between = point.recall(self.goal), point.interval(self.goal)
        if not measured:
            recall, between = laws[point.residual_bytes].predict(seen(trial, point, self.goal), self.documents)
        return Configuration(
            shape=trial.shape,
            query_nnz=point.query_nnz,
            residual_bytes=point.residual_bytes,
            lists=point.lists,
            flops=point.flops,
            bytes=point.bytes,
            milliseconds=self._milliseconds(point),
            recall=recall,
            interval=between,
            measured=measured,
        )

    def _milliseconds(self, point: Point) -> float | None:
        return None if self.latency is None else self.latency.of(point.lists, point.flops, point.touched, point.hits)

    def _warning(self, best: Configuration) -> str | None:
        """Where F misleads on the engine."""
        model, held = self.latency, self.notebook.trials
        if model is None:
            return None
        point = next(
            point
            for trial in reversed(held)
            for point in trial.points
            if trial.shape == best.shape and point.query_nnz == best.query_nnz
        )
        return model.warning(model.counted(point.lists, point.flops, point.touched, point.hits))

    def _laws(self) -> dict[int, Law]:
        """One for each width of residual codes."""
        found: dict[int, list[Seen]] = {}
        for trial in self.notebook.trials:
            for point in trial.points:
                found.setdefault(point.residual_bytes, []).append(seen(trial, point, self.goal))
        return {width: Law.fitted(of_width) for width, of_width in found.items()}


def _middle_first(shapes: Sequence[Shape]) -> list[Shape]:
    """Dimension by dimension, first the most weights whose encoder is taken with the fewest, too."""
    least: dict[int, int] = {}
    for shape in shapes:
        least[shape.dimension] = min(shape.nnz, least.get(shape.dimension, shape.nnz))

    def place(shape: Shape) -> tuple[int, bool, int]:
        above = not CalibrationRecipe().reaches(shape.nnz, least[shape.dimension])
        return shape.dimension, above, shape.nnz if above else -shape.nnz

    return sorted(shapes, key=place)


def _of_the_best_dimensions(ranked: Sequence[Shape]) -> list[Shape]:
    """Dimension by dimension: a training gives all of its shapes."""
    best = list(dict.fromkeys(shape.dimension for shape in ranked))[:_FINAL]
    return [shape for dimension in best for shape in ranked if shape.dimension == dimension]


def seen(trial: Trial, point: Point, goal: Goal) -> Seen:
    """What a law is fitted to."""
    return Seen(
        dimension=trial.shape.dimension,
        nnz=trial.shape.nnz,
        query_nnz=point.query_nnz,
        flops=point.flops,
        documents=trial.documents,
        recall=point.recall(goal),
    )


def _sizes(n: int) -> list[int]:
    """Of the runs of each stage, the last with all."""
    found = [n]
    while len(found) < _STAGES and found[-1] // _GROWTH >= (_LEAST if len(found) == 1 else _STEADY):
        found.append(found[-1] // _GROWTH)
    return found[::-1]


def _said(laws: dict[int, Law]) -> str:
    widths: dict[str, list[str]] = {}
    for width, law in sorted(laws.items()):
        widths.setdefault(str(law), []).append(str(width or "no"))
    if len(widths) == 1:
        return f"predicted by the {next(iter(widths))}"
    parts = (f"with {' and '.join(of)} residual bytes the {law}" for law, of in widths.items())
    return f"predicted by laws: {'; '.join(parts)}"
