"""An index made again under another name, with all it holds (`contract.copies`).

Left out of the new one is why its documents cannot be changed: that it is a time series, appends only, or derives its
`_source`. Documents are read and written as JSON: whole numbers of any length stay, fractions to a double's precision.
"""

from __future__ import annotations

import json as json_
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from sparsevec.contract.copies import Marks, RawId, Taken, Whole, among, marks_of
from sparsevec.contract.operations import Operation
from sparsevec.errors import BackendDown, CollectionError, OutOfLimits

from .answers import read_hits
from .claims import HIDDEN
from .errors import failure
from .hazards import final_pipeline, hazards
from .index import Index
from .session import PAGE, Session
from .versions import hides_vectors
from .wire import ask, good, json, path_of

__all__ = ["Copying"]

Json = Mapping[str, Any]

_TOGETHER = 200  # documents that are read and written in one request, with all that they hold

_OF_THE_OLD = (  # settings that are of that one index, or that its documents cannot be changed under
    "index.append_only",
    "index.blocks",
    "index.creation_date",
    "index.derived_source",
    "index.dimensions",
    "index.history",
    "index.lifecycle.indexing_complete",
    "index.mapping.source",
    "index.mode",
    "index.provided_name",
    "index.resize",
    "index.routing.allocation.initial_recovery",
    "index.routing_path",
    "index.time_series",
    "index.uuid",
    "index.verified_before_close",
    "index.version",
)
_PIPELINES = ("index.default_pipeline", "index.final_pipeline")


