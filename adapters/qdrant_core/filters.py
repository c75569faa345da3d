"""Filters (C11) as Qdrant says them: the JSON of its REST API, and whether that is all there is to it. Pure.

Qdrant compares numbers as float64, and an int with an int only; a range says what we mean up to 2**53, where float64
begins to skip ints. A server reads a JSON number of more than 15 digits with an error of up to one unit in the last
place (serde_json without `float_roundtrip`), floats of payloads as well as bounds of ranges, over REST and not over
gRPC; so an int too long for it is asked for as an int, and a float that equals it is not found. A path does not walk
into lists by itself, save into a list at its end: each list on the way is one more alternative. Lists directly inside
lists are followed one level deep.

Two conditions Qdrant cannot say exactly. It reads other spellings as dates than `datetime.fromisoformat` (`2024-5-1`
and not `20240501`), and an empty object exists for it. For these `to_wire` gives a filter that lets through all
documents that match and perhaps some that do not, and `exact` is False: whoever asks must look at the payloads.

An alternative that no payload index answers makes the engine read every document, however few the others leave. So
where `a` has an index, the lists directly inside lists under `a` are left alone, which no index of `a` holds: they are
found when `a[]` is indexed as well. And where `a.b` has one, lists of objects on the way are still looked through,
quickly when `a[].b` is indexed too. A server in strict mode refuses a path without an index; there only those that have
one are walked, and of every field the plain one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sparsevec.contract.filters import (
    All,
    AnyIn,
    AnyOf,
    Condition,
    DateRange,
    EngineFilter,
    Exists,
    Not,
    Range,
)
from sparsevec.errors import OutOfLimits

__all__ = ["Asked", "Clause", "Indexes", "plain_path", "to_wire"]

Clause: TypeAlias = dict[str, Any]
"""A condition, or a filter, of Qdrant's."""

_EXACT = 2**53  # beyond it float64 skips ints
_INT64 = range(-(2**63), 2**63)  # that the server compares as such
_READ = _EXACT // 10  # beyond it "n.0" in JSON has digits that the server reads one off
_NEVER: Clause = {"has_id": []}


@dataclass(frozen=True, slots=True)
class Asked:
    """What to send: None lets every document through. Unless it is `exact`, payloads are to be looked at."""

    clause: Clause | None
    exact: bool

    @property
    def filter(self) -> Clause | None:
        return None if self.clause is None else {"must": [self.clause]}


@dataclass(frozen=True, slots=True)
class Indexes:
    """The payload indexes of a collection."""

    paths: frozenset[str] = frozenset()
    """without quotes"""
    alone: bool = False
    """whether no other path may be walked: strict mode"""

    def strictly(self) -> Indexes:
        """Of the same collection, in strict mode."""
        return replace(self, alone=True)

    def walks(self, way: str) -> bool:
        """Whether to walk it beside the plain path of its field."""
        path = plain_path(way)
        return path in self.paths or not (self.alone or path.removesuffix("[]") in self.paths)

    def looks_beside(self, path: str) -> bool:
        """Whether a filter on this indexed path walks others that have no index."""
        ways = _ways(path.split("."))[1:] if "[]" not in path else []
        return any(self.walks(way) and plain_path(way) not in self.paths for way in ways)


_NONE = Indexes()


def to_wire(wanted: Iterable[Condition], indexes: Indexes = _NONE) -> Asked:
    """All of `wanted` as one filter, for a collection with these indexes.

    Raises OutOfLimits for what Qdrant cannot compare exactly.
    """
    return _all([_asked(condition, indexes) for condition in wanted])


def plain_path(path: str) -> str:
    """As a payload index is named: without the quotes that let a path hold any character."""
    return path.replace('"', "")


def _asked(condition: Condition, indexes: Indexes) -> Asked:
    match condition:
        case EngineFilter(body=body):
            return Asked(body, exact=True)
        case All(conditions=parts):
            return _all([_asked(part, indexes) for part in parts])
        case AnyIn(conditions=parts):
            return _any([_asked(part, indexes) for part in parts])
        case Not(condition=inner):
            return _not(inner, indexes)
        case AnyOf() | Range():
            walks, tests = _walks(condition, indexes), list(_tests(condition))
            return Asked(_should(_at(walk, test) for walk in walks for test in tests), exact=True)
        case Exists():
            return Asked(_should(map(_there, _walks(condition, indexes))), exact=False)
        case DateRange():
            return Asked(_should(_dated(condition, indexes)), exact=False)


def _not(condition: Condition, indexes: Indexes) -> Asked:
    """Pushed inwards, so that what lets too much through is never negated."""
    match condition:
        case Not(condition=inner):
            return _asked(inner, indexes)
        case All(conditions=parts):
            return _any([_not(part, indexes) for part in parts])
        case AnyIn(conditions=parts):
            return _all([_not(part, indexes) for part in parts])
        case Exists() if not indexes.alone:
            return Asked({"must_not": list(_certain(condition, indexes))}, exact=False)
        case Exists() | DateRange():
            return Asked(None, exact=False)
    asked = _asked(condition, indexes)
    return Asked({"must_not": [asked.clause or {"must": []}]}, asked.exact)


