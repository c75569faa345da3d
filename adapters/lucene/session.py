"""What the conversations of one adapter share: what they know of server and index, and whether a reader must refresh.

Several threads, or several conversations of one event loop, may use it at once: what is known is replaced whole, and a
lock is held only where nothing is waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sparsevec.contract.filters import Condition, fields
from sparsevec.contract.operations import Operation, Together
from sparsevec.errors import BackendDown, CollectionError, InvalidInput

from .answers import read_hits
from .filters import knows
from .index import Field, Index, Target, read_fields, read_target
from .queries import find_body, msearch
from .versions import hides_vectors
from .wire import Answer, Request, ask, good, json, path_of

__all__ = ["Known", "Refresh", "Server", "Session"]

Json = Mapping[str, Any]
Refresh: TypeAlias = Literal["reader", "index"]
"""Who makes writes visible: a reader of this adapter, when it needs to, or the index, after its refresh_interval."""

_STALE = 10.0  # seconds that searches rely on what was read of an index, unless an answer looks odd
_FRESH = 1.0  # the same for writes
_MAX_BODY = 100 * 2**20  # bytes, http.max_content_length as shipped
PAGE = 1000  # hits, or ids, of one request of many


@dataclass(frozen=True, slots=True)
class Server:
    """What the node that answers says of itself; without privileges it says nothing."""

    version: str | None
    max_body: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the name stands for, with our field in it, as read at that time."""

    target: Target
    field: Field
    at: float

    def older_than(self, seconds: float) -> bool:
        return time.monotonic() - self.at >= seconds


