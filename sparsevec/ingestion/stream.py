"""`Stream`: documents in order, from sources that may be larger than memory, each document checked on its own."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard, TypeVar

import numpy as np
from pydantic_core import to_json

from sparsevec.contract.adapter import UInt8s
from sparsevec.contract.checks import CheckedPayloads, Id, check_several, checked_payload, id_fault, plain_id
from sparsevec.contract.payloads import is_unicode
from sparsevec.errors import InvalidInput, InvalidVectors, SparsevecError
from sparsevec.ingestion.chunks import Encoded, Restartable, Vectors, as_chunks, as_vectors, faults_of
from sparsevec.vectors import SparseVectors

__all__ = ["Batch", "Document", "Stream"]

T = TypeVar("T")


class Document(NamedTuple):
    """One document without its vector. `id`, `payload`, `version` and `routing` are as they should be when `fault` is
    None."""

    position: int  # in the stream
    id: Any
    payload: Any
    text: str  # the payload as JSON
    size: int  # bytes in a JSON request, roughly
    fault: str | None
    version: str | None = None
    routing: str | None = None
    code: Any = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents in the order of the stream; the i-th has the i-th vector."""

    documents: list[Document]
    vectors: SparseVectors
    faults: Mapping[int, str]
    """of documents without a vector, by their position in the stream"""

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, rows: slice | list[int]) -> Batch:
        picked = self.documents[rows] if isinstance(rows, slice) else [self.documents[row] for row in rows]
        return Batch(picked, self.vectors[rows], self.faults)

    def fault(self, document: Document) -> str | None:
        """Why this document of it cannot be written."""
        return document.fault or self.faults.get(document.position)

    @property
    def ids(self) -> list[Id]:
        return [document.id for document in self.documents]

    @property
    def payloads(self) -> CheckedPayloads:
        return CheckedPayloads(document.payload for document in self.documents)

    @property
    def versions(self) -> list[str | None]:
        return [document.version for document in self.documents]

    @property
    def routing(self) -> list[str | None]:
        return [document.routing for document in self.documents]

    @property
    def codes(self) -> UInt8s | None:
        """(n, width); None where none were given. Raises InvalidInput where their widths differ."""
        given = [document.code for document in self.documents if document.code is not None]
        if len({len(code) for code in given}) > 1 or 0 < len(given) < len(self):
            raise InvalidInput(f"expected codes of one width, found {sorted({len(code) for code in given})} bytes")
        return np.stack(given) if given else None

    @property
    def size(self) -> int:
        return sum(document.size for document in self.documents)

    def hash(self, *, vectors: bool = True) -> str:
        """Of ids, payloads and routing, and of the `vectors`; documents with a fault count as missing."""
        ids = [document.id if document.fault is None else None for document in self.documents]
        digest = hashlib.blake2b(_text(ids).encode(), digest_size=16)
        digest.update("\n".join(document.text for document in self.documents).encode())
        if any(routing := [document.routing if document.fault is None else None for document in self.documents]):
            digest.update(_text(routing).encode())
        if any(document.code is not None for document in self.documents):
            for document in self.documents:
                digest.update(b"" if document.code is None else document.code.tobytes())
        if vectors:
            digest.update(f" {self.vectors.dimension} ".encode())
            for part in (self.vectors.row_nnz, self.vectors.indices, self.vectors.values):
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


