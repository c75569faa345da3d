"""Answers from the wire: hits, vectors, limits."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from sparsevec.contract.adapter import UInt8s
from sparsevec.contract.checks import gathered_codes
from sparsevec.errors import BackendDown, BackendUnsupported, CollectionError
from sparsevec.vectors import MAX_DIMENSION, Float32s, SparseVectors

from .errors import to_error
from .index import Field

__all__ = [
    "clause_limit",
    "read_codes",
    "read_dense",
    "read_dense_fields",
    "read_hits",
    "read_packed",
    "read_vectors",
    "value_at",
    "version_of",
]

Json = Mapping[str, Any]

_GROUP = 3  # bytes, in four letters of base64


def read_hits(response: Json) -> list[Json]:
    """The hits of one search. Raises when the answer is an error, or not of all shards."""
    if "error" in response:
        raise to_error(response.get("status", 500), response)
    if response.get("timed_out") or response.get("_shards", {}).get("failed"):
        raise BackendDown("some shards did not answer in time, or failed; the answer would not have been complete")
    return response.get("hits", {}).get("hits", [])  # type: ignore[no-any-return]


def clause_limit(answer: Json) -> int | None:
    """The number of clauses that the server takes, when this answer says that they were too many."""
    found = re.search(rb"maxClauseCount is set to (\d+)", orjson.dumps(answer["error"])) if "error" in answer else None
    return int(found[1]) if found else None


def read_vectors(found: Sequence[Json], field: Field) -> SparseVectors:
    """The vectors of hits asked for with `fields`, empty where there is none. Raises CollectionError for features that
    are not dimensions."""
    objects = [hit.get("fields", {}).get(field.name) or [{}] for hit in found]
    try:
        rows = [{int(token): weight for token, weight in parts[0].items()} for parts in objects]
        vectors = SparseVectors.from_rows(rows, dimension=field.dimension or MAX_DIMENSION)
    except ValueError as error:  # InvalidVectors, too
        raise CollectionError(
            f"field {field.name!r} holds features that are not dimensions in decimal ({error}); others wrote it"
        ) from None
    return vectors.with_fingerprint(field.fingerprint)


def read_dense(source: Json, path: str) -> Float32s | None:
    """The dense row (d,) at `path` of a document, or None. Raises BackendUnsupported for other things."""
    value = value_at(source, path)
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not {float, int, bool}.issuperset(map(type, value)):
        raise BackendUnsupported(f"field {path!r} holds no dense rows: expected a list of numbers, found {value!r:.60}")
    return np.array(value, np.float32)


def value_at(source: Json, path: str) -> Any:
    """What a document holds at `path`: under that name, or deeper in its objects; or None."""
    value: Any = source.get(path)
    if value is None:
        value = source
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
    return value


def read_dense_fields(found: Sequence[Json], path: str) -> tuple[Float32s | None, ...]:
    """The dense row (d,) of each hit asked for with `fields`, or None."""
    rows = (hit.get("fields", {}).get(path) for hit in found)
    return tuple(None if row is None else read_dense({path: row[0] if len(row) == 1 else row}, path) for row in rows)


def read_codes(found: Sequence[Json], field: Field, *, strict: bool) -> UInt8s | None:
    """The residual code of each hit, (m, code_bytes); None where the collection keeps none.

    A hit without one has zeros; `strict` raises CollectionError for it, since its rank would be wrong.
    """
    width = field.code_bytes
    if width is None:
        return None
    codes = (_code(hit.get("fields", {}).get(field.code), width) for hit in found)
    return gathered_codes(codes, [hit.get("_id") for hit in found], width, strict=strict)


def read_packed(found: Sequence[Json], field: Field, *, codes: bool) -> tuple[SparseVectors, UInt8s | None] | None:
    """The vectors of hits by their packed weights, and their codes (m, code_bytes) if wanted; None where one of them
    lacks either, or has others than it may."""
    assert field.packing is not None
    records = _values(found, field.weights, field.packing.width)
    held = _values(found, field.code, field.code_bytes or 0) if codes else None
    if records is None or (codes and held is None):
        return None
    vectors = field.packing.unpacked(records)
    return None if vectors is None else (vectors.with_fingerprint(field.fingerprint), held)


def _values(found: Sequence[Json], name: str | None, width: int) -> UInt8s | None:
    """(m, width) of a field that all hits have, or None; decoded at once, each in whole groups of four."""
    try:
        texts = [hit["fields"][name][0] for hit in found]
    except KeyError:
        return None
    lengths = set(map(len, texts))
    if len(lengths) != 1:
        return None if lengths else np.empty((0, width), np.uint8)
    (length,) = lengths
    missing = "A" * (-length % 4)  # where OpenSearch does not pad; an A is six zeros
    decoded = a2b_base64((missing.join(texts) + missing).replace("=", "A"))
    rows = np.frombuffer(decoded, np.uint8).reshape(len(found), -1)
    short = 0 <= rows.shape[1] - width < _GROUP
    return np.ascontiguousarray(rows[:, :width]) if short else None


def _code(values: Any, width: int) -> UInt8s | None:
    """(width,), from base64, which OpenSearch does not pad."""
    if not isinstance(values, list) or len(values) != 1 or not isinstance(values[0], str):
        return None
    code = b64decode(values[0] + "=" * (-len(values[0]) % 4))
    return np.frombuffer(code, np.uint8) if len(code) == width else None


def version_of(hit: Json) -> str:
    return f"{hit['_seq_no']}.{hit['_primary_term']}"
