"""What would go wrong in an index that others made, read from the one `GET /index` before anything is touched (C17).

Each hazard is a `Finding` of `check`; a blocking one is also the error with which `create` and `upsert` refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sparsevec.contract.adapter import Finding
from sparsevec.errors import AdapterError, BackendUnsupported, CollectionError

from .claims import PREFIX
from .index import Index, Target

__all__ = ["Hazard", "default_pipeline", "final_pipeline", "hazards", "source_fault", "writable", "write_fault"]

_COPY = "copy it to a new index without that, and move the alias over: retrofit --copy"
_ROUTED = {"index_routing", "search_routing"}
_BLOCKS = ("read_only_allow_delete", "read_only", "write")


@dataclass(frozen=True, slots=True)
class Hazard:
    level: Literal["warning", "blocking"]
    subject: str
    found: str
    advice: str
    error: type[AdapterError] = BackendUnsupported
    copied: bool = False
    """a copy in a new index does not have it"""

    def finding(self) -> Finding:
        return Finding(self.level, self.subject, self.found, self.advice)

    def to_error(self) -> AdapterError:
        return self.error(f"{self.found}; {self.advice}")


def hazards(target: Target, field: str) -> list[Hazard]:
    """Everything that would go wrong, or that one should know, for a field of ours of that name."""
    found = list(_of_alias(target))
    if (index := target.write) is not None:
        for part in (_of_source, _of_kind, _of_blocks, _of_pipelines, _of_documents):
            found += part(index)
        found += _of_runtime(index, field)
    return found


def write_fault(target: Target, field: str) -> AdapterError | None:
    """Why nothing may be written there, or None."""
    blocking = (hazard for hazard in hazards(target, field) if hazard.level == "blocking")
    return next((hazard.to_error() for hazard in blocking), None)


def writable(target: Target, field: str) -> Index:
    """The index that writes go to. Raises what makes every write fail, or others' documents lose something."""
    if fault := write_fault(target, field):
        raise fault
    assert target.write is not None  # else an alias without one was found
    return target.write


def source_fault(target: Target) -> AdapterError | None:
    """Why documents can be neither fetched nor filtered, or None."""
    for index in target.indices:
        if _off(index.mappings.get("_source", {}).get("enabled", True)) or _source_mode(index) == "disabled":
            return _no_source(index).to_error()
    return None


def default_pipeline(index: Index) -> str | None:
    """Its name; the server sends what is made through it, unless told otherwise."""
    name: str = index.settings.get("index.default_pipeline", "_none")
    return None if name == "_none" else name


def final_pipeline(index: Index) -> AdapterError | None:
    """Why no document can be made there, or None: partial updates pass by a final pipeline, new documents do not."""
    if (name := index.settings.get("index.final_pipeline", "_none")) == "_none":
        return None
    return BackendUnsupported(
        f"index {index.name!r} sends each new document through its final pipeline {name!r}, which may change or drop "
        f'it; write only to documents that are there (missing="fail" or "skip"), or lift index.final_pipeline'
    )


def _of_alias(target: Target) -> Iterator[Hazard]:
    asked = target.asked
    if any("filter" in index.aliases.get(asked, {}) for index in target.indices):
        yield Hazard(
            "blocking",
            "alias",
            f"{asked!r} is an alias with a filter, through which a document that was written may not be found",
            f"name the index itself: one of {sorted(target.names)}",
            CollectionError,
        )
    if any(not _ROUTED.isdisjoint(index.aliases.get(asked, {})) for index in target.indices):
        yield Hazard(
            "blocking",
            "alias",
            f"{asked!r} is an alias with a routing, through which documents of others are not found, are made a second "
            f"time, or get that routing",
            f"name the index itself: one of {sorted(target.names)}",
            CollectionError,
        )
    if target.write is None:
        several = f"stands for {len(target.indices)} indices, {sorted(target.names)}, and none of them is"
        only = f"stands for {sorted(target.names)}, which is not"
        yield Hazard(
            "blocking",
            "alias",
            f"{asked!r} {several if len(target.indices) > 1 else only} its write index",
            "searches read them all; to write, give the alias a write index (is_write_index: true), or do one index "
            "after the other, as the command retrofit and sv.retrofit_each do of an alias",
            CollectionError,
        )
    elif len(target.indices) > 1:
        yield Hazard(
            "warning",
            "alias",
            f"{asked!r} stands for {len(target.indices)} indices; writes go to {target.write.name!r}",
            "documents of the other indices are written through the names of those, as sv.retrofit_each does",
        )


