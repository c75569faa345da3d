"""The commands. Each reads files, calls what a Python user would call, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

import sparsevec
from sparsevec.cli.bars import stages
from sparsevec.cli.collection import index, search, verify
from sparsevec.cli.frontier import frontier
from sparsevec.cli.learn import adopt, encode, evaluate_model, fit
from sparsevec.cli.live import preview_command, retrofit_command
from sparsevec.cli.manage import check, delete, drop, info
from sparsevec.cli.migrate import migrate_command
from sparsevec.cli.options import EMBEDDER, Embedder, Json, belongs, given
from sparsevec.cli.plan import cost, latency
from sparsevec.cli.screen import answers, failing, figures, out, say, shown
from sparsevec.cli.texts import answered, embed
from sparsevec.demo.corpus import from_folder, shipped
from sparsevec.demo.run import require, run
from sparsevec.errors import InvalidInput
from sparsevec.exact.verify import VerifyReport
from sparsevec.ingestion.ingest import IngestReport
from sparsevec.measure.recall import Evaluation

__all__ = ["app"]

app = typer.Typer(
    name="sparsevec",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,  # they may hold credentials
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sparsevec {sparsevec.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sparse vectors for the search cluster you already run: learned to a budget, and proved exact.

    Start with `sparsevec demo`. Then, with your own vectors:

        sparsevec fit documents.npy --queries sample.npy --nnz 32 --refine -o model/
        sparsevec check qdrant://localhost:6333/products
        sparsevec index qdrant://localhost:6333/products model/documents/ --create
        sparsevec encode model/ queries.npy --query -o queries/
        sparsevec verify qdrant://localhost:6333/products model/documents/ queries/

    Credentials come from the environment, _CA_CERTS being a file:

        SPARSEVEC_ELASTICSEARCH_API_KEY, or _USER and _PASSWORD; _CA_CERTS
        SPARSEVEC_OPENSEARCH_USER and _PASSWORD; _CA_CERTS
        SPARSEVEC_QDRANT_API_KEY; _CA_CERTS

    Without the engine's name, SPARSEVEC_API_KEY and so on, they go to whichever engine takes them.

    Exit code 1: something was lost, is not exact, or is in the way. 2: the command was used wrongly.
    """


@failing
def demo(
    ctx: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="With your own documents.npy (or .parquet, .csv, …) and, if you have them, queries.npy, "
            "documents.jsonl, queries.jsonl. Without a folder: packages of Debian."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the page, the model and the engine go.")] = Path(
        "sparsevec-demo"
    ),
    dimension: Annotated[int, typer.Option("--dimension", "-d", help="Dimensions of the sparse vectors.")] = 4096,
    nnz: Annotated[int, typer.Option("--nnz", help="Weights of a document.")] = 32,
    engine: Annotated[
        str, typer.Option("--engine", help="Of this machine: qdrant+edge, local or reference.")
    ] = "qdrant+edge",
    ask: Annotated[
        str | None,
        typer.Option("--ask", help="Answer a question of yours from these packages instead; needs sparsevec[text]."),
    ] = None,
    embedder: Embedder = EMBEDDER,
    as_json: Json = False,
) -> None:
    """Learn an encoder, write to an embedded engine, search, verify, and make a page of it. Needs no server.

    Without a folder: 8,000 package descriptions of Debian and their MiniLM vectors, in about three minutes.

    ```
    sparsevec demo
    sparsevec demo my-vectors/ -o report/
    sparsevec demo --ask "a tool that renames photos by date"
    ```
    """
    belongs(ctx, ("embedder",), "--ask", there=ask is not None)
    if ask is not None:
        if said := given(ctx, ("dimension", "nnz")):
            raise InvalidInput(f"{said[0]} is of a demo without --ask, which has sizes of its own; leave one out")
        if folder is not None:
            raise InvalidInput("--ask searches the packages of Debian; with a folder of your own use search --text")
        answered(ask, output / "ask", embedder=embedder, engine=engine, as_json=as_json)
        return
    require(engine)
    with stages() as watch:
        watch.note("Learning sparse vectors from " + ("8,000 packages of Debian" if folder is None else str(folder)))
        outcome = run(
            lambda: shipped() if folder is None else from_folder(folder),
            output,
            dimension=dimension,
            nnz=nnz,
            engine=engine,
            watch=watch,
        )
    story = outcome.story
    if not as_json:
        out.print()
        answers(story.searches[:5])
        out.print()
        figures(story.rows)
        out.print(f"\n{shown(story.asked)}\n{shown(outcome.written)}", highlight=False, markup=False, soft_wrap=True)
    told = _Demo(
        page=outcome.page,
        headline=story.title,
        good=story.good,
        asked=story.asked,
        seconds=dict(story.seconds),
        ingest=outcome.written,
        verify=outcome.verdict,
        evaluations=dict(story.rows),
    )
    say(told, as_json=as_json, sound=outcome.verdict.exact and not outcome.written.failed, good=story.good)


class _Demo(BaseModel):
    page: Path
    headline: str
    good: bool
    """False where the headline says what is poor"""
    asked: str
    seconds: dict[str, float]
    ingest: IngestReport
    verify: VerifyReport
    evaluations: dict[str, Evaluation]

    def __str__(self) -> str:
        return f"{self.headline}\n{self.verify}\n{sum(self.seconds.values()):.1f} s in all. The page: {self.page}"


_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "embed": embed,
    "fit": fit,
    "adopt": adopt,
    "encode": encode,
    "eval": evaluate_model,
    "check": check,
    "preview": preview_command,
    "retrofit": retrofit_command,
    "migrate": migrate_command,
    "index": index,
    "search": search,
    "verify": verify,
    "cost": cost,
    "latency": latency,
    "frontier": frontier,
    "info": info,
    "delete": delete,
    "drop": drop,
}
for _name, _command in _COMMANDS.items():
    app.command(name=_name)(_command)
