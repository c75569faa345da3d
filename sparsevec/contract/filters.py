"""What a filter (C11) means, as a function of one document. Adapters translate it, the reference applies it.

    where={"brand": "acme", "price": {"lt": 9}}                          both must hold
    where={"tag": ["red", "blue"]}                                       any of these
    where={"tag": {"not": ["red", "blue"]}, "size": {"exists": True}}    none of these; there is a value
    where={"made": {"gte": "2024-01-01", "lt": datetime(2025, 1, 1)}}    a range of dates
    where={"$any": [{"brand": "acme"}, {"$not": {"price": {"lt": 9}}}]}  one of these; $all, $any and $not nest
    where=EngineFilter("qdrant", {...})                                  the engine's own, which only that engine reads

- Types count: `1`, `"1"` and `True` differ; `1` and `1.0` are one number. A null is no value.
- A field that holds a list matches when one of its elements does. A dot walks into nested objects, and into lists of
  them. A field that is missing holds nothing: no equality and no range, so `{"not": ...}` holds for it.
- A range of numbers is met by numbers alone. A range of dates is met by strings that are ISO 8601 dates or times (as
  `datetime.fromisoformat` reads them; without a zone they are UTC, a date is its first moment).
- `exists` holds when the field has a value that is not null, or an object or list that has one inside.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeAlias, Union, cast

import numpy as np
import numpy.typing as npt

from sparsevec.contract.checks import Payload, as_real, key_fault
from sparsevec.contract.payloads import is_unicode
from sparsevec.errors import InvalidInput, described

__all__ = [
    "BOUNDS",
    "All",
    "AnyIn",
    "AnyOf",
    "Condition",
    "DateRange",
    "EngineFilter",
    "Exists",
    "Not",
    "Range",
    "Scalar",
    "Where",
    "conditions",
    "fields",
    "instant",
    "matches",
    "predicate",
    "values",
    "which_match",
]

Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class EngineFilter:
    """A filter in the language of `engine` (`elasticsearch`, `opensearch`, `qdrant`), handed through as it is.

    `body` is what that engine's clients take. Every other backend refuses it, and so does `verify`, which cannot know
    what it means.
    """

    engine: str
    body: Any


Predicate: TypeAlias = Callable[[Payload], bool]
"""Whether a document's payload matches."""

