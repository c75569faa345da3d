"""`undo_retrofit`: take away what a retrofit added, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id
from sparsevec.errors import CollectionError, InvalidInput, printable
from sparsevec.ingestion.ingest import ingest
from sparsevec.ingestion.patience import check_deadline
from sparsevec.ingestion.removal import RemovalReport, remove
from sparsevec.ingestion.report import IngestFailure
from sparsevec.live.folder import Folder, Note
from sparsevec.live.looks import patient
from sparsevec.live.opening import opened, place_of
from sparsevec.live.seen import Seen
from sparsevec.live.telling import Telling
from sparsevec.progress import Listener, check_listener
from sparsevec.vectors import SparseVectors

__all__ = ["UndoReport", "undo_retrofit"]


class UndoReport(BaseModel):
    """What an undo took away, and what it could not."""

    model_config = ConfigDict(frozen=True)

    place: str
    taken: int
    """vectors of ours that were there, and are no more"""
    left: int
    """vectors of ours that are there still"""
    stays: tuple[str, ...] = ()
    """what cannot be taken away, and why"""
    failures: tuple[IngestFailure, ...] = ()
    """the first few documents that the backend did not let our vector be taken out of"""

    @property
    def complete(self) -> bool:
        """No vector of ours is left."""
        return self.left == 0

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.taken:,} vectors taken out of their documents, {self.left:,} are left"]
        if not self.complete:
            lines.append("  the same call takes these out, when what keeps them is mended")
        lines += [f"  {one.id!r}: {printable(one.reason)}" for one in self.failures]
        return "\n".join([*lines, *(f"  stays: {what}" for what in self.stays)])


def undo_retrofit(
    where: str | Adapter,
    *,
    model: str | os.PathLike[str],
    deadline: float = 300.0,
    on_progress: Listener | None = None,
    **credentials: Any,
) -> UndoReport:
    """Take the vectors that `retrofit` wrote out of the documents, and the field or vector out of the collection.

    Everything else of a document stays as it is, and a document that changes at this moment keeps the change. One that
    the backend does not let our vector be taken out of is named, and keeps no other from it; then the field stays, and
    the same call goes on. `model` is the folder of the retrofit, which knows what was added; the encoder in it stays.
    May be called again after a kill. Raises InvalidInput when the folder knows of no retrofit there, CollectionError
    when the field is another one now, WriteFailed at the deadline, and what `Adapter.drop` raises.
    """
    check_deadline(deadline)
    check_listener(on_progress)
    with (
        opened(where, credentials) as adapter,
        Folder(model).locked() as folder,
        Telling(folder, place_of(adapter), on_progress) as telling,
    ):
        info, place = adapter.info(), place_of(adapter)
        note = folder.note_of(place, info)
        if note is None:
            raise InvalidInput(
                f"{folder.path} knows of no retrofit of {place}; name the folder that was given to it as model="
            )
        if note.serves:
            raise InvalidInput(f"reads were switched to {place}; switch them back first, or drop the old field instead")
        if info.exists and note.added != "making" and info.identity != note.identity:
            raise CollectionError(f"{place} was dropped and made again since the retrofit, so it is not undone")
        telling.stage = "undo"
        report = _Undo(adapter, note, telling, deadline).report()
        if report.complete:
            folder.forget(note)
            Seen(folder.path, place).forget()
        telling.end("undone" if report.complete else "undone in part", report)
    return report


class _Undo:
    """Of one retrofit."""

    def __init__(self, adapter: Adapter, note: Note, telling: Telling, deadline: float) -> None:
        self._adapter, self._note, self._telling, self._deadline = adapter, note, telling, deadline
        self._info = adapter.info()

    def report(self) -> UndoReport:
        if not self._info.exists or (self._note.added == "was there" and self._info.dimension is None):
            return UndoReport(place=self._note.place, taken=0, left=0)
        self._telling.total = self._adapter.count()
        return self._emptied() if self._note.added == "was there" else self._dropped()

    def _dropped(self) -> UndoReport:
        if self._note.added == "making" and self._info.fingerprint != self._note.fingerprint:
            raise CollectionError(
                f"the field of {self._note.place} was made by another encoder's retrofit; it is left alone"
            )
        stays, taken = [], self._telling.total or 0
        if self._info.capabilities.versions:  # each document is written anew without it, and any may refuse
            removal = remove(self._adapter, self._held(), deadline=self._deadline, on_progress=self._tell)
            if removal.failed:
                return UndoReport(
                    place=self._note.place,
                    taken=removal.deleted,
                    left=self._adapter.count(),
                    failures=removal.failures,
                )
            taken = removal.deleted
            stays.append(
                "the mapping of the field and of the note beside it, for no mapping can be taken out of an index; "
                "without documents it holds nothing, and a later retrofit uses it again"
            )
        self._adapter.drop()
        left = self._adapter.count() if self._adapter.info().exists else 0
        return UndoReport(place=self._note.place, taken=taken, left=left, stays=tuple(stays))

    def _held(self) -> Iterator[Id]:
        """Documents with a vector of ours."""
        return (
            id_ for page in patient(lambda after: self._adapter.scan(after=after), self._deadline) for id_ in page.held
        )

    def _emptied(self) -> UndoReport:
        """A collection that was there with room for our vectors keeps it: each document gets an empty vector again."""
        assert self._info.dimension is not None
        ids: list[Id] = []
        for page in patient(lambda after: self._adapter.scan(vectors=True, after=after), self._deadline):
            assert page.vectors is not None
            ids += [page.ids[row] for row in np.flatnonzero(page.vectors.row_nnz).tolist()]
        vectors = SparseVectors(np.zeros(len(ids) + 1, np.int64), [], [], self._info.dimension)
        width = self._info.code_bytes
        written = ingest(
            self._adapter,
            ids,
            vectors,
            codes=None if width is None else np.zeros((len(ids), width), np.uint8),
            missing="skip",
            empty="write",
            deadline=self._deadline,
            on_progress=lambda told: self._telling(told.documents, told.documents),
        )
        return UndoReport(
            place=self._note.place,
            taken=written.written,
            left=written.failed,
            stays=("the collection itself and its empty vectors, which were there before the retrofit",),
            failures=written.failures,
        )

    def _tell(self, removal: RemovalReport) -> None:
        self._telling(removal.given, removal.deleted)
