"""What begins with words: a question to the demo, and the command embed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import BaseModel

from sparsevec.cli.bars import progress, stages
from sparsevec.cli.options import EMBEDDER, Embedder, Json, TextField, check_file
from sparsevec.cli.screen import answers, failing, say
from sparsevec.demo.ask import ask
from sparsevec.demo.report import Found, Search
from sparsevec.demo.run import require
from sparsevec.errors import InvalidInput, printable
from sparsevec.files import read_objects
from sparsevec.integrations.embedders import embed as embedded
from sparsevec.integrations.embedders import named
from sparsevec.storage import whole_file

__all__ = ["JSON_LINES", "answered", "embed", "read_texts"]

JSON_LINES = (".jsonl", ".ndjson")

_EXCERPT = 110


def answered(question: str, folder: Path, *, embedder: str, engine: str, as_json: bool) -> None:
    """The answer of the demo to a question in words."""
    require(engine)
    with stages() as watch:
        found = ask([question], folder, embedder=embedder, engine=engine, watch=watch)
    hits = [
        _Answer(id=str(hit.id), score=hit.score, text=str((hit.payload or {}).get("text", "")))
        for hit in found.answers[0]
    ]
    if not as_json:
        answers([Search(question, [Found(hit.id, hit.score, _excerpt(hit.text)) for hit in hits])])
    say(_Answers(question=question, hits=hits, seconds=found.seconds), as_json=as_json)


class _Answer(BaseModel):
    id: str
    score: float
    text: str


class _Answers(BaseModel):
    question: str
    hits: list[_Answer]
    seconds: dict[str, float]

    def __str__(self) -> str:
        return f"{sum(self.seconds.values()):.1f} s in all, {self.seconds['answer']:.2f} s of them for the answer"


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else text[:_EXCERPT].rsplit(" ", 1)[0] + " …"


@failing
def embed(
    texts: Annotated[
        Path, typer.Argument(metavar="TEXTS", help="One text a line; or .jsonl, objects with the field --field.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .npy file to write.", show_default=False)],
    embedder: Embedder = EMBEDDER,
    field: TextField = "text",
    as_json: Json = False,
) -> None:
    """Texts to dense vectors, (n, d) float32: what `fit`, `encode` and `search` take.

    ```
    sparsevec embed documents.jsonl -o documents.npy
    sparsevec embed queries.txt -o queries.npy --embedder sentence-transformers:all-MiniLM-L6-v2
    ```
    """
    if output.suffix != ".npy":
        raise InvalidInput(f"expected a .npy file to write, found {output.name}")
    check_file(output)
    lines = list(read_texts(texts, field))  # once, and before anything is embedded: it may be a pipe
    with progress("embedding") as done:
        rows = embedded(lines, named(embedder), on_batch=lambda count: done(count / len(lines)))
    packed = io.BytesIO()
    np.save(packed, rows)
    whole_file(output, packed.getvalue())
    say(_Embedded(vectors=output, n=len(rows), columns=rows.shape[1]), as_json=as_json)


class _Embedded(BaseModel):
    vectors: Path
    n: int
    columns: int

    def __str__(self) -> str:
        return f"{self.n:,} texts as vectors of {self.columns} columns, saved in {self.vectors}"


def read_texts(path: Path, field: str) -> Iterator[str]:
    """One text a line; of .jsonl the field `field` of each object. Raises InvalidInput, naming the line."""
    if path.suffix.lower() in JSON_LINES:
        yield from (_field(line, field, number) for number, line in enumerate(read_objects(path), start=1))
        return
    try:
        with path.open(encoding="utf-8-sig") as lines:
            yield from (line.rstrip("\n") for line in lines)
    except OSError as error:
        raise InvalidInput(f"{printable(path)} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"expected text in UTF-8 in {printable(path)}: {error}") from error


def _field(line: dict[str, Any], field: str, number: int) -> str:
    found = line.get(field)
    if not isinstance(found, str):
        raise InvalidInput(f"line {number} has no text at {field!r}: found {found!r:.60}, fields {sorted(line)[:8]}")
    return found
