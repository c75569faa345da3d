"""The main rows of `benchmarks.debian12` for three seeds: what the seed alone changes, and what refining gives.

    python -m benchmarks.seeds MODELS [--data ../shared/data/debian12] [--row NAME]... [--seed N]...

20,000 Debian descriptions (MiniLM), 8,000 synopses as the sample, 2,000 others that ask, of which nothing was learned
or chosen. R10 is the overlap of the sparse with the exact dense top 10, @100 the share of the dense top 10 in the
sparse top 100; the mean of the seeds has a 95 % interval over the queries, each query by its mean over the seeds, and
so has what refining adds, paired. F is what the dearest of the seeds spends. Seconds are of `fit` and of `refine`, each
in a process of its own, with all that they measure of themselves and encoding: on the clock, and of all threads.

MODELS is a folder for models: each stage of each seed is a process of its own and is kept there, so that it may be
stopped and run again. Results: benchmarks/results/seeds.json and .md.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
import typer
from rich.console import Console

from benchmarks.debian12 import DATA, RESULTS, A, B, Data
from benchmarks.machine import machine
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.measure.cost import cost
from sparsevec.measure.intervals import interval, paired_interval
from sparsevec.measure.recall import judged, sparse_top
from sparsevec.postings import Float64s
from sparsevec.vectors import SparseVectors

ROWS: dict[str, tuple[int, Budget]] = {
    "d 8,192, 32 weights, F .65": (8192, A),
    "d 16,384, 32 weights, F .65": (16384, A),
    "d 8,192, 64 weights, F 1.2": (8192, B),
}
SEEDS = (0, 1, 2)
Stage: TypeAlias = Literal["head", "refined"]
STAGES: tuple[Stage, ...] = ("head", "refined")


@dataclass(frozen=True, slots=True)
class Found:
    """Of one row, stage and seed."""

    row: str
    stage: Stage
    seed: int
    nnz: float
    query_nnz: float
    flops: float
    cpu_seconds: float
    hits_10: list[int]
    """of ten, in the sparse top 10 of each query"""
    hits_100: list[int]
    machine: str
    seconds: float | None = None
    """on the clock; older rows do not say"""

    @property
    def what(self) -> tuple[str, Stage, int]:
        return self.row, self.stage, self.seed


def made(row: str, stage: Stage, seed: int, folder: Path, models: Path) -> Found:
    """Learn it and judge it; the head of a refined one is there."""
    data, (dimension, budget) = Data.load(folder), ROWS[row]
    place, began, clock = models / row / str(seed), time.process_time(), time.perf_counter()
    if stage == "head":
        encoder = SparseEncoder(384, dimension, seed).fit(data.documents, data.sample, budget=budget)
        documents = encoder.encode_document(data.documents)
    else:
        encoder = SparseEncoder.load(place / "head")
        documents = encoder.refine(data.documents, data.sample)
    cpu, seconds = time.process_time() - began, time.perf_counter() - clock
    place.mkdir(parents=True, exist_ok=True)
    encoder.save(place / stage)
    documents.save(place / f"{stage} codes")
    return replace(judge(row, stage, seed, data, encoder, documents, cpu), seconds=seconds)


def judge(
    row: str, stage: Stage, seed: int, data: Data, encoder: SparseEncoder, documents: SparseVectors, cpu: float
) -> Found:
    queries = encoder.encode_query(data.queries)
    found = judged(data.documents, data.queries, sparse_top(documents, queries, 100))
    spent = cost(queries, documents)
    at_10, at_100 = (np.rint(10 * share).astype(int).tolist() for share in (found.recall_10, found.recall_10_at_100))
    nnz, query_nnz = documents.nnz / len(documents), queries.nnz / len(queries)
    return Found(row, stage, seed, nnz, query_nnz, spent.flops, cpu, at_10, at_100, machine())


# ---- the table


def markdown(results: Sequence[Found]) -> str:
    about = [part.replace("\n", " ") for part in (__doc__ or "").split("\n\n")]
    lines = [
        "| | seeds | nnz doc/query | F | R10 | each seed | @100 | each seed | s | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    added = []
    for row in ROWS:
        head, refined = ([found for found in results if found.what[:2] == (row, stage)] for stage in STAGES)
        lines += [cells(some) for some in (head, refined) if some]
        both = {found.seed for found in head} & {found.seed for found in refined}
        if both:
            sides = [[found for found in side if found.seed in both] for side in (refined, head)]
            gains = [
                paired_interval(*(over_seeds([getattr(found, name) for found in side]) for side in sides))
                for name in ("hits_10", "hits_100")
            ]
            added.append(f"- {row}: refining adds {gains[0]} to R10 and {gains[1]} to @100, of the same seeds")
    where = sorted({found.machine for found in results})
    return "\n".join(["# Three seeds", "", about[0], "", about[2], "", *lines, "", *added, "", *where, ""])


def cells(some: Sequence[Found]) -> str:
    parts = [f"| {some[0].row}, {some[0].stage} | {', '.join(str(found.seed) for found in some)}"]
    parts += [f"{mean([found.nnz for found in some])} / {mean([found.query_nnz for found in some])}"]
    parts += [f"{max(found.flops for found in some):.3f}"]
    for name in ("hits_10", "hits_100"):
        hits = [getattr(found, name) for found in some]
        parts += [f"**{over_seeds(hits).mean():.3f}** ({interval(over_seeds(hits))})"]
        parts += [" ".join(f"{np.mean(each) / 10:.3f}" for each in hits)]
    clock = [found.seconds for found in some if found.seconds is not None]
    parts += [f"{np.mean(clock):.0f}" if clock else "", f"{np.mean([found.cpu_seconds for found in some]):.0f} |"]
    return " | ".join(parts)


def mean(numbers: Sequence[float]) -> str:
    return f"{np.mean(numbers):.1f}"


def over_seeds(hits: Sequence[Sequence[int]]) -> Float64s:
    """(q,) each query's mean share."""
    shares: Float64s = np.array(hits).mean(axis=0) / 10
    return shares


def main(
    models: Annotated[Path, typer.Argument(help="A folder for models.")],
    data: Annotated[Path, typer.Option(help="Folder with minilm_20k.npz.")] = DATA,
    row: Annotated[list[str] | None, typer.Option(help="Only this row; may be given several times.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; may be given several times.")] = None,
) -> None:
    """Make the table, a process for each stage of each seed, and keep it as JSON and Markdown."""
    console, kept = Console(), RESULTS / "seeds.json"
    if unknown := set(row or ()) - set(ROWS):
        console.print(f"no row is called {', '.join(sorted(unknown))}; the rows are: {'; '.join(ROWS)}")
        raise typer.Exit(1)
    spawn = multiprocessing.get_context("spawn")
    wanted = [(name, stage, number) for name in row or ROWS for number in seed or SEEDS for stage in STAGES]
    for what in wanted:
        if what in {found.what for found in load(kept)}:
            continue
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            found = process.submit(made, *what, data, models).result()
        results = sorted([*load(kept), found], key=lambda one: (list(ROWS).index(one.row), one.seed, one.stage))
        kept.write_text("[\n" + ",\n".join(json.dumps(asdict(one)) for one in results) + "\n]\n")
        (RESULTS / "seeds.md").write_text(markdown(results))
        console.print(cells([found]))


def load(path: Path) -> list[Found]:
    return [Found(**kept) for kept in json.loads(path.read_text())] if path.exists() else []


if __name__ == "__main__":
    typer.run(main)
