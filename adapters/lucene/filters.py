"""Filters (C11) on any mapping: the server narrows, `sparsevec.contract.adapter.matches` decides.

A mapping forgets types: a keyword field indexes 1, "1" and true alike when they are strings of it, a long field makes 1
of 1.5 and "1". So the clause sent to the server finds *at least* every document that matches, and what comes back is
judged by its `_source`. `_ignored` finds documents whose value was too long, or of another type, to be indexed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from sparsevec.contract.filters import AnyOf, Condition, Range

Json = dict[str, Any]

_INTEGER_BITS = {"long": 63, "integer": 31, "short": 15, "byte": 7}
_EXACT = 2**53  # below it a double is every int
_FLOATS: dict[str, Any] = {"double": np.float64, "float": np.float32}


def filter_clauses(wanted: Iterable[Condition], mappings: Mapping[str, Any]) -> list[Json]:
    """Clauses that no matching document fails; a condition that the mapping cannot help with has none."""
    return [clause for condition in wanted if (clause := _clause(condition, mappings)) is not None]


def leaves(clauses: Sequence[Json]) -> int:
    """Most Lucene clauses that they become: a `terms` of few values is rewritten into one each, up to 16."""
    return sum(16 * len(clause["bool"]["should"]) for clause in clauses)


def _clause(condition: Condition, mappings: Mapping[str, Any]) -> Json | None:
    field = condition.field
    leaf = _leaf(field, mappings, mappings.get("dynamic", "true"))
    clauses = None if leaf is None else _candidates(condition, leaf)
    if clauses is None:
        return None
    return {"bool": {"should": [*clauses, {"term": {"_ignored": field}}], "minimum_should_match": 1}}


def _leaf(path: str, parent: Mapping[str, Any], dynamic: object) -> Mapping[str, Any] | None:
    """The mapping of `path`: {} when no document can have it, None when the mapping does not tell."""
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


def _true(mapping: Mapping[str, Any], parameter: str) -> bool:
    return mapping.get(parameter, True) in (True, "true")


def _candidates(condition: Condition, leaf: Mapping[str, Any]) -> list[Json] | None:
    kind, field = leaf.get("type", "object"), condition.field
    if kind == "object":
        return []  # no scalar is indexed there
    if kind in _INTEGER_BITS or kind in _FLOATS:
        return _numeric(condition, kind)
    if isinstance(condition, Range):
        return [] if kind == "boolean" else [_exists(field)]
    if kind == "boolean":
        texts = [_text(value) for value in condition.values if _text(value) in ("true", "false", "")]
        return [{"terms": {field: texts}}] if texts else []
    among = _among(condition, field, leaf)
    return None if among is None else [among]


def _among(condition: AnyOf, field: str, leaf: Mapping[str, Any]) -> Json | None:
    """By the keyword field, or the keyword sub-field of a text field, where the values are what is indexed.

    A string that is too long for a keyword field is in no index at all, and OpenSearch does not even note it.
    """
    exact = {field: leaf, **{f"{field}.{name}": sub for name, sub in leaf.get("fields", {}).items()}}
    keywords = [(path, sub) for path, sub in exact.items() if sub.get("type") in ("keyword", "wildcard")]
    texts = _texts(condition)
    if not keywords or texts is None:
        return _exists(field)
    path, keyword = keywords[0]
    fits = all(_utf16_length(text) <= keyword.get("ignore_above", math.inf) for text in texts)
    if fits:
        return {"terms": {path: texts}}
    return _exists(field) if leaf.get("type") == "text" else None


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


def _numeric(condition: Condition, kind: str) -> list[Json]:
    """Ranges of the numbers that are indexed for a number that matches: integers are cut, floats rounded."""
    if isinstance(condition, Range):
        return [{"range": {condition.field: dict(_bound(bound, limit, kind) for bound, limit in condition.bounds)}}]
    if any(isinstance(value, str) for value in condition.values):
        return [_exists(condition.field)]  # "1" is indexed as 1, in any spelling that Java reads
    numbers = [value for value in condition.values if not isinstance(value, (bool, str))]
    return [{"range": {condition.field: dict(_bound(b, n, kind) for b in ("gte", "lte"))}} for n in numbers]


def _bound(bound: str, number: float, kind: str) -> tuple[str, float]:
    """A bound of the indexed numbers that no number within `bound` fails."""
    if kind == "double" and abs(number) < _EXACT:
        return bound, float(number)
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