def _all(parts: Sequence[Asked]) -> Asked:
    clauses = [part.clause for part in parts if part.clause is not None]
    return Asked(
        {"must": clauses} if len(clauses) > 1 else clauses[0] if clauses else None, all(p.exact for p in parts)
    )


def _any(parts: Sequence[Asked]) -> Asked:
    if not parts:
        return Asked(_NEVER, True)
    if any(part.clause is None for part in parts):
        return Asked(None, exact=any(part.clause is None and part.exact for part in parts))
    return Asked(_should(part.clause for part in parts if part.clause is not None), all(part.exact for part in parts))


def _should(clauses: Iterable[Clause]) -> Clause:
    return {"should": list(clauses)}


def _at(path: str, test: Mapping[str, Any]) -> Clause:
    return {"key": path, **test}


# ---- paths

_DEEPEST = 10  # keys of a path, which is walked in 1024 ways


def _walks(condition: AnyOf | Range | DateRange | Exists, indexes: Indexes) -> list[str]:
    """Every way Qdrant may have to walk to what the field means: `"a"."b"`, `"a"[]."b"`, ..."""
    keys = condition.field.split(".")
    if any("\\" in key for key in keys):
        raise OutOfLimits(f"Qdrant has no way to write the field {condition.field!r} in a filter: it holds a backslash")
    if len(keys) > _DEEPEST:
        raise OutOfLimits(
            f"the filter's field {condition.field!r:.80} leads through {len(keys)} keys, and each may be a list, which "
            f"doubles what Qdrant must look at; {_DEEPEST} are the most. Keep what you ask for nearer the top"
        )
    plain, *others = _ways(keys)
    return [plain, *filter(indexes.walks, others)]


def _ways(keys: Sequence[str]) -> list[str]:
    lists = itertools.product(("", "[]"), repeat=len(keys))
    return [".".join(f'"{key}"{of}' for key, of in zip(keys, walk, strict=True)) for walk in lists]


# ---- tests


def _tests(condition: AnyOf | Range) -> Iterator[Clause]:
    """What a value must satisfy one of for `condition` to hold. Raises OutOfLimits where float64 is too coarse."""
    if isinstance(condition, Range):
        yield {"range": {bound: _number(limit, condition.field) for bound, limit in condition.bounds}}
        return
    if strings := [value for value in condition.values if isinstance(value, str)]:
        yield {"match": {"any": strings}}
    for value in condition.values:
        if isinstance(value, bool) or (isinstance(value, int) and abs(value) >= _READ and value in _INT64):
            yield {"match": {"value": value}}
        elif not isinstance(value, str):
            number = _number(value, condition.field)
            yield {"range": {"gte": number, "lte": number}}


def _number(number: float, field: str) -> float:
    if _EXACT <= abs(number) <= 2**64 or float(number) != number:
        raise OutOfLimits(
            f"the filter on {field!r} compares with {number}; Qdrant compares as float64, which is exact below 2**53. "
            "Store such numbers as strings, or ask for an exact int"
        )
    return float(number)


def _there(path: str) -> Clause:
    """A value that is neither null nor an empty list; for us an empty object, or a list of nulls, is none either."""
    return {"must_not": [{"is_empty": {"key": path}}]}


def _certain(condition: Exists, indexes: Indexes) -> Iterator[Clause]:
    """Values that exist for us too: numbers, truth values, dates. (Of strings as such Qdrant has no test.)"""
    tests: tuple[Clause, ...] = (
        {"range": {"gte": -_HUGE}},
        {"match": {"value": True}},
        {"match": {"value": False}},
        _READABLE,
    )
    for walk in _walks(condition, indexes):
        yield from (_at(walk, test) for test in tests)


_HUGE = 1.7976931348623157e308
_READABLE: Clause = {"range": {"gte": "0001-01-01T00:00:00Z"}}  # by Qdrant, as a date


def _dated(condition: DateRange, indexes: Indexes) -> Iterator[Clause]:
    """Within the bounds for Qdrant; or there, and no date for Qdrant; or one of several values."""
    bounds = {bound: limit.isoformat().replace("+00:00", "Z") for bound, limit in condition.bounds}
    for walk in _walks(condition, indexes):
        yield _at(walk, {"range": bounds})
        if indexes.alone:  # the field has an index of dates, which answers ranges and nothing else
            continue
        if "[]" in walk:
            yield _there(walk)
            continue
        yield {"must": [_there(walk)], "must_not": [_at(walk, _READABLE)]}
        yield _at(walk, {"values_count": {"gt": 1}})
