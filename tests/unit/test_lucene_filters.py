"""What a filter narrows to, on every kind of mapping: never to less than what matches."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sparsevec_adapters.lucene.filters import decided_clauses, filter_clauses, knows, leaves

from sparsevec.contract.filters import conditions

MAPPINGS: dict[str, Any] = {
    "properties": {
        "brand": {"type": "keyword", "ignore_above": 10},
        "maker_id": {"type": "keyword"},
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
        "rating": {"type": "scaled_float", "scaling_factor": 10},
        "blob": {"type": "binary"},
        "size": {"type": "double", "coerce": False},
    }
}


OLDER = {  # documents that were there before the sub-field
    "bool": {"filter": [{"exists": {"field": "title"}}], "must_not": [{"exists": {"field": "title.raw"}}]}
}


class _MinusZero(float):
    def __eq__(self, other: object) -> bool:
        return repr(other) == "-0.0"

    __hash__ = float.__hash__


MINUS_ZERO = _MinusZero()


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
        ({"brand": 1}, None),  # 1.00000000001 is longer than ten, and OpenSearch does not note it
        ({"maker_id": 1}, [{"exists": {"field": "maker_id"}}]),  # "1", "1.0", "1e0"
        ({"maker_id": {"gte": 1}}, [{"exists": {"field": "maker_id"}}]),
        ({"brand": "longer than ten"}, None),
        ({"title": "acme"}, [{"terms": {"title.raw": ["acme"]}}, OLDER]),
        ({"title": "🙂🙂🙂🙂🙂🙂"}, [{"exists": {"field": "title"}}]),  # 12 of Java's characters
        ({"text": "acme"}, [{"exists": {"field": "text"}}]),
        ({"price": 1}, [{"range": {"price": {"gte": 1.0, "lte": 1.0}}}]),
        ({"price": [1, 2.5]}, [{"range": {"price": {"gte": x, "lte": x}}} for x in (1.0, 2.5)]),
        ({"price": 0}, [{"range": {"price": {"gte": MINUS_ZERO, "lte": 0.0}}}]),  # which is below 0.0 to Lucene
        ({"price": {"gt": 0, "lt": 0}}, [{"range": {"price": {"gt": 0.0, "lt": MINUS_ZERO}}}]),
        ({"price": {"gt": 1, "lte": 7.5}}, [{"range": {"price": {"gt": 1.0, "lte": 7.5}}}]),
        ({"price": 2**60}, [{"range": {"price": {"gte": 2.0**60 - 128, "lte": 2.0**60 + 256}}}]),
        ({"price": "1"}, [{"exists": {"field": "price"}}]),
        ({"price": ""}, None),  # which is no value to a field of numbers
        ({"on": ["", True]}, None),
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
        ({"labels": "a"}, None),
        ({"rating": 1}, None),
        ({"blob": "a"}, None),
        ({"brand.x": "a"}, None),
        ({"maker_id": {"exists": True}}, [{"exists": {"field": "maker_id"}}]),
        ({"price": {"exists": True}}, None),
        ({"nowhere": {"exists": True}}, []),
        (
            {"day": {"gt": "2026-01-01", "lte": "2026-02-01T12:00+02:00"}},
            [
                {
                    "range": {
                        "day": {
                            "gte": "2025-12-31T23:59:59.999Z",
                            "lte": "2026-02-01T10:00:00.001Z",
                            "format": "strict_date_optional_time",
                        }
                    }
                },
                {"range": {"day": {"gte": "0", "lte": "99991231", "format": "epoch_millis"}}},
            ],
        ),
    ],
)
def test_a_filter_narrows_as_far_as_the_mapping_allows(where: dict[str, Any], clauses: Any) -> None:
    assert narrowed(where) == clauses


def test_names_and_numbers_of_numpy_in_a_filter_can_be_sent_by_every_client() -> None:
    class Euros(float):
        pass

    where: dict[str, Any] = {np.str_("price"): {np.str_("gte"): Euros(2.5)}, np.str_("brand"): np.str_("acme")}
    clauses = filter_clauses(conditions(where), MAPPINGS)
    assert orjson.loads(orjson.dumps(clauses)) == clauses


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


TERMS = {"terms": {"maker_id": ["acme"]}}
ANY_TERMS = {"bool": {"should": [{"bool": {"filter": [TERMS]}}], "minimum_should_match": 1}}


@pytest.mark.parametrize(
    ("where", "clauses"),
    [
        ({"maker_id": {"not": "acme"}}, [{"bool": {"must_not": [TERMS]}}]),
        ({"maker_id": {"not": ["acme", "1", "true", True, 2]}}, [{"bool": {"must_not": [TERMS]}}]),
        ({"maker_id": {"not": "1"}}, []),  # 1 is indexed as the same
        ({"maker_id": {"exists": False}}, [{"bool": {"must_not": [{"exists": {"field": "maker_id"}}]}}]),
        ({"price": {"not": 1}}, []),  # "1" is indexed as the same
        ({"title": {"not": "acme"}}, []),
        ({"maker.name": {"not": "acme"}}, []),
        ({"$not": {"maker_id": "acme", "price": 1}}, []),
        ({"$not": {"$not": {"maker_id": "acme"}}}, []),
        (
            {"$not": {"$any": [{"maker_id": "acme"}, {"price": 1}]}},
            [{"bool": {"must_not": [{"bool": {"filter": [ANY_TERMS]}}]}}],
        ),
        ({"$any": [{"maker_id": "acme"}, {"secret": "x"}]}, []),
    ],
)
def test_what_is_excluded_is_certain_not_to_match(where: dict[str, Any], clauses: Any) -> None:
    assert filter_clauses(conditions(where), MAPPINGS) == clauses


BRANDS = {"terms": {"brand": ["acme", "zeta"]}}
UP_TO_SEVEN = {"range": {"size": {"gte": 1.0, "lt": 7.0}}}


def size(number: float) -> dict[str, Any]:
    return {"range": {"size": {"gte": number, "lte": number}}}


@pytest.mark.parametrize(
    ("where", "clauses"),
    [
        ({"maker_id": "acme"}, [TERMS]),
        ({"brand": ["acme", "zeta"], "maker_id": "acme"}, [BRANDS, TERMS]),
        ({"maker_id": {"not": "acme"}}, [{"bool": {"must_not": [TERMS]}}]),
        ({"$any": [{"maker_id": "acme"}]}, [ANY_TERMS]),
        ({"size": [1, 2.5]}, [{"bool": {"should": [size(1.0), size(2.5)], "minimum_should_match": 1}}]),
        ({"size": {"gte": 1, "lt": 7}}, [{"bool": {"should": [UP_TO_SEVEN], "minimum_should_match": 1}}]),
        ({"size": [1, "1"]}, None),
        ({"size": [1, True]}, None),
        ({"size": 2**53}, None),  # 2**53 + 1 is indexed as the same
        ({"size": {"lt": 2**60}}, None),
        ({"size": {"exists": True}}, None),
        ({"size": {"gt": "2026-01-01"}}, None),
        ({"brand": "longer than ten"}, None),  # is not indexed
        ({"maker_id": "1"}, None),  # 1 is indexed as the same
        ({"maker_id": ["acme", True]}, None),
        ({"maker_id": 1}, None),
        ({"maker_id": "acme", "price": 1}, None),  # "1" is indexed as 1
        ({"$any": [{"maker_id": "acme"}, {"secret": "x"}]}, None),
        ({"maker_id": {"not": ["acme", "1"]}}, None),
        ({"maker_id": {"exists": True}}, None),
        ({"title": "acme"}, None),
        ({"maker.name": "acme"}, None),
        ({"nowhere": "acme"}, None),
        ({}, []),
    ],
)
def test_the_server_decides_by_keywords_and_numbers_that_nothing_else_is_indexed_as(
    where: dict[str, Any], clauses: Any
) -> None:
    assert decided_clauses(conditions(where), MAPPINGS) == clauses


def test_a_field_that_others_are_copied_to_is_not_excluded_by() -> None:
    copied = {"properties": {**MAPPINGS["properties"], "other": {"type": "text", "copy_to": ["maker_id"]}}}
    assert filter_clauses(conditions({"maker_id": {"not": "acme"}}), copied) == []


def test_one_of_several_filters_narrows_when_each_of_them_does() -> None:
    (clause,) = filter_clauses(conditions({"$any": [{"maker_id": "acme"}, {"price": 1}]}), MAPPINGS)
    assert [len(part["bool"]["filter"]) for part in clause["bool"]["should"]] == [1, 1]
    assert clause["bool"]["minimum_should_match"] == 1


def test_a_runtime_field_is_not_narrowed_by() -> None:
    runs = {"runtime": {"price": {"type": "double"}, "new.part": {"type": "keyword"}}, **MAPPINGS}
    for where in ({"price": 1}, {"new": "x"}, {"new.part": "x"}):
        assert filter_clauses(conditions(where), runs) == []


def test_a_field_that_the_mapping_has_not_may_have_been_added_since() -> None:
    assert not knows("nowhere", MAPPINGS)
    assert knows("price", MAPPINGS)
    assert knows("nowhere", {"dynamic": "false"})
