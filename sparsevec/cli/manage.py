"""The commands that look at a collection, and that take away: info, check, delete, drop."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.text import Text

from sparsevec.cli.bars import progress
from sparsevec.cli.credentials import connected
from sparsevec.cli.options import Filter, Json, Target, Yes, distinct, read_where
from sparsevec.cli.screen import LOSS, as_json_text, as_options, failing, out, say, shown
from sparsevec.contract.adapter import Adapter, Finding
from sparsevec.errors import InvalidInput
from sparsevec.files import read_ids
from sparsevec.ingestion.removal import remove
from sparsevec.live.findings import check as look_around

__all__ = ["check", "delete", "drop", "info"]

# ---- look


class _State(BaseModel):
    backend: str
    exists: bool
    count: int | None
    """documents with a vector of ours; None where there is no collection"""
    ours: bool
    dimension: int | None
    fingerprint: str | None
    identity: str | None
    capabilities: dict[str, Any]

    @classmethod
    def of(cls, adapter: Adapter) -> _State:
        found = adapter.info()
        values = {name: getattr(found, name) for name in cls.model_fields if name not in ("count", "capabilities")}
        count = adapter.count() if found.exists else None
        return cls(count=count, capabilities=asdict(found.capabilities), **values)

    def __str__(self) -> str:
        if not self.exists:
            return f"{self.backend}: no collection of ours is there yet"
        made = "a collection that sparsevec made" if self.ours else "a collection that others made"
        space = f"of the space {self.fingerprint}" if self.fingerprint else "of no encoder that is known"
        dimension = f"{self.dimension:,} dimensions" if self.dimension else "a dimension that it does not say"
        return f"{self.backend}: {self.count:,} vectors of {dimension}, {space}, in {made}"


@failing
def info(url: Target, as_json: Json = False) -> None:
    """What is at URL: the backend, the collection, how many vectors, of which encoder.

    ```
    sparsevec info qdrant://localhost:6333/products
    ```
    """
    with connected(url) as adapter:
        say(_State.of(adapter), as_json=as_json)


@failing
def check(
    url: Target,
    dense_field: Annotated[
        str | None, typer.Option("--dense-field", help="Look at the dense vectors in that field or vector, too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look, and touch nothing: what would go wrong with sparse vectors there. Exit code 1 when something is in the way.

    ```
    sparsevec check "elasticsearch://localhost:9200/products?field=sparse"
    ```
    """
    with connected(url) as adapter:
        seen = look_around(adapter, dense_field=dense_field)
    findings = [replace(finding, advice=as_options(finding.advice, check)) for finding in seen]
    if as_json:
        typer.echo(as_json_text([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            _show(finding)
    if any(finding.level == "blocking" for finding in findings):
        raise typer.Exit(LOSS)


def _show(finding: Finding) -> None:
    mark, colour = {"fine": ("✓", "green"), "warning": ("!", "yellow"), "blocking": ("✗", "bold red")}[finding.level]
    advice = f"\n    {shown(finding.advice)}" if finding.advice else ""
    line = Text.assemble((f"{mark} {finding.level:<9}", colour), (shown(finding.subject), "bold"))
    out.print(Text.assemble(line, f": {shown(finding.found)}", (advice, "dim")), soft_wrap=True)


# ---- take away


class _Gone(BaseModel):
    before: int
    after: int
    failures: list[str] = []
    """ids that were refused, with the reason: the first few"""

    def __str__(self) -> str:
        told = f"{self.before - self.after:,} vectors taken away, {self.after:,} are left"
        return "\n".join([told, *self.failures])


@failing
def delete(
    url: Target,
    ids: Annotated[
        Path | None, typer.Option("--ids", help='One id a line, as JSON: 42, "a", or an object with an id.')
    ] = None,
    where: Filter = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take documents away, or our vectors from documents of others: those that --where leaves, or those of --ids, of
    which one that is not there is no error.

    ```
    sparsevec delete qdrant://localhost:6333/products --ids gone.jsonl
    sparsevec delete qdrant://localhost:6333/products --where '{"brand": "acme"}'
    ```
    """
    if (ids is None) == (where is None):
        raise InvalidInput("expected --ids or --where, one of the two; --where '{}' stands for every document")
    wanted, left = None if ids is None else distinct(read_ids(ids, None)), read_where(where)
    with connected(url) as adapter:
        before = adapter.count()
        n = adapter.count(left) if wanted is None else len(wanted)
        _agree(f"Take away {n:,} of the {before:,} vectors at {url}?", yes=yes, as_json=as_json)
        with progress("deleting") as done:
            removed = remove(adapter, wanted, where=left, on_progress=lambda told: done(told.given / max(1, n)))
        gone = _Gone(
            before=before,
            after=adapter.count(),
            failures=[f"{failure.id!r}: {failure.reason}" for failure in removed.failures],
        )
    say(gone, as_json=as_json, sound=not removed.failed)


@failing
def drop(url: Target, yes: Yes = False, as_json: Json = False) -> None:
    """Forget everything of ours at URL. What others made stays.

    ```
    sparsevec drop qdrant://localhost:6333/products
    ```
    """
    with connected(url) as adapter:
        state = _State.of(adapter)
        if state.exists:
            kept = "" if state.ours else " The documents of others stay."
            _agree(f"{shown(state)}. Forget them all?{kept}", yes=yes, as_json=as_json)
            adapter.drop()
    say(_Gone(before=state.count or 0, after=0), as_json=as_json)


def _agree(question: str, *, yes: bool, as_json: bool) -> None:
    """Raises Abort unless a person says yes; InvalidInput where none can be asked."""
    if yes:
        return
    if as_json:
        raise InvalidInput("with --json nobody can be asked whether to delete; add --yes")
    if sys.stdin is None:  # closed, as a service may be started
        raise InvalidInput("without an input nobody can be asked whether to delete; add --yes")
    typer.confirm(question, abort=True)
