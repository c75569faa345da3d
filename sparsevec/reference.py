"""`Reference`: the judge. It says what the exact answer is, and is an adapter like any other.

The score of a hit is *defined*: float32 weights, products and sums in float64, added in ascending dimension order. A
float64 holds the product of two float32 exactly, so nothing but that order matters, and the score is the same bit for
bit whatever the batch, the block or the thread. Ties: score descending, id ascending (ints before strings).

SQLite holds the documents, in memory or in a file that survives kill -9; numpy scores a snapshot of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from sparsevec.adapter import (
    Adapter,
    Documents,
    Hits,
    Id,
    Payload,
    Url,
    Where,
    Written,
    check_batch,
    check_dimension,
    check_ids,
    check_k,
    conditions,
    matches,
)
from sparsevec.errors import CollectionError, InvalidInput, StorageFailed
from sparsevec.vectors import Float32s, Int64s, SparseVector, SparseVectors

__all__ = ["PostingLists", "Reference", "best", "shared"]

Float64s: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

_APPLICATION_ID = 0x53505643  # "SPVC", in the header of every file of ours
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    "CREATE TABLE collection (dimension INTEGER NOT NULL)",
    "CREATE TABLE documents (id BLOB PRIMARY KEY, indices BLOB, weights BLOB, payload TEXT) WITHOUT ROWID",
)
_UPSERT = """
INSERT INTO documents VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (id) DO UPDATE SET indices = ?2, weights = ?3, payload = with_fields(payload, ?4)
"""


class PostingLists:
    """`documents` (n, dimension) by dimension, to be scored exactly."""

    def __init__(self, documents: SparseVectors) -> None:
        rows = np.repeat(np.arange(len(documents)), documents.row_nnz)
        order = np.argsort(documents.indices, kind="stable")
        self._n = len(documents)
        self._dimension = documents.dimension
        self._dimensions, starts = np.unique(documents.indices[order], return_index=True)
        self._ends = np.append(starts, len(order)).astype(np.int64)
        self._rows, self._weights = rows[order], documents.values[order].astype(np.float64)

    def scores(self, query: SparseVector) -> tuple[Int64s, Float64s]:
        """The rows (m,) that share a dimension with `query`, ascending, and their exact scores (m,)."""
        at, query_weights = shared(self._dimensions, query)
        lists = [slice(start, end) for start, end in zip(self._ends[at], self._ends[at + 1], strict=True)]
        if not lists:
            return np.empty(0, np.int64), np.empty(0)
        rows = np.concatenate([self._rows[postings] for postings in lists])
        products = np.concatenate([float(q) * self._weights[p] for q, p in zip(query_weights, lists, strict=True)])
        sums = np.bincount(rows, weights=products, minlength=self._n)  # adds in the order given: dimensions ascending
        touched = np.flatnonzero(np.bincount(rows, minlength=self._n))
        return touched.astype(np.int64, copy=False), sums[touched].astype(np.float64, copy=False)

    def search(self, query: SparseVector, k: int, allowed: Mask | None = None) -> tuple[Int64s, Float64s]:
        """The k best rows, of those that the mask (n,) allows, and their exact scores: higher first, then lower row."""
        rows, scores = self.scores(query)
        if allowed is not None:
            rows, scores = rows[allowed[rows]], scores[allowed[rows]]
        top = best(scores, k)
        return rows[top], scores[top]


def shared(dimensions: npt.NDArray[Any], query: SparseVector) -> tuple[Int64s, Float32s]:
    """Where those indices of `query` that do stand in the ascending `dimensions`, and their weights."""
    at = np.searchsorted(dimensions, query.indices)
    known = at < len(dimensions)
    known[known] = dimensions[at[known]] == query.indices[known]
    return at[known], query.values[known]


def best(scores: Float64s, k: int) -> Int64s:
    """Positions of the k best of (m,) scores: higher first, then the lower position."""
    candidates = np.arange(len(scores))
    if k < len(scores):
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= threshold)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]


class _Lists(Protocol):
    def search(self, query: SparseVector, k: int, allowed: Mask | None = None) -> tuple[Int64s, Float64s]: ...


class Reference:
    """The exact engine behind `reference:` (in memory) and `reference:PATH` (one SQLite file)."""

    _make_lists: Callable[[SparseVectors], _Lists] = PostingLists

    def __init__(self, path: str = "") -> None:
        """Open the file at `path`, made when missing. Raises CollectionError when it is not one of ours."""
        self._path = path
        self._database = _open(path)
        self._snapshot: tuple[int, Documents, _Lists] | None = None

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Reference:
        if credentials or url.host or url.variant:
            raise InvalidInput("a reference url is `reference:` or `reference:PATH`, without a host and credentials")
        return cls(url.path)

    @property
    def name(self) -> str:
        return f"reference (SQLite {sqlite3.sqlite_version}, numpy {np.__version__})"

    @property
    def dimension(self) -> int | None:
        if not self._execute("SELECT 1 FROM sqlite_master WHERE name = 'collection'").fetchone():
            return None
        return int(self._execute("SELECT dimension FROM collection").fetchone()[0])

    def create(self, dimension: int) -> None:
        SparseVectors([0], [], [], dimension)  # refuses a dimension that vectors could not have
        if self.dimension is not None:
            raise CollectionError(f"{self._place} holds a collection already; drop() it first, or use another path")
        with self._transaction():
            for statement in _SCHEMA:
                self._execute(statement)
            self._execute("INSERT INTO collection VALUES (?)", (dimension,))

    def upsert(self, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload] | None = None) -> Written:
        ids, payloads = check_batch(ids, vectors, payloads, self._existing())
        rows = [
            (_key(id_), row.indices.astype("<u4").tobytes(), row.values.astype("<f4").tobytes(), json.dumps(payload))
            for id_, row, payload in zip(ids, vectors, payloads, strict=True)
        ]
        with self._transaction():
            self._database.executemany(_UPSERT, rows)
        return Written(tuple(ids))

    def search(
        self, queries: SparseVectors, k: int, *, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        check_k(k)
        check_dimension(queries, self._existing())
        wanted = conditions(where)
        documents, lists = self._read()
        allowed = np.array([matches(p, wanted) for p in documents.payloads], bool) if wanted else None
        return [_hits(documents, *lists.search(query, k, allowed), with_payloads) for query in queries]

    def fetch(self, ids: Sequence[Id]) -> Documents:
        dimension, select = self._existing(), "SELECT * FROM documents WHERE id = ?"
        found = [self._execute(select, (_key(id_),)).fetchone() for id_ in check_ids(ids)]
        return _documents([row for row in found if row is not None], dimension)

    def delete(self, ids: Sequence[Id]) -> None:
        self._existing()
        with self._transaction():
            self._database.executemany("DELETE FROM documents WHERE id = ?", [(_key(id_),) for id_ in check_ids(ids)])

    def count(self) -> int:
        self._existing()
        return int(self._execute("SELECT count(*) FROM documents").fetchone()[0])

    def drop(self) -> None:
        with self._transaction():
            self._execute("DROP TABLE IF EXISTS documents")
            self._execute("DROP TABLE IF EXISTS collection")

    def close(self) -> None:
        self._database.close()

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return vectors

    def slack(self, vectors: SparseVectors) -> Float32s:
        return np.zeros(vectors.nnz, np.float32)

    # ---- SQLite

    @property
    def _place(self) -> str:
        return self._path or "this reference"

    def _existing(self) -> int:
        if (dimension := self.dimension) is None:
            raise CollectionError(f"{self._place} holds no collection yet; create(dimension) makes one")
        return dimension

    def _read(self) -> tuple[Documents, _Lists]:
        """Every document in id order, so that the lower row is the lower id; read again after anybody's write."""
        version = self._execute("PRAGMA data_version").fetchone()[0] + self._database.total_changes
        if self._snapshot is None or self._snapshot[0] != version:
            rows = self._execute("SELECT * FROM documents ORDER BY id").fetchall()
            documents = _documents(rows, self._existing())
            self._snapshot = version, documents, type(self)._make_lists(documents.vectors)
        return self._snapshot[1:]

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        with _storage_errors(self._place):
            return self._database.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it, on disk when it ends, or nothing."""
        with _storage_errors(self._place):
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                yield


def _open(path: str) -> sqlite3.Connection:
    if path and not Path(path).parent.is_dir():
        raise CollectionError(f"the folder of {path} does not exist; make it first")
    with _storage_errors(path):
        database = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=30)
        database.create_function("with_fields", 2, _with_fields, deterministic=True)
        if path:
            ours = database.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID
            if not ours and database.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise CollectionError(f"{path} is an SQLite file of somebody else's; use another path")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # a commit is on disk before it returns
        return database


@contextmanager
def _storage_errors(place: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            raise CollectionError(f"{place} is not a reference file; use another path") from error
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


def _documents(rows: Sequence[tuple[bytes, bytes, bytes, str]], dimension: int) -> Documents:
    indptr = np.concatenate(([0], np.cumsum([len(indices) // 4 for _, indices, _, _ in rows], dtype=np.int64)))
    indices = np.frombuffer(b"".join(row[1] for row in rows), "<u4")
    weights = np.frombuffer(b"".join(row[2] for row in rows), "<f4")
    vectors = SparseVectors(indptr, indices, weights, dimension)
    return Documents(tuple(_id(row[0]) for row in rows), vectors, tuple(json.loads(row[3]) for row in rows))


_contract: type[Adapter] = Reference
