"""What a filter narrows to, on every kind of mapping: never to less than what matches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sparsevec_adapters.lucene.filters import filter_clauses, leaves

from sparsevec.contract.filters import conditions

MAPPINGS: dict[str, Any] = {
    "properties": {
        "brand": {"type": "keyword", "ignore_above": 10},
        "title": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 10}}},
        "text": {"type": "text"},
        "price": {"type": "double"},
        "weight": {"type": "float"},
        "stock": {"type": "long"},
        "small": {"type": "byte"},
        "on": {"type": "boolean"},
        "day": {"type": "date"},
        "secret": {"type": "keyword", "index": False},
        "maker": {"properties": {"name": {"type": "keyword"}, "open": {"dynamic": "false", "properties": {}}}},
        "parts": {"type": "nested", "properties": {"name": {"type": "keyword"}}},
        "anything": {"type": "object", "enabled": False},
        "labels": {"type": "flattened"},
    }
}


def narrowed(where: dict[str, Any], mappings: dict[str, Any] = MAPPINGS) -> Any:
    """What the server is asked for, without the documents whose value it could not index; None for every document."""
    clauses = filter_clauses(conditions(where), mappings)
    if not clauses:
        return None
    (clause,) = clauses
    *should, ignored = clause["bool"]["should"]
    assert ignored == {"term": {"_ignored": next(iter(where))}}
    assert clause["bool"]["minimum_should_match"] == 1
    return should


@pytest.mark.parametrize(
    ("where", "clauses"),
    [
        ({"brand": "acme"}, [{"terms": {"brand": ["acme"]}}]),
        ({"brand": ["acme", True]}, [{"terms": {"brand": ["acme", "true"]}}]),
        ({"brand": 1}, [{"exists": {"field": "brand"}}]),  # "1", "1.0", "1e0"
        ({"brand": {"gte": 1}}, [{"exists": {"field": "brand"}}]),
        ({"brand": "longer than ten"}, None),
        ({"title": "acme"}, [{"terms": {"title.raw": ["acme"]}}]),
        ({"title": "🙂🙂🙂🙂🙂🙂"}, [{"exists": {"field": "title"}}]),  # 12 of Java's characters
        ({"text": "acme"}, [{"exists": {"field": "text"}}]),
        ({"price": 1}, [{"range": {"price": {"gte": 1.0, "lte": 1.0}}}]),
        ({"price": [1, 2.5]}, [{"range": {"price": {"gte": x, "lte": x}}} for x in (1.0, 2.5)]),
        ({"price": {"gt": 1, "lte": 7.5}}, [{"range": {"price": {"gt": 1.0, "lte": 7.5}}}]),
        ({"price": 2**60}, [{"range": {"price": {"gte": 2.0**60 - 128, "lte": 2.0**60 + 256}}}]),
        ({"price": "1"}, [{"exists": {"field": "price"}}]),
        ({"price": True}, []),
        ({"stock": 1.5}, [{"range": {"stock": {"gte": 1, "lte": 2}}}]),  # 1.5 is indexed as 1
        ({"stock": {"gt": 1, "lt": 3}}, [{"range": {"stock": {"gte": 1, "lte": 3}}}]),
        ({"small": {"gte": -1e30, "lte": 1e30}}, [{"range": {"small": {"gte": -128, "lte": 127}}}]),
        ({"on": [True, 3]}, [{"terms": {"on": ["true"]}}]),
        ({"on": 3}, []),
        ({"on": [True, "false", "x"]}, [{"terms": {"on": ["true", "false"]}}]),
        ({"on": {"gte": 0}}, []),
        ({"day": "2026-01-01"}, [{"exists": {"field": "day"}}]),
        ({"maker.name": "acme"}, [{"terms": {"maker.name": ["acme"]}}]),
        ({"maker": "acme"}, []),
        ({"nowhere": 1}, []),
        ({"maker.nowhere": 1}, []),
        ({"maker.open.x": 1}, None),
        ({"secret": "x"}, None),
        ({"parts.name": "x"}, None),
        ({"anything.x": 1}, None),
        ({"anything": 1}, None),
        ({"labels.x": "a"}, None),
        ({"brand.x": "a"}, None),
    ],
)
def test_a_filter_narrows_as_far_as_the_mapping_allows(where: dict[str, Any], clauses: Any) -> None:
    assert narrowed(where) == clauses


def test_where_objects_are_flat_a_field_is_an_object_and_a_scalar() -> None:
    flat = {"subobjects": False, "properties": {"maker": {"type": "keyword"}, "maker.name": {"type": "keyword"}}}
    assert narrowed({"maker": "acme"}, flat) == [{"terms": {"maker": ["acme"]}}]
    assert narrowed({"maker.name": "acme"}, flat) == [{"terms": {"maker.name": ["acme"]}}]
    assert narrowed({"maker.nowhere": "acme"}, flat) == []


def test_what_a_mapping_does_not_say_is_not_narrowed() -> None:
    for mappings in ({"dynamic": "false"}, {"dynamic": "runtime"}, {"dynamic": "strict"}, {"enabled": False}):
        assert narrowed({"n": 1}, {**mappings, "properties": {}}) is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_float_field_is_searched_at_least_as_far_as_rounding_may_have_moved_a_number(
    number: float, near: float
) -> None:
    for exact in (number, near):
        bounds = narrowed({"weight": exact}, MAPPINGS)[0]["range"]["weight"]
        with np.errstate(over="ignore"):
            indexed = float(np.clip(np.float32(exact), -np.finfo(np.float32).max, np.finfo(np.float32).max))
        assert bounds["gte"] <= indexed <= bounds["lte"]


def test_the_clauses_of_a_filter_are_counted_generously() -> None:
    assert leaves(filter_clauses(conditions({"brand": "acme", "price": [1, 2]}), MAPPINGS)) == 16 * 5
    assert leaves([]) == 0
