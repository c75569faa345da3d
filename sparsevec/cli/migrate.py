"""`sparsevec migrate`: another encoder later."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsevec.cli.bars import watching
from sparsevec.cli.credentials import secrets_of
from sparsevec.cli.live import (
    Asking,
    Config,
    DenseField,
    Drawn,
    DryRun,
    Every,
    Multiplications,
    NewDimension,
    NewWeights,
    NoVerify,
    Rate,
    Refine,
    catching,
    filling,
    read_settings,
)
from sparsevec.cli.options import Json
from sparsevec.cli.screen import failing, say
from sparsevec.errors import InvalidInput
from sparsevec.live.migrating import catch_up_both, drop_old, migrate, switch, switch_back

__all__ = ["migrate_command"]


@failing
def migrate_command(
    url: Annotated[str | None, typer.Argument(metavar="URL", help="The collection with the first field.")] = None,
    model: Annotated[Path | None, typer.Option("--model", help="The folder of the first field's encoder.")] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="The folder of the second encoder; a new one gets one, learned from a sample."),
    ] = None,
    into: Annotated[
        str | None, typer.Option("--into", help="The URL of the second field (the first's name and the next number).")
    ] = None,
    config: Config = None,
    dense_field: DenseField = None,
    switching: Annotated[
        bool, typer.Option("--switch", help="Let every Serving of --model ask the second field from now on.")
    ] = False,
    back: Annotated[bool, typer.Option("--back", help="Let them ask the first field again.")] = False,
    dropping: Annotated[
        bool, typer.Option("--drop-old", help="After a switch: take the first field out, and nothing else.")
    ] = False,
    catching_up: Annotated[
        bool, typer.Option("--catch-up", help="Write what is new, missing or stale in either field, and only that.")
    ] = False,
    every: Every = None,
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
    """Another encoder for a collection that has sparse vectors: fill a second field, switch the reads, drop the first.

    Until the switch nothing that serves changes. `sv.Serving(URL, model=MODEL)` is a retriever that follows it.

    ```
    sparsevec migrate "elasticsearch://localhost:9200/products?field=sparse" --model model/ --to model-2/
    sparsevec migrate "elasticsearch://localhost:9200/products?field=sparse" --model model/ --to model-2/ --switch
    sparsevec migrate "elasticsearch://localhost:9200/products?field=sparse" --model model/ --to model-2/ --drop-old
    ```
    """
    if switching + back + dropping + catching_up > 1 or (dry_run and switching + back + dropping):
        raise InvalidInput("expected one of --switch, --back, --drop-old, --catch-up at a time, --dry-run without them")
    settings = read_settings(
        config,
        catching_up=catching_up,
        refine=refine,
        no_check=no_check,
        url=url,
        model=model,
        to=to,
        into=into,
        dense_field=dense_field,
        nnz=nnz,
        flops=flops,
        dimension=dimension,
        queries=queries,
        sample=sample,
        rate=rate,
        every=every,
    )
    if settings.to is None:
        raise InvalidInput("expected --to, the folder of the second encoder, or `to` in the file")
    secrets = secrets_of(settings.url)
    both: dict[str, Any] = {"model": settings.model, "to": settings.to, "into": settings.into}
    if switching:
        say(switch(settings.url, **both, check=settings.verify, deadline=settings.deadline, **secrets), as_json=as_json)
    elif back:
        say(switch_back(settings.url, **both, **secrets), as_json=as_json)
    elif dropping:
        with watching(quiet=as_json) as told:
            dropped = drop_old(settings.url, **both, deadline=settings.deadline, on_progress=told, **secrets)
        say(dropped, as_json=as_json, sound=dropped.complete)
    elif catching_up:
        written: dict[str, Any] = {"rate": settings.rate, "dry_run": dry_run, "deadline": settings.deadline}
        catching(
            partial(catch_up_both, settings.url, **both, credentials=secrets, **written), settings, as_json=as_json
        )
    else:
        with filling(settings, dry_run=dry_run, quiet=as_json) as options:
            filled = migrate(settings.url, **both, **options, deadline=settings.deadline, credentials=secrets)
        say(filled, as_json=as_json, sound=filled.complete, good=dry_run or filled.settled)
