"""The contract's clauses as conversations with a Qdrant server; `requests` says what a request is.

Whose points. In a collection that others made, only `update_vectors`, `set_payload` and `delete_vectors` are sent: they
touch our vector and the fields that are given, and never make a point. A server answers 404 with the name of one id
that is not there, and has written the others; that id is missing, and the rest is sent again, which changes nothing
twice. Nothing is looked up beforehand, so nothing can change between a look and a write. With `missing="create"`, and
in collections of ours, a bare `insert_only` goes first in the same batch: it leaves a point that is there wholly alone.
Servers before 1.17 ignore `insert_only` and write the whole point, so their version is read first: others' collections
refuse `missing="create"` there, and ours look up which points are known.

A null. Qdrant takes a null in a payload as an order to remove the field. In others' collections that is what a null
does; in ours the payload is read, merged and written whole, for these documents only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Documents, Failure, Finding, Hits, Info, Missing, Page, Version, Written
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
    check_space,
)
from sparsevec.contract.filters import Where, conditions, matches
from sparsevec.contract.operations import Operation
from sparsevec.errors import (
    BackendDown,
    BackendUnsupported,
    CollectionError,
    InvalidInput,
    OutOfLimits,
)
from sparsevec.vectors import MAX_DIMENSION, Float32s, SparseVector, SparseVectors

from . import rounding
from .collection import MADE, Collection, Note, read
from .errors import IndexMissing, PointMissing
from .filters import Asked, to_wire
from .findings import findings
from .ids import ORIGINAL, Point, id_from_wire, id_to_wire, original
from .payloads import dense_from_wire, has_null, payload_from_wire, vector_to_wire, vectors_from_wire
from .requests import Request, encode

__all__ = ["REQUEST_BYTES", "QdrantOperations"]

LOWEST = (1, 16)  # the lowest version supported: collections carry metadata
_INSERTS_ONLY = (1, 17)
_ADDS_VECTORS = (1, 18)
REQUEST_BYTES = 32 * 2**20  # the server's own limit, `service.max_request_size_mb`
_WEIGHT_BYTES = 36  # of JSON: an index of at most 10 digits, a float64 of at most 24 characters, two commas
_POINT_BYTES = 1024  # of JSON around them: names, and the point in up to three operations
_QUERIES = 64  # to a request
_FETCHED = 1000  # documents to a request
_LARGE_K = 10_000  # beyond it the server is asked for no more than it has
_CANDIDATES = 65_536  # documents that are looked at for one query, where a filter must be decided here
_TRIES = 5  # of one write whose points are deleted meanwhile


@dataclass(frozen=True, slots=True)
class _Document:
    id: Id
    point: Point
    row: SparseVector
    payload: Payload


class QdrantOperations:
    """The sparse vector `vector` of the collection `name`. Several threads, or tasks, may run its conversations: what
    they share are two values that are replaced whole, what was last read of the collection and the server's version."""

    def __init__(self, name: str, vector: str, *, backend: str = "qdrant", request_bytes: int = REQUEST_BYTES) -> None:
        """`request_bytes`: what the server, or a proxy before it, takes. `backend`: what it is called in reports."""
        self._name, self._vector, self._backend = name, vector, backend
        self._can = Capabilities(request_bytes=request_bytes)
        self._request_bytes = request_bytes
        self._seen: Collection | None = None
        self._server: str | None = None
        self._foreign = False  # holds vectors without a fingerprint, so none is adopted any more

    # ---- what is there

    def info(self) -> Operation[Info]:
        version = yield from self._version(anew=True)
        backend, found = f"{self._backend} {version}", (yield from self._look())
        if found is None or self._vector not in found.sparse:
            return Info(backend, self._can, exists=False, ours=found is None or found.ours)
        if (note := found.note_of(self._vector)) is None:
            return Info(backend, self._can, exists=True, ours=found.ours)
        return Info(backend, self._can, True, found.ours, note.dimension, note.fingerprint, note.identity or None)

    def check(self) -> Operation[list[Finding]]:
        version = yield from self._version(anew=True)
        return findings(self._backend, version, self._name, self._vector, (yield from self._look()))

    def create(self, dimension: int, fingerprint: str | None) -> Operation[None]:
        SparseVectors([0], [], [], dimension)  # refuses a dimension that vectors could not have
        note = Note.new(self._vector, dimension, fingerprint)
        if (found := (yield from self._look())) is None:
            yield from self._need(LOWEST, "collections that carry metadata")
            yield from self._ask(
                "create_collection",
                vectors={},
                sparse_vectors={self._vector: {}},
                metadata={MADE: {"made": True}, **note.metadata()},
            )
        else:
            yield from self._add(found, note)
        self._seen, self._foreign = None, False

    def _add(self, found: Collection, note: Note) -> Operation[None]:
        """To a collection that is there. A server makes a vector twice without a word, so the note, whose key is new
        for every `create`, goes first: who finds another's beside it gives way."""
        if found.has(self._vector):
            raise CollectionError(
                f"collection {self._name} has a vector {self._vector!r} already; drop() it first, or use another name"
            )
        yield from self._need(
            _ADDS_VECTORS,
            f"adding a vector to the collection {self._name}; until then make a new collection with both vectors, "
            "copy the points and switch an alias",
        )
        left: dict[str, Any] = {old.key: None for old in found.notes_of(self._vector) if old.stale}
        yield from self._ask("update_collection", metadata={**left, **note.metadata()})
        now = yield from self._look()
        if now is None or now.has(self._vector) or len(now.notes_of(self._vector)) > 1:
            yield from self._ask("update_collection", metadata={note.key: None})
            raise CollectionError(
                f"somebody else is making the vector {self._vector!r} of collection {self._name} at this moment; look "
                "at what is there, and create() again if it is not"
            )
        yield from self._ask("create_vector_name", vector=self._vector, sparse={})

    # ---- writes

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None,
        *,
        versions: Sequence[Version | None] | None,
        routing: Sequence[str | None] | None,
        missing: Missing | None,
    ) -> Operation[Written]:
        check_options("Qdrant", self._can, versions=versions, routing=routing, missing=missing)
        found = yield from self._existing()
        note = found.note_of(self._vector)
        dimension = note.dimension if note else None
        ids, payloads = check_batch(ids, vectors, payloads, dimension)
        yield from self._join(found, vectors)
        sizes = [_size(id_, row, payload) for id_, row, payload in zip(ids, vectors, payloads, strict=True)]
        failed = {i: f for i, row, s in zip(ids, vectors, sizes, strict=True) if (f := self._fault(found, row, s))}
        points = self._points(found, ids)
        documents = [
            _Document(*given) for given in zip(ids, points, vectors, payloads, strict=True) if given[0] not in failed
        ]
        if (size := sum(size for id_, size in zip(ids, sizes, strict=True) if id_ not in failed)) > self._request_bytes:
            raise OutOfLimits(
                f"{len(documents)} documents are about {size} bytes of JSON, more than the {self._request_bytes} that "
                "one request may have; send fewer at a time",
                splittable=True,
            )
        if (missing or ("create" if found.ours else "fail")) == "create":
            absent = yield from self._make(found, documents, dimension)
        else:
            absent = yield from self._touch(documents, lambda left: _changes(left, self._vector, dimension))
        written = tuple(d.id for d in documents if d.id not in absent)
        reason = f"there is no point {{}} in collection {self._name}"
        if missing == "skip":
            return Written(written, {i: reason.format(self._spelled(found, i)) for i in absent}, failed)
        gone = {i: Failure(reason.format(self._spelled(found, i)), kind="missing") for i in absent}
        return Written(written, failed={**failed, **gone})

    def _spelled(self, found: Collection, id_: Id) -> Point:
        return id_to_wire(id_, theirs=not found.ours)

    def _points(self, found: Collection, ids: Sequence[Id]) -> list[Point]:
        """Raises InvalidInput when two ids are two spellings of one point, which can be in others' collections."""
        points = [self._spelled(found, id_) for id_ in ids]
        if len(set(points)) < len(points):
            first: dict[Point, Id] = {}
            for point, id_ in zip(points, ids, strict=True):
                if (other := first.setdefault(point, id_)) != id_:
                    raise InvalidInput(f"ids {other!r} and {id_!r} are the same point {point}; write it once")
        return points

    def _fault(self, found: Collection, row: SparseVector, size: int) -> Failure | None:
        """Why the collection cannot hold a document of `size` bytes, if it cannot."""
        if size > self._request_bytes:
            return Failure(f"about {size} bytes of JSON, more than the {self._request_bytes} a request may have")
        if found.datatype(self._vector) == "float16":
            over = row.values[np.abs(row.values) > rounding.LARGEST_FLOAT16]
            if len(over):
                return Failure(
                    f"weight {over[0]} in a float16 collection, which holds at most {rounding.LARGEST_FLOAT16:.0f}"
                )
        return None

    def _join(self, found: Collection, vectors: SparseVectors) -> Operation[None]:
        """The vectors' space must be the collection's; the first vectors of a collection say which that is (C18)."""
        note = found.note_of(self._vector)
        if note is None or vectors.fingerprint is None or self._foreign:
            return
        if note.fingerprint is None:  # as far as is known: another adapter may have given one since
            note = (yield from self._existing(anew=True)).note_of(self._vector)
            if note is not None and note.fingerprint is None:
                self._foreign = (yield from self.count()) > 0
                if not self._foreign:
                    yield from self._ask("update_collection", metadata=note.metadata(vectors.fingerprint))
                    note = (yield from self._existing(anew=True)).note_of(self._vector)
        check_space(vectors, note.fingerprint if note else None)

    def _make(self, found: Collection, documents: list[_Document], dimension: int | None) -> Operation[set[Id]]:
        """Write documents, and make those that are not there."""
        version = yield from self._version()
        theirs = not found.ours
        if _parts(version) >= _INSERTS_ONLY:
            wholes = yield from self._wholes(() if theirs else documents)

            def operations(left: Sequence[_Document]) -> list[Any]:
                bare = [_point(d.point, {}, original(d.id, theirs=theirs)) for d in left]
                insert = {"upsert": {"points": bare, "update_mode": "insert_only"}}
                return [insert, *_changes(left, self._vector, dimension, wholes)]

        elif theirs:
            raise BackendUnsupported(
                f"Qdrant {version} writes whole points where it is asked to insert only, so that one which somebody "
                'makes at this moment would lose what it holds; 1.17 is expected for missing="create" in a collection '
                "that others made"
            )
        else:
            known = yield from self._payloads(documents)

            def operations(left: Sequence[_Document]) -> list[Any]:
                new = [d for d in left if d.point not in known]
                vectors = [{self._vector: vector_to_wire(d.row, dimension)} for d in new]
                points = [_point(d.point, v, {**d.payload, **original(d.id)}) for d, v in zip(new, vectors, strict=True)]
                old = [d for d in left if d.point in known]
                whole = {d.point: {**known[d.point], **d.payload} for d in old if has_null(d.payload)}
                insert = [{"upsert": {"points": points}}] if points else []
                return [*insert, *_changes(old, self._vector, dimension, whole)]

        for _ in range(_TRIES):
            try:
                if documents:
                    yield from self._apply(operations(documents))
                return set()
            except PointMissing as gone:  # deleted after it was made: make it again
                last = gone
        raise BackendDown(f"{last}: it was deleted in the meantime, {_TRIES} times; send the write again") from last

    def _wholes(self, documents: Iterable[_Document]) -> Operation[dict[Point, Payload]]:
        """Of those that set a field to null, what the whole payload will be."""
        nulls = [d for d in documents if has_null(d.payload)]
        known = (yield from self._payloads(nulls)) if nulls else {}
        return {d.point: {**known.get(d.point, {}), **original(d.id), **d.payload} for d in nulls}

    def _payloads(self, documents: Sequence[_Document]) -> Operation[dict[Point, Payload]]:
        """Of the points that are there."""
        points = [d.point for d in documents]
        found = (yield from self._ask("retrieve", ids=points, with_payload=True, with_vector=False)) if points else []
        return {record["id"]: record.get("payload") or {} for record in found}

    def _touch(
        self, documents: Sequence[_Document], operations: Callable[[Sequence[_Document]], list[Any]]
    ) -> Operation[set[Id]]:
        """Change points that are there; the ids of those that are not."""
        absent: set[Id] = set()
        left = documents
        while left:
            try:
                yield from self._apply(operations(left))
                return absent
            except PointMissing as gone:
                points = [d.point for d in left]
                there = yield from self._ask("retrieve", ids=points, with_payload=False, with_vector=False)
                known = {record["id"] for record in there} - {gone.point, _number(gone.point)}
                if len(known) == len(left):
                    raise
                absent |= {d.id for d in left if d.point not in known}
                left = [d for d in left if d.point in known]
        return absent

    def _apply(self, operations: Sequence[Mapping[str, Any]]) -> Operation[None]:
        """Together, in this order, and applied when this returns."""
        results = yield from self._ask("batch_update_points", operations=operations)
        if unfinished := {str(result["status"]) for result in results} - {"completed"}:
            raise BackendDown(f"collection {self._name} took a write and has not applied it yet: {sorted(unfinished)}")

    def delete(self, ids: Sequence[Id]) -> Operation[None]:
        found = yield from self._existing(anew=True)
        checked = check_ids(ids)
        points = list(dict.fromkeys(self._spelled(found, id_) for id_ in checked))
        if not points:
            return
        if found.ours and not found.dense and set(found.sparse) == {self._vector}:
            yield from self._apply([{"delete": {"points": points}}])
            return
        empty = SparseVectors([0, 0], [], [], 1)[0]
        yield from self._touch(
            [_Document(point, point, empty, {}) for point in points],
            lambda left: [{"delete_vectors": {"points": [d.point for d in left], "vector": [self._vector]}}],
        )

    # ---- reads

    def search(self, queries: Queries, k: int, where: Where | None, with_payloads: bool) -> Operation[list[Hits]]:
        k = check_k(k)
        found = yield from self._existing()
        note = found.note_of(self._vector)
        asked = check_queries(queries, note.dimension if note else None)
        yield from self._belong(found, asked)
        wanted = conditions(where, "qdrant")
        largest = k if k <= _LARGE_K else max(1, min(k, (yield from self.count())))
        answers = [_hits([], with_payloads)] * len(asked)
        open_ = np.flatnonzero(asked.row_nnz)
        walkable, limit = found.walkable, largest
        while len(open_):
            filter_ = to_wire(wanted, walkable)
            try:
                found_points = yield from self._query(asked, open_, limit, filter_, with_payloads)
            except IndexMissing:
                if walkable is not None:
                    raise
                walkable = (yield from self._existing(anew=True)).indexed  # strict mode, by whatever says so
                continue
            still = []
            for row, points in zip(open_.tolist(), found_points, strict=True):
                kept = points if filter_.exact else [p for p in points if matches(payload_from_wire(p.get("payload")), wanted)]
                if len(kept) < largest and len(points) == limit and not filter_.exact:
                    still.append(row)
                answers[row] = _hits(kept[:largest], with_payloads)
            open_, limit = np.array(still, np.int64), limit * 8
            if len(open_) and limit > _CANDIDATES:
                raise OutOfLimits(
                    f"Qdrant cannot decide the filter {where!r:.200} by itself, and among the best "
                    f"{limit // 8} documents too few match it; add a condition that it can decide (an equality, a "
                    "range of numbers), or keep what you ask for in a field of its own"
                )
        return answers

    def _query(
        self, queries: SparseVectors, rows: Any, limit: int, asked: Asked, with_payloads: bool
    ) -> Operation[list[list[Mapping[str, Any]]]]:
        """The points found for each of `rows`, best first."""
        payload: Any = True if with_payloads or not asked.exact else [ORIGINAL]
        common = {"using": self._vector, "limit": limit, "filter": asked.filter, "with_payload": payload}
        found: list[list[Mapping[str, Any]]] = []
        for start in range(0, len(rows), _QUERIES):
            block = [queries[int(row)] for row in rows[start : start + _QUERIES]]
            searches = [{"query": vector_to_wire(query, None), **common} for query in block]
            answers = yield from self._ask("query_batch_points", searches=searches)
            for query, answer in zip(block, answers, strict=True):
                last = int(query.indices[-1]) == MAX_DIMENSION - 1  # where documents without weights may have a zero
                found.append([point for point in answer["points"] if point["score"] or not last])
        return found

    def _belong(self, found: Collection, queries: SparseVectors) -> Operation[None]:
        """The queries' space must be the collection's, as it is now (C18)."""
        note = found.note_of(self._vector)
        if note is not None and note.fingerprint is None and queries.fingerprint is not None and not self._foreign:
            note = (yield from self._existing(anew=True)).note_of(self._vector)
        check_space(queries, note.fingerprint if note else None)

    def fetch(self, ids: Sequence[Id]) -> Operation[Documents]:
        found = yield from self._existing()
        checked = check_ids(ids)
        points = [self._spelled(found, id_) for id_ in checked]
        records: dict[Point, Mapping[str, Any]] = {}
        for start in range(0, len(points), _FETCHED):
            block = points[start : start + _FETCHED]
            answer = yield from self._ask("retrieve", ids=block, with_payload=True, with_vector=[self._vector])
            records |= {record["id"]: record for record in answer if self._vector in _vectors(record)}
        present = [(id_, records[point]) for id_, point in zip(checked, points, strict=True) if point in records]
        payloads = tuple(payload_from_wire(record.get("payload")) for _, record in present)
        return Documents(tuple(id_ for id_, _ in present), self._rows(found, [r for _, r in present]), payloads)

    def _rows(self, found: Collection, records: Sequence[Mapping[str, Any]]) -> SparseVectors:
        """Our vector of each, empty where there is none."""
        note = found.note_of(self._vector)
        rows = [_vectors(record).get(self._vector) or {"indices": [], "values": []} for record in records]
        pairs = [(row["indices"], row["values"]) for row in rows]
        return vectors_from_wire(pairs, note.dimension if note else None, note.fingerprint if note else None)

    def page(self, *, vectors: bool, payloads: bool, dense: str | None, after: str | None, size: int) -> Operation[Page]:
        """By `scroll`, in the order of the points' ids; `after` is the next of them, so a scan goes on at any time.

        `dense` is a dense vector (its name, "" for the one without), or else a field of the payload. Our vector need
        not be there yet.
        """
        if (found := (yield from self._look())) is None:
            raise CollectionError(f"there is no collection {self._name}")
        ours, theirs = self._vector in found.sparse, dense in found.dense
        names = [*([self._vector] if vectors and ours else []), *([dense] if theirs else [])]
        whole = payloads or (dense is not None and not theirs)
        answer = yield from self._ask(
            "scroll",
            limit=size,
            offset=_place(after),
            with_payload=True if whole else [ORIGINAL],
            with_vector=names or False,
        )
        records = answer["points"]
        holds = yield from self._holding(records, with_vectors=vectors) if ours and records else _nobody(records)
        following = answer["next_page_offset"]
        return Page(
            ids=tuple(id_from_wire(record["id"], record.get("payload")) for record in records),
            after=None if following is None else json.dumps(following),
            holds=holds,
            vectors=self._rows(found, records) if vectors else None,
            payloads=tuple(payload_from_wire(record.get("payload")) for record in records) if payloads else None,
            dense=None if dense is None else tuple(_dense(record, dense, theirs) for record in records),
        )

    def _holding(self, records: Sequence[Mapping[str, Any]], *, with_vectors: bool) -> Operation[Any]:
        """Which of the points have our vector, (n,)."""
        if with_vectors:
            return np.array([self._vector in _vectors(record) for record in records], bool)
        ids = [record["id"] for record in records]
        among = {"must": [{"has_id": ids}, {"has_vector": self._vector}]}
        answer = yield from self._ask("scroll", limit=len(ids), filter=among, with_payload=False, with_vector=False)
        having = {record["id"] for record in answer["points"]}
        return np.array([point in having for point in ids], bool)

    def count(self) -> Operation[int]:
        yield from self._existing()
        holding = {"must": [{"has_vector": self._vector}]}
        return int((yield from self._ask("count", filter=holding, exact=True))["count"])

    # ---- the end

    def drop(self) -> Operation[None]:
        """The whole collection when `create` made it and nothing else is in it; else our vector and our note."""
        found = yield from self._look()
        self._seen, self._foreign = None, False
        if found is None or self._vector not in found.sparse:
            return
        if found.note_of(self._vector) is None:
            raise CollectionError(
                f"collection {self._name} and its vector {self._vector!r} were not made here, so they are not dropped; "
                "if you mean it, call delete_vector_name or delete_collection of qdrant-client yourself"
            )
        if found.ours and not found.dense and set(found.sparse) == {self._vector}:
            bare = {"must_not": [{"has_vector": self._vector}]}
            if not (yield from self._ask("count", filter=bare, exact=True))["count"]:
                yield from self._remove()
                return
        yield from self._need(_ADDS_VECTORS, f"removing one vector of several from the collection {self._name}")
        yield from self._ask("delete_vector_name", vector=self._vector)
        forgotten: dict[str, Any] = {note.key: None for note in found.notes_of(self._vector)}
        if {note.vector for note in found.notes} == {self._vector}:
            forgotten[MADE] = None  # what is left in it was not made here
        yield from self._ask("update_collection", metadata=forgotten)

    def _remove(self) -> Operation[None]:
        aliases = (yield from self._ask("get_aliases"))["aliases"]
        for alias in aliases:
            if alias["alias_name"] == self._name:
                raise CollectionError(
                    f"{self._name} is an alias of the collection {alias['collection_name']}, and others may go by it; "
                    "to drop the collection, connect to it by its own name"
                )
        if (yield from self._ask("delete_collection")) is not True:
            raise CollectionError(f"the server did not drop the collection {self._name}; look whether it is there")

    # ---- rounding

    def slack(self, vectors: SparseVectors) -> Operation[Float32s]:
        found = self._seen or (yield from self._look())
        known = found is not None and self._vector in found.sparse
        return rounding.slack(vectors, found.datatype(self._vector) if found and known else "float32")

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return vectors

    # ---- the server

    def _ask(self, call: str, *, vector: str = "", **body: Any) -> Operation[Any]:
        """One request. What was read of the collection is forgotten when the server says that it is another now."""
        name = "" if call in ("info", "get_aliases") else self._name
        try:
            return (yield Request(call, name, encode(body) if body else b"", vector))
        except CollectionError:
            self._seen = None
            raise

    def _look(self) -> Operation[Collection | None]:
        """The collection as it is now; None when there is none."""
        self._seen = None
        try:
            answer = yield from self._ask("get_collection")
        except CollectionError:
            return None
        self._seen = read(self._name, answer)
        return self._seen

    def _existing(self, *, anew: bool = False) -> Operation[Collection]:
        """The collection, with our vector in it. Raises CollectionError, BackendUnsupported for scores with IDF."""
        found = (None if anew else self._seen) or (yield from self._look())
        if found is None or self._vector not in found.sparse:
            self._seen = None
            raise CollectionError(
                f"there is no collection {self._name} with a vector {self._vector!r} yet; create(dimension) makes it"
            )
        if (modifier := found.modifier(self._vector)) != "none":
            raise BackendUnsupported(
                f"the vector {self._vector!r} of collection {self._name} has modifier {modifier!r}: the server "
                "multiplies query weights by it, so its scores are no dot products; use a vector without it"
            )
        return found

    def _version(self, *, anew: bool = False) -> Operation[str]:
        if anew or self._server is None:
            self._server = str((yield from self._ask("info"))["version"])
        return self._server

    def _need(self, since: tuple[int, int], what: str) -> Operation[None]:
        version = yield from self._version(anew=True)
        if _parts(version) < since:
            raise BackendUnsupported(
                f"Qdrant {version} is too old: {since[0]}.{since[1]} is expected for {what}"
            )


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


