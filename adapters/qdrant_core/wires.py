"""The ways to a server: its REST API over the client's own connection, or the methods of the client.

Over REST bodies are bytes made from the arrays, without an object of the client's per row; its connection pool,
credentials, headers and middleware are used as they are. Over gRPC a
write is one message, read from such bytes; the rest goes through the client's methods, as in local mode. Each
request is given what `deadlines.remaining` leaves of the client's own timeout.
"""

from __future__ import annotations

import math
import threading
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import orjson
from pydantic import BaseModel

from sparsevec.contract.deadlines import remaining
from sparsevec.contract.operations import AsyncWire, Wire
from sparsevec.errors import BackendDown, ClientMissing

from .errors import client_errors
from .points import update_batch
from .requests import Request, answer_of, arguments, rest

try:
    import httpx
    from qdrant_client import AsyncQdrantClient, QdrantClient, models
    from qdrant_client.conversions.conversion import GrpcToRest
    from qdrant_client.http.exceptions import UnexpectedResponse
except ImportError as error:
    raise ClientMissing.extra("qdrant-client", "qdrant") from error

__all__ = ["async_wire", "is_local", "is_rest", "sync_wire"]

_LONGEST = 60.0  # seconds, where the client has no timeout of its own


def is_local(client: QdrantClient | AsyncQdrantClient) -> bool:
    """Whether it is the client's local mode, in memory or in a folder."""
    options = client.init_options
    return bool(options.get("path")) or options.get("location") == ":memory:"


def is_rest(wire: object) -> bool:
    """Whether requests go out as they are written, over REST."""
    return isinstance(wire, _Rest)


def sync_wire(client: QdrantClient, *, owns_client: bool) -> Wire[Request, Any]:
    if is_local(client):
        return _Local(client, owns_client)
    return _Methods(client, owns_client) if client.init_options.get("prefer_grpc") else _Rest(client, owns_client)


def async_wire(client: AsyncQdrantClient, *, owns_client: bool) -> AsyncWire[Request, Any]:
    over_rest = not is_local(client) and not client.init_options.get("prefer_grpc")
    return _AsyncRest(client, owns_client) if over_rest else _AsyncMethods(client, owns_client)


class _Methods:
    """gRPC."""

    def __init__(self, client: QdrantClient, owns_client: bool) -> None:
        self._client, self._owns_client = client, owns_client

    def send(self, request: Request) -> Any:
        seconds = remaining(_timeout(self._client))
        if request.call == "batch_update_points":
            message = _update_batch(request, seconds)
            with client_errors():
                return _updated(self._client.grpc_points.UpdateBatch(message, timeout=seconds))
        given, named = arguments(request, seconds)
        with client_errors():
            result = getattr(self._client, request.call)(*given, **named)
        return answer_of(request, result)

    def close(self) -> None:
        if self._owns_client:
            self._client.close()


_locks: WeakKeyDictionary[QdrantClient, threading.Lock] = WeakKeyDictionary()


class _Local(_Methods):
    """Local mode is written for one thread: one call of a client at a time, whichever adapter makes it."""

    def __init__(self, client: QdrantClient, owns_client: bool) -> None:
        super().__init__(client, owns_client)
        self._lock = _locks.setdefault(client, threading.Lock())

    def send(self, request: Request) -> Any:
        given, named = arguments(request)
        _read_as_float32s(given)
        with self._lock, client_errors(local=True):
            result = getattr(self._client, request.call)(*given, **named)
        return answer_of(request, result)


def _read_as_float32s(given: Any) -> None:
    """Sparse weights, of which a body has the shortest decimals, as a server reads them: local mode computes in double,
    and would add up the decimals."""
    if isinstance(given, models.SparseVector):
        given.values = np.array(given.values, np.float32).tolist()
    elif isinstance(given, BaseModel):
        for name in given.model_fields_set - {"payload"}:
            _read_as_float32s(getattr(given, name))
    elif isinstance(given, dict | list):
        for one in given.values() if isinstance(given, dict) else given:
            _read_as_float32s(one)


class _Rest:
    def __init__(self, client: QdrantClient, owns_client: bool) -> None:
        self._client, self._owns_client = client, owns_client

    def send(self, request: Request) -> Any:
        api: Any = self._client.http.client
        built = _built(api, api._client, request)
        with client_errors():
            return _result(request, api.middleware(built, api.send_inner))

    def close(self) -> None:
        if self._owns_client:
            self._client.close()


class _AsyncMethods:
    """gRPC and local mode."""

    def __init__(self, client: AsyncQdrantClient, owns_client: bool) -> None:
        self._client, self._owns_client, self._local = client, owns_client, is_local(client)

    async def send(self, request: Request) -> Any:
        seconds = None if self._local else remaining(_timeout(self._client))
        if request.call == "batch_update_points" and seconds is not None:
            message = _update_batch(request, seconds)
            with client_errors():
                return _updated(await self._client.grpc_points.UpdateBatch(message, timeout=seconds))
        given, named = arguments(request, seconds)
        if self._local:
            _read_as_float32s(given)
        with client_errors(local=self._local):
            result = await getattr(self._client, request.call)(*given, **named)
        return answer_of(request, result)

    async def close(self) -> None:
        if self._owns_client:
            await self._client.close()


class _AsyncRest:
    def __init__(self, client: AsyncQdrantClient, owns_client: bool) -> None:
        self._client, self._owns_client = client, owns_client

    async def send(self, request: Request) -> Any:
        api: Any = self._client.http.client
        built = _built(api, api._async_client, request)
        with client_errors():
            return _result(request, await api.middleware(built, api.send_inner))

    async def close(self) -> None:
        if self._owns_client:
            await self._client.close()


def _update_batch(request: Request, seconds: float) -> Any:
    return update_batch(request.collection, request.content["operations"], math.ceil(seconds))


def _updated(answer: Any) -> list[dict[str, Any]]:
    """As the REST API says it."""
    return [GrpcToRest.convert_update_result(result).model_dump(mode="json") for result in answer.result]


def _timeout(client: Any) -> float:
    return float(client.init_options.get("timeout") or _LONGEST)


def _built(api: Any, connection: Any, request: Request) -> httpx.Request:
    """`api` is the client's REST half, `connection` the httpx client inside it."""
    method, path = rest(request)
    longest = connection.timeout.read
    return connection.build_request(  # type: ignore[no-any-return]
        method,
        api.host.rstrip("/") + path,
        content=request.body or None,
        headers={"content-type": "application/json"},
        timeout=remaining(_LONGEST if longest is None else longest),
    )


def _result(request: Request, response: httpx.Response) -> Any:
    """The part of an answer that says something. Raises what the client would, for `client_errors`."""
    if response.status_code not in (200, 201, 202):
        raise UnexpectedResponse.for_response(response)
    try:
        answer = orjson.loads(response.content)
        return {"version": answer["version"]} if request.call == "info" else answer["result"]
    except (ValueError, KeyError, TypeError) as error:
        raise BackendDown(f"the server's answer cannot be read: {response.content[:80]!r}") from error
