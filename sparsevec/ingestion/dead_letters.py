"""Dead letters: the documents that were refused for good, each with its reason, to be mended and ingested again.

A file of JSON lines. Letters are on disk before the journal's entry that counts them, and letters that no entry counts
are cut off when the run goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sparsevec.errors import JournalMismatch, printable
from sparsevec.ingestion.lines import Lines
from sparsevec.ingestion.stream import Document
from sparsevec.storage import as_path, storage_errors
from sparsevec.vectors import SparseVector

__all__ = ["DeadLetter", "DeadLetters", "read_dead_letters"]


class DeadLetter(BaseModel):
    """A document that was refused. `id` and `payload` are their `repr` where JSON cannot carry them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    position: int
    id: Any
    reason: str
    dimension: int
    indices: list[int]
    weights: list[float]
    payload: Any = None
    routing: str | None = None

    @classmethod
    def of(cls, document: Document, vector: SparseVector, dimension: int, reason: str) -> DeadLetter:
        return cls(
            position=document.position,
            id=_jsonable(document.id),
            reason=reason,
            dimension=dimension,
            indices=vector.indices.tolist(),
            weights=vector.values.tolist(),
            payload=_jsonable(document.payload),
            routing=document.routing if isinstance(document.routing, str) else None,
        )


def _jsonable(value: object) -> object:
    """`value` as it comes back from JSON, or its `repr`, or its type where even that is too much."""
    for shown in (lambda: json.loads(json.dumps(value, allow_nan=False)), lambda: repr(value)):
        with suppress(TypeError, ValueError, RecursionError):  # the last two also of `repr`, of what is deep or long
            return shown()
    return f"{type(value).__name__} that cannot be shown"


class DeadLetters:
    """The refused documents of one run, in the file at `path`, made when there is a first."""

    def __init__(self, path: Path, *, settled: int | None) -> None:
        """For a new run (`settled` None), or one that goes on after the first `settled` documents of its stream.

        Raises JournalMismatch, and changes nothing, when `path` holds something else.
        """
        self.path = path
        self._lines: Lines | None = None
        with storage_errors(path, "looked for"):
            if not path.exists() or (path.is_file() and not path.stat().st_size):
                return
        if settled is None:
            raise JournalMismatch(
                f"{printable(path)} is there already; move it away, or name another file for the dead letters"
            )
        self._open()
        try:
            self._end = _end_of(path, settled)
        except BaseException:
            self.close()
            raise

    def cut(self) -> None:
        """Forget the letters that no entry counts."""
        if self._lines is not None:
            self._lines.cut(self._end)

    def append(self, letters: Iterable[DeadLetter]) -> None:
        """On disk when this returns. Raises StorageFailed, and then none of them is there."""
        self._open().append(json.dumps(letter.model_dump()) for letter in letters)

    def _open(self) -> Lines:
        self._lines = self._lines or Lines(self.path)
        return self._lines

    def __iter__(self) -> Iterator[DeadLetter]:
        return read_dead_letters(self.path) if self.path.exists() else iter(())

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()


def read_dead_letters(path: str | os.PathLike[str]) -> Iterator[DeadLetter]:
    """The letters in the file at `path`, to be mended and ingested again. Raises JournalMismatch at the first other."""
    place = as_path(path)
    with storage_errors(place, "read"), place.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield _letter(line, place, number)


def _letter(line: bytes, path: Path, number: int) -> DeadLetter:
    try:
        return DeadLetter.model_validate(json.loads(line))  # pydantic's own parser refuses lone surrogates
    except (ValueError, RecursionError) as error:
        raise JournalMismatch(
            f"{printable(path)} holds no dead letter of ours at line {number}, nothing was changed"
        ) from error


def _end_of(path: Path, settled: int) -> int:
    """Where the letters of settled documents end; what follows belongs to a batch that nobody acknowledged."""
    end = 0
    with storage_errors(path, "read"), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") or _letter(line, path, number).position >= settled:
                return end
            end += len(line)
    return end
