"""Documents as rows of SQLite: ids as keys that sort as ids do, weights as bytes, payloads as JSON; and the place of
one in a ranking."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sparsevec.contract.adapter import Documents
from sparsevec.contract.checks import Id, Payload, dense_row
from sparsevec.contract.searches import no_place
from sparsevec.vectors import SparseVector, SparseVectors

__all__ = ["Row", "documents_of", "id_of", "key_of", "place_of", "read_place", "row_of", "with_dense"]

Row = tuple[bytes, bytes, bytes, str, bytes | None]
"""Key, indices (<u4), weights (<f4), payload and residual code."""


def key_of(id_: Id) -> bytes:
    """Bytes that sort as ids do: ints by value, then strings."""
    return b"s" + id_.encode() if isinstance(id_, str) else b"i" + id_.to_bytes(8, "big")


def id_of(key: bytes) -> Id:
    return key[1:].decode() if key[:1] == b"s" else int.from_bytes(key[1:], "big")


def row_of(id_: Id, vector: SparseVector, payload: Payload, code: bytes | None) -> Row:
    indices, weights = vector.indices.astype("<u4").tobytes(), vector.values.astype("<f4").tobytes()
    return key_of(id_), indices, weights, json.dumps(payload), code


def documents_of(rows: Sequence[Row], dimension: int, fingerprint: str | None, code_bytes: int | None) -> Documents:
    """The documents of a collection; codes are zeros where a row has none, None where `code_bytes` is."""
    indptr = np.concatenate(([0], np.cumsum([len(row[1]) // 4 for row in rows], dtype=np.int64)))
    indices = np.frombuffer(b"".join(row[1] for row in rows), "<u4")
    weights = np.frombuffer(b"".join(row[2] for row in rows), "<f4")
    vectors = SparseVectors(indptr, indices, weights, dimension, fingerprint=fingerprint)
    ids, payloads = tuple(id_of(row[0]) for row in rows), tuple(json.loads(row[3]) for row in rows)
    if code_bytes is None:
        return Documents(ids, vectors, payloads)
    codes = np.frombuffer(b"".join(row[4] or bytes(code_bytes) for row in rows), np.uint8)
    return Documents(ids, vectors, payloads, codes=codes.reshape(len(rows), code_bytes))


def with_dense(documents: Documents, name: str | None) -> Documents:
    """With the dense row that lies in each payload under that name; the same where there is no name."""
    if name is None:
        return documents
    return replace(documents, dense=tuple(dense_row(payload.get(name)) for payload in documents.payloads))


def place_of(score: float, key: bytes) -> str:
    """`Hits.after` behind a hit: its exact score and its key, an order that no write to another document changes."""
    return f"{score.hex()} {key.hex()}"


def read_place(after: str) -> tuple[float, bytes]:
    """The score and the key of the last hit that was given. Raises InvalidInput."""
    try:
        score, key = after.split(" ")
        place = float.fromhex(score), bytes.fromhex(key)
        if math.isnan(place[0]):
            raise ValueError
        return place
    except (ValueError, AttributeError, TypeError, OverflowError):
        raise no_place(after) from None
