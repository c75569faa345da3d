"""What a payload is: JSON that every backend holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from sparsevec.errors import described, printable

__all__ = ["CheckedPayloads", "Payload", "checked_payload", "is_unicode", "key_fault", "payload_fault"]

Payload: TypeAlias = Mapping[str, Any]
"""Fields of a document, as JSON."""


class CheckedPayloads(tuple[Payload, ...]):
    """Payloads that `checked_payload` gave back, so that `check_batch` need not walk them again. A slice is a plain
    tuple, which is walked."""

    __slots__ = ()


def payload_fault(payload: object) -> str | None:
    """Why `payload` is not a dict of fields to JSON values that every backend holds, or None."""
    return checked_payload(payload)[0]


def checked_payload(payload: Any) -> tuple[str | None, Payload]:
    """Why `payload` is not a dict of fields to JSON values that every backend holds, or None; and the payload, plain.

    Plain: Python's own types stand in place of NumPy's, which pandas rows hold, and of subclasses that a client's JSON
    encoder would refuse. Walks a payload once, twice when there is something of these in it.
    """
    if not isinstance(payload, dict):  # another mapping would be refused by each client's JSON encoder
        return f"expected JSON (a dict of fields to values), found {type(payload).__name__}", payload
    if not payload:
        return None, payload
    if not payload.keys().isdisjoint(_TAKEN):
        taken = next(name for name in payload if name in _TAKEN)
        reason = f"the field {taken!r} is a name that Elasticsearch and OpenSearch keep for themselves; rename it"
        return reason, payload
    others: list[object] = []
    if (fault := _json_fault(payload, 0, others)) is not None:
        path, reason = fault
        return f"{printable(path.removeprefix('.'), 80)}: {reason}" if path else reason, payload
    return None, _plain(payload) if others else payload


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str.__str__(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return value.item()
    return float(value) if isinstance(value, float) else value


_PYTHONS_OWN = frozenset([int, float, dict, list, tuple])
_Fault: TypeAlias = tuple[str, str]  # the path to a value, and what is wrong with it


def _json_fault(value: object, depth: int, others: list[object]) -> _Fault | None:
    """What is wrong with `value`, or None; what in it is not of Python's own types is added to `others`."""
    kind = type(value)
    if kind is bool or value is None:  # the usual ones first, a payload is walked for every document
        return None
    if isinstance(value, str):
        return None if value.isascii() or is_unicode(value) else ("", f"{value!r:.80} is not valid unicode")
    if kind not in _PYTHONS_OWN:
        others.append(value)
    if isinstance(value, np.generic):
        value = value.item()
        if isinstance(value, np.generic):
            return "", f"expected a JSON value, found {type(value).__name__}"
        return _json_fault(value, depth, others)
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**63 else ("", f"{described(value)} does not fit in 64 bits")
    if isinstance(value, float):
        return None if math.isfinite(value) else ("", f"{value} is not a JSON number")
    if isinstance(value, (dict, list, tuple)):
        if depth > _DEEPEST:
            return "", f"nested more than {_DEEPEST} deep, or holding itself"
        return _fields_fault(value, depth, others) if isinstance(value, dict) else _list_fault(value, depth, others)
    return "", f"expected a JSON value, found {type(value).__name__}"


def _fields_fault(fields: dict[Any, Any], depth: int, others: list[object]) -> _Fault | None:
    for key, inner in fields.items():
        if fault := key_fault(key):
            return "", fault
        if type(key) is not str:
            others.append(key)
        if found := _json_fault(inner, depth + 1, others):
            return f".{key}{found[0]}", found[1]
    return None


def _list_fault(values: Iterable[Any], depth: int, others: list[object]) -> _Fault | None:
    for inner in values:
        if found := _json_fault(inner, depth + 1, others):
            return f"[]{found[0]}", found[1]
    return None


def key_fault(key: object) -> str | None:
    """Why `key` cannot name a field of a payload, or None."""
    if not isinstance(key, str):
        return f"a field must be a non-empty string, found {key!r:.80}"
    return _key_fault(key)


@lru_cache(maxsize=4096)  # documents have the same fields again and again
def _key_fault(key: str) -> str | None:
    if key != key.strip(_BLANK):
        return f"a field must not begin or end with a blank or a byte order mark, found {key!r}; strip it"
    if not key or not _KEY_TABOO.isdisjoint(key) or key.startswith("_sparsevec"):
        return f'a field must be a non-empty string without . [ ] " that does not begin with _sparsevec, found {key!r}'
    return None if is_unicode(key) else f"a field must be valid unicode, found {key!r}"


_DEEPEST = 100  # parsers stop somewhere beyond
_KEY_TABOO = frozenset('.[]"')
_BLANK = " \t\r\n\v\f\u00a0\ufeff"
_TAKEN = frozenset(
    [
        *("_data_stream_timestamp", "_doc_count", "_feature", "_field_names", "_id", "_ignored", "_index"),
        *("_nested_path", "_primary_term", "_routing", "_score", "_seq_no", "_size", "_source", "_tier", "_tsid"),
        *("_type", "_version"),
    ]
)


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can carry it: a lone surrogate, as `os.fsdecode` makes them, cannot be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
