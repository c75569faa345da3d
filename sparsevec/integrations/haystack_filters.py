"""Filters of Haystack as those of `sparsevec.contract.filters`; what these cannot say exactly is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsevec.contract.filters import Where, instant
from sparsevec.errors import InvalidInput

__all__ = ["condition_of"]

_LOGIC = {"AND": "$all", "OR": "$any"}
_BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_UNKEPT = {"id", "blob", "score", "embedding", "sparse_embedding"}  # of a Document, beside its text and metadata
_NOTHING: Where = {"$any": [{"$not": {}}]}


def condition_of(given: dict[str, Any], text_key: str) -> Where:
    """One of theirs as ours (C11); `text_key`: where the text lies. Raises InvalidInput for one that is not whole, or
    cannot be answered exactly."""
    if isinstance(given, Mapping) and "field" in given:
        return _of_field(given, text_key)
    operator, parts = _part(given, "operator"), _part(given, "conditions")
    if operator not in (*_LOGIC, "NOT") or not isinstance(parts, list) or not parts:
        raise InvalidInput(f"expected AND, OR or NOT and a list of conditions, found {given!r:.80}")
    inner = [condition_of(part, text_key) for part in parts]
    return {"$not": {"$all": inner}} if operator == "NOT" else {_LOGIC[operator]: inner}


def _part(given: Any, name: str) -> Any:
    if not isinstance(given, Mapping) or name not in given:
        raise InvalidInput(f"{name!r} key missing in {given!r:.80}")
    return given[name]


def _of_field(given: dict[str, Any], text_key: str) -> Where:
    """Of one field; a list in the metadata holds when one of its elements does."""
    field, operator, value = given["field"], _part(given, "operator"), _part(given, "value")
    if not isinstance(field, str) or not isinstance(operator, str):
        raise InvalidInput(f"expected a field and an operator as strings, found {given!r:.80}")
    if field in _UNKEPT:
        raise InvalidInput(
            f"a document's {field} is no field that filters reach here; expected the text or a field of the metadata, "
            f"as meta.{field} if it has that"
        )
    field = text_key if field == "content" else field.removeprefix("meta.")
    several = isinstance(value, list)
    if operator in ("==", "!=") and value is None:
        return {field: {"exists": operator == "!="}}
    if operator in ("==", "!=") and not several:
        return {field: value if operator == "==" else {"not": value}}
    if operator in _BOUNDS and value is None:
        return _NOTHING  # as Haystack has it: nothing compares to None
    if operator in _BOUNDS and not several and not (isinstance(value, str) and instant(value) is None):
        return {field: {_BOUNDS[operator]: value}}
    if operator in ("in", "not in") and several:
        return _among(field, value) if operator == "in" else {"$not": _among(field, value)}
    raise InvalidInput(
        f"the filter {field} {operator} {value!r:.80} cannot be answered exactly here; there are == and != of one "
        "value, > >= < <= of a number or an ISO date, in and not in of a list"
    )


def _among(field: str, values: list[Any]) -> Where:
    """One of some values, None among them, perhaps of none."""
    some = [value for value in values if value is not None]
    parts: list[Where] = [{field: some}] if some else []
    return {"$any": [*parts, {field: {"exists": False}}]} if None in values else parts[0] if parts else _NOTHING
