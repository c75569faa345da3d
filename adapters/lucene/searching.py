"""`search`, `fetch`, `matching`, and the search that counts what its filter leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import orjson

from sparsevec.contract.adapter import Documents, Hits, UInt8s
from sparsevec.contract.checks import Id, Queries, check_ids, check_queries
from sparsevec.contract.filters import Condition, Where, conditions, fields
from sparsevec.contract.operations import Operation
from sparsevec.contract.searches import Search, rescored
from sparsevec.errors import BackendDown, BackendUnsupported, OutOfLimits, PlaceForgotten
from sparsevec.vectors import Float32s, SparseVector, SparseVectors

from .answers import clause_limit, read_codes, read_dense_fields, read_hits, read_packed, read_vectors
from .claims import HIDDEN
from .filters import leaves
from .hazards import source_fault
from .ids import from_ids, to_id
from .judging import Judge
from .points import ELSEWHERE
from .queries import (
    anyone_body,
    bringing,
    bringing_packed,
    count_body,
    fetch_body,
    holding,
    query_clause,
    search_body,
    split,
)
from .reading import Reading
from .session import PAGE, Known, Session
from .weights import scores, stored
from .wire import ask, json

__all__ = ["Searching"]

Json = Mapping[str, Any]
T = TypeVar("T")

_QUERIES, _HITS = 32, 20_000  # most queries, and hits, of one multi-search
_REQUESTS = 4  # multi-searches under way
_SCROLL = "5m"
_TELLING = 64  # weights of a query, whose scores tell whether packed weights are those of the index
_ULPS = 2.0**-22  # by which a sum in another order may differ
_LOOKS = 3  # at an index that is another one at each


class Searching:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._few: set[frozenset[str]] = set()  # fields by which the last filter left few documents

    def search(self, queries: Queries, k: int, search: Search, most: int | None = None) -> Operation[list[Hits]]:
        """Raises _FewLeft when the filter leaves at most `most` documents, where it is given."""
        depth = search.depth(k)
        wanted = conditions(search.where, self._session.engine)
        known = yield from self._known_for(queries)
        for _ in range(_LOOKS):
            asked = check_queries(queries, known.field.dimension, known.field.fingerprint)
            second = search.second_look(asked, known.field.dimension, known.field.fingerprint)
            search.check_codes(known.field.code_bytes)
            if asked.nnz and asked.values.min() < 0:
                raise OutOfLimits(
                    f"the query weight {asked.values.min()} is negative; {self._session.engine} cannot score it"
                )
            known = yield from self._session.knowing(known, wanted)
            yield from self._session.refresh()
            asking = _Search(known, depth, wanted, search, most)
            if search.after is None:
                hits, tells = (yield from self._asked(asking, asked)), asked.nnz > 0
            else:
                hits, tells = [(yield from self._page(asking, asked[0], search.after))], bool(asking.seen)
            now = (yield from self._again(asking)) if tells else None
            if now is None:
                if search.after is not None and not asking.seen <= known.target.names:
                    raise PlaceForgotten(ELSEWHERE)
                return hits if second is None else _again_ranked(hits, second, k, search)
            known = now
        raise self._moving()

    def _known_for(self, queries: Queries | None) -> Operation[Known]:
        known = yield from self._session.existing()
        if known.field.claim and known.field.fingerprint is None and getattr(queries, "fingerprint", None):
            known = yield from self._session.fresh()  # the first vectors may have been written since
        return known

    def _asked(self, search: _Search, queries: SparseVectors) -> Operation[list[Hits]]:
        """In the short form of queries, unless the server turns out not to know it."""
        try:
            return (yield from self._all(search, queries))
        except BackendUnsupported as error:
            if not self._session.compact or "unknown query [sparse_vector]" not in str(error):
                raise
        self._session.compact = False
        return (yield from self._all(search, queries))

    def _again(self, search: _Search) -> Operation[Known | None]:
        """What the name stands for now, where the answer says that it may be another index; else None.

        Hits of another index say so, and finding nothing at all may be because of that. Raises CollectionError when our
        field is gone.
        """
        if search.seen and search.seen <= search.known.target.names:
            return None
        now = yield from self._session.existing(0.0)
        return None if now.target == search.known.target else now

    def _moving(self) -> BackendDown:
        return BackendDown(f"{self._session.asked!r} stands for another index at every look")

    def _all(self, search: _Search, queries: SparseVectors) -> Operation[list[Hits]]:
        found: list[Hits | None] = [None] * len(queries)
        search.compact, room = self._session.compact, search.room(self._session.max_clauses)
        lengths = queries.row_nnz
        whole = np.flatnonzero((lengths > 0) & (lengths <= room)).tolist()
        asked, answers = [queries[row] for row in whole], []
        if search.most is not None:
            answers += yield from self._counted(search, asked[:1])
        for some in _split(asked[len(answers) :], search.at_once):
            answers += yield from self._batch(search, some)
        for row, answer in zip(whole, answers, strict=True):
            found[row] = answer
        for row in np.flatnonzero(lengths > max(room, 0)).tolist():
            found[row] = yield from self._sum(search, queries[row], room)
        return [search.hits([]) if hits is None else hits for hits in found]

    def _batch(self, search: _Search, queries: Sequence[SparseVector]) -> Operation[list[Hits]]:
        """A few multi-searches, under way at the same time."""
        batches = list(_split([search.body(query, packed=search.packed) for query in queries], search.per_request))
        responses = chain.from_iterable((yield from self._session.msearches(batches)))
        return (yield from self._answers(search, queries, responses))

    def _counted(self, search: _Search, first: Sequence[SparseVector]) -> Operation[list[Hits]]:
        """The first query, if any, beside a count of what the filter leaves: the others are not asked in vain.
        Raises _FewLeft."""
        bodies = [search.body(query, packed=search.packed) for query in first]
        counted, *responses = yield from self._session.msearch([search.counting(), *bodies])
        if search.few(counted):
            raise _FewLeft
        return (yield from self._answers(search, first, responses))

    def _answers(
        self, search: _Search, queries: Sequence[SparseVector], responses: Iterable[Json]
    ) -> Operation[list[Hits]]:
        answers = []
        for query, response in zip(queries, responses, strict=True):
            answers.append((yield from self._answer(search, query, response)))
        return answers

    def _answer(self, search: _Search, query: SparseVector, response: Json) -> Operation[Hits]:
        if limit := clause_limit(response):
            self._session.max_clauses = limit
            return (yield from self._sum(search, query, search.room(limit)))
        if search.packed:
            if (hits := search.packed_hits(query, search.see(read_hits(response)))) is not None:
                return hits
            (response,) = yield from self._session.msearch([search.body(query)])
        page = search.see(read_hits(response))
        found = search.taken(page)
        if len(page) == search.page and len(found) < search.k:  # deeper than one answer goes
            found = yield from self._scroll(search, search.body(query), search.k)
        return search.hits(found)

    def _sum(self, search: _Search, query: SparseVector, room: int) -> Operation[Hits]:
        """The exact answer to a query that has to be asked in parts: every hit of every part, added up."""
        if room < 1:
            raise OutOfLimits(f"the filter alone has more clauses than the server takes ({self._session.max_clauses})")
        totals: dict[str, float] = {}
        for part in split(query, room):
            for hit in (yield from self._scroll(search, search.body(part))):
                totals[hit["_id"]] = totals.get(hit["_id"], 0.0) + float(np.float32(hit["_score"]))
        best = sorted(totals.items(), key=lambda item: -item[1])[: search.k]
        hits: list[Json] = [{"_id": key, "_score": np.float32(score)} for key, score in best]
        if search.brings:
            found = yield from self._found(search.known, [key for key, _ in best])
            hits = [{**found[hit["_id"]], **hit} for hit in hits if hit["_id"] in found]
        return search.hits(hits)

    # ---- reading on

    def _page(self, search: _Search, query: SparseVector, after: str) -> Operation[Hits]:
        """The hits behind `after`, from its point in time (C21)."""
        room = search.room(self._session.max_clauses)
        if not len(query):
            return search.hits([])
        if len(query) > room:
            raise OutOfLimits(
                f"the query has {len(query)} weights, and this server reads on for {room} at most: its largest weights "
                "(encode_query(row, nnz=k)) make one that it takes, and a search without after= answers the whole of it"
            )

        def take(hits: list[Json]) -> list[Json]:
            return search.taken(search.see(hits))

        reading = Reading(self._session, search.body(query), min(PAGE, search.known.target.window - 1))
        taken, place = yield from reading.behind(after, search.k, take)
        return replace(search.hits(taken), after=place)

    def _scroll(self, search: _Search, body: Json, k: int | None = None) -> Operation[list[Json]]:
        """The k best hits that the search takes, or all of them, best first, from one point in time."""
        size = min(PAGE, search.known.target.window)
        body = {**body, "size": size, "track_total_hits": True}  # a scroll refuses not to track
        params = {"scroll": _SCROLL, "allow_partial_search_results": "false"}
        answer = yield from json("POST", self._session.path("_search"), body, params)
        taken: list[Json] = []
        try:
            while hits := search.see(read_hits(answer)):
                taken += search.taken(hits)
                if len(hits) < size or (k is not None and len(taken) >= k):
                    break
                goes_on = {"scroll": _SCROLL, "scroll_id": answer["_scroll_id"]}
                answer = yield from json("POST", "/_search/scroll", goes_on)
        finally:
            yield from ask("DELETE", "/_search/scroll", body=orjson.dumps({"scroll_id": answer["_scroll_id"]}))
        return list(islice(taken, k))

    # ---- fetch

    def fetch(self, ids: Sequence[Id], dense: str | None) -> Operation[Documents]:
        known = yield from self._session.existing()
        ids = check_ids(ids)
        if fault := source_fault(known.target):
            raise fault
        yield from self._session.refresh()
        keys = {id_: to_id(id_, known.target.ours) for id_ in ids}
        found = yield from self._found(known, list(dict.fromkeys(keys.values())), dense)
        if keys and len(found) < len(set(keys.values())):  # the name may stand for another index by now
            known = yield from self._session.existing(0.0)
        ids = [id_ for id_ in ids if keys[id_] in found]
        return _documents(known, [found[keys[id_]] for id_ in ids], dense)

    # ---- what a filter leaves

    def matching(self, where: Where, most: int, dense: str | None) -> Operation[Documents | None]:
        search = Search(where)
        left = yield from self._narrowed((yield from self._session.existing()), search, most)
        (counted,) = yield from self._session.msearch([left.counting()])
        return (yield from self._left(None, search, most, dense, self._at_once)) if left.few(counted) else None

    def matching_or_search(
        self, queries: Queries, k: int, search: Search, most: int, dense: str | None
    ) -> Operation[Documents | list[Hits]]:
        """One request where the last filter on these fields left few documents too, or many too; else two. More where
        a query finds fewer than k: the filter may leave few of the many documents that pass the server's clauses. That
        it leaves k to `most` of them is not seen while every query finds k."""
        wanted = conditions(search.where, self._session.engine)
        by = frozenset(fields(wanted))
        few = by in self._few
        if few:
            found = yield from self._left(queries, search, most, dense, self._at_once)
            if found is not None:
                return found
            self._few.discard(by)
        try:
            hits = yield from self.search(queries, k, search, None if few else most)
        except _FewLeft:
            self._few.add(by)
            return (yield from self.matching_or_search(queries, k, search, most, dense))
        if all(len(one) == k for one in hits):
            return hits
        known = yield from self._session.existing()
        if not Judge.of(known.target, wanted).fields:  # what the server decides it has counted exactly
            return hits
        found = yield from self._left(queries, search, most, dense, self._one_by_one)
        return hits if found is None else found

    def _narrowed(self, known: Known, search: Search, most: int) -> Operation[_Search]:
        wanted = conditions(search.where, self._session.engine)
        known = yield from self._session.knowing(known, wanted)
        yield from self._session.refresh()
        alone = search.with_vectors and not search.with_payloads
        return _Search(known, most, wanted, Search(with_vectors=alone, with_codes=search.with_codes), most)

    def _left(
        self,
        queries: Queries | None,
        search: Search,
        most: int,
        dense: str | None,
        read: Callable[[_Search, str | None, SparseVector | None], Operation[Documents | None]],
    ) -> Operation[Documents | None]:
        """What the filter leaves, if it is few, as documents that are `read`."""
        known, first = (yield from self._known_for(queries)), None
        for _ in range(_LOOKS):
            if queries is not None:
                asked = check_queries(queries, known.field.dimension, known.field.fingerprint)
                first = next((query for query in asked if len(query)), None)
            search.check_codes(known.field.code_bytes)
            left = yield from self._narrowed(known, search, most)
            found = yield from read(left, dense, first)
            now = yield from self._again(left)
            if now is None:
                return found
            known = now
        raise self._moving()

    def _at_once(self, left: _Search, dense: str | None, query: SparseVector | None) -> Operation[Documents | None]:
        """Where few documents pass the filter's clauses. By packed weights where a query scores the documents, and so
        tells whether these are what the index holds."""
        known, room = left.known, min(_TELLING, left.room(self._session.max_clauses))
        packs = known.field.packing is not None and known.target.ours and room > 0
        scored = next(split(query, room)) if packs and query is not None else None
        bare = left.bare and dense is None
        while True:
            clause = None if scored is None else query_clause(scored, known.field)
            body = fetch_body(
                left.filters, known.field, known.target.hidden, left.page, dense, packed_by=clause, bare=bare
            )
            response, anyone = yield from self._session.msearch([body, anyone_body(known.field)])
            page = left.see(read_hits(response))
            left.see(read_hits(anyone))
            if not left.few(response):
                return None
            found = left.taken(page)
            if scored is None:
                return _documents(known, found, dense, strict=left.with_codes)
            keys, packed = left.keys(found, keyed=bare), read_packed(found, known.field, codes=True)
            if keys is not None and packed is not None and _told(scored, packed[0], _scored(found)):
                return _documents(known, found, dense, (keys, *packed), bare=bare)
            scored = None

    def _one_by_one(self, left: _Search, dense: str | None, _: SparseVector | None) -> Operation[Documents | None]:
        """Where many documents pass the clauses, and only what they hold decides."""
        assert left.most is not None
        body = left.judging()
        (response,) = yield from self._session.msearch([body])
        page = left.see(read_hits(response))
        held = left.taken(page)
        if len(page) == body["size"] and len(held) <= left.most:
            held = yield from self._scroll(left, body, left.most + 1)
        if len(held) > left.most:
            return None
        found = yield from self._found(left.known, [hit["_id"] for hit in held], dense)
        return _documents(left.known, left.taken(list(found.values())), dense, strict=left.with_codes)

    def _found(self, known: Known, keys: Sequence[str], dense: str | None = None) -> Operation[dict[str, Json]]:
        """Hits with payload and vector, by `_id`."""
        found: dict[str, Json] = {}
        at_once = max(1, min(PAGE, known.target.window) // 2)  # an _id may be there twice, with two routings
        for start in range(0, len(keys), at_once):
            among = [{"ids": {"values": keys[start : start + at_once]}}]
            body = fetch_body(among, known.field, known.target.hidden, 2 * at_once, dense)
            (response,) = yield from self._session.msearch([body])
            found |= {hit["_id"]: hit for hit in read_hits(response)}
        return found


class _FewLeft(Exception):
    """The filter leaves few documents, which are to be read whole instead."""


class _Search:
    """What is the same for every query of one search: how it is asked, and how its hits are read."""

    def __init__(
        self, known: Known, k: int, wanted: Sequence[Condition], search: Search, most: int | None = None
    ) -> None:
        """`most`: how many documents the filter may leave to be read whole."""
        self.known, self.k, self.with_payloads = known, k, search.with_payloads
        self.with_vectors, self.with_codes = search.with_vectors or search.rescore is not None, search.with_codes
        self.page = min(k, known.target.window)
        self.most = None if most is None else min(most, known.target.window)
        self.per_request = max(1, min(_QUERIES, _HITS // self.page))  # queries
        self.at_once = _REQUESTS * self.per_request  # queries under way
        self.compact = False  # whether the server knows the short form of a query
        self.seen: set[str] = set()  # indices that hits came from
        self._judge = Judge.of(known.target, wanted)
        self.filters = self._judge.clauses
        self._source = _source(known, self._judge, search.with_payloads)
        self._brought = bringing(known.field, vectors=self.with_vectors, codes=self.with_codes)
        self.packed = self.with_vectors and known.field.packing is not None  # whether weights are asked for as such
        self._keyed = not self._source and known.field.key is not None
        if self.packed:
            self._brought_packed = bringing_packed(known.field, codes=self.with_codes, keyed=self._keyed)
        if (self._source or most is not None) and (fault := source_fault(known.target)):
            raise fault

    def body(self, query: SparseVector, *, packed: bool = False) -> Json:
        clause = query_clause(query, self.known.field, compact=self.compact)
        brought = self._brought_packed if packed else self._brought
        return search_body(clause, self.filters, self.page, self._source, brought)

    def counting(self) -> Json:
        assert self.most is not None
        return count_body(self.filters, self.known.field, self.most)

    def judging(self) -> Json:
        """What brings, of documents that pass the clauses, what decides."""
        assert self.most is not None
        size = min(self.most + 1, self.known.target.window)
        return {**search_body(holding(self.filters, self.known.field), (), size, self._source), "sort": ["_doc"]}

    def few(self, counted: Json) -> bool:
        """Whether the filter leaves so few documents that they are to be read whole."""
        read_hits(counted)
        return bool(counted["hits"]["total"]["value"] <= self.most)

    @property
    def brings(self) -> bool:
        """Whether hits have more than ids and scores."""
        return self.with_payloads or self.with_vectors or self.with_codes

    def room(self, max_clauses: int) -> int:
        """How many weights a query may have beside the filter."""
        return max_clauses - leaves(self.filters)

    def see(self, hits: list[Json]) -> list[Json]:
        self.seen |= {hit["_index"] for hit in hits}
        return hits

    def taken(self, hits: list[Json]) -> list[Json]:
        return self._judge.taken(hits)

    @property
    def bare(self) -> bool:
        """Whether nothing of a document's `_source` is needed."""
        return self.with_vectors and not self._source

    def keys(self, found: Sequence[Json], *, keyed: bool) -> list[str] | None:
        """Their `_id`, from doc values where these are asked for; None where one has none."""
        if not keyed or (key := self.known.field.key) is None:
            return [hit["_id"] for hit in found]
        try:
            return [hit["fields"][key][0] for hit in found]
        except KeyError:
            return None

    def packed_hits(self, query: SparseVector, page: list[Json]) -> Hits | None:
        """Of an answer with packed weights; None where these will not do: one hit has none, or others than it was
        scored by, since something else wrote its vector; or more hits are needed."""
        found, field = self.taken(page), self.known.field
        if len(page) == self.page and len(found) < self.k:
            return None
        keys, held = self.keys(found, keyed=self._keyed), read_packed(found, field, codes=self.with_codes)
        if keys is None or held is None:
            return None
        vectors, codes = held
        told = _scored(found)
        if not _told(query, vectors, told):
            return None
        payloads = tuple(hit.get("_source", {}) for hit in found) if self.with_payloads else None
        return Hits(from_ids(keys, self.known.target.ours), told, payloads, vectors, codes)

    def hits(self, found: Sequence[Json]) -> Hits:
        ids = from_ids([hit["_id"] for hit in found], self.known.target.ours)
        scores = _scored(found)
        field = self.known.field
        return Hits(
            ids=ids,
            scores=scores,
            payloads=tuple(hit.get("_source", {}) for hit in found) if self.with_payloads else None,
            vectors=stored(read_vectors(found, field)) if self.with_vectors else None,
            codes=read_codes(found, field, strict=True) if self.with_codes else None,
        )


