"""One encoder for many budgets: `at` beside an encoder learned for each number of weights, and what else was tried.

    python -m benchmarks.many_budgets MODELS [--data ../shared/data] [--set NAME]... [--weights N]... [--losing]

MODELS is a folder for models: what is not there yet is fitted first (minutes each), and what is in the results is
passed over, so that it may be stopped and run again. Results: benchmarks/results/many_budgets.json and .md.

One encoder learned for 32 weights a document is calibrated anew for 8, 16, 64 and 128, and one of 16 for 8; beside them
stands one that was learned for that number, at the same F, asked by the same queries, which none has seen. R10 is the
overlap of the sparse order with the exact dense top 10, @100 the share of that in the sparse top 100, answers what the
second look makes of these; differences are paired, with a 95 % interval. 8 of 32 is refused by `at`, and stands here to
show why. `--losing` makes those that lost instead: trainings in which the number of weights is
drawn at each step, weights shared out among documents by their mass, and queries that skip dear posting lists.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer

from benchmarks.machine import machine
from sparsevec.dense import Nearest, nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.budget import resolved
from sparsevec.encoder.calibration import query_purse
from sparsevec.encoder.figures import by_second_look
from sparsevec.encoder.head import Projection, encoded
from sparsevec.encoder.learning import learn
from sparsevec.encoder.learning.fitting import Batch, Fitting, Head
from sparsevec.encoder.recipe import CalibrationRecipe, HeadRecipe
from sparsevec.encoder.split import split
from sparsevec.encoder.stages import recalibrated
from sparsevec.encoder.towers import Task
from sparsevec.measure.cost import flops, usage
from sparsevec.measure.intervals import Interval, paired_interval
from sparsevec.measure.recall import recalls, sparse_top
from sparsevec.postings import Float64s
from sparsevec.progress import Whole
from sparsevec.training.loop import Objective
from sparsevec.vectors import Float32s, Int64s, SparseVectors

ROOT = Path(__file__).parents[1]
DATA, RESULTS = ROOT.parent / "shared/data", ROOT / "benchmarks/results"
DIMENSION, SEED, ONE = 4096, 0, 32
WEIGHTS = (8, 16, 32, 64, 128)
ORDER = (ONE, 16, 64, 8, 128)  # those that `at` gives first
TAKEN: dict[int, tuple[int, ...]] = {8: (ONE, 16), 16: (ONE,), ONE: (), 64: (ONE,), 128: (ONE,)}  # from those
WAYS = {ONE: "one for all", 16: "the one of 16"}
SHARE = 0.6  # of the postings, that a query which skips may read


class Rows(NamedTuple):
    documents: Float32s
    sample: Float32s | None
    queries: Float32s
    """of which nobody learns"""


def debian(data: Path) -> Rows:
    with np.load(data / "debian12/minilm_20k.npz") as arrays:
        return Rows(*(unit_rows(arrays[name].astype(np.float32)) for name in ("docs", "q_train", "q_dev")))


def small_debian(data: Path) -> Rows:
    documents, sample, queries = debian(data)
    assert sample is not None
    return Rows(documents[:4000], sample[:2000], queries[:1000])


def scifact(data: Path) -> Rows:
    with np.load(data / "scifact/minilm.npz") as arrays:
        documents, queries = (unit_rows(arrays[name].astype(np.float32)) for name in ("docs", "queries"))
    return Rows(documents, None, queries)


SETS: dict[str, Callable[[Path], Rows]] = {"Debian": debian, "SciFact": scifact, "Debian, 4,000 rows": small_debian}
SMALL = "Debian, 4,000 rows"


class Found(NamedTuple):
    """A number a query."""

    recall_10: Float64s
    recall_10_at_100: Float64s
    flops: float
    query_nnz: float
    answers: Float64s | None = None
    """recall_10 after the second look"""


@dataclass(frozen=True, slots=True)
class Judge:
    rows: Rows
    truth: Nearest

    @classmethod
    def of(cls, rows: Rows) -> Judge:
        return cls(rows, nearest(rows.documents, rows.queries, 10))

    def found(self, documents: SparseVectors, queries: SparseVectors) -> Found:
        top = sparse_top(documents, queries, 100)

        return Found(self.recall(top, 10), self.recall(top, 100), flops(queries, documents), queries.nnz / len(queries))

    def recall(self, ranked: list[Int64s], k: int) -> Float64s:
        return recalls(self.rows.documents, self.rows.queries, [rows[:k] for rows in ranked], self.truth)

    def of_encoder(self, encoder: SparseEncoder) -> Found:
        rows = self.rows.queries
        documents, queries = encoder.encode_document(self.rows.documents), encoder.encode_query(rows)
        looks = encoder.encode_second_look(rows, queries=queries)
        ranked = by_second_look(documents, looks, sparse_top(documents, queries, 100))
        return self.found(documents, queries)._replace(answers=self.recall(ranked, 10))


@dataclass(frozen=True, slots=True)
class Row:
    weights: int
    recall_10: float
    recall_10_at_100: float
    flops: float
    query_nnz: float
    seconds: float
    """that it took"""
    beside_10: Interval | None = None
    """95 % of the difference, less what it is compared with"""
    beside_100: Interval | None = None
    answers: float | None = None
    beside_answers: Interval | None = None

    @classmethod
    def of(cls, weights: int, found: Found, seconds: float, beside: Found | None = None) -> Row:
        means = float(found.recall_10.mean()), float(found.recall_10_at_100.mean())
        row = cls(weights, *means, found.flops, found.query_nnz, seconds)
        if found.answers is not None:
            row = replace(row, answers=float(found.answers.mean()))
        if beside is None:
            return row
        ours_10, ours_100 = found.recall_10, found.recall_10_at_100
        row = replace(row, beside_10=paired_interval(ours_10, beside.recall_10))
        row = replace(row, beside_100=paired_interval(ours_100, beside.recall_10_at_100))
        if found.answers is None or beside.answers is None:
            return row
        return replace(row, beside_answers=paired_interval(found.answers, beside.answers))


def fitted(folder: Path, rows: Rows, weights: int) -> SparseEncoder:
    if not folder.exists():
        encoder = SparseEncoder(rows.documents.shape[1], DIMENSION, SEED)
        encoder.fit(rows.documents, rows.sample, budget=Budget(nnz=weights), checkpoint=f"{folder}.learning")
        encoder.save(folder)
    return SparseEncoder.load(folder)


def made(rows: Rows, models: Path, kept: list[dict[str, Any]], some: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Each number of weights as an encoder of its own has it, and as others that are calibrated for it do; those that
    are `kept` are passed over."""
    judge, there = Judge.of(rows), {(row["way"], row["weights"]) for row in kept if row.get("answers")}
    for weights in some:
        ways = {"its own": weights, **{WAYS[source]: source for source in TAKEN[weights]}}
        wanted = {way: source for way, source in ways.items() if (way, weights) not in there}
        if not wanted:
            continue
        own = fitted(models / str(weights), rows, weights)
        theirs = judge.of_encoder(own)
        for way, source in wanted.items():
            began = time.perf_counter()
            if source == weights:
                row = Row.of(weights, theirs, own.figures.seconds)
            else:
                ours = judge.of_encoder(calibrated(fitted(models / str(source), rows, source), rows, weights))
                row = Row.of(weights, ours, time.perf_counter() - began, theirs)
            yield {"way": way} | asdict(row)


