"""The mapping of an index of ours, in which every payload can live."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sparsevec.contract.checks import Payload

from .claims import Claim
from .index import Index, field_properties
from .versions import OPENSEARCH, SUBOBJECTS

__all__ = ["mixed_fields", "new_index"]

_TYPES = {  # of payload fields in an index of ours, by JSON type
    "string": {"type": "keyword", "ignore_above": 8191},  # longer ones would make Lucene refuse the whole document
    "long": {"type": "double", "coerce": False},  # the next value may have decimals; "5" is no number (`filters`)
    "double": {"type": "double", "coerce": False},
}


def new_index(
    claim: Claim,
    created: int,
    *,
    hides: bool = False,
    vector_codes: bool = False,
    shards: int | None = None,
    replicas: int | None = None,
) -> dict[str, Any]:
    """The body that makes an index of ours on a server of that version.

    Values of mixed types in one field are kept, not refused: `subobjects: false` lets a field be an object here and a
    scalar there, and where it is not known objects are kept without being indexed.

    `hides`: a server that would keep vectors out of `_source` (`hides_vectors`) is told not to. It would build them
    anew from term vectors, which rounds what `fetch` brings, and makes a repeated write look like a change. Only an
    index with residual codes is left to it, where bytes count: a document of 32 weights has 314 bytes there, and 587
    with its weights in `_source`, once a merge has let go of what the engine keeps for recovery, which takes longer
    than the writing (`benchmarks/code_storage.py`).
    """
    sizes = {"index.number_of_shards": shards, "index.number_of_replicas": replicas}
    flat = SUBOBJECTS <= created < OPENSEARCH
    settings: dict[str, Any] = {"index.mapping.ignore_malformed": True}
    if hides:
        settings["index.mapping.exclude_source_vectors"] = False
    types = _TYPES if flat else {**_TYPES, "object": {"type": "object", "enabled": False}}
    return {
        "settings": settings | {k: v for k, v in sizes.items() if v is not None},
        "mappings": {
            **({"subobjects": False} if flat else {}),
            "date_detection": False,
            "dynamic_templates": [{t: {"match_mapping_type": t, "mapping": mapping}} for t, mapping in types.items()],
            "properties": {**field_properties(claim.field, created), **claim.properties(vector_codes=vector_codes)},
        },
    }


def mixed_fields(payloads: Iterable[Payload], index: Index) -> dict[str, Any]:
    """The mapping of fields that are new to an index of ours, and of several JSON types within one document.

    A document cannot map a field that it needs as two types at once, but it may hold both when the field is there.
    """
    new: set[str] = set()
    for payload in payloads:
        if any(isinstance(value, (dict, list, tuple)) for value in payload.values()):
            kinds: dict[str, set[type]] = {}
            _note_kinds(payload, "", kinds)
            new |= {path for path, found in kinds.items() if len(found) > 1}
    return dict.fromkeys(sorted(new - set(index.properties)), _TYPES["string"])


def _note_kinds(value: object, path: str, kinds: dict[str, set[type]]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _note_kinds(inner, f"{path}.{key}" if path else key, kinds)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _note_kinds(inner, path, kinds)
    elif value is not None:
        kind = next(kind for kind in (bool, int, float, str) if isinstance(value, kind))
        kinds.setdefault(path, set()).add(float if kind is int else kind)
