"""The command that looks for the best configuration: frontier."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from sparsevec.cli.bars import progress
from sparsevec.cli.options import Json
from sparsevec.cli.screen import failing, say
from sparsevec.files import read_dense
from sparsevec.planning.frontier import CostLimits, Frontier
from sparsevec.planning.halving import DIMENSIONS, WEIGHTS, WIDTHS, find_frontier, shapes_of
from sparsevec.planning.latency import LatencyModel
from sparsevec.planning.picture import page
from sparsevec.storage import whole_file

__all__ = ["frontier"]


class Goals(StrEnum):
    answers = "answers"
    candidates = "candidates"


@failing
def frontier(
    dense: Annotated[Path, typer.Argument(metavar="DENSE.npy", help="Vectors (n, d) of documents, from any model.")],
    seconds: Annotated[float, typer.Option("--seconds", help="How long it may look.")] = 900,
    queries: Annotated[Path | None, typer.Option("--queries", help="Vectors (q, d) of real queries.")] = None,
    flops: Annotated[float | None, typer.Option("--flops", help="At most this F, multiplications of a pair.")] = None,
    most_bytes: Annotated[
        float | None, typer.Option("--bytes", help="At most so many bytes a document, 8 a weight.")
    ] = None,
    milliseconds: Annotated[
        float | None, typer.Option("--milliseconds", help="At most so many a query on --engine.")
    ] = None,
    engine: Annotated[
        Path | None, typer.Option("--engine", help="A file with what `latency --json` printed; for milliseconds.")
    ] = None,
    goal: Annotated[
        Goals, typer.Option("--goal", help="Recall of the final answers, or of the 100 that you re-rank yourself.")
    ] = Goals.answers,
    dimension: Annotated[
        list[int] | None, typer.Option("--dimension", "-d", help=f"That compete; without: {DIMENSIONS}.")
    ] = None,
    nnz: Annotated[
        list[int] | None, typer.Option("--nnz", help=f"Weights of a document that compete; without: {WEIGHTS}.")
    ] = None,
    residual_bytes: Annotated[
        list[int] | None,
        typer.Option("--residual-bytes", help=f"That compete, beside none; without: those of {WIDTHS} that fit."),
    ] = None,
    refine: Annotated[bool, typer.Option("--refine", help="Refine every run, as `fit --refine` does.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the runs and the page go.")] = Path(
        "sparsevec-frontier"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same runs.")] = 0,
    as_json: Json = False,
) -> None:
    """Which dimension, weights, length of query and residual bytes are best for a budget, found on your own vectors.

    Many small runs, fewer larger ones, and a law that predicts what was not run. After a kill the same command goes on;
    with other limits it answers from the runs that are there.

    ```
    sparsevec frontier documents.npy --queries sample.npy --flops 0.65 --seconds 900
    sparsevec frontier documents.npy --bytes 300 --milliseconds 3 --engine latency.json
    ```
    """
    limits = CostLimits(flops, most_bytes, milliseconds)
    rows, sample = read_dense(dense), None if queries is None else read_dense(queries)
    model = None if engine is None else LatencyModel.load(engine)
    with progress("looking") as done:
        found = find_frontier(
            rows,
            sample,
            limits=limits,
            seconds=seconds,
            goal=goal.value,
            shapes=shapes_of(dimension or DIMENSIONS, nnz or WEIGHTS),
            widths=residual_bytes or None,
            refine=refine,
            latency=model,
            folder=output,
            seed=seed,
            on_step=lambda at: done(at.fraction),
        )
    whole_file(output / "frontier.html", page(found).encode())
    say(_Found(page=output / "frontier.html", frontier=found), as_json=as_json)


class _Found(BaseModel):
    page: Path
    frontier: Frontier

    def __str__(self) -> str:
        *others, advice = str(self.frontier).split("\n")
        return "\n".join([*others, f"The page: {self.page}", advice])