class Session:
    def __init__(self, engine: str, asked: str, field: str, refresh: Refresh = "reader") -> None:
        if fault := _name_fault(asked) or _field_fault(field):
            raise InvalidInput(fault)
        if refresh not in ("reader", "index"):
            raise InvalidInput(f"refresh must be 'reader' or 'index', found {refresh!r:.80}")
        self.engine, self.asked, self.field = engine, asked, field
        self.max_clauses = 2**31
        self.compact = True  # until the server says that it knows no sparse_vector query (before 8.15)
        self.scripts = True  # until the server says that it runs none
        self.by_index = True  # until the server says that the credentials are for an alias alone, not for its index
        self.news = True  # whether most documents of the last write were not there before
        self.foreign: str | None = None  # the claim known to hold vectors without a fingerprint
        self._known: Known | None = None
        self._names: frozenset[str] = frozenset()
        self._server: Server | None = None
        self._lock = threading.Lock()
        self._writes, self._seen = 0, 0  # writes so far, with those of others before we looked, and what readers see
        self._left_to_index = refresh == "index"
        self._may_refresh: bool | None = None  # whether the server lets us, once it was asked; else each write waits

    def path(self, *actions: str) -> str:
        return path_of(self.asked, *actions)

    # ---- the server

    def serving(self) -> Operation[Server]:
        if self._server is None:
            self._server = yield from self._ask_server()
        return self._server

    def _ask_server(self) -> Operation[Server]:
        """From the node itself: some answer no `GET /`, and some answer it alone."""
        wanted = {"filter_path": "nodes.*.version,nodes.*.http.max_content_length_in_bytes"}
        answer = yield from ask("GET", "/_nodes/_local/http", wanted)
        if answer.status == 200 and (nodes := good(answer).get("nodes")):
            ((_, node),) = nodes.items()
            return Server(node["version"], node.get("http", {}).get("max_content_length_in_bytes", _MAX_BODY))
        if answer.status == 401 or answer.status == 429 or answer.status >= 500:
            good(answer)  # raises: to be asked again
        answer = yield from ask("GET", "/")
        return Server(good(answer)["version"]["number"] if answer.status == 200 else None, _MAX_BODY)

    def whole_source(self, index: Index) -> Operation[Any]:
        """What to ask `_source` for, so that nothing is left out of it."""
        server = yield from self.serving()
        return {"exclude_vectors": False} if hides_vectors(self.engine, server.version, index.created) else {}

    # ---- the index

    def stands_for(self) -> Operation[Target | None]:
        """What the name stands for now; None when it is not there."""
        answer = yield from ask("GET", self.path(), {"flat_settings": "true"})
        return None if answer.status == 404 else read_target(self.asked, good(answer))

    def look(self) -> Operation[Target | None]:
        """The same, and it is known from now on, with our field."""
        target = yield from self.stands_for()
        if target is None:
            self._known = None
            return None
        if target.names != self._names:
            self._names = target.names
            self.wrote()  # by others, perhaps, and before we looked
        field = read_fields(target, self.field)
        self._known = Known(target, field, time.monotonic()) if field else None
        return target

    def find(self) -> Operation[Known | None]:
        """The same with our field in it; None when either is not there."""
        yield from self.look()
        return self._known

    def existing(self, within: float = _STALE) -> Operation[Known]:
        """Our field, as read within so many seconds. Raises CollectionError when it is not there."""
        known = self._known
        if known is None or known.older_than(within):
            known = yield from self.find()
        if known is None:
            raise CollectionError(
                f"index {self.asked!r} is not there, or has no field {self.field!r} of ours; create(dimension) makes "
                f"them"
            )
        return known

    def fresh(self) -> Operation[Known]:
        """The same, for a write."""
        known = yield from self.existing(_FRESH)
        return known

    def knowing(self, known: Known, wanted: Sequence[Condition]) -> Operation[Known]:
        """The same with every field of a filter, which documents written since may have added."""
        if all(knows(field, index.mappings) for field in fields(wanted) for index in known.target.indices):
            return known
        return (yield from self.existing(0.0))

    def forget(self) -> None:
        """What is known of the index has turned out to be old."""
        self._known = None

    # ---- refreshing

    def wrote(self) -> None:
        with self._lock:
            self._writes += 1

    def refresh(self, *, force: bool = False) -> Operation[bool]:
        """Make every write that was reported before visible, if a reader does not see it yet; whether it is now.

        `force`: also where readers leave that to the index, because what follows would go wrong without it.
        """
        with self._lock:
            writes = self._writes
            if self._seen >= writes:
                return True
            if self._may_refresh is False or (self._left_to_index and not force):
                return False
        answer = yield from ask("POST", self.path("_refresh"))
        if answer.status == 403:
            self._may_refresh = False
            return False
        read_hits(good(answer))
        with self._lock:
            self._seen, self._may_refresh = max(self._seen, writes), True
        return True

    def write_params(self) -> Operation[dict[str, str]]:
        """Before the first write it is asked whether we may refresh: a reader could not wait for it any more (C2)."""
        if self._may_refresh is None and not self._left_to_index:
            answer = yield from ask("POST", self.path("_refresh"))
            if answer.status in (200, 403):  # else the write itself says what is wrong
                self._may_refresh = answer.status == 200
        return {"refresh": "wait_for"} if self._may_refresh is False else {}

    # ---- searches

    def msearch(self, bodies: Sequence[Json]) -> Operation[list[Json]]:
        (responses,) = yield from self.msearches([bodies])
        return responses

    def msearches(self, batches: Sequence[Sequence[Json]]) -> Operation[list[list[Json]]]:
        """The responses to several multi-searches, under way at the same time."""
        target = self.path("_msearch")  # a filter_path costs more than the 75 bytes that it saves
        requests = [Request("POST", target, msearch(bodies), "x-ndjson") for bodies in batches]
        answers = (yield Together(requests)) if len(requests) > 1 else [(yield requests[0])]
        return [self._responses(answer, len(bodies)) for answer, bodies in zip(answers, batches, strict=True)]

    def _responses(self, answer: Answer, expected: int) -> list[Json]:
        responses: list[Json] = good(answer).get("responses", [])
        if len(responses) != expected:
            raise BackendDown(f"{expected} queries were sent and {len(responses)} were answered")
        return responses

    def locate(self, index: Index, keys: Sequence[str], source: Any = False) -> Operation[list[Json]]:
        """The hits of those documents that are there, whatever their routing."""
        found: list[Json] = []
        at_once = max(1, min(PAGE, index.window) // 2)  # an _id may be there twice, with two routings
        for start in range(0, len(keys), at_once):
            body = find_body(keys[start : start + at_once], min(2 * at_once, index.window), source)
            params = {"allow_partial_search_results": "false"}
            answer = yield from json("POST", path_of(index.name, "_search"), body, params)
            found += read_hits(answer)
        return found

    def put_mapping(self, index: Index, properties: Json) -> Operation[None]:
        try:
            yield from json("PUT", path_of(index.name, "_mapping"), {"properties": properties})
        finally:
            self.forget()  # also where it was refused: somebody else was first

    def bulk(self, index: Index, bodies: Iterable[bytes], params: Mapping[str, str]) -> Operation[Any]:
        """The answer to one bulk request, read; what it wrote is to be refreshed before the next read.

        It goes to the index itself: an alias may be moved at this moment to an index that would map our field anew.
        """
        path = path_of(index.name, "_bulk") if self.by_index else self.path("_bulk")
        try:
            answer = yield from ask("POST", path, params, b"".join(bodies), "x-ndjson")
            return good(answer)
        finally:
            self.wrote()  # a request that failed may have written, too


def _name_fault(index: str) -> str | None:
    if not index or index[0] in "_-+." or set(index) & set('*,/\\?"<>| #:') or index != index.lower():
        return (
            "the path of the url must name one index, in lower case and without wildcards, such as "
            f"elasticsearch://localhost:9200/products; found {index!r}"
        )
    return None


def _field_fault(field: str) -> str | None:
    if not field or field[0] == "_" or set(field) & set('.*[]"~'):
        return (
            f'a field must be a top-level one: a name without . * [ ] " ~ that does not begin with _, found {field!r}'
        )
    return None
