"""A filter means on Qdrant what `contract.filters.matches` says, whatever the payloads look like (C11)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import qdrant_edge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models
from sparsevec_adapters.qdrant import QdrantAdapter

import sparsevec as sv
from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Payload
from sparsevec.contract.filters import EngineFilter, conditions, matches
from sparsevec.errors import InvalidInput, OutOfLimits
from sparsevec.testing.conformance.documents import PAYLOADS, ask, fill, rows
from tests.integration.qdrant_grpc_shim import QdrantGrpcShim
from tests.integration.qdrant_shim import QdrantShim

pytestmark = pytest.mark.qdrant

DATES = (
    *("2024-05-01", "2024-05-01T10:00:00Z", "2024-05-01 10:00:00", "2024-05-01T10:00", "20240501", "2024-05-01T10"),
    *("2024-05-01T10:00:00+01", "2024-05-01T10:00:00+0100", "2024-W18-3", "2024-05-01T10:00:00,5", "2024-5-1", "soon"),
    *("2024-05-01T10:00:00.123456789", "2024-05-02t10:00:00z", "0001-01-01", "9999-12-31T23:59:59.999999", ""),
)
VALUES: tuple[Any, ...] = (
    *(None, [], [None], {}, {"a": 1}, {"a": None}, [{}], [{"a": 1}], [[]], [[1]], ["x", None], 0, "", False, 1.5, "x"),
    *([date, "zz"] for date in DATES[:6]),
    [["20240501"]],
    *DATES,
)


def _values(payload: Payload) -> list[Any]:
    deep = payload.get("deep")
    return [
        payload.get("n"),
        payload.get("v"),
        *(one.get("v") for one in (deep if isinstance(deep, list) else [deep or {}])),
    ]


DOCUMENTS: tuple[Payload, ...] = (
    *PAYLOADS,
    *({"v": value} for value in VALUES),
    *({"deep": {"v": value}} for value in VALUES[:12]),
    *({"deep": [{"v": date}, {"v": 1}]} for date in DATES[:6]),
)


@pytest.fixture(params=["edge", "memory", "loopback", "grpc"], scope="module")
def adapter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    folder = tmp_path_factory.mktemp("filters")
    with QdrantShim(folder) as shim:
        front = QdrantGrpcShim(shim)
        adapter = sv.connect(
            {
                "edge": f"qdrant+edge:{folder}/edge",
                "memory": "qdrant+memory:",
                "loopback": f"qdrant://127.0.0.1:{shim.port}/filters",
                "grpc": f"qdrant+grpc://127.0.0.1:{front.port}/filters",
            }[request.param]
        )
        fill(adapter, range(len(DOCUMENTS)), rows(*({1: float(i + 1)} for i in range(len(DOCUMENTS)))), DOCUMENTS)
        yield adapter
        adapter.close()
        front.close()


fields = st.sampled_from(["v", "deep.v", "n", "brand", "maker.name", "nowhere"])
instants = st.sampled_from(["2024-05-01", "2024-05-01T09:30:00Z", "2024-05-02", "2030-01-01T00:00:00+02:00"])
leaves: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([1, "x", True, "acme", ["acme", 7], 0, 2.5]),
    st.sampled_from([{"not": 1}, {"not": ["x", "acme"]}, {"exists": True}, {"exists": False}, {"gte": 1}, {"lt": 2}]),
    st.builds(lambda bound, date: {bound: date}, st.sampled_from(["gt", "gte", "lt", "lte"]), instants),
)
plain = st.dictionaries(fields, leaves, max_size=2)
filters = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.builds(lambda one: {"$not": one}, inner),
        st.builds(lambda some: {"$any": some}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda some: {"$all": some}, st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=filters, k=st.sampled_from([1, 7, 1000]))
def test_a_filter_means_what_the_contract_says(adapter: Adapter, where: Any, k: int) -> None:
    found = ask(adapter, {1: 1.0}, k=k, where=where)
    expected = [i for i, payload in enumerate(DOCUMENTS) if matches(payload, conditions(where))]
    assert list(found.ids) == expected[::-1][:k]  # the later a document, the higher its score


INDEXED = {"v": "keyword", "deep.v": "float", "deep[].v": "float", "n": "float", "brand": "keyword"}
PLAIN = [payload for payload in DOCUMENTS if not {"[[1]]", '[["20240501"]]'} & set(map(json.dumps, _values(payload)))]
"""without lists directly inside lists"""


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    adapter: Any = sv.connect(url := f"qdrant+edge:{tmp_path_factory.mktemp('indexed')}/edge")
    fill(adapter, range(len(PLAIN)), rows(*({1: float(i + 1)} for i in range(len(PLAIN)))), PLAIN)
    for path, kind in INDEXED.items():
        adapter.index_payload(path, kind)
    adapter.close()
    adapter = sv.connect(url)
    assert set(adapter._shard.info().payload_schema) == set(INDEXED)
    yield adapter
    adapter.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=filters)
def test_a_filter_means_the_same_where_its_fields_are_indexed(indexed: Adapter, where: Any) -> None:
    expected = [i for i, payload in enumerate(PLAIN) if matches(payload, conditions(where))]
    assert list(ask(indexed, {1: 1.0}, k=1000, where=where).ids) == expected[::-1]
    assert indexed.count(where) == len(expected)


def test_the_embedded_engine_makes_no_payload_index_of_a_kind_that_it_has_not(indexed: Any) -> None:
    with pytest.raises(InvalidInput, match="expected one of keyword, integer"):
        indexed.index_payload("brand", "string")


def test_payloads_come_with_a_filter_that_has_to_look_at_them_only_when_asked_for(adapter: Adapter) -> None:
    where = {"v": {"gte": "2024-05-01", "lt": "2024-05-02"}, "deep": {"exists": False}}
    bare, full = (ask(adapter, {1: 1.0}, where=where, with_payloads=wanted) for wanted in (False, True))
    assert bare.payloads is None
    assert full.payloads == tuple(DOCUMENTS[int(id_)] for id_ in full.ids)
    assert len(full) == 10


def test_a_filter_of_the_engines_own_is_handed_through(adapter: Adapter) -> None:
    own = EngineFilter("qdrant", {"must": [{"key": "brand", "match": {"value": "acme"}}]})
    assert set(ask(adapter, {1: 1.0}, k=100, where=own).ids) == {4, 6}


def test_a_filter_of_another_engine_is_refused(adapter: Adapter) -> None:
    with pytest.raises(InvalidInput, match="elasticsearch"):
        ask(adapter, {1: 1.0}, where=EngineFilter("elasticsearch", {"term": {"brand": "acme"}}))


def test_a_filter_that_is_no_filter_of_the_engine_is_refused_in_words(adapter: Adapter) -> None:
    for body in ({"must": [{"nonsense": 1}]}, 7, {"term": {"brand": "acme"}}):
        with pytest.raises(InvalidInput, match="filter"):
            ask(adapter, {1: 1.0}, where=EngineFilter("qdrant", body))


def test_the_engines_own_filter_objects_are_taken_too(tmp_path: Path) -> None:
    client = QdrantClient(":memory:")
    condition = models.FieldCondition(key="brand", match=models.MatchExcept(**{"except": ["acme"]}))
    engine: Any = qdrant_edge.FieldCondition("brand", match=qdrant_edge.MatchExcept(["acme"]))
    for adapter, own in (
        (QdrantAdapter.from_client(client, collection="own"), models.Filter(must=[condition])),
        (sv.connect(f"qdrant+edge:{tmp_path}/edge"), qdrant_edge.Filter(must=[engine])),
    ):
        fill(adapter, [1, 2], rows({1: 1.0}, {1: 1.0}), [{"brand": "acme"}, {"brand": "zeta"}])
        assert ask(adapter, {1: 1.0}, where=EngineFilter("qdrant", own)).ids == (2,)
        adapter.close()


# ---- strict mode


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[tuple[QdrantShim, Adapter]]:
    with QdrantShim(tmp_path) as shim:
        adapter = sv.connect(f"qdrant://127.0.0.1:{shim.port}/strict")
        payloads: list[Payload] = [
            {"brand": "acme", "made": "2024-05-01"},
            {"brand": "zeta", "made": "2025-05-01"},
            {"a": [{"b": 1}]},
        ]
        fill(adapter, [1, 2, 3], rows({1: 1.0}, {1: 2.0}, {1: 3.0}), payloads)
        shim.collections["strict"].strict = True
        yield shim, adapter
        adapter.close()


def test_in_strict_mode_a_filter_needs_the_index_that_every_guide_names_and_no_other(
    strict: tuple[QdrantShim, Adapter],
) -> None:
    shim, adapter = strict
    shim.collections["strict"].indexed = {"brand": "keyword", "made": "datetime"}
    assert ask(adapter, {1: 1.0}, where={"brand": "acme"}).ids == (1,)
    assert ask(adapter, {1: 1.0}, where={"brand": {"not": "acme"}}).ids == (3, 2)
    assert ask(adapter, {1: 1.0}, where={"made": {"gte": "2025-01-01"}}).ids == (2,)
    assert ask(adapter, {1: 1.0}, where={"brand": {"exists": False}}).ids == (3,)
    with sv.connect(f"qdrant://127.0.0.1:{shim.port}/strict") as another:  # that has not seen the mode yet
        assert [page.ids for page in another.scan(where={"brand": {"not": "acme"}})] == [(2, 3)]
        assert (another.count({"brand": "acme"}), another.count({"made": {"gte": "2025-01-01"}})) == (1, 1)
        another.delete(where={"brand": "acme"})
    assert adapter.count() == 2


def test_in_strict_mode_a_filter_without_its_index_is_refused_by_the_name_of_the_index(
    strict: tuple[QdrantShim, Adapter],
) -> None:
    _, adapter = strict
    for call in (adapter.count, lambda where: list(adapter.scan(where=where))):
        with pytest.raises(OutOfLimits, match="make a payload index on 'brand'"):
            call({"brand": "acme"})
    with pytest.raises(OutOfLimits, match="make a payload index on 'brand'"):
        ask(adapter, {1: 1.0}, where={"brand": "acme"})


def test_an_index_on_a_path_through_a_list_is_used(strict: tuple[QdrantShim, Adapter]) -> None:
    shim, adapter = strict
    shim.collections["strict"].indexed = {"a.b": "integer"}
    assert ask(adapter, {1: 1.0}, where={"a.b": 1}).ids == ()
    shim.collections["strict"].indexed = {"a.b": "integer", "a[].b": "integer"}
    again = sv.connect(f"qdrant://127.0.0.1:{shim.port}/strict")
    assert ask(again, {1: 1.0}, where={"a.b": 1}).ids == (3,)
    again.close()


def test_a_path_of_more_keys_than_can_be_walked_is_refused_at_once(adapter: Adapter) -> None:
    for condition in (1, {"gte": "2024-01-01"}, {"exists": True}, {"not": 1}):
        with pytest.raises(OutOfLimits, match="leads through 30 keys"):
            adapter.count({".".join("a" * 30): condition})


def test_a_filter_that_would_look_at_too_many_documents_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsevec_adapters.qdrant_core.reads._CANDIDATES", 50)
    adapter = sv.connect("qdrant+memory:")
    fill(adapter, range(100), rows(*({1: 100.0 - i} for i in range(100))), [{"v": "x"}] * 99 + [{}])
    with pytest.raises(OutOfLimits, match="cannot decide the filter"):
        ask(adapter, {1: 1.0}, k=1, where={"v": {"exists": False}})
    adapter.close()
