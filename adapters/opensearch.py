"""`opensearch://HOST[,HOST]:PORT/INDEX?field=NAME`: sparse vectors in an index of OpenSearch, as `rank_features`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from sparsevec.contract.adapter import Adapter, AsyncAdapter
from sparsevec.contract.copies import SyncCopies
from sparsevec.contract.counting import AsyncCounts, SyncCounts
from sparsevec.contract.credentials import (
    Fault,
    certificates,
    check_credentials,
    file,
    login_or_signer,
    refused,
    seconds,
    switch,
    text,
    tls,
)
from sparsevec.contract.deadlines import remaining
from sparsevec.contract.ranking import AsyncRanks, SyncRanks
from sparsevec.contract.urls import Url
from sparsevec.errors import BackendDown, ClientMissing, InvalidInput

try:  # first, for what follows needs orjson as well
    import orjson  # noqa: F401
    from opensearchpy import AsyncOpenSearch, OpenSearch
    from opensearchpy.exceptions import ConnectionError as OpenSearchConnectionError
    from opensearchpy.exceptions import SSLError
except ImportError as error:
    raise ClientMissing.extra(error.name or "opensearch-py", "opensearch") from error

from .lucene.changes import SaysChanges
from .lucene.doors import hosts_of, lost, never_connected, place, url_options
from .lucene.loading import AsyncLoading, Loading
from .lucene.operations import Favour, LuceneOperations
from .lucene.session import Refresh
from .lucene.wire import Answer, Request, parsed, retry_after

__all__ = ["AsyncOpenSearchAdapter", "OpenSearchAdapter"]

_ENGINE = "opensearch"
_TIMEOUT = 90.0  # seconds; the server itself gives up a bulk request before that
_CONNECTIONS = 16  # kept open to each host, for as many threads
_CREDENTIALS: Mapping[str, Fault] = {
    "basic_auth": login_or_signer,
    "ca_certs": certificates,
    "client_cert": file,
    "client_key": file,
    "http_auth": login_or_signer,
    "ssl_assert_fingerprint": text,
    "ssl_context": tls,
    "timeout": seconds,
    "verify_certs": switch,
}


class OpenSearchAdapter(SaysChanges, Loading, SyncRanks, SyncCounts, SyncCopies):
    """Sparse vectors in one field of one index of OpenSearch."""

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        """`credentials` are the client's keyword arguments: basic_auth (or http_auth), ca_certs, client_cert, ..."""
        client = _client(OpenSearch, url, credentials)
        wire = _OpenSearchWire(client, owned=True)
        return cls(_operations(url), wire, _place(url), None if credentials else str(url))

    @classmethod
    def _again(cls, origin: str) -> Self:
        return cls.connect(Url.parse(origin))

    @classmethod
    def from_client(
        cls,
        client: object,
        *,
        index: str,
        field: str = "sparse",
        shards: int | None = None,
        replicas: int | None = None,
        refresh: Refresh = "reader",
        favour: Favour = "time",
    ) -> Self:
        """Around a client of the caller's, who goes on owning it."""
        if isinstance(client, AsyncOpenSearch):
            raise InvalidInput("an AsyncOpenSearch is for AsyncOpenSearchAdapter, and for sparsevec.aconnect")
        if not isinstance(client, OpenSearch):
            raise InvalidInput(f"expected an opensearchpy.OpenSearch, found {type(client).__name__}")
        operations = LuceneOperations(
            _ENGINE, index, field, shards=shards, replicas=replicas, refresh=refresh, favour=favour
        )
        return cls(operations, _OpenSearchWire(client, owned=False), place(_ENGINE, (), index, field))


class AsyncOpenSearchAdapter(AsyncLoading, AsyncRanks, AsyncCounts):
    """The same for asyncio."""

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        """With credentials as keyword arguments. Raises InvalidInput, ClientMissing; asks nothing of the server yet."""
        client = _client(AsyncOpenSearch, url, credentials)
        wire = _AsyncOpenSearchWire(client, owned=True)
        return cls(_operations(url), wire, _place(url), None if credentials else str(url))

    @classmethod
    def _again(cls, origin: str) -> Self:
        return cls.connect(Url.parse(origin))

    @classmethod
    def from_client(
        cls,
        client: object,
        *,
        index: str,
        field: str = "sparse",
        shards: int | None = None,
        replicas: int | None = None,
        refresh: Refresh = "reader",
        favour: Favour = "time",
    ) -> Self:
        """Around a client of the caller's, who goes on owning it."""
        if isinstance(client, OpenSearch):
            raise InvalidInput("an OpenSearch client is for OpenSearchAdapter, and for sparsevec.connect")
        if not isinstance(client, AsyncOpenSearch):
            raise InvalidInput(f"expected an opensearchpy.AsyncOpenSearch, found {type(client).__name__}")
        operations = LuceneOperations(
            _ENGINE, index, field, shards=shards, replicas=replicas, refresh=refresh, favour=favour
        )
        return cls(operations, _AsyncOpenSearchWire(client, owned=False), place(_ENGINE, (), index, field))


