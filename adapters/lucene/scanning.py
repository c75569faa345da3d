"""`page`, one page of a scan of the collection from one point in time (C16), and `count`.

Pages go by `_shard_doc` in that point in time: it needs no field to sort by, and is the only order that our own partial
updates do not change. A place is the point in time and the last document of a page; the server keeps it for minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import orjson

from sparsevec.contract.adapter import Page
from sparsevec.contract.filters import Where, conditions
from sparsevec.contract.operations import Operation, counted
from sparsevec.errors import BackendUnsupported, CollectionError, InvalidInput, PlaceForgotten
from sparsevec.vectors import Float32s

from . import points
from .answers import read_codes, read_dense, read_hits, read_vectors, value_at, version_of
from .claims import HIDDEN
from .hazards import source_fault
from .ids import from_id
from .index import Field, Target, read_fields
from .judging import Judge
from .queries import HOLDS, holding, page_body
from .session import Session
from .wire import ask, json, path_of

__all__ = ["Scanning"]

_KEEP = "5m"
_PROBED = 16  # documents that say what a dense row lies beside
_LITTLE = 2  # times the bytes of the row: more would cost the network more than the server saves
_GONE = "the backend has forgotten that place of the scan; scan from the start"


class Scanning:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._mostly: dict[str, bool] = {}  # by dense field, whether documents hold little else

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
        """One page: the first, or the one behind `after`; others' collections are scanned before `create`, too."""
        target = yield from self._target()
        field = read_fields(target, self._session.field)
        point, place = _place(after) if after is not None else ((yield from self._point()), None)
        size = max(1, min(size, target.window - 1))
        judge = Judge.of(target, conditions(where, self._session.engine))
        source = yield from self._source(target, field, payloads, dense, judge.fields)
        one_more = size + 1  # says whether there is more
        body = page_body(point, _KEEP, field, place, one_more, source, vectors, codes=codes, filters=judge.clauses)
        hits, following = yield from self._hits(target.names, point, body, size)
        hits = judge.taken(hits)
        after = None if following is None else orjson.dumps(following).decode()
        return _page(hits, target, field, after, vectors=vectors, payloads=payloads, dense=dense, codes=codes)

    def count(self, where: Where | None) -> Operation[int]:
        """By the server, where as many documents may match as must; else it only narrows, and these are looked at."""
        wanted = conditions(where, self._session.engine)
        known = yield from self._session.existing(0.0) if wanted else self._session.fresh()
        judge = Judge.of(known.target, wanted)
        yield from self._session.refresh()
        at_most = yield from self._counted(known.field, judge.clauses)
        if not judge.fields or not at_most:
            return at_most
        if judge.certain is not None and at_most == (yield from self._counted(known.field, judge.certain)):
            return at_most
        return (yield from counted(self.page, where))

    def _counted(self, field: Field, clauses: Sequence[Any]) -> Operation[int]:
        answer = yield from json("POST", self._session.path("_count"), {"query": holding(clauses, field)})
        read_hits(answer)
        return int(answer["count"])

    def whole(self, after: str | None, size: int) -> Operation[tuple[list[Any], str | None]]:
        """The hits of one page with all that is not ours in their `_source`, and the place behind them."""
        target = yield from self._target()
        if fault := source_fault(target):
            raise fault
        field = read_fields(target, self._session.field)
        point, place = _place(after) if after is not None else ((yield from self._point()), None)
        vectors = yield from self._session.whole_source(target.indices[0])
        source = {**vectors, "excludes": sorted({self._session.field, HIDDEN, *target.hidden})}
        size = max(1, min(size, target.window - 1))
        body = page_body(point, _KEEP, field, place, size + 1, source, False)
        hits, following = yield from self._hits(target.names, point, body, size)
        return hits, None if following is None else orjson.dumps(following).decode()

    def _hits(
        self, names: frozenset[str], point: str, body: Mapping[str, Any], size: int
    ) -> Operation[tuple[list[Any], list[Any] | None]]:
        """At most `size` hits of a page that asks for one more, and the place behind them; None behind the last.

        Raises PlaceForgotten for a place of other indices than these `names`.
        """
        found = yield from points.page(body, _GONE)
        hits, point = read_hits(found), found.get("pit_id", point)
        if not names.issuperset(hit["_index"] for hit in hits):
            raise PlaceForgotten(points.ELSEWHERE)
        if len(hits) > size:
            return list(hits[:size]), [point, hits[size - 1]["sort"]]
        yield from points.close(self._session.engine, point)
        return list(hits), None

    # ---- what changed

    def checkpoint(self) -> Operation[str | None]:
        """Of each shard of each index, the `_seq_no` up to which every write is done; None where that is not told."""
        target = yield from self._target()
        paths = "indices.*.uuid,indices.*.shards.*.routing.primary,indices.*.shards.*.seq_no.global_checkpoint"
        answer = yield from ask("GET", self._session.path("_stats"), {"level": "shards", "filter_path": paths})
        if answer.status != 200:  # no privilege `monitor`, or serverless
            return None
        told: dict[str, dict[str, int]] = {}
        for index in target.indices:
            about = answer.body.get("indices", {}).get(index.name, {})
            shards = {
                number: copy["seq_no"]["global_checkpoint"]
                for number, copies in about.get("shards", {}).items()
                for copy in copies
                if copy.get("routing", {}).get("primary") and "seq_no" in copy
            }
            if len(shards) != int(index.settings.get("index.number_of_shards", 0)):  # one is not there at this moment
                return None
            told[index.settings["index.uuid"]] = shards
        self._session.wrote()  # others did: what they wrote up to here must be seen by whoever scans from now on
        return orjson.dumps(told).decode() if (yield from self._session.refresh(force=True)) else None

    def changed_page(
        self, since: str, *, vectors: bool, payloads: bool, dense: str | None, after: str | None, size: int
    ) -> Operation[Page]:
        """As `page`, of the documents that were written since a checkpoint, shard by shard."""
        target = yield from self._target()
        field = read_fields(target, self._session.field)
        shards = _shards(since, target)
        number, point, place = (0, None, None) if after is None else _place_of_shard(after, len(shards))
        index, shard, behind = shards[number]
        if point is None:
            point = yield from self._point(index, {"preference": f"_shards:{shard}"})
        size = max(1, min(size, target.window - 1))
        source = yield from self._source(target, field, payloads, dense)
        body = page_body(point, _KEEP, field, place, size + 1, source, vectors, behind)
        hits, following = yield from self._hits(target.names, point, body, size)
        if following is not None:
            last: Any = [number, *following]
        else:
            last = [number + 1, None, None] if number + 1 < len(shards) else None
        after = None if last is None else orjson.dumps(last).decode()
        return _page(hits, target, field, after, vectors=vectors, payloads=payloads, dense=dense)

    # ---- parts

    def _target(self) -> Operation[Target]:
        target = yield from self._session.look()
        if target is None:
            raise CollectionError(f"index {self._session.asked!r} is not there; create(dimension) makes it")
        return target

    def _point(self, index: str | None = None, params: Mapping[str, str] | None = None) -> Operation[str]:
        yield from self._session.refresh(force=index is not None)
        path = self._session.path if index is None else partial(path_of, index)
        return (yield from points.opened(self._session.engine, path, _KEEP, params))

    def _source(
        self, target: Target, field: Field | None, payloads: bool, dense: str | None, judged: Sequence[str] = ()
    ) -> Operation[Any]:
        """What of `_source` is needed: all of it, a dense row, the fields that a filter is judged by."""
        if not payloads and dense is None and not judged:
            return False
        if fault := source_fault(target):
            raise fault
        whole = (yield from self._session.whole_source(target.indices[0])) if dense is not None else {}
        if payloads:
            return {**whole, "excludes": sorted({self._session.field, HIDDEN, *target.hidden} if field else {HIDDEN})}
        if dense is not None and (yield from self._holds_little_else(target, dense, whole or True)):
            return whole or True
        return {**whole, "includes": [*judged, *([] if dense is None else [dense])]}

    def _holds_little_else(self, target: Target, dense: str, whole: Any) -> Operation[bool]:
        """Whether documents are mostly their dense row: then they are read whole, for a server that picks a field of
        `_source` reads all of it and writes that anew, which is most of what a page of dense rows costs it."""
        if dense not in self._mostly:
            body = {"size": min(_PROBED, target.window), "_source": whole}
            hits = read_hits((yield from json("POST", self._session.path("_search"), body)))
            sources = [hit.get("_source", {}) for hit in hits]
            rows = [row for row in (value_at(source, dense) for source in sources) if row]
            self._mostly[dense] = bool(rows) and len(repr(sources)) <= _LITTLE * len(repr(rows))
        return self._mostly[dense]


