"""`Reference`: the judge. It says what the exact answer is, and is an adapter like any other.

The score of a hit is *defined*: float32 weights, products and sums in float64, added in ascending dimension order. A
float64 holds the product of two float32 exactly, so nothing but that order matters, and the score is the same bit for
bit whatever the batch, the block or the thread. Ties: score descending, id ascending (ints before strings).

SQLite holds the documents, in a file that survives kill -9 or, without a path, in a temporary one that nobody else sees
and that is written only when they are many; numpy scores a snapshot of them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from bisect import bisect_left
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
    UInt8s,
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
    check_code_bytes,
    check_codes,
    check_ids,
    check_k,
    check_options,
    check_queries,
    check_size,
    check_space,
    dense_row,
    ids_or_where,
)
from sparsevec.contract.deadlines import remaining
from sparsevec.contract.filters import Where, conditions, matches
from sparsevec.contract.operations import Connection
from sparsevec.contract.searches import Search, rescored
from sparsevec.contract.urls import Url
from sparsevec.dense import best
from sparsevec.errors import BackendDown, CollectionError, InvalidInput, StorageFailed
from sparsevec.postings import Float64s, Mask, PostingLists, shared
from sparsevec.vectors import Float32s, Int64s, SparseVector, SparseVectors

__all__ = ["PostingLists", "Reference", "best", "shared"]

_APPLICATION_ID = 0x53505643  # "SPVC", in the header of every file of ours
_VERSION = 3  # of the tables below
_PAGE = 2**14  # bytes: a document of up to 500 weights stands in one, without pages of its own
_PATIENCE = 30.0  # seconds to wait for another process that writes to the same file
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
    "CREATE TABLE collection (dimension INTEGER NOT NULL, fingerprint TEXT, identity TEXT NOT NULL, code_bytes INT)",
    "CREATE TABLE documents (id BLOB PRIMARY KEY, indices BLOB, weights BLOB, payload TEXT, code BLOB) WITHOUT ROWID",
)
_SINCE_2 = (  # version 2 knew no codes
    "ALTER TABLE collection ADD COLUMN code_bytes INT",
    "ALTER TABLE documents ADD COLUMN code BLOB",
    f"PRAGMA user_version = {_VERSION}",
)
_UPSERT = """
INSERT INTO documents VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (id) DO UPDATE SET indices = ?2, weights = ?3, payload = with_fields(payload, ?4), code = ?5
"""


class _Lists(Protocol):
    def search(self, query: SparseVector, k: int, allowed: Mask | None = None) -> tuple[Int64s, Float64s]: ...


@says_the_contract
class Reference(Connection):
    """The exact engine behind `reference:` (gone when it is closed) and `reference:PATH` (one SQLite file).

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
        dimension, fingerprint, identity, code_bytes = found or (None, None, None, None)
        about = (dimension, fingerprint, identity)
        return Info(self._name, Capabilities(), found is not None, True, *about, code_bytes=code_bytes)

    def check(self) -> list[Finding]:
        found = self._look()
        about = "no collection yet" if found is None else f"a collection of dimension {found[0]}"
        return [Finding("fine", "version", self._name), Finding("fine", "collection", f"{self._where} holds {about}")]

    def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        code_bytes = check_code_bytes(code_bytes)
        SparseVectors([0], [], [], dimension)  # refuses a dimension that vectors could not have
        with self._transaction():
            if self._look() is not None:
                raise CollectionError(f"{self._where} holds a collection already; drop() it first, or use another path")
            for statement in _SCHEMA:
                self._execute(statement)
            about = (dimension, fingerprint, uuid4().hex, code_bytes)
            self._execute("INSERT INTO collection VALUES (?, ?, ?, ?)", about)

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> Written:
        check_options(self._name, Capabilities(), versions=versions, routing=routing, missing=missing)
        dimension, fingerprint, _, code_bytes = self._existing()
        ids, payloads = check_batch(ids, vectors, payloads, dimension)
        check_space(vectors, fingerprint)
        kept = check_codes(codes, vectors, code_bytes)
        rows = [
            (*_row(id_, row, payload), None if kept is None else kept[number].tobytes())
            for number, (id_, row, payload) in enumerate(zip(ids, vectors, payloads, strict=True))
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
        self,
        queries: Queries,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        with_vectors: bool = False,
        with_codes: bool = False,
        rescore: Queries | None = None,
        candidates: int | None = None,
        after: str | None = None,
    ) -> list[Hits]:
        search = Search(where, with_payloads, with_vectors, with_codes, rescore, candidates, after)
        depth = search.depth(k)
        dimension, fingerprint, _, code_bytes = self._existing()
        asked = check_queries(queries, dimension, fingerprint)
        second = search.second_look(asked, dimension, fingerprint)
        search.check_codes(code_bytes)
        wanted = conditions(where)
        documents, lists = self._read()
        allowed = np.array([matches(p, wanted) for p in documents.payloads], bool) if wanted else None
        if after is not None:
            return [_read_on(documents, *lists.search(asked[0], len(documents.ids), allowed), k, search)]
        found = [lists.search(query, depth, allowed) for query in asked]
        if second is None:
            return [_hits(documents, *one, search) for one in found]
        return [
            rescored(_hits(documents, *one, replace(search, with_vectors=True)), query, k, with_vectors=with_vectors)
            for one, query in zip(found, second, strict=True)
        ]

    def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> Documents:
        dimension, fingerprint, _, code_bytes = self._existing()
        select = "SELECT * FROM documents WHERE id = ?"
        with self._held():
            found = [self._execute(select, (_key(id_),)).fetchone() for id_ in check_ids(ids)]
        there = [row for row in found if row is not None]
        return _with_dense(_documents(there, dimension, fingerprint, code_bytes), dense)

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        check_k(most)
        self._existing()
        wanted = conditions(where)
        documents, _ = self._read()
        rows = [row for row, payload in enumerate(documents.payloads) if matches(payload, wanted)]
        if len(rows) > most:
            return None
        ids, payloads = tuple(documents.ids[row] for row in rows), tuple(documents.payloads[row] for row in rows)
        codes = None if documents.codes is None else documents.codes[rows]
        return _with_dense(Documents(ids, documents.vectors[np.array(rows, np.int64)], payloads, codes=codes), dense)

    def scan(
        self,
        *,
        vectors: bool = False,
        payloads: bool = False,
        codes: bool = False,
        dense: str | None = None,
        after: str | None = None,
        size: int = 1000,
        where: Where | None = None,
    ) -> Iterator[Page]:
        """In id order; `after` is the last id of a page, so a scan goes on at any time, also in another process."""
        behind, size, wanted, more = _place(after), check_size(size), conditions(where), True
        while more:
            dimension, fingerprint, _, code_bytes = self._existing()
            rows = self._rows("SELECT * FROM documents WHERE id > ? ORDER BY id LIMIT ?", (behind, size + 1))
            if not rows:
                return
            rows, more = rows[:size], len(rows) > size
            behind = rows[-1][0]
            if not (rows := [row for row in rows if matches(json.loads(row[3]), wanted)] if wanted else rows):
                continue
            found = _documents(rows, dimension, fingerprint, code_bytes if codes else None)
            yield Page(
                ids=found.ids,
                after=behind.hex() if more else None,
                holds=np.ones(len(rows), bool),
                vectors=found.vectors if vectors else None,
                payloads=found.payloads if payloads else None,
                dense=None if dense is None else tuple(dense_row(payload.get(dense)) for payload in found.payloads),
                codes=found.codes,
            )

    def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        self._existing()
        if (ids := ids_or_where(ids, where)) is None:
            ids = [id_ for page in self.scan(where=where) for id_ in page.ids]
        keys = [(_key(id_),) for id_ in check_ids(ids)]
        with self._transaction():
            self._database.executemany("DELETE FROM documents WHERE id = ?", keys)

    def count(self, where: Where | None = None) -> int:
        self._existing()
        if where is not None:
            return sum(map(len, self.scan(where=where)))
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

    def _look(self) -> tuple[int, str | None, str, int | None] | None:
        """The collection's dimension, fingerprint, identity and code_bytes; None when it is not there."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'collection'"):
            return None
        ((dimension, fingerprint, identity, code_bytes),) = self._rows("SELECT * FROM collection")
        return int(dimension), fingerprint, identity, code_bytes

    def _existing(self) -> tuple[int, str | None, str, int | None]:
        if (found := self._look()) is None:
            raise CollectionError(f"{self._where} holds no collection yet; create(dimension) makes one")
        return found

    def _read(self) -> tuple[Documents, _Lists]:
        """Every document in id order, so that the lower row is the lower id; read again after anybody's write."""
        with self._held():
            version = self._rows("PRAGMA data_version")[0][0] + self._database.total_changes
            if self._snapshot is None or self._snapshot[0] != version:
                dimension, fingerprint, _, code_bytes = self._existing()
                rows = self._rows("SELECT * FROM documents ORDER BY id")
                documents = _documents(rows, dimension, fingerprint, code_bytes)
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

    def _held(self) -> _Held:
        return _Held(self)


