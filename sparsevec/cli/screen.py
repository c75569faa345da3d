"""How the command line talks: results on stdout, progress and errors on stderr, one line for what went wrong."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ParamSpec, Protocol

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sparsevec.demo.report import Search, table
from sparsevec.errors import (
    AdapterNotFound,
    ClientMissing,
    InvalidInput,
    InvalidVectors,
    JournalMismatch,
    ModelBroken,
    SparsevecError,
)
from sparsevec.measure.recall import Evaluation

__all__ = ["answers", "failing", "figures", "out", "progress", "say", "stages"]

LOSS, USAGE = 1, 2  # exit codes: something was lost or wrong; we were asked wrongly
_OURS_TO_BLAME_THE_CALLER = (InvalidInput, InvalidVectors, AdapterNotFound, ClientMissing, ModelBroken, JournalMismatch)

out = Console()
_err = Console(stderr=True)

P = ParamSpec("P")


def failing(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose typed errors become one red line (with --json: an object) and an exit code."""

    @functools.wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except SparsevecError as error:
            if kwargs.get("as_json"):
                typer.echo(json.dumps({"error": str(error), "kind": type(error).__name__}))
            else:
                _err.print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", highlight=False)
            raise typer.Exit(USAGE if isinstance(error, _OURS_TO_BLAME_THE_CALLER) else LOSS) from None

    return told


def say(report: BaseModel, *, as_json: bool, sound: bool = True) -> None:
    """Print a report, and leave with code 1 when it is not `sound`."""
    if as_json:
        typer.echo(report.model_dump_json())
    else:
        out.print(str(report), style="green" if sound else "red", markup=False, highlight=False)
    if not sound:
        raise typer.Exit(LOSS)


def figures(rows: Mapping[str, Evaluation]) -> None:
    """The table of quality and cost; the last row is ours."""
    header, *lines = table(rows)
    grid = Table(box=None, header_style="dim", pad_edge=False)
    for number, name in enumerate(header):
        grid.add_column(name, justify="right" if number else "left", no_wrap=number > 0)
    for line in lines:
        grid.add_row(*line, style="bold green" if line is lines[-1] else None)
    out.print(grid)


def answers(searches: Sequence[Search]) -> None:
    """Queries in words with their best documents."""
    width = max((len(str(hit.id)) for search in searches for hit in search.found), default=0)
    for search in searches:
        out.print(Text(search.text, "bold"))
        for hit in search.found:
            line = Text.assemble((f"  {hit.score:.3f}  ", "dim"), (f"{hit.id!s:<{width}}  ", "cyan"), hit.text)
            out.print(line, no_wrap=True, overflow="ellipsis")


def _bars() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeElapsedColumn(),
    )
    return Progress(SpinnerColumn(finished_text="[green]✓[/]"), *columns, console=_err)


class Progressed(Protocol):
    def __call__(self, share: float, waiting: str | None = None) -> None: ...


@contextmanager
def progress(name: str) -> Iterator[Progressed]:
    """One bar; tell what you get the share that is done, 0 to 1, and what it waits for while it does."""
    with _bars() as bars:
        task = bars.add_task(name, total=1.0)

        def told(share: float, waiting: str | None = None) -> None:
            bars.update(task, completed=share, description=f"{name}, waiting: {escape(waiting)}" if waiting else name)

        yield told
        told(1.0)


@contextmanager
def stages() -> Iterator[Callable[[str, float], None]]:
    """A bar for each stage, made when it is first heard of."""
    tasks: dict[str, TaskID] = {}
    with _bars() as bars:

        def watch(name: str, share: float) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=1.0)
            bars.update(tasks[name], completed=share)

        yield watch
