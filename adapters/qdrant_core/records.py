"""Points of the embedded engine: to its own types and back (qdrant-edge-py)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import numpy as np

from sparsevec.contract.adapter import Documents, Hits, UInt8s
from sparsevec.contract.checks import Id, Payload
from sparsevec.contract.filters import Condition
from sparsevec.contract.searches import Search
from sparsevec.errors import ClientMissing, InvalidInput
from sparsevec.vectors import SparseVector, SparseVectors

from .codes import codes_from_wire
from .embedded import Marker, filter_to_engine
from .filters import Indexes, plain_path, to_wire
from .ids import id_from_wire, id_to_wire, original
from .payloads import dense_from_wire, has_null, passing, payload_from_wire, vectors_from_wire

try:
    import qdrant_edge as edge
except ImportError as error:
    raise ClientMissing.extra("qdrant-edge-py", "qdrant") from error

__all__ = [
    "CODE",
    "VECTOR",
    "Bring",
    "code_params",
    "codes_of",
    "documents_of",
    "filter_of",
    "having",
    "kept_of",
    "names_of",
    "operations_of",
    "place_of",
    "plain",
    "point_of",
    "rank",
    "row_to_wire",
    "rows_of",
    "vectors_of",
    "vectors_to_wire",
]

Found = TypeVar("Found", edge.Record, edge.ScoredPoint)
Vectors: TypeAlias = Mapping[str, Any]
Having: TypeAlias = tuple[edge.Record, Vectors]

VECTOR, CODE = "sparse", "code"
"""The vectors of a point: ours, and the residual code beside it."""


def point_of(id_: Id) -> int | str | UUID:
    point = id_to_wire(id_)
    return point if isinstance(point, int) else UUID(point)


def plain(point: Any) -> int | str:
    return point if isinstance(point, int) else str(point)


def place_of(after: str | None) -> Any:
    try:
        place = None if after is None else json.loads(after)
        return place if place is None or (type(place) is int and 0 <= place < 2**64) else UUID(place)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InvalidInput(f"expected the `after` of an earlier page, found {after!r:.80}") from None


def operations_of(
    documents: Sequence[tuple[Id, int | str | UUID, dict[str, Any], Payload]], known: Mapping[Any, Mapping[str, Any]]
) -> Iterator[edge.UpdateOperation]:
    """New points whole; of known ones our vector and the fields given. One process writes, so none comes between."""
    new = [
        edge.Point(point, row, {**payload, **original(id_)})
        for id_, point, row, payload in documents
        if point not in known
    ]
    old = [edge.PointVectors(point, row) for _, point, row, _ in documents if point in known]
    if new:
        yield edge.UpdateOperation.upsert_points(new)
    if old:
        yield edge.UpdateOperation.update_vectors(old)
    for _, point, _, payload in documents:
        if point in known and has_null(payload):  # a null would remove the field
            yield edge.UpdateOperation.overwrite_payload([point], {**known[point], **payload})
        elif point in known and payload:
            yield edge.UpdateOperation.set_payload([point], dict(payload))


def filter_of(wanted: Sequence[Condition], shard: edge.EdgeShard) -> tuple[bool, edge.Filter | None]:
    """Whether the filter says all, and the filter."""
    if not wanted:
        return True, None
    asked = to_wire(wanted, Indexes(frozenset(map(plain_path, shard.info().payload_schema))))
    own = isinstance(asked.clause, edge.Filter)
    return asked.exact, filter_to_engine(asked.clause if own else asked.filter)


def code_params(code_bytes: int) -> edge.EdgeVectorParams:
    """Of the vector that residual codes lie in; no search goes to it."""
    kind, graph = edge.VectorStorageDatatype.Uint8, edge.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=0)
    return edge.EdgeVectorParams(code_bytes, edge.Distance.Dot, on_disk=True, datatype=kind, hnsw_config=graph)


def vectors_to_wire(vectors: SparseVectors, codes: UInt8s | None) -> list[dict[str, Any]]:
    """Every vector of each point, by name."""
    indices, values = vectors.indices, vectors.values  # a row's lists are used while the cache has them
    bounds = pairwise(vectors.indptr.tolist())
    rows = [edge.SparseVector(indices[start:end].tolist(), values[start:end].tolist()) for start, end in bounds]
    if codes is None:
        return [{VECTOR: row} for row in rows]
    bytes_ = codes.astype(np.float32).tolist()
    return [{VECTOR: row, CODE: code} for row, code in zip(rows, bytes_, strict=True)]


def kept_of(points: Sequence[Found], wanted: Sequence[Condition], *, exact: bool) -> list[Found]:
    """Those that match, where the engine alone cannot tell."""
    return passing(points, lambda point: point.payload, wanted, exact=exact)


def row_to_wire(row: SparseVector) -> edge.SparseVector:
    return edge.SparseVector(row.indices.tolist(), row.values.tolist())


def documents_of(ids: Sequence[Id], found: Sequence[Having], marker: Marker, dense: str | None) -> Documents:
    payloads = tuple(payload_from_wire(record.payload) for record, _ in found)
    rows = None if dense is None else tuple(dense_from_wire(payload.get(dense)) for payload in payloads)
    held = [vectors for _, vectors in found]
    return Documents(tuple(ids), rows_of(held, marker), payloads, rows, codes_of(ids, held, marker))


def codes_of(ids: Sequence[Id], held: Sequence[Vectors], marker: Marker) -> UInt8s | None:
    """The residual code of each, zeros where there is none; None in a collection that keeps none."""
    width = marker.code_bytes
    return None if width is None else codes_from_wire(held, ids, CODE, width, strict=False)


def names_of(marker: Marker) -> list[str]:
    """Of every vector of a point."""
    return [VECTOR] if marker.code_bytes is None else [VECTOR, CODE]


def vectors_of(record: edge.Record | edge.ScoredPoint) -> Vectors:
    """By name; the engine makes a new object of them at each look, which is most of what a hit costs."""
    vectors = record.vector
    return vectors if isinstance(vectors, dict) else {}


def having(records: Sequence[edge.Record]) -> list[Having]:
    """Those with our vector, and their vectors."""
    pairs = ((record, vectors_of(record)) for record in records)
    return [(record, vectors) for record, vectors in pairs if VECTOR in vectors]


def rows_of(held: Sequence[Vectors], marker: Marker) -> SparseVectors:
    """Our vector of each, empty where there is none."""
    found = [vectors.get(VECTOR) for vectors in held]
    pairs = [((), ()) if row is None else (row.indices, row.values) for row in found]
    return vectors_from_wire(pairs, marker.dimension, marker.fingerprint)


def rank(point: edge.ScoredPoint) -> tuple[int | str, float]:
    return plain(point.id), point.score


@dataclass(frozen=True, slots=True)
class Bring:
    """What hits bring beside their ids and scores."""

    marker: Marker
    with_payloads: bool
    with_vectors: bool
    with_codes: bool
    rescored: bool

    @classmethod
    def of(cls, search: Search, marker: Marker) -> Bring:
        second = search.rescore is not None
        return cls(marker, search.with_payloads, search.with_vectors, search.with_codes, second)

    def names(self, *, always: bool) -> list[str]:
        """Of the vectors to bring; the weights also where they are scored here."""
        weights = self.with_vectors or (self.rescored and always)
        return [*([VECTOR] if weights else []), *([CODE] if self.with_codes else [])]

    def hits(self, points: Sequence[edge.ScoredPoint]) -> Hits:
        ids, width = tuple(id_from_wire(plain(point.id), point.payload) for point in points), self.marker.code_bytes
        held = [vectors_of(point) for point in points] if self.with_vectors or self.with_codes else []
        return Hits(
            ids=ids,
            scores=np.array([point.score for point in points], np.float32),
            payloads=tuple(payload_from_wire(p.payload) for p in points) if self.with_payloads else None,
            vectors=rows_of(held, self.marker) if self.with_vectors else None,
            codes=codes_from_wire(held, ids, CODE, width or 0, strict=True) if self.with_codes else None,
        )
