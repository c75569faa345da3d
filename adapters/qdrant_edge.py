"""`qdrant+edge:PATH`: Qdrant's own storage, index and scoring, embedded (qdrant-edge-py), in a folder of ours.

PATH holds `sparsevec.json` (format and dimension) and `shard/`, which is the engine's. A folder with anything else in
it is refused and left as it is. One process at a time can open it.

What "written" means: the write is in the engine's write-ahead log, in the hands of the operating system, so it survives
kill -9 of this process. It is on disk for good, safe from a power cut too, after `close`, and after every 16,384
documents; between these a power cut may cost the latest writes, never the earlier ones.

The engine trusts its caller: a vector with fewer values than indices, for one, ends in its log and can never be opened
again. `SparseVectors` cannot be malformed, and nothing else goes in.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from sparsevec.contract.adapter import Adapter, Documents, Hits, Written
from sparsevec.contract.checks import Id, Payload, check_batch, check_dimension, check_ids, check_k
from sparsevec.contract.filters import Condition, Where, conditions
from sparsevec.contract.urls import Url
from sparsevec.errors import AdapterError, ClientMissing, CollectionError, InvalidInput, StorageFailed
from sparsevec.vectors import Float32s, SparseVector, SparseVectors

from .qdrant_core.documents import (
    ORIGINAL,
    Test,
    has_null,
    id_from_wire,
    id_to_wire,
    paths,
    payload_from_wire,
    payload_to_wire,
    tests,
    vectors_from_wire,
)

try:
    import qdrant_edge as edge
except ImportError as error:
    raise ClientMissing.extra("qdrant-edge-py", "qdrant") from error

__all__ = ["QdrantEdgeAdapter"]

_FORMAT = "sparsevec.qdrant-edge/1"
_VECTOR = "sparse"
_FLUSH_EVERY = 16_384  # documents; bounds what the log must replay after a crash to about a second
_MOST = 2**32  # documents the engine can number, so no answer is longer


class QdrantEdgeAdapter:
    """The embedded engine in the folder `path`, made by `create`; its parent must be there."""

    def __init__(self, path: str) -> None:
        """Open what is there. Raises CollectionError when it is not ours or another process has it open."""
        if not path:
            raise InvalidInput("the embedded engine needs a folder: qdrant+edge:PATH")
        self._folder = _Folder(Path(path))
        self._dimension = self._folder.dimension()
        self._closed = False
        self._unflushed = 0
        self._writing = threading.Lock()
        self._shard = None if self._dimension is None else self._load()

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> QdrantEdgeAdapter:
        if credentials or url.host or url.options:
            raise InvalidInput("the embedded engine's url is qdrant+edge:PATH, without host, options and credentials")
        return cls(url.path)

    @property
    def name(self) -> str:
        return f"qdrant-edge {version('qdrant-edge-py')}"

    @property
    def dimension(self) -> int | None:
        return self._dimension

    def create(self, dimension: int) -> None:
        SparseVectors([0], [], [], dimension)  # refuses a dimension that vectors could not have
        self._open()
        if self._dimension is not None:
            raise CollectionError(f"{self._folder} holds a collection already; drop() it first, or use another path")
        with _engine_errors(self._folder):
            self._folder.make_room()
            self._shard = edge.EdgeShard.create(
                str(self._folder.shard), edge.EdgeConfig(sparse_vectors={_VECTOR: edge.EdgeSparseVectorParams()})
            )
            self._folder.mark(dimension)
        self._dimension = dimension

    def upsert(self, ids: Sequence[Id], vectors: SparseVectors, payloads: Sequence[Payload] | None = None) -> Written:
        shard, dimension = self._existing()
        ids, payloads = check_batch(ids, vectors, payloads, dimension)
        points: list[int | str | UUID] = [id_to_wire(id_) for id_ in ids]
        named: list[Any] = [{_VECTOR: _to_wire(row)} for row in vectors]
        with self._writing, _engine_errors(self._folder):
            some_null = any(map(has_null, payloads))
            found = shard.retrieve(points, with_payload=some_null, with_vector=False)
            known = {record.id: record.payload or {} for record in found}
            new = [
                edge.Point(point, vector, payload_to_wire(id_, payload))
                for id_, point, vector, payload in zip(ids, points, named, payloads, strict=True)
                if point not in known
            ]
            old = [
                edge.PointVectors(point, vector) for point, vector in zip(points, named, strict=True) if point in known
            ]
            if new:
                shard.update(edge.UpdateOperation.upsert_points(new))
            if old:
                shard.update(edge.UpdateOperation.update_vectors(old))
            for point, payload in zip(points, payloads, strict=True):
                if point in known and has_null(payload):
                    shard.update(edge.UpdateOperation.overwrite_payload([point], {**known[point], **payload}))
                elif point in known and payload:
                    shard.update(edge.UpdateOperation.set_payload([point], dict(payload)))
            self._flush_now_and_then(len(ids))
        return Written(tuple(ids))

    def search(
        self, queries: SparseVectors, k: int, *, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        shard, dimension = self._existing()
        limit = min(check_k(k), _MOST)
        check_dimension(queries, dimension)
        wanted = _to_filter(conditions(where))
        selected = True if with_payloads else edge.PayloadSelector.Include([ORIGINAL])
        requests = [
            edge.QueryRequest(
                limit, query=edge.Query.Nearest(_to_wire(query), _VECTOR), filter=wanted, with_payload=selected
            )
            for query in queries
        ]
        with _engine_errors(self._folder):
            return [_from_wire(shard.query(request), with_payloads) for request in requests]

    def fetch(self, ids: Sequence[Id]) -> Documents:
        shard, dimension = self._existing()
        points: dict[int | str | UUID, Id] = {id_to_wire(id_): id_ for id_ in check_ids(ids)}
        with _engine_errors(self._folder):
            records = shard.retrieve(list(points), with_payload=True, with_vector=[_VECTOR])
        found = {points[record.id]: record for record in records}
        present = [id_ for id_ in check_ids(ids) if id_ in found]
        rows = [_row(found[id_]) for id_ in present]
        payloads = tuple(payload_from_wire(found[id_].payload) for id_ in present)
        return Documents(tuple(present), vectors_from_wire(rows, dimension), payloads)

    def delete(self, ids: Sequence[Id]) -> None:
        shard, _ = self._existing()
        points: list[int | str | UUID] = [id_to_wire(id_) for id_ in check_ids(ids)]
        with self._writing, _engine_errors(self._folder):
            shard.update(edge.UpdateOperation.delete_points(points))

    def count(self) -> int:
        shard, _ = self._existing()
        with _engine_errors(self._folder):
            return shard.count(edge.CountRequest(exact=True))

    def drop(self) -> None:
        self._open()
        with _engine_errors(self._folder):
            if self._shard is not None:
                self._shard.close()
            self._shard = self._dimension = None
            self._folder.clear()

    def close(self) -> None:
        if self._shard is not None:
            with _engine_errors(self._folder):
                self._shard.close()  # flushes
        self._shard, self._closed = None, True

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        return vectors

    def slack(self, vectors: SparseVectors) -> Float32s:
        return np.zeros(vectors.nnz, np.float32)

    # ---- the engine

    def _load(self) -> edge.EdgeShard:
        with _engine_errors(self._folder):
            return edge.EdgeShard.load(str(self._folder.shard))

    def _open(self) -> None:
        if self._closed:
            raise AdapterError(f"this adapter of {self._folder} is closed; connect again")

    def _existing(self) -> tuple[edge.EdgeShard, int]:
        self._open()
        if self._shard is None or self._dimension is None:
            raise CollectionError(f"{self._folder} holds no collection yet; create(dimension) makes one")
        return self._shard, self._dimension

    def _flush_now_and_then(self, written: int) -> None:
        self._unflushed += written
        if self._shard is not None and self._unflushed >= _FLUSH_EVERY:
            self._shard.flush()
            self._unflushed = 0


class _Folder:
    """The folder on disk: `sparsevec.json`, which makes it ours, and `shard/`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shard = path / "shard"
        self._marker = path / "sparsevec.json"

    def __str__(self) -> str:
        return str(self._path)

    def dimension(self) -> int | None:
        """Of the collection in it; None when there is none. Raises CollectionError when the folder is not ours."""
        if not self._path.parent.is_dir():
            raise CollectionError(f"the folder of {self} does not exist; make it first")
        try:
            if not self._path.exists() or not any(self._path.iterdir()):
                return None
            marker = json.loads(self._marker.read_text())
        except (OSError, ValueError) as error:
            raise CollectionError(f"{self} is not a folder of ours ({error}); use another path") from error
        if not isinstance(marker, dict) or marker.get("format") != _FORMAT:
            raise CollectionError(f"{self._marker} does not say {_FORMAT!r}; use another path")
        return marker.get("dimension")

    def make_room(self) -> None:
        """Ours, and without a shard: what an interrupted `create` or `drop` left is removed."""
        self._path.mkdir(exist_ok=True)
        self.mark(None)
        self._remove_shard()

    def mark(self, dimension: int | None) -> None:
        """Write the marker, whole or not at all."""
        partial = self._marker.with_suffix(".part")
        with partial.open("w") as file:
            json.dump({"format": _FORMAT, "dimension": dimension}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._marker)

    def clear(self) -> None:
        """Not ours any more, and gone when nobody else keeps anything in it."""
        if self._marker.exists():
            self.mark(None)
            self._remove_shard()
            self._marker.unlink()
            with suppress(OSError):
                self._path.rmdir()

    def _remove_shard(self) -> None:
        if self.shard.exists():
            shutil.rmtree(self.shard)


