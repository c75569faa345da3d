"""The paper, end to end: one backbone trained for each collection, branched, measured beside every baseline.

    python -m benchmarks.paper [--quick] [--data cifar100|omniglot|clinc150]... [--again]

Writes benchmarks/results/paper/COLLECTION.json and .md and docs/images/paper-COLLECTION.svg. A run that was killed goes
on where it was; what is finished is not made again without --again. --quick takes small slices of the same data and few
steps: it shows that everything runs, its figures mean nothing and stay in the cache.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn

from benchmarks.machine import machine
from benchmarks.paper import tables
from benchmarks.paper.branches import School, Watcher, branch, features, frozen, trunk, trunk_seconds
from benchmarks.paper.claims import answers
from benchmarks.paper.data import LOADERS, Task
from benchmarks.paper.measure import Row, Yardstick
from benchmarks.paper.plan import Course, course
from benchmarks.paper.plots import pareto
from sparsevec.training import TrainStep

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared/data"
CACHE = ROOT / ".paper"
RESULTS, IMAGES = ROOT / "benchmarks/results/paper", ROOT / "docs/images"


def main(
    quick: Annotated[bool, typer.Option(help="Small slices of the data, few steps.")] = False,
    data: Annotated[list[str] | None, typer.Option(help="Only this collection; may be given several times.")] = None,
    again: Annotated[bool, typer.Option(help="Forget what is in the cache and begin anew.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the collections are.")] = DATA,
) -> None:
    """Train, branch, measure; write tables and plots."""
    console = Console()
    names = data or list(LOADERS)
    if unknown := set(names) - set(LOADERS):
        console.print(f"no collection is called {', '.join(sorted(unknown))}; there are {', '.join(LOADERS)}")
        raise typer.Exit(1)
    if missing := [name for name in names if not (folder / name).is_dir()]:
        console.print(f"{folder} has no {', '.join(missing)}: nothing to learn from; say where it is with --folder")
        raise typer.Exit(1)
    for name in names:
        cache = CACHE / ("quick" if quick else "full") / name
        if again:
            shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        task, lessons = LOADERS[name](folder / name, quick=quick), course(name, quick=quick)
        with progress(console) as screen:
            rows, spent = made(task, lessons, cache, screen)
        where = f"{machine()}, torch {torch.__version__}; processor minutes of all threads: {spent}"
        results, images = (cache, cache) if quick else (RESULTS, IMAGES)
        written(task, about(task, lessons.school), rows, where, results, images)
        shown(console, task, rows, where, quick=quick)


def progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[seen]}"))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


def made(task: Task, lessons: Course, cache: Path, screen: Progress) -> tuple[list[Row], str]:
    """All rows of one collection, and the processor time of each part.

    First its branches, the dense one before all others, then what else searches the dense rows.
    """
    everything = screen.add_task(task.name, total=len(lessons.recipes) + 1, seen="")
    with watched(screen, f"{task.name}: backbone") as watch:
        network = trunk(task, lessons.school, cache, watch)
    first = features(task, network)
    if lessons.school.frozen:
        task, network = frozen(task, network, lessons.school.seed), nn.Identity()
    rows: list[Row] = []
    measuring = 0.0
    for recipe in lessons.recipes:
        with watched(screen, f"{recipe.method} {recipe.setting}") as watch:
            finished = branch(task, lessons.school, recipe, network, cache, watch)
        began = time.process_time()
        if not rows:
            yardstick = Yardstick(task, finished)
            rows.append(yardstick.branch(first))
        rows.append(yardstick.branch(finished))
        measuring += time.process_time() - began
        screen.advance(everything)
    began = time.process_time()
    with watched(screen, "the other methods"):
        rows += yardstick.rivals(lessons.heads, lessons.school.seed)
    measuring += time.process_time() - began
    screen.advance(everything)
    parts = {
        "backbone": trunk_seconds(cache),
        "branches": sum(row.seconds or 0 for row in rows),
        "measuring": measuring,
    }
    return rows, ", ".join(f"{part} {seconds / 60:.1f}" for part, seconds in parts.items())


@contextmanager
def watched(screen: Progress, name: str) -> Iterator[Watcher]:
    """A line on the screen as long as it lasts, fed by the steps of a training."""
    line = screen.add_task(name, total=None, seen="")

    def watch(step: TrainStep) -> None:
        seen = f"loss {step.loss:.2f}  nnz {step.nnz:.0f}  F {step.flops:.2g}"
        screen.update(line, total=step.steps, completed=step.step, seen=seen)

    yield watch
    screen.remove_task(line)


def written(task: Task, said: str, rows: list[Row], where: str, results: Path, images: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    kept = {"machine": where, "about": said, "rows": [asdict(row) for row in rows]}
    (results / f"{task.name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    (results / f"{task.name}.md").write_text(tables.markdown(task.name, said, rows, len(task.queries), where))
    pareto(task.name, rows, images / f"paper-{task.name}.svg")


LOSSES = {
    "pairs": "InfoNCE between two rows of each class",
    "triplet": "semi-hard triplets",
    "teacher": "KL to the similarities of the backbone's own features, without labels",
}


def about(task: Task, school: School) -> str:
    asked = "each is a query and the others are searched" if task.leave_one_out else f"{len(task.queries):,} queries"
    backbone = f"Backbone: {school.trunk_steps:,} steps, ArcFace. " if school.trunk_steps else "Vectors as they are. "
    network = "heads alone" if school.frozen or not school.trunk_steps else "the whole network, end to end"
    return (
        f"{len(task.train):,} to learn from, of {task.classes:,} classes; {len(task.gallery):,} searched, {asked}. "
        f"{backbone}Branches: {network}, {school.branch_steps} steps of {school.batch}, {LOSSES[school.loss]}. "
        "A dense search multiplies as often as the embedding is long. SDH, as published, ranks its candidates by the "
        "rows of `dense`, and what stands below it searches these rows. A weight in brackets is where a controller "
        "ended that was to reach that many non-zeros on the training batches.\n\nThese are our own runs. The paper's "
        "own tables, MegaFace among them, are not reproduced."
    )


def shown(console: Console, task: Task, rows: list[Row], where: str, *, quick: bool) -> None:
    ks = list(rows[0].precision)
    table = Table(*tables.brief_columns(ks), title=task.name)
    for row in rows:
        table.add_row(*tables.brief(row))
    console.print(table)
    if quick:
        console.print("small slices, few steps: it runs from end to end, and these figures mean nothing else")
        return
    claims = Table("claim", "here", "figures", title="What the paper claims, and what these rows say")
    for answer in answers(rows, ks[0], len(task.queries)):
        claims.add_row(answer.claim, tables.SAID[answer.holds], answer.figures)
    console.print(claims)
    console.print(where)


if __name__ == "__main__":
    typer.run(main)