class Copying:
    def __init__(self, session: Session, page: Any) -> None:
        self._session, self._page = session, page

    def _index(self) -> Operation[Index]:
        target = yield from self._session.look()
        if target is None:
            raise CollectionError(f"index {self._session.asked!r} is not there")
        if len(target.indices) != 1:
            raise CollectionError(
                f"{self._session.asked!r} stands for {len(target.indices)} indices, {sorted(target.names)}; copy one "
                f"after the other, each through an alias of its own"
            )
        return target.indices[0]

    def stands_for(self) -> Operation[str]:
        index = yield from self._index()
        return index.name

    def make_twin(self, name: str, dimension: int, fingerprint: str, code_bytes: int | None) -> Operation[None]:
        del dimension, fingerprint, code_bytes  # a field can be added to the new index as to any
        index = yield from self._index()
        target = yield from self._session.look()
        assert target is not None  # it was there
        for hazard in hazards(target, self._session.field):
            if hazard.level == "blocking" and not hazard.copied:
                raise hazard.to_error()
        yield from self._expect_no_alias(name)
        settings = {key: value for key, value in index.settings.items() if not _dropped(key)}
        settings |= dict.fromkeys(_PIPELINES, "_none")  # nor those of an index template: documents have been through
        server = yield from self._session.serving()
        if hides_vectors(self._session.engine, server.version, index.created):
            settings["index.mapping.exclude_source_vectors"] = "false"  # else each update moves a vector by a bit
        mappings = {key: value for key, value in index.mappings.items() if not key.startswith("_data_stream")}
        if source := {key: value for key, value in mappings.pop("_source", {}).items() if key != "mode"}:
            mappings["_source"] = source
        yield from json("PUT", path_of(name), {"settings": settings, "mappings": mappings})
        made = yield from json("GET", path_of(name, "_alias"))
        if aliases := made[name]["aliases"]:
            yield from json("DELETE", path_of(name))
            raise _aliased(name, aliases)

    def _expect_no_alias(self, name: str) -> Operation[None]:
        """Where it may be asked, and of composable templates: the alias of another is seen when the index is made."""
        answer = yield from ask("POST", path_of("_index_template", "_simulate_index", name))
        if answer.status == 200 and (aliases := answer.body.get("template", {}).get("aliases")):
            raise _aliased(name, aliases)

    def whole_page(self, after: str | None) -> Operation[Whole]:
        if after is None:
            self._session.wrote()  # by others, perhaps
        hits, following = yield from self._page(after, PAGE)
        return Whole(tuple(map(_key, hits)), _marks(hits), following)

    def take(self, source: str, ids: Sequence[RawId], over: Marks | None) -> Operation[Taken]:
        """Over what was read here, by the version that it had then."""
        refused, left = dict[RawId, str](), list[RawId]()
        for some in _parts(ids):
            hits = yield from self._found(source, some)
            here = {} if over is None else (yield from self._here(some))
            lines = []
            for hit in hits:
                key = _key(hit)
                guard = _guard(here.get(key), over) if over is not None else {}
                if guard is None:
                    if (_marks([hit]) != _marks([here[key]])).any():  # else an earlier try has brought it
                        left.append(key)
                    continue
                action = "create" if over is not None and not guard else "index"
                lines.append((action, self._session.asked, {**hit, **guard}, json_.dumps(hit["_source"]).encode()))
            items = yield from _bulk(lines)
            done = []
            for line, item in zip(lines, items, strict=True):
                if item["status"] == 409:
                    left.append(_key(line[2]))
                elif fault := failure(item):
                    refused[_key(line[2])] = fault.reason[:500]
                else:
                    done.append((line[2], item))
            if done and over is not None and final_pipeline((yield from self._index())) is not None:
                refused |= yield from self._restored(done)
        self._session.wrote()
        return Taken(refused, tuple(left))

    def _restored(self, done: Sequence[tuple[Json, Json]]) -> Operation[dict[RawId, str]]:
        """Documents that a final pipeline, which they had been through, has changed once more as they were written, as
        they were: a partial update passes by it. One that somebody has changed since is left alone."""
        lines = []
        for hit, item in done:
            guard = {"if_seq_no": item["_seq_no"], "if_primary_term": item["_primary_term"]}
            lines.append(
                ("update", self._session.asked, {**hit, **guard}, json_.dumps({"doc": hit["_source"]}).encode())
            )
        items = yield from _bulk(lines)
        faults = [(hit, failure(item)) for (hit, _), item in zip(done, items, strict=True) if item["status"] != 409]
        return {_key(hit): f"its final pipeline changed it: {fault.reason}"[:500] for hit, fault in faults if fault}

    def discard(self, ids: Sequence[RawId], over: Marks | None) -> Operation[None]:
        for some in _parts(ids):
            here = yield from self._here(some)
            guarded = ((hit, _guard(hit, over)) for hit in here.values())
            yield from _bulk(
                [("delete", self._session.asked, {**hit, **guard}, None) for hit, guard in guarded if guard is not None]
            )
        self._session.wrote()

    def _here(self, ids: Sequence[RawId]) -> Operation[dict[RawId, Json]]:
        target = yield from self._session.look()
        ours = {self._session.field, HIDDEN, *(target.hidden if target else ())}
        hits = yield from self._found(self._session.asked, ids, excludes=sorted(ours))
        return {_key(hit): hit for hit in hits}

    def _found(self, name: str, ids: Sequence[RawId], excludes: Sequence[str] = ()) -> Operation[list[Json]]:
        """These documents of that index as they are now."""
        good((yield from ask("POST", path_of(name, "_refresh"))))
        index = yield from self._index()
        whole = yield from self._session.whole_source(index)
        source = {**whole, **({"excludes": list(excludes)} if excludes else {})} or True
        body = {
            "size": len(ids),
            "query": _among(ids),
            "_source": source,
            "seq_no_primary_term": True,
        }
        return list(read_hits((yield from json("POST", path_of(name, "_search"), body))))

    def move_names(self, to: str) -> Operation[None]:
        index = yield from self._index()
        yield from json("PUT", path_of(to, "_settings"), {key: index.settings.get(key) for key in _PIPELINES})
        actions: list[dict[str, Any]] = []
        for alias, about in index.aliases.items():
            actions.append({"remove": {"index": index.name, "alias": alias}})
            actions.append({"add": {"index": to, "alias": alias, **about}})
        yield from json("POST", "/_aliases", {"actions": actions})

    def remove_whole(self) -> Operation[None]:
        index = yield from self._index()
        if index.aliases:
            raise CollectionError(f"{sorted(index.aliases)} are aliases of index {index.name!r}, so it is not removed")
        yield from json("DELETE", path_of(index.name))


