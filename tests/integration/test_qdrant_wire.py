"""What goes over the wire, without a server: ids, payloads, filters, sizes, and the client's own models of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc
from sparsevec_adapters.qdrant_core import ids as _ids
from sparsevec_adapters.qdrant_core import payloads, points, writes
from sparsevec_adapters.qdrant_core.filters import Indexes, to_wire
from sparsevec_adapters.qdrant_core.requests import encode

from sparsevec.contract.checks import Id
from sparsevec.contract.filters import conditions
from sparsevec.errors import CollectionError, OutOfLimits
from sparsevec.vectors import SparseVectors
from tests.strategies import any_float32, ids, signed_weights, vectors

UUID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
SPELLINGS = [UUID, UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}"]


@given(ids, st.booleans())
def test_an_id_comes_back_as_it_went(id_: Id, theirs: bool) -> None:
    point = _ids.id_to_wire(id_, theirs=theirs)
    payload = {"n": 1, **_ids.original(id_, theirs=theirs)}
    assert isinstance(point, str) or 0 <= point < 2**64
    assert _ids.id_from_wire(point, payload) == id_
    assert payloads.payload_from_wire(payload) == {"n": 1}


@pytest.mark.parametrize(
    ("id_", "point", "payload"),
    [
        (42, 42, {}),
        ("42", "45f040a1-8de5-516b-8dba-452fb6a22553", {"_sparsevec_id": "42"}),
        (UUID, UUID, {}),
    ],
)
def test_an_id_keeps_its_point_for_ever(id_: Id, point: object, payload: object) -> None:
    assert (_ids.id_to_wire(id_), _ids.original(id_)) == (point, payload)


def test_in_our_collections_another_spelling_of_a_uuid_is_another_document() -> None:
    assert len({_ids.id_to_wire(spelling) for spelling in SPELLINGS}) == 5


def test_in_others_collections_every_spelling_that_qdrant_reads_is_the_same_point() -> None:
    assert {_ids.id_to_wire(spelling, theirs=True) for spelling in SPELLINGS} == {UUID}
    assert _ids.id_to_wire("1b4e-28ba2fa111d2883f0016d3cca427", theirs=True) != UUID  # which Qdrant does not read


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"n": True}, [{"match": {"value": True}}]),
        ({"n": 1}, [{"range": {"gte": 1.0, "lte": 1.0}}]),
        ({"n": 2**60}, [{"match": {"value": 2**60}}]),
        ({"n": {"gt": 1, "lte": 2.5}}, [{"range": {"gt": 1.0, "lte": 2.5}}]),
        ({"n": ["a", 1, "b"]}, [{"match": {"any": ["a", "b"]}}, {"range": {"gte": 1, "lte": 1}}]),
    ],
)
def test_a_condition_is_asked_of_the_field_and_of_a_list_in_it(where: Any, expected: list[dict[str, Any]]) -> None:
    asked = to_wire(conditions(where))
    assert asked.clause == {"should": [{"key": path, **test} for path in ('"n"', '"n"[]') for test in expected]}
    assert asked.exact


def test_a_path_may_walk_through_lists_on_its_way() -> None:
    (clause,) = to_wire(conditions({"a b.c": True})).filter["must"]
    assert [one["key"] for one in clause["should"]] == ['"a b"."c"', '"a b"."c"[]', '"a b"[]."c"', '"a b"[]."c"[]']


def test_in_strict_mode_a_path_walks_through_lists_only_where_there_is_an_index_for_it() -> None:
    for indexed, keys in [
        ({"a.b"}, ['"a"."b"']),
        ({"a.b", "a[].b"}, ['"a"."b"', '"a"[]."b"']),
        (set[str](), ['"a"."b"']),  # which the server refuses, in its words and ours
    ]:
        asked = to_wire(conditions({"a.b": "x"}), Indexes(frozenset(indexed), alone=True))
        assert asked.clause == {"should": [{"key": key, "match": {"any": ["x"]}} for key in keys]}


def test_an_alternative_that_no_index_answers_is_not_asked_beside_an_index_of_the_field() -> None:
    for indexed, keys in [
        ({"a"}, ['"a"']),  # lists directly inside lists would cost a look at every document
        ({"a", "a[]"}, ['"a"', '"a"[]']),
        ({"b"}, ['"a"', '"a"[]']),
    ]:
        asked = to_wire(conditions({"a": "x"}), Indexes(frozenset(indexed)))
        assert asked.clause == {"should": [{"key": key, "match": {"any": ["x"]}} for key in keys]}


def test_lists_of_objects_on_the_way_are_looked_through_whatever_is_indexed() -> None:
    (clause,) = to_wire(conditions({"a.b": True}), Indexes(frozenset({"a.b"}))).filter["must"]
    assert [one["key"] for one in clause["should"]] == ['"a"."b"', '"a"[]."b"', '"a"[]."b"[]']
    (clause,) = to_wire(conditions({"a.b": True}), Indexes(frozenset({"a.b", "a[].b"}))).filter["must"]
    assert [one["key"] for one in clause["should"]] == ['"a"."b"', '"a"[]."b"']


@pytest.mark.parametrize(
    ("where", "exact"),
    [
        ({"n": {"not": 1}}, True),
        ({"n": {"exists": True}}, False),
        ({"n": {"exists": False}}, False),
        ({"d": {"gte": "2024-05-01"}}, False),
        ({"$any": [{"n": 1}, {"$not": {"m": "x"}}]}, True),
        ({"$not": {"n": 1, "d": {"lt": "2024-05-01"}}}, False),
    ],
)
def test_a_filter_says_whether_it_is_all_that_was_asked(where: Any, exact: bool) -> None:
    asked = to_wire(conditions(where))
    assert asked.exact is exact
    assert asked.filter is None or models.Filter.model_validate(asked.filter)  # the client's own model takes it


@pytest.mark.parametrize(
    "where",
    [{"n": 2.0**53}, {"n": {"lt": 2**60}}, {"n": 2**63}, {"n": 2**70 + 1}, {"back\\slash": 1}],
)
def test_what_qdrant_cannot_decide_exactly_is_refused(where: Any) -> None:
    with pytest.raises(OutOfLimits):
        to_wire(conditions(where))


@given(vectors(weights=signed_weights, min_rows=1), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_request_is_never_larger_than_it_was_taken_for(batch: SparseVectors, text: str) -> None:
    """So a request within the limit is one for the server too."""
    id_, payload = text or "x", {"text": text, "n": -(2**63)}
    for row in range(len(batch)):
        document = writes.Document(id_, _ids.id_to_wire(id_), 0, payload)
        insert = points.Inserts([document.point], [_ids.original(id_)])
        rows = writes.Rows(batch[row : row + 1], "sparse", None)
        body = encode({"operations": [insert, *writes.changes([document], rows)]})
        assert len(body) <= writes.size(id_, len(batch[row]), payload)


@given(vectors(weights=signed_weights))
def test_weights_come_back_from_json_as_they_went(batch: SparseVectors) -> None:
    sent = [json.loads(encode(payloads.vector_to_wire(row, batch.dimension))) for row in batch]
    assert payloads.vectors_from_wire([(row["indices"], row["values"]) for row in sent], batch.dimension) == batch


PAYLOADS: list[dict[str, Any]] = [{}, {"a": 1, "b": [None, True, "é"], "c": {"d": 0.5}}]


def plain(batch: SparseVectors, numbers: list[Any]) -> list[dict[str, Any]]:
    """What a write of `batch` is, one object at a time: the points made where they are not there, then the vectors."""
    inserts = [{"id": id_, "vector": {}, "payload": PAYLOADS[i % 2]} for i, id_ in enumerate(numbers)]
    rows = zip(numbers, batch, strict=True)
    updates = [{"id": id_, "vector": {'a "%b"': payloads.vector_to_wire(row, batch.dimension)}} for id_, row in rows]
    upsert = {"upsert": {"points": inserts, "update_mode": "insert_only"}}
    return [upsert, {"update_vectors": {"points": updates}}]


def fast(batch: SparseVectors, numbers: list[Any]) -> list[Any]:
    inserts = points.Inserts(numbers, [PAYLOADS[i % 2] for i in range(len(numbers))])
    return [inserts, points.Updates(numbers, batch, 'a "%b"', batch.dimension)]


names = st.one_of(st.integers(0, 2**64 - 1), st.uuids().map(str))


@given(vectors(weights=signed_weights), st.lists(names, min_size=8, max_size=8))
def test_bodies_from_the_arrays_are_the_same_bytes_as_one_object_at_a_time(batch: SparseVectors, given_: Any) -> None:
    numbers = given_[: len(batch)]
    assert encode({"operations": fast(batch, numbers)}) == encode({"operations": plain(batch, numbers)})


@given(vectors(weights=signed_weights, min_rows=1), st.lists(names, min_size=8, max_size=8))
def test_the_clients_own_models_make_the_message_that_grpc_is_sent(batch: SparseVectors, given_: Any) -> None:
    numbers = given_[: len(batch)]
    removal = {"delete_vectors": {"points": numbers, "vector": ["sparse"]}}
    sent = points.update_batch("products", [*fast(batch, numbers), removal], seconds=300)
    body = encode({"operations": [*plain(batch, numbers), removal]})
    read = models.UpdateOperations.model_validate_json(body).operations
    assert sent == grpc.UpdateBatchPoints(
        collection_name="products",
        wait=True,
        timeout=300,
        operations=[RestToGrpc.convert_update_operation(operation) for operation in read],
    )


@given(any_float32)
def test_every_float32_arrives_as_it_was_over_either_way(weight: float) -> None:
    batch = SparseVectors([0, 1], [4_000_000_000], [weight], 2**32)
    (row,) = points.rows_to_json(batch, None)
    message = points.update_batch("c", [points.Updates([1], batch, "v", None)], seconds=1)
    (sent,) = message.operations[0].update_vectors.points[0].vectors.vectors.vectors["v"].sparse.values
    assert np.float32(json.loads(row)["values"][0]) == np.float32(sent) == np.float32(weight)


def test_a_document_without_weights_lies_where_no_query_goes() -> None:
    empty = SparseVectors([0, 0], [], [], 10)[0]
    assert payloads.vector_to_wire(empty, 10) == {"indices": [10], "values": [0.0]}
    assert payloads.vectors_from_wire([([10], [0.0])], 10).nnz == 0


def test_zeros_that_others_stored_are_left_out() -> None:
    (row,) = payloads.vectors_from_wire([([1, 5], [0.0, 2.0])], 10)
    assert row.to_dict() == {5: 2.0}
    assert row.values.dtype == np.float32


@pytest.mark.parametrize("row", [([1, 10], [1.0, 2.0]), ([1], [float("inf")])])
def test_vectors_of_others_that_cannot_be_ours_are_the_collections_fault(row: Any) -> None:
    with pytest.raises(CollectionError, match="others wrote them"):
        payloads.vectors_from_wire([row], 10)
