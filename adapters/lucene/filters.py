"""Filters (C11) on any mapping: the server narrows, `sparsevec.contract.filters.matches` decides.

A mapping forgets types: a keyword field indexes 1, "1" and true alike when they are strings of it, a long field makes 1
of 1.5 and "1". So the clause sent to the server finds *at least* every document that matches, and what comes back is
judged by its `_source`. `_ignored` finds documents whose value was too long, or of another type, to be indexed. Below a
`Not` it is the other way round: what is excluded must be *certain* not to match. Where the two meet, as for a brand in
a keyword field, the server has *decided*, and no `_source` is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard, cast

import numpy as np
import orjson

from sparsevec.contract.filters import All, AnyIn, AnyOf, Condition, DateRange, EngineFilter, Exists, Not, Range

__all__ = ["certain_clauses", "decided_clauses", "filter_clauses", "knows", "leaves"]

Json = dict[str, Any]

_INTEGER_BITS = {"long": 63, "integer": 31, "short": 15, "byte": 7}
_EXACT = 2**53  # below it a double is every int
_FLOATS: dict[str, Any] = {"double": np.float64, "float": np.float32}
_LONGEST_NUMBER = 64  # characters of a number or a date, however it is written
_BASIC_DATES = 99_991_231  # "20240501" is read as milliseconds by a date field that takes both
_KNOWN = {*_INTEGER_BITS, *_FLOATS, "boolean", "date", "keyword", "object", "text"}  # others index as they please
_NOTHING: Json = {"match_none": {}}


def filter_clauses(wanted: Iterable[Condition], mappings: Mapping[str, Any]) -> list[Json]:
    """Clauses that no matching document fails; a condition that the mapping cannot help with has none."""
    return [clause for condition in wanted if (clause := _at_least(condition, mappings)) is not None]


def certain_clauses(wanted: Iterable[Condition], mappings: Mapping[str, Any]) -> list[Json] | None:
    """Clauses that only matching documents pass; None where one of the conditions has none."""
    return _all_or_none([_at_most(condition, mappings) for condition in wanted])


def decided_clauses(wanted: Iterable[Condition], mappings: Mapping[str, Any]) -> list[Json] | None:
    """Clauses that all matching documents pass, and no others; None where the server cannot tell them apart."""
    return _all_or_none([_exactly(condition, mappings) for condition in wanted])


def _all_or_none(parts: Sequence[Json | None]) -> list[Json] | None:
    known = [part for part in parts if part is not None]
    return known if len(known) == len(parts) else None


def knows(path: str, mappings: Mapping[str, Any]) -> bool:
    """Whether the mapping has that field; else documents may have brought it since."""
    return _leaf(path, mappings, mappings.get("dynamic", "true")) != {}


def leaves(clauses: Any) -> int:
    """Most Lucene clauses that they become: a `terms` of few values is rewritten into one each, up to 16."""
    if isinstance(clauses, Mapping):
        own = 16 * len({"term", "terms", "range", "exists", "match_none"} & clauses.keys())
        return own + sum(leaves(inner) for inner in clauses.values())
    return sum(map(leaves, clauses)) if isinstance(clauses, (list, tuple)) else 0


def _at_least(condition: Condition, mappings: Mapping[str, Any]) -> Json | None:
    """A clause that every matching document meets; None for no clause, which every document meets."""
    if isinstance(condition, All):
        parts = filter_clauses(condition.conditions, mappings)
        return {"bool": {"filter": parts}} if parts else None
    if isinstance(condition, AnyIn):
        parts = filter_clauses(condition.conditions, mappings)
        return _any(parts) if len(parts) == len(condition.conditions) else None
    if isinstance(condition, Not):
        certain = _at_most(condition.condition, mappings)
        return None if certain is None else {"bool": {"must_not": [certain]}}
    if isinstance(condition, EngineFilter):
        return None
    field = condition.field
    leaf = _leaf(field, mappings, mappings.get("dynamic", "true"))
    if isinstance(condition, Exists) and _is_object(field, mappings):
        return None  # found by what is inside it
    clauses = None if leaf is None else _candidates(condition, leaf)
    return None if clauses is None else _any([*clauses, {"term": {"_ignored": field}}])


def _any(clauses: Sequence[Json]) -> Json:
    return {"bool": {"should": list(clauses), "minimum_should_match": 1}} if clauses else _NOTHING


def _at_most(condition: Condition, mappings: Mapping[str, Any]) -> Json | None:
    """A clause that only matching documents meet; None when there is none worth asking.

    Only of keywords and numbers that are indexed as they are written, in fields that no other is copied to: what is
    indexed then stands in the document.
    """
    if isinstance(condition, (All, AnyIn)):
        parts = [_at_most(part, mappings) for part in condition.conditions]
        if isinstance(condition, All):
            return None if None in parts else {"bool": {"filter": parts}}
        return _any(known) if (known := [part for part in parts if part is not None]) else None
    if isinstance(condition, (Not, EngineFilter)) or "." in condition.field:
        return None
    if condition.field in mappings.get("runtime", {}) or b'"copy_to"' in orjson.dumps(mappings):
        return None
    leaf = mappings.get("properties", {}).get(condition.field, {})
    if _takes_numbers_alone(leaf):
        return _any(_numeric(condition, "double")) if _of_doubles(condition) else None
    plain = leaf.get("type") == "keyword" and leaf.keys() <= {"type", "ignore_above", "fields", "meta", "norms"}
    if not plain or not isinstance(condition, (AnyOf, Exists)):
        return None
    if isinstance(condition, Exists):
        return _exists(condition.field)
    texts = [value for value in condition.values if isinstance(value, str) and not _may_be_other(value)]
    return {"terms": {condition.field: texts}} if texts else None


def _exactly(condition: Condition, mappings: Mapping[str, Any]) -> Json | None:
    """A clause that matching documents meet, and no others; None where there is none."""
    if isinstance(condition, Not):
        inner = _exactly(condition.condition, mappings)
        return None if inner is None else {"bool": {"must_not": [inner]}}
    if isinstance(condition, (All, AnyIn)):
        if (parts := decided_clauses(condition.conditions, mappings)) is None:
            return None
        return {"bool": {"filter": parts}} if isinstance(condition, All) else _any(parts)
    certain = _at_most(condition, mappings)
    if certain is None or not isinstance(condition, (AnyOf, Range)):
        return None
    leaf = _leaf(condition.field, mappings, mappings.get("dynamic", "true"))
    least = _candidates(condition, leaf) if leaf else None
    return certain if least is not None and least in ([certain], certain.get("bool", {}).get("should")) else None


def _takes_numbers_alone(leaf: Mapping[str, Any]) -> bool:
    """Whether a field indexes no text: "5" is as good as 5 to others."""
    strict = leaf.get("type") == "double" and leaf.get("coerce") in (False, "false")
    return strict and leaf.keys() <= {"type", "coerce", "ignore_malformed", "fields", "meta"}


def _of_doubles(condition: AnyOf | Range | DateRange | Exists) -> TypeGuard[AnyOf | Range]:
    """Whether it asks for nothing but numbers that a double holds."""
    if isinstance(condition, AnyOf):
        asked: Iterable[Any] = condition.values
    else:
        asked = [limit for _, limit in condition.bounds] if isinstance(condition, Range) else [None]
    return all(isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < _EXACT for n in asked)


def _may_be_other(text: str) -> bool:
    """Whether a number or a truth value is indexed as the same keyword."""
    if text in ("true", "false"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _leaf(path: str, parent: Mapping[str, Any], dynamic: object) -> Mapping[str, Any] | None:
    """The mapping of `path`: {} when no document can have it, None when the mapping does not tell."""
    if _runs(path, parent.get("runtime", {})):
        return None  # a runtime field is searched instead of what is indexed
    properties = parent.get("properties", {})
    if path in properties:  # with `subobjects: false` its name has the dots
        child = properties[path]
        told = _true(child, "index") and _true(child, "enabled") and child.get("type") != "nested"
        return child if told else None
    head, _, rest = path.partition(".")
    if rest and head in properties and properties[head].get("type", "object") == "object":
        return _leaf(rest, properties[head], properties[head].get("dynamic", dynamic))
    subobjects = parent.get("subobjects") in (False, "false")
    known = dynamic in ("true", True) and _true(parent, "enabled") and (head not in properties or subobjects)
    return {} if known else None


def _runs(path: str, runtime: Mapping[str, Any]) -> bool:
    return any(path == name or path.startswith(f"{name}.") or name.startswith(f"{path}.") for name in runtime)


def _is_object(path: str, mappings: Mapping[str, Any]) -> bool:
    """Whether a document may hold an object there, also where `subobjects: false` keeps only the names inside it."""
    return any(name.startswith(f"{path}.") for name in mappings.get("properties", {}))


def _true(mapping: Mapping[str, Any], parameter: str) -> bool:
    return mapping.get(parameter, True) in (True, "true")


def _candidates(condition: AnyOf | Range | DateRange | Exists, leaf: Mapping[str, Any]) -> list[Json] | None:
    kind, field = leaf.get("type", "object"), condition.field
    if not leaf:
        return []  # no document has it
    if kind not in _KNOWN:
        return None
    if isinstance(condition, Exists):
        return [_exists(field)] if kind in ("keyword", "boolean") and "ignore_above" not in leaf else None
    if kind == "object":
        return []  # no scalar is indexed there
    if isinstance(condition, AnyOf) and "" in condition.values and kind not in ("keyword", "text"):
        return None  # an empty string is no value to fields of numbers and dates, and false to truth values
    if kind in _INTEGER_BITS or kind in _FLOATS:
        return _numeric(condition, kind)
    if isinstance(condition, DateRange) and kind == "date" and "format" not in leaf:
        return _dates(condition)
    if not isinstance(condition, AnyOf):
        return [] if kind == "boolean" else _held(field, leaf)
    if kind == "boolean":
        texts = [_text(value) for value in condition.values if _text(value) in ("true", "false")]
        return [{"terms": {field: texts}}] if texts else []
    return _among(condition, field, leaf)


def _held(field: str, leaf: Mapping[str, Any]) -> list[Json] | None:
    """Documents that hold a number or a date as text. One too long for a keyword field is in no index at all, and
    OpenSearch does not even note it."""
    return [_exists(field)] if leaf.get("ignore_above", math.inf) >= _LONGEST_NUMBER else None


def _among(condition: AnyOf, field: str, leaf: Mapping[str, Any]) -> list[Json] | None:
    """By the keyword field, or the keyword sub-field of a text field, where the values are what is indexed.

    A sub-field may be younger than a document, which then has the field and not the sub-field.
    """
    exact = {field: leaf, **{f"{field}.{name}": sub for name, sub in leaf.get("fields", {}).items()}}
    keywords = [(path, sub) for path, sub in exact.items() if sub.get("type") == "keyword" and _true(sub, "index")]
    texts = _texts(condition)
    if not keywords or texts is None:
        return _held(field, leaf)
    path, keyword = keywords[0]
    fits = all(_utf16_length(text) <= keyword.get("ignore_above", math.inf) for text in texts)
    if fits and path == field:
        return [{"terms": {path: texts}}]
    if fits:
        return [{"terms": {path: texts}}, {"bool": {"filter": [_exists(field)], "must_not": [_exists(path)]}}]
    return [_exists(field)] if leaf.get("type") == "text" else None


def _texts(condition: AnyOf) -> list[str] | None:
    """The values as a keyword field indexes them; None when one is a number, which has many spellings."""
    texts = [_text(value) for value in condition.values]
    return cast("list[str]", texts) if None not in texts else None


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _exists(field: str) -> Json:
    return {"exists": {"field": field}}


def _numeric(condition: AnyOf | Range | DateRange, kind: str) -> list[Json]:
    """Ranges of the numbers that are indexed for a number that matches: integers are cut, floats rounded."""
    field = condition.field
    if isinstance(condition, DateRange):
        return [_exists(field)]  # "20240501" is a date, and is indexed as a number
    if isinstance(condition, Range):
        return [{"range": {field: dict(_bound(bound, limit, kind) for bound, limit in condition.bounds)}}]
    if any(isinstance(value, str) for value in condition.values):
        return [_exists(field)]  # "1" is indexed as 1, in any spelling that Java reads
    numbers = [value for value in condition.values if not isinstance(value, (bool, str))]
    return [{"range": {field: dict(_bound(b, n, kind) for b in ("gte", "lte"))}} for n in numbers]


def _bound(bound: str, number: float, kind: str) -> tuple[str, float]:
    """A bound of the indexed numbers that no number within `bound` fails."""
    if kind == "double" and abs(number) < _EXACT:
        return bound, float(number) or (0.0 if bound in ("gt", "lte") else -0.0)  # to Lucene -0.0 is below 0.0
    closed, down = f"{bound[:2]}e", bound[0] == "g"
    if kind in _INTEGER_BITS:
        most = 1 << _INTEGER_BITS[kind]
        return closed, min(max(math.floor(number) if down else math.ceil(number), -most), most - 1)
    float_kind = _FLOATS[kind]
    largest = float(np.finfo(float_kind).max)
    rounded = float_kind(min(max(number, -largest), largest))
    with np.errstate(over="ignore"):
        wider = float(np.nextafter(rounded, float_kind(-np.inf if down else np.inf)))
    return closed, min(max(wider, -largest), largest)


def _dates(condition: DateRange) -> list[Json]:
    """A range of milliseconds, and what a date field reads as milliseconds though it is a date without hyphens."""
    bounds = {f"{bound[:2]}e": _millisecond(limit, down=bound[0] == "g") for bound, limit in condition.bounds}
    milliseconds = {"gte": "0", "lte": str(_BASIC_DATES), "format": "epoch_millis"}
    return [
        {"range": {condition.field: {**bounds, "format": "strict_date_optional_time"}}},
        {"range": {condition.field: milliseconds}},
    ]


def _millisecond(moment: datetime, *, down: bool) -> str:
    """A date field cuts off what is less than a millisecond; one more on each side is never one too few."""
    with suppress(OverflowError):  # at the ends of the calendar
        moment += timedelta(milliseconds=-1 if down else 1)
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
