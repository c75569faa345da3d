"""The gRPC side of the shim: the methods that the adapter calls, on the collections of a `QdrantShim`.

Messages are turned into REST models, and answers back, by qdrant-client's own converters; so what this tests is the
client's gRPC path, floats, payloads and filters included, and how its errors look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from qdrant_client import grpc as wire
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc.collections_service_pb2_grpc import (
    CollectionsServicer,
    add_CollectionsServicer_to_server,
)
from qdrant_client.grpc.points_service_pb2_grpc import PointsServicer, add_PointsServicer_to_server
from qdrant_client.grpc.qdrant_pb2_grpc import QdrantServicer, add_QdrantServicer_to_server

from tests.integration.qdrant_shim import QdrantShim, Refusal

CODES = {404: grpc.StatusCode.NOT_FOUND, 409: grpc.StatusCode.ALREADY_EXISTS}
DONE = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


class QdrantGrpcShim:
    """A gRPC server on a free loopback port. `fault`, when set, is a status that the next write is answered with."""

    def __init__(self, shim: QdrantShim) -> None:
        self.fault: tuple[grpc.StatusCode, str] | None = None
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_QdrantServicer_to_server(_Root(shim), self._server)  # type: ignore[no-untyped-call]
        add_CollectionsServicer_to_server(_Collections(shim), self._server)  # type: ignore[no-untyped-call]
        add_PointsServicer_to_server(_Points(shim, self), self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()


def refusing(context: grpc.ServicerContext, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Refusal as refusal:
        return context.abort(CODES.get(refusal.status, grpc.StatusCode.INVALID_ARGUMENT), str(refusal))


class _Root(QdrantServicer):
    def __init__(self, shim: QdrantShim) -> None:
        self._shim = shim

    def HealthCheck(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return wire.HealthCheckReply(title="shim", version=self._shim.version)


class _Collections(CollectionsServicer):
    def __init__(self, shim: QdrantShim) -> None:
        self._shim = shim

    def CollectionExists(self, request: Any, _context: Any) -> Any:  # noqa: N802
        exists = request.collection_name in self._shim.collections
        return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=exists))

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = refusing(context, lambda: self._shim.collection(request.collection_name).info())
        info = RestToGrpc.convert_collection_info(models.CollectionInfo.model_validate(found))
        return wire.GetCollectionInfoResponse(result=info)

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        vectors = request.vectors_config
        config = models.CreateCollection(
            vectors=GrpcToRest.convert_vectors_config(vectors) if vectors.WhichOneof("config") else {},
            sparse_vectors=GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config),
            metadata=GrpcToRest.convert_payload(request.metadata),
        )
        body = config.model_dump_json().encode()
        refusing(context, lambda: self._shim.create(body, request.collection_name))
        return wire.CollectionOperationResponse(result=True)

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        metadata = GrpcToRest.convert_payload(request.metadata)
        refusing(context, lambda: self._shim.collection(request.collection_name).merge(metadata))
        return wire.CollectionOperationResponse(result=True)

    def ListAliases(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return wire.ListAliasesResponse()

    def Delete(self, request: Any, _context: Any) -> Any:  # noqa: N802
        return wire.CollectionOperationResponse(result=self._shim.remove(b"", request.collection_name))


class _Points(PointsServicer):
    def __init__(self, shim: QdrantShim, front: QdrantGrpcShim) -> None:
        self._shim, self._front = shim, front

    def UpdateBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._front.fault is not None:
            (code, details), self._front.fault = self._front.fault, None
            context.abort(code, details)
        collection = self._collection(request, context)
        for operation in request.operations:
            given = GrpcToRest.convert_points_update_operation(operation)
            refusing(context, partial(collection.apply, given))
        return wire.UpdateBatchResponse(result=[RestToGrpc.convert_update_result(DONE)] * len(request.operations))

    def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        return self._one(request, context, models.UpsertOperation(upsert=models.PointsList(points=points)))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        selected: Any = GrpcToRest.convert_points_selector(request.points)
        return self._one(request, context, models.DeleteOperation(delete=selected))

    def SetPayload(self, request: Any, context: Any) -> Any:  # noqa: N802
        selected: Any = GrpcToRest.convert_points_selector(request.points_selector)
        payload = GrpcToRest.convert_payload(request.payload)
        given = models.SetPayload(payload=payload, points=selected.points)
        return self._one(request, context, models.SetPayloadOperation(set_payload=given))

    def _one(self, request: Any, context: Any, operation: Any) -> Any:
        collection = self._collection(request, context)
        refusing(context, lambda: collection.apply(operation))
        return wire.PointsOperationResponse(result=RestToGrpc.convert_update_result(DONE))

    def CreateVectorName(self, request: Any, context: Any) -> Any:  # noqa: N802
        collection = self._collection(request, context)
        refusing(context, lambda: collection.add_vector(request.vector_name, models.SparseVectorConfig()))
        return wire.PointsOperationResponse(result=RestToGrpc.convert_update_result(DONE))

    def DeleteVectorName(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._collection(request, context).remove_vector(request.vector_name)
        return wire.PointsOperationResponse(result=RestToGrpc.convert_update_result(DONE))

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        ids = [GrpcToRest.convert_point_id(id_) for id_ in request.ids]
        payload = GrpcToRest.convert_with_payload_selector(request.with_payload)
        vectors = GrpcToRest.convert_with_vectors_selector(request.with_vectors)
        found = self._collection(request, context).retrieve(ids, payload, vectors)
        return wire.GetResponse(result=_converted(models.Record, RestToGrpc.convert_record, found))

    def QueryBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        collection = self._collection(request, context)
        answers = [collection.query(GrpcToRest.convert_query_points(query)) for query in request.query_points]
        points = [_converted(models.ScoredPoint, RestToGrpc.convert_scored_point, found) for found in answers]
        return wire.QueryBatchResponse(result=[wire.BatchResult(result=found) for found in points])

    def Count(self, request: Any, context: Any) -> Any:  # noqa: N802
        count = self._collection(request, context).count(GrpcToRest.convert_filter(request.filter))
        return wire.CountResponse(result=wire.CountResult(count=count))

    def Scroll(self, request: Any, context: Any) -> Any:  # noqa: N802
        asked = models.ScrollRequest(
            offset=GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
            limit=request.limit,
            filter=GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None,
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
            with_vector=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        found = self._collection(request, context).scroll(asked)
        points = _converted(models.Record, RestToGrpc.convert_record, found["points"])
        offset = found["next_page_offset"]
        following = None if offset is None else RestToGrpc.convert_extended_point_id(offset)
        return wire.ScrollResponse(result=points, next_page_offset=following)

    def _collection(self, request: Any, context: Any) -> Any:
        return refusing(context, lambda: self._shim.collection(request.collection_name))


def _converted(model: Any, convert: Callable[[Any], Any], found: Iterable[Any]) -> list[Any]:
    return [convert(model.model_validate({**record, "payload": record["payload"] or {}})) for record in found]
