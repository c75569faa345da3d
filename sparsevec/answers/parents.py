"""The best hit of each parent: what whoever split documents into chunks asks for.

A document's parent is the value of one field of its payload, as it is written there: `7`, `7.0` and `"7"` are three. A
document without that field, or with null in it, is its own parent. A parent's score is that of its best chunk.

No engine says that: Qdrant's groups leave documents without the field out, Elasticsearch's `collapse` makes one group
of them, and refuses a field with several values; a mapping of numbers does not tell 7 from 7.0.

Which parents are the k best is *proved* from a ranking that has no gap: once k parents stand in it and what follows
scores less than the last of them, no other parent can come before. So whoever has not enough asks deeper.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Id, Payload, key_fault
from sparsevec.errors import InvalidInput

__all__ = ["best_of_each", "check_field", "parents_of", "proves"]


def check_field(group_by: object) -> None:
    """Raises InvalidInput for what cannot name a field of a payload."""
    if group_by is None:
        return
    if not isinstance(group_by, str) or any(key_fault(key) for key in group_by.split(".")):
        raise InvalidInput(f"group_by must name the field of the payload that says the parent, found {group_by!r:.80}")


def parents_of(hits: Hits, field: str) -> list[str]:
    """Of each hit; the hits have their payloads."""
    assert hits.payloads is not None
    return [_parent(payload, field, id_) for id_, payload in zip(hits.ids, hits.payloads, strict=True)]


def _parent(payload: Payload, field: str, id_: Id) -> str:
    value = _value(payload, field.split("."))
    return f"itself {id_!r}" if value is None else json.dumps(value, sort_keys=True)


def _value(held: Any, keys: list[str]) -> Any:
    """Others' documents may have dots in their keys, which an engine reads as the path that they spell."""
    if not keys or not isinstance(held, Mapping):
        return None if keys else held
    ways = (_value(held.get(".".join(keys[:n])), keys[n:]) for n in range(1, len(keys) + 1))
    return next((value for value in ways if value is not None), None)


def proves(hits: Hits, field: str, k: int) -> bool:
    """Whether the ranking, best first, holds the k best parents for certain, ties at the end of them included."""
    first = _firsts(parents_of(hits, field))
    return len(first) >= k and bool(hits.scores[first[k - 1]] > hits.scores[-1])


def best_of_each(hits: Hits, field: str, k: int) -> Hits:
    """The k first parents of a ranking, each by its first hit."""
    first = _firsts(parents_of(hits, field))[:k]
    return hits.rows(np.array(first, np.int64))


def _firsts(parents: list[str]) -> list[int]:
    """Where each parent comes first, in order."""
    return sorted({parent: at for at, parent in reversed(list(enumerate(parents)))}.values())
