"""How documents are searched, fetched and scanned."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from sparsevec.contract.adapter import Documents, Hits, Page, UInt8s
from sparsevec.contract.checks import Id, Queries, check_ids, check_queries, check_space
from sparsevec.contract.filters import Condition, Where
from sparsevec.contract.operations import Operation, counted
from sparsevec.contract.searches import Search
from sparsevec.errors import CollectionError, InvalidInput, OutOfLimits
from sparsevec.vectors import Float32s, SparseVectors

from . import rounding
from .answers import Bring, Look, dense_of, kept_of, rank, that_pass, vectors_of
from .codes import codes_from_wire
from .collection import Collection
from .errors import IndexMissing
from .filters import Asked, Clause, to_wire
from .ids import ORIGINAL, Point, id_from_wire
from .payloads import payload_from_wire, vectors_from_wire
from .places import Reading
from .requests import wanted_of
from .server import Server

__all__ = ["Reads"]

T = TypeVar("T")

_QUERIES = 64  # to a request
_FETCHED = 1000  # documents to a request
_LARGE_K = 10_000  # beyond it the server is asked for no more than it has
_CANDIDATES = 65_536  # documents that are looked at for one query, where a filter must be decided here


class Reads(Server):
    """`search`, `fetch`, `page` and `slack`."""

    def search(self, queries: Queries, k: int, search: Search) -> Operation[list[Hits]]:
        where, depth = search.where, search.depth(k)
        found = yield from self._existing()
        asked = check_queries(queries, self._note(found)[0])
        second = search.second_look(asked, *self._note(found))
        search.check_codes(self._codes(found)[1])
        yield from self._belong(found, asked)
        wanted = wanted_of(where)
        bring = Bring.of(search, self._vector, *self._codes(found), *self._note(found))
        looks = [Look(first, None if second is None else second[row], k) for row, first in enumerate(asked)]
        if search.after is not None:
            return [(yield from self._read_on(found, looks[0], wanted, bring, search.after))]
        largest = depth if depth <= _LARGE_K else max(1, min(depth, (yield from self.count(None))))
        answers = [bring.hits([])] * len(asked)
        open_ = [row for row, look in enumerate(looks) if look.asks]
        indexes, limit = found.indexes, largest
        while open_:
            filter_ = to_wire(wanted, indexes)
            try:
                found_points = yield from self._query([looks[row] for row in open_], limit, filter_, bring)
            except IndexMissing:
                if indexes.alone:
                    raise
                indexes = (yield from self._existing(anew=True)).indexes.strictly()  # by whatever says so
                continue
            still = []
            for row, points in zip(open_, found_points, strict=True):
                kept = kept_of(points, looks[row].first, wanted, exact=filter_.exact)
                whole = looks[row].on_the_server(limit, exact=filter_.exact)
                if not whole and len(kept) < min(largest, len(points)) and len(points) == limit:
                    still.append(row)
                answers[row] = looks[row].answer(kept[:largest], bring, whole=whole)
            open_, limit = still, limit * 8
            if open_ and limit > _CANDIDATES:
                raise OutOfLimits(
                    f"Qdrant cannot decide the filter {where!r:.200} by itself, and among the best "
                    f"{limit // 8} documents too few match it; add a condition that it can decide (an equality, a "
                    "range of numbers), or keep what you ask for in a field of its own"
                )
        return answers

    def _query(
        self, looks: Sequence[Look], limit: int, asked: Asked, bring: Bring, offset: int = 0
    ) -> Operation[list[list[Mapping[str, Any]]]]:
        """The points found for each look, best first."""
        brought = bring.asked_for(exact=asked.exact)
        found: list[list[Mapping[str, Any]]] = []
        for start in range(0, len(looks), _QUERIES):
            searches = [
                {**look.body(self._vector, limit, asked), **brought, **({"offset": offset} if offset else {})}
                for look in looks[start : start + _QUERIES]
            ]
            answers = yield from self._ask("query_batch_points", searches=searches)
            found.extend(answer["points"] for answer in answers)
        return found

    def _read_on(
        self, found: Collection, look: Look, wanted: Sequence[Condition], bring: Bring, after: str
    ) -> Operation[Hits]:
        """The hits behind `after` (C21)."""
        filter_ = to_wire(wanted, found.indexes)
        reading = Reading(after, look.k, rank, partial(kept_of, query=look.first, wanted=wanted, exact=filter_.exact))
        goes_on = look.asks
        while goes_on:
            (points,) = yield from self._query([look], reading.limit, filter_, bring, reading.offset)
            goes_on = reading.goes_on(points)
        return replace(bring.hits(reading.hits), after=reading.after)

    def _belong(self, found: Collection, queries: SparseVectors) -> Operation[None]:
        """The queries' space must be the collection's, as it is now (C18)."""
        if found.note_of(self._vector) and not self._note(found)[1] and queries.fingerprint and not self._foreign:
            found = yield from self._existing(anew=True)  # another adapter may have given it one since
        check_space(queries, self._note(found)[1])

    def fetch(self, ids: Sequence[Id], dense: str | None) -> Operation[Documents]:
        found = yield from self._existing()
        checked = check_ids(ids)
        points = [self._spelled(found, id_) for id_ in checked]
        records = yield from self._retrieved(found, points, dense)
        present = [(id_, records[point]) for id_, point in zip(checked, points, strict=True) if point in records]
        return self._documents(found, [id_ for id_, _ in present], [record for _, record in present], dense)

    def _retrieved(
        self, found: Collection, points: Sequence[Point], dense: str | None
    ) -> Operation[dict[Point, Mapping[str, Any]]]:
        """Those that have our vector, with payload."""
        records: dict[Point, Mapping[str, Any]] = {}
        for start in range(0, len(points), _FETCHED):
            block = points[start : start + _FETCHED]
            names = self._names(found, dense)
            answer = yield from self._ask("retrieve", ids=block, with_payload=True, with_vector=names)
            records |= {record["id"]: record for record in answer if self._vector in vectors_of(record)}
        return records

    def matching(self, where: Where, most: int, dense: str | None) -> Operation[Documents | None]:
        found = yield from self._existing()
        wanted = wanted_of(where)

        def few(clause: Clause | None) -> Operation[Any]:  # which ends sooner than to count all
            about: dict[str, Any] = {"limit": most + 1, "with_payload": False, "with_vector": False}
            return self._ask("scroll", filter=self._narrowed(clause), **about)

        asked, answer = yield from self._narrowing(found, wanted, few)
        if len(answer["points"]) > most:
            return None
        records = yield from self._retrieved(found, [point["id"] for point in answer["points"]], dense)
        kept = that_pass(records.values(), wanted, exact=asked.exact)
        return self._documents(found, [id_from_wire(one["id"], one.get("payload")) for one in kept], kept, dense)

    def count(self, where: Where | None) -> Operation[int]:
        found = yield from self._existing(anew=True)  # of a vector that was dropped meanwhile a server counts none
        asked, many = yield from self._narrowing(found, wanted_of(where), self._holding_and)
        if asked.exact or not many:
            return many
        return (yield from counted(self.page, where))

    def _narrowing(
        self, found: Collection, wanted: Sequence[Condition], ask: Callable[[Clause | None], Operation[T]]
    ) -> Operation[tuple[Asked, T]]:
        """What the server is asked for, and what `ask` brings of the points that it lets through."""
        asked = to_wire(wanted, found.indexes)
        try:
            return asked, (yield from ask(asked.clause))
        except IndexMissing:
            if found.indexes.alone:
                raise
            found = yield from self._existing(anew=True)  # strict mode, by whatever says so
            asked = to_wire(wanted, found.indexes.strictly())
            return asked, (yield from ask(asked.clause))

    def _names(self, found: Collection, dense: str | None) -> list[str]:
        """Of the vectors to bring; a dense row may also lie in the payload."""
        return [*self._own(found), *([dense] if dense is not None and dense in found.dense else [])]

    def _documents(
        self, found: Collection, ids: Sequence[Id], records: Sequence[Mapping[str, Any]], dense: str | None
    ) -> Documents:
        payloads = tuple(payload_from_wire(record.get("payload")) for record in records)
        theirs = dense in found.dense
        rows = None if dense is None else tuple(dense_of(record, dense, theirs) for record in records)
        return Documents(tuple(ids), self._rows(found, records), payloads, rows, self._coded(found, ids, records))

    def _coded(self, found: Collection, ids: Sequence[Id], records: Sequence[Mapping[str, Any]]) -> UInt8s | None:
        """The residual code of each, zeros where there is none; None in a collection that keeps none."""
        name, width = self._codes(found)
        if name is None or width is None:
            return None
        return codes_from_wire([vectors_of(record) for record in records], ids, name, width, strict=False)

    def _rows(self, found: Collection, records: Sequence[Mapping[str, Any]]) -> SparseVectors:
        """Our vector of each, empty where there is none."""
        rows = [vectors_of(record).get(self._vector) or {"indices": [], "values": []} for record in records]
        pairs = [(row["indices"], row["values"]) for row in rows]
        return vectors_from_wire(pairs, *self._note(found))

    def page(
        self,
        *,
        vectors: bool,
        payloads: bool,
        dense: str | None,
        after: str | None,
        size: int,
        where: Where | None,
        codes: bool = False,
    ) -> Operation[Page]:
        """By `scroll`, in the order of the points' ids; `after` is the next of them, so a scan goes on at any time.

        `dense` is a dense vector (its name, "" for the one without), or else a field of the payload. Our vector need
        not be there yet.
        """
        if (found := (yield from self._look())) is None:
            raise CollectionError(f"there is no collection {self._name}")
        ours, theirs = self._vector in found.sparse, dense in found.dense
        code, _ = self._codes(found) if codes else (None, None)
        names = [*([self._vector] if vectors and ours else []), *([code] if code else []), *([dense] if theirs else [])]
        wanted = wanted_of(where)
        whole = payloads or (dense is not None and not theirs)
        payload = True if whole else [ORIGINAL]
        body = {"limit": size, "offset": _place(after), "with_payload": payload, "with_vector": names or False}
        asked, answer = yield from self._scrolled(found, wanted, body)
        records = that_pass(answer["points"], wanted, exact=asked.exact)
        holds = yield from self._holding(records, with_vectors=vectors) if ours and records else _nobody(records)
        ids = tuple(id_from_wire(record["id"], record.get("payload")) for record in records)
        following = answer["next_page_offset"]
        return Page(
            ids=ids,
            after=None if following is None else json.dumps(following),
            holds=holds,
            vectors=self._rows(found, records) if vectors else None,
            payloads=tuple(payload_from_wire(record.get("payload")) for record in records) if payloads else None,
            dense=None if dense is None else tuple(dense_of(record, dense, theirs) for record in records),
            codes=self._coded(found, ids, records) if codes else None,
        )

    def _scrolled(
        self, found: Collection, wanted: Sequence[Condition], body: Mapping[str, Any]
    ) -> Operation[tuple[Asked, Any]]:
        """A page of what the server lets through, with payloads where they must decide."""

        def body_of(asked: Asked) -> dict[str, Any]:
            narrow = {} if asked.clause is None else {"filter": asked.filter}
            return {**body, **narrow, **({} if asked.exact else {"with_payload": True})}

        asked = to_wire(wanted, found.indexes)
        try:
            return asked, (yield from self._ask("scroll", **body_of(asked)))
        except IndexMissing:
            if found.indexes.alone or (now := (yield from self._look())) is None:  # strict mode, as above
                raise
            asked = to_wire(wanted, now.indexes.strictly())
            return asked, (yield from self._ask("scroll", **body_of(asked)))

    def _holding(self, records: Sequence[Mapping[str, Any]], *, with_vectors: bool) -> Operation[Any]:
        """Which of the points have our vector, (n,)."""
        if with_vectors:
            return np.array([self._vector in vectors_of(record) for record in records], bool)
        ids = [record["id"] for record in records]
        among = {"must": [{"has_id": ids}, {"has_vector": self._vector}]}
        answer = yield from self._ask("scroll", limit=len(ids), filter=among, with_payload=False, with_vector=False)
        having = {record["id"] for record in answer["points"]}
        return np.array([point in having for point in ids], bool)

    def slack(self, vectors: SparseVectors) -> Operation[Float32s]:
        found = self._seen or (yield from self._look())
        known = found is not None and self._vector in found.sparse
        return rounding.slack(vectors, found.datatype(self._vector) if found and known else "float32")


def _nobody(records: Sequence[Mapping[str, Any]]) -> Operation[Any]:
    yield from ()
    return np.zeros(len(records), bool)


def _place(after: str | None) -> Point | None:
    try:
        place = None if after is None else json.loads(after)
    except (ValueError, TypeError, RecursionError):
        place = False
    if place is not None and (isinstance(place, bool) or not isinstance(place, (int, str))):
        raise InvalidInput(f"expected the `after` of an earlier page, found {after!r:.80}")
    return place
