"""`undo_retrofit`: take away what a retrofit added, and nothing else."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id
from sparsevec.errors import CollectionError, InvalidInput
from sparsevec.ingestion.ingest import ingest
from sparsevec.live.folder import Folder, Note
from sparsevec.live.looks import patient
from sparsevec.live.opening import opened, place_of
from sparsevec.live.seen import Seen
from sparsevec.vectors import SparseVectors

__all__ = ["UndoReport", "undo_retrofit"]

_log = logging.getLogger(__name__)


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

    @property
    def complete(self) -> bool:
        return self.left == 0

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.taken:,} vectors taken out of their documents, {self.left:,} are left"]
        return "\n".join([*lines, *(f"  stays: {what}" for what in self.stays)])


def undo_retrofit(
    where: str | Adapter, *, model: str | os.PathLike[str], deadline: float = 300.0, **credentials: Any
) -> UndoReport:
    """Take the vectors that `retrofit` wrote out of the documents, and the field or vector out of the collection.

    Everything else of a document stays as it is, and a document that changes at this moment keeps the change. `model`
    is the folder of the retrofit, which knows what was added; the encoder in it stays. May be called again after a
    kill. Raises InvalidInput when the folder knows of no retrofit there, CollectionError when the field is another
    one now, and what `Adapter.drop` raises.
    """
    with opened(where, credentials) as adapter, Folder(model).locked() as folder:
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
        report = _emptied(adapter, note, deadline) if note.added == "was there" else _dropped(adapter, note)
        folder.forget(note)
        Seen(folder.path, place).forget()
        folder.tell({"place": place, "stage": "undone", "report": report.model_dump(mode="json")}, at_once=True)
    _log.info("undo of %s: %d vectors taken out", place, report.taken)
    return report


def _dropped(adapter: Adapter, note: Note) -> UndoReport:
    info = adapter.info()
    if not info.exists:
        return UndoReport(place=note.place, taken=0, left=0)
    if note.added == "making" and info.fingerprint != note.fingerprint:
        raise CollectionError(f"the field of {note.place} was made by another encoder's retrofit; it is left alone")
    taken = adapter.count()
    adapter.drop()
    stays = []
    if info.backend.startswith(("elasticsearch", "opensearch")):
        stays.append(
            "the mapping of the field and of the note beside it, for no mapping can be taken out of an index; without "
            "documents it holds nothing, and a later retrofit uses it again"
        )
    left = adapter.count() if adapter.info().exists else 0
    return UndoReport(place=note.place, taken=taken, left=left, stays=tuple(stays))


def _emptied(adapter: Adapter, note: Note, deadline: float) -> UndoReport:
    """A collection that was there with room for our vectors keeps it: each document gets an empty vector again."""
    info = adapter.info()
    if not info.exists or info.dimension is None:
        return UndoReport(place=note.place, taken=0, left=0)
    ids: list[Id] = []
    for page in patient(lambda after: adapter.scan(vectors=True, after=after), deadline):
        assert page.vectors is not None
        ids += [page.ids[row] for row in np.flatnonzero(page.vectors.row_nnz).tolist()]
    vectors = SparseVectors(np.zeros(len(ids) + 1, np.int64), [], [], info.dimension)
    written = ingest(adapter, ids, vectors, missing="skip", empty="write", deadline=deadline)
    stays = ("the collection itself and its empty vectors, which were there before the retrofit",)
    return UndoReport(place=note.place, taken=written.written, left=written.failed, stays=stays)