# ---- bodies


def _point(point: Point, vector: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": point, "vector": vector, "payload": payload}


def _changes(
    documents: Sequence[_Document], vector: str, dimension: int | None, wholes: Mapping[Point, Payload] | None = None
) -> list[Any]:
    """Of points that are there: our vector, and the fields given. `wholes` are payloads to be written whole."""
    if not documents:
        return []
    vectors = [{"id": d.point, "vector": {vector: vector_to_wire(d.row, dimension)}} for d in documents]
    operations: list[Any] = [{"update_vectors": {"points": vectors}}]
    for d in documents:
        if wholes and d.point in wholes:
            operations.append({"overwrite_payload": {"payload": wholes[d.point], "points": [d.point]}})
        elif d.payload:
            operations.append({"set_payload": {"payload": d.payload, "points": [d.point]}})
    return operations


def _size(id_: Id, row: SparseVector, payload: Payload) -> int:
    """At most so many bytes of JSON, whether the document is new or not."""
    text = len(json.dumps(id_)) if isinstance(id_, str) else 0
    return len(row) * _WEIGHT_BYTES + len(json.dumps(payload)) + text + _POINT_BYTES


# ---- answers


def _vectors(record: Mapping[str, Any]) -> Mapping[str, Any]:
    vector = record.get("vector")
    return vector if isinstance(vector, dict) else {}


def _dense(record: Mapping[str, Any], name: str, theirs: bool) -> Float32s | None:
    if not theirs:
        return dense_from_wire((record.get("payload") or {}).get(name))
    vector = record.get("vector")
    return dense_from_wire(vector if isinstance(vector, list) and not name else _vectors(record).get(name))


def _nobody(records: Sequence[Mapping[str, Any]]) -> Operation[Any]:
    yield from ()
    return np.zeros(len(records), bool)


def _hits(points: Sequence[Mapping[str, Any]], with_payloads: bool) -> Hits:
    ids = tuple(id_from_wire(point["id"], point.get("payload")) for point in points)
    payloads = tuple(payload_from_wire(point.get("payload")) for point in points) if with_payloads else None
    return Hits(ids, np.array([point["score"] for point in points], np.float32), payloads)


def _place(after: str | None) -> Point | None:
    try:
        place = None if after is None else json.loads(after)
    except (ValueError, TypeError):
        place = False
    if place is not None and (isinstance(place, bool) or not isinstance(place, (int, str))):
        raise InvalidInput(f"expected the `after` of an earlier page, found {after!r:.80}")
    return place


def _number(point: str) -> int | None:
    return int(point) if point.isdecimal() else None
