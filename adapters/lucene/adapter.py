"""`LuceneAdapter`: the contract over one index. What Elasticsearch and OpenSearch do differently is in their `Wire`.

Writes are acknowledged from the translog, on disk. They become searchable at the next refresh, so this adapter
refreshes once before the first read after a write, and before its own first read: bulk loading pays for no refresh, and
whoever reads through an adapter sees every write that was reported before. Other readers see it within the
refresh_interval of the index, 1 s by default. Where the privilege to refresh is missing, every write waits for that.

An index that others made stays theirs: `create` adds our field to it, `delete` and `drop` take our vectors out of its
documents and leave the documents.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import numpy as np
import orjson

from sparsevec.contract.adapter import Documents, Failure, Hits, Written
from sparsevec.contract.checks import Id, Payload, check_batch, check_dimension, check_ids, check_k
from sparsevec.contract.filters import Condition, Where, conditions, matches
from sparsevec.contract.urls import Url
from sparsevec.errors import AdapterError, BackendDown, BackendUnsupported, CollectionError, InvalidInput, OutOfLimits
from sparsevec.vectors import Float32s, SparseVector, SparseVectors

from . import documents as lucene
from .documents import Field, Index, Json, Line
from .filters import filter_clauses, leaves

_PATIENCE = "30s"  # that a bulk request waits for a shard; less than the clients wait for the answer
_SCROLL = "5m"
_QUERIES, _HITS = 32, 20_000  # most queries, and hits, of one multi-search
_PAGE = 1000  # hits of one scroll request
_MAX_BODY = 100 * 2**20  # bytes, http.max_content_length as shipped


@dataclass(frozen=True, slots=True)
class Answer:
    """Of the server, whatever its status; `body` is read JSON."""

    status: int
    body: Any
    retry_after: float | None = None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asked us to wait."""
    seconds = headers.get("retry-after", "")
    return float(seconds) if seconds.isdigit() else None


