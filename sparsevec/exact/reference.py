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
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
    check_making,
    check_options,
    check_queries,
    check_size,
    check_space,
    dense_row,
    ids_or_where,
)
from sparsevec.contract.filters import Where, conditions, predicate, which_match
from sparsevec.contract.searches import Search, as_given, rescored
from sparsevec.contract.urls import Url
from sparsevec.errors import CollectionError, InvalidInput
from sparsevec.exact.database import SCHEMA, UPSERT, Database
from sparsevec.exact.rows import documents_of, key_of, place_of, read_place, row_of, with_dense
from sparsevec.postings import Float64s, Mask, PostingLists
from sparsevec.vectors import Float32s, Int64s, SparseVector, SparseVectors

__all__ = ["Reference"]


class _Lists(Protocol):
    def search(self, query: SparseVector, k: int, allowed: Mask | None = None) -> tuple[Int64s, Float64s]: ...


@says_the_contract
class Reference(Database):
    """The exact engine behind `reference:` (gone when it is closed) and `reference:PATH` (one SQLite file).

    Several threads may use it: SQLite has one connection, held by one call at a time; scoring goes on beside it.
    Several processes may open one file: each sees what the others have written at its next call.
    """

    _make_lists: Callable[[SparseVectors], _Lists] = PostingLists
    _engine = "reference"
    _tables: tuple[str, ...] = ("documents", "collection")

    def __init__(self, path: str = "") -> None:
        """Open the file at `path`, which `create` makes. Raises CollectionError when it is not one of ours."""
        super().__init__(path)
        self._snapshot: tuple[int, Documents, _Lists] | None = None

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        url.expect_options()
        if credentials or url.host or url.variant:
            raise InvalidInput(
                f"expected `{cls._engine}:` or `{cls._engine}:PATH`, without host, options and credentials"
            )
        return cls(url.path)

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
        about = "no collection yet" if found is None else f"a collection of dimension {found.dimension}"
        return [Finding("fine", "version", self._name), Finding("fine", "collection", f"{self._where} holds {about}")]

    def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        code_bytes = check_code_bytes(code_bytes)
        dimension = check_making(dimension, fingerprint)
        self._open(make=True)
        with self._transaction():
            if self._look() is not None:
                raise CollectionError(f"{self._where} holds a collection already; drop() it first, or use another path")
            for statement in SCHEMA:
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
        dimension, fingerprint, identity, code_bytes = self._existing()
        ids, payloads = check_batch(ids, vectors, payloads, dimension)
        check_space(vectors, fingerprint)
        kept = check_codes(codes, vectors, code_bytes)
        bytes_ = [None] * len(ids) if kept is None else [code.tobytes() for code in kept]
        rows = [row_of(*document) for document in zip(ids, vectors, payloads, bytes_, strict=True)]
        with self._transaction():
            if self._existing().identity != identity:
                raise CollectionError(f"{self._where} was dropped and made anew during this write; write it again")
            if fingerprint is None and vectors.fingerprint is not None:
                self._adopt(vectors)
            absent = self._absent(ids) if missing in ("fail", "skip") else set()
            self._database.executemany(UPSERT, [row for id_, row in zip(ids, rows, strict=True) if id_ not in absent])
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
        check_space(vectors, self._existing().fingerprint)

    def _absent(self, ids: Sequence[Id]) -> set[Id]:
        known = "SELECT 1 FROM documents WHERE id = ?"
        return {id_ for id_ in ids if self._execute(known, (key_of(id_),)).fetchone() is None}

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
        allowed = which_match(documents.payloads, wanted) if wanted else None
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
            there = [row for id_ in check_ids(ids) for row in self._rows(select, (key_of(id_),))]
        with self._legible():
            found = documents_of(there, dimension, fingerprint, code_bytes)
        return with_dense(found, dense)

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> Documents | None:
        check_k(most, "most")
        self._existing()
        met = predicate(conditions(where))
        documents, _ = self._read()
        rows = [row for row, payload in enumerate(documents.payloads) if met(payload)]
        if len(rows) > most:
            return None
        ids, payloads = tuple(documents.ids[row] for row in rows), tuple(documents.payloads[row] for row in rows)
        codes = None if documents.codes is None else documents.codes[rows]
        return with_dense(Documents(ids, documents.vectors[np.array(rows, np.int64)], payloads, codes=codes), dense)

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
        met = predicate(wanted)
        while more:
            dimension, fingerprint, _, code_bytes = self._existing()
            limit = min(size + 1, sys.maxsize)  # SQLite knows none above
            rows = self._rows("SELECT * FROM documents WHERE id > ? ORDER BY id LIMIT ?", (behind, limit))
            if not rows:
                return
            rows, more = rows[:size], len(rows) > size
            behind = rows[-1][0]
            with self._legible():
                rows = [row for row in rows if met(json.loads(row[3]))] if wanted else rows
                found = documents_of(rows, dimension, fingerprint, code_bytes if codes else None)
            if not rows:
                continue
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
        if (ids := ids_or_where(ids, where)) is None:
            ids = [id_ for page in self.scan(where=where) for id_ in page.ids]
        keys = [(key_of(id_),) for id_ in check_ids(ids)]
        with self._transaction():
            self._existing()
            self._database.executemany("DELETE FROM documents WHERE id = ?", keys)

    def count(self, where: Where | None = None) -> int:
        self._existing()
        if where is not None:
            return sum(map(len, self.scan(where=where)))
        return int(self._rows("SELECT count(*) FROM documents")[0][0])

    def drop(self) -> None:
        if self._open() is None:
            return
        with self._transaction():
            for table in self._tables:
                self._execute(f"DROP TABLE IF EXISTS {table}")

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return vectors

    def slack(self, vectors: SparseVectors) -> Float32s:
        return np.zeros(vectors.nnz, np.float32)

    def _read(self) -> tuple[Documents, _Lists]:
        """Every document in id order, so that the lower row is the lower id; read again after anybody's write."""
        with self._held():
            version = self._rows("PRAGMA data_version")[0][0] + self._database.total_changes
            if self._snapshot is None or self._snapshot[0] != version:
                with self._reading():
                    dimension, fingerprint, _, code_bytes = self._existing()
                    rows = self._rows("SELECT * FROM documents ORDER BY id")
                with self._legible():
                    documents = documents_of(rows, dimension, fingerprint, code_bytes)
                self._snapshot = version, documents, type(self)._make_lists(documents.vectors)
            return self._snapshot[1:]