# ---- to and from the engine's types


def _to_wire(row: SparseVector) -> edge.SparseVector:
    return edge.SparseVector(row.indices.tolist(), row.values.tolist())


def _row(record: edge.Record) -> tuple[Sequence[int], Sequence[float]]:
    vector: Any = record.vector
    return vector[_VECTOR].indices, vector[_VECTOR].values


def _to_filter(wanted: Sequence[Condition]) -> edge.Filter | None:
    if not wanted:
        return None
    return edge.Filter(must=[_any(condition) for condition in wanted])


def _any(condition: Condition) -> edge.Filter:
    return edge.Filter(should=[_field(path, test) for path in paths(condition.field) for test in tests(condition)])


def _field(path: str, test: Test) -> edge.FieldCondition:
    if isinstance(test, tuple):
        return edge.FieldCondition(path, match=edge.MatchAny(list(test)))
    if isinstance(test, bool):
        # A Python bool would be read as an int; numpy's is not one.
        return edge.FieldCondition(path, match=edge.MatchValue(np.bool_(test)))  # type: ignore[arg-type]
    if isinstance(test, int):
        return edge.FieldCondition(path, match=edge.MatchValue(test))
    return edge.FieldCondition(path, range=edge.RangeFloat(**test))


def _from_wire(points: Sequence[edge.ScoredPoint], with_payloads: bool) -> Hits:
    ids = tuple(id_from_wire(point.id, point.payload) for point in points)
    payloads = tuple(payload_from_wire(point.payload) for point in points) if with_payloads else None
    return Hits(ids, np.array([point.score for point in points], np.float32), payloads)


@contextmanager
def _engine_errors(folder: _Folder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{folder}: {error}; what was reported as written is still there") from error
    except Exception as error:
        raise _translated(folder, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Ctrl-C, not the engine
            raise
        raise AdapterError(f"the engine in {folder} panicked: {error}; close this adapter and connect again") from error


def _translated(folder: _Folder, error: Exception) -> AdapterError | StorageFailed:
    text = str(error)
    if "WouldBlock" in text:
        return CollectionError(f"{folder} is open in another process or adapter; close it there first")
    if "No space left" in text or "os error 28" in text:
        return StorageFailed(f"{folder}: no space left; what was reported as written is still there")
    return AdapterError(f"the engine in {folder} refused: {text}")


_contract: type[Adapter] = QdrantEdgeAdapter
