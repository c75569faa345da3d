"""What would go wrong in an index of others, each trap from a literal `GET /index`: no server needed."""

from __future__ import annotations

from typing import Any

import pytest
from sparsevec_adapters.lucene.claims import Claim
from sparsevec_adapters.lucene.hazards import final_pipeline, hazards, source_fault, write_fault
from sparsevec_adapters.lucene.index import Target, read_target

from sparsevec.errors import AdapterError, BackendUnsupported, CollectionError


def target(
    settings: dict[str, str] | None = None,
    aliases: dict[str, Any] | None = None,
    asked: str = "products",
    **mappings: Any,
) -> Target:
    about = {"mappings": mappings, "settings": settings or {}, "aliases": aliases or {}}
    return read_target(asked, {"products": about})


TRAPS: dict[str, tuple[Target, type[AdapterError], str]] = {
    "no _source": (target(_source={"enabled": False}), BackendUnsupported, "keeps no _source"),
    "no _source, by mode": (target(_source={"mode": "disabled"}), BackendUnsupported, "keeps no _source"),
    "_source.excludes": (target(_source={"excludes": ["manual"]}), BackendUnsupported, "leaves fields out of _source"),
    "_source.includes": (target(_source={"includes": ["title"]}), BackendUnsupported, "leaves fields out of _source"),
    "derived source": (target({"index.derived_source.enabled": "true"}), BackendUnsupported, "derives its _source"),
    "a time series": (target({"index.mode": "time_series"}), BackendUnsupported, "takes no updates"),
    "append-only": (target({"index.append_only.enabled": "true"}), BackendUnsupported, "takes no updates"),
    "a searchable snapshot": (target({"index.store.type": "snapshot"}), BackendUnsupported, "takes no updates"),
    "a follower": (target({"index.xpack.ccr.following_index": "true"}), BackendUnsupported, "takes no updates"),
    "read only": (target({"index.blocks.read_only": "true"}), CollectionError, "read-only"),
    "a full disk": (target({"index.blocks.read_only_allow_delete": "true"}), CollectionError, "free space"),
    "an alias with a routing": (
        target(aliases={"live": {"index_routing": "1", "search_routing": "1"}}, asked="live"),
        CollectionError,
        "with a routing",
    ),
    "a filtered alias": (target(aliases={"live": {"filter": {}}}, asked="live"), CollectionError, "with a filter"),
    "an alias to read": (target(aliases={"r": {"is_write_index": False}}, asked="r"), CollectionError, "write index"),
    "a runtime field": (target(runtime={"emb": {"type": "double"}}), BackendUnsupported, "runtime field 'emb'"),
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
def test_a_trap_is_one_error_and_one_blocking_finding_in_the_same_words(
    trap: tuple[Target, type[AdapterError], str],
) -> None:
    where, raised, words = trap
    fault = write_fault(where, "emb")
    (finding,) = (hazard.finding() for hazard in hazards(where, "emb") if hazard.level == "blocking")
    assert type(fault) is raised
    assert words in str(fault)
    assert str(fault) == f"{finding.found}; {finding.advice}"


WARNINGS: dict[str, Target] = {
    "source": target(_source={"mode": "synthetic"}),
    "pipelines": target({"index.default_pipeline": "enrich"}),
    "routing": target(_routing={"required": True}),
    "mode": target({"index.mode": "logsdb", "index.mapping.source.mode": "stored"}),
    "alias": read_target(
        "all",
        {"a": {"aliases": {"all": {"is_write_index": True}}}, "b": {"aliases": {"all": {"is_write_index": False}}}},
    ),
}


@pytest.mark.parametrize(("subject", "where"), WARNINGS.items(), ids=WARNINGS.keys())
def test_what_is_worth_knowing_and_not_in_the_way_is_a_warning(subject: str, where: Target) -> None:
    assert [(hazard.level, hazard.subject) for hazard in hazards(where, "emb")] == [("warning", subject)]
    assert write_fault(where, "emb") is None


def test_a_plain_index_has_no_hazards() -> None:
    assert hazards(target({"index.default_pipeline": "_none", "index.final_pipeline": "_none"}), "emb") == []
    assert hazards(target(runtime={"price": {"type": "double"}}), "emb") == []


def test_a_final_pipeline_is_in_the_way_of_new_documents_alone() -> None:
    others = target({"index.final_pipeline": "strip"})
    assert [hazard.level for hazard in hazards(others, "emb")] == ["warning"]
    assert others.write is not None
    assert "missing=" in str(final_pipeline(others.write))
    claim = Claim("emb", 8, "u", "index", None, "_sparsevec_emb")
    ours = target({"index.final_pipeline": "strip"}, properties={claim.name: claim.mapping()})
    assert isinstance(write_fault(ours, "emb"), BackendUnsupported)


def test_an_index_without_source_can_be_searched_only() -> None:
    assert "keeps no _source" in str(source_fault(target(_source={"enabled": False})))
    assert source_fault(target(_source={"excludes": ["a"]})) is None
