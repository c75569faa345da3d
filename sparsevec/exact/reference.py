"""`Reference`: the judge. It says what the exact answer is, and is an adapter like any other.

The score of a hit is *defined*: float32 weights, products and sums in float64, added in ascending dimension order. A
float64 holds the product of two float32 exactly, so nothing but that order matters, and the score is the same bit for
bit whatever the batch, the block or the thread. Ties: score descending, id ascending (ints before strings).

SQLite holds the documents, in memory or in a file that survives kill -9; numpy scores a snapshot of them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self
from uuid import uuid4

import numpy as np

from sparsevec.contract.adapter import (
    Adapter,
    Documents,
    Failure,
    Finding,
    Hits,
    Info,
    Missing,
    Page,
    Version,
    Written,
    says_the_contract,
)
from sparsevec.contract.capabilities import Capabilities
from sparsevec.contract.checks import (
    Id,
    Payload,
    Queries,
    check_batch,
    check_ids,
    check_k,
    check_options,
    check_queries,
    check_size,
    check_space,
    dense_row,
)
from sparsevec.contract.deadlines import remaining
from sparsevec.contract.filters import Where, conditions, matches
from sparsevec.contract.operations import Connection
from sparsevec.contract.urls import Url
from sparsevec.dense import best
from sparsevec.errors import BackendDown, CollectionError, InvalidInput, StorageFailed
from sparsevec.postings import Float64s, Mask, PostingLists, shared
from sparsevec.vectors import Float32s, Int64s, SparseVector, SparseVectors

__all__ = ["PostingLists", "Reference", "best", "shared"]

_APPLICATION_ID = 0x53505643  # "SPVC", in the header of every file of ours
_VERSION = 2  # of the tables below
_PATIENCE = 30.0  # seconds to wait for another process that writes to the same file
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
    "CREATE TABLE collection (dimension INTEGER NOT NULL, fingerprint TEXT, identity TEXT NOT NULL)",
    "CREATE TABLE documents (id BLOB PRIMARY KEY, indices BLOB, weights BLOB, payload TEXT) WITHOUT ROWID",
)
_UPSERT = """
INSERT INTO documents VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (id) DO UPDATE SET indices = ?2, weights = ?3, payload = with_fields(payload, ?4)
"""


class _Lists(Protocol):
    def search(self, query: SparseVector, k: int, allowed: Mask | None = None) -> tuple[Int64s, Float64s]: ...


@says_the_contract
class Reference(Connection):
    """The exact engine behind `reference:` (in memory) and `reference:PATH` (one SQLite file).

    Several threads may use it: SQLite has one connection, held by one call at a time; scoring goes on beside it.
    Several processes may open one file: each sees what the others have written at its next call.
    """

    _make_lists: Callable[[SparseVectors], _Lists] = PostingLists
    _engine = "reference"

    def __init__(self, path: str = "") -> None:
        """Open the file at `path`, made when missing. Raises CollectionError when it is not one of ours."""
        super().__init__(path or "memory", f"{self._engine}:{Path(path).absolute()}" if path else None)
        self._path = path
        self._database = _open(path, self._engine)
        self._lock = threading.RLock()
        self._snapshot: tuple[int, Documents, _Lists] | None = None

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        if credentials or url.host or url.variant or url.options:
            raise InvalidInput(
                f"expected `{cls._engine}:` or `{cls._engine}:PATH`, without host, options and credentials"
            )
        return cls(url.path)

    @classmethod
    def _again(cls, origin: str) -> Self:
        return cls(origin.partition(":")[2])

    @property
    def _name(self) -> str:
        return f"reference (SQLite {sqlite3.sqlite_version}, numpy {np.__version__})"

    def info(self) -> Info:
        found = self._look()
        dimension, fingerprint, identity = found or (None, None, None)
        return Info(self._name, Capabilities(), found is not None, True, dimension, fingerprint, identity)

    def check(self) -> list[Finding]:
        found = self._look()
        about = "no collection yet" if found is None else f"a collection of dimension {found[0]}"
        return [Finding("fine", "version", self._name), Finding("fine", "collection", f"{self._where} holds {about}")]

    def create(self, dimension: int, *, fingerprint: str | None = None) -> None:
        SparseVectors([0], [], [], dimension)  # refuses a dimension that vectors could not have
        with self._transaction():
            if self._look() is not None:
                raise CollectionError(f"{self._where} holds a collection already; drop() it first, or use another path")
            for statement in _SCHEMA:
                self._execute(statement)
            self._execute("INSERT INTO collection VALUES (?, ?, ?)", (dimension, fingerprint, uuid4().hex))

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
    ) -> Written:
        check_options(self._name, Capabilities(), versions=versions, routing=routing, missing=missing)
        dimension, fingerprint, _ = self._existing()
        ids, payloads = check_batch(ids, vectors, payloads, dimension)
        check_space(vectors, fingerprint)
        rows = [
            (_key(id_), row.indices.astype("<u4").tobytes(), row.values.astype("<f4").tobytes(), json.dumps(payload))
            for id_, row, payload in zip(ids, vectors, payloads, strict=True)
        ]
        with self._transaction():
            if fingerprint is None and vectors.fingerprint is not None:
                self._adopt(vectors)
            absent = self._absent(ids) if missing in ("fail", "skip") else set()
            self._database.executemany(_UPSERT, [row for id_, row in zip(ids, rows, strict=True) if id_ not in absent])
        written = tuple(id_ for id_ in ids if id_ not in absent)
        reason = "it is not there"
        if missing == "skip":
            return Written(written, skipped=dict.fromkeys(absent, reason))
        return Written(written, failed=dict.fromkeys(absent, Failure(reason, kind="missing")))

    def _adopt(self, vectors: SparseVectors) -> None:
        """The first vectors say which space the collection is of (C18). Raises WrongSpace when others came first."""
        self._execute(
            "UPDATE collection SET fingerprint = ? WHERE fingerprint IS NULL AND NOT EXISTS (SELECT 1 FROM documents)",
            (vectors.fingerprint,),
        )
        check_space(vectors, self._existing()[1])

    def _absent(self, ids: Sequence[Id]) -> set[Id]:
        known = "SELECT 1 FROM documents WHERE id = ?"
        return {id_ for id_ in ids if self._execute(known, (_key(id_),)).fetchone() is None}

    def search(
        self, queries: Queries, k: int = 10, *, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        check_k(k)
        dimension, fingerprint, _ = self._existing()
        asked = check_queries(queries, dimension, fingerprint)
        wanted = conditions(where)
        documents, lists = self._read()
        allowed = np.array([matches(p, wanted) for p in documents.payloads], bool) if wanted else None
        return [_hits(documents, *lists.search(query, k, allowed), with_payloads) for query in asked]

    def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        dimension, fingerprint, _ = self._existing()
        select = "SELECT * FROM documents WHERE id = ?"
        with self._held():
            found = [self._execute(select, (_key(id_),)).fetchone() for id_ in check_ids(ids)]
        return _with_dense(_documents([row for row in found if row is not None], dimension, fingerprint), dense)

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        check_k(most)
        _, fingerprint, _ = self._existing()
        wanted = conditions(where)
        documents, _ = self._read()
        rows = [row for row, payload in enumerate(documents.payloads) if matches(payload, wanted)]
        if len(rows) > most:
            return None
        ids, payloads = tuple(documents.ids[row] for row in rows), tuple(documents.payloads[row] for row in rows)
        vectors = documents.vectors[np.array(rows, np.int64)].with_fingerprint(fingerprint)
        return _with_dense(Documents(ids, vectors, payloads), dense)

    def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
    ) -> Iterator[Page]:
        """In id order; `after` is the last id of a page, so a scan goes on at any time, also in another process."""
        behind, size, more = _place(after), check_size(size), True
        while more:
            dimension, fingerprint, _ = self._existing()
            rows = self._rows("SELECT * FROM documents WHERE id > ? ORDER BY id LIMIT ?", (behind, size + 1))
            if not rows:
                return
            rows, more = rows[:size], len(rows) > size
            behind = rows[-1][0]
            found = _documents(rows, dimension, fingerprint)
            yield Page(
                ids=found.ids,
                after=behind.hex() if more else None,
                holds=np.ones(len(rows), bool),
                vectors=found.vectors if vectors else None,
                payloads=found.payloads if payloads else None,
                dense=None if dense is None else tuple(dense_row(payload.get(dense)) for payload in found.payloads),
            )

    def delete(self, ids: Sequence[Id]) -> None:
        self._existing()
        keys = [(_key(id_),) for id_ in check_ids(ids)]
        with self._transaction():
            self._database.executemany("DELETE FROM documents WHERE id = ?", keys)

    def count(self) -> int:
        self._existing()
        return int(self._rows("SELECT count(*) FROM documents")[0][0])

    def drop(self) -> None:
        with self._transaction():
            self._execute("DROP TABLE IF EXISTS documents")
            self._execute("DROP TABLE IF EXISTS collection")

    def close(self) -> None:
        if self._close_once():
            with self._lock:
                self._database.close()

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return vectors

    def slack(self, vectors: SparseVectors) -> Float32s:
        return np.zeros(vectors.nnz, np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- SQLite

    @property
    def _where(self) -> str:
        return self._path or f"this {self._engine} engine"

    def _look(self) -> tuple[int, str | None, str] | None:
        """The collection's dimension, fingerprint and identity; None when it is not there."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'collection'"):
            return None
        ((dimension, fingerprint, identity),) = self._rows("SELECT dimension, fingerprint, identity FROM collection")
        return int(dimension), fingerprint, identity

    def _existing(self) -> tuple[int, str | None, str]:
        if (found := self._look()) is None:
            raise CollectionError(f"{self._where} holds no collection yet; create(dimension) makes one")
        return found

    def _read(self) -> tuple[Documents, _Lists]:
        """Every document in id order, so that the lower row is the lower id; read again after anybody's write."""
        with self._held():
            version = self._rows("PRAGMA data_version")[0][0] + self._database.total_changes
            if self._snapshot is None or self._snapshot[0] != version:
                documents = _documents(self._rows("SELECT * FROM documents ORDER BY id"), self._existing()[0], None)
                self._snapshot = version, documents, type(self)._make_lists(documents.vectors)
            return self._snapshot[1:]

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._held():
            return self._execute(statement, values).fetchall()

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        with self._held(), _storage_errors(self._where, self._engine):
            return self._database.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it, on disk when it ends, or nothing; one thread at a time."""
        with self._held(), _storage_errors(self._where, self._engine):
            self._database.execute(f"PRAGMA busy_timeout = {int(1000 * remaining(_PATIENCE))}")
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                yield

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The connection, for this thread alone. Asked before the lock, which a forked child may never get; and after
        it, since another thread may have closed."""
        self.check_open()
        with self._lock:
            self.check_open()
            yield