Where: TypeAlias = Mapping[str, Any] | EngineFilter
"""Fields to conditions, as the module docstring shows them."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field equals one of `values`."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field is a number within `bounds`: (`gt` | `gte` | `lt` | `lte`, number) pairs."""

    field: str
    bounds: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class DateRange:
    """The field is a date within `bounds`: (`gt` | `gte` | `lt` | `lte`, instant) pairs, the instants in UTC."""

    field: str
    bounds: tuple[tuple[str, datetime], ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The field holds something that is not null."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """`condition` does not hold."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class All:
    """Each of `conditions` holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyIn:
    """At least one of `conditions` holds."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Union[AnyOf, Range, DateRange, Exists, Not, All, "AnyIn", EngineFilter]

BOUNDS: Mapping[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
"""What each bound of a range asks of a value and its limit, which may be arrays."""
_DEEPEST = 20  # filters within filters
_PLAIN: Mapping[type, type] = {str: str, int: float, float: float, bool: bool}  # scalars, and what kind they are


def conditions(where: Where | None, engine: str | None = None) -> tuple[Condition, ...]:
    """A filter, read and checked; all of its conditions must hold. Raises InvalidInput.

    `engine`: whose own filters the caller can hand through; those of another are refused.
    """
    if isinstance(where, EngineFilter):
        if where.engine != engine:
            raise InvalidInput(
                f"this is a filter of {where.engine}, which {engine or 'this backend'} cannot read; say it as a "
                "mapping of fields to conditions, which means the same everywhere"
            )
        return (where,)
    if where is not None and not isinstance(where, Mapping):
        raise InvalidInput(
            f'a filter must be a mapping such as {{"brand": "acme", "price": {{"lt": 9}}}}, found {described(where)}'
        )
    return _all(where or {}, 0)


def _all(where: Mapping[str, Any], depth: int) -> tuple[Condition, ...]:
    if depth > _DEEPEST:
        raise InvalidInput(f"the filter is nested more than {_DEEPEST} deep, or holds itself")
    return tuple(part for name, value in where.items() for part in _parts(name, value, depth))


def _parts(name: object, value: Any, depth: int) -> tuple[Condition, ...]:
    if name == "$not":
        return (Not(All(_all(_mapping("$not", value), depth + 1))),)
    if name in ("$all", "$any"):
        if not isinstance(value, (list, tuple)) or not value:
            raise InvalidInput(f"{name} takes a list of filters, at least one, found {described(value)}")
        inner = tuple(All(_all(_mapping(str(name), one), depth + 1)) for one in value)
        return (All(inner) if name == "$all" else AnyIn(inner),)
    if not isinstance(name, str) or name.startswith("$") or any(key_fault(key) for key in name.split(".")):
        raise InvalidInput(f"a filter's field must be a field's name, or one of $all, $any and $not; found {name!r}")
    return _of_field(str.__str__(name), value)


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} takes filters, mappings of fields to conditions, found {described(value)}")
    return value


def _of_field(name: str, value: Any) -> tuple[Condition, ...]:
    if not isinstance(value, Mapping):
        return (_any_of(name, value),)
    known = {*BOUNDS, "not", "exists"}
    if not value or set(value) - known:
        raise InvalidInput(f"the condition on {name!r} must be made of {sorted(known)}, found {described(value)}")
    found: list[Condition] = []
    if bounds := {str.__str__(bound): limit for bound, limit in value.items() if bound in BOUNDS}:
        found.append(_range(name, bounds))
    if "not" in value:
        found.append(Not(_any_of(name, value["not"])))
    if "exists" in value:
        if not isinstance(value["exists"], bool):
            raise InvalidInput(f"exists of {name!r} must be True or False, found {described(value['exists'])}")
        found.append(Exists(name) if value["exists"] else Not(Exists(name)))
    return tuple(found)


def _any_of(name: str, value: Any) -> AnyOf:
    several = isinstance(value, (list, tuple, set, frozenset))
    values = tuple(map(_plain, value if several else (value,)))
    if not values or not all(map(_scalar, values)):
        raise InvalidInput(
            f"the filter on {name!r} must be a scalar (a string of valid unicode, a number that a float can hold, True "
            f"or False), a list of some, or a condition such as {{'gte': 1}}, found {described(value)}"
        )
    return AnyOf(name, cast("tuple[Scalar, ...]", values))


def _plain(value: Any) -> Any:
    """Scalars of numpy, of enumerations and of other subclasses as those that payloads keep of them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _scalar(value: object) -> bool:
    return is_unicode(value) if isinstance(value, str) else isinstance(value, bool) or _number(value)


def _range(name: str, bounds: Mapping[str, Any]) -> Condition:
    plain = {bound: _plain(limit) for bound, limit in bounds.items()}
    if all(_number(limit) for limit in plain.values()):
        return Range(name, tuple(plain.items()))
    dates = {bound: instant(limit) for bound, limit in plain.items()}
    if any(found is None for found in dates.values()):
        raise InvalidInput(
            f"the range of {name!r} must give numbers, or dates in ISO 8601 such as '2024-05-01', found "
            f"{described(bounds)}"
        )
    return DateRange(name, tuple(cast("dict[str, datetime]", dates).items()))


def instant(value: object) -> datetime | None:
    """The instant in UTC that a date, a time or its ISO 8601 text stands for; None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        try:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError:  # at the ends of the calendar
            return None
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None


def _number(value: object) -> bool:
    real = as_real(value)
    return real is not None and math.isfinite(real)


def fields(wanted: Iterable[Condition]) -> set[str]:
    """The payload fields that conditions speak of, with their dots."""
    found: set[str] = set()
    for condition in wanted:
        if isinstance(condition, (All, AnyIn)):
            found |= fields(condition.conditions)
        elif isinstance(condition, Not):
            found |= fields([condition.condition])
        elif not isinstance(condition, EngineFilter):
            found.add(condition.field)
    return found


def matches(payload: Payload, wanted: Iterable[Condition]) -> bool:
    """Whether a document's `payload` meets all of the conditions. Raises InvalidInput for an engine's own."""
    return predicate(wanted)(payload)


def which_match(payloads: Sequence[Payload], wanted: Iterable[Condition]) -> npt.NDArray[np.bool_]:
    """Of which documents the payload `matches`, (n,)."""
    return np.fromiter(map(predicate(wanted), payloads), bool, len(payloads))


def predicate(wanted: Iterable[Condition]) -> Predicate:
    """`matches` for many documents: what the conditions say is worked out once."""
    tests = [_predicate(condition) for condition in wanted]
    return tests[0] if len(tests) == 1 else lambda payload: all(met(payload) for met in tests)


def _predicate(condition: Condition) -> Predicate:
    if isinstance(condition, All):
        return predicate(condition.conditions)
    if isinstance(condition, AnyIn):
        tests = [_predicate(one) for one in condition.conditions]
        return lambda payload: any(met(payload) for met in tests)
    if isinstance(condition, Not):
        refused = _predicate(condition.condition)
        return lambda payload: not refused(payload)
    if isinstance(condition, EngineFilter):
        raise InvalidInput(f"what this filter of {condition.engine} means, only {condition.engine} knows")
    holds, path = _something if isinstance(condition, Exists) else _holder(condition), condition.field.split(".")

    def met(payload: Payload) -> bool:
        value = payload.get(path[0])
        if len(path) == 1 and type(value) in _PLAIN:  # one scalar, as most are
            return holds(value)
        return any(map(holds, _values(payload, path)))

    return met


def values(payload: Payload, field: str) -> list[object]:
    """What a field, with its dots, holds: of lists each element, and of lists of objects what is in each."""
    return _values(payload, field.split("."))


def _values(value: object, path: Sequence[str]) -> list[object]:
    if isinstance(value, (list, tuple)):
        return [found for inner in value for found in _values(inner, path)]
    if not path:
        return [value]
    return _values(value[path[0]], path[1:]) if isinstance(value, Mapping) and path[0] in value else []


def _something(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_something, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_something, value))
    return value is not None


def _holder(condition: AnyOf | Range | DateRange) -> Callable[[object], bool]:
    """Whether a condition holds for one value."""
    if isinstance(condition, AnyOf):
        return _among(condition.values)
    limits = [(BOUNDS[bound], limit) for bound, limit in condition.bounds]
    if isinstance(condition, Range):
        return lambda value: _number(value) and all(within(value, limit) for within, limit in limits)

    def holds(value: object) -> bool:
        moment = instant(value) if isinstance(value, str) else None
        return moment is not None and all(within(moment, limit) for within, limit in limits)

    return holds


def _among(wanted: Iterable[Scalar]) -> Callable[[object], bool]:
    scalars: dict[type, set[object]] = {}
    for scalar in wanted:
        scalars.setdefault(_kind(scalar), set()).add(scalar)

    def holds(value: object) -> bool:
        some = scalars.get(_PLAIN.get(type(value)) or _kind(value))
        return some is not None and value in some

    return holds


def _kind(value: object) -> type:
    return float if _number(value) else type(value)  # 1 and 1.0 are one number, True and "1" are not
