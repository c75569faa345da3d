"""`Stream`: documents in order, from iterables that may be larger than memory, each checked on its own."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pydantic_core import to_json

from sparsevec.contract.checks import Id, Payload, id_fault, payload_fault
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.vectors import SparseVectors

__all__ = ["Batch", "Document", "Stream"]

T = TypeVar("T")


class Document(NamedTuple):
    """One document without its vector. `id` and `payload` are what they should be when `fault` is None."""

    position: int  # in the stream
    id: Any
    payload: Any
    text: str  # the payload as JSON
    size: int  # bytes in a JSON request, roughly
    fault: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents in the order of the stream; the i-th has the i-th vector."""

    documents: list[Document]
    vectors: SparseVectors

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, rows: slice | list[int]) -> Batch:
        picked = self.documents[rows] if isinstance(rows, slice) else [self.documents[row] for row in rows]
        return Batch(picked, self.vectors[rows])

    @property
    def ids(self) -> list[Id]:
        return [document.id for document in self.documents]

    @property
    def payloads(self) -> list[Payload]:
        return [document.payload for document in self.documents]

    @property
    def size(self) -> int:
        return sum(document.size for document in self.documents)

    @property
    def hash(self) -> str:
        """Of ids, vectors and payloads; those with a fault count as missing."""
        vectors = self.vectors
        ids = [document.id if document.fault is None else None for document in self.documents]
        digest = hashlib.blake2b(f"{vectors.dimension} {_text(ids)}".encode(), digest_size=16)
        for array in (vectors.row_nnz, vectors.indices, vectors.values):
            digest.update(np.ascontiguousarray(array).data)
        digest.update("\n".join(document.text for document in self.documents).encode())
        return digest.hexdigest()


class Stream:
    """Ids, vectors and payloads, side by side; no more of them in memory than asked for, and one chunk of vectors."""

    def __init__(
        self,
        ids: Iterable[Id],
        vectors: SparseVectors | Iterable[SparseVectors],
        payloads: Iterable[Payload] | None,
    ) -> None:
        self._ids = _iterator("ids", ids)
        self._chunks = _iterator("vectors", [vectors] if isinstance(vectors, SparseVectors) else vectors)
        self._payloads = None if payloads is None else _iterator("payloads", payloads)
        self._chunk: SparseVectors | None = None
        self._row = 0  # of the chunk, the next to be read
        self._read = 0  # vectors, of all chunks
        self._position = 0
        self._fault: Exception | None = None

    def take(self, limit: int) -> Batch | None:
        """The next documents, at most `limit`; None at the end.

        What stops the stream early, a source that raises or that is shorter than the others, is raised by the first
        call that has nothing else to give.
        """
        batch = self._pull(limit) if self._fault is None else None
        if batch is None and self._fault is not None:
            raise self._fault
        return batch

    def _pull(self, limit: int) -> Batch | None:
        rows = self._rows(limit)
        ids: list[Any] = self._next(self._ids, limit)
        payloads: list[Any] = [{}] * len(ids) if self._payloads is None else self._next(self._payloads, limit)
        lengths = {"ids": len(ids), "vectors": sum(map(len, rows))}
        if self._payloads is not None:
            lengths["payloads"] = len(payloads)
        n = min(lengths.values())
        if n < max(lengths.values()):
            ends = ", ".join(f"{name} {'end' if length == n else 'go on'}" for name, length in lengths.items())
            self._stop(InvalidInput(f"as many of each are due, but at position {self._position + n} {ends}"))
        if n == 0:
            return None
        start, self._position = self._position, self._position + n
        vectors = rows[0] if len(rows) == 1 else SparseVectors.concat(rows)
        return _batch(start, ids[:n], payloads[:n], vectors if len(vectors) == n else vectors[:n])

    def _rows(self, count: int) -> list[SparseVectors]:
        """The next `count` vectors, fewer at the end, in parts."""
        rows: list[SparseVectors] = []
        while count and (chunk := self._unread()) is not None:
            part = chunk[self._row : self._row + count]
            self._row += len(part)
            self._read += len(part)
            count -= len(part)
            rows.append(part)
        return rows

    def _unread(self) -> SparseVectors | None:
        """The chunk that has rows left, or None at the end."""
        while self._chunk is None or self._row == len(self._chunk):
            chunks = self._next(self._chunks, 1)
            if not chunks:
                return None
            if fault := _chunk_fault(chunks[0], self._chunk):
                self._stop(InvalidVectors(f"the chunk of vectors at position {self._read}: {fault}"))
                return None
            self._chunk, self._row = chunks[0], 0
        return self._chunk

    def _next(self, source: Iterator[T], count: int) -> list[T]:
        """The next `count` of `source`, fewer when it ends or raises."""
        taken: list[T] = []
        try:
            taken.extend(itertools.islice(source, count))  # keeps what came before the exception
        except Exception as error:
            self._stop(error)
        return taken

    def _stop(self, fault: Exception) -> None:
        self._fault = self._fault or fault


def _iterator(name: str, values: Iterable[T]) -> Iterator[T]:
    try:
        return iter(values)
    except TypeError:
        raise InvalidInput(f"{name} must be iterable, found {type(values).__name__}") from None


def _chunk_fault(chunk: object, before: SparseVectors | None) -> str | None:
    if not isinstance(chunk, SparseVectors):
        return f"expected SparseVectors, found {type(chunk).__name__}; SparseVectors.from_... makes them"
    if before is not None and chunk.dimension != before.dimension:
        return f"expected dimension {before.dimension} as before, found {chunk.dimension}"
    return None


def _batch(start: int, ids: list[Any], payloads: Iterable[Any], vectors: SparseVectors) -> Batch:
    weight = len(str(vectors.dimension)) + 16  # bytes: an index, up to 12 characters of weight, punctuation
    sizes: list[int] = (vectors.row_nnz * weight + 64).tolist()
    return Batch(list(map(_document, itertools.count(start), ids, payloads, sizes)), vectors)


def _document(position: int, id_: Any, payload: Any, size: int) -> Document:
    if fault := id_fault(id_):
        return Document(position, id_, payload, "", size, f"the id {fault}")
    if fault := payload_fault(payload):
        return Document(position, id_, payload, "", size, f"payload of id {id_!r}: {fault}")
    plain = str(id_) if isinstance(id_, str) else int(id_)
    text = _text(payload)
    return Document(position, plain, payload, text, size + len(text) + len(str(plain)), None)


def _text(value: object) -> str:
    """`value` as JSON, the same in every process."""
    return to_json(value).decode()
