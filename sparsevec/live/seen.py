"""`Seen`: which document had which dense row at the last look, so that a report can say how many rows moved.

Eight bytes a document in the folder of the retrofit. Nothing is written or left out because of them, but the residual
code of a row that moved: whether the code of a row is right is read off the collection itself.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sparsevec.contract.checks import Id
from sparsevec.contract.copies import marks_of
from sparsevec.errors import printable
from sparsevec.live.codes import UInt64s, nine_bits, places
from sparsevec.storage import whole_file
from sparsevec.vectors import Float32s

__all__ = ["Seen", "row_marks"]


class Seen:
    """Of the collection called `place`, in `folder`."""

    def __init__(self, folder: Path, place: str) -> None:
        self._file = folder / f"rows-{blake2b(place.encode(), digest_size=6).hexdigest()}.npy"
        self._known = self._read()
        self._new: list[UInt64s] = []

    def _read(self) -> UInt64s | None:
        try:
            known = np.load(self._file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None  # there was no look before, or it cannot be told: the report says so
        return known if known.dtype == np.uint64 and known.ndim == 1 else None

    @property
    def letters(self) -> Path:
        """The file of what is refused during a look, for as long as that lasts."""
        return self._file.with_suffix(".refused.jsonl")

    @property
    def remembers(self) -> bool:
        """There was a look before."""
        return self._known is not None

    def knows(self, rows: UInt64s) -> npt.NDArray[np.bool_]:
        """Which of these `row_marks` were there at the last look, (n,)."""
        self._new.append(rows)
        if self._known is None or not len(self._known):
            return np.zeros(len(rows), bool)
        return places(self._known, rows)[1]

    def keep(self, *, whole: bool, but: UInt64s) -> None:
        """The look is at its end: what it saw is what the next one knows, `but` these `row_marks`, whose codes were not
        written; after one at what changed, the rest too."""
        new = np.setdiff1d(np.concatenate(self._new), but) if self._new else np.empty(0, np.uint64)
        self._new = []
        if not whole and self._known is None:
            return
        known = new if whole or self._known is None else np.union1d(self._known, new)
        if self._known is None or not np.array_equal(known, self._known):
            text = io.BytesIO()
            np.save(text, known)
            whole_file(self._file, text.getvalue())
        self._known = known

    def forget(self) -> None:
        """There was no look."""
        self._file.unlink(missing_ok=True)
        self._known = None

    def __repr__(self) -> str:
        return f"Seen({printable(self._file)})"


def row_marks(ids: Sequence[Id], rows: Float32s) -> UInt64s:
    """Eight bytes (n,) for each document and its row of `rows` (n, width), to nine significant bits.

    Finer moves are an engine's own: Elasticsearch from 9.2 on moves rows by one unit in the last place with any partial
    update, where it normalises them.
    """
    cut = nine_bits(rows).astype("<f4", copy=False)
    return marks_of(repr(id_).encode() + row.tobytes() for id_, row in zip(ids, cut, strict=True))