def _aliased(name: str, aliases: Json) -> CollectionError:
    return CollectionError(
        f"an index template gives index {name!r} the aliases {sorted(aliases)}, so that readers would find every "
        f"document there a second time while it is filled; name another with name=, which no template matches"
    )


def _key(hit: Json) -> str:
    """What names one document: its `_id`, of which there may be several, with a routing each."""
    id_, routing = hit["_id"], hit.get("_routing")
    return str(id_) if routing is None and id_[0] != "[" else orjson.dumps([id_, routing]).decode()


def _among(keys: Sequence[RawId]) -> Json:
    """The query that finds these documents, and no other of the same `_id`."""
    by_routing = defaultdict[Any, list[str]](list)
    for key in map(str, keys):
        id_, routing = orjson.loads(key) if key[0] == "[" else (key, None)
        by_routing[routing].append(id_)
    clauses = []
    for routing, ids in by_routing.items():
        routed = {"exists": {"field": "_routing"}} if routing is None else {"term": {"_routing": routing}}
        kind = "must_not" if routing is None else "must"
        clauses.append({"bool": {"filter": [{"ids": {"values": ids}}], kind: [routed]}})
    return {"bool": {"should": clauses, "minimum_should_match": 1}}


def _marks(hits: Sequence[Json]) -> Marks:
    texts = ([hit["_id"], hit.get("_routing"), hit.get("_source", {})] for hit in hits)
    return marks_of(json_.dumps(text, sort_keys=True).encode() for text in texts)


def _guard(here: Json | None, over: Marks | None) -> dict[str, Any] | None:
    """What a write over the document that is here must say of its version; None: leave it alone."""
    if here is None or over is None:
        return {}
    if not among(_marks([here]), over)[0]:
        return None
    return {"if_seq_no": here["_seq_no"], "if_primary_term": here["_primary_term"]}


def _parts(ids: Sequence[RawId]) -> Iterator[Sequence[RawId]]:
    for start in range(0, len(ids), _TOGETHER):
        yield ids[start : start + _TOGETHER]


def _bulk(lines: Sequence[tuple[str, str, Json, bytes | None]]) -> Operation[list[Json]]:
    """What became of each (action, index, document, source), through no default pipeline, for they have been through
    it. What is too large for one request goes in several. Raises BackendDown where the server was busy for one."""
    parts = []
    for action, name, hit, source in lines:
        about = {"_index": name, "_id": hit["_id"]} | ({"routing": hit["_routing"]} if "_routing" in hit else {})
        about |= {key: hit[key] for key in ("if_seq_no", "if_primary_term") if key in hit}
        parts += [orjson.dumps({action: about}), *([source] if source is not None else [])]
    if not parts:
        return []
    try:
        answer = good((yield from ask("POST", "/_bulk", {"pipeline": "_none"}, b"\n".join(parts) + b"\n", "x-ndjson")))
    except OutOfLimits as error:
        if (half := len(lines) // 2) == 0:
            return [{"_id": lines[0][2]["_id"], "status": 413, "error": str(error)}]
        return [*(yield from _bulk(lines[:half])), *(yield from _bulk(lines[half:]))]
    items: list[Json] = [one for item in answer["items"] for one in item.values()]
    if busy := next((one for one in items if one.get("status") in (429, 503)), None):
        raise BackendDown(f"the backend was too busy to copy {busy['_id']!r}: {busy.get('error')}")
    return items


def _dropped(setting: str) -> bool:
    return setting in _PIPELINES or any(setting == prefix or setting.startswith(f"{prefix}.") for prefix in _OF_THE_OLD)
