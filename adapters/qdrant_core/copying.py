"""A collection made again under another name, with all it holds, over the REST API (`contract.copies`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from sparsevec.contract.copies import CopyOperations, Marks, RawId, Taken, Whole, among, marks_of
from sparsevec.contract.operations import Operation
from sparsevec.errors import BackendUnsupported, CollectionError

from .codes import vector_params
from .collection import MADE, Note
from .requests import Request
from .server import Server

__all__ = ["Copying"]

_PAGE = 500  # points, each with all of its vectors
_PARAMS = ("shard_number", "replication_factor", "write_consistency_factor", "read_fan_out_factor", "on_disk_payload")
_CONFIGS = {
    "hnsw_config": "hnsw_config",
    "optimizer_config": "optimizers_config",
    "wal_config": "wal_config",
    "quantization_config": "quantization_config",
    "strict_mode_config": "strict_mode_config",
}


class Copying(Server):
    def stands_for(self) -> Operation[str]:
        aliases = (yield from self._ask("get_aliases"))["aliases"]
        named = [str(one["collection_name"]) for one in aliases if one["alias_name"] == self._name]
        if not named and (yield from self._look()) is None:
            raise CollectionError(f"there is no collection {self._name}")
        return named[0] if named else self._name

    def make_twin(self, name: str, dimension: int, fingerprint: str, code_bytes: int | None) -> Operation[None]:
        found = yield from self._look()
        if found is None:
            raise CollectionError(f"there is no collection {self._name}")
        if found.has(self._vector):
            raise CollectionError(f"collection {self._name} has a vector {self._vector!r} already; name another one")
        answer = yield from self._ask("get_collection")
        config, params = answer["config"], answer["config"]["params"]
        if params.get("sharding_method") == "custom":
            raise BackendUnsupported(
                f"collection {self._name} has shards that its points name themselves (custom sharding), which are not "
                "told back with the points; copy it with a snapshot, or make the new collection yourself"
            )
        note = Note.new(self._vector, dimension, fingerprint, code_bytes)
        codes = {} if note.code is None else {note.code: vector_params(note.code_bytes or 0)}
        vectors = dict(params.get("vectors") or {})
        if "size" in vectors and codes:
            raise BackendUnsupported(
                f"the dense vector of collection {self._name} has no name, so that no vector of residual codes can be "
                "made beside it; use an encoder without residual_bytes"
            )
        made = {
            **{key: params[key] for key in _PARAMS if params.get(key) is not None},
            **{theirs: config[ours] for ours, theirs in _CONFIGS.items() if config.get(ours) is not None},
            "vectors": vectors or codes if not codes else {**vectors, **codes},
            "sparse_vectors": {**(params.get("sparse_vectors") or {}), self._vector: {}},
            "metadata": {**(config.get("metadata") or {}), **note.metadata()},
        }
        made["metadata"].pop(MADE, None)  # what is copied into it was not made here
        yield Request("create_collection", name, made)
        for field, about in (answer.get("payload_schema") or {}).items():
            schema = about.get("params") or about["data_type"]
            yield Request("create_payload_index", name, {"field_name": field, "field_schema": schema})

    def whole_page(self, after: str | None) -> Operation[Whole]:
        found = yield from self._look()
        own = set() if found is None else set(self._own(found))
        place = None if after is None else orjson.loads(after)
        answer = yield from self._ask("scroll", limit=_PAGE, offset=place, with_payload=True, with_vector=True)
        points = answer["points"]
        marks = marks_of(_text(point, own) for point in points)
        following = answer["next_page_offset"]
        after = None if following is None else orjson.dumps(following).decode()
        return Whole(tuple(point["id"] for point in points), marks, after)

    def take(self, source: str, ids: Sequence[RawId], over: Marks | None) -> Operation[Taken]:
        left: list[RawId] = []
        for some in _parts(ids):
            read = {"with_payload": True, "with_vector": True}
            points = yield Request("retrieve", source, {"ids": some, **read})
            alone = set() if over is None else (yield from self._others(some, over))
            whole = [
                {"id": one["id"], "vector": one.get("vector") or {}, "payload": one.get("payload") or {}}
                for one in points
                if one["id"] not in alone
            ]
            left += [one["id"] for one in points if one["id"] in alone]
            if whole:
                yield Request("upsert", self._name, {"points": whole})
        return Taken(left=tuple(left))

    def discard(self, ids: Sequence[RawId], over: Marks | None) -> Operation[None]:
        for some in _parts(ids):
            alone = set() if over is None else (yield from self._others(some, over))
            if points := [id_ for id_ in some if id_ not in alone]:
                yield from self._ask("batch_update_points", operations=[{"delete": {"points": points}}])

    def _others(self, ids: Sequence[RawId], over: Marks) -> Operation[set[RawId]]:
        """Which of these points hold something else than what had these marks."""
        found = yield from self._look()
        own = set() if found is None else set(self._own(found))
        points = yield from self._ask("retrieve", ids=list(ids), with_payload=True, with_vector=True)
        known = among(marks_of(_text(point, own) for point in points), over)
        return {point["id"] for point, same in zip(points, known.tolist(), strict=True) if not same}

    def move_names(self, to: str) -> Operation[None]:
        aliases = (yield from self._ask("get_aliases"))["aliases"]
        names = [one["alias_name"] for one in aliases if one["collection_name"] == self._name]
        actions: list[dict[str, Any]] = []
        for name in names:
            actions.append({"delete_alias": {"alias_name": name}})
            actions.append({"create_alias": {"alias_name": name, "collection_name": to}})
        yield Request("update_aliases", "", {"actions": actions})

    def remove_whole(self) -> Operation[None]:
        aliases = (yield from self._ask("get_aliases"))["aliases"]
        if names := [one["alias_name"] for one in aliases if self._name in one.values()]:
            raise CollectionError(f"{names} are aliases of the collection {self._name}, so it is not removed")
        yield from self._ask("delete_collection")


def _parts(ids: Sequence[RawId]) -> Iterator[list[RawId]]:
    for start in range(0, len(ids), _PAGE):
        yield list(ids[start : start + _PAGE])


def _text(point: Mapping[str, Any], own: set[str]) -> bytes:
    vector = point.get("vector") or {}
    if isinstance(vector, dict):  # else the one dense vector, which has no name
        vector = {name: value for name, value in vector.items() if name not in own}
        vector = vector.get("", vector) if set(vector) <= {""} else vector
    whole = [point["id"], point.get("payload") or {}, vector]
    return orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)


_copies: type[CopyOperations] = Copying
