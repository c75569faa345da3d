"""What the Qdrant adapters share: our ids, payloads and filters as Qdrant means them. Pure functions.

Ids. Qdrant takes ints in [0, 2**64) and UUIDs. An int goes as it is, and so does a string that is a UUID in the form
Qdrant prints (lower case, with hyphens), so that points which others made are found under their own ids. Any other
string becomes uuid5(NAMESPACE, string), with the string itself in the payload field ORIGINAL, which users never see.

Filters. Qdrant compares numbers as float64, and an int with an int only; a range says what we mean up to 2**53, where
float64 begins to skip ints. A server reads a JSON number of more than 15 digits with an error of up to one unit in the
last place (serde_json without `float_roundtrip`), floats of payloads as well as bounds of ranges, over REST and not
over gRPC; so an int too long for it is asked for as an int, and a float that equals it is not found. A path does not
walk into lists by itself: each list on the way is one more alternative. Lists directly inside lists are followed one
level deep. A server in strict mode may ask for a payload index of each: `field` and `field[]`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID, uuid5

from sparsevec.contract.checks import Id, Payload
from sparsevec.contract.filters import AnyOf, Condition
from sparsevec.errors import OutOfLimits
from sparsevec.vectors import SparseVectors

__all__ = [
    "ORIGINAL",
    "Test",
    "has_null",
    "id_from_wire",
    "id_to_wire",
    "paths",
    "payload_from_wire",
    "payload_to_wire",
    "tests",
    "vectors_from_wire",
]

NAMESPACE = UUID("6f1b9a0e-5c2d-5e0b-9d3a-7a1c53505643")  # part of what is stored: never change it
ORIGINAL = "_sparsevec_id"
_EXACT = 2**53  # beyond it float64 skips ints
_READ = _EXACT // 10  # beyond it "n.0" in JSON has digits that the server reads one off

Test: TypeAlias = tuple[str, ...] | bool | int | Mapping[str, float]
"""A value is one of these strings, is this truth value, is this int, or lies within these bounds."""


def id_to_wire(id_: Id) -> int | UUID:
    if isinstance(id_, int):
        return id_
    return UUID(id_) if _is_canonical_uuid(id_) else uuid5(NAMESPACE, id_)


def _is_canonical_uuid(text: str) -> bool:
    try:
        return len(text) == 36 and str(UUID(text)) == text
    except ValueError:
        return False


def id_from_wire(id_: int | str | UUID, payload: Mapping[str, Any] | None) -> Id:
    """`payload` need hold no more than the field ORIGINAL."""
    if isinstance(id_, int):
        return id_
    return str((payload or {}).get(ORIGINAL, id_))


def payload_to_wire(id_: Id, payload: Payload) -> dict[str, Any]:
    """As it goes with a document that is new."""
    return {**payload, ORIGINAL: id_} if isinstance(id_, str) and not _is_canonical_uuid(id_) else dict(payload)


def has_null(payload: Payload) -> bool:
    """Whether it cannot be merged into what is there: Qdrant takes a null as an order to remove the field."""
    return None in payload.values()


def payload_from_wire(payload: Mapping[str, Any] | None) -> dict[str, Any]:
    return {field: value for field, value in (payload or {}).items() if field != ORIGINAL}


def vectors_from_wire(rows: Sequence[tuple[Sequence[int], Sequence[float]]], dimension: int) -> SparseVectors:
    """From (indices, values) pairs. Zeros, which others may have stored, are left out: they score nothing."""
    pairs = (((i, v) for i, v in zip(indices, values, strict=True) if v) for indices, values in rows)
    return SparseVectors.from_rows(pairs, dimension=dimension)


# ---- filters


def paths(field: str) -> list[str]:
    """Every way Qdrant may have to walk to what `field` means: `"a"."b"`, `"a"[]."b"`, ..."""
    keys = field.split(".")
    if any("\\" in key for key in keys):
        raise OutOfLimits(f"Qdrant has no way to write the field {field!r} in a filter: it holds a backslash")
    walks = itertools.product(("", "[]"), repeat=len(keys))
    return [".".join(f'"{key}"{lists}' for key, lists in zip(keys, walk, strict=True)) for walk in walks]


def tests(condition: Condition) -> Iterator[Test]:
    """What a value must satisfy one of for `condition` to hold. Raises OutOfLimits where float64 is too coarse."""
    if not isinstance(condition, AnyOf):
        yield {bound: _exact(limit, condition.field) for bound, limit in condition.bounds}
        return
    if strings := tuple(value for value in condition.values if isinstance(value, str)):
        yield strings
    for value in condition.values:
        if isinstance(value, bool) or (isinstance(value, int) and abs(value) >= _READ):
            yield value
        elif not isinstance(value, str):
            yield {"gte": _exact(value, condition.field), "lte": _exact(value, condition.field)}


def _exact(number: float, field: str) -> float:
    if _EXACT <= abs(number) <= 2**64:
        raise OutOfLimits(
            f"the filter on {field!r} compares with {number}; Qdrant compares as float64, which is exact below 2**53. "
            "Store such numbers as strings, or ask for an exact int"
        )
    return float(number)