class _Held:
    """The connection, for this thread alone. Asked before the lock, which a forked child may never get; and after it,
    since another thread may have closed. A class, which costs a search less than a generator does."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Reference) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        self._engine.check_open()
        self._engine._lock.acquire()
        try:
            self._engine.check_open()
        except BaseException:
            self._engine._lock.release()
            raise

    def __exit__(self, *error: object) -> None:
        self._engine._lock.release()


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
        database = sqlite3.connect(path, isolation_level=None, timeout=timeout, check_same_thread=False)
        database.execute(f"PRAGMA page_size = {_PAGE}")  # of a new file; others keep theirs
        database.create_function("with_fields", 2, _with_fields, deterministic=True)
        if path:
            ours = database.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID
            if not ours and database.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise CollectionError(f"{path} is an SQLite file of somebody else's; use another path")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if ours and version not in (2, _VERSION):
                raise CollectionError(f"{path} was written by another version of sparsevec; make it again")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # a commit is on disk before it returns
            if ours and version == 2:
                _add_codes(database)
        return database


def _add_codes(database: sqlite3.Connection) -> None:
    """What a file of version 2 lacks, unless another process has just added it."""
    database.execute("BEGIN IMMEDIATE")
    with database:
        if database.execute("PRAGMA user_version").fetchone()[0] == 2:
            there = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'collection'").fetchone()
            for statement in _SINCE_2 if there else _SINCE_2[-1:]:
                database.execute(statement)


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


def _row(id_: Id, row: SparseVector, payload: Payload) -> tuple[bytes, bytes, bytes, str]:
    return _key(id_), row.indices.astype("<u4").tobytes(), row.values.astype("<f4").tobytes(), json.dumps(payload)


def _hits(documents: Documents, rows: Int64s, scores: Float64s, search: Search) -> Hits:
    return Hits(
        ids=tuple(documents.ids[row] for row in rows),
        scores=scores.astype(np.float32),
        payloads=tuple(documents.payloads[row] for row in rows) if search.with_payloads else None,
        vectors=documents.vectors[rows] if search.with_vectors else None,
        codes=documents.codes[rows] if search.with_codes and documents.codes is not None else None,
    )


def _read_on(documents: Documents, rows: Int64s, scores: Float64s, k: int, search: Search) -> Hits:
    """The k hits behind `search.after`, which says the exact score and the id of the last one: an order that no write
    to another document changes."""
    if search.after:
        score, key = _rank(search.after)
        row = bisect_left(documents.ids, key, key=_key)
        row += row < len(documents.ids) and _key(documents.ids[row]) == key  # the last one is still there
        behind = (scores < score) | ((scores == score) & (rows >= row))
        rows, scores = rows[behind], scores[behind]
    more = len(rows) > k
    hits = _hits(documents, rows[:k], scores[:k], search)
    return replace(hits, after=f"{float(scores[k - 1]).hex()} {_key(hits.ids[-1]).hex()}") if more else hits


def _rank(after: str) -> tuple[float, bytes]:
    try:
        score, key = after.split(" ")
        return float.fromhex(score), bytes.fromhex(key)
    except (ValueError, AttributeError):
        raise InvalidInput(f'expected after="" to begin, or the `after` of earlier hits, found {after!r:.80}') from None


def _documents(
    rows: Sequence[tuple[bytes, bytes, bytes, str, bytes | None]],
    dimension: int,
    fingerprint: str | None,
    code_bytes: int | None = None,
) -> Documents:
    indptr = np.concatenate(([0], np.cumsum([len(row[1]) // 4 for row in rows], dtype=np.int64)))
    indices = np.frombuffer(b"".join(row[1] for row in rows), "<u4")
    weights = np.frombuffer(b"".join(row[2] for row in rows), "<f4")
    vectors = SparseVectors(indptr, indices, weights, dimension, fingerprint=fingerprint)
    ids, payloads = tuple(_id(row[0]) for row in rows), tuple(json.loads(row[3]) for row in rows)
    if code_bytes is None:
        return Documents(ids, vectors, payloads)
    codes = np.frombuffer(b"".join(row[4] or bytes(code_bytes) for row in rows), np.uint8)
    return Documents(ids, vectors, payloads, codes=codes.reshape(len(rows), code_bytes))


def _with_dense(documents: Documents, name: str | None) -> Documents:
    """With the dense row that lies in each payload under that name."""
    if name is None:
        return documents
    return replace(documents, dense=tuple(dense_row(payload.get(name)) for payload in documents.payloads))


_contract: type[Adapter] = Reference