def _again_ranked(hits: Sequence[Hits], second: SparseVectors, k: int, search: Search) -> list[Hits]:
    """By the second queries: no Lucene engine scores by negative weights, and the weights came with the hits."""
    return [rescored(one, query, k, with_vectors=search.with_vectors) for one, query in zip(hits, second, strict=True)]


def _split(values: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _scored(hits: Sequence[Json]) -> Float32s:
    return np.array([hit["_score"] for hit in hits], np.float32)


def _told(query: SparseVector, vectors: SparseVectors, told: Float32s) -> bool:
    """Whether hits were scored by these vectors, and not by others that something else wrote."""
    return bool((np.abs(scores(query, vectors) - told) <= _ULPS * told).all())


def _documents(
    known: Known,
    hits: Sequence[Json],
    dense: str | None,
    packed: tuple[list[str], SparseVectors, UInt8s | None] | None = None,
    *,
    strict: bool = False,
    bare: bool = False,
) -> Documents:
    """Of hits with payload and vector, or with their ids and what was `packed` of these. `strict` raises
    CollectionError for one without its code."""
    payloads: tuple[Json, ...] = ({},) * len(hits) if bare else tuple(hit.get("_source", {}) for hit in hits)
    rows = None if dense is None else read_dense_fields(hits, dense)
    keys, vectors, codes = packed or (
        [hit["_id"] for hit in hits],
        read_vectors(hits, known.field),
        read_codes(hits, known.field, strict=strict),
    )
    return Documents(from_ids(keys, known.target.ours), vectors, payloads, rows, codes)


def _source(known: Known, judge: Judge, with_payloads: bool) -> Any:
    if with_payloads:
        return {"excludes": sorted({known.field.name, HIDDEN, *known.target.hidden})}
    return list(judge.fields) or False
