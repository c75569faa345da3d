"""`page`: one page of a scan of the whole collection, from one point in time (C16).

Pages go by `_shard_doc` in that point in time: it needs no field to sort by, and is the only order that our own partial
updates do not change. A place is the point in time and the last document of a page; the server keeps it for minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from sparsevec.contract.adapter import Page
from sparsevec.contract.operations import Operation
from sparsevec.errors import AdapterError, CollectionError, InvalidInput

from .answers import read_dense, read_hits, read_vectors, version_of
from .errors import says, to_error
from .hazards import source_fault
from .ids import from_id
from .index import HIDDEN, Field, Target, read_fields
from .queries import HOLDS, page_body
from .session import Session
from .wire import Answer, ask, good, json

__all__ = ["Scanning"]

_KEEP = "5m"
_GONE = "the backend has forgotten that place of the scan; scan from the start"


class Scanning:
    def __init__(self, session: Session) -> None:
        self._session = session

    def page(
        self, *, vectors: bool, payloads: bool, dense: str | None, after: str | None, size: int
    ) -> Operation[Page]:
        """One page: the first, or the one behind `after`; others' collections are scanned before `create`, too."""
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise InvalidInput(f"size must be an int of at least 1, found {size!r:.80}")
        target = yield from self._target()
        field = read_fields(target, self._session.field)
        point, place = _place(after) if after is not None else ((yield from self._point()), None)
        size = max(1, min(int(size), target.window - 1))
        source = yield from self._source(target, field, payloads, dense)
        body = page_body(point, _KEEP, field, place, size + 1, source, vectors)  # one more says whether there is more
        answer = yield from ask("POST", "/_search", body=orjson.dumps(body))
        found = _read(answer)
        hits, point = read_hits(found), found.get("pit_id", point)
        last, hits = len(hits) <= size, hits[:size]
        if last:
            yield from self._close(point)
        return Page(
            ids=tuple(from_id(hit["_id"], target.ours) for hit in hits),
            after=None if last else orjson.dumps([point, hits[-1]["sort"]]).decode(),
            holds=np.array([HOLDS in hit.get("matched_queries", ()) for hit in hits], bool),
            vectors=read_vectors(hits, field) if vectors and field else None,
            payloads=tuple(hit.get("_source", {}) for hit in hits) if payloads else None,
            dense=tuple(read_dense(hit.get("_source", {}), dense) for hit in hits) if dense is not None else None,
            routing=tuple(hit.get("_routing") for hit in hits),
            versions=tuple(version_of(hit) for hit in hits),
        )

    def _target(self) -> Operation[Target]:
        target = yield from self._session.look()
        if target is None:
            raise CollectionError(f"index {self._session.asked!r} is not there; create(dimension) makes it")
        return target

    def _point(self) -> Operation[str]:
        yield from self._session.refresh()
        action = ("_search", "point_in_time") if self._session.engine == "opensearch" else ("_pit",)
        answer = yield from json("POST", self._session.path(*action), params={"keep_alive": _KEEP})
        return str(answer["pit_id"] if "pit_id" in answer else answer["id"])

    def _close(self, point: str) -> Operation[None]:
        if self._session.engine == "opensearch":
            yield from ask("DELETE", "/_search/point_in_time", body=orjson.dumps({"pit_id": [point]}))
        else:
            yield from ask("DELETE", "/_pit", body=orjson.dumps({"id": point}))

    def _source(self, target: Target, field: Field | None, payloads: bool, dense: str | None) -> Operation[Any]:
        if not payloads and dense is None:
            return False
        if fault := source_fault(target):
            raise fault
        whole = (yield from self._session.whole_source(target.indices[0])) if dense is not None else {}
        if payloads:
            return {**whole, "excludes": sorted({self._session.field, HIDDEN, *target.hidden} if field else {HIDDEN})}
        return {**whole, "includes": [dense]}


def _place(after: str) -> tuple[str, list[Any]]:
    try:
        point, place = orjson.loads(after)
    except (ValueError, TypeError):
        raise InvalidInput(f"expected after= as a page of scan gave it, found {after!r:.80}") from None
    return point, place


def _read(answer: Answer) -> Mapping[str, Any]:
    """The answer to a page. Raises InvalidInput when its point in time is gone, or never was."""
    gone = answer.status == 404 and says(answer.body, "search_context_missing")
    never = answer.status == 400 and says(answer.body, "search context id")
    if gone or never:
        raise InvalidInput(_GONE) from _cause(answer)
    found: Mapping[str, Any] = good(answer)
    if not found.get("_shards", {}).get("total"):
        raise InvalidInput(_GONE)
    return found


def _cause(answer: Answer) -> AdapterError:
    return to_error(answer.status, answer.body)