def _place(after: str | None) -> bytes:
    try:
        return b"" if after is None else bytes.fromhex(after)
    except (ValueError, TypeError):
        raise InvalidInput(f"expected the `after` of an earlier page, found {after!r:.80}") from None


def _open(path: str, engine: str) -> sqlite3.Connection:
    if path and not Path(path).parent.is_dir():
        raise CollectionError(f"the folder of {path} does not exist; make it first")
    with _storage_errors(path or engine, engine):
        timeout = remaining(_PATIENCE)
        database = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=timeout, check_same_thread=False)
        database.create_function("with_fields", 2, _with_fields, deterministic=True)
        if path:
            ours = database.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID
            if not ours and database.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise CollectionError(f"{path} is an SQLite file of somebody else's; use another path")
            if ours and database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                raise CollectionError(f"{path} was written by another version of sparsevec; make it again")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # a commit is on disk before it returns
        return database


@contextmanager
def _storage_errors(place: str, engine: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extension
        if code == sqlite3.SQLITE_NOTADB:
            raise CollectionError(f"{place} is not a file of the {engine} engine; use another path") from error
        if code == sqlite3.SQLITE_BUSY:
            raise BackendDown(f"{place} is being written by another process for too long; try again") from error
        raise StorageFailed(f"{place}: {error}; what was reported as written is still there") from error


def _with_fields(old: str, new: str) -> str:
    return old if new == "{}" else json.dumps({**json.loads(old), **json.loads(new)})


def _key(id_: Id) -> bytes:
    """Bytes that sort as ids do: ints by value, then strings."""
    return b"s" + id_.encode() if isinstance(id_, str) else b"i" + id_.to_bytes(8, "big")


def _id(key: bytes) -> Id:
    return key[1:].decode() if key[:1] == b"s" else int.from_bytes(key[1:], "big")


def _hits(documents: Documents, rows: Int64s, scores: Float64s, with_payloads: bool) -> Hits:
    payloads = tuple(documents.payloads[row] for row in rows) if with_payloads else None
    return Hits(tuple(documents.ids[row] for row in rows), scores.astype(np.float32), payloads)


def _documents(rows: Sequence[tuple[bytes, bytes, bytes, str]], dimension: int, fingerprint: str | None) -> Documents:
    indptr = np.concatenate(([0], np.cumsum([len(indices) // 4 for _, indices, _, _ in rows], dtype=np.int64)))
    indices = np.frombuffer(b"".join(row[1] for row in rows), "<u4")
    weights = np.frombuffer(b"".join(row[2] for row in rows), "<f4")
    vectors = SparseVectors(indptr, indices, weights, dimension, fingerprint=fingerprint)
    return Documents(tuple(_id(row[0]) for row in rows), vectors, tuple(json.loads(row[3]) for row in rows))


def _with_dense(documents: Documents, name: str | None) -> Documents:
    """With the dense row that lies in each payload under that name."""
    if name is None:
        return documents
    return replace(documents, dense=tuple(dense_row(payload.get(name)) for payload in documents.payloads))


_contract: type[Adapter] = Reference
