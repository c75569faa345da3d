"""`qdrant://HOST:PORT/[PREFIX/]COLLECTION?vector_name=sparse`: a Qdrant server, over REST or gRPC (qdrant-client).

The lowest version supported is 1.16 (collections with metadata), which serves collections of ours; adding a vector to a
collection that others made needs 1.18, `missing="create"` there 1.17; 1.19.2 writes sparse vectors faster.

A collection that `create` makes carries notes of ours in its metadata: the dimension, the fingerprint and the identity
of each vector. In one that others made, `create` adds a sparse vector and such a note, and writes go into that; their
vectors, payload fields, metadata and settings stay as they are, `delete` takes our vector off a point and leaves the
point, and `drop` removes the vector only if `create` added it, whichever adapter did. A sparse vector that others made
is written and searched, and nothing is noted: it has no known dimension, fingerprint or identity, and is not dropped.

Writes wait until they are applied, and only the status `completed` counts. Nothing is sent twice from here, save the
rest of a write in which a point was missing: retries are `ingest`'s. Requests are sized before they are sent, because a
server answers a body over its limit by closing the connection, which looks like a network fault for ever. A deadline
(`contract.deadlines`) bounds each request; over gRPC in whole seconds.

Tested without a server: conversations against written answers; the real client over loopback, REST and gRPC, before the
embedded engine, which is built from the server's own storage and scoring; and the client's local mode. With
SPARSEVEC_QDRANT_URL the same tests run on a server. Several shards and replicas are tested nowhere.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from sparsevec.contract.adapter import Adapter, AsyncAdapter
from sparsevec.contract.checks import check_pattern
from sparsevec.contract.copies import SyncCopies
from sparsevec.contract.credentials import Fault, check_credentials, function, headers, key, refused, seconds, trust
from sparsevec.contract.operations import AsyncAdapterBase, SyncAdapter
from sparsevec.contract.payloads import is_unicode
from sparsevec.contract.ranking import AsyncRanks, SyncRanks
from sparsevec.contract.urls import Url
from sparsevec.errors import BackendUnsupported, ClientMissing, InvalidInput

try:  # first, for what follows needs orjson as well
    import orjson  # noqa: F401
    from qdrant_client import AsyncQdrantClient, QdrantClient
except ImportError as error:
    raise ClientMissing.extra(error.name or "qdrant-client", "qdrant") from error

from .qdrant_core.operations import REQUEST_BYTES, QdrantOperations
from .qdrant_core.wires import async_wire, is_local, is_rest, sync_wire

__all__ = ["AsyncQdrantAdapter", "QdrantAdapter"]

_SCHEMES = {"": "http", "http": "http", "https": "https", "grpc": "http", "grpcs": "https"}
_CREDENTIALS: Mapping[str, Fault] = {
    "api_key": key,
    "auth_token_provider": function,
    "headers": headers,
    "timeout": seconds,
    "verify": trust,
}
_TIMEOUT = 60  # seconds


class QdrantAdapter(SyncAdapter, SyncRanks, SyncCopies):
    """The sparse vector `vector_name` of one collection of the server behind `client`, for threads."""

    _operations: QdrantOperations

    def __init__(
        self,
        client: QdrantClient,
        *,
        collection: str,
        vector_name: str = "sparse",
        max_request_bytes: int = REQUEST_BYTES,
        owns_client: bool = False,
        place: str | None = None,
        origin: str | None = None,
    ) -> None:
        """`owns_client`: `close` closes it too. `max_request_bytes`: what the server, or a proxy before it, takes.
        `place` names the collection in messages; `origin` is the url that opens it again. Raises InvalidInput for a
        client that is no QdrantClient, and for names that are none."""
        if not isinstance(client, QdrantClient):
            raise InvalidInput(_wrong_client(client, "QdrantClient", "aconnect"))
        operations = _operations(client, collection, vector_name, max_request_bytes)
        place = place or origin or _place(client, collection, vector_name)
        super().__init__(operations, sync_wire(client, owns_client=owns_client), place, origin)

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        """`timeout` (seconds, 60 when not given), `api_key`, `verify` (a CA file), ... are keyword arguments."""
        client, names = _opened(QdrantClient, url, credentials)
        return cls(client, **names, owns_client=True)

    def names(self, pattern: str) -> list[str]:
        """Of the collections that `pattern` stands for: names, wildcards, aliases, with commas between.

        Raises InvalidInput for what is no text.
        """
        return self._run(self._operations.names(check_pattern(pattern)))

    def stands_for(self) -> str:
        """The collection that the name stands for now. Raises BackendUnsupported but over REST, which copies go by."""
        if not is_rest(self._wire):
            raise BackendUnsupported("a collection is copied over REST; name it with qdrant:// or qdrant+https://")
        return super().stands_for()

    @classmethod
    def from_client(cls, client: QdrantClient, *, collection: str, vector_name: str = "sparse") -> Self:
        """Around a client of the caller's, which stays the caller's to close."""
        return cls(client, collection=collection, vector_name=vector_name)

    @classmethod
    def _again(cls, origin: str) -> Self:
        return cls.connect(Url.parse(origin))


class AsyncQdrantAdapter(AsyncAdapterBase, AsyncRanks):
    """The same for asyncio, over an AsyncQdrantClient."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        *,
        collection: str,
        vector_name: str = "sparse",
        max_request_bytes: int = REQUEST_BYTES,
        owns_client: bool = False,
        place: str | None = None,
        origin: str | None = None,
    ) -> None:
        if not isinstance(client, AsyncQdrantClient):
            raise InvalidInput(_wrong_client(client, "AsyncQdrantClient", "connect"))
        operations = _operations(client, collection, vector_name, max_request_bytes)
        place = place or origin or _place(client, collection, vector_name)
        super().__init__(operations, async_wire(client, owns_client=owns_client), place, origin)

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        """As `QdrantAdapter.connect`."""
        client, names = _opened(AsyncQdrantClient, url, credentials)
        return cls(client, **names, owns_client=True)

    @classmethod
    def from_client(cls, client: AsyncQdrantClient, *, collection: str, vector_name: str = "sparse") -> Self:
        """Around a client of the caller's, which stays the caller's to close."""
        return cls(client, collection=collection, vector_name=vector_name)

    @classmethod
    def _again(cls, origin: str) -> Self:
        return cls.connect(Url.parse(origin))


