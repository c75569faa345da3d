"""`opensearch://HOST:PORT/INDEX?field=NAME`: sparse vectors in an index of OpenSearch, as `rank_features`."""

from __future__ import annotations

from typing import Any

import orjson

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.urls import Url
from sparsevec.errors import BackendDown, BackendUnsupported, ClientMissing, InvalidInput

from .lucene.adapter import Answer, LuceneAdapter, retry_after, url_options

try:
    from opensearchpy import OpenSearch
    from opensearchpy.exceptions import ConnectionError as OpenSearchConnectionError
    from opensearchpy.exceptions import SSLError
except ImportError as error:
    raise ClientMissing.extra("opensearch-py", "opensearch") from error

__all__ = ["OpenSearchAdapter"]

_TIMEOUT = 90.0  # seconds; the server itself gives up a bulk request before that
_CREDENTIALS = (
    "ca_certs",
    "client_cert",
    "client_key",
    "http_auth",
    "ssl_assert_fingerprint",
    "ssl_context",
    "timeout",
    "verify_certs",
)


class OpenSearchAdapter(LuceneAdapter):
    """Sparse vectors in one field of one index of OpenSearch."""

    @classmethod
    def connect(cls, url: Url, **credentials: Any) -> OpenSearchAdapter:
        """`credentials` are the client's keyword arguments: basic_auth (or http_auth), ca_certs, client_cert, ..."""
        if url.variant not in ("", "https") or not url.host:
            raise InvalidInput("expected opensearch://HOST:PORT/INDEX or opensearch+https://HOST:PORT/INDEX")
        if "basic_auth" in credentials:  # as the other adapters call it
            credentials["http_auth"] = credentials.pop("basic_auth")
        if unknown := sorted(set(credentials) - set(_CREDENTIALS)):
            raise InvalidInput(
                f"expected some of {['basic_auth', *_CREDENTIALS]} as keyword arguments, found {unknown}"
            )
        options = url_options(url)
        host = {"host": url.host, "port": url.port or 9200, "scheme": url.variant or "http"}
        client = OpenSearch([host], **{"timeout": _TIMEOUT, "max_retries": 0, "retry_on_status": (), **credentials})
        return cls(_OpenSearchWire(client, owned=True), url.path, **options)

    @classmethod
    def from_client(
        cls,
        client: OpenSearch,
        *,
        index: str,
        field: str = "sparse",
        shards: int | None = None,
        replicas: int | None = None,
    ) -> OpenSearchAdapter:
        """Around a client of the caller's, who goes on owning it. Its retries do no harm: every write has its id."""
        if not isinstance(client, OpenSearch):
            raise InvalidInput(f"expected an opensearchpy.OpenSearch, found {type(client).__name__}")
        return cls(_OpenSearchWire(client, owned=False), index, field, shards=shards, replicas=replicas)


class _OpenSearchWire:
    engine = "opensearch"

    def __init__(self, client: OpenSearch, *, owned: bool) -> None:
        self._client = client
        self._owned = owned

    def send(self, method: str, target: str, body: bytes | None, kind: str) -> Answer:
        """By a connection of the client, not by its transport, which hides the headers of an error: Retry-After."""
        headers = {"content-type": f"application/{kind}"} if body is not None else {}
        try:
            connection = self._client.transport.get_connection()
            status, found, text = connection.perform_request(
                method, target, body=body, headers=headers, ignore=range(300, 600)
            )
        except SSLError as error:
            raise BackendUnsupported(
                f"no trusted connection ({error}); pass ca_certs=, or use opensearch+https://"
            ) from error
        except OpenSearchConnectionError as error:
            raise BackendDown(f"no answer from OpenSearch: {error}") from error
        return Answer(status, _read(status, text), retry_after(found))

    def close(self) -> None:
        if self._owned:
            self._client.close()


def _read(status: int, text: str) -> Any:
    """JSON, or the text of an error that something on the way made."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if status < 300:
            raise BackendDown(f"no whole answer from OpenSearch: {error}") from error
        return text


_contract: type[Adapter] = OpenSearchAdapter
