"""A small Qdrant server for tests: the REST paths that the adapter uses, in front of the embedded engine.

So the real qdrant-client speaks over a real connection to Qdrant's real storage, index and scoring, in every test run.
What it does not do: authentication, validation beyond what the adapter meets, shards, aliases, the optimizer.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import qdrant_edge as edge
from pydantic import BaseModel, ValidationError
from qdrant_client import models
from sparsevec_adapters.qdrant_core.embedded import filter_to_engine

from sparsevec.errors import InvalidInput

MAX_BODY = 32 * 2**20


class Refusal(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Collection:
    """A shard of the engine, and the settings that a server keeps beside it."""

    def __init__(self, path: Path, config: models.CreateCollection) -> None:
        self.path, self.config = path, config
        self.sparse = dict(config.sparse_vectors or {})
        self.dense = dict(config.vectors if isinstance(config.vectors, dict) else {})
        self.metadata = dict(config.metadata or {})
        self.strict, self.indexed = False, dict[str, str]()  # as a test sets them
        self.lock = threading.Lock()
        dense: Any = {
            name: edge.EdgeVectorParams(params.size, edge.Distance.Dot, datatype=_datatype(params))
            for name, params in self.dense.items()
        }
        sparse = {name: _sparse_params(params) for name, params in self.sparse.items()}
        asked = config.optimizers_config or models.OptimizersConfigDiff()
        optimizers = edge.EdgeOptimizersConfig(indexing_threshold=asked.indexing_threshold)
        settings = edge.EdgeConfig(vectors=dense, sparse_vectors=sparse, optimizers=optimizers)
        self.shard = edge.EdgeShard.create(str(path), settings)

    def restart(self) -> None:
        self.shard.close()
        self.shard = edge.EdgeShard.load(str(self.path))

    def info(self) -> dict[str, Any]:
        params = {
            "vectors": {name: p.model_dump(mode="json", exclude_none=True) for name, p in self.dense.items()},
            "sparse_vectors": {name: p.model_dump(mode="json", exclude_none=True) for name, p in self.sparse.items()},
        }
        return {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": 1,
            "payload_schema": {path: {"data_type": kind, "points": 0} for path, kind in self.indexed.items()},
            "config": {
                "params": params,
                "metadata": self.metadata or None,
                "strict_mode_config": {"enabled": True, "unindexed_filtering_retrieve": False} if self.strict else None,
                "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
                "optimizer_config": {"deleted_threshold": 0.2, "default_segment_number": 0, "flush_interval_sec": 5}
                | {"vacuum_min_vector_number": 1000},
            },
        }

    # ---- writes

    def apply(self, operation: Any) -> None:
        match operation:
            case models.UpsertOperation(upsert=models.PointsList(points=points, update_mode=mode)):
                made = [_point(point) for point in points]
                self._update(edge.UpdateOperation.upsert_points(made, update_mode=_MODES[mode.value if mode else ""]))
            case models.DeleteOperation(delete=models.PointIdsList(points=points)):
                self._update(edge.UpdateOperation.delete_points(_ids(points)))
            case models.DeleteOperation(delete=models.FilterSelector(filter=where)):
                self._update(edge.UpdateOperation.delete_points_by_filter(self.filter(where) or edge.Filter()))
            case models.DeleteVectorsOperation(delete_vectors=given):
                self._update(edge.UpdateOperation.delete_vectors(_ids(given.points), given.vector))
            case models.UpdateVectorsOperation(update_vectors=given):
                for one in given.points:
                    vectors: Any = one.vector
                    if not any(getattr(vector, "indices", vector) for vector in vectors.values()):
                        raise Refusal(422, "must specify vectors to update for point")
                changed = [edge.PointVectors(_id(p.id), _vector(p.vector)) for p in given.points]
                self._update(edge.UpdateOperation.update_vectors(changed))
            case models.SetPayloadOperation(set_payload=given):
                self._update(edge.UpdateOperation.set_payload(_ids(given.points), given.payload))
            case models.OverwritePayloadOperation(overwrite_payload=given):
                self._update(edge.UpdateOperation.overwrite_payload(_ids(given.points), given.payload))
            case _:
                raise Refusal(400, f"this shim does not know {type(operation).__name__}")

    def merge(self, metadata: Mapping[str, Any]) -> None:
        with self.lock:
            merged = {**self.metadata, **metadata}
            self.metadata = {key: value for key, value in merged.items() if value is not None}

    def add_dense(self, name: str, config: models.DenseVectorConfig) -> None:
        kind = edge.VectorStorageDatatype.Uint8
        self._update(edge.UpdateOperation.create_dense_vector(name, config.size, edge.Distance.Dot, datatype=kind))
        params = models.VectorParams(size=config.size, distance=config.distance, datatype=models.Datatype.UINT8)
        self.dense[name] = params

    def add_vector(self, name: str, config: models.SparseVectorConfig) -> None:
        self._update(edge.UpdateOperation.create_sparse_vector(name))
        self.sparse[name] = models.SparseVectorParams(modifier=config.modifier)

    def remove_vector(self, name: str) -> None:
        self._update(edge.UpdateOperation.delete_vector_name(name))
        self.sparse.pop(name, None)
        self.dense.pop(name, None)

    def _update(self, operation: edge.UpdateOperation) -> None:
        with self.lock:
            try:
                self.shard.update(operation)
            except Exception as error:
                missing = re.search(r"No point with id (\S+)", str(error))
                raise (
                    Refusal(404, f"Not found: No point with id {missing[1]} found")
                    if missing
                    else Refusal(400, str(error))
                ) from error

    # ---- reads

    def retrieve(self, ids: list[Any], with_payload: Any, with_vector: Any) -> list[dict[str, Any]]:
        found = self.shard.retrieve(_ids(ids), with_payload=bool(with_payload), with_vector=with_vector or False)
        return [_record(record) for record in found]

    def count(self, where: models.Filter | None) -> int:
        return self.shard.count(edge.CountRequest(exact=True, filter=self.filter(where)))

    def scroll(self, request: models.ScrollRequest) -> dict[str, Any]:
        payload: Any = request.with_payload
        asked = edge.ScrollRequest(
            offset=None if request.offset is None else _id(request.offset),
            limit=request.limit,
            filter=self.filter(request.filter),
            with_payload=edge.PayloadSelector.Include(payload) if isinstance(payload, list) else bool(payload),
            with_vector=request.with_vector or False,
        )
        records, following = self.shard.scroll(asked)
        offset = str(following) if isinstance(following, UUID) else following
        return {"points": [_record(record) for record in records], "next_page_offset": offset}

    def filter(self, where: models.Filter | None) -> edge.Filter | None:
        given = None if where is None else where.model_dump(mode="json", by_alias=True, exclude_none=True)
        for key in re.findall(r"'key': '(.*?)'", str(given)) if self.strict else ():
            if key.replace('"', "") not in self.indexed:
                raise Refusal(
                    400, f'Bad request: Index required but not found for "{key}" of one of the following types'
                )
        try:
            return filter_to_engine(given)  # type: ignore[no-any-return]
        except InvalidInput as error:
            raise Refusal(400, str(error)) from error

    def query(self, request: models.QueryRequest) -> list[dict[str, Any]]:
        if request.limit == 0:
            raise Refusal(422, "limit: must be at least 1")
        payload: Any = request.with_payload
        first: Any = request.prefetch or []
        asked = edge.QueryRequest(
            request.limit or 10,
            offset=request.offset or 0,
            query=_nearest(request),
            prefetches=[
                edge.Prefetch(one.limit, query=_nearest(one), filter=self.filter(one.filter))
                for one in (first if isinstance(first, list) else [first])
            ],
            with_vector=request.with_vector or False,
            filter=self.filter(request.filter),
            with_payload=edge.PayloadSelector.Include(payload) if isinstance(payload, list) else payload,
        )
        return [{**_record(point), "version": point.version, "score": point.score} for point in self.shard.query(asked)]


# ---- their types, and the engine's


def _nearest(request: models.QueryRequest | models.Prefetch) -> edge.Query:
    query: Any = getattr(request.query, "nearest", request.query)
    return edge.Query.Nearest(edge.SparseVector(query.indices, query.values), request.using)


def _datatype(params: models.VectorParams) -> edge.VectorStorageDatatype | None:
    return edge.VectorStorageDatatype.Uint8 if params.datatype is models.Datatype.UINT8 else None


def _sparse_params(params: models.SparseVectorParams) -> edge.EdgeSparseVectorParams:
    datatypes = {"float16": edge.VectorStorageDatatype.Float16, "uint8": edge.VectorStorageDatatype.Uint8}
    datatype = params.index and params.index.datatype and datatypes.get(params.index.datatype.value)
    return edge.EdgeSparseVectorParams(datatype=datatype or None)


_MODES = {"": None, "upsert": edge.UpdateMode.Upsert} | {
    "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}


def _id(id_: Any) -> Any:
    return UUID(id_) if isinstance(id_, str) else id_


def _ids(ids: Iterable[Any] | None) -> list[Any]:
    return [_id(id_) for id_ in ids or ()]


def _vector(vector: Any) -> Any:
    return {
        name: edge.SparseVector(given.indices, given.values) if isinstance(given, models.SparseVector) else given
        for name, given in vector.items()
    }


def _point(point: models.PointStruct) -> edge.Point:
    return edge.Point(_id(point.id), _vector(point.vector), point.payload or {})


def _record(record: Any) -> dict[str, Any]:
    vectors = {
        name: {"indices": given.indices, "values": given.values} if isinstance(given, edge.SparseVector) else given
        for name, given in (record.vector or {}).items()
    }
    id_ = record.id if isinstance(record.id, int) else str(record.id)
    return {"id": id_, "payload": record.payload, "vector": vectors}


# ---- HTTP


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128  # as many connections may wait as tests make at once


class QdrantShim:
    """A server on a free loopback port, with its collections under `folder`."""

    def __init__(self, folder: Path, version: str = "1.19.2") -> None:
        self.version = version
        self.collections: dict[str, Collection] = {}
        self._folder = folder
        self._made = 0
        self._creating = threading.Lock()
        self._server = _Listener(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def restart(self) -> None:
        """As after a crash and a start: what is not stored is gone."""
        for collection in self.collections.values():
            collection.restart()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for collection in self.collections.values():
            collection.shard.close()

    def __enter__(self) -> QdrantShim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(self, method: str, path: str, body: bytes) -> object:
        """The `result` of one request. Raises Refusal."""
        for (due, pattern), route in _ROUTES.items():
            if method == due and (found := re.fullmatch(pattern, path)):
                return route(self, body, *map(unquote, found.groups()))
        raise Refusal(404, f"this shim does not know {method} {path}")

    def collection(self, name: str) -> Collection:
        if name not in self.collections:
            raise Refusal(404, f"Not found: Collection `{name}` doesn't exist!")
        return self.collections[name]

    def create(self, body: bytes, name: str) -> bool:
        with self._creating:  # of several at once, one makes it
            if name in self.collections:
                raise Refusal(409, f"Wrong input: Collection `{name}` already exists!")
            self._made += 1
            path = self._folder / f"{self._made}"
            self.collections[name] = Collection(path, _read(models.CreateCollection, body))
        return True

    def remove(self, _body: bytes, name: str) -> bool:
        if collection := self.collections.pop(name, None):
            collection.shard.close()
            shutil.rmtree(collection.path)
        return collection is not None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        shim = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                size = int(self.headers.get("content-length", 0))
                if size > MAX_BODY:
                    self.close_connection = True  # as the server does: in mid-send, without an answer
                    return
                body = self.rfile.read(size)
                path = urlsplit(self.path).path
                try:
                    if path == "/":
                        self._send(200, {"title": "shim", "version": shim.version})
                    else:
                        result = shim.answer(self.command, path, body)
                        self._send(200, {"result": result, "status": "ok", "time": 0.0})
                except Refusal as refusal:
                    self._send(refusal.status, {"status": {"error": str(refusal)}, "time": 0.0})

            def _send(self, status: int, answer: object) -> None:
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Quiet."""

        return Handler