def _place(after: str | None) -> bytes:
    try:
        return b"" if after is None else bytes.fromhex(after)
    except (ValueError, TypeError):
        raise InvalidInput(f"expected the `after` of an earlier page, found {after!r:.80}") from None


def _hits(documents: Documents, rows: Int64s, scores: Float64s, search: Search) -> Hits:
    return Hits(
        ids=tuple(documents.ids[row] for row in rows),
        scores=as_given(scores),
        payloads=tuple(documents.payloads[row] for row in rows) if search.with_payloads else None,
        vectors=documents.vectors[rows] if search.with_vectors else None,
        codes=documents.codes[rows] if search.with_codes and documents.codes is not None else None,
    )


def _read_on(documents: Documents, rows: Int64s, scores: Float64s, k: int, search: Search) -> Hits:
    """The k hits behind `search.after`, which says the exact score and the id of the last one: an order that no write
    to another document changes."""
    if search.after:
        score, key = read_place(search.after)
        row = bisect_left(documents.ids, key, key=key_of)
        row += row < len(documents.ids) and key_of(documents.ids[row]) == key  # the last one is still there
        behind = (scores < score) | ((scores == score) & (rows >= row))
        rows, scores = rows[behind], scores[behind]
    more = len(rows) > k
    hits = _hits(documents, rows[:k], scores[:k], search)
    return replace(hits, after=place_of(float(scores[k - 1]), key_of(hits.ids[-1]))) if more else hits


_contract: type[Adapter] = Reference
