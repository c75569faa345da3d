"""How the command line talks: results on stdout, errors on stderr, one line for what went wrong.

What others wrote (ids, payloads, reasons of a server) is shown with its control characters as escapes.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, get_args, get_type_hints

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.models import OptionInfo

from sparsevec.cli.credentials import SPELLED
from sparsevec.demo.report import Search, table
from sparsevec.errors import (
    AdapterNotFound,
    ClientMissing,
    InvalidInput,
    InvalidVectors,
    JournalMismatch,
    ModelBroken,
    SparsevecError,
    WrongSpace,
    printable,
)
from sparsevec.measure.recall import Evaluation

__all__ = ["answers", "as_json_text", "as_options", "failing", "figures", "note", "out", "say", "shown"]

LOSS, USAGE, STOPPED = 1, 2, 130  # exit codes: something was lost or wrong; we were asked wrongly; Ctrl-C
_CALLERS = (
    InvalidInput,
    InvalidVectors,
    AdapterNotFound,
    ClientMissing,
    ModelBroken,
    JournalMismatch,
    WrongSpace,
)

out = Console()
_err = Console(stderr=True)

P = ParamSpec("P")


def failing(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose typed errors become one red line (with --json: an object) and an exit code."""

    @functools.wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            command(*args, **kwargs)
        except SparsevecError as error:
            _wrong(type(error).__name__, as_options(str(error), command), error.report, as_json=as_json)
            raise typer.Exit(USAGE if isinstance(error, _CALLERS) else LOSS) from None
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _wrong("StorageFailed", f"{place}{error.strerror or error}", None, as_json=as_json)
            raise typer.Exit(LOSS) from None
        except KeyboardInterrupt as error:
            _wrong("Stopped", "by Ctrl-C", getattr(error, "report", None), as_json=as_json)
            raise typer.Exit(STOPPED) from None

    return told


def as_options(text: str, command: Callable[..., None]) -> str:
    """A message for Python as the shell spells it: `dense_field=` is --dense-field where `command` has that option, and
    credentials stand in the environment."""
    spelled = {**_options(command), **SPELLED}
    return _KEYWORD.sub(lambda found: spelled.get(found[1], found[0]), text)


_KEYWORD = re.compile(r"(?<![?&\w.-])([a-z][a-z_]*)=(?=[,;:)]|\.?(?:\s|$))")  # that has no value behind it


def _options(command: Callable[..., None]) -> dict[str, str]:
    """Those of a command, by what a keyword argument of that name is called."""
    kinds = [one for hint in get_type_hints(command, include_extras=True).values() for one in get_args(hint)[1:]]
    given = [word for one in kinds if isinstance(one, OptionInfo) for word in (one.default, *(one.param_decls or ()))]
    return {word[2:].replace("-", "_"): word for word in given if isinstance(word, str) and word.startswith("--")}


def _wrong(kind: str, message: str, report: object, *, as_json: bool) -> None:
    """What went wrong, and what had been settled before, where that is known."""
    settled = report if isinstance(report, BaseModel) else None
    if as_json:
        try:
            typer.echo(json.dumps({"error": message, "kind": kind} | ({"report": _plain(settled)} if settled else {})))
            return
        except BrokenPipeError:
            raise  # nobody reads: typer leaves in silence
        except OSError:
            pass  # a full disk under stdout; stderr may still be read
    _err.print(Text.assemble((kind, "bold red"), f": {shown(message)}"), soft_wrap=True)
    if settled is not None and str(settled) not in message:
        _err.print(Text(shown(settled)), soft_wrap=True)


def _plain(report: BaseModel) -> Any:
    return report.model_dump(mode="json")


def as_json_text(value: object) -> str:
    """One line of ASCII: nothing in it moves a terminal."""
    return json.dumps(_plain(value) if isinstance(value, BaseModel) else value)


def shown(text: object) -> str:
    """Line by line as a terminal may show it."""
    return "\n".join(printable(line, 100_000) for line in str(text).split("\n"))


def note(text: str) -> None:
    """A remark beside the result, on stderr."""
    _err.print(Text(shown(text), "dim"), soft_wrap=True)


def say(report: BaseModel, *, as_json: bool, sound: bool = True, good: bool = True) -> None:
    """Print a report: green when it is `sound` and `good`. Leave with code 1 when it is not `sound`."""
    if as_json:
        typer.echo(as_json_text(report))
    else:
        colour = "red" if not sound else "green" if good else "yellow"
        out.print(Text(shown(report), colour), soft_wrap=True)
    if not sound:
        raise typer.Exit(LOSS)


def figures(rows: Mapping[str, Evaluation]) -> None:
    """The table of quality and cost; the last row is ours."""
    header, *lines = table(rows)
    grid = Table(box=None, header_style="dim", pad_edge=False)
    for number, name in enumerate(header):
        grid.add_column(name, justify="right" if number else "left", no_wrap=number > 0)
    for line in lines:
        grid.add_row(*line, style="bold" if line is lines[-1] else None)
    out.print(grid)


def answers(searches: Sequence[Search]) -> None:
    """Queries in words with their best documents."""
    width = max((len(printable(hit.id, 60)) for search in searches for hit in search.found), default=0)
    for search in searches:
        out.print(Text(printable(search.text), "bold"))
        for hit in search.found:
            id_ = f"{printable(hit.id, 60):<{width}}  "
            line = Text.assemble((f"  {hit.score:.3f}  ", "dim"), (id_, "cyan"), printable(hit.text))
            out.print(line, no_wrap=True, overflow="ellipsis")
        if not search.found:
            out.print(Text("  no document, or none that the filter leaves, shares a dimension with it", "dim"))
