"""What `ingest` keeps on disk, so that a run that was killed goes on where it stopped.

A journal is a file of JSON lines: a header, then one entry per batch, appended and fsynced after the backend has
acknowledged it. The entries cover the stream from position 0 without a gap, each with a hash of its documents. A line
that was torn by a crash is forgotten. Dead letters are a file of JSON lines too, one per refused document; they are on
disk before the entry that counts them, and letters that no entry counts are cut off when the run goes on.

A journal belongs to one stream and one collection. The contract gives a collection no identity, so `ingest` asks the
backend for documents that the journal calls written, and refuses a journal when none of them is there.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparsevec.errors import JournalMismatch, StorageFailed

__all__ = ["DeadLetter", "DeadLetters", "Empty", "Entry", "Journal", "read_dead_letters"]

Model = TypeVar("Model", bound=BaseModel)
Empty = Literal["error", "skip", "write"]

_BEGINNING = b'{"format":"sparsevec.journal/'


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["sparsevec.journal/1"] = "sparsevec.journal/1"
    empty: Empty


class Entry(BaseModel):
    """What became of the documents at positions [start, stop) of the stream; `hash` is that of the documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int = Field(ge=0)
    stop: int
    hash: str
    written: int = Field(ge=0)
    skipped: int = Field(ge=0)
    failed: int = Field(ge=0)
    retries: int = Field(ge=0)
    bytes: int = Field(ge=0)
    seconds: float = Field(ge=0)


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


class Journal:
    """The journal at `path`, held by this process until it is closed.

    Raises JournalMismatch, and changes nothing, when the file is not a journal, is held by another run, or was written
    with another policy for empty vectors. Raises StorageFailed.
    """

    def __init__(self, path: Path, *, empty: Empty) -> None:
        self.path = path
        self.settled: int | None = None  # documents settled by earlier runs; None when this is the first
        self._lines = _Lines(path)
        try:
            self.entries = self._read(_Header(empty=empty))
        except BaseException:
            self.close()
            raise

    def _read(self, header: _Header) -> list[Entry]:
        path, content = self._lines.path, self._lines.read()
        if not content.startswith(_BEGINNING[: len(content)]):
            raise JournalMismatch(f"{path} is not a journal of ours and was left as it is; name another file")
        *lines, torn = content.split(b"\n")
        for line in lines[:1]:
            if (found := _parsed(_Header, line, path, 1)) != header:
                raise JournalMismatch(f"{path} is of a run with {found}, this one has {header}; name another journal")
        entries = [_parsed(Entry, line, path, number) for number, line in enumerate(lines[1:], start=2)]
        for number, (entry, start) in enumerate(zip(entries, [0, *(e.stop for e in entries)], strict=False), start=2):
            if entry.start != start or entry.written + entry.skipped + entry.failed != entry.stop - start:
                raise JournalMismatch(f"{path} does not add up at line {number}; somebody edited it")
        self._lines.cut(len(content) - len(torn))
        if lines:
            self.settled = entries[-1].stop if entries else 0
        else:
            self._lines.append([header.model_dump_json()])
        return entries

    def append(self, entry: Entry) -> None:
        """On disk when this returns. Raises StorageFailed, and then the entry is not there."""
        self._lines.append([entry.model_dump_json()])

    def close(self) -> None:
        self._lines.close()


def _parsed(model: type[Model], line: bytes, path: Path, number: int) -> Model:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise JournalMismatch(f"{path} cannot be read at line {number} and was left as it is: {error}") from error


class DeadLetters:
    """The refused documents of one run, in the file at `path`, made when there is a first."""

    def __init__(self, path: Path, *, settled: int | None) -> None:
        """For a new run (`settled` None), or one that goes on after the first `settled` documents of its stream.

        Raises JournalMismatch, and changes nothing, when `path` holds something else.
        """
        self.path = path
        self._lines: _Lines | None = None
        if not path.exists() or (path.is_file() and not path.stat().st_size):
            return
        if settled is None:
            raise JournalMismatch(f"{path} is there already; move it away, or name another file for the dead letters")
        self._open().cut(_end_of(path, settled))

    def append(self, letters: Iterable[DeadLetter]) -> None:
        """On disk when this returns. Raises StorageFailed, and then none of them is there."""
        self._open().append([json.dumps(letter.model_dump()) for letter in letters])

    def _open(self) -> _Lines:
        self._lines = self._lines or _Lines(self.path)
        return self._lines

    def __iter__(self) -> Iterator[DeadLetter]:
        return read_dead_letters(self.path) if self.path.exists() else iter(())

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()


def read_dead_letters(path: str | os.PathLike[str]) -> Iterator[DeadLetter]:
    """The letters in the file at `path`, to be mended and ingested again. Raises JournalMismatch at the first other."""
    with _storage_errors(Path(path)), Path(path).open("rb") as file:
        for number, line in enumerate(file):
            yield _letter(line, Path(path), number + 1)


def _letter(line: bytes, path: Path, number: int) -> DeadLetter:
    try:
        return DeadLetter.model_validate(json.loads(line))  # pydantic's own parser refuses lone surrogates
    except ValueError as error:
        raise JournalMismatch(f"{path} holds no dead letter of ours at line {number}, nothing was changed") from error


def _end_of(path: Path, settled: int) -> int:
    """Where the letters of settled documents end; what follows belongs to a batch that nobody acknowledged."""
    end = 0
    with _storage_errors(path), path.open("rb") as file:
        for number, line in enumerate(file):
            if not line.endswith(b"\n") or _letter(line, path, number + 1).position >= settled:
                return end
            end += len(line)
    return end


class _Lines:
    """An append-only file of lines, held by one process at a time; a line is whole and on disk, or not there."""

    def __init__(self, path: Path) -> None:
        import fcntl  # POSIX only, like the promise that a lock ends with its process

        self.path = path
        with _storage_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(self._file).st_mode):
                    raise JournalMismatch(f"{path} is not a regular file; name another")
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _sync_folder(path)
            except BaseException as error:
                os.close(self._file)
                if isinstance(error, BlockingIOError):
                    raise JournalMismatch(f"another run holds {path}; wait for it, or name another file") from error
                raise

    def read(self) -> bytes:
        with _storage_errors(self.path):
            return self.path.read_bytes()

    def append(self, lines: Iterable[str]) -> None:
        end = os.fstat(self._file).st_size
        left = memoryview("".join(line + "\n" for line in lines).encode())
        try:
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, end)
            raise StorageFailed(
                f"could not append to {self.path}: {error}; what it held before is still there, make room and go on"
            ) from error

    def cut(self, end: int) -> None:
        with _storage_errors(self.path):
            os.ftruncate(self._file, end)

    def close(self) -> None:
        os.close(self._file)


def _sync_folder(path: Path) -> None:
    """A new file is found again after a power cut only when its folder was synced as well."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{path} cannot be read or written: {error}") from error
