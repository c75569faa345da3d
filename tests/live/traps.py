"""Thirty prepared traps, each an index or collection as somebody may have it, and what `check` must say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.live.shops import WIDTH

ROW = [0.5] * WIDTH
Ask = Callable[..., Any]
"""`ask(method, path, body)`, below the collection where the path begins with `.`, else below the server"""


@dataclass(frozen=True)
class Trap:
    name: str
    level: Literal["warning", "blocking"]
    subject: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    mappings: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=lambda: {"1": {"emb": ROW}})
    after: Callable[[Ask, str], str | None] | None = None
    """done when the documents are there; returns the name to look at, where it is another one"""
    dense_field: str | None = "emb"
    engines: tuple[str, ...] = ("elasticsearch9", "elasticsearch8", "opensearch3")


def _settings(**changed: Any) -> Callable[[Ask, str], None]:
    def apply(ask: Ask, index: str) -> None:
        ask("PUT", f"/{index}/_settings", {key.replace("__", "."): value for key, value in changed.items()})

    return apply


def _alias(**about: Any) -> Callable[[Ask, str], str]:
    def apply(ask: Ask, index: str) -> str:
        ask("POST", "/_aliases", {"actions": [{"add": {"index": index, "alias": f"{index}-a", **about}}]})
        return f"{index}-a"

    return apply


def _two(**about: Any) -> Callable[[Ask, str], str]:
    def apply(ask: Ask, index: str) -> str:
        ask("PUT", f"/{index}-two", {"settings": {"number_of_replicas": 0}})
        add = {"alias": f"{index}-a"}
        actions = [{"add": {**add, "index": index, **about}}, {"add": {**add, "index": f"{index}-two"}}]
        ask("POST", "/_aliases", {"actions": actions})
        return f"{index}-a"

    return apply


def _external(ask: Ask, index: str) -> None:
    ask("PUT", f"/{index}/_doc/7?version=900&version_type=external&refresh=true", {"emb": ROW})


def _routed(ask: Ask, index: str) -> None:
    ask("PUT", f"/{index}/_doc/7?routing=tenant&refresh=true", {"emb": ROW})


def _closed(ask: Ask, index: str) -> None:
    ask("POST", f"/{index}/_close")


_ES = ("elasticsearch9", "elasticsearch8")
_FLOATS = {"rows": {"type": "float", "index": False}}
_RUNTIME = {"runtime": {"sparse": {"type": "keyword"}}}
_MANY = {f"f{i}": {"type": "keyword"} for i in range(19)}

LUCENE = (
    Trap("`_source` is switched off", "blocking", "source", mappings={"_source": {"enabled": False}}),
    Trap("fields are left out of `_source`", "blocking", "source", mappings={"_source": {"excludes": ["secret"]}}),
    Trap(
        "only some fields are in `_source`", "blocking", "source", mappings={"_source": {"includes": ["title", "emb"]}}
    ),
    Trap(
        "`_source` is derived from the fields",
        "blocking",
        "source",
        settings={"index.derived_source.enabled": True},
        documents={},
        engines=("opensearch3",),
    ),
    Trap("a runtime field has our field's name", "blocking", "runtime fields", mappings=_RUNTIME, engines=_ES),
    Trap(
        "the index is append-only",
        "blocking",
        "mode",
        settings={"index.append_only.enabled": True},
        documents={},
        engines=("opensearch3",),
    ),
    Trap(
        "the index is a time series",
        "blocking",
        "mode",
        settings={"index.mode": "time_series", "index.routing_path": ["host"]},
        properties={"host": {"type": "keyword", "time_series_dimension": True}, "@timestamp": {"type": "date"}},
        documents={},
        engines=_ES,
    ),
    Trap("the index is of logs", "warning", "mode", settings={"index.mode": "logsdb"}, documents={}, engines=_ES),
    Trap(
        "a default pipeline changes what is written",
        "warning",
        "pipelines",
        after=_settings(index__default_pipeline="p"),
    ),
    Trap(
        "a final pipeline changes what is written", "warning", "pipelines", after=_settings(index__final_pipeline="p")
    ),
    Trap("the name is an alias with a filter", "blocking", "alias", after=_alias(filter={"term": {"title": "x"}})),
    Trap("the name is an alias with a routing", "blocking", "alias", after=_alias(routing="tenant")),
    Trap("the name is an alias of several indices", "blocking", "alias", after=_two()),
    Trap("an alias of several indices has a write index", "warning", "alias", after=_two(is_write_index=True)),
    Trap("an alias is not to be written to", "blocking", "alias", after=_alias(is_write_index=False)),
    Trap(
        "every document needs a routing", "warning", "routing", mappings={"_routing": {"required": True}}, documents={}
    ),
    Trap("documents have a routing of their own", "warning", "routing", after=_routed),
    Trap("somebody else counts the versions", "warning", "versions", after=_external),
    Trap("writes are blocked", "blocking", "blocks", after=_settings(index__blocks__write=True)),
    Trap("the index is read-only", "blocking", "blocks", after=_settings(index__blocks__read_only=True)),
    Trap(
        "a full disk has made it read-only",
        "blocking",
        "blocks",
        after=_settings(index__blocks__read_only_allow_delete=True),
    ),
    Trap("our field is there, of another type", "blocking", "index", properties={"sparse": {"type": "keyword"}}),
    Trap("the index is closed", "blocking", "closed", after=_closed),
    Trap(
        "the index may have no more fields",
        "blocking",
        "fields",
        settings={"index.mapping.total_fields.limit": 21},
        properties=_MANY,
    ),
    Trap("the index never refreshes", "warning", "refresh", after=_settings(index__refresh_interval="-1")),
    Trap(
        "writes are acknowledged before they are on disk",
        "warning",
        "translog",
        settings={"index.translog.durability": "async"},
    ),
    Trap("searches give few hits", "warning", "window", settings={"index.max_result_window": 500}),
    Trap("replicas are on no node", "warning", "replicas", settings={"index.number_of_replicas": 1}),
    Trap(
        "writes wait for copies that are not there",
        "blocking",
        "replicas",
        settings={"index.number_of_replicas": 1},
        after=_settings(index__write__wait_for_active_shards="all"),
    ),
    Trap("no document has a dense row there", "blocking", "dense rows", dense_field="nothing"),
    Trap(
        "dense rows differ in width",
        "blocking",
        "dense rows",
        properties=_FLOATS,
        documents={"1": {"rows": [1.0, 2.0]}, "2": {"rows": [1.0]}},
        dense_field="rows",
    ),
    Trap("documents have no dense row", "warning", "dense rows", documents={"1": {"emb": ROW}, "2": {"title": "none"}}),
    Trap(
        "dense rows are zero",
        "blocking",
        "dense rows",
        properties=_FLOATS,
        documents={"1": {"rows": [0.0, 0.0]}},
        dense_field="rows",
    ),
    Trap(
        "what is called dense is text",
        "blocking",
        "dense rows",
        documents={"1": {"emb": ROW, "title": "text"}},
        dense_field="title",
    ),
)


@dataclass(frozen=True)
class QdrantTrap:
    name: str
    level: Literal["warning", "blocking"]
    subject: str
    vectors: Mapping[str, Any] = field(default_factory=dict)
    """beside `emb`, or in its place"""
    sparse: Mapping[str, Any] | None = None
    """our vector, as somebody else has made it"""
    strict: Mapping[str, Any] | None = None

    @property
    def collection(self) -> Mapping[str, Any]:
        """As it is asked of a server."""
        emb = {"size": WIDTH, "distance": "Dot"}
        made = None if self.sparse is None else {"sparse": self.sparse}
        strict = None if self.strict is None else {"enabled": True, **self.strict}
        return {"vectors": {"emb": emb, **self.vectors}, "sparse_vectors": made, "strict_mode_config": strict}


_DENSE = {"size": WIDTH, "distance": "Dot"}
QDRANT = (
    QdrantTrap("our name is a dense vector's", "blocking", "vector", vectors={"sparse": _DENSE}),
    QdrantTrap("our vector is there and weighs by IDF", "blocking", "vector", sparse={"modifier": "idf"}),
    QdrantTrap("our vector is there, made by others", "warning", "vector", sparse={}),
    QdrantTrap("its index keeps half of each weight", "warning", "datatype", sparse={"index": {"datatype": "float16"}}),
    QdrantTrap("its index is on disk", "warning", "on disk", sparse={"index": {"on_disk": True}}),
    QdrantTrap(
        "documents have several dense rows",
        "warning",
        "multivector",
        vectors={"emb": {**_DENSE, "multivector_config": {"comparator": "max_sim"}}},
    ),
    QdrantTrap(
        "dense rows are kept as bytes", "warning", "dense rows", vectors={"emb": {**_DENSE, "datatype": "uint8"}}
    ),
    QdrantTrap("strict mode limits requests", "warning", "strict mode", strict={"max_query_limit": 50}),
    QdrantTrap(
        "strict mode, and a field without a payload index",
        "warning",
        "payload indexes",
        strict={"unindexed_filtering_retrieve": False},
    ),
)


def table() -> str:
    """`docs/traps.md`."""
    rows, theirs = ([f"| {one.name} | {one.level} | {one.subject} |" for one in traps] for traps in (LUCENE, QDRANT))
    return "\n".join(
        [
            "# What `sparsevec check` finds",
            "",
            "Before a collection that others made gets sparse vectors, `sparsevec check URL --dense-field emb` looks,",
            "touches nothing, and says what would go wrong. Each of these is prepared on a real node by a test, and",
            "found; on healthy indices nothing is. *blocking*: `retrofit`, `create` and `upsert` refuse; *warning*:",
            "they go on, and this is what to know. The exit code is 1 when something is blocking.",
            "",
            "| Elasticsearch, OpenSearch: what somebody may have | level | subject |",
            "|---|---|---|",
            *rows,
            "",
            "| Qdrant: what somebody may have | level | subject |",
            "|---|---|---|",
            *theirs,
            "",
            "Made from the tests by `python -m tests.live.traps > docs/traps.md`.",
            "",
        ]
    )


if __name__ == "__main__":
    print(table(), end="")
