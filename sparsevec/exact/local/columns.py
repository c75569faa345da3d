"""Filters (C11) that look at the different values of a field, instead of at each document.

A column numbers the different values that a field has in n documents, and says which documents have which. A condition
is put to these values: equality to a dictionary, ranges of numbers and dates to arrays, the rest to the contract's own
function. Its answers are then spread over the documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, reduce
from typing import Any

import numpy as np

from sparsevec.contract.filters import (
    BOUNDS,
    All,
    AnyIn,
    AnyOf,
    Condition,
    DateRange,
    EngineFilter,
    Exists,
    Not,
    Range,
    fields,
    instant,
    predicate,
    values,
)
from sparsevec.errors import InvalidInput
from sparsevec.postings import Mask
from sparsevec.vectors import Int64s

__all__ = ["Columns"]

_EXACT = 2**53  # whole numbers below are float64 as they are
_KEPT = 32  # answers to earlier filters
_NO_DATE = np.iinfo(np.int64).min
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Columns:
    """The columns of n payloads (JSON texts), each made when a filter first speaks of its field."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        self._payloads = payloads
        self._columns: dict[str, _Column] = {}
        self._answers: dict[str, Mask] = {}

    def allowed(self, wanted: tuple[Condition, ...]) -> Mask:
        """Which documents (n,) meet all of the conditions. Raises InvalidInput for an engine's own."""
        name = repr(wanted)  # not `wanted` itself: 1 == True
        if name not in self._answers:
            self._read(fields(wanted))
            answers = {**self._answers, name: self._all(wanted)}  # a new one: others may be reading
            self._answers = dict(list(answers.items())[-_KEPT:])
        return self._answers[name]

    def _read(self, names: set[str]) -> None:
        """All that are missing in one go through the payloads, which costs more than all the rest."""
        missing = sorted(names - self._columns.keys())
        if missing:
            several = zip(*(_found(payload, missing) for payload in self._payloads), strict=True)
            made = {name: _Column(found) for name, found in zip(missing, several, strict=False)}
            self._columns = {name: _Column([]) for name in missing} | made | self._columns

    def _all(self, wanted: Iterable[Condition]) -> Mask:
        return reduce(np.logical_and, map(self._met, wanted), np.ones(len(self._payloads), bool))

    def _met(self, condition: Condition) -> Mask:
        if isinstance(condition, All):
            return self._all(condition.conditions)
        if isinstance(condition, AnyIn):
            return reduce(np.logical_or, map(self._met, condition.conditions), np.zeros(len(self._payloads), bool))
        if isinstance(condition, Not):
            return ~self._met(condition.condition)
        if isinstance(condition, EngineFilter):
            raise InvalidInput(f"what this filter of {condition.engine} means, only {condition.engine} knows")
        return self._columns[condition.field].met(condition)


def _found(payload: bytes, names: Sequence[str]) -> list[list[object]]:
    document = json.loads(payload)
    return [values(document, name) for name in names]


class _Column:
    """The different values of one field, numbered, and which documents (m,) have which values (m,)."""

    def __init__(self, found: Sequence[Sequence[object]]) -> None:
        self._n = len(found)
        self._numbers: dict[tuple[str, object], int] = {}
        self._values: list[object] = []
        codes = [self._number(value) for several in found for value in several]
        self._codes = np.array(codes, np.int32)
        self._rows = np.repeat(np.arange(self._n, dtype=np.int32), [len(several) for several in found])
        self._one_each = np.array_equal(self._rows, np.arange(self._n))

    def _number(self, value: object) -> int:
        key = _key(value)
        number = self._numbers.setdefault(key, len(self._values))
        if number == len(self._values):
            self._values.append(value)
        return number

    def met(self, condition: AnyOf | Range | DateRange | Exists) -> Mask:
        """Which of the n documents have a value that meets it."""
        good: Mask = self._good(condition)[self._codes] if self._values else np.zeros(0, bool)
        if self._one_each:
            return good
        mask = np.zeros(self._n, bool)
        mask[self._rows[good]] = True
        return mask

    def _good(self, condition: AnyOf | Range | DateRange | Exists) -> Mask:
        """Which of the different values meet it."""
        if isinstance(condition, AnyOf):
            known = [self._numbers[key] for key in map(_key, condition.values) if key in self._numbers]
            good: Mask = np.zeros(len(self._values), bool)
            good[known] = True
            return good
        if (
            isinstance(condition, Range)
            and self._floats is not None
            and _are_exact(limit for _, limit in condition.bounds)
        ):
            return _within(self._floats, condition.bounds)
        if isinstance(condition, DateRange):
            bounds = [(bound, _microseconds(limit)) for bound, limit in condition.bounds]
            return _within(self._moments, [*bounds, ("gt", _NO_DATE)])
        met = predicate([replace(condition, field="value")])
        return np.array([met({"value": value}) for value in self._values], bool)

    @cached_property
    def _floats(self) -> Any:
        """The numbers among the values as float64, NaN for others; None where float64 is not exact."""
        numbers = [value if _key(value)[0] == "number" else np.nan for value in self._values]
        return np.array(numbers, np.float64) if _are_exact(numbers) else None

    @cached_property
    def _moments(self) -> Int64s:
        """The dates among the values, in microseconds."""
        dates = [instant(value) if isinstance(value, str) else None for value in self._values]
        return np.array([_NO_DATE if date is None else _microseconds(date) for date in dates], np.int64)


def _key(value: object) -> tuple[str, object]:
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int | float):
        return "number", value
    if isinstance(value, Mapping):
        return "object", json.dumps(value)
    return type(value).__name__, value


def _are_exact(numbers: Iterable[Any]) -> bool:
    return all(isinstance(number, float) or -_EXACT <= number <= _EXACT for number in numbers)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _within(numbers: Any, bounds: Iterable[tuple[str, Any]]) -> Mask:
    held: Mask = np.ones(len(numbers), bool)
    for bound, limit in bounds:
        held &= BOUNDS[bound](numbers, limit)
    return held
