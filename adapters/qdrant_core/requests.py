"""A request to Qdrant: the name of a client's method, and its body as the REST API takes it.

So one conversation is sent over REST as bytes made straight from the arrays, and through the methods of any client,
synchronous or not, gRPC or local. Answers are the `result` of the REST API in every case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ValidationError

from sparsevec.contract.filters import Condition, EngineFilter, Where, conditions
from sparsevec.errors import ClientMissing, InvalidInput

from .points import Inserts, Updates

try:
    from qdrant_client import models
except ImportError as error:
    raise ClientMissing.extra("qdrant-client", "qdrant") from error

__all__ = ["Request", "answer_of", "arguments", "encode", "rest", "wanted_of"]


@dataclass(frozen=True, slots=True)
class Request:
    """`call` is the client's method; `vector` belongs to the two that make and remove a vector."""

    call: str
    collection: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    vector: str = ""

    @property
    def body(self) -> bytes:
        """As REST takes it."""
        return encode(self.content) if self.content else b""

    def __str__(self) -> str:
        return f"qdrant {self.call} {self.collection}"


def encode(body: Mapping[str, Any]) -> bytes:
    """As JSON; arrays go as they are, float32 in the fewest digits that give the same float32 back."""
    return orjson.dumps(body, _points_to_json, orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS)


def _points_to_json(value: Any) -> Any:
    if isinstance(value, (Inserts, Updates)):
        return value.to_json()
    raise TypeError(type(value).__name__)


def _own_filter(body: Any) -> dict[str, Any]:
    """A filter that the caller wrote for Qdrant, as JSON: a `models.Filter`, or its dict. Raises InvalidInput."""
    try:
        given = models.Filter.model_validate(
            body.model_dump(by_alias=True) if isinstance(body, models.Filter) else body
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(
            "expected a filter of qdrant-client (models.Filter, or its dict with must, should, must_not), found "
            f"{body!r:.200}: {first['msg']} at {first['loc']}"
        ) from error
    return given.model_dump(mode="json", by_alias=True, exclude_none=True)


def wanted_of(where: Where | None) -> Sequence[Condition]:
    """A filter, read and checked; the engine's own, too."""
    if isinstance(where, EngineFilter) and where.engine == "qdrant":
        return (EngineFilter("qdrant", _own_filter(where.body)),)
    return conditions(where, "qdrant")


# ---- over REST

_REST = {
    "info": ("GET", "/"),
    "get_aliases": ("GET", "/aliases"),
    "get_collections": ("GET", "/collections"),
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
    "upsert": ("PUT", "/collections/{collection}/points?wait=true"),
    "create_payload_index": ("PUT", "/collections/{collection}/index?wait=true"),
    "update_aliases": ("POST", "/collections/aliases"),
    "count": ("POST", "/collections/{collection}/points/count"),
}


def rest(request: Request) -> tuple[str, str]:
    """The HTTP method and the path."""
    method, path = _REST[request.call]
    return method, path.format(collection=quote(request.collection, safe=""), vector=quote(request.vector, safe=""))


# ---- through a client's methods

_TIMED = frozenset({"batch_update_points", "query_batch_points", "retrieve", "scroll", "count"})


def arguments(request: Request, seconds: float | None = None) -> tuple[list[Any], dict[str, Any]]:
    """Of the client's method `request.call`: by position, so that a subclass may name them as it likes, and by name.

    `seconds` is the call's deadline, where it takes one.
    """
    named: dict[str, Any] = {}
    if seconds is not None and request.call in _TIMED:
        named["timeout"] = max(1, math.ceil(seconds))
    given = [request.collection] if request.collection else []
    return _positions(request, given), {**_names(request), **named}


def _positions(request: Request, given: list[Any]) -> list[Any]:
    match request.call:
        case "create_vector_name":
            return [*given, request.vector, _vector_name(request)]
        case "delete_vector_name":
            return [*given, request.vector]
        case "batch_update_points":
            return [*given, models.UpdateOperations.model_validate_json(request.body).operations]
        case "query_batch_points":
            return [*given, models.QueryRequestBatch.model_validate_json(request.body).searches]
        case "retrieve":
            return [*given, models.PointRequest.model_validate_json(request.body).ids]
    return given


def _vector_name(request: Request) -> models.VectorNameConfig:
    kind = models.SparseVectorNameConfig if "sparse" in request.content else models.DenseVectorNameConfig
    return kind.model_validate_json(request.body)


def _names(request: Request) -> dict[str, Any]:
    match request.call:
        case "create_collection":
            made = models.CreateCollection.model_validate_json(request.body)
            config = {"vectors_config": made.vectors or {}, "sparse_vectors_config": made.sparse_vectors}
            return {**config, "metadata": made.metadata}
        case "update_collection" if "vectors" in request.content:
            return {"vectors_config": models.UpdateCollection.model_validate_json(request.body).vectors}
        case "update_collection":
            return {"metadata": orjson.loads(request.body)["metadata"]}
        case "batch_update_points":
            return {"wait": True}
        case "retrieve":
            asked = models.PointRequest.model_validate_json(request.body)
            return {"with_payload": asked.with_payload, "with_vectors": asked.with_vector}
        case "scroll":
            page = models.ScrollRequest.model_validate_json(request.body)
            where = {"scroll_filter": page.filter, "limit": page.limit, "offset": page.offset}
            return {**where, "with_payload": page.with_payload, "with_vectors": page.with_vector}
        case "count":
            return {"count_filter": models.CountRequest.model_validate_json(request.body).filter, "exact": True}
    return {}


def answer_of(request: Request, result: Any) -> Any:
    """What a client's method returned, as the REST API says it."""
    if request.call == "scroll":
        points, offset = result
        following = offset if offset is None or isinstance(offset, int) else str(offset)
        return {"points": _plain(points), "next_page_offset": following}
    if request.call == "count":
        return {"count": result.count}
    return _plain(result)


def _plain(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    return [_plain(one) for one in result] if isinstance(result, list) else result
