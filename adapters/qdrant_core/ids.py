"""Ids as Qdrant holds them: ints in [0, 2**64) and UUIDs. Pure.

In a collection of ours an int goes as it is, and so does a string that is a UUID in the form Qdrant prints (lower case,
with hyphens). Any other string becomes uuid5(NAMESPACE, string), with the string itself in the payload field ORIGINAL,
which users never see.

In a collection that others made, ids are theirs: every spelling of a UUID that Qdrant reads (`uuid4().hex`, upper case,
`urn:uuid:...`) names the point that it names for Qdrant, and hits give Qdrant's spelling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias
from uuid import UUID, uuid5

from sparsevec.contract.checks import Id

__all__ = ["NAMESPACE", "ORIGINAL", "Point", "id_from_wire", "id_to_wire", "original"]

Point: TypeAlias = int | str
"""Of Qdrant: an int, or a UUID as it prints it."""

NAMESPACE = UUID("6f1b9a0e-5c2d-5e0b-9d3a-7a1c53505643")  # part of what is stored: never change it
ORIGINAL = "_sparsevec_id"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PRINTED = re.compile(_UUID)
_READ = re.compile(rf"[0-9a-f]{{32}}|{_UUID}|urn:uuid:{_UUID}|\{{{_UUID}\}}", re.IGNORECASE)


def id_to_wire(id_: Id, *, theirs: bool = False) -> Point:
    """`theirs`: in a collection that others made."""
    if isinstance(id_, int):
        return id_
    if (_READ if theirs else _PRINTED).fullmatch(id_):
        return str(UUID(id_))
    return str(uuid5(NAMESPACE, id_))


def original(id_: Id, *, theirs: bool = False) -> dict[str, Id]:
    """The payload field that a new point of `id_` needs, so that the id comes out as it went in."""
    known = isinstance(id_, int) or (_READ if theirs else _PRINTED).fullmatch(id_)
    return {} if known else {ORIGINAL: id_}


def id_from_wire(point: Point, payload: Mapping[str, Any] | None) -> Id:
    """`payload` need hold no more than the field ORIGINAL."""
    return point if isinstance(point, int) else str((payload or {}).get(ORIGINAL, point))
