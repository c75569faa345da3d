"""What `check` looks at around an index: disk, replicas, limits and settings that a backfill meets (C17).

A backfill rewrites every document once. Until merges have taken the old ones away, an index is up to twice as large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from sparsevec.contract.adapter import Finding
from sparsevec.contract.operations import Operation

from .claims import claim_name
from .index import Index
from .wire import ask, path_of

__all__ = ["settings_findings", "surroundings"]

Json = Mapping[str, Any]
_PAGE = 1000  # documents of a page, as scans ask for them
_FIELDS = 1000  # index.mapping.total_fields.limit as shipped
_LEAST_BODY = 4 * 2**20  # bytes of a request that ingest sends


def surroundings(index: Index, field: str, max_body: int, sharing: bool) -> Operation[list[Finding]]:
    """Read-only; what credentials may not ask is passed over. `sharing`: others made the index."""
    found = list(settings_findings(index, field, max_body, sharing))
    health = yield from ask("GET", f"/_cluster/health/{path_of(index.name).strip('/')}", {"timeout": "1s"})
    if health.status in (200, 408):
        found += _of_health(index, health.body)
    sizes = yield from ask("GET", path_of(index.name, "_stats", "docs,store"))
    disks = yield from ask("GET", "/_nodes/stats/fs", {"filter_path": "nodes.*.fs.total"})
    if sizes.status == 200 and disks.status == 200:
        found += _of_disk(sizes.body, disks.body)
    settings = yield from ask("GET", "/_cluster/settings", {"flat_settings": "true"})
    if settings.status == 200:
        found += _of_cluster({**settings.body.get("persistent", {}), **settings.body.get("transient", {})})
    found += yield from _privileges(index)
    return found


def settings_findings(index: Index, field: str, max_body: int, sharing: bool) -> Iterator[Finding]:
    """What the settings and the mapping of the index say. Pure."""
    settings, name = index.settings, index.name
    if settings.get("index.verified_before_close") == "true":
        yield Finding("blocking", "closed", f"index {name!r} is closed", f"open it with POST /{name}/_open")
    if str(settings.get("index.refresh_interval", "")).startswith("-"):
        yield Finding(
            "warning",
            "refresh",
            f"index {name!r} never refreshes by itself (refresh_interval: -1), so other readers see no write",
            "set an interval when the load has ended; one that was killed leaves it so, and perhaps without replicas: "
            f'PUT /{name}/_settings {{"index.refresh_interval": null}}',
        )
    if settings.get("index.translog.durability") == "async":
        yield Finding(
            "warning",
            "translog",
            f"index {name!r} acknowledges writes that are not on disk yet (translog.durability: async)",
            "what was written in the last seconds before a power cut is lost; a catch-up finds and mends it",
        )
    if index.window <= _PAGE:
        yield Finding(
            "warning",
            "window",
            f"index {name!r} gives {index.window} hits at most (max_result_window)",
            "scans go in smaller pages, and no search may ask for more",
        )
    added = 0 if field in index.properties or not sharing else 3  # the field, its claim, a marker or a fingerprint
    limit, used = int(settings.get("index.mapping.total_fields.limit", _FIELDS)), sum(_fields(index.mappings))
    if added and used + added > limit and claim_name(field) not in index.properties:
        yield Finding(
            "blocking",
            "fields",
            f"index {name!r} maps {used} fields of the {limit} it may (mapping.total_fields.limit); ours needs {added}",
            f'raise the limit: PUT /{name}/_settings {{"index.mapping.total_fields.limit": {used + 100}}}',
        )
    if max_body < _LEAST_BODY:
        yield Finding(
            "warning",
            "requests",
            f"the server takes requests of {max_body:,} bytes (http.max_content_length)",
            "writes go in smaller requests, and more slowly",
        )


def _fields(mapping: Json) -> Iterator[int]:
    for about in mapping.get("properties", {}).values():
        yield 1 + len(about.get("fields", {}))
        yield from _fields(about)
    yield len(mapping.get("runtime", {}))


def _of_health(index: Index, health: Json) -> Iterator[Finding]:
    status, missing = health.get("status"), health.get("unassigned_shards", 0)
    needed = str(index.settings.get("index.write.wait_for_active_shards", "1"))
    replicas = int(index.settings.get("index.number_of_replicas", 0))
    if status == "red":
        yield Finding(
            "blocking", "health", f"index {index.name!r} is red: a primary shard is missing", "bring it back first"
        )
    elif missing and (needed == "all" or (needed.isdecimal() and int(needed) > 1)):
        yield Finding(
            "blocking",
            "replicas",
            f"{missing} replica shards are missing and writes wait for {needed} (wait_for_active_shards)",
            "add the nodes, or lower index.write.wait_for_active_shards",
        )
    elif missing:
        yield Finding(
            "warning",
            "replicas",
            f"{missing} replica shards of {index.name!r} are on no node",
            "until they are, what is written is on one node only",
        )
    else:
        yield Finding("fine", "replicas", f"{replicas} of each shard, all there; a backfill writes each of them")


def _of_disk(sizes: Json, disks: Json) -> Iterator[Finding]:
    total = sizes.get("_all", {}).get("total", {}).get("store", {}).get("size_in_bytes", 0)
    free = [node["fs"]["total"].get("available_in_bytes", 0) for node in disks.get("nodes", {}).values()]
    if not free:
        return
    told = (
        f"{total / 2**20:,.1f} MB hold the index, {min(free) / 2**20:,.0f} MB are free on the fullest node; a backfill "
        f"rewrites every document once, so that up to {total / 2**20:,.1f} MB more are used until merges end"
    )
    if min(free) < total:
        advice = "free space first: a full disk makes the index read-only"
        yield Finding("blocking", "disk", told, advice)
    elif min(free) < 3 * total:
        yield Finding("warning", "disk", told, "watch the disk, or backfill slowly (rate=)")
    else:
        yield Finding("fine", "disk", told)


def _of_cluster(settings: Json) -> Iterator[Finding]:
    for name in ("cluster.blocks.read_only", "cluster.blocks.read_only_allow_delete"):
        if settings.get(name) == "true":
            yield Finding("blocking", "blocks", f"the cluster is read-only ({name})", "lift it before writing")


_NEEDED = {
    "read": ("blocking", "to read documents and search"),
    "index": ("blocking", "to write vectors"),
    "manage": ("blocking", "to add the field to the mapping"),
    "view_index_metadata": ("blocking", "to read the mapping"),
    "monitor": ("warning", "to say what changed: without it every catch-up reads all documents"),
    "maintenance": ("warning", "to refresh: without it every write waits for the index to do so"),
}


def _privileges(index: Index) -> Operation[list[Finding]]:
    """Of Elasticsearch's security, where it is on; OpenSearch's has no such question."""
    body = {"index": [{"names": [index.name], "privileges": sorted(_NEEDED)}]}
    answer = yield from ask("POST", "/_security/user/_has_privileges", body=orjson.dumps(body))
    if answer.status != 200 or "index" not in answer.body:
        return []
    has = answer.body["index"].get(index.name, {})
    lacking = [name for name in _NEEDED if has.get(name) is False]
    if not lacking:
        return [Finding("fine", "privileges", "all that is needed")]
    return [
        Finding(
            _NEEDED[name][0],  # type: ignore[arg-type]
            "privileges",
            f"the credentials lack {name!r} on {index.name!r}, {_NEEDED[name][1]}",
            "grant it to their role",
        )
        for name in lacking
    ]
