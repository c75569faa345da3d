"""Both collections of a copy, document by document: what differs, and what came late to the old one in a switch.

A document is known by eight bytes of its id, and by a mark of all in it that is not ours (`contract.copies`).
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from sparsevec.contract.copies import Copies, Marks, RawId, among, marks_of
from sparsevec.errors import JournalMismatch, printable
from sparsevec.ingestion.patience import SYSTEM_TIME, OutOfPatience, Patience
from sparsevec.storage import whole_file

__all__ = ["CopyLook", "Marked", "compared", "late"]

T = TypeVar("T")

_LOOKS = 5  # of one call: where others write all the time, what is left comes over after the switch
_NAMED = 10  # reasons and ids that a report holds


class CopyLook(BaseModel):
    """What one comparison of both collections found and did."""

    model_config = ConfigDict(frozen=True)

    looked: int
    """documents of the old collection"""
    same: int
    """held the same in both, but for what is ours"""
    copied: int
    removed: int
    """were in the copy, and are in the old collection no more"""
    left: int = 0
    """after a switch: were written in both, or written in the old and deleted in the new one; the new one stands"""
    left_named: tuple[str, ...] = ()
    """the first few of these"""
    refused: dict[str, str] = {}
    """the first few that the new collection did not take, with its reason"""
    seconds: float

    @property
    def settled(self) -> bool:
        return not (self.copied or self.removed)

    def __str__(self) -> str:
        named = ", ".join(printable(id_) for id_ in self.left_named)
        left = f", {self.left:,} written in both and left as in the new one ({named})" if self.left else ""
        done = f"{self.same:,} the same, {self.copied:,} copied, {self.removed:,} removed from the copy{left}"
        lines = [f"{self.looked:,} documents compared: {done}, in {self.seconds:.1f} s"]
        return "\n".join([*lines, *(f"    {id_}: {printable(why)}" for id_, why in self.refused.items())])


def compared(old: Any, new: Any, deadline: float) -> list[CopyLook]:
    """Looks until one finds nothing."""
    looks: list[CopyLook] = []
    while len(looks) < _LOOKS and not (looks and looks[-1].settled):
        looks.append(_look(old, new, deadline))
        if looks[-1].refused:
            break
    return looks


def _look(old: Copies, new: Copies, deadline: float) -> CopyLook:
    """Everything that differs is copied as it is in the old collection now."""
    began, patience = time.monotonic(), Patience(deadline, SYSTEM_TIME)
    name, there = old.stands_for(), Marked.of(new)
    ids: list[Marks] = []
    refused: dict[RawId, str] = {}
    looked = copied = 0
    for page in old.whole_pages():
        ids.append(_of_ids(page.ids))
        needed = [page.ids[row] for row in np.flatnonzero(~among(page.marks, there.marks)).tolist()]
        looked, copied = looked + len(page.ids), copied + len(needed)
        if needed:
            refused |= _asked(patience, partial(new.take, name, needed)).refused
    here = np.sort(np.concatenate(ids)) if ids else np.empty(0, np.uint64)
    removed = 0
    if not among(there.ids, here).all():
        for page in new.whole_pages():
            gone = [page.ids[row] for row in np.flatnonzero(~among(_of_ids(page.ids), here)).tolist()]
            removed += len(gone)
            if gone:
                _asked(patience, partial(new.discard, gone))
    return _told(began, refused, looked=looked, copied=copied - len(refused), removed=removed)


def late(
    old: Copies, new: Copies, before: Marked, deadline: float, again: Sequence[RawId] | None = None
) -> tuple[CopyLook, list[RawId]]:
    """After the switch: what was written to the old collection since `before` was seen in the new one, and the ids of
    those that the new one refused.

    `again`: of these alone, which were refused before. Nothing is removed then, and what else was deleted in the new
    collection since stays deleted.
    """
    began, patience = time.monotonic(), Patience(deadline, SYSTEM_TIME)
    name, now = old.stands_for(), Marked.of(new)
    wanted = None if again is None else np.sort(_of_ids(again))
    ids: list[Marks] = []
    refused: dict[RawId, str] = {}
    left: list[RawId] = []
    looked = copied = removed = 0
    for page in old.whole_pages():
        of_ids = _of_ids(page.ids)
        ids.append(of_ids)
        looked += len(page.ids)
        came = ~among(page.marks, before.marks) & ~among(page.marks, now.marks)
        if wanted is not None:
            came &= among(of_ids, wanted)
        there, at_all = among(of_ids, now.ids), among(of_ids, before.ids)
        untouched = there & among(now.state_of(of_ids), before.marks)
        chosen = came & (untouched | ~(there | at_all))
        left += [page.ids[row] for row in np.flatnonzero(came & ~chosen).tolist()]
        if some := [page.ids[row] for row in np.flatnonzero(chosen).tolist()]:
            taken = _asked(patience, partial(new.take, name, some, before.marks))
            copied, refused, left = (
                copied + len(some) - len(taken.left),
                refused | dict(taken.refused),
                [*left, *taken.left],
            )
    here = np.sort(np.concatenate(ids)) if ids else np.empty(0, np.uint64)
    for page in new.whole_pages() if wanted is None else ():
        gone = ~among(_of_ids(page.ids), here) & among(page.marks, before.marks)
        some = [page.ids[row] for row in np.flatnonzero(gone).tolist()]
        removed += len(some)
        if some:
            _asked(patience, partial(new.discard, some, before.marks))
    look = _told(began, refused, looked=looked, copied=copied - len(refused), removed=removed, left=left)
    return look, list(refused)


def _asked(patience: Patience, call: Callable[[], T]) -> T:
    """The answer, which is waited for until the deadline. Raises BackendDown."""
    try:
        return patience.ask(call)
    except OutOfPatience as over:
        raise over.__cause__ or over from None  # what the backend said last


def _told(
    began: float, refused: dict[RawId, str], *, looked: int, copied: int, removed: int, left: Sequence[RawId] = ()
) -> CopyLook:
    return CopyLook(
        looked=looked,
        same=looked - copied - len(left) - len(refused),
        copied=copied,
        removed=removed,
        left=len(left),
        left_named=tuple(str(id_) for id_ in left[:_NAMED]),
        refused={str(id_): why for id_, why in list(refused.items())[:_NAMED]},
        seconds=time.monotonic() - began,
    )


class Marked:
    """Every document of a collection as it was seen: `ids` (n,) eight bytes for each id, in ascending order, and
    `states` (n,) the mark of each."""

    def __init__(self, ids: Marks, states: Marks) -> None:
        order = np.argsort(ids, kind="stable")
        self.ids, self.states = ids[order], states[order]
        self.marks = np.sort(states)

    @classmethod
    def of(cls, collection: Copies) -> Marked:
        """As it is now: every document is read."""
        pages = [(_of_ids(page.ids), page.marks) for page in collection.whole_pages()]
        return cls(*(np.concatenate(column) for column in zip(*pages, strict=True)))

    def state_of(self, ids: Marks) -> Marks:
        """The mark of each that is there; of others anything."""
        if not len(self.ids):
            return np.zeros(len(ids), np.uint64)
        found: Marks = self.states[np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)]
        return found

    def keep(self, file: Path) -> None:
        """Raises StorageFailed."""
        text = io.BytesIO()
        np.savez(text, ids=self.ids, states=self.states)
        whole_file(file, text.getvalue(), private=True)

    @classmethod
    def read(cls, file: Path) -> Marked:
        """What `keep` wrote. Raises JournalMismatch."""
        try:
            with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as kept:
                return cls(kept["ids"], kept["states"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise JournalMismatch(
                f"{printable(file)} cannot be read, and without it nothing tells what came late"
            ) from error


def _of_ids(ids: Sequence[RawId]) -> Marks:
    return marks_of(repr(id_).encode() for id_ in ids)
