"""sparsevec on PostgreSQL, by pgvector's type `sparsevec` (0.7 or later).

    adapter = sparsevec.connect("pgvector://localhost:5432/shop?table=products", user="me", password="...")

One table holds one collection: its comment says what kind (dimension, space, identity), `vector` scores, and `dims`,
an array under a GIN index, finds exactly the documents that share a dimension with a query (C5). The score is
pgvector's negative inner product, summed in float32. Filters are decided here, on payloads read in the order of the
ranking, so they mean what the contract says. A table that others made is refused: only collections of its own are kept.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Self
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

import sparsevec as sv
import sparsevec.contract.checks as checks
from sparsevec.contract.adapter import Failure, Missing, UInt8s, Version, says_the_contract
from sparsevec.contract.checks import Id, Payload, Queries
from sparsevec.contract.deadlines import remaining
from sparsevec.contract.filters import Where, conditions, matches
from sparsevec.contract.operations import Connection
from sparsevec.contract.searches import Search, rescored
from sparsevec.contract.urls import Url
from sparsevec.errors import BackendDown, BackendUnsupported, CollectionError, InvalidInput, OutOfLimits

__all__ = ["PgvectorAdapter"]

_WEIGHTS = 16_000  # of one vector, at most
_DIMENSIONS = 1_000_000_000
_PATIENCE = 30.0  # seconds for a statement
_PAGE = 500  # rows of a ranking that are read at a time
_COLUMNS = sql.SQL("id, vector, payload, code")


class _About(NamedTuple):
    """What the comment of the table says."""

    dimension: int
    fingerprint: str | None
    identity: str
    code_bytes: int | None


@says_the_contract
class PgvectorAdapter(Connection):
    """One table of a PostgreSQL database. Several threads may use it: one connection, held by one call at a time."""

    def __init__(self, conninfo: str = "", table: str = "vectors", **credentials: Any) -> None:
        """`conninfo` and `credentials` are psycopg's. Raises BackendDown, and BackendUnsupported without pgvector."""
        super().__init__(f"table {table}")
        self._table, self._lock, self._named = sql.Identifier(table), threading.RLock(), table
        with _client_errors(self._place):
            self._client = psycopg.connect(conninfo, autocommit=True, **credentials)
            self._client.execute("CREATE EXTENSION IF NOT EXISTS vector")
            row = self._client.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        self._version = f"pgvector {row[0] if row else '?'} (PostgreSQL {self._client.info.server_version // 10_000})"

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        url.expect_options("table")
        known: dict[str, Any] = {"host": url.host, "port": url.port, "dbname": url.path}
        given = {name: value for name, value in known.items() if value}
        return cls(table=url.option("table", "vectors"), **given, **credentials)

    def info(self) -> sv.Info:
        found = self._look()
        can = sv.Capabilities(request_bytes=64 * 2**20)
        if found is None:
            return sv.Info(self._version, can, False)
        return sv.Info(self._version, can, True, True, *found[:3], code_bytes=found.code_bytes)

    def check(self) -> list[sv.Finding]:
        fine = sv.Finding("fine", "version", self._version)
        if self._there() and self._look() is None:
            return [fine, sv.Finding("blocking", "table", f"{self._place} is of others", "name another: ?table=…")]
        return [fine, sv.Finding("fine", "table", f"{self._place} is ours, or not there yet")]

    def create(self, dimension: int, *, fingerprint: str | None = None, code_bytes: int | None = None) -> None:
        dimension = checks.check_making(dimension, fingerprint)
        about = _About(dimension, fingerprint, uuid4().hex, checks.check_code_bytes(code_bytes))
        if dimension > _DIMENSIONS:
            raise OutOfLimits(f"pgvector holds at most {_DIMENSIONS:,} dimensions, found {dimension:,}")
        with self._transaction() as run:
            run("SELECT pg_advisory_xact_lock(hashtext(%s))", [self._named])  # of two at once, one waits
            if self._there():
                raise CollectionError(f"{self._place} is there already; drop() it first, or name another table")
            kind = f"sparsevec({dimension})"
            run(sql.SQL(
                "CREATE TABLE {} (id bytea PRIMARY KEY, vector {} NOT NULL, dims bigint[] NOT NULL, "
                "payload text NOT NULL, code bytea)"
            ).format(self._table, sql.SQL(kind)))  # fmt: skip
            run(sql.SQL("CREATE INDEX ON {} USING gin (dims)").format(self._table))
            self._say(about)

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: sv.SparseVectors,
        payloads: Sequence[Payload] | None = None,
        *,
        versions: Sequence[Version | None] | None = None,
        routing: Sequence[str | None] | None = None,
        missing: Missing | None = None,
        codes: UInt8s | None = None,
    ) -> sv.Written:
        checks.check_options(self._version, sv.Capabilities(), versions=versions, routing=routing, missing=missing)
        about = self._existing()
        ids, payloads = checks.check_batch(ids, vectors, payloads, about.dimension)
        checks.check_space(vectors, about.fingerprint)
        kept = checks.check_codes(codes, vectors, about.code_bytes)
        long = np.flatnonzero(vectors.row_nnz > _WEIGHTS).tolist()
        failed = {ids[row]: Failure(f"{vectors.row_nnz[row]:,} weights, at most {_WEIGHTS:,} fit") for row in long}
        skipped: dict[Id, str] = {}
        with self._transaction() as run:
            self._adopt(vectors, run)
            query = sql.SQL("SELECT id, payload FROM {} WHERE id = ANY(%s) FOR UPDATE").format(self._table)
            there = {bytes(key): text for key, text in run(query, [[_key(id_) for id_ in ids]])}
            rows = []
            for number, (id_, row, payload) in enumerate(zip(ids, vectors, payloads, strict=True)):
                key = _key(id_)
                if id_ in failed:
                    continue
                if key not in there and missing == "fail":
                    failed[id_] = Failure("it is not there", kind="missing")
                elif key not in there and missing == "skip":
                    skipped[id_] = "it is not there"
                else:
                    fields = {**json.loads(there.get(key, "{}")), **payload}
                    code = None if kept is None else kept[number].tobytes()
                    rows.append((key, _wire(row, about.dimension), row.indices.tolist(), json.dumps(fields), code))
            insert = "INSERT INTO {} VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET " + ", ".join(
                f"{name} = excluded.{name}" for name in ("vector", "dims", "payload", "code")
            )
            with self._client.cursor() as cursor:
                cursor.executemany(sql.SQL(insert).format(self._table), rows)
        written = tuple(id_ for id_ in ids if id_ not in failed and id_ not in skipped)
        return sv.Written(written, skipped, failed)

    def _adopt(self, vectors: sv.SparseVectors, run: Callable[..., Any]) -> None:
        """The first vectors say which space the collection is of (C18); others of another space wait for that."""
        run(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(self._table))
        about = self._existing()
        empty = not run(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(self._table)).fetchall()
        if about.fingerprint is None and empty and vectors.fingerprint is not None:
            self._say(about._replace(fingerprint=vectors.fingerprint))
        checks.check_space(vectors, self._existing().fingerprint)

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
    ) -> list[sv.Hits]:
        search = Search(where, with_payloads, with_vectors, with_codes, rescore, candidates, after)
        depth, about = search.depth(k), self._existing()
        asked = checks.check_queries(queries, about.dimension, about.fingerprint)
        second = search.second_look(asked, about.dimension, about.fingerprint)
        search.check_codes(about.code_bytes)
        if asked.row_nnz.max(initial=0) > _WEIGHTS:
            raise OutOfLimits(f"a query has {asked.row_nnz.max():,} weights, pgvector takes {_WEIGHTS:,}")
        conditions(where)  # refused before anything is asked
        if second is None:
            return [self._ranked(query, depth, search, about) for query in asked]
        bringing = replace(search, with_vectors=True)
        return [
            rescored(self._ranked(query, depth, bringing, about), look, k, with_vectors=with_vectors)
            for query, look in zip(asked, second, strict=True)
        ]

    def _ranked(self, query: sv.SparseVector, k: int, search: Search, about: _About) -> sv.Hits:
        """The k best that match, read from the server a page of the ranking at a time."""
        wanted = conditions(search.where)
        text, dims = _wire(query, about.dimension), query.indices.tolist()
        behind, known = _place(search.after)
        ranking = sql.SQL(
            "SELECT {}, score FROM "
            "(SELECT *, -(vector <#> %s::sparsevec) AS score FROM {} WHERE dims && %s::bigint[]) AS ranked "
            "WHERE %s::float8 IS NULL OR score < %s OR (score = %s AND id > %s) ORDER BY score DESC, id LIMIT %s"
        ).format(_COLUMNS, self._table)
        found: list[Any] = []
        while len(query) and len(found) <= k:
            some = self._rows(ranking, [text, dims, behind, behind, behind, known, max(_PAGE, k + 1)])
            found += [row for row in some if matches(json.loads(row[2]), wanted)] if wanted else some
            if len(some) < max(_PAGE, k + 1):
                break
            behind, known = some[-1][4], bytes(some[-1][0])
        documents = _documents(found[:k], about)
        return sv.Hits(
            documents.ids,
            np.array([row[4] for row in found[:k]], np.float32),
            documents.payloads if search.with_payloads else None,
            documents.vectors if search.with_vectors else None,
            documents.codes if search.with_codes else None,
            f"{found[k - 1][4].hex()} {bytes(found[k - 1][0]).hex()}"
            if search.after is not None and len(found) > k
            else None,
        )

    def fetch(self, ids: Sequence[Id], *, dense: str | None = None) -> sv.Documents:
        about, keys = self._existing(), [_key(id_) for id_ in checks.check_ids(ids)]
        found = self._rows(self._select("WHERE id = ANY(%s)"), [keys])
        there = {bytes(row[0]): row for row in found}
        return _with_dense(_documents([there[key] for key in keys if key in there], about), dense)

    def matching(self, where: Where, most: int, *, dense: str | None = None) -> sv.Documents | None:
        checks.check_k(most, "most")
        about, wanted = self._existing(), conditions(where)
        found = [row for row in self._rows(self._select("ORDER BY id")) if matches(json.loads(row[2]), wanted)]
        return None if len(found) > most else _with_dense(_documents(found, about), dense)

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
    ) -> Iterator[sv.Page]:
        """In the order of ids; `after` is the last id of a page, so a scan goes on at any time, from any process."""
        behind, size, wanted, more = _key_of(after), checks.check_size(size), conditions(where), True
        while more:
            about = self._existing()
            rows = self._rows(self._select("WHERE id > %s ORDER BY id LIMIT %s"), [behind, size + 1])
            if not rows:
                return
            rows, more = rows[:size], len(rows) > size
            behind = bytes(rows[-1][0])
            if not (rows := [row for row in rows if matches(json.loads(row[2]), wanted)]):
                continue
            found = _documents(rows, about)
            yield sv.Page(
                ids=found.ids,
                after=behind.hex() if more else None,
                holds=np.ones(len(rows), bool),
                vectors=found.vectors if vectors else None,
                payloads=found.payloads if payloads else None,
                dense=None
                if dense is None
                else tuple(checks.dense_row(payload.get(dense)) for payload in found.payloads),
                codes=found.codes if codes else None,
            )

    def delete(self, ids: Sequence[Id] | None = None, *, where: Where | None = None) -> None:
        self._existing()
        if (ids := checks.ids_or_where(ids, where)) is None:
            ids = [id_ for page in self.scan(where=where) for id_ in page.ids]
        query = sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(self._table)
        with self._transaction() as run:
            run(query, [[_key(id_) for id_ in checks.check_ids(ids)]])

    def count(self, where: Where | None = None) -> int:
        self._existing()
        if where is not None:
            return sum(map(len, self.scan(where=where)))
        return int(self._rows(sql.SQL("SELECT count(*) FROM {}").format(self._table))[0][0])

    def drop(self) -> None:
        with self._transaction() as run:
            if self._look() is not None:
                run(sql.SQL("DROP TABLE {}").format(self._table))

    def close(self) -> None:
        if self._close_once():
            with self._lock:
                self._client.close()

    def stored(self, vectors: sv.SparseVectors) -> sv.SparseVectors:
        return vectors

    def slack(self, vectors: sv.SparseVectors) -> npt.NDArray[np.float32]:
        return np.zeros(vectors.nnz, np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- PostgreSQL

    def _there(self) -> bool:
        return bool(self._rows("SELECT 1 WHERE to_regclass(%s) IS NOT NULL", [self._table.as_string(None)]))

    def _look(self) -> _About | None:
        """What the table's comment says; None when it is not there, or not ours."""
        query = "SELECT obj_description(to_regclass(%s), 'pg_class')"
        ((said,),) = self._rows(query, [self._table.as_string(None)])
        if said is None or not said.startswith("sparsevec "):
            return None
        return _About(**json.loads(said.partition(" ")[2]))

    def _existing(self) -> _About:
        if (found := self._look()) is not None:
            return found
        if self._there():
            raise CollectionError(f"{self._place} was made by others; name another table with ?table=…")
        raise CollectionError(f"{self._place} holds no collection yet; create(dimension) makes one")

    def _say(self, about: _About) -> None:
        comment = sql.Literal("sparsevec " + json.dumps(about._asdict()))
        self._client.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(self._table, comment))

    def _select(self, rest: str) -> sql.Composed:
        return sql.SQL("SELECT {} FROM {} ").format(_COLUMNS, self._table) + sql.SQL(rest)

    def _rows(self, query: Any, values: Sequence[Any] = ()) -> list[Any]:
        with self._held():
            self._limit()
            return self._client.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., Any]]:
        """All of it, on disk when it ends, or nothing."""
        with self._held(), self._client.transaction():
            self._limit()
            yield self._client.execute

    def _limit(self) -> None:
        self._client.execute(f"SET statement_timeout = {max(1, int(1000 * remaining(_PATIENCE)))}")

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.check_open()
        with self._lock, _client_errors(self._place):
            self.check_open()
            yield