class Wire(Protocol):
    """The way to a server. `send` raises only AdapterErrors: BackendDown when no whole answer came back."""

    engine: str

    def send(self, method: str, target: str, body: bytes | None, kind: str) -> Answer:
        """One request, once, to a path with its parameters. `kind` of a body: json or x-ndjson."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Server:
    """What the node that answers says of itself; without privileges it says nothing."""

    version: str | None
    max_body: int


class LuceneAdapter:
    """Sparse vectors in `field` of `index`. `shards` and `replicas` are those of an index that `create` makes."""

    def __init__(
        self, wire: Wire, index: str, field: str = "sparse", *, shards: int | None = None, replicas: int | None = None
    ) -> None:
        if fault := _name_fault(index) or _field_fault(field):
            raise InvalidInput(fault)
        self._wire = wire
        self._index = index
        self._field_name = field
        self._shards, self._replicas = shards, replicas
        self._closed = False
        self._known: tuple[Index, Field] | None = None  # for searches; a write looks again
        self._server: Server | None = None
        self._refreshing = threading.Lock()
        self._unrefreshed = True  # what was written before this adapter was made
        self._may_refresh = True
        self._max_clauses = 2**31

    @property
    def name(self) -> str:
        return f"{self._wire.engine} {self._serving().version or 'of unknown version'}"

    @property
    def dimension(self) -> int | None:
        found = self._look()
        return found[1].dimension if found else None

    def create(self, dimension: int) -> None:
        SparseVectors([0], [], [], dimension)  # refuses a dimension that vectors could not have
        if self._look() is not None:
            raise CollectionError(
                f"index {self._index!r} has a field {self._field_name!r} already; name another, or drop() it first"
            )
        index = self._read()
        if index is None:
            self._create_index(dimension)
        else:
            self._add_field(index, dimension)
        self._known = self._look()

    def _create_index(self, dimension: int) -> None:
        version = self._serving().version
        if version is None:
            raise BackendUnsupported(
                "the credentials lack the privilege `monitor`, which creating an index needs to choose its mapping; "
                "or make the index yourself, and create(dimension) adds the field to it"
            )
        created = lucene.version_created(self._wire.engine, version)
        body = lucene.new_index(self._field_name, dimension, created, shards=self._shards, replicas=self._replicas)
        self._json("PUT", self._path(), body)

    def _add_field(self, index: Index, dimension: int) -> None:
        if fault := lucene.write_fault(index):
            raise fault
        properties = lucene.field_properties(self._field_name, index.created)
        missing = {name: mapping for name, mapping in properties.items() if name not in index.properties}
        self._note(index, {"dimension": dimension, "created": "field"}, missing)

    def _note(self, index: Index, note: Json, properties: Json) -> None:
        body = {"properties": properties, "_meta": lucene.noted(index, self._field_name, note)}
        self._json("PUT", self._path("_mapping"), body)

    def upsert(self, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload] | None = None) -> Written:
        index, field = self._existing()
        ids, payloads = check_batch(ids, vectors, payloads, field.dimension)
        self._prepare(index, field, payloads)
        sent, failed = _to_lines(ids, vectors, payloads, field)
        written: list[Id] = []
        for line, item in zip(sent, self._write(sent), strict=True):
            if fault := lucene.failure(item):
                failed[line.id] = fault
            else:
                written.append(line.id)
        return Written(tuple(written), failed=failed)

    def _prepare(self, index: Index, field: Field, payloads: Sequence[Payload]) -> None:
        """Raise what would make every write fail, and map what a document could not map by itself."""
        if fault := lucene.write_fault(index):
            raise fault
        mapping = lucene.mixed_fields(payloads, index) if field.created == "index" else {}
        if field.present not in index.properties:  # a field that others made has no marker yet
            mapping[field.present] = lucene.field_properties(field.name, index.created)[field.present]
        if mapping:
            self._json("PUT", self._path("_mapping"), {"properties": mapping})

    def _write(self, sent: Sequence[Line]) -> list[Json]:
        """The bulk item of each document. One request, and a second one for documents that need another look."""
        items = self._items([line.body for line in sent])
        raced = [i for i, item in enumerate(items) if lucene.lost_race(item)]
        for i, item in zip(raced, self._items([sent[i].body for i in raced]), strict=True):
            items[i] = item
        merged = [i for i, line in enumerate(sent) if line.objects and items[i].get("result") in ("updated", "noop")]
        replaced = self._items([lucene.replacement(sent[i]) for i in merged], actions=2)
        for i, emptied, filled in zip(merged, replaced[::2], replaced[1::2], strict=True):
            items[i] = emptied if lucene.failure(emptied) else filled
        return items

    def _items(self, bodies: Sequence[bytes], actions: int = 1) -> list[Json]:
        """What became of each action of one bulk request."""
        if not bodies:
            return []
        size, most = sum(map(len, bodies)), self._serving().max_body
        if size > most:
            raise OutOfLimits(
                f"the request has {size} bytes, the server takes {most} (http.max_content_length); "
                f"send fewer documents at once",
                splittable=len(bodies) > 1,
            )
        params = {"timeout": _PATIENCE, "filter_path": lucene.BULK_PATHS}
        if not self._may_refresh:
            params["refresh"] = "wait_for"
        try:
            answer = self._send("POST", self._path("_bulk"), params, b"".join(bodies), "x-ndjson")
            return lucene.bulk_items(_good(answer), actions * len(bodies))
        finally:
            self._unrefreshed = True  # a request that failed may have written, too

    def search(
        self, queries: SparseVectors, k: int, *, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        check_k(k)
        index, field = self._known or self._existing()
        check_dimension(queries, field.dimension)
        if queries.nnz and queries.values.min() < 0:
            raise OutOfLimits(
                f"the query weight {queries.values.min()} is negative; {self._wire.engine} cannot score it"
            )
        wanted = conditions(where)
        if wanted:
            index, field = self._existing()  # documents written since may have added fields
        self._refresh()
        search = _Search(field, index, k, wanted, with_payloads)
        hits = [Hits((), np.empty(0, np.float32), () if with_payloads else None)] * len(queries)
        asked = np.flatnonzero(queries.row_nnz)
        at_once = max(1, min(_QUERIES, _HITS // search.page))
        for start in range(0, len(asked), at_once):
            rows = asked[start : start + at_once].tolist()
            for row, answer in zip(rows, self._batch(search, [queries[row] for row in rows]), strict=True):
                hits[row] = answer
        return hits

    def _batch(self, search: _Search, queries: Sequence[SparseVector]) -> list[Hits]:
        """One multi-search; a query with more weights than the server takes is split."""
        room = search.room(self._max_clauses)
        bodies = [search.body(query) for query in queries if len(query) <= room]
        responses = iter(self._msearch(bodies) if bodies else ())
        return [
            self._answer(search, query, next(responses)) if len(query) <= room else self._sum(search, query, room)
            for query in queries
        ]

    def _answer(self, search: _Search, query: SparseVector, response: Json) -> Hits:
        if limit := lucene.clause_limit(response):
            self._max_clauses = limit
            return self._sum(search, query, search.room(limit))
        page = lucene.read_hits(response)
        found = [hit for hit in page if search.takes(hit)]
        if len(page) == search.page and len(found) < search.k:  # deeper than one answer goes
            everything = self._scroll(search.body(query), search.index)
            found = list(islice((hit for hit in everything if search.takes(hit)), search.k))
        return search.hits(found)

    def _sum(self, search: _Search, query: SparseVector, room: int) -> Hits:
        """The exact answer to a query that has to be asked in parts: every hit of every part, added up."""
        if room < 1:
            raise OutOfLimits(f"the filter alone has more clauses than the server takes ({self._max_clauses})")
        totals: dict[str, float] = {}
        for part in lucene.split(query, room):
            for hit in self._scroll(search.body(part), search.index):
                if search.takes(hit):
                    totals[hit["_id"]] = totals.get(hit["_id"], 0.0) + float(np.float32(hit["_score"]))
        best = sorted(totals.items(), key=lambda item: -item[1])[: search.k]
        ids = tuple(lucene.from_id(id_) for id_, _ in best)
        scores = np.array([score for _, score in best], np.float32)
        if not search.with_payloads:
            return Hits(ids, scores)
        found = self.fetch(ids)
        payloads = dict(zip(found.ids, found.payloads, strict=True))
        return Hits(ids, scores, tuple(payloads.get(id_, {}) for id_ in ids))

    def fetch(self, ids: Sequence[Id]) -> Documents:
        index, field = self._existing()
        ids = check_ids(ids)
        if fault := lucene.source_fault(index):
            raise fault
        self._refresh()
        found: dict[Id, Json] = {}
        at_once = min(_PAGE, index.window)
        for start in range(0, len(ids), at_once):
            wanted = [lucene.to_id(id_) for id_ in ids[start : start + at_once]]
            (response,) = self._msearch([lucene.fetch_body(wanted, field)])
            found |= {lucene.from_id(hit["_id"]): hit for hit in lucene.read_hits(response)}
        ids = [id_ for id_ in ids if id_ in found]
        hits = [found[id_] for id_ in ids]
        payloads = tuple(hit.get("_source", {}) for hit in hits)
        return Documents(tuple(ids), lucene.from_wire(hits, field), payloads)

    def delete(self, ids: Sequence[Id]) -> None:
        _, field = self._existing()
        self._remove([lucene.to_id(id_) for id_ in check_ids(ids)], field, documents=field.created == "index")

    def count(self) -> int:
        _, field = self._existing()
        self._refresh()
        answer = self._json("POST", self._path("_count"), {"query": {"exists": {"field": field.present}}})
        lucene.read_hits(answer)
        return int(answer["count"])

    def drop(self) -> None:
        found = self._look()
        if found is None:
            return
        index, field = found
        if field.created is None:
            raise CollectionError(
                f"field {field.name!r} of index {index.name!r} was made by others, so drop() leaves it; "
                f"delete(ids) takes vectors out of it"
            )
        if field.created == "index":
            self._json("DELETE", f"/{quote(index.name, safe='')}")
        else:
            self._empty(index, field)
        self._known = None

    def _empty(self, index: Index, field: Field) -> None:
        """Every vector of ours out of an index that is not ours; its mapping keeps the field, as mappings do."""
        self._refresh()
        holders = self._scroll(lucene.search_body({"exists": {"field": field.present}}, (), _PAGE, False), index)
        while ids := [hit["_id"] for hit in islice(holders, _PAGE)]:
            self._remove(ids, field, documents=False)
        self._note(index, {"dimension": None, "created": "field"}, {})

    def close(self) -> None:
        self._closed = True
        self._wire.close()

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return lucene.stored(vectors)

    def slack(self, vectors: SparseVectors) -> Float32s:
        return np.zeros(vectors.nnz, np.float32)

    # ---- the index

    def _read(self) -> Index | None:
        answer = self._send("GET", self._path(), {"flat_settings": "true"})
        if answer.status == 404:
            return None
        return lucene.read_index(self._index, _good(answer))

    def _look(self) -> tuple[Index, Field] | None:
        index = self._read()
        field = index and lucene.read_field(index, self._field_name)
        return (index, field) if index and field else None

    def _existing(self) -> tuple[Index, Field]:
        self._known = self._look()
        if self._known is None:
            raise CollectionError(
                f"index {self._index!r} is not there, or has no field {self._field_name!r} of ours; "
                f"create(dimension) makes them"
            )
        return self._known

    def _serving(self) -> Server:
        if self._server is None:
            self._server = self._ask_server()
        return self._server

    def _ask_server(self) -> Server:
        """From the node itself: some answer no `GET /`, and some answer it alone."""
        wanted = {"filter_path": "nodes.*.version,nodes.*.http.max_content_length_in_bytes"}
        answer = self._send("GET", "/_nodes/_local/http", wanted)
        if answer.status == 200 and answer.body.get("nodes"):
            ((_, node),) = answer.body["nodes"].items()
            return Server(node["version"], node.get("http", {}).get("max_content_length_in_bytes", _MAX_BODY))
        answer = self._send("GET", "/")
        return Server(answer.body["version"]["number"] if answer.status == 200 else None, _MAX_BODY)

    # ---- requests

    def _refresh(self) -> None:
        with self._refreshing:
            if not self._unrefreshed or not self._may_refresh:
                return
            self._unrefreshed = False  # before the request: a write that ends while it runs says so again
            try:
                answer = self._send("POST", self._path("_refresh"))
                self._may_refresh = answer.status != 403
                if self._may_refresh:
                    lucene.read_hits(_good(answer))
            except AdapterError:
                self._unrefreshed = True
                raise

    def _remove(self, ids: Sequence[str], field: Field, *, documents: bool) -> None:
        body = lucene.deletions(ids) if documents else lucene.removals(ids, field)
        lucene.check_removed(self._items([body], actions=len(ids)) if ids else ())

    def _msearch(self, bodies: Sequence[Json]) -> list[Json]:
        params = {"filter_path": lucene.SEARCH_PATHS}
        answer = self._send("POST", self._path("_msearch"), params, lucene.msearch(bodies), "x-ndjson")
        responses: list[Json] = _good(answer).get("responses", [])
        if len(responses) != len(bodies):
            raise BackendDown(f"{len(bodies)} queries were sent and {len(responses)} were answered")
        return responses

    def _scroll(self, body: Json, index: Index) -> Iterator[Json]:
        """Every hit there is, best first, from one point in time."""
        size = min(_PAGE, index.window)
        body = {**body, "size": size, "track_total_hits": True}  # a scroll refuses not to track
        params = {"scroll": _SCROLL, "allow_partial_search_results": "false"}
        answer = self._json("POST", self._path("_search"), body, params)
        try:
            while hits := lucene.read_hits(answer):
                yield from hits
                if len(hits) < size:
                    return
                answer = self._json("POST", "/_search/scroll", {"scroll": _SCROLL, "scroll_id": answer["_scroll_id"]})
        finally:
            self._send("DELETE", "/_search/scroll", body=orjson.dumps({"scroll_id": answer["_scroll_id"]}))

    def _json(self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None) -> Any:
        return _good(self._send(method, path, params or {}, None if body is None else orjson.dumps(body)))

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        kind: str = "json",
    ) -> Answer:
        if self._closed:
            raise AdapterError(f"this adapter of index {self._index!r} was closed; connect again")
        return self._wire.send(method, f"{path}?{urlencode(params)}" if params else path, body, kind)

    def _path(self, action: str = "") -> str:
        return f"/{quote(self._index, safe='')}{'/' if action else ''}{action}"


class _Search:
    """What is the same for every query of one search: how it is asked, and how its hits are read."""

    def __init__(self, field: Field, index: Index, k: int, wanted: Sequence[Condition], with_payloads: bool) -> None:
        self.index, self.k, self.with_payloads = index, k, with_payloads
        self.page = min(k, index.window)
        self._field, self._wanted = field, wanted
        self._filters = filter_clauses(wanted, index.mappings)
        self._source = _source(field, wanted, with_payloads)
        if self._source and (fault := lucene.source_fault(index)):
            raise fault

    def body(self, query: SparseVector, size: int | None = None) -> Json:
        return lucene.search_body(
            lucene.query_clause(query, self._field), self._filters, size or self.page, self._source
        )

    def room(self, max_clauses: int) -> int:
        """How many weights a query may have beside the filter."""
        return max_clauses - leaves(self._filters)

    def takes(self, hit: Json) -> bool:
        return not self._wanted or matches(hit.get("_source", {}), self._wanted)

    def hits(self, found: Sequence[Json]) -> Hits:
        ids = tuple([lucene.from_id(hit["_id"]) for hit in found])
        scores = np.array([hit["_score"] for hit in found], np.float32)
        return Hits(ids, scores, tuple(hit.get("_source", {}) for hit in found) if self.with_payloads else None)


def _source(field: Field, wanted: Sequence[Condition], with_payloads: bool) -> Any:
    if with_payloads:
        return {"excludes": [field.name, field.present]}
    return sorted({condition.field for condition in wanted}) or False


def _to_lines(
    ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload], field: Field
) -> tuple[list[Line], dict[Id, Failure]]:
    """The documents to send, and those that the backend would refuse."""
    sent: list[Line] = []
    failed: dict[Id, Failure] = {}
    refused = lucene.refusals(vectors)
    for row, (id_, vector, payload) in enumerate(zip(ids, lucene.weights(vectors), payloads, strict=True)):
        line = refused.get(row) or lucene.to_line(id_, vector, payload, field)
        if isinstance(line, str):
            failed[id_] = Failure(line)
        else:
            sent.append(line)
    return sent, failed


def _good(answer: Answer) -> Any:
    if answer.status >= 300:
        raise lucene.to_error(answer.status, answer.body, answer.retry_after)
    if not isinstance(answer.body, Mapping):
        raise BackendDown(f"the answer is not a JSON object: {answer.body!r:.100}")
    return answer.body


def _name_fault(index: str) -> str | None:
    if not index or index[0] in "_-+." or set(index) & set('*,/\\?"<>| #:') or index != index.lower():
        return (
            "the path of the url must name one index, in lower case and without wildcards, such as "
            f"elasticsearch://localhost:9200/products; found {index!r}"
        )
    return None


def _field_fault(field: str) -> str | None:
    if not field or field[0] == "_" or set(field) & set('.*[]"'):
        return f'a field must be a top-level one: a name without . * [ ] " that does not begin with _, found {field!r}'
    return None


def url_options(url: Url) -> dict[str, Any]:
    """`field`, `shards` and `replicas` of a url."""
    url.expect_options("field", "shards", "replicas")
    try:
        return {name: value if name == "field" else int(value) for name, value in url.options.items()}
    except ValueError:
        raise InvalidInput(
            f"shards and replicas of the {url.engine} url must be ints, found {dict(url.options)}"
        ) from None
