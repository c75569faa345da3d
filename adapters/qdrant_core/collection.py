"""What a server says of a collection, read once: its vectors, our notes, strict mode, payload indexes. Pure.

Notes of ours lie in the collection's metadata, which a server keeps since 1.16 and merges key by key, so that what
others keep there stays, and so do the notes of other vectors:

    sparsevec                       {"made": true}, when `create` made the collection
    sparsevec:VECTOR:IDENTITY       {"dimension", "fingerprint", "since"} of one vector that `create` made
    sparsevec-bid:IDENTITY:WRITER   {"fingerprint", "since"}, while a writer sets that fingerprint of a vector
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sparsevec.contract.adapter import DenseField

from .codes import PREFIX
from .filters import Indexes, plain_path

__all__ = ["MADE", "Collection", "Note", "read"]

MADE = "sparsevec"
_BID = f"{MADE}-bid"
_STALE = 60  # seconds after which what a writer began has never ended: a note without its vector, a bid


@dataclass(frozen=True, slots=True)
class Note:
    """Of one vector that `create` made."""

    vector: str
    dimension: int
    fingerprint: str | None
    identity: str
    since: float
    code_bytes: int | None = None

    @classmethod
    def new(cls, vector: str, dimension: int, fingerprint: str | None, code_bytes: int | None) -> Note:
        return cls(vector, dimension, fingerprint, uuid4().hex, time.time(), code_bytes)

    @property
    def code(self) -> str | None:
        """The vector that residual codes lie in, if documents have them."""
        return None if self.code_bytes is None else f"{PREFIX}{self.identity[:12]}"

    @property
    def key(self) -> str:
        return f"{MADE}:{self.vector}:{self.identity}"

    def metadata(self, fingerprint: str | None = None) -> dict[str, Any]:
        given = fingerprint or self.fingerprint
        codes = {} if self.code_bytes is None else {"code_bytes": self.code_bytes}
        return {self.key: {"dimension": self.dimension, "fingerprint": given, "since": self.since, **codes}}

    @property
    def stale(self) -> bool:
        return _stale(self.since)

    def bid(self) -> str:
        """A key under which one writer announces the fingerprint that it sets of the vector."""
        return f"{_BID}:{self.identity}:{uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Collection:
    """As it was when it was read."""

    name: str
    ours: bool
    """whether `create` made it"""
    notes: tuple[Note, ...]
    """of every vector that `create` made"""
    sparse: Mapping[str, Mapping[str, Any]]
    dense: Mapping[str, DenseField]
    """by name; "" is the one without a name"""
    strict: Mapping[str, Any]
    """the limits of strict mode; empty when it is off"""
    indexes: Indexes
    bids: Mapping[str, Mapping[str, Any]]
    """of writers that are setting the fingerprint of a vector: which, and since when, by key"""
    params: Mapping[str, Any]
    status: str

    def notes_of(self, vector: str) -> list[Note]:
        return [note for note in self.notes if note.vector == vector]

    def note_of(self, vector: str) -> Note | None:
        """The note of the vector, if it is there and `create` made it."""
        found = self.notes_of(vector) if vector in self.sparse else []
        return min(found, key=lambda note: (note.since, note.identity)) if found else None

    def has(self, vector: str) -> bool:
        return vector in self.sparse or vector in self.dense

    def modifier(self, vector: str) -> str:
        return str(self.sparse[vector].get("modifier") or "none")

    def datatype(self, vector: str) -> str:
        return str((self.sparse[vector].get("index") or {}).get("datatype") or "float32")

    def bids_of(self, note: Note) -> dict[str, Mapping[str, Any]]:
        """Of writers that are setting this vector's fingerprint, or were killed amid that."""
        return {key: bid for key, bid in self.bids.items() if key.startswith(f"{_BID}:{note.identity}:")}

    def has_rivals(self, note: Note, fingerprint: str) -> bool:
        """Whether a writer that is still at it is setting another fingerprint of the vector."""
        others = (bid for bid in self.bids_of(note).values() if bid.get("fingerprint") != fingerprint)
        return any(not _stale(float(bid.get("since") or 0)) for bid in others)


def read(name: str, answer: Mapping[str, Any]) -> Collection:
    """From what the REST API answers to GET /collections/NAME."""
    config = answer["config"]
    params, metadata = config["params"], config.get("metadata") or {}
    dense, strict = params.get("vectors") or {}, config.get("strict_mode_config") or {}
    strict = strict if strict.get("enabled") else {}
    indexed = frozenset(map(plain_path, answer.get("payload_schema") or {}))
    sparse = {vector: value or {} for vector, value in (params.get("sparse_vectors") or {}).items()}
    return Collection(
        name=name,
        ours=MADE in metadata,
        notes=tuple(_notes(metadata)),
        sparse=sparse,
        dense={
            vector: _dense(value)
            for vector, value in ({"": dense} if "size" in dense else dense).items()
            if not vector.startswith(PREFIX)  # residual codes, which nobody searches
        },
        strict=strict,
        indexes=Indexes(indexed, alone=strict.get("unindexed_filtering_retrieve") is False),
        bids={key: value for key, value in metadata.items() if key.startswith(_BID) and isinstance(value, Mapping)},
        params=params,
        status=str(answer.get("status", "")),
    )


def _stale(since: float) -> bool:
    return abs(time.time() - since) > _STALE  # ahead of us was a clock that has been set right since, or is another's


def _dense(params: Mapping[str, Any]) -> DenseField:
    return DenseField(params.get("size"), str(params.get("distance", "")))


def _notes(metadata: Mapping[str, Any]) -> list[Note]:
    found = []
    for key, value in metadata.items():
        kind, _, rest = key.partition(":")
        vector, _, identity = rest.rpartition(":")
        if kind == MADE and identity and isinstance(value, Mapping) and "dimension" in value:
            since = float(value.get("since") or 0)
            width = value.get("code_bytes")
            codes = None if width is None else int(width)
            found.append(Note(vector, int(value["dimension"]), value.get("fingerprint"), identity, since, codes))
    old = metadata.get(MADE)  # as version 0.1 wrote it
    if isinstance(old, Mapping) and "vector_name" in old:
        found.append(Note(str(old["vector_name"]), int(old["dimension"]), None, "", 0))
    return found
