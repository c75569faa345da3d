"""How points become hits: what a search asks the server to bring, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Hits
from sparsevec.contract.filters import Condition
from sparsevec.contract.searches import Search, rescored
from sparsevec.vectors import MAX_DIMENSION, Float32s, SparseVector, SparseVectors

from .codes import codes_from_wire
from .filters import Asked
from .ids import ORIGINAL, Point, id_from_wire
from .payloads import dense_from_wire, passing, payload_from_wire, vector_to_wire, vectors_from_wire

__all__ = ["Bring", "Look", "dense_of", "kept_of", "rank", "that_pass", "vectors_of"]

_WEIGHTS = 32  # of a document, about


def vectors_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    vector = record.get("vector")
    return vector if isinstance(vector, dict) else {}


def dense_of(record: Mapping[str, Any], name: str, theirs: bool) -> Float32s | None:
    if not theirs:
        return dense_from_wire((record.get("payload") or {}).get(name))
    vector = record.get("vector")
    return dense_from_wire(vector if isinstance(vector, list) and not name else vectors_of(record).get(name))


def that_pass(
    points: Iterable[Mapping[str, Any]], wanted: Sequence[Condition], *, exact: bool
) -> list[Mapping[str, Any]]:
    """Those that match, where the server alone cannot tell (not `exact`)."""
    return passing(points, lambda point: point.get("payload"), wanted, exact=exact)


def kept_of(
    points: Sequence[Mapping[str, Any]], query: SparseVector, wanted: Sequence[Condition], *, exact: bool
) -> list[Mapping[str, Any]]:
    """Those that are hits, where the server alone cannot tell."""
    kept = that_pass(points, wanted, exact=exact)
    if int(query.indices[-1]) == MAX_DIMENSION - 1:  # where documents without weights may have a zero
        kept = [point for point in kept if point["score"]]
    return kept


def rank(point: Mapping[str, Any]) -> tuple[Point, float]:
    return point["id"], float(point["score"])


@dataclass(frozen=True, slots=True)
class Look:
    """One query of a search, and the second that re-orders its candidates, if any (C20)."""

    first: SparseVector
    second: SparseVector | None
    k: int

    @property
    def asks(self) -> bool:
        """Whether there can be a hit."""
        return len(self.first) > 0 and (self.second is None or len(self.second) > 0)

    def on_the_server(self, candidates: int, *, exact: bool) -> bool:
        """Whether the server re-orders: where it decides the filter, and where the second query is no larger than the
        weights of the candidates, of which one or the other has to travel."""
        return self.second is not None and exact and len(self.second) <= _WEIGHTS * candidates

    def body(self, vector: str, limit: int, asked: Asked) -> dict[str, Any]:
        first = {"query": vector_to_wire(self.first, None), "using": vector, "limit": limit, "filter": asked.filter}
        if self.second is None or not self.on_the_server(limit, exact=asked.exact):
            return first
        second = {"query": vector_to_wire(self.second, None), "using": vector, "limit": self.k}
        return {"prefetch": [first], **second}

    def answer(self, points: Sequence[Mapping[str, Any]], bring: Bring, *, whole: bool) -> Hits:
        if whole or self.second is None:
            return bring.hits(points)
        hits = replace(bring, with_vectors=True).hits(points)
        return rescored(hits, self.second, self.k, with_vectors=bring.with_vectors)


@dataclass(frozen=True, slots=True)
class Bring:
    """What hits bring beside their ids and scores."""

    with_payloads: bool
    with_vectors: bool
    with_codes: bool
    rescored: bool
    vector: str
    code: str | None
    code_bytes: int | None
    dimension: int | None
    fingerprint: str | None

    @classmethod
    def of(cls, search: Search, vector: str, *about: Any) -> Bring:
        second = search.rescore is not None
        return cls(search.with_payloads, search.with_vectors, search.with_codes, second, vector, *about)

    def asked_for(self, *, exact: bool) -> dict[str, Any]:
        names = [
            *([self.vector] if self.with_vectors or self.rescored else []),
            *([self.code] if self.with_codes else []),
        ]
        payload = {"with_payload": True if self.with_payloads or not exact else [ORIGINAL]}
        return {**payload, "with_vector": names} if names else payload

    def hits(self, points: Sequence[Mapping[str, Any]]) -> Hits:
        ids = tuple(id_from_wire(point["id"], point.get("payload")) for point in points)
        held = [vectors_of(point) for point in points]
        return Hits(
            ids=ids,
            scores=np.array([point["score"] for point in points], np.float32),
            payloads=tuple(payload_from_wire(p.get("payload")) for p in points) if self.with_payloads else None,
            vectors=self._vectors_of(held) if self.with_vectors else None,
            codes=codes_from_wire(held, ids, self.code or "", self.code_bytes or 0, strict=True)
            if self.with_codes
            else None,
        )

    def _vectors_of(self, held: Sequence[Mapping[str, Any]]) -> SparseVectors:
        rows = [vectors.get(self.vector) or {"indices": [], "values": []} for vectors in held]
        pairs = [(row["indices"], row["values"]) for row in rows]
        return vectors_from_wire(pairs, self.dimension, self.fingerprint)
