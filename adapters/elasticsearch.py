"""`elasticsearch://HOST[,HOST]:PORT/INDEX?field=NAME`: sparse vectors in an index of Elasticsearch 7.12 to 9.

Client 8 and client 9 both do, with any of these servers: what is sent names the API of version 8, which servers from
7.14 to 9 understand. (A client 9 by itself asks for version 9, and a server 8 refuses that with 400
media_type_header_exception.) The client's own retries stay off, for whether to send again is the caller's to decide; a
host that cannot be reached at all is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from sparsevec.contract.adapter import Adapter, AsyncAdapter
from sparsevec.contract.copies import SyncCopies
from sparsevec.contract.counting import AsyncCounts, SyncCounts
from sparsevec.contract.credentials import (
    Fault,
    certificates,
    check_credentials,
    file,
    key,
    key_or_pair,
    login,
    refused,
    seconds,
    switch,
    text,
    tls,
)
from sparsevec.contract.deadlines import remaining
from sparsevec.contract.ranking import AsyncRanks, SyncRanks
from sparsevec.contract.urls import Url
from sparsevec.errors import AdapterError, BackendUnsupported, ClientMissing, InvalidInput

try:  # first, for what follows needs orjson as well
    import orjson  # noqa: F401
    from elastic_transport import ApiError, TlsError, TransportError
    from elasticsearch import AsyncElasticsearch, Elasticsearch, UnsupportedProductError
    from elasticsearch.serializer import JsonSerializer
except ImportError as error:
    raise ClientMissing.extra(error.name or "elasticsearch", "elasticsearch") from error

from .lucene.changes import SaysChanges
from .lucene.doors import hosts_of, lost, never_connected, place, url_options
from .lucene.loading import AsyncLoading, Loading
from .lucene.operations import Favour, LuceneOperations
from .lucene.session import Refresh
from .lucene.wire import Answer, Request, parsed, retry_after

__all__ = ["AsyncElasticsearchAdapter", "ElasticsearchAdapter"]

_ENGINE = "elasticsearch"
_TIMEOUT = 90.0  # seconds; the server itself gives up a bulk request before that
_MEDIA_TYPE = "application/vnd.elasticsearch+{}; compatible-with=8"
_CREDENTIALS: Mapping[str, Fault] = {
    "api_key": key_or_pair,
    "basic_auth": login,
    "bearer_auth": key,
    "ca_certs": certificates,
    "client_cert": file,
    "client_key": file,
    "cloud_id": text,
    "request_timeout": seconds,
    "ssl_assert_fingerprint": text,
    "ssl_context": tls,
    "verify_certs": switch,
}


class ElasticsearchAdapter(SaysChanges, Loading, SyncRanks, SyncCounts, SyncCopies):
    """Sparse vectors in one field of one index of Elasticsearch."""

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        """`credentials` are the client's keyword arguments: api_key, basic_auth, ca_certs, cloud_id (no host), ..."""
        client = _client(Elasticsearch, url, credentials)
        return cls(_operations(url), _ElasticWire(client, owned=True), _place(url), None if credentials else str(url))

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
        if isinstance(client, AsyncElasticsearch):
            raise InvalidInput("an AsyncElasticsearch is for AsyncElasticsearchAdapter, and for sparsevec.aconnect")
        if not isinstance(client, Elasticsearch):
            raise InvalidInput(f"expected an elasticsearch.Elasticsearch, found {type(client).__name__}")
        operations = LuceneOperations(
            _ENGINE, index, field, shards=shards, replicas=replicas, refresh=refresh, favour=favour
        )
        return cls(operations, _ElasticWire(client, owned=False), place(_ENGINE, (), index, field))


class AsyncElasticsearchAdapter(AsyncLoading, AsyncRanks, AsyncCounts):
    """The same for asyncio."""

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> Self:
        """With credentials as keyword arguments. Raises InvalidInput, ClientMissing; asks nothing of the server yet."""
        client = _client(AsyncElasticsearch, url, credentials)
        wire = _AsyncElasticWire(client, owned=True)
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
        if isinstance(client, Elasticsearch):
            raise InvalidInput("an Elasticsearch client is for ElasticsearchAdapter, and for sparsevec.connect")
        if not isinstance(client, AsyncElasticsearch):
            raise InvalidInput(f"expected an elasticsearch.AsyncElasticsearch, found {type(client).__name__}")
        operations = LuceneOperations(
            _ENGINE, index, field, shards=shards, replicas=replicas, refresh=refresh, favour=favour
        )
        return cls(operations, _AsyncElasticWire(client, owned=False), place(_ENGINE, (), index, field))


