"""How well the law of a frontier predicts, and what its choice is worth beside a full search, from trials on disk.

    python -m benchmarks.frontier learn TRIALS/ documents.npy --queries queries.npy --shape 2048x32 --rows 5000 --share
    python -m benchmarks.frontier judge TRIALS/ [TRIALS/ ...]

Each folder is named by its set and holds trials (`planning.trials.Trial` as JSON) of several shapes and sizes; with
`--share` shapes share trainings, as a search has them. The largest size is predicted from those of a quarter of it, of
shared trainings where these are there; every shape at the largest size, each with a training of its own, is the full
search.
Two choices are judged by it: the best by prediction alone, and what halving takes that is given these trials, one by
one, as it asks for them, until the seconds that they took are 900. Results: benchmarks/results/frontier.json and
.md, and the picture docs/images/frontier.svg.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.machine import machine
from sparsevec.planning.frontier import CostLimits, Frontier
from sparsevec.planning.halving import AGAIN, WIDTHS, _Search, seen, shuffled
from sparsevec.planning.law import Law
from sparsevec.planning.notebook import Notebook, Settings
from sparsevec.planning.picture import panel
from sparsevec.planning.trials import Goal, Rows, Shape, Trial, runs, tried

RESULTS = Path(__file__).parent / "results/frontier.json"
LIMITS = (0.2, 0.4, 0.65, 1.3)  # of F
SECONDS = 900.0
DRAWN = "debian12"
HOW = (("900 s", SECONDS, 0.0), ("900 s, shared ones 2.6 less", SECONDS, 0.026), ("any time", math.inf, 0.0))
GOALS: tuple[tuple[str, Goal, int], ...] = (
    ("answers, second look", "answers", 0),
    ("answers, 60 residual bytes", "answers", 60),
    ("candidates", "candidates", 0),
)


def told(trials: Sequence[Trial], goal: Goal, width: int) -> dict[str, Any]:
    """Of one set: the largest runs as they were predicted, and what the choice by prediction lost."""
    largest = max(trial.documents for trial in trials)
    pairs = [(t, p) for t in trials for p in t.points if p.residual_bytes == width]
    small = [(t, p) for t, p in pairs if t.documents == largest // 4]
    truth = [(t, p) for t, p in pairs if t.documents == largest]
    law = Law.fitted([seen(t, p, goal) for t, p in small])
    known = {(t.shape, p.query_nnz) for t, p in small}
    rows = []
    for trial, point in truth:
        if (trial.shape, point.query_nnz) in known:
            recall, interval = law.predict(seen(trial, point, goal), largest)
            rows.append((trial, point, recall, interval))
    off = np.array([recall - point.recall(goal) for _, point, recall, _ in rows])
    biggest = max((trial.shape for trial, *_ in rows), key=lambda shape: (shape.dimension, shape.nnz))
    of_biggest = [gap for (trial, *_), gap in zip(rows, off, strict=True) if trial.shape == biggest]
    lost = {}
    for limit in LIMITS:
        within = [row for row in rows if row[1].flops <= limit]
        if within:
            chosen, best = max(within, key=lambda row: row[2])[1], max(row[1].recall(goal) for row in within)
            lost[str(limit)] = best - chosen.recall(goal)
    return {
        "documents": largest,
        "law": law.form,
        "configurations": len(rows),
        "mean_absolute_error": float(np.abs(off).mean()),
        "largest_shape_mean_error": float(np.mean(of_biggest)),
        "within_1.5_points": float((np.abs(off) <= 0.015).mean()),
        "in_interval": float(np.mean([i.low <= p.recall(goal) <= i.high for _, p, _, i in rows])),
        "recall_lost_by_the_choice": lost,
    }


# ---- what halving takes


@dataclass
class Replay(_Search):
    """A search whose trials were made before."""

    kept: Mapping[tuple[Shape, int], Trial]
    less: float
    """recall that answers of a shared training are taken to miss, where each had one of its own"""

    def _tried(self, run: Sequence[Shape], size: int) -> list[Trial]:
        """All but the first at what they take after its training."""
        first, *others = (self.kept[shape, size] for shape in run)
        return [first, *(trial if trial.learned_nnz is not None else self._shared(trial) for trial in others)]

    def _shared(self, trial: Trial) -> Trial:
        points = tuple(p.model_copy(update={"answers": p.answers - self.less}) for p in trial.points)
        return trial.model_copy(update={"seconds": AGAIN * trial.seconds, "points": points})


def replayed(trials: Sequence[Trial], goal: Goal, limit: float, seconds: float, less: float = 0) -> Frontier:
    """What a search finds that is given trials of shapes that were learned from each number of rows it asks for."""
    kept = {(trial.shape, trial.documents): trial for trial in trials}
    largest = max(size for _, size in kept)
    shapes = sorted((s for s, size in kept if size == largest and (s, largest // 4) in kept), key=str)
    rows = Rows(np.empty((largest, 1), np.float32), None, np.empty((trials[0].queries, 1), np.float32))
    notebook = Notebook(Settings(rows=0, widths=(), refine=False, seed=0), None)
    return Replay(rows, CostLimits(flops=limit), goal, None, notebook, seconds, None, kept, less).run(shapes)


def halved(trials: Sequence[Trial], goal: Goal, width: int, seconds: float, less: float) -> dict[str, Any]:
    """For each limit of F: what halving takes in that time, beside the best of all trials with all rows."""
    largest = max(trial.documents for trial in trials)
    some = [t.model_copy(update={"points": tuple(p for p in t.points if p.residual_bytes == width)}) for t in trials]
    full = {t.shape: t.points for t in some if t.documents == largest}
    found = {}
    for limit in LIMITS:
        within = [p.recall(goal) for points in full.values() for p in points if p.flops <= limit]
        if within:
            told = replayed(some, goal, limit, seconds, less)
            chosen = next(p for p in full[told.best.shape] if p.query_nnz == told.best.query_nnz).recall(goal)
            spent = {"seconds": told.seconds, "trials": told.trials}
            found[str(limit)] = {"best": max(within), "lost": max(within) - chosen, **spent}
    return found


def drawn(trials: Sequence[Trial]) -> str:
    """SVG of the search for F ≤ 0.65, as its page has it, in colours for light and dark."""
    whole = panel(replayed(trials, "answers", 0.65, math.inf), "flops")
    style = (
        "text{font:12px sans-serif;fill:#808080}.grid{stroke:#80808040}.front{fill:none;stroke:#808080}"
        ".limit{stroke:#d9534f;stroke-dasharray:5 4}.best{fill:none;stroke:#808080;stroke-width:2}"
    )
    opened, rest = whole.split(">", 1)
    return f'{opened} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}\n'


# ---- what sparsity is best


def sparsity(trials: Sequence[Trial], goal: Goal, width: int) -> list[dict[str, float]]:
    """For each limit of F the best number of weights among the largest runs: what optimal sparsity is."""
    largest = max(trial.documents for trial in trials)
    found = []
    for limit in LIMITS:
        rows = [
            (point.recall(goal), trial.shape.dimension, trial.shape.nnz, point.lists, point.flops)
            for trial in trials
            for point in trial.points
            if trial.documents == largest and point.residual_bytes == width and point.flops <= limit
        ]
        if rows:
            recall, dimension, nnz, lists, flops = max(rows)
            found.append(
                {
                    "limit": limit,
                    "recall": recall,
                    "dimension": dimension,
                    "nnz": nnz,
                    "sparsity": 1 - nnz / dimension,
                    "lists": lists,
                    "flops": flops,
                }
            )
    return found


# ---- all of them


def markdown(sets: dict[str, Any], where: str) -> str:
    """What is on the page about cost."""
    names = [f"{name}, {one['candidates']['documents']:,}" for name, one in sets.items()]
    out = [
        "# How far to believe a frontier",
        "",
        "Points of recall that a prediction from a quarter of the rows is off:",
    ]
    out += ["mean of all configurations, without sign / mean of the largest shape's, with it.", ""]
    out += [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, *_ in GOALS:
        errors = [(one[name]["mean_absolute_error"], one[name]["largest_shape_mean_error"]) for one in sets.values()]
        out.append(f"| {name} | {' | '.join(f'{100 * one:.1f} / {100 * largest:+.1f}' for one, largest in errors)} |")
    out += [
        "",
        "Points that are lost by what the search takes, at F ≤ 0.2, 0.4, 0.65 and 1.3, against all shapes learned from",
    ]
    out += [
        "all rows; and seconds of one processor that its runs had taken. With all rows each shape had a training of",
        "its own; where they share one, answers of all but the first are also tried as if they found 2.6 points less.",
        "",
    ]
    out += ["| | " + " | ".join(f"{name}: lost | s" for name in names) + " |", "|---" * (2 * len(names) + 1) + "|"]
    for said in next(iter(sets.values()))["halving"]:
        cells = [said]
        for one in sets.values():
            taken = one["halving"][said].values()
            cells += [" ".join(f"{100 * abs(t['lost']):.1f}" for t in taken), f"{max(t['seconds'] for t in taken):.0f}"]
        out.append(f"| {' | '.join(cells)} |")
    name, one = next(iter(sets.items()))
    out += [
        "",
        f"**Optimal sparsity**, {name}: of all shapes that were learned from all rows, the best for each F.",
        "",
    ]
    out += [
        "| F at most | candidates: dimension, weights document / query | @100 | answers: the same | R10 |",
        "|---" * 5 + "|",
    ]
    for pair in zip(one["optimal sparsity"], one["optimal sparsity, answers"], strict=True):
        best = (f"{p['dimension']:,}, {p['nnz']} / {p['lists']:.0f} | {p['recall']:.3f}" for p in pair)
        out.append(f"| {pair[0]['limit']} | {' | '.join(best)} |")
    return "\n".join([*out, "", where, ""])


def learn(
    folder: Path,
    dense: Path,
    rows: Annotated[int, typer.Option(help="How many documents are learned from.")],
    shape: Annotated[list[str], typer.Option(help="DIMENSIONxWEIGHTS; several times for several.")],
    queries: Annotated[Path | None, typer.Option(help="Real ones; half of them, at most 300, judge.")] = None,
    share: Annotated[bool, typer.Option(help="Learn one encoder for several shapes of a dimension.")] = False,
) -> None:
    """Learn each shape from the first rows of the order that a frontier takes them in; those that are kept stay. Their
    seconds are of processors: on one thread, what a machine without anybody else takes."""
    folder.mkdir(parents=True, exist_ok=True)
    some = shuffled(np.load(dense), None if queries is None else np.load(queries), 0).first(rows)
    shapes = [Shape(dimension=int(d), nnz=int(nnz)) for d, nnz in (name.split("x") for name in shape)]
    for run in runs(shapes) if share else [[one] for one in shapes]:
        names = {one: f"{one.dimension}-{one.nnz}{'' if one == run[0] else '-shared'}-{rows}.json" for one in run}
        if not all((folder / name).exists() for name in names.values()):
            began, trials = time.process_time(), tried(run, some, widths=WIDTHS)
            busy = (time.process_time() - began) / sum(trial.seconds for trial in trials)
            for trial in trials:
                kept = trial.model_copy(update={"seconds": busy * trial.seconds})
                (folder / names[trial.shape]).write_text(kept.model_dump_json())


def kept(folder: Path) -> list[Trial]:
    """As a search is given them: the largest each learned by itself, smaller ones of a shared training."""
    trials = [Trial.model_validate_json(file.read_bytes()) for file in sorted(folder.glob("*.json"))]
    largest = max(trial.documents for trial in trials)
    found: dict[tuple[Shape, int], Trial] = {}
    for trial in trials:
        key, shared = (trial.shape, trial.documents), trial.learned_nnz is not None
        if key not in found or shared == (trial.documents < largest):
            found[key] = trial
    return list(found.values())


def judge(folders: Annotated[list[Path], typer.Argument(help="One for each set, with its trials.")]) -> None:
    """Predict, compare, and keep the figures."""
    results: dict[str, Any] = {"machine": machine(), "sets": {}}
    for folder in folders:
        trials = kept(folder)
        if folder.name == DRAWN:
            (RESULTS.parents[2] / "docs/images/frontier.svg").write_text(drawn(trials))
        results["sets"][folder.name] = {
            "seconds": {
                f"{t.shape.dimension} x {t.shape.nnz}, {t.documents}": round(t.seconds, 1)
                for t in sorted(trials, key=lambda t: (t.documents, t.shape.dimension, t.shape.nnz))
            },
            **{name: told(trials, goal, width) for name, goal, width in GOALS},
            "halving": {
                f"{name}, {said}": halved(trials, goal, width, seconds, less)
                for name, goal, width in GOALS
                for said, seconds, less in HOW
            },
            "optimal sparsity": sparsity(trials, "candidates", 0),
            "optimal sparsity, answers": sparsity(trials, "answers", 0),
        }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(markdown(results["sets"], results["machine"]))
    print(json.dumps(results["sets"], indent=1))


if __name__ == "__main__":
    app = typer.Typer()
    app.command()(learn)
    app.command()(judge)
    app()