def _wrong_client(client: object, expected: str, other_door: str) -> str:
    found = type(client).__name__
    if found in ("QdrantClient", "AsyncQdrantClient"):
        return f"expected {expected}, found {found}; sparsevec.{other_door}(client, ...) takes that one"
    return f"expected a {expected} of qdrant-client, found {found}"


def _operations(client: Any, collection: str, vector_name: str, request_bytes: int) -> QdrantOperations:
    for what, name in (("collection", collection), ("vector_name", vector_name)):
        if not isinstance(name, str) or name in ("", ".", "..") or not is_unicode(name):  # a url would lead elsewhere
            raise InvalidInput(f"{what} must be a name of valid unicode, found {name!r:.80}")
    backend = "qdrant-client in local mode" if is_local(client) else "qdrant"
    return QdrantOperations(collection, vector_name, backend=backend, request_bytes=request_bytes)


def _place(client: Any, collection: str, vector_name: str) -> str:
    """For messages, without anything of the client's that might be secret."""
    where = "of a client in local mode" if is_local(client) else "of a client of the caller's"
    return f"qdrant collection {collection}, vector {vector_name}, {where}"


def _opened(kind: Any, url: Url, credentials: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A client of this kind, the names of collection and vector, the url, and the url that opens it again, if one
    does."""
    url.expect_options("vector_name")
    check_credentials(credentials, _CREDENTIALS)
    names = {"vector_name": url.option("vector_name", "sparse")}
    if url.variant == "memory":
        if url.host:
            raise InvalidInput(f"qdrant+memory: is in this process, found the host {url.host!r}; leave it out")
        return kind(":memory:"), {"collection": url.path or "sparsevec", **names}
    prefix, _, collection = url.path.rpartition("/")
    _check(url, prefix, collection)
    over_grpc = url.variant.startswith("grpc")
    ports: dict[str, Any] = {"grpc_port": url.port or 6334} if over_grpc else {"port": url.port or 6333}
    try:
        client = kind(
            host=url.host,
            https=_SCHEMES[url.variant] == "https",
            prefix=prefix or None,
            prefer_grpc=over_grpc,
            check_compatibility=False,
            **ports,
            **{"timeout": _TIMEOUT, **_with_context(credentials)},
        )
    except (TypeError, ValueError, OSError) as error:
        raise refused("Qdrant", error, credentials) from None
    place = str(replace(url, options=names))
    return client, {"collection": collection, **names, "place": place, "origin": None if credentials else place}


def _with_context(credentials: Mapping[str, Any]) -> dict[str, Any]:
    """With what its HTTP library takes in place of a path of certificates. Raises OSError for those that are none."""
    verify = credentials.get("verify")
    if not isinstance(verify, (str, os.PathLike)):
        return dict(credentials)
    folder = Path(verify).is_dir()
    trusted = ssl.create_default_context(capath=verify) if folder else ssl.create_default_context(cafile=verify)
    return {**credentials, "verify": trusted}


def _check(url: Url, prefix: str, collection: str) -> None:
    if url.variant not in _SCHEMES:
        raise InvalidInput(
            "expected qdrant://, qdrant+https://, qdrant+grpc://, qdrant+grpcs:// or qdrant+memory:, found "
            f"{url.scheme}"
        )
    if not url.host or not collection:
        raise InvalidInput("a qdrant url names a server and a collection: qdrant://HOST:PORT/[PREFIX/]COLLECTION")
    if len(url.hosts) > 1:
        raise InvalidInput(f"a qdrant url names one server, found {len(url.hosts)}; put several behind one balancer")
    if prefix and url.variant.startswith("grpc"):
        raise InvalidInput(
            f"gRPC knows no path, found the prefix {prefix!r}; expected qdrant+grpc://HOST:PORT/COLLECTION"
        )


_contract: type[Adapter] = QdrantAdapter
_async_contract: type[AsyncAdapter] = AsyncQdrantAdapter
