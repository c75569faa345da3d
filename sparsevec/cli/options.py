"""What several commands take, and options that are JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsevec.answers.retriever import Retriever
from sparsevec.answers.scoring import USUAL
from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id, check_ids, first_repeated
from sparsevec.contract.filters import Where
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidInput

__all__ = [
    "EMBEDDER",
    "Candidates",
    "Codes",
    "Embedder",
    "Filter",
    "Ids",
    "Json",
    "Payloads",
    "Rerank",
    "Reranking",
    "RowsField",
    "Target",
    "TextField",
    "TopK",
    "Yes",
    "belongs",
    "check_file",
    "check_output",
    "distinct",
    "given",
    "read_vector",
    "read_where",
    "retriever",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
TopK = Annotated[int, typer.Option("-k", help="How many hits of each query.")]
Ids = Annotated[
    Path | None,
    typer.Option("--ids", help='One id a line, as JSON: 42, "a", or an object with an id. Without: 0, 1, 2, …'),
]
Payloads = Annotated[
    Path | None, typer.Option("--payloads", help="One JSON object a line, the payload of each document.")
]
Codes = Annotated[
    Path | None,
    typer.Option("--documents", help="The documents' sparse vectors, such as MODEL/documents after --refine."),
]
Filter = Annotated[
    str | None, typer.Option("--where", help='A filter on payloads: \'{"brand": "acme", "price": {"lt": 9}}\'.')
]
EMBEDDER = "wordllama"
Embedder = Annotated[
    str,
    typer.Option(
        "--embedder",
        help="wordllama (offline), sentence-transformers:MODEL, or openai:MODEL (OPENAI_BASE_URL, OPENAI_API_KEY).",
    ),
]


class Rerank(StrEnum):
    """How the candidates that a sparse query finds are put in their final order."""

    usual = "usual"
    second_look = "second-look"
    residual = "residual"
    dense = "dense"
    none = "none"


Reranking = Annotated[
    Rerank,
    typer.Option(
        "--rerank",
        help="With --model: by a second look at the weights, residual codes, the dense rows that the collection holds, "
        "or none. Usual: the second look, unless the model's card says that it finds less.",
    ),
]
RowsField = Annotated[
    str | None,
    typer.Option("--dense-field", help="With --rerank dense: the field or vector that holds the dense rows."),
]
Candidates = Annotated[
    int | None,
    typer.Option(
        "--candidates",
        help="Documents to re-rank for each query; 100, or 300 where it pays, and half as many again where a filter "
        "needs it.",
    ),
]
TextField = Annotated[str, typer.Option("--field", help="Of each line of .jsonl: where its text is.")]
Target = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        help="Where the documents are: qdrant://HOST:PORT/COLLECTION, elasticsearch://HOST:PORT/INDEX?field=…, "
        "qdrant+edge:PATH, local:PATH, reference:PATH.",
    ),
]


def retriever(
    encoder: SparseEncoder, adapter: Adapter, rerank: Rerank, dense_field: str | None, candidates: int | None
) -> Retriever:
    """Raises InvalidInput when the encoder cannot do what `rerank` asks for."""
    if rerank == Rerank.dense and dense_field is None:
        raise InvalidInput("--rerank dense needs --dense-field, the field or vector that holds the dense rows")
    ways = {Rerank.usual: USUAL, Rerank.second_look: "second look", Rerank.none: None}
    way: Any = ways.get(rerank, rerank.value)
    return Retriever(encoder, adapter, rerank=way, dense_field=dense_field, candidates=candidates)


def read_where(text: str | None) -> Where | None:
    """A filter as JSON, such as {"brand": "acme", "price": {"lt": 100}}."""
    return None if text is None else _object(text, "--where")


def read_vector(text: str) -> dict[int, float]:
    """A sparse vector as JSON, such as {"3": 0.5, "17": 1.2}."""
    found = _object(text, "--vector")
    if wrong := [index for index in found if not re.fullmatch("-?(0|[1-9][0-9]*)", index)]:
        raise InvalidInput(f"--vector must map whole numbers, such as 3, to weights: found {wrong[0]!r:.80}")
    return {int(index): weight for index, weight in found.items()}


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=partial(_once, option))
    except InvalidInput:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{option} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{option} must be a JSON object, found {text:.80}")
    return found


def _once(option: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each name of which is there once: json would keep the last and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = first_repeated(name for name, _ in pairs)
        raise InvalidInput(f"{option} says {twice!r:.80} more than once; say it once")
    return found


def belongs(ctx: typer.Context, names: tuple[str, ...], other: str, *, there: bool) -> None:
    """Raises InvalidInput for one of these options where what it is of is not there: nobody would read it."""
    if not there and (said := given(ctx, names)):
        raise InvalidInput(f"{said[0]} belongs to {other}, without which it changes nothing; give both or neither")


def given(ctx: typer.Context, names: tuple[str, ...]) -> list[str]:
    """Those of these options that stand on the command line."""
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return [
        f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name == "COMMANDLINE"
    ]


def check_output(folder: Path, ours: str) -> None:
    """Before anything is computed: raises InvalidInput unless `folder` is new, empty, or has the file `ours` in it."""
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise InvalidInput(f"expected a folder to write to, found the file {above}; name another with -o")
    if above == folder and any(folder.iterdir()) and not (folder / ours).is_file():
        raise InvalidInput(f"{folder} holds something else than this command writes; name an empty or a new folder")


def check_file(path: Path | None) -> None:
    """Before anything is made: raises InvalidInput unless a file can be at `path`."""
    if path is not None and path.is_dir():
        raise InvalidInput(f"expected a file to write to, found the folder {path}")
    if path is not None and not path.parent.is_dir():
        raise InvalidInput(f"the folder of {path} does not exist; make it first")


def distinct(ids: Sequence[Id]) -> list[Id]:
    """Each id once, in the order in which they come first. Raises InvalidInput for one that is none."""
    return list(dict.fromkeys(check_ids(ids)))
