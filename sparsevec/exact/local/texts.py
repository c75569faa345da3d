"""`Texts`: many byte strings in two arrays, so that a million take no Python objects and can be mapped from a file."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from sparsevec.vectors import Int64s

__all__ = ["Texts"]


class Texts(Sequence[bytes]):
    """n byte strings: `ends` (n + 1,), `content` (all of them, one behind the other)."""

    __slots__ = ("_view", "content", "ends")

    def __init__(self, ends: Int64s, content: npt.NDArray[np.uint8]) -> None:
        self.ends, self.content = ends, content
        self._view = memoryview(content.data)

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> Texts:
        several = list(texts)
        ends = np.concatenate(([0], np.cumsum([len(text) for text in several], dtype=np.int64)))
        return cls(ends, np.frombuffer(b"".join(several), np.uint8))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> Texts: ...
    def __getitem__(self, row: int | slice) -> bytes | Texts:
        if isinstance(row, slice):
            return self.some(np.arange(len(self))[row])
        if not 0 <= row < len(self):  # what ends an iteration
            raise IndexError(row)
        return bytes(self._view[self.ends[row] : self.ends[row + 1]])

    def each(self, rows: npt.NDArray[Any]) -> list[bytes]:
        """Those rows, as Python has them."""
        view = self._view
        return [bytes(view[a:b]) for a, b in zip(self.ends[rows].tolist(), self.ends[rows + 1].tolist(), strict=True)]

    def some(self, rows: npt.NDArray[Any]) -> Texts:
        """Those rows, in that order."""
        lengths = np.diff(self.ends)[rows]
        ends = np.concatenate(([0], np.cumsum(lengths)))
        at = np.arange(ends[-1]) + np.repeat(self.ends[:-1][rows] - ends[:-1], lengths)
        return Texts(ends, self.content[at])

    def find(self, text: bytes) -> int | None:
        """Where it stands among texts that ascend; None when it is not there."""
        row = bisect_left(self, text)
        return row if row < len(self) and self[row] == text else None
