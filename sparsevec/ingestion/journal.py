"""The journal: what was settled, so that a run that was killed goes on where it stopped.

A file of JSON lines: a header, then tagged entries (`kind`), today one per batch, appended and fsynced after the
backend has acknowledged it. The batches cover the stream from position 0 without a gap, each with a hash of its
documents. A line that was torn by a crash is forgotten.

A journal belongs to one stream and to one collection, which it knows again by the identity that `create` gave it.
Where others made the vector there is none; then `ingest` asks for documents that the journal calls written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparsevec.contract.adapter import Missing
from sparsevec.errors import JournalMismatch, printable
from sparsevec.ingestion.lines import Lines
from sparsevec.ingestion.report import Counts

__all__ = ["Empty", "Entry", "Header", "Journal"]

Model = TypeVar("Model", bound=BaseModel)
Empty = Literal["error", "skip", "write"]

_BEGINNING = b'{"format":"sparsevec.journal/'
_FORMAT = "sparsevec.journal/2"


class Header(BaseModel):
    """Whose journal it is: the policy of the run, its source of vectors where that has a name, and the collection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["sparsevec.journal/2"] = "sparsevec.journal/2"
    empty: Empty = "error"
    missing: Missing | None = None
    source: str | None = None
    """the identity of a source that can start anywhere (`stream.Restartable`)"""
    collection: str | None = None
    """the identity of the collection, None where others made its vector"""
    fingerprint: str | None = None
    """of the space that the collection was of when the run began; None: it named none yet"""


class Entry(Counts):
    """What became of the documents at positions [start, stop) of the stream."""

    kind: Literal["batch"] = "batch"
    start: int = Field(ge=0)
    stop: int
    hash: str
    """of ids, payloads and routing, and of the vectors where the source of them has no identity"""
    fingerprint: str | None = None
    """of the space that the vectors live in"""


class Journal:
    """The journal at `path`, held by this process until it is closed. `bind` it before the first `append`.

    Raises JournalMismatch, and changes nothing, when the file is not a whole journal, or is held by another run.
    Raises StorageFailed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._shown = path, printable(path)
        self.header: Header | None = None  # None: this run is the first
        self.entries: list[Entry] = []
        self._lines = Lines(path)
        try:
            self._whole = self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> int:
        """How many bytes of the file are whole lines."""
        content = self._lines.read()
        if not content.startswith(_BEGINNING[: len(content)]):
            raise JournalMismatch(f"{self._shown} is not a journal of ours and was left as it is; name another file")
        *lines, torn = content.split(b"\n")
        for number, line in enumerate(lines, start=1):
            if number == 1:
                self.header = self._parsed(Header, line, number)
            else:
                self.entries.append(self._parsed(Entry, line, number))
        self._add_up()
        return len(content) - len(torn)

    def _parsed(self, model: type[Model], line: bytes, number: int) -> Model:
        try:
            return model.model_validate_json(line)
        except ValidationError as error:
            if reason := _other_version(line):
                raise JournalMismatch(
                    f"{self._shown} {reason}; finish that run with it, or name another file"
                ) from error
            reason = printable(error, 300)
            raise JournalMismatch(
                f"{self._shown} cannot be read at line {number} and was left as it is: {reason}; name another file"
            ) from error

    def _add_up(self) -> None:
        start = 0
        for number, entry in enumerate(self.entries, start=2):
            if entry.start != start or entry.written + entry.skipped + entry.failed != entry.stop - start:
                raise JournalMismatch(
                    f"{self._shown} does not add up at line {number}; somebody edited it, name another file"
                )
            start = entry.stop

    @property
    def settled(self) -> int | None:
        """Documents that earlier runs settled; None when this is the first run."""
        if self.header is None:
            return None
        return self.entries[-1].stop if self.entries else 0

    def bind(self, header: Header) -> None:
        """Write the header of a new run, or make sure that it is this run's. A run that settled nothing binds nobody.

        Raises JournalMismatch when another policy, source or collection stands there.
        """
        if self.header is not None and self.entries:
            self._expect(header, self.header)
            self._lines.cut(self._whole)
            return
        self._lines.cut(0)
        self._lines.append([header.model_dump_json()])

    def _expect(self, ours: Header, found: Header) -> None:
        if (policy := _policy(ours)) != (other := _policy(found)):
            raise JournalMismatch(
                f"{self._shown} is of a run with {other}, this one has {policy}; name another journal"
            )
        if ours.collection != found.collection:
            raise JournalMismatch(
                f"{self._shown} is of the collection with the identity {found.collection}, this one has "
                f"{ours.collection}: it was dropped and made anew since, or is another; name another journal"
            )
        if None not in (ours.fingerprint, found.fingerprint) and ours.fingerprint != found.fingerprint:
            raise JournalMismatch(
                f"{self._shown} began when the collection held vectors of the space {found.fingerprint}, now it is of "
                f"{ours.fingerprint}; name another journal"
            )

    def append(self, entry: Entry) -> None:
        """On disk when this returns. Raises StorageFailed, and then the entry is not there."""
        self._lines.append([entry.model_dump_json()])

    def close(self) -> None:
        self._lines.close()


def _policy(header: Header) -> str:
    shown = header.model_dump(include={"empty", "missing", "source"})
    return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def _other_version(line: bytes) -> str | None:
    """Why a line that is no line of ours may be one of another version of this package."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if (format_ := content.get("format", _FORMAT)) != _FORMAT:
        return f"is a journal of the format {format_!r:.80}, this version goes on with {_FORMAT!r} only"
    if "format" not in content and (kind := content.get("kind", "batch")) != "batch":
        return f"has an entry of the kind {kind!r:.80}, which this version does not know"
    return None