class Stream:
    """Ids, vectors, payloads, versions and routing, side by side; no more of them in memory than asked for, and one
    chunk of vectors."""

    def __init__(
        self,
        ids: Iterable[Id],
        vectors: Vectors,
        payloads: Iterable[Any] | None = None,
        versions: Iterable[Any] | None = None,
        routing: Iterable[Any] | None = None,
        codes: Iterable[Any] | None = None,
        *,
        dimension: int | None = None,
    ) -> None:
        """`dimension` is that of rows that do not say."""
        self._restartable = vectors if isinstance(vectors, Restartable) else None
        self.identity: str | None = _identity(vectors) if isinstance(vectors, Restartable) else None
        """of a source that can start anywhere"""
        self._chunks = None if self._restartable else check_several("vectors", as_chunks(vectors))
        more = {"payloads": payloads, "versions": versions, "routing": routing, "codes": codes}
        named: dict[str, Iterable[Any]] = {name: given for name, given in more.items() if given is not None}
        self._columns = {name: check_several(name, given) for name, given in {"ids": ids, **named}.items()}
        self._dimension = dimension
        whole = isinstance(vectors, SparseVectors | Encoded)
        self.total = next((len(sized) for sized in (ids, payloads, vectors if whole else None) if _sized(sized)), None)
        """of documents, where a source can tell"""
        self._chunk: SparseVectors | None = None
        self._row = 0  # of the chunk, the next to be read
        self._read = 0  # vectors, of all chunks
        self._faults: dict[int, str] = {}  # of vectors that were read and not given yet, by position
        self._position = 0
        self._fault: Exception | None = None

    def take(self, limit: int) -> Batch | None:
        """The next documents, at most `limit`; None at the end.

        What stops the stream early, a source that raises or that is shorter than the others, is raised by the first
        call that has nothing else to give.
        """
        if self._restartable and self._chunks is None:
            self._read = self._position
            self._chunks = check_several("vectors.start(...)", self._restartable.start(self._position))
        return self._next_batch(limit)

    def pass_over(self, count: int) -> Batch | None:
        """The same, without vectors where their source can start behind these documents."""
        return self._next_batch(count)

    def _next_batch(self, limit: int) -> Batch | None:
        batch = self._pull(limit) if self._fault is None else None
        if batch is None and self._fault is not None:
            raise self._fault
        return batch

    def _pull(self, limit: int) -> Batch | None:
        columns = {name: self._next(source, limit) for name, source in self._columns.items()}
        rows = self._rows(limit)
        lengths = {"ids": len(columns["ids"])}
        if rows is not None:
            lengths["vectors"] = sum(map(len, rows))
        lengths |= {name: len(values) for name, values in columns.items()}
        n = min(lengths.values())
        if n < max(lengths.values()):
            ends = ", ".join(f"{name} {'end' if length == n else 'go on'}" for name, length in lengths.items())
            self._stop(InvalidInput(f"expected as many of each, but at position {self._position + n} {ends}"))
        if n == 0:
            return None
        start, self._position = self._position, self._position + n
        faults = {at: self._faults.pop(at) for at in range(start, self._position) if at in self._faults}
        vectors = _joined(rows, n)
        return Batch(_documents(start, n, columns, vectors), vectors, faults)

    def _rows(self, count: int) -> list[SparseVectors] | None:
        """The next `count` vectors, fewer at the end, in parts; None while documents are passed over without them."""
        if self._chunks is None:
            return None
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
        assert self._chunks is not None
        while self._chunk is None or self._row == len(self._chunk):
            if not (chunks := self._next(self._chunks, 1)):
                return None
            try:
                self._chunk = as_vectors(chunks[0], self._chunk, self._dimension)
                self._faults |= {self._read + row: fault for row, fault in faults_of(chunks[0]).items()}
            except SparsevecError as error:
                self._stop(InvalidVectors(f"the chunk of vectors at position {self._read}: {error}"))
                return None
            self._row = 0
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


def _identity(source: Restartable) -> str:
    identity: object = source.identity
    if not (isinstance(identity, str) and identity and is_unicode(identity)):
        raise InvalidInput(f"the identity of a source must be a non-empty string, found {identity!r:.80}")
    return identity


def _sized(source: Any) -> TypeGuard[Sized]:
    return isinstance(source, Sized)


def _joined(rows: list[SparseVectors] | None, n: int) -> SparseVectors:
    if rows is None:
        return SparseVectors([0] * (n + 1), [], [], 1)  # nobody looks at the vectors of what is passed over
    vectors = rows[0] if len(rows) == 1 else SparseVectors.concat(rows)
    return vectors if len(vectors) == n else vectors[:n]


def _documents(start: int, n: int, columns: Mapping[str, list[Any]], vectors: SparseVectors) -> list[Document]:
    weight = len(str(vectors.dimension)) + 16  # bytes: an index, up to 12 characters of weight, punctuation
    sizes: list[int] = (vectors.row_nnz * weight + 64).tolist()
    payloads: Iterable[Any] = columns.get("payloads", itertools.repeat({}))
    guards = (columns.get(name, itertools.repeat(None)) for name in ("versions", "routing", "codes"))
    counted = zip(range(start, start + n), columns["ids"], payloads, sizes, *guards, strict=False)
    return list(itertools.starmap(_document, counted))


def _document(position: int, id_: Any, payload: Any, size: int, version: Any, routing: Any, code: Any) -> Document:
    fault, plain_payload = checked_payload(payload)
    if fault is not None:
        fault = f"payload of id {id_!r}: {fault}"
    if reason := id_fault(id_):
        fault = f"the id {reason}"
    if reason := _text_fault(version) or _text_fault(routing):
        fault = fault or f"version and routing of id {id_!r} {reason}"
    if code is not None and not (isinstance(code, np.ndarray) and code.dtype == np.uint8 and code.ndim == 1):
        fault = fault or f"the code of id {id_!r} must be a row of uint8, found {type(code).__name__}"
    if fault is not None:
        return Document(position, id_, payload, "", size, fault, None, routing)
    own_id = plain_id(id_)
    text = _text(plain_payload) if plain_payload else "{}"
    size += len(text) + len(str(own_id)) + (0 if code is None else 2 * len(code))
    return Document(position, own_id, plain_payload, text, size, None, version, routing, code)


def _text_fault(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value and is_unicode(value)):
        return None
    return f"must be non-empty strings, as `scan` gave them, or None, found {value!r:.80}"


def _text(value: object) -> str:
    """`value` as JSON, the same in every process."""
    return to_json(value).decode()
