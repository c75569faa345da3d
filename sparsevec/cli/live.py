"""The commands for a cluster that serves: retrofit, and what comes after it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from sparsevec.cli.bars import stages
from sparsevec.cli.credentials import connected
from sparsevec.cli.options import Json, Target
from sparsevec.cli.screen import failing, say
from sparsevec.encoder import Budget
from sparsevec.errors import InvalidInput
from sparsevec.files import read_dense
from sparsevec.live.catching_up import catch_up, follow
from sparsevec.live.retrofitting import retrofit
from sparsevec.live.undoing import undo_retrofit
from sparsevec.planning.latency import LatencyModel
from sparsevec.planning.outlook import preview
from sparsevec.progress import Progress

__all__ = ["preview_command", "retrofit_command"]

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


@failing
def retrofit_command(
    url: Target,
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            help="A folder with an encoder (`fit` wrote it); a new one gets an encoder, learned from a sample.",
        ),
    ],
    dense_field: DenseField = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take away what a retrofit added, and nothing else.")] = False,
    catching_up: Annotated[
        bool, typer.Option("--catch-up", help="Write what is new, missing or stale since, and only that.")
    ] = False,
    every: Annotated[float | None, typer.Option("--every", help="With --catch-up: again every N seconds.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing: say what would be written.")] = False,
    rate: Annotated[float | None, typer.Option("--rate", help="Documents a second that are written at most.")] = None,
    nnz: Weights = 32,
    flops: Multiplications = None,
    dimension: Dimensions = 8192,
    sample: Annotated[int, typer.Option("--sample", help="Dense vectors that a new encoder is learned from.")] = 20_000,
    no_check: Annotated[bool, typer.Option("--no-verify", help="Do not verify at the end.")] = False,
    as_json: Json = False,
) -> None:
    """Add sparse vectors to a collection that serves, made from the dense vectors it holds; catch up; or undo it.

    Nothing else of a document is touched, none is made, none comes back. After a kill, the same call goes on.

    ```
    sparsevec retrofit "elasticsearch://localhost:9200/products?field=sparse" --dense-field emb --model model/
    sparsevec retrofit "elasticsearch://localhost:9200/products?field=sparse" --model model/ --catch-up
    sparsevec retrofit "elasticsearch://localhost:9200/products?field=sparse" --model model/ --undo
    ```
    """
    if undo + catching_up + dry_run > 1:
        raise InvalidInput("--undo, --catch-up and --dry-run are three ways to run; name one")
    if every is not None and not catching_up:
        raise InvalidInput("--every belongs to --catch-up")
    with connected(url) as adapter:
        if undo:
            taken = undo_retrofit(adapter, model=model)
            say(taken, as_json=as_json, sound=taken.complete)
            return
        with nullcontext() if as_json else stages() as watch:

            def told(progress: Progress) -> None:
                if watch is not None:
                    watch(progress.stage, min(progress.fraction, 0.999))

            if not catching_up:
                report = retrofit(
                    adapter,
                    model=model,
                    dense_field=dense_field,
                    budget=Budget(nnz=nnz, flops=flops),
                    output_dim=dimension,
                    sample=sample,
                    rate=rate,
                    check=not no_check,
                    dry_run=dry_run,
                    on_progress=told,
                )
        if not catching_up:
            say(report, as_json=as_json, sound=report.complete, good=report.settled or dry_run)
            return
        if every is None:
            caught = catch_up(adapter, model=model, dense_field=dense_field, rate=rate)
            say(caught, as_json=as_json, sound=caught.complete)
            return
        for caught in follow(adapter, model=model, every=every, dense_field=dense_field, rate=rate):
            say(caught, as_json=as_json)


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
    as_json: Json = False,
) -> None:
    """What sparse vectors would cost and find at URL, from a sample of its dense vectors; nothing is written there.

    ```
    sparsevec preview "elasticsearch://localhost:9200/products?field=sparse" --dense-field emb --model model/
    ```
    """
    asking = None if queries is None else read_dense(queries)
    with connected(url) as adapter:
        seen = preview(
            adapter,
            dense_field=dense_field,
            model=model,
            queries=asking,
            budget=Budget(nnz=nnz, flops=flops),
            output_dim=dimension,
            sample=sample,
            latency=None if engine is None else LatencyModel.load(engine),
        )
    say(seen, as_json=as_json)
