"""The commands for a cluster that serves: retrofit, and what comes after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from sparsevec.cli.bars import watching
from sparsevec.cli.credentials import secrets_of
from sparsevec.cli.options import Json, Target
from sparsevec.cli.screen import failing, say
from sparsevec.contract.urls import Url
from sparsevec.encoder import Budget
from sparsevec.errors import InvalidInput
from sparsevec.files import read_dense
from sparsevec.live.catching_up import catch_up, repeated
from sparsevec.live.copying import copy_beside, drop_copied, switch_copy
from sparsevec.live.many import catch_up_each, collections, retrofit_each, undo_each
from sparsevec.live.retrofitting import retrofit
from sparsevec.live.settings import Settings
from sparsevec.live.undoing import undo_retrofit
from sparsevec.planning.latency import LatencyModel
from sparsevec.planning.outlook import preview

__all__ = [
    "Asking",
    "Config",
    "DenseField",
    "Drawn",
    "DryRun",
    "Every",
    "Multiplications",
    "NewDimension",
    "NewWeights",
    "NoVerify",
    "Rate",
    "Refine",
    "catching",
    "filling",
    "preview_command",
    "read_settings",
    "retrofit_command",
]

DenseField = Annotated[
    str | None, typer.Option("--dense-field", help="Where the dense vectors are, if the collection has several.")
]
Weights = Annotated[int, typer.Option("--nnz", help="Of a new encoder: weights of a document.")]
Multiplications = Annotated[
    float | None, typer.Option("--flops", help="Of a new encoder: F, multiplications of a pair.")
]
Dimensions = Annotated[
    int, typer.Option("--dimension", "-d", help="Of a new encoder: dimensions of the sparse vectors.")
]

Config = Annotated[
    Path | None, typer.Option("--config", help="A sparsevec.toml with all of this; what is given here goes first.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing: say what would be written.")]
Every = Annotated[float | None, typer.Option("--every", help="With --catch-up: again every N seconds.")]
Rate = Annotated[float | None, typer.Option("--rate", help="Documents a second that are written at most.")]
NewWeights = Annotated[int | None, typer.Option("--nnz", help="Of a new encoder: weights of a document (32).")]
NewDimension = Annotated[
    int | None, typer.Option("--dimension", "-d", help="Of a new encoder: dimensions of the vectors (8192).")
]
Asking = Annotated[
    Path | None, typer.Option("--queries", help="Of a new encoder: dense vectors of real queries (.npy, …).")
]
Refine = Annotated[bool, typer.Option("--refine", help="Fit the codes to this corpus; the sample must be all of it.")]
Drawn = Annotated[
    int | None, typer.Option("--sample", help="Dense vectors that a new encoder is learned from (20000).")
]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Do not verify at the end.")]


@failing
def retrofit_command(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="The collection with the field or vector to add; or a pattern of several."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="A folder with an encoder (`fit` wrote it); a new one gets an encoder, learned from a sample.",
        ),
    ] = None,
    config: Config = None,
    dense_field: DenseField = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take away what a retrofit added, and nothing else.")] = False,
    catching_up: Annotated[
        bool, typer.Option("--catch-up", help="Write what is new, missing or stale since, and only that.")
    ] = False,
    every: Every = None,
    copying: Annotated[
        bool,
        typer.Option(
            "--copy",
            help="URL names an alias: copy what it stands for to a new collection, and add the sparse vectors there.",
        ),
    ] = False,
    switching: Annotated[
        bool, typer.Option("--switch", help="With --copy: move the alias over to the copy. The old one stays.")
    ] = False,
    dropping: Annotated[
        bool, typer.Option("--drop-old", help="With --copy, after the switch: remove the old collection.")
    ] = False,
    dry_run: DryRun = False,
    rate: Rate = None,
    nnz: NewWeights = None,
    flops: Multiplications = None,
    dimension: NewDimension = None,
    queries: Asking = None,
    refine: Refine = False,
    sample: Drawn = None,
    no_check: NoVerify = False,
    as_json: Json = False,
) -> None:
    """Add sparse vectors to a collection that serves, made from the dense vectors it holds; catch up; or undo it.

    Nothing else of a document is touched, none is made, none comes back. After a kill, the same call goes on.

    ```
    sparsevec retrofit "elasticsearch://localhost:9200/products?field=sparse" --dense-field emb --model model/
    sparsevec retrofit "elasticsearch://localhost:9200/products?field=sparse" --model model/ --catch-up
    sparsevec retrofit "elasticsearch://localhost:9200/products?field=sparse" --model model/ --undo
    sparsevec retrofit --config sparsevec.toml --catch-up
    sparsevec retrofit "qdrant://localhost:6333/products-alias?vector_name=sparse" --model model/ --copy
    ```
    """
    if undo + (catching_up or dry_run) + copying > 1:
        raise InvalidInput("--undo and --copy go without each other and without --catch-up and --dry-run")
    if (switching or dropping) and (not copying or switching + dropping > 1):
        raise InvalidInput("--switch and --drop-old belong to --copy, one at a time")
    settings = read_settings(
        config,
        catching_up=catching_up,
        refine=refine,
        no_check=no_check,
        url=url,
        model=model,
        dense_field=dense_field,
        nnz=nnz,
        flops=flops,
        dimension=dimension,
        queries=queries,
        sample=sample,
        rate=rate,
        every=every,
    )
    once = _Calls(settings, as_json=as_json)
    if copying:
        once.copy(switching=switching, dropping=dropping)
    elif undo:
        with watching(quiet=as_json) as told:
            report = once.report(undo_retrofit, undo_each, on_progress=told)
        once.say(report)
    elif catching_up:
        read = {"dense_field": settings.dense_field, "rate": settings.rate, "dry_run": dry_run}
        catching(partial(once.report, catch_up, catch_up_each, **read), settings, as_json=as_json)
    else:
        with filling(settings, dry_run=dry_run, quiet=as_json) as options:
            report = once.report(retrofit, retrofit_each, **options)
        say(report, as_json=as_json, sound=report.complete, good=dry_run or getattr(report, "settled", True))


def read_settings(
    config: Path | None, *, catching_up: bool, refine: bool, no_check: bool, every: float | None, **given: Any
) -> Settings:
    """Those of the file, and those of the command line, which go first. Raises InvalidInput."""
    if every is not None and not catching_up:
        raise InvalidInput("--every belongs to --catch-up")
    flags = {"refine": refine or None, "verify": False if no_check else None}
    return Settings.read(config, {**given, **flags, "every": every})


def catching(catch_up: Callable[..., Any], settings: Settings, *, as_json: bool) -> None:
    """Catch up once, or again and again, and say each report. `catch_up` takes `on_progress=`."""

    def caught() -> Any:
        with watching(quiet=as_json) as told:
            return catch_up(on_progress=told)

    if settings.every is None:
        report = caught()
        say(report, as_json=as_json, sound=report.complete)
        return
    for report in repeated(caught, settings.every):
        say(report, as_json=as_json)


class _Dropped(BaseModel):
    dropped: str
    """the collection"""

    def __str__(self) -> str:
        return f"{self.dropped} is removed"


@contextmanager
def filling(settings: Settings, *, dry_run: bool, quiet: bool) -> Iterator[dict[str, Any]]:
    """What `retrofit` and `migrate` are called with besides places and folders; bars for as long as it lasts."""
    with watching(quiet=quiet) as told:
        yield {
            "dense_field": settings.dense_field,
            "budget": settings.budget,
            "output_dim": settings.dimension,
            "queries": None if settings.queries is None else read_dense(settings.queries),
            "refine": settings.refine,
            "sample": settings.sample,
            "rate": settings.rate,
            "check": settings.verify,
            "dry_run": dry_run,
            "on_progress": told,
        }


class _Calls:
    """What is done with one collection, or with each that the url stands for."""

    def __init__(self, settings: Settings, *, as_json: bool) -> None:
        self._settings, self._json = settings, as_json
        self._secrets = secrets_of(settings.url)
        self._pattern = bool({*"*,"} & {*Url.parse(settings.url).path})

    def report(self, one: Callable[..., Any], each: Callable[..., Any], **options: Any) -> Any:
        options |= {"model": self._settings.model, "deadline": self._settings.deadline}
        urls = collections(self._settings.url, **self._secrets)  # at each catch-up anew: a day has its own index
        if len(urls) > 1 or self._pattern:
            return each(urls, credentials=self._secrets, **options)
        return one(self._settings.url, **options, **self._secrets)

    def copy(self, *, switching: bool, dropping: bool) -> None:
        asked = self._settings
        given: dict[str, Any] = {"model": asked.model, "credentials": self._secrets}
        if dropping:
            say(_Dropped(dropped=drop_copied(asked.url, **given)), as_json=self._json)
            return
        if switching:
            self.say(switch_copy(asked.url, **given, deadline=asked.deadline))
            return
        with filling(asked, dry_run=False, quiet=self._json) as options:
            report = copy_beside(asked.url, **given, deadline=asked.deadline, **options)
        self.say(report)

    def say(self, report: Any) -> None:
        say(report, as_json=self._json, sound=report.complete)


@failing
def preview_command(
    url: Target,
    dense_field: DenseField = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="A folder with an encoder; without it one is learned, and not kept.")
    ] = None,
    queries: Annotated[Path | None, typer.Option("--queries", help="Dense vectors of real queries (.npy, …).")] = None,
    nnz: Weights = 32,
    flops: Multiplications = None,
    dimension: Dimensions = 8192,
    sample: Annotated[int, typer.Option("--sample", help="Dense vectors that are read.")] = 4000,
    engine: Annotated[
        Path | None, typer.Option("--engine", help="A file with what `latency --json` printed: adds milliseconds.")
    ] = None,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Add milliseconds: probe a temporary collection there, and remove it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What sparse vectors would cost and find at URL, from a sample of its dense vectors; nothing is written there.

    ```
    sparsevec preview "elasticsearch://localhost:9200/products?field=sparse" --dense-field emb --model model/
    ```
    """
    asking = None if queries is None else read_dense(queries)
    with watching(quiet=as_json) as told:
        seen = preview(
            url,
            dense_field=dense_field,
            model=model,
            queries=asking,
            budget=Budget(nnz=nnz, flops=flops),
            output_dim=dimension,
            sample=sample,
            latency=None if engine is None else LatencyModel.load(engine),
            scratch=scratch,
            on_progress=told,
            **secrets_of(url),
        )
    say(seen, as_json=as_json)
