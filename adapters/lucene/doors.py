"""What the four doors share: options of a url, hosts, and what went wrong on the way to a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sparsevec.contract.urls import Url
from sparsevec.errors import AdapterClosed, AdapterError, BackendDown, BackendUnsupported, InvalidInput

__all__ = ["hosts_of", "lost", "never_connected", "place", "url_options"]

_UNREACHED = {  # by name, for the clients choose among several HTTP libraries
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ConnectTimeout",
    "ConnectError",
    "ConnectionRefusedError",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "gaierror",
}


def url_options(url: Url) -> dict[str, Any]:
    """`field`, `shards`, `replicas`, `refresh` and `favour` of a url."""
    url.expect_options("field", "shards", "replicas", "refresh", "favour")
    try:
        return {name: int(value) if name in ("shards", "replicas") else value for name, value in url.options.items()}
    except ValueError:
        raise InvalidInput(
            f"shards and replicas of the {url.engine} url must be ints, found {dict(url.options)}"
        ) from None


def hosts_of(url: Url, default_port: int = 9200) -> list[dict[str, Any]]:
    """The hosts of a url, each with its port."""
    scheme = url.variant or "http"
    return [{"host": host, "port": port or default_port, "scheme": scheme} for host, port in url.hosts]


def place(url_engine: str, hosts: Sequence[Mapping[str, Any]], index: str, field: str) -> str:
    """The collection in messages."""
    where = ",".join(f"{host['host']}:{host['port']}" for host in hosts)
    return f"{url_engine} index {index!r}{f' at {where}' if where else ''}, field {field!r}"


def lost(engine: str, error: BaseException, *, tls: bool) -> AdapterError:
    """What it means that no whole answer came."""
    found = str(getattr(error, "message", "") or error)
    if any(type(cause) is RuntimeError or type(cause).__name__ == "ClosedPoolError" for cause in _causes(error, 6)):
        return AdapterClosed(
            f"the client of {engine} was closed, or lives in another event loop, that of its first request ({found}); "
            "connect again, once in each loop"
        )
    if not tls:
        return BackendDown(f"no answer from {engine}: {found}")
    said = found.lower()
    if "mismatch" in said or "doesn't match" in said or "not valid for" in said:
        why = "the certificate is for another name than the url's host; use a name that stands in it"
    elif "self-signed" in said or "self signed" in said or "local issuer" in said or "unknown ca" in said:
        why = "its authority is not trusted here; pass the certificate of the authority as ca_certs="
    elif "fingerprint" in said:
        why = "the certificate is not the one that ssl_assert_fingerprint= names"
    elif "expired" in said:
        why = "the certificate has expired; renew it on the server"
    elif "wrong_version_number" in said or "wrong version number" in said or "record layer" in said:
        why = f"the server speaks no TLS on that port; use {engine.lower()}:// instead of {engine.lower()}+https://"
    else:
        why = "pass ca_certs= or ssl_assert_fingerprint=, or check the server's certificate"
    return BackendUnsupported(f"no trusted connection to {engine}: {why} ({found:.300})")


def never_connected(error: BaseException) -> bool:
    """Whether nothing of a request can have been seen by the server, so that another host may be asked."""
    return any(type(cause).__name__ in _UNREACHED for cause in _causes(error, 6))


def _causes(error: object, depth: int) -> Iterator[object]:
    if not isinstance(error, BaseException) or depth == 0:
        return
    yield error
    around = error.__cause__, error.__context__, getattr(error, "reason", None)
    for cause in (*around, *error.args, *getattr(error, "errors", ())):
        yield from _causes(cause, depth - 1)
