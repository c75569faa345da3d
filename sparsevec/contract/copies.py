"""`Copies`: what an adapter offers whose backend can make a collection again under another name, with all it holds, and
move the names that readers go by. Not part of the contract; `live.copying` uses it.

Documents go from server to server, or as the server gives them, and are compared by marks: eight bytes of everything
in a document that is not ours. Ids are the backend's own here, whatever they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from sparsevec.contract.operations import Operation

__all__ = ["Copies", "CopyOperations", "Marks", "RawId", "SyncCopies", "Taken", "Whole", "among", "marks_of"]

RawId: TypeAlias = int | str
Marks: TypeAlias = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Whole:
    """A page of m documents: their ids, and a mark (m,) of all that each holds but what is ours."""

    ids: tuple[RawId, ...]
    marks: Marks
    after: str | None


@dataclass(frozen=True, slots=True)
class Taken:
    """Of documents that were to be written: the reasons of those that were refused, and those that were left alone."""

    refused: Mapping[RawId, str] = field(default_factory=dict)
    left: tuple[RawId, ...] = ()


def among(asked: Marks, known: Marks) -> npt.NDArray[np.bool_]:
    """Which of `asked` (n,) are among `known`, in ascending order."""
    if not len(known):
        return np.zeros(len(asked), bool)
    return known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] == asked  # type: ignore[no-any-return]


def marks_of(parts: Iterable[bytes]) -> Marks:
    """Eight bytes for each: different for different ones but by accident."""
    return np.frombuffer(b"".join(blake2b(part, digest_size=8).digest() for part in parts), "<u8").astype(np.uint64)


@runtime_checkable
class Copies(Protocol):
    """For threads."""

    def stands_for(self) -> str:
        """The collection that the name in the url stands for now: itself, or the one that it is an alias of.

        Raises CollectionError when it is not there, or stands for several.
        """

    def make_twin(self, name: str, dimension: int, fingerprint: str, code_bytes: int | None) -> None:
        """Make the collection `name` with everything that this one has but its documents: mapping or vectors, settings,
        payload indexes, notes. Where a vector can be added only when a collection is made, ours is in it.

        Raises CollectionError when it is there already, BackendUnsupported with the reason where documents cannot be
        read back whole, or written to another collection.
        """

    def whole_pages(self) -> Iterator[Whole]:
        """Every document."""

    def take(self, source: str, ids: Sequence[RawId], over: Marks | None = None) -> Taken:
        """Write these documents of the collection `source` here, as they are there now, in place of what is here; those
        that are gone are passed over.

        `over`, in ascending order: leave alone what is here with another mark than these. Where the backend has
        versions that is certain; else a write in the milliseconds between look and write is not seen.
        """

    def discard(self, ids: Sequence[RawId], over: Marks | None = None) -> None:
        """Remove whole documents; `over` as for `take`."""

    def move_names(self, to: str) -> None:
        """Every alias of this collection stands for that one from now on, atomically."""

    def remove_whole(self) -> None:
        """The collection, with all that is in it. Raises CollectionError where an alias stands for it still."""


class CopyOperations(Protocol):
    """The conversations behind it."""

    def stands_for(self) -> Operation[str]: ...

    def make_twin(self, name: str, dimension: int, fingerprint: str, code_bytes: int | None) -> Operation[None]: ...

    def whole_page(self, after: str | None) -> Operation[Whole]: ...

    def take(self, source: str, ids: Sequence[RawId], over: Marks | None) -> Operation[Taken]: ...

    def discard(self, ids: Sequence[RawId], over: Marks | None) -> Operation[None]: ...

    def move_names(self, to: str) -> Operation[None]: ...

    def remove_whole(self) -> Operation[None]: ...


class SyncCopies:
    """`Copies` beside a SyncAdapter, over operations that are CopyOperations too."""

    _operations: Any
    _run: Any

    def stands_for(self) -> str:
        return str(self._run(self._operations.stands_for()))

    def make_twin(self, name: str, dimension: int, fingerprint: str, code_bytes: int | None) -> None:
        self._run(self._operations.make_twin(name, dimension, fingerprint, code_bytes))

    def whole_pages(self) -> Iterator[Whole]:
        after: str | None = None
        while True:
            page: Whole = self._run(self._operations.whole_page(after))
            yield page
            if (after := page.after) is None:
                return

    def take(self, source: str, ids: Sequence[RawId], over: Marks | None = None) -> Taken:
        taken: Taken = self._run(self._operations.take(source, ids, over))
        return taken

    def discard(self, ids: Sequence[RawId], over: Marks | None = None) -> None:
        self._run(self._operations.discard(ids, over))

    def move_names(self, to: str) -> None:
        self._run(self._operations.move_names(to))

    def remove_whole(self) -> None:
        self._run(self._operations.remove_whole())