def _of_source(index: Index) -> Iterator[Hazard]:
    rules = index.mappings.get("_source", {})
    if _off(rules.get("enabled", True)) or _source_mode(index) == "disabled":
        yield _no_source(index)
    if kept := {name: rules[name] for name in ("excludes", "includes") if rules.get(name)}:
        yield Hazard(
            "blocking",
            "source",
            f"index {index.name!r} leaves fields out of _source ({kept}), and an update rebuilds a document from "
            f"_source, so they would be lost",
            "make the index again without _source.excludes and _source.includes",
        )
    if index.settings.get("index.derived_source.enabled") == "true":
        yield Hazard(
            "blocking",
            "source",
            f"index {index.name!r} derives its _source from its fields (index.derived_source.enabled), which fields "
            f"of sparse weights do not allow",
            _COPY,
            copied=True,
        )
    if _source_mode(index) == "synthetic":
        yield Hazard(
            "warning",
            "source",
            f"index {index.name!r} has a synthetic _source: a document that is written comes back as the engine "
            f"rebuilds it, with the elements of a list in another order",
            "compare payloads without regard to the order in lists",
        )


def _no_source(index: Index) -> Hazard:
    return Hazard(
        "blocking",
        "source",
        f"index {index.name!r} keeps no _source, which updates, filters and payloads are made from",
        "search without them, or make the index again with _source",
    )


def _source_mode(index: Index) -> Any:
    mode = index.mappings.get("_source", {}).get("mode")
    if mode is None and index.settings.get("index.mode") in ("logsdb", "time_series"):
        mode = "synthetic"
    return index.settings.get("index.mapping.source.mode", mode)


def _of_kind(index: Index) -> Iterator[Hazard]:
    settings, name = index.settings, index.name
    copied = {
        "a time series (index.mode: time_series)": settings.get("index.mode") == "time_series",
        "append-only (index.append_only.enabled)": settings.get("index.append_only.enabled") == "true",
    }
    for kind in (kind for kind, found in copied.items() if found):
        yield Hazard("blocking", "mode", f"index {name!r} is {kind}, which takes no updates", _COPY, copied=True)
    kinds = {
        "a searchable snapshot": settings.get("index.store.type") == "snapshot",
        "a follower of another index": settings.get("index.xpack.ccr.following_index") == "true"
        or "index.plugins.replication.follower.leader_index" in settings,
    }
    for kind in (kind for kind, found in kinds.items() if found):
        yield Hazard("blocking", "mode", f"index {name!r} is {kind}, which takes no updates", "use another index")


def _of_blocks(index: Index) -> Iterator[Hazard]:
    for block in _BLOCKS:
        if index.settings.get(f"index.blocks.{block}") == "true":
            yield Hazard(
                "blocking",
                "blocks",
                f"index {index.name!r} is read-only (index.blocks.{block}; a full disk sets read_only_allow_delete)",
                f'free space, then lift it with PUT /{index.name}/_settings {{"index.blocks.{block}": null}}',
                CollectionError,
            )


def _of_pipelines(index: Index) -> Iterator[Hazard]:
    if (default := default_pipeline(index)) is not None:
        yield Hazard(
            "warning",
            "pipelines",
            f"index {index.name!r} has the default pipeline {default!r}; writes of sparsevec pass by it",
            "a document that sparsevec makes there does not get what the pipeline adds",
        )
    if fault := final_pipeline(index):
        found, _, advice = str(fault).partition("; ")
        yield Hazard("blocking" if index.ours else "warning", "pipelines", found, advice)


def _of_documents(index: Index) -> Iterator[Hazard]:
    if index.mappings.get("_routing", {}).get("required") in (True, "true"):
        yield Hazard(
            "warning",
            "routing",
            f"index {index.name!r} demands a routing of every document",
            "documents that are there are found and keep theirs; for new ones pass routing=",
        )
    if index.settings.get("index.mode") == "logsdb":
        yield Hazard(
            "warning",
            "mode",
            f"index {index.name!r} is of logs (index.mode: logsdb)",
            "a new document needs a field @timestamp; those that are there need nothing",
        )


def _of_runtime(index: Index, field: str) -> Iterator[Hazard]:
    runtime = index.mappings.get("runtime", {})
    for name in (name for name in runtime if name == field or name.startswith(PREFIX)):
        yield Hazard(
            "blocking",
            "runtime fields",
            f"index {index.name!r} has a runtime field {name!r}, which would be searched instead of our vectors",
            "name another field, or remove the runtime field",
        )


def _off(value: object) -> bool:
    return value in (False, "false")
