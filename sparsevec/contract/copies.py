"""`Copies`: what an adapter offers whose backend can make a collection again under another name, with all it holds, and
move the names that readers go by. Not part of the contract; `live.copying` uses it.

Documents go from server to server, or as the server gives them, and are compared by marks: eight bytes of everything
in a document that is not ours. Ids are the backend's own here, whatever they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from sparsevec.contract.operations import Operation

__all__ = ["Copies", "CopyOperations", "Marks", "RawId", "SyncCopies", "Whole", "marks_of"]

RawId: TypeAlias = int | str
Marks: TypeAlias = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Whole:
    """A page of m documents: their ids, and a mark (m,) of all that each holds but what is ours."""

    ids: tuple[RawId, ...]
    marks: Marks
    after: str | None


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

    def copy_to(self, name: str, ids: Sequence[RawId], *, only_new: bool = False) -> Mapping[RawId, str]:
        """Write these documents, as they are now, to that collection, in place of what is there; those that are gone
        are passed over. `only_new`: leave what is there where the backend can tell. Gives the reasons of those that
        were refused."""

    def discard(self, ids: Sequence[RawId]) -> None:
        """Remove whole documents."""

    def move_names(self, to: str) -> None:
        """Every alias of this collection stands for that one from now on, at one stroke."""

    def remove_whole(self) -> None:
        """The collection, with all that is in it. Raises CollectionError where an alias stands for it still."""


class CopyOperations(Protocol):
    """The conversations behind it."""

    def stands_for(self) -> Operation[str]: ...

    def make_twin(self, name: str, dimension: int, fingerprint: str, code_bytes: int | None) -> Operation[None]: ...

    def whole_page(self, after: str | None) -> Operation[Whole]: ...

    def copy_to(self, name: str, ids: Sequence[RawId], only_new: bool) -> Operation[Mapping[RawId, str]]: ...

    def discard(self, ids: Sequence[RawId]) -> Operation[None]: ...

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

    def copy_to(self, name: str, ids: Sequence[RawId], *, only_new: bool = False) -> Mapping[RawId, str]:
        refused: Mapping[RawId, str] = self._run(self._operations.copy_to(name, ids, only_new))
        return refused

    def discard(self, ids: Sequence[RawId]) -> None:
        self._run(self._operations.discard(ids))

    def move_names(self, to: str) -> None:
        self._run(self._operations.move_names(to))

    def remove_whole(self) -> None:
        self._run(self._operations.remove_whole())
