"""Points of a write, many at a time, as REST and gRPC take them: bytes straight from the arrays.

JSON: the numbers of a whole batch are written by orjson in one go, a float32 in the fewest decimals that read back as
the same float32, and each row is a slice of that text. gRPC: the fields of qdrant's `points.proto` as they lie on the
wire; a float32 as its four bytes, an index as a varint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from sparsevec.contract.adapter import UInt8s
from sparsevec.contract.checks import Payload
from sparsevec.errors import ClientMissing
from sparsevec.vectors import SparseVectors

from .ids import Point
from .payloads import empty_at

try:
    from qdrant_client import grpc, models
    from qdrant_client.conversions.conversion import RestToGrpc, payload_to_grpc
except ImportError as error:
    raise ClientMissing.extra("qdrant-client", "qdrant") from error

__all__ = ["Inserts", "Updates", "rows_to_json", "update_batch"]


@dataclass(frozen=True, slots=True)
class Inserts:
    """Points without our vector, that are made where they are not there."""

    points: Sequence[Point]
    payloads: Sequence[Payload]

    def to_json(self) -> dict[str, Any]:
        given = zip(self.points, self.payloads, strict=True)
        points = [{"id": point, "vector": {}, "payload": payload} for point, payload in given]
        return {"upsert": {"points": points, "update_mode": "insert_only"}}

    def to_grpc(self) -> bytes:
        given = zip(self.points, self.payloads, strict=True)
        points = b"".join(_field(1, _id(point) + _payload(payload) + _NO_VECTORS) for point, payload in given)
        return _field(1, points + _INSERT_ONLY)


@dataclass(frozen=True, slots=True)
class Updates:
    """The vector `name` of points that are there; the i-th point has the i-th row, in a collection of `dimension`."""

    points: Sequence[Point]
    rows: SparseVectors
    name: str
    dimension: int | None
    codes: UInt8s | None = None
    code: str | None = None
    """the vector that the residual codes (n, code_bytes) lie in, where the collection keeps them"""

    def to_json(self) -> dict[str, Any]:
        form = b'{"id":%%b,"vector":{%b:%%b%%b}}' % orjson.dumps(self.name).replace(b"%", b"%%")
        ids, codes = map(orjson.dumps, self.points), self._codes_to_json()
        points = [form % one for one in zip(ids, rows_to_json(self.rows, self.dimension), codes, strict=True)]
        return {"update_vectors": {"points": orjson.Fragment(b"[%b]" % b",".join(points))}}

    def _codes_to_json(self) -> list[bytes]:
        if self.codes is None:
            return [b""] * len(self.points)
        name = orjson.dumps(self.code)
        return [b",%b:%b" % (name, orjson.dumps(code, option=orjson.OPT_SERIALIZE_NUMPY)) for code in self.codes]

    def to_grpc(self) -> bytes:
        if self.codes is not None:
            return self._coded_to_grpc()
        rows = _rows_to_grpc(self.rows, self.dimension)
        heads = {length: _head(self.name, length) for length in set(map(len, rows))}
        points = [
            _field(1, b"%b%b%b" % (_id(point), heads[len(row)], row))
            for point, row in zip(self.points, rows, strict=True)
        ]
        return _field(7, b"".join(points))

    def _coded_to_grpc(self) -> bytes:
        """Both vectors of each point: a map of two entries."""
        assert self.codes is not None
        own, code = _field(1, self.name.encode()), _field(1, (self.code or "").encode())
        rows = zip(self.points, _rows_to_grpc(self.rows, self.dimension), self.codes.astype("<f4"), strict=True)
        points = [
            _id(point)
            + _field(
                2,
                _field(
                    2,
                    _field(1, own + _field(2, _field(102, row)))
                    + _field(1, code + _field(2, _field(101, _field(1, bytes_.tobytes())))),
                ),
            )
            for point, row, bytes_ in rows
        ]
        return _field(7, b"".join(_field(1, point) for point in points))


# ---- JSON


def rows_to_json(rows: SparseVectors, dimension: int | None) -> list[bytes]:
    """Each row as `{"indices":[...],"values":[...]}`; one without weights has a zero where no query has an index."""
    empty = b'{"indices":[%d],"values":[0.0]}' % empty_at(dimension)
    texts = zip(_texts(rows.indices, rows.indptr), _texts(rows.values, rows.indptr), strict=True)
    return [b'{"indices":[%b],"values":[%b]}' % pair if pair[0] else empty for pair in texts]


def _texts(numbers: npt.NDArray[Any], indptr: npt.NDArray[Any]) -> list[bytes]:
    """The numbers of each row as JSON without brackets: slices of one text."""
    text = orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY)
    commas = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(","))
    edges = np.concatenate([[0], commas, [len(text) - 1]])  # before and behind each number
    begins = edges[indptr[:-1]] + 1
    ends = np.maximum(edges[indptr[1:]], begins)  # of a row without weights: nothing
    return [text[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


# ---- gRPC


def update_batch(collection: str, operations: Sequence[Any], seconds: int) -> grpc.UpdateBatchPoints:
    """The message of `batch_update_points`, to be applied when it is answered."""
    head = _field(1, collection.encode()) + b"\x10\x01" + b"".join(_field(3, _operation(one)) for one in operations)
    message: grpc.UpdateBatchPoints = grpc.UpdateBatchPoints.FromString(head + b"\x28" + _varint(seconds))
    return message


def _operation(operation: Any) -> bytes:
    if isinstance(operation, (Inserts, Updates)):
        return operation.to_grpc()
    (read,) = models.UpdateOperations.model_validate({"operations": [operation]}).operations
    return RestToGrpc.convert_update_operation(read).SerializeToString()  # type: ignore[no-any-return]


_INSERT_ONLY = b"\x20\x01"
_NO_VECTORS = b"\x22\x02\x12\x00"


def _id(point: Point) -> bytes:
    return _field(1, b"\x08" + _varint(point) if isinstance(point, int) else _field(2, point.encode()))


def _payload(payload: Payload) -> bytes:
    return grpc.PointStruct(payload=payload_to_grpc(dict(payload))).SerializeToString() if payload else b""


def _field(number: int, content: bytes) -> bytes:
    """A field that says how long it is: a text, a message or packed numbers."""
    return b"%b%b%b" % (_KEYS[number], _varint(len(content)), content)


def _varint(value: int) -> bytes:
    if value < 128:
        return _SMALL[value]
    if value < 16384:
        return bytes((value & 127 | 128, value >> 7))
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


_SMALL = [bytes([value]) for value in range(128)]
_KEYS = {number: _varint(number << 3 | 2) for number in (*range(1, 8), 101, 102)}


def _head(name: str, length: int) -> bytes:
    """What stands before a row of so many bytes, of the vector `name` among the vectors of a point."""
    row = bytes(length)
    named = _field(1, name.encode()) + _field(2, _field(102, row))
    return _field(2, _field(2, _field(1, named))).removesuffix(row)


def _rows_to_grpc(rows: SparseVectors, dimension: int | None) -> list[bytes]:
    """Each row as a SparseVector: `values` and `indices`, both packed."""
    values, (indices, width) = np.ascontiguousarray(rows.values, "<f4").tobytes(), _varints(rows.indices)
    empty = _field(1, bytes(4)) + _field(2, _varint(empty_at(dimension)))
    heads = {n: (_KEYS[1] + _varint(4 * n), _KEYS[2] + _varint(width * n)) for n in set(rows.row_nnz.tolist())}
    found = []
    for start, end in pairwise(rows.indptr.tolist()):
        of_values, of_indices = heads[end - start]
        parts = of_values, values[4 * start : 4 * end], of_indices, indices[width * start : width * end]
        found.append(b"%b%b%b%b" % parts if start < end else empty)
    return found


def _varints(numbers: npt.NDArray[Any]) -> tuple[bytes, int]:
    """Numbers below 2**32 as varints of one width, which is given back: the largest one's. Who reads a varint takes
    leading zeros."""
    width = max(1, -(-int(numbers.max(initial=0)).bit_length() // 7))
    parts = np.empty((len(numbers), width), np.uint8)
    for place in range(width):
        parts[:, place] = numbers >> 7 * place & 127
    parts[:, :-1] |= 128
    return parts.tobytes(), width