def _client(kind: Any, url: Url, credentials: Mapping[str, Any]) -> Any:
    url = _of_cloud(url)
    if url.variant not in ("", "https"):
        raise InvalidInput(f"expected elasticsearch:// or elasticsearch+https://, found +{url.variant}")
    check_credentials(credentials, _CREDENTIALS)
    if bool(url.hosts) == ("cloud_id" in credentials):
        raise InvalidInput("expected a host in the url, or cloud_id= and none: elasticsearch:///INDEX?field=NAME")
    _operations(url)  # refuses names and options before a connection is made
    try:
        options = {"request_timeout": _TIMEOUT, "serializers": {_Json.mimetype: _Json()}, **credentials}
        return kind(hosts_of(url) or None, **options)
    except (TypeError, ValueError, OSError) as error:
        raise refused("Elasticsearch", error, credentials) from None


class _Json(JsonSerializer):
    """The client's own reads by Python's `json`, in which a page of dense rows takes as long as to encode them."""

    def json_loads(self, data: bytes) -> Any:
        return parsed(data)


def _of_cloud(url: Url) -> Url:
    """A url without a host, which is one of the cloud: its path begins with a slash still."""
    return url if url.hosts else replace(url, path=url.path.strip("/"))


def _operations(url: Url) -> LuceneOperations:
    url = _of_cloud(url)
    return LuceneOperations(_ENGINE, url.path, **url_options(url))


def _place(url: Url) -> str:
    url = _of_cloud(url)
    return place(_ENGINE, hosts_of(url), url.path, url.option("field", "sparse"))


class _Way:
    """What both wires do with a client: which request is sent, and what its failure means."""

    def __init__(self, client: Any, *, owned: bool) -> None:
        self._client = client.options(max_retries=0, retry_on_timeout=False, retry_on_status=())
        self._owned = owned

    def _now(self) -> Any:
        """The client, with what is left of the caller's deadline."""
        left = remaining(_TIMEOUT)
        return self._client if left == _TIMEOUT else self._client.options(request_timeout=left)

    @property
    def _hosts(self) -> int:
        return len(self._client.transport.node_pool)

    @staticmethod
    def _headers(request: Request) -> dict[str, str]:
        headers = {"accept": _MEDIA_TYPE.format("json")}
        if request.body is not None:
            headers["content-type"] = _MEDIA_TYPE.format(request.kind)
        return headers


class _ElasticWire(_Way):
    def send(self, request: Request) -> Answer:
        hosts = self._hosts
        while True:
            hosts -= 1
            try:
                answer = self._now().perform_request(
                    request.method, request.target, headers=self._headers(request), body=request.body
                )
                return Answer(answer.meta.status, answer.body)
            except ApiError as error:
                return _refused(error)
            except (UnsupportedProductError, TransportError) as error:
                if hosts < 1 or not never_connected(error):
                    raise _lost(error) from error

    def close(self) -> None:
        if self._owned:
            self._client.close()


class _AsyncElasticWire(_Way):
    async def send(self, request: Request) -> Answer:
        hosts = self._hosts
        while True:
            hosts -= 1
            try:
                answer = await self._now().perform_request(
                    request.method, request.target, headers=self._headers(request), body=request.body
                )
                return Answer(answer.meta.status, answer.body)
            except ApiError as error:
                return _refused(error)
            except (UnsupportedProductError, TransportError, RuntimeError) as error:
                if hosts < 1 or not never_connected(error):
                    raise _lost(error) from error

    async def close(self) -> None:
        if self._owned:
            await self._client.close()


def _refused(error: ApiError) -> Answer:
    return Answer(error.meta.status, error.body, retry_after(error.meta.headers.items()))


def _lost(error: Exception) -> AdapterError:
    if isinstance(error, UnsupportedProductError):
        return BackendUnsupported(
            "the server is not Elasticsearch, or older than 7.14; for OpenSearch use opensearch://"
        )
    return lost("Elasticsearch", error, tls=isinstance(error, TlsError))


_contract: type[Adapter] = ElasticsearchAdapter
_async_contract: type[AsyncAdapter] = AsyncElasticsearchAdapter