def calibrated(one: SparseEncoder, rows: Rows, weights: int) -> SparseEncoder:
    """What `at` does, also for fewer weights than it takes."""
    model, limits = one._fitted(), resolved(Budget(nnz=weights), DIMENSION)
    task = Task(model.similarity, one.input_dim, DIMENSION, one.seed, limits, None, "cpu")
    held = split(rows.documents, rows.sample, rows.documents, one.seed)
    encoder = SparseEncoder(one.input_dim, DIMENSION, one.seed)
    encoder._model = recalibrated(model, task, held, Whole(None, {}))
    return encoder


# ---- what lost


@dataclass(frozen=True, slots=True)
class Nested(Fitting):
    """The number of weights drawn at each step: any of them, or, `bounded`, a neighbour of the last."""

    drawn: Callable[[], list[int]] = lambda: [ONE]

    def __call__(self, batch: Batch) -> Objective:
        parts = [Fitting(self.head, nnz, self._asking(nnz), self.recipe)(batch) for nnz in self.drawn()]
        loss = torch.stack([part.loss for part in parts]).mean()
        return Objective(loss, parts[-1].documents, parts[-1].queries)

    def _asking(self, nnz: int) -> int:
        """Weights of a query: in the first stage a document's; then about what F pays for at that number."""
        if self.longest == self.nnz:
            return nnz
        return min(len(self.head.bias), max(self.longest, 3 * self.longest * nnz // (4 * ONE)))


def bounded() -> Callable[[], list[int]]:
    state = [WEIGHTS.index(ONE)]

    def drawn() -> list[int]:
        state[0] = min(len(WEIGHTS) - 1, max(0, state[0] + int(torch.randint(3, (1,))) - 1))
        return [WEIGHTS[state[0]]]

    return drawn


def with_one() -> list[int]:
    return [ONE, WEIGHTS[int(torch.randint(len(WEIGHTS), (1,)))]]


def short_or_usual() -> list[int]:
    return [(8, ONE)[int(torch.randint(2, (1,)))]]


NESTED: dict[str, Callable[[], list[int]]] = {
    "drawn, bounded jumps": bounded(),
    "32 and another drawn": with_one,
    "8 or 32": short_or_usual,
}


def nested(rows: Rows, drawn: Callable[[], list[int]]) -> tuple[SparseEncoder, float]:
    """`fit` with the drawn objective in the place of its own, without a second look."""
    usual: Any = vars(learn)["Fitting"]

    def instead(head: Head, nnz: int, longest: int, recipe: HeadRecipe) -> Nested:
        return Nested(head, nnz, longest, recipe, drawn)

    began = time.perf_counter()
    vars(learn)["Fitting"] = instead
    try:
        encoder = SparseEncoder(rows.documents.shape[1], DIMENSION, SEED)
        encoder.fit(rows.documents, rows.sample, budget=Budget(nnz=ONE))
    finally:
        vars(learn)["Fitting"] = usual
    return encoder, time.perf_counter() - began


def by_mass(one: SparseEncoder, rows: Rows, least: int, most: int) -> tuple[SparseVectors, SparseVectors]:
    """Each document as many of its strongest weights as have an equal share of the length of its first 32, the mean
    held; and queries with a purse for these documents."""
    tensors, limits = one._fitted().tensors, resolved(Budget(nnz=ONE), DIMENSION)
    projection = Projection(tensors["weights"], tensors["bias"], tensors["mean"])
    found = list(projection.largest(rows.documents, most))
    values = np.maximum(np.concatenate([strengths for _, strengths in found]), 0)
    relative = values / np.linalg.norm(values[:, :ONE], axis=1, keepdims=True)

    def kept(threshold: float) -> Any:
        return np.clip((relative > threshold).sum(axis=1), least, most)

    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle).mean() > ONE else (low, middle)
    power = CalibrationRecipe().document_sixteenths / 16
    weights = np.where(np.arange(most) < kept(high)[:, None], values, 0) ** power
    dense = np.zeros((len(values), DIMENSION), np.float32)
    np.put_along_axis(dense, np.concatenate([at for at, _ in found]), weights.astype(np.float32), axis=1)
    documents = SparseVectors.from_dense(dense / np.linalg.norm(dense, axis=1, keepdims=True))
    asking = Projection(tensors["query_weights"], tensors["query_bias"], tensors["mean"])
    held = split(rows.documents, rows.sample, rows.documents, SEED).queries_to_measure()
    assert held is not None
    cut, purse = query_purse([held], asking, usage(documents), limits.flops, CalibrationRecipe().query_sixteenths)
    return documents, encoded(rows.queries, asking, cut, purse)


def skipped(queries: SparseVectors, documents: SparseVectors, rule: Callable[..., Any]) -> SparseVectors:
    """Weights in the order of the rule until `SHARE` of the postings of each query are spent."""
    prices, stored = usage(documents), documents.to_scipy()
    usual = np.asarray(stored.sum(axis=0)).ravel() / np.maximum(prices * len(documents), 1)
    rows = []
    for query in queries:
        order = np.argsort(-rule(query.values, usual[query.indices], prices[query.indices]), kind="stable")
        spent = np.cumsum(prices[query.indices][order])
        some = order[: max(1, int((spent <= SHARE * spent[-1]).sum()))]
        rows.append(dict(zip(query.indices[some].tolist(), query.values[some].tolist(), strict=True)))
    return SparseVectors.from_rows(rows, dimension=queries.dimension)


SKIPPING: dict[str, Callable[..., Any]] = {
    "its own weight": lambda q, _s, _p: q,
    "weight times the usual weight there": lambda q, s, _p: q * s,
    "the same over the root of the list": lambda q, s, p: q * s / np.sqrt(p),
    "the same over the list": lambda q, s, p: q * s / p,
}


def losing(rows: Rows, models: Path, keep: Callable[[dict[str, Any]], None]) -> None:
    """Each beside what it was to be better than: an encoder of its own, or the plain one at 32 weights."""
    judge, one = Judge.of(rows), fitted(models / str(ONE), rows, ONE)
    own = {weights: judge.of_encoder(fitted(models / str(weights), rows, weights)) for weights in WEIGHTS}

    def tell(way: str, row: Row) -> None:
        keep({"way": way} | asdict(row))

    for least, most in ((4, 160), (16, 64), (24, 48)):
        found = judge.found(*by_mass(one, rows, least, most))
        tell(f"weights by mass, {least} to {most}", Row.of(ONE, found, 0, own[ONE]))
    documents, queries = one.encode_document(rows.documents), one.encode_query(rows.queries)
    for name, rule in SKIPPING.items():
        found = judge.found(documents, skipped(queries, documents, rule))
        tell(f"skipping by {name}", Row.of(ONE, found, 0, own[ONE]))
    for name, drawn in NESTED.items():
        encoder, seconds = nested(rows, drawn)
        for weights in WEIGHTS:
            found = judge.of_encoder(calibrated(encoder, rows, weights))
            tell(f"nested: {name}", Row.of(weights, found, seconds, own[weights]))


# ---- all of them


def markdown(kept: dict[str, Any]) -> str:
    out = ["# One encoder, many budgets", "", (__doc__ or "").split("\n\n")[3], ""]
    beside = "R10 beside its own, 95 % | @100 beside | answers beside"
    head = [f"| weights | which | R10 | @100 | answers | F | weights a query | {beside} | s |"]
    for name, one in kept["sets"].items():
        out += [f"## {name}", "", f"{one['documents']:,} documents, {one['queries']:,} queries.", "", *head]
        out += ["|---" * 11 + "|", *(line(row) for row in sorted(one["rows"], key=lambda row: row["weights"])), ""]
    if "losing" in kept:
        out += ["## What lost", "", "4,000 Debian rows; 60 % of the postings where queries skip.", "", *head]
        out += ["|---" * 11 + "|", *map(line, kept["losing"]), ""]
    return "\n".join([*out, kept["machine"], ""])


def line(row: dict[str, Any]) -> str:
    pairs = (row.get(f"beside_{what}") for what in ("10", "100", "answers"))
    beside = ["" if pair is None else "{:+.3f} to {:+.3f}".format(*pair) for pair in pairs]
    answers = "" if row.get("answers") is None else f"{row['answers']:.3f}"
    figures = [f"{row['recall_10']:.3f}", f"{row['recall_10_at_100']:.3f}", answers, f"{row['flops']:.3f}"]
    cells = [str(row["weights"]), row["way"], *figures, f"{row['query_nnz']:.0f}", *beside, f"{row['seconds']:.0f}"]
    return f"| {' | '.join(cells)} |"


def main(
    models: Annotated[Path, typer.Argument(help="A folder for models.")],
    data: Annotated[Path, typer.Option(help="Folder with the sets.")] = DATA,
    only: Annotated[list[str] | None, typer.Option("--set", help="Only this one; several times for several.")] = None,
    some: Annotated[list[int] | None, typer.Option("--weights", help="Only these, so many at a time.")] = None,
    lost: Annotated[bool, typer.Option("--losing", help="Only the rows that lost.")] = False,
) -> None:
    results = RESULTS / "many_budgets.json"
    kept: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {"sets": {}}
    kept["machine"] = machine()

    def written() -> None:
        results.write_text(json.dumps(kept, indent=1) + "\n")
        (RESULTS / "many_budgets.md").write_text(markdown(kept))

    for name in [] if lost else only or SETS:
        rows = SETS[name](data)
        empty = {"documents": len(rows.documents), "queries": len(rows.queries), "rows": []}
        found = kept["sets"].setdefault(name, empty)["rows"]
        for row in made(rows, models / name, list(found), some or ORDER):
            found[:] = [one for one in found if (one["way"], one["weights"]) != (row["way"], row["weights"])] + [row]
            written()
            print(name, line(row), flush=True)
    if lost:
        kept["losing"] = []

        def add(row: dict[str, Any]) -> None:
            kept["losing"].append(row)
            written()
            print(line(row), flush=True)

        losing(SETS[SMALL](data), models / SMALL, add)


if __name__ == "__main__":
    typer.run(main)
