"""`Judge`: a filter (C11) on one target: what the server narrows by, and what decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sparsevec.contract.filters import Condition, EngineFilter, Predicate, fields, predicate

from .filters import certain_clauses, decided_clauses, filter_clauses
from .index import Index, Target

__all__ = ["Judge"]

Hit = TypeVar("Hit", bound=Mapping[str, Any])


@dataclass(frozen=True, slots=True)
class Judge:
    """`clauses` let through at least every document that matches; `taken` looks at the `fields` of its `_source`, at
    none where the server decides."""

    clauses: Sequence[Any]
    fields: Sequence[str]
    certain: Sequence[Any] | None
    """clauses that only matching documents pass: where both let through as many, the server has decided"""
    _met: Predicate | None

    @classmethod
    def of(cls, target: Target, wanted: Sequence[Condition]) -> Judge:
        """The engine's own filter decides by itself. Indices of different mappings agree, or are asked for all."""
        engine_own = [one.body for one in wanted if isinstance(one, EngineFilter)]
        if engine_own:
            return cls(engine_own, (), None, None)
        decided, *others_decided = (_decided(wanted, index) for index in target.indices)
        if decided is not None and all(clauses == decided for clauses in others_decided):
            return cls(decided, (), decided, None)
        first, *others = (filter_clauses(wanted, index.mappings) for index in target.indices)
        least = first if all(clauses == first for clauses in others) else []
        most, *others_most = (certain_clauses(wanted, index.mappings) for index in target.indices)
        certain = most if all(clauses == most for clauses in others_most) else None
        return cls(least, sorted(fields(wanted)), certain, predicate(wanted) if wanted else None)

    def taken(self, hits: list[Hit]) -> list[Hit]:
        """Those that match, by their `_source`."""
        return hits if self._met is None else [hit for hit in hits if self._met(_undotted(hit.get("_source", {})))]


def _decided(wanted: Sequence[Condition], index: Index) -> list[dict[str, Any]] | None:
    """None as well where the index leaves out long values of all fields, which none of their mappings says."""
    return None if "index.mapping.ignore_above" in index.settings else decided_clauses(wanted, index.mappings)


def _undotted(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """A document of others may say {"maker.name": ...} for {"maker": {"name": ...}}: to the engine they are one."""
    if "." not in "".join(source):
        return source
    made: dict[str, Any] = {}
    for name, value in _spread(source.items()):
        _put(made, name.split("."), value)
    return made


def _spread(items: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return sorted(items, key=lambda item: item[0].count("."))


def _put(made: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        inner = made.setdefault(key, {})
        if not isinstance(inner, dict):
            return  # a scalar and an object of one name: what the first says stands
        made = inner
    made.setdefault(path[-1], value)
