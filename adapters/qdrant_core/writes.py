"""How documents are written and deleted.

Whose points. In a collection that others made, only `update_vectors`, `set_payload` and `delete_vectors` are sent: they
touch our vector and the fields that are given, and never make a point. A server answers 404 with the name of one id
that is not there, and has written the others; that id is missing, and the rest is sent again, which changes nothing
twice. Nothing is looked up beforehand, so nothing can change between a look and a write. With `missing="create"`, and
in collections of ours, a bare `insert_only` goes first in the same batch: it leaves a point that is there wholly alone.
Servers before 1.17 ignore `insert_only` and write the whole point, so their version is read first: others' collections
refuse `missing="create"` there, and ours look up which points are known.

Payloads. A server applies, and syncs, an operation per payload that is set; so in collections of ours, documents that
bring a payload are looked up, and new points get theirs as they are made. A point that somebody else makes between that
look and the write keeps all that it has and gets our vector, but not the payload of this write.

A null. Qdrant takes a null in a payload as an order to remove the field. In others' collections that is what a null
does; in ours the payload is read, merged and written whole, for these documents only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Failure, Missing, UInt8s, Version, Written
from sparsevec.contract.checks import Id, Payload, check_batch, check_codes, check_ids, check_options, check_space
from sparsevec.contract.operations import Operation
from sparsevec.errors import BackendDown, BackendUnsupported, InvalidInput, OutOfLimits
from sparsevec.vectors import SparseVectors

from .collection import Collection, Note
from .errors import PointMissing
from .ids import Point, original
from .payloads import has_null, vector_to_wire
from .points import Inserts, Updates
from .rounding import LARGEST_FLOAT16
from .server import INSERTS_ONLY, Server, parts

__all__ = ["Document", "Rows", "Writes", "changes", "size"]

_WEIGHT_BYTES = 36  # of JSON: an index of at most 10 digits, a float64 of at most 24 characters, two commas
_CODE_BYTES = 4  # of JSON, for a byte and a comma
_POINT_BYTES = 1024  # of JSON around them: names, and the point in up to three operations
_TRIES = 5  # of one write whose points are deleted meanwhile


@dataclass(frozen=True, slots=True)
class Document:
    """One of a write; `row` is the number of its vector."""

    id: Id
    point: Point
    row: int
    payload: Payload


class Writes(Server):
    """`upsert` and `delete`."""

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: SparseVectors,
        payloads: Sequence[Payload] | None,
        *,
        versions: Sequence[Version | None] | None,
        routing: Sequence[str | None] | None,
        missing: Missing | None,
        codes: UInt8s | None,
    ) -> Operation[Written]:
        check_options("Qdrant", self._can, versions=versions, routing=routing, missing=missing)
        found = yield from self._existing()
        dimension, _ = self._note(found)
        ids, payloads = check_batch(ids, vectors, payloads, dimension)
        yield from self._join(found, vectors)
        code, width = self._codes(found)
        codes = check_codes(codes, vectors, width)
        more = (width or 0) * _CODE_BYTES
        sizes = [more + size(*given) for given in zip(ids, vectors.row_nnz.tolist(), payloads, strict=True)]
        failed = self._faults(found, ids, vectors, sizes)
        points = self._points(found, ids)
        documents = [
            Document(*given)
            for given in zip(ids, points, range(len(ids)), payloads, strict=True)
            if given[0] not in failed
        ]
        whole = sum(of_one for id_, of_one in zip(ids, sizes, strict=True) if id_ not in failed)
        if whole > self._request_bytes:
            raise OutOfLimits(
                f"{len(documents)} documents are about {whole} bytes of JSON, more than the {self._request_bytes} that "
                "one request may have; send fewer at a time",
                splittable=True,
            )
        rows = Rows(vectors, self._vector, dimension, codes, code)
        if (missing or ("create" if found.ours else "fail")) == "create":
            absent = yield from self._make(found, documents, rows)
        else:
            absent = yield from self._touch(documents, lambda left: changes(left, rows))
        written = tuple(d.id for d in documents if d.id not in absent)
        reason = f"there is no point {{}} in collection {self._name}"
        if missing == "skip":
            return Written(written, {i: reason.format(self._spelled(found, i)) for i in absent}, failed)
        gone = {i: Failure(reason.format(self._spelled(found, i)), kind="missing") for i in absent}
        return Written(written, failed={**failed, **gone})

    def _points(self, found: Collection, ids: Sequence[Id]) -> list[Point]:
        """Raises InvalidInput when two ids are two spellings of one point, which can be in others' collections."""
        points = [self._spelled(found, id_) for id_ in ids]
        if len(set(points)) < len(points):
            first: dict[Point, Id] = {}
            for point, id_ in zip(points, ids, strict=True):
                if (other := first.setdefault(point, id_)) != id_:
                    raise InvalidInput(f"ids {other!r} and {id_!r} are the same point {point}; write it once")
        return points

    def _faults(
        self, found: Collection, ids: Sequence[Id], vectors: SparseVectors, sizes: Sequence[int]
    ) -> dict[Id, Failure]:
        """Why the collection cannot hold some documents, of so many bytes each."""
        most, reason = self._request_bytes, "about {} bytes of JSON, more than the {} a request may have"
        failed = {
            i: Failure(reason.format(of_one, most)) for i, of_one in zip(ids, sizes, strict=True) if of_one > most
        }
        if found.datatype(self._vector) == "float16":
            over = np.flatnonzero(np.abs(vectors.values) > LARGEST_FLOAT16)[::-1]  # the first of a row comes last
            rows = np.searchsorted(vectors.indptr, over, side="right") - 1
            reason = "weight {} in a float16 collection, which holds at most {:.0f}"
            failed |= {
                ids[row]: Failure(reason.format(vectors.values[i], LARGEST_FLOAT16))
                for row, i in zip(rows.tolist(), over.tolist(), strict=True)
            }
        return failed

    def _join(self, found: Collection, vectors: SparseVectors) -> Operation[None]:
        """The vectors' space must be the collection's; the first vectors of a collection say which that is (C18)."""
        note = found.note_of(self._vector)
        if note is None or vectors.fingerprint is None or self._foreign:
            return
        if note.fingerprint is None:  # as far as is known
            yield from self._existing(anew=True)  # of a vector that was dropped meanwhile a server counts none
            count = yield from self._holding_and()
            note = (yield from self._existing(anew=True)).note_of(self._vector)  # who has written has noted it before
            if note is not None and note.fingerprint is None:
                self._foreign = count > 0
                if not self._foreign:
                    note = yield from self._adopt(note, vectors.fingerprint)
        check_space(vectors, note.fingerprint if note else None)

    def _adopt(self, note: Note, fingerprint: str) -> Operation[Note | None]:
        """Set the collection's fingerprint, and of writers of several spaces at once let only one do so.

        Metadata have no compare-and-set, so the last write would win, after the first writer has read that it won. Each
        writer first announces its fingerprint in a bid, under a key of its own, and sets it when it then reads no bid
        for another one: of two writers, the later reads the earlier one's bid, or the fingerprint that it set.
        """
        mine = note.bid()
        for _ in range(_TRIES):
            bid = {"fingerprint": fingerprint, "since": time.time()}
            yield from self._ask("update_collection", metadata={mine: bid})
            found = yield from self._existing(anew=True)
            seen = found.note_of(self._vector)
            wins = seen is not None and seen.fingerprint is None and not found.has_rivals(note, fingerprint)
            given = note.metadata(fingerprint) if wins else {}
            yield from self._ask("update_collection", metadata={**given, mine: None})
            seen = (yield from self._existing(anew=True)).note_of(self._vector)
            if seen is None or seen.fingerprint is not None:
                return seen
        raise BackendDown(
            f"another writer is setting the fingerprint of collection {self._name} at this moment; send the write again"
        )

    def _make(self, found: Collection, documents: list[Document], rows: Rows) -> Operation[set[Id]]:
        """Write documents, and make those that are not there."""
        version = yield from self._version()
        if parts(version) >= INSERTS_ONLY:
            operations = yield from self._inserting(found, documents, rows)
        elif found.ours:
            operations = yield from self._upserting(documents, rows)
        else:
            raise BackendUnsupported(
                f"Qdrant {version} writes whole points where it is asked to insert only, so that one which somebody "
                'makes at this moment would lose what it holds; 1.17 is expected for missing="create" in a collection '
                "that others made"
            )
        for _ in range(_TRIES):
            try:
                if documents:
                    yield from self._apply(operations(documents))
                return set()
            except PointMissing as gone:  # deleted after it was made: make it again
                last = gone
        raise BackendDown(f"{last}: it was deleted in the meantime, {_TRIES} times; send the write again") from last

    def _inserting(
        self, found: Collection, documents: Sequence[Document], rows: Rows
    ) -> Operation[Callable[[Sequence[Document]], list[Any]]]:
        """Points that are there stay as they are, then all of them get our vector, then known ones their fields."""
        given = [d for d in documents if d.payload and found.ours]
        known = yield from self._payloads(given, whole=any(has_null(d.payload) for d in given))
        fresh = {d.point for d in given} - known.keys()
        wholes = {d.point: {**known[d.point], **d.payload} for d in given if d.point in known and has_null(d.payload)}

        def operations(left: Sequence[Document]) -> list[Any]:
            own = [original(d.id, theirs=not found.ours) for d in left]
            payloads = [{**(d.payload if d.point in fresh else {}), **id_} for d, id_ in zip(left, own, strict=True)]
            return [Inserts([d.point for d in left], payloads), *changes(left, rows, wholes, fresh)]

        return operations

    def _upserting(
        self, documents: Sequence[Document], rows: Rows
    ) -> Operation[Callable[[Sequence[Document]], list[Any]]]:
        """Points that are not known go whole, where a server cannot insert only."""
        known = yield from self._payloads(documents, whole=any(has_null(d.payload) for d in documents))
        wholes = {
            d.point: {**known[d.point], **d.payload} for d in documents if d.point in known and has_null(d.payload)
        }

        def operations(left: Sequence[Document]) -> list[Any]:
            new = [d for d in left if d.point not in known]
            points = [
                {"id": d.point, "vector": rows.one(d.row), "payload": {**d.payload, **original(d.id)}} for d in new
            ]
            insert = [{"upsert": {"points": points}}] if points else []
            return [*insert, *changes([d for d in left if d.point in known], rows, wholes)]

        return operations

    def _payloads(self, documents: Sequence[Document], *, whole: bool) -> Operation[dict[Point, Payload]]:
        """Of the points that are there; empty unless `whole`."""
        points = [d.point for d in documents]
        found = (yield from self._ask("retrieve", ids=points, with_payload=whole, with_vector=False)) if points else []
        return {record["id"]: record.get("payload") or {} for record in found}

    def _touch(
        self, documents: Sequence[Document], operations: Callable[[Sequence[Document]], list[Any]]
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
                known = {record["id"] for record in there} - {
                    gone.point,
                    int(gone.point) if gone.point.isdecimal() else None,
                }
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
        if found.ours:
            yield from self._apply([{"delete": {"filter": self._only(found, {"has_id": points})}}])
        own = self._own(found)
        yield from self._touch(
            [Document(point, point, 0, {}) for point in points],
            lambda left: [{"delete_vectors": {"points": [d.point for d in left], "vector": own}}],
        )

    def _only(self, found: Collection, *among: Mapping[str, Any]) -> dict[str, Any]:
        """The filter of points that hold our vector and no other."""
        others = sorted({*found.sparse, *found.dense} - {self._vector})
        without = [{"has_vector": name} for name in others]
        return {"must": [*among, {"has_vector": self._vector}], "must_not": without}


# ---- bodies


@dataclass(frozen=True, slots=True)
class Rows:
    """The vectors of one write, under their name, in a collection of `dimension`."""

    vectors: SparseVectors
    name: str
    dimension: int | None
    codes: UInt8s | None = None
    code: str | None = None

    def of(self, documents: Sequence[Document]) -> Updates:
        numbers = [d.row for d in documents]
        points, about = [d.point for d in documents], (self.name, self.dimension)
        if len(numbers) == len(self.vectors):
            return Updates(points, self.vectors, *about, self.codes, self.code)
        codes = None if self.codes is None else self.codes[numbers]
        return Updates(points, self.vectors[numbers], *about, codes, self.code)

    def one(self, row: int) -> Mapping[str, Any]:
        codes = {} if self.codes is None else {self.code or "": self.codes[row]}
        return {self.name: vector_to_wire(self.vectors[row], self.dimension), **codes}


def changes(
    documents: Sequence[Document],
    rows: Rows,
    wholes: Mapping[Point, Payload] | None = None,
    fresh: Container[Point] = (),
) -> list[Any]:
    """Of points that are there: our vector, and the fields given. `wholes` are payloads to be written whole; `fresh`
    points have theirs already."""
    if not documents:
        return []
    operations: list[Any] = [rows.of(documents)]
    for d in documents:
        if wholes and d.point in wholes:
            operations.append({"overwrite_payload": {"payload": wholes[d.point], "points": [d.point]}})
        elif d.payload and d.point not in fresh:
            operations.append({"set_payload": {"payload": d.payload, "points": [d.point]}})
    return operations


def size(id_: Id, nnz: int, payload: Payload) -> int:
    """At most so many bytes of JSON, whether the document is new or not."""
    text = len(json.dumps(id_)) if isinstance(id_, str) else 0
    fields = len(json.dumps(payload)) if payload else 0
    return nnz * _WEIGHT_BYTES + fields + text + _POINT_BYTES