def _read(model: type[BaseModel], body: bytes) -> Any:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(422, f"Validation error in JSON body: {error}") from error


Route = Callable[..., object]
_DONE = {"operation_id": 0, "status": "completed"}


def _write(shim: QdrantShim, body: bytes, name: str) -> object:
    operations = _read(models.UpdateOperations, body).operations
    for operation in operations:
        shim.collection(name).apply(operation)
    return [_DONE] * len(operations)


def _upsert(shim: QdrantShim, body: bytes, name: str) -> object:
    shim.collection(name).apply(models.UpsertOperation(upsert=_read(models.PointsList, body)))
    return _DONE


def _retrieve(shim: QdrantShim, body: bytes, name: str) -> object:
    request = _read(models.PointRequest, body)
    return shim.collection(name).retrieve(request.ids, request.with_payload, request.with_vector)


def _query(shim: QdrantShim, body: bytes, name: str) -> object:
    requests = _read(models.QueryRequestBatch, body).searches
    return [{"points": shim.collection(name).query(request)} for request in requests]


def _count(shim: QdrantShim, body: bytes, name: str) -> object:
    return {"count": shim.collection(name).count(_read(models.CountRequest, body).filter)}


def _scroll(shim: QdrantShim, body: bytes, name: str) -> object:
    return shim.collection(name).scroll(_read(models.ScrollRequest, body))