def _page(
    hits: Sequence[Any],
    target: Target,
    field: Field | None,
    after: str | None,
    *,
    vectors: bool,
    payloads: bool,
    dense: str | None,
    codes: bool = False,
) -> Page:
    return Page(
        ids=tuple(from_id(hit["_id"], target.ours) for hit in hits),
        after=after,
        holds=np.array([HOLDS in hit.get("matched_queries", ()) for hit in hits], bool),
        vectors=read_vectors(hits, field) if vectors and field else None,
        payloads=tuple(hit.get("_source", {}) for hit in hits) if payloads else None,
        dense=tuple(_dense(hit, dense) for hit in hits) if dense is not None else None,
        routing=tuple(hit.get("_routing") for hit in hits),
        versions=tuple(version_of(hit) for hit in hits),
        codes=read_codes(hits, field, strict=False) if codes and field else None,
    )


def _dense(hit: Any, path: str) -> Float32s | None:
    """None too where a document holds something else there: it has no row, and a scan goes on to those that have."""
    with suppress(BackendUnsupported):
        return read_dense(hit.get("_source", {}), path)
    return None


def _shards(since: str, target: Target) -> list[tuple[str, int, int]]:
    """(index, shard, `_seq_no`) of a checkpoint. Raises InvalidInput when it is of other indices."""
    try:
        told = orjson.loads(since)
        names = {index.settings["index.uuid"]: index.name for index in target.indices}
        if told.keys() != names.keys():
            raise PlaceForgotten("the checkpoint is of another index than is there now; scan from the start")
        return [(names[uuid], int(n), int(at)) for uuid, shards in told.items() for n, at in sorted(shards.items())]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"expected a checkpoint as the adapter gave it, found {since!r:.80}") from None


def _place(after: str) -> tuple[str, list[Any]]:
    try:
        point, place = orjson.loads(after)
    except (ValueError, TypeError):
        raise InvalidInput(f"expected after= as a page of scan gave it, found {after!r:.80}") from None
    return point, place


def _place_of_shard(after: str, shards: int) -> tuple[int, str | None, list[Any] | None]:
    try:
        number, point, place = orjson.loads(after)
    except (ValueError, TypeError):
        number = point = place = None
    if type(number) is not int or not 0 <= number < shards:
        raise InvalidInput(f"expected after= as a page of changed gave it, found {after!r:.80}")
    return number, point, place
