"""A request to Qdrant: the name of a client's method, and its body as the REST API takes it.

So one conversation is sent over REST as bytes made straight from the arrays, and through the methods of any client,
synchronous or not, gRPC or local. Answers are the `result` of the REST API in every case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import BaseModel

from sparsevec.errors import ClientMissing

try:
    from qdrant_client import models
except ImportError as error:
    raise ClientMissing.extra("qdrant-client", "qdrant") from error

__all__ = ["Request", "answer_of", "arguments", "encode", "rest"]


@dataclass(frozen=True, slots=True)
class Request:
    """`call` is the client's method; `vector` belongs to the two that make and remove a vector."""

    call: str
    collection: str = ""
    body: bytes = b""
    vector: str = ""

    def __str__(self) -> str:
        return f"qdrant {self.call} {self.collection} ({len(self.body)} bytes)"


def encode(body: Mapping[str, Any]) -> bytes:
    """As JSON; arrays go as they are, float32 in the fewest digits that give the same float32 back."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


# ---- over REST

_REST = {
    "info": ("GET", "/"),
    "get_aliases": ("GET", "/aliases"),
    "get_collection": ("GET", "/collections/{collection}"),
    "create_collection": ("PUT", "/collections/{collection}"),
    "update_collection": ("PATCH", "/collections/{collection}"),
    "delete_collection": ("DELETE", "/collections/{collection}"),
    "create_vector_name": ("PUT", "/collections/{collection}/vectors/{vector}?wait=true"),
    "delete_vector_name": ("DELETE", "/collections/{collection}/vectors/{vector}?wait=true"),
    "batch_update_points": ("POST", "/collections/{collection}/points/batch?wait=true"),
    "query_batch_points": ("POST", "/collections/{collection}/points/query/batch"),
    "retrieve": ("POST", "/collections/{collection}/points"),
    "scroll": ("POST", "/collections/{collection}/points/scroll"),
    "count": ("POST", "/collections/{collection}/points/count"),
}


def rest(request: Request) -> tuple[str, str]:
    """The HTTP method and the path."""
    method, path = _REST[request.call]
    return method, path.format(collection=quote(request.collection, safe=""), vector=quote(request.vector, safe=""))


# ---- through a client's methods

_TIMED = frozenset({"batch_update_points", "query_batch_points", "retrieve", "scroll", "count"})


def arguments(request: Request, seconds: float | None = None) -> dict[str, Any]:
    """Of the client's method `request.call`; `seconds` is its deadline, where it takes one."""
    given: dict[str, Any] = {"collection_name": request.collection} if request.collection else {}
    if seconds is not None and request.call in _TIMED:
        given["timeout"] = max(1, math.ceil(seconds))
    match request.call:
        case "create_collection":
            made = models.CreateCollection.model_validate_json(request.body)
            vectors: Any = made.vectors or {}
            given |= {"vectors_config": vectors, "sparse_vectors_config": made.sparse_vectors}
            return given | {"metadata": made.metadata}
        case "update_collection":
            return given | {"metadata": orjson.loads(request.body)["metadata"]}
        case "create_vector_name":
            config = models.SparseVectorNameConfig.model_validate_json(request.body)
            return given | {"vector_name": request.vector, "vector_name_config": config}
        case "delete_vector_name":
            return given | {"vector_name": request.vector}
        case "batch_update_points":
            operations = models.UpdateOperations.model_validate_json(request.body).operations
            return given | {"update_operations": operations, "wait": True}
        case "query_batch_points":
            return given | {"requests": models.QueryRequestBatch.model_validate_json(request.body).searches}
        case "retrieve":
            asked = models.PointRequest.model_validate_json(request.body)
            return given | {"ids": asked.ids, "with_payload": asked.with_payload, "with_vectors": asked.with_vector}
        case "scroll":
            page = models.ScrollRequest.model_validate_json(request.body)
            given |= {"limit": page.limit, "offset": page.offset, "scroll_filter": page.filter}
            return given | {"with_payload": page.with_payload, "with_vectors": page.with_vector}
        case "count":
            return given | {"count_filter": models.CountRequest.model_validate_json(request.body).filter, "exact": True}
    return given


def answer_of(request: Request, result: Any) -> Any:
    """What a client's method returned, as the REST API says it."""
    if request.call == "scroll":
        points, offset = result
        return {"points": _plain(points), "next_page_offset": str(offset) if offset and not isinstance(offset, int) else offset}
    if request.call == "count":
        return {"count": result.count}
    return _plain(result)


def _plain(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    return [_plain(one) for one in result] if isinstance(result, list) else result