def _client(kind: Any, url: Url, credentials: Mapping[str, Any]) -> Any:
    if url.variant not in ("", "https") or not url.hosts:
        raise InvalidInput("expected opensearch://HOST:PORT/INDEX or opensearch+https://HOST:PORT/INDEX")
    check_credentials(credentials, _CREDENTIALS)
    _operations(url)  # refuses names and options before a connection is made
    options = {"timeout": _TIMEOUT, **({"pool_maxsize": _CONNECTIONS} if kind is OpenSearch else {}), **credentials}
    if "basic_auth" in options:  # as the other adapters call it
        options["http_auth"] = options.pop("basic_auth")
    try:
        return kind(hosts_of(url), **options)
    except (TypeError, ValueError, OSError) as error:
        raise refused("OpenSearch", error, credentials) from None


def _operations(url: Url) -> LuceneOperations:
    return LuceneOperations(_ENGINE, url.path, **url_options(url))


def _place(url: Url) -> str:
    return place(_ENGINE, hosts_of(url), url.path, url.option("field", "sparse"))


class _Way:
    """By a connection of the client, not by its transport, which sends again by itself and hides the headers of an
    error: Retry-After."""

    def __init__(self, client: Any, *, owned: bool) -> None:
        self._client, self._owned = client, owned

    @property
    def _hosts(self) -> int:
        return len(self._client.transport.hosts)

    @staticmethod
    def _arguments(request: Request) -> dict[str, Any]:
        headers = {"content-type": f"application/{request.kind}"} if request.body is not None else {}
        left = remaining(_TIMEOUT)
        timeout = {} if left == _TIMEOUT else {"timeout": left}  # else the client's own
        return {"body": request.body, "headers": headers, "ignore": range(300, 600), **timeout}

    def _failed(self, connection: Any, error: OpenSearchConnectionError, hosts_left: int) -> None:
        """Remember that this host is down; raises unless another one may be asked."""
        if hosts_left < 1 or not never_connected(error):
            raise lost("OpenSearch", error, tls=isinstance(error, SSLError)) from error
        self._client.transport.connection_pool.mark_dead(connection)

    def _answered(self, connection: Any, status: int, headers: Mapping[str, str], text: str) -> Answer:
        self._client.transport.connection_pool.mark_live(connection)
        return Answer(status, _read(status, text), retry_after(headers.items()))


class _OpenSearchWire(_Way):
    def send(self, request: Request) -> Answer:
        hosts = self._hosts
        while True:
            hosts -= 1
            connection = self._client.transport.get_connection()
            try:
                answer = connection.perform_request(request.method, request.target, **self._arguments(request))
            except OpenSearchConnectionError as error:
                self._failed(connection, error, hosts)
            else:
                return self._answered(connection, *answer)

    def close(self) -> None:
        if self._owned:
            self._client.close()


class _AsyncOpenSearchWire(_Way):
    async def send(self, request: Request) -> Answer:
        transport = self._client.transport
        await transport._async_call()  # makes the connections, at the first call of an event loop
        hosts = self._hosts
        while True:
            hosts -= 1
            connection = transport.get_connection()
            try:
                answer = await connection.perform_request(request.method, request.target, **self._arguments(request))
            except OpenSearchConnectionError as error:
                self._failed(connection, error, hosts)
            else:
                return self._answered(connection, *answer)

    async def close(self) -> None:
        if self._owned:
            pool = self._client.transport.connection_pool
            for connection in getattr(pool, "orig_connections", ()):  # the client forgets those that it holds for dead
                await connection.close()
            await self._client.close()


def _read(status: int, text: str) -> Any:
    """JSON, or the text of an error that something on the way made."""
    try:
        return parsed(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        if status < 300:
            raise BackendDown(f"no whole answer from OpenSearch: {error}") from error
        return text


_contract: type[Adapter] = OpenSearchAdapter
_async_contract: type[AsyncAdapter] = AsyncOpenSearchAdapter
