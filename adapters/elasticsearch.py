"""`elasticsearch://HOST:PORT/INDEX?field=NAME`: sparse vectors in an index of Elasticsearch 7.12 to 9.

Client 8 and client 9 both do, with any of these servers: what is sent names the API of version 8, which servers from
7.14 to 9 understand. (A client 9 by itself asks for version 9, and a server 8 refuses that with 400
media_type_header_exception.) The client's own retries stay off, for whether to send again is the caller's to decide.
"""

from __future__ import annotations

from typing import Any

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.urls import Url
from sparsevec.errors import BackendDown, BackendUnsupported, ClientMissing, InvalidInput

from .lucene.adapter import Answer, LuceneAdapter, retry_after, url_options

try:
    from elastic_transport import ApiError, TlsError, TransportError
    from elasticsearch import Elasticsearch, UnsupportedProductError
except ImportError as error:
    raise ClientMissing.extra("elasticsearch", "elasticsearch") from error

__all__ = ["ElasticsearchAdapter"]

_TIMEOUT = 90.0  # seconds; the server itself gives up a bulk request before that
_MEDIA_TYPE = "application/vnd.elasticsearch+{}; compatible-with=8"
_CREDENTIALS = (
    "api_key",
    "basic_auth",
    "bearer_auth",
    "ca_certs",
    "client_cert",
    "client_key",
    "cloud_id",
    "request_timeout",
    "ssl_assert_fingerprint",
    "ssl_context",
    "verify_certs",
)


class ElasticsearchAdapter(LuceneAdapter):
    """Sparse vectors in one field of one index of Elasticsearch."""

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> ElasticsearchAdapter:
        """`credentials` are the client's keyword arguments: api_key, basic_auth, ca_certs, cloud_id (no host), ..."""
        if url.variant not in ("", "https"):
            raise InvalidInput(f"expected elasticsearch:// or elasticsearch+https://, found +{url.variant}")
        if unknown := sorted(set(credentials) - set(_CREDENTIALS)):
            raise InvalidInput(f"expected some of {list(_CREDENTIALS)} as keyword arguments, found {unknown}")
        if bool(url.host) == ("cloud_id" in credentials):
            raise InvalidInput("expected a host in the url, or cloud_id= and none: elasticsearch:///INDEX?field=NAME")
        options = url_options(url)
        hosts = f"{url.variant or 'http'}://{url.host}:{url.port or 9200}" if url.host else None
        try:
            client = Elasticsearch(hosts, **{"request_timeout": _TIMEOUT, **credentials})
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the Elasticsearch client does not take these credentials: {error}") from error
        return cls(_ElasticWire(client, owned=True), url.path, **options)

    @classmethod
    def from_client(
        cls,
        client: Elasticsearch,
        *,
        index: str,
        field: str = "sparse",
        shards: int | None = None,
        replicas: int | None = None,
    ) -> ElasticsearchAdapter:
        """Around a client of the caller's, who goes on owning it."""
        if not isinstance(client, Elasticsearch):
            raise InvalidInput(f"expected an elasticsearch.Elasticsearch, found {type(client).__name__}")
        return cls(_ElasticWire(client, owned=False), index, field, shards=shards, replicas=replicas)


class _ElasticWire:
    engine = "elasticsearch"

    def __init__(self, client: Elasticsearch, *, owned: bool) -> None:
        self._client = client.options(max_retries=0, retry_on_timeout=False, retry_on_status=())
        self._owned = owned

    def send(self, method: str, target: str, body: bytes | None, kind: str) -> Answer:
        headers = {"accept": _MEDIA_TYPE.format("json")}
        if body is not None:
            headers["content-type"] = _MEDIA_TYPE.format(kind)
        try:
            answer = self._client.perform_request(method, target, headers=headers, body=body)
        except ApiError as error:
            return Answer(error.meta.status, error.body, retry_after(error.meta.headers))
        except UnsupportedProductError as error:
            raise BackendUnsupported(
                "the server is not Elasticsearch, or older than 7.14; for OpenSearch use opensearch://"
            ) from error
        except TlsError as error:
            raise BackendUnsupported(
                f"no trusted connection ({error}); pass ca_certs= or ssl_assert_fingerprint=, or use elasticsearch+https://"
            ) from error
        except TransportError as error:
            raise BackendDown(f"no answer from Elasticsearch: {error}") from error
        return Answer(answer.meta.status, answer.body)

    def close(self) -> None:
        if self._owned:
            self._client.close()


_contract: type[Adapter] = ElasticsearchAdapter