def _merge(shim: QdrantShim, body: bytes, name: str) -> object:
    shim.collection(name).merge(_read(models.UpdateCollection, body).metadata or {})
    return True


def _operate(kind: Any) -> Route:
    """One operation by itself."""
    (field,) = kind.model_fields

    def route(shim: QdrantShim, body: bytes, name: str) -> object:
        shim.collection(name).apply(kind(**{field: json.loads(body)}))
        return _DONE

    return route


def _add_vector(shim: QdrantShim, body: bytes, name: str, vector: str) -> object:
    if b'"dense"' in body:
        shim.collection(name).add_dense(vector, _read(models.DenseVectorNameConfig, body).dense)
    else:
        shim.collection(name).add_vector(vector, _read(models.SparseVectorNameConfig, body).sparse)
    return _DONE


def _remove_vector(shim: QdrantShim, body: bytes, name: str, vector: str) -> object:
    shim.collection(name).remove_vector(vector)
    return _DONE


_NAME = "/collections/([^/]+)"
_ROUTES: Mapping[tuple[str, str], Route] = {
    ("GET", f"{_NAME}/exists"): lambda shim, _body, name: {"exists": name in shim.collections},
    ("GET", _NAME): lambda shim, _body, name: shim.collection(name).info(),
    ("PUT", _NAME): QdrantShim.create,
    ("PATCH", _NAME): _merge,
    ("GET", "/aliases"): lambda _shim, _body: {"aliases": []},
    ("DELETE", _NAME): QdrantShim.remove,
    ("PUT", f"{_NAME}/vectors/([^/]+)"): _add_vector,
    ("DELETE", f"{_NAME}/vectors/([^/]+)"): _remove_vector,
    ("PUT", f"{_NAME}/points"): _upsert,
    ("POST", f"{_NAME}/points"): _retrieve,
    ("POST", f"{_NAME}/points/batch"): _write,
    ("POST", f"{_NAME}/points/query/batch"): _query,
    ("POST", f"{_NAME}/points/count"): _count,
    ("POST", f"{_NAME}/points/scroll"): _scroll,
    ("POST", f"{_NAME}/points/delete"): _operate(models.DeleteOperation),
    ("PUT", f"{_NAME}/points/vectors"): _operate(models.UpdateVectorsOperation),
    ("POST", f"{_NAME}/points/vectors/delete"): _operate(models.DeleteVectorsOperation),
    ("POST", f"{_NAME}/points/payload"): _operate(models.SetPayloadOperation),
}