@contextmanager
def _client_errors(place: str) -> Iterator[None]:
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise BackendDown(f"PostgreSQL, {place}: {error}") from error
    except psycopg.Error as error:
        raise BackendUnsupported(f"PostgreSQL refused, {place}: {error}") from error


def _wire(row: sv.SparseVector, dimension: int) -> str:
    """pgvector counts dimensions from 1; nine digits bring a float32 back."""
    pairs = zip(row.indices.tolist(), row.values.tolist(), strict=True)
    return "{" + ",".join(f"{index + 1}:{value:.9g}" for index, value in pairs) + f"}}/{dimension}"


def _unwire(text: str) -> dict[int, float]:
    inside = text[1 : text.index("}")]
    parts = (pair.split(":") for pair in inside.split(",")) if inside else ()
    return {int(index) - 1: float(value) for index, value in parts}


def _key(id_: Id) -> bytes:
    """Bytes that sort as ids do: ints by value, then strings (C10)."""
    return b"s" + id_.encode() if isinstance(id_, str) else b"i" + id_.to_bytes(8, "big")


def _id(key: bytes) -> Id:
    return key[1:].decode() if key[:1] == b"s" else int.from_bytes(key[1:], "big")


def _documents(rows: Sequence[Any], about: _About) -> sv.Documents:
    vectors = sv.SparseVectors.from_rows([_unwire(row[1]) for row in rows], dimension=about.dimension)
    codes = None
    if about.code_bytes is not None:
        codes = np.frombuffer(b"".join(row[3] for row in rows), np.uint8).reshape(len(rows), about.code_bytes)
    ids, payloads = tuple(_id(bytes(row[0])) for row in rows), tuple(json.loads(row[2]) for row in rows)
    return sv.Documents(ids, vectors.with_fingerprint(about.fingerprint), payloads, codes=codes)


def _with_dense(documents: sv.Documents, name: str | None) -> sv.Documents:
    if name is None:
        return documents
    return replace(documents, dense=tuple(checks.dense_row(payload.get(name)) for payload in documents.payloads))


def _place(after: str | None) -> tuple[float | None, bytes]:
    try:
        score, key = after.split(" ") if after else ("", "")
        return (float.fromhex(score), bytes.fromhex(key)) if score else (None, b"")
    except (ValueError, AttributeError):
        raise InvalidInput(f'expected after="" to begin, or the `after` of earlier hits, found {after!r:.80}') from None


def _key_of(after: str | None) -> bytes:
    try:
        return b"" if after is None else bytes.fromhex(after)
    except (ValueError, TypeError):
        raise InvalidInput(f"expected the `after` of an earlier page, found {after!r:.80}") from None


_contract: type[sv.Adapter] = PgvectorAdapter
