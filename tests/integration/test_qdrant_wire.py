"""What goes over the wire, without a server: ids, payloads, filters, sizes."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models
from sparsevec_adapters import qdrant
from sparsevec_adapters.qdrant_core import documents as _qdrant

from sparsevec.contract.checks import Id
from sparsevec.contract.filters import conditions
from sparsevec.errors import OutOfLimits
from sparsevec.vectors import SparseVectors
from tests.strategies import ids, signed_weights, vectors


@given(ids)
def test_an_id_comes_back_as_it_went(id_: Id) -> None:
    point, payload = _qdrant.id_to_wire(id_), _qdrant.payload_to_wire(id_, {"n": 1})
    assert isinstance(point, UUID) or 0 <= point < 2**64
    assert _qdrant.id_from_wire(str(point) if isinstance(point, UUID) else point, payload) == id_
    assert _qdrant.payload_from_wire(payload) == {"n": 1}


@pytest.mark.parametrize(
    ("id_", "point", "payload"),
    [
        (42, 42, {}),
        ("42", UUID("45f040a1-8de5-516b-8dba-452fb6a22553"), {"_sparsevec_id": "42"}),
        ("1b4e28ba-2fa1-11d2-883f-0016d3cca427", UUID("1b4e28ba-2fa1-11d2-883f-0016d3cca427"), {}),
    ],
)
def test_an_id_keeps_its_point_for_ever(id_: Id, point: object, payload: object) -> None:
    assert (_qdrant.id_to_wire(id_), _qdrant.payload_to_wire(id_, {})) == (point, payload)


def test_another_spelling_of_a_uuid_is_another_document() -> None:
    uuid = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    spellings = [uuid, uuid.upper(), uuid.replace("-", ""), f"{{{uuid}}}", f"urn:uuid:{uuid}"]
    assert len({_qdrant.id_to_wire(spelling) for spelling in spellings}) == 5


@pytest.mark.parametrize(
    ("where", "due"),
    [
        ({"n": True}, [{"key": "n", "match": {"value": True}}]),
        ({"n": 1}, [{"key": "n", "range": {"gte": 1.0, "lte": 1.0}}]),
        ({"n": 2**60}, [{"key": "n", "match": {"value": 2**60}}]),
        ({"n": {"gt": 1, "lte": 2.5}}, [{"key": "n", "range": {"gt": 1.0, "lte": 2.5}}]),
        (
            {"n": ["a", 1, "b"]},
            [{"key": "n", "match": {"any": ["a", "b"]}}, {"key": "n", "range": {"gte": 1, "lte": 1}}],
        ),
    ],
)
def test_a_condition_is_asked_of_the_field_and_of_a_list_in_it(where: Any, due: list[dict[str, Any]]) -> None:
    wanted = qdrant._to_filter(conditions(where))
    assert wanted is not None
    (condition,) = wanted.model_dump(mode="json", exclude_none=True)["must"]
    alternatives = [{**alternative, "key": path} for path in ('"n"', '"n"[]') for alternative in due]
    assert condition == {"should": alternatives}


def test_a_path_may_walk_through_lists_on_its_way() -> None:
    assert _qdrant.paths("a b.c") == ['"a b"."c"', '"a b"."c"[]', '"a b"[]."c"', '"a b"[]."c"[]']


@pytest.mark.parametrize("where", [{"n": 2.0**53}, {"n": {"lt": 2**60}}, {"back\\slash": 1}])
def test_what_qdrant_cannot_decide_exactly_is_refused(where: Any) -> None:
    with pytest.raises(OutOfLimits):
        qdrant._to_filter(conditions(where))


@given(vectors(weights=signed_weights, min_rows=1), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_request_is_never_larger_than_it_was_taken_for(batch: SparseVectors, text: str) -> None:
    """So a request within the limit is one for the server too."""
    for row in batch:
        payload = {"text": text, "n": -(2**63)}
        vector: Any = {"sparse": qdrant._to_wire(row)}
        point = models.PointStruct(id=qdrant._point(text or "x"), vector=vector, payload=payload)
        operations: list[Any] = [models.UpsertOperation(upsert=models.PointsList(points=[point]))]
        body = models.UpdateOperations(operations=operations).model_dump_json(exclude_unset=True, exclude_none=True)
        assert len(body.encode()) <= qdrant._size(text or "x", row, payload)


@given(vectors(weights=signed_weights))
def test_weights_come_back_from_json_as_they_went(batch: SparseVectors) -> None:
    rows = [json.loads(qdrant._to_wire(row).model_dump_json()) for row in batch]
    pairs = [(row["indices"], row["values"]) for row in rows]
    assert _qdrant.vectors_from_wire(pairs, batch.dimension) == batch


def test_zeros_that_others_stored_are_left_out() -> None:
    (row,) = _qdrant.vectors_from_wire([([1, 5], [0.0, 2.0])], 10)
    assert row.to_dict() == {5: 2.0}
    assert row.values.dtype == np.float32
