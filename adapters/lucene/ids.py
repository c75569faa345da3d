"""Ids and `_id`s (C10).

In an index of ours, strings are the `_id`s, and the int 42 is the `_id` "int:42"; a string of that very form is
refused, so nothing collides. In an index that others made, an int is asked for in decimal, as they spell it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sparsevec.contract.checks import Id

__all__ = ["from_id", "from_ids", "id_fault", "to_id"]

_INT_ID = re.compile(r"int:(0|[1-9][0-9]{0,19})", re.ASCII)
_INT_IDS = re.compile(r"(?:int:(?:0|[1-9][0-9]{0,17})\n)+", re.ASCII)
_MAX_ID_BYTES = 512


def to_id(id_: Id, ours: bool) -> str:
    if isinstance(id_, str):
        return id_
    return f"int:{id_}" if ours else str(id_)


def from_id(text: str, ours: bool) -> Id:
    number = _int_id(text) if ours else None
    return text if number is None else number


def from_ids(texts: Sequence[str], ours: bool) -> tuple[Id, ...]:
    if not ours:
        return tuple(texts)
    lines = "\n".join(texts) + "\n"
    if _INT_IDS.fullmatch(lines) and lines.count("\n") == len(texts):  # all at once: a search brings hundreds
        return tuple(map(int, lines.replace("int:", "").split()))
    return tuple([text if (number := _int_id(text)) is None else number for text in texts])


def id_fault(id_: Id, ours: bool) -> str | None:
    """Why this id cannot be an `_id`, or None."""
    if not isinstance(id_, str):
        return None
    if ours and _int_id(id_) is not None:
        return f"the string {id_!r} is the _id of the int {_int_id(id_)}; use the int, or another string"
    if (length := len(id_.encode())) > _MAX_ID_BYTES:
        return f"an _id has at most {_MAX_ID_BYTES} bytes, this one has {length}"
    return None


def _int_id(text: str) -> int | None:
    if (match := _INT_ID.fullmatch(text)) is None:
        return None
    number = int(match[1])
    return number if number < 2**64 else None
