"""The folder of a retrofit: the encoder, what was done to which collection, a lock, and a status for others to read.

config.json model.safetensors README.md    the encoder, as `SparseEncoder.save` writes it
retrofit.json                              a `Note` for each collection: what was added to it
status.json                                how far the run is, or what `stopped` it; any process may read it at any time
retrofit.lock copy.lock                    held while a run, or all of a copy or a switch, lasts; ends with its process
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sparsevec.contract.adapter import Info
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidInput, JournalMismatch, StorageFailed, printable
from sparsevec.storage import as_path, storage_errors, whole_file

__all__ = ["Folder", "Note"]

_NOTES, _STATUS, _CONFIG = "retrofit.json", "status.json", "config.json"
_EVERY = 2.0  # seconds between two statuses


class Note(BaseModel):
    """What a retrofit did to one collection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: str
    """the collection and our field in it, as messages name them"""
    dense: str
    made: bool = False
    """`dense` is the name of a function that made the rows, which nobody can find by it"""
    fingerprint: str
    """of the encoder"""
    added: Literal["making", "made", "was there"]
    """our field: being made when the process ended, made, or there before (then undo empties it and leaves it)"""
    identity: str | None = None
    """the collection's own name for our field"""
    checkpoint: str | None = None
    """what the backend said before the last whole look: what changed since is all that a catch-up reads"""
    complete: bool = False
    """whether a retrofit came to its end: what others write since then is a catch-up's"""
    serves: bool = False
    """reads were switched to it, and the field that served before is there still"""


class _Notes(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["sparsevec.retrofit/1"] = "sparsevec.retrofit/1"
    notes: list[Note] = []


class Folder:
    """Use inside `with folder.locked()`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path, "model")
        self._told = 0.0

    @contextmanager
    def locked(self, *, make: bool = False, whose: Literal["retrofit", "copy"] = "retrofit") -> Iterator[Folder]:
        """`make` it where it is not there. Raises StorageFailed while another process, or another call of this one,
        does the same kind of work here, InvalidInput where it is no folder."""
        with storage_errors(self.path, "looked for"):
            there, folder = self.path.exists(), self.path.is_dir()
        if there and not folder:
            raise InvalidInput(f"model= must be a folder, found the file {printable(self.path)}")
        if not (make or there):
            raise InvalidInput(f"there is no folder {printable(self.path)}; name the one of the retrofit with model=")
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / f"{whose}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                kind = "retrofit or catch-up" if whose == "retrofit" else "copy or switch"
                raise StorageFailed(
                    f"another {kind} works with {printable(self.path)} at this moment; wait for its end "
                    f"({_STATUS} there says how far it is), or stop it"
                ) from None
            yield self
        finally:
            os.close(handle)

    # ---- the encoder

    def has_encoder(self) -> bool:
        return (self.path / _CONFIG).exists()

    def load(self) -> SparseEncoder:
        """Raises ModelBroken, and InvalidInput where there is none."""
        if not self.has_encoder():
            raise InvalidInput(
                f"{printable(self.path)} holds no encoder; retrofit fits one there, or name a folder that fit wrote"
            )
        encoder = SparseEncoder.load(self.path)
        if encoder.config.adopted is not None:
            raise InvalidInput(
                f"the encoder in {printable(self.path)} takes queries of a model that was adopted, and documents ask "
                "for each other here; name the folder of the encoder that adopted it: documents are the same in both"
            )
        return encoder

    def save(self, encoder: SparseEncoder) -> None:
        """Beside what the folder holds already; whole or not there, for config.json comes last."""
        new = self.path / ".encoder.new"
        with storage_errors(self.path):
            shutil.rmtree(new, ignore_errors=True)
            encoder.save(new)
            for file in sorted(new.iterdir(), key=lambda file: file.name == _CONFIG):
                whole_file(self.path / file.name, file.read_bytes())
            shutil.rmtree(new)

    # ---- notes

    def note_of(self, place: str, info: Info) -> Note | None:
        """By the collection's own name for our field, which also knows it under another url, or else by its place."""
        notes = self._read().notes
        named = [note for note in notes if note.identity is not None and note.identity == info.identity]
        return next(iter(named), None) or next((note for note in notes if note.place == place), None)

    def keep(self, note: Note) -> Note:
        """On disk when this returns, in place of what was known of the same collection. Raises StorageFailed."""
        others = [one for one in self._read().notes if not _same(one, note)]
        self._write(_Notes(notes=[*others, note]))
        return note

    def forget(self, note: Note) -> None:
        """Know nothing of that collection any more. Raises StorageFailed."""
        self._write(_Notes(notes=[one for one in self._read().notes if not _same(one, note)]))

    def _read(self) -> _Notes:
        try:
            return _Notes.model_validate_json((self.path / _NOTES).read_bytes())
        except FileNotFoundError:
            return _Notes()
        except (ValidationError, ValueError) as error:
            raise JournalMismatch(
                f"{printable(self.path / _NOTES)} is not what a retrofit writes ({printable(error, 200)}); without it "
                f"nothing tells what was added to which collection: restore it, or name another folder"
            ) from None

    def _write(self, notes: _Notes) -> None:
        whole_file(self.path / _NOTES, notes.model_dump_json(indent=2).encode() + b"\n", private=True)

    # ---- the status

    def tell(self, figures: Mapping[str, Any], *, at_once: bool = False) -> None:
        """Write `figures` to status.json, every two seconds at most unless `at_once`."""
        now = time.monotonic()
        if not at_once and now - self._told < _EVERY:
            return
        self._told = now
        whole_file(self.path / _STATUS, _Status(pid=os.getpid(), at=time.time(), **figures).model_dump_json().encode())


class _Status(BaseModel):
    model_config = ConfigDict(extra="allow")

    pid: int
    at: float
    """seconds since 1970"""


def _same(one: Note, other: Note) -> bool:
    return one.place == other.place or (one.identity is not None and one.identity == other.identity)
