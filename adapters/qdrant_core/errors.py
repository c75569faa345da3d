"""What a client of Qdrant raises, as errors of ours. Only the client's calls run inside `client_errors`, and only what
it is known to raise is translated, so that a bug of ours stays one."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sparsevec.errors import (
    AdapterClosed,
    AdapterError,
    BackendDown,
    BackendUnsupported,
    ClientMissing,
    CollectionError,
    OutOfLimits,
    SparsevecError,
    StorageFailed,
)

try:
    import grpc
    import httpx
    from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError as error:
    raise ClientMissing.extra("qdrant-client", "qdrant") from error

__all__ = ["IndexMissing", "PointMissing", "client_errors"]


class PointMissing(BackendDown):
    """A write named a point that is not there; the other points of its operation were written (404)."""

    def __init__(self, message: str, point: str) -> None:
        super().__init__(message)
        self.point = point


class IndexMissing(OutOfLimits):
    """Strict mode refused a filter: `path` has no payload index."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


@contextmanager
def client_errors(*, local: bool = False) -> Iterator[None]:
    """`local`: the client's local mode, which refuses with Python's own exceptions."""
    try:
        yield
    except ResourceExhaustedResponse as error:
        raise BackendDown(f"the server is overloaded: {error}", retry_after=error.retry_after_s, busy=True) from error
    except QdrantException as error:  # 429 with a Retry-After that is no number of seconds
        raise BackendDown(f"the server is overloaded: {error}", busy=True) from error
    except UnexpectedResponse as error:
        raise _by_response(error) from error
    except ResponseHandlingException as error:
        raise _by_transport(error.source) from error
    except json.JSONDecodeError as error:
        raise _by_transport(error) from error
    except grpc.RpcError as error:
        raise _by_code(error) from error
    except (RuntimeError, grpc.aio.UsageError) as error:
        if "closed" not in str(error) and not local:
            raise
        raise _closed(error) from error
    except (KeyError, ValueError, sqlite3.Error) as error:
        if "on closed channel" in str(error):  # gRPC
            raise _closed(error) from error
        if not local:
            raise
        raise _by_local(error) from error


def _closed(error: Exception) -> AdapterClosed:
    return AdapterClosed(f"qdrant-client refused: {error}; connect again")


def _by_local(error: Exception) -> SparsevecError:
    if isinstance(error, KeyError):
        return PointMissing(f"No point with id {error} found", str(error).strip("'"))
    said = f"qdrant-client in local mode refused: {error}"
    if "not found" in str(error) or "already exists" in str(error):
        return CollectionError(said)
    if isinstance(error, sqlite3.ProgrammingError):
        return BackendUnsupported(f"{said}; make the client with force_disable_check_same_thread=True")
    if isinstance(error, sqlite3.Error):
        return StorageFailed(f"{said}; what was reported as written is still there")
    return AdapterError(said)


def _by_response(error: UnexpectedResponse) -> SparsevecError:
    status = error.status_code or 0
    try:
        reason = str(json.loads(error.content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        if status == 404:
            return BackendUnsupported(
                f"404 came back, and not in Qdrant's words: {error.content[:80]!r}. Expected a Qdrant server; when it "
                "stands behind a path prefix, the url says so: qdrant://HOST:PORT/PREFIX/COLLECTION"
            )
        reason = f"{error.reason_phrase} {error.content[:200]!r}"
    return _by_status(status, reason, _seconds(error))


def _seconds(error: UnexpectedResponse) -> float | None:
    """Of Retry-After, when it is a number of them."""
    headers: Mapping[str, str] = error.headers or {}
    text = headers.get("retry-after", "") if error.status_code in (429, 503) else ""
    return float(text) if re.fullmatch(r"\d{1,6}", text) else None


def _by_status(status: int, reason: str, retry_after: float | None = None) -> SparsevecError:
    said = f"the server answered {status}: {reason}"
    if refused := _refusal(said):
        return refused
    if status in (408, 429, 500, 502, 503, 504):
        return BackendDown(said, retry_after=retry_after, busy=status in (429, 503))
    if status == 507:
        return StorageFailed(f"{said}; what was reported as written is still there")
    if status == 413:
        return OutOfLimits(said, splittable=True)
    if status in (401, 403):
        return BackendUnsupported(f"{said}; pass an api_key= that may do this")
    if status in (404, 409):
        return CollectionError(said)
    gone = "already exists" in reason or "Not existing vector name" in reason
    return CollectionError(said) if gone else AdapterError(said)


_MISSING = re.compile(r"No point with id (\S+)")
_UNINDEXED = re.compile(r'Index required but not found for "(.*?)"(?: of |\.|,|;|$)')


def _refusal(said: str) -> SparsevecError | None:
    """What only the words tell apart."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        advice = "pass verify=PATH of its CA file; over gRPC set GRPC_DEFAULT_SSL_ROOTS_FILE_PATH to it as well"
        return BackendUnsupported(f"the server's certificate is not trusted: {said}; {advice}")
    if found := _MISSING.search(said):
        return PointMissing(said, found[1])
    if found := _UNINDEXED.search(said):
        path = found[1].replace('"', "")
        return IndexMissing(
            f"{said}. The collection is in strict mode: make a payload index on {path!r} of the type of its values "
            "(create_payload_index of qdrant-client), or leave that field out of the filter",
            path,
        )
    if "No space left" in said or "available disk space" in said:
        return StorageFailed(f"{said}; what was reported as written is still there")
    if re.search("payload has exceeded limit|larger than max|Limit exceeded .* for .upsert", said, re.IGNORECASE):
        return OutOfLimits(said, splittable=True)
    return OutOfLimits(said) if "Limit exceeded" in said else None


def _by_transport(source: Exception) -> SparsevecError:
    if refused := _refusal(str(source)):
        return refused
    if isinstance(source, httpx.LocalProtocolError):  # its text repeats the header, which may be the key
        return AdapterError("the request could not be made: a header holds characters that HTTP does not allow")
    if isinstance(source, httpx.TransportError):
        return BackendDown(f"no answer from the server: {type(source).__name__} {source}")
    if isinstance(source, RuntimeError) and "closed" in str(source):
        return _closed(source)
    if isinstance(source, ValueError | httpx.DecodingError):  # not JSON, or not Qdrant's: it was lost on the way
        return BackendDown(f"the server's answer cannot be read: {source}")
    return AdapterError(f"the request could not be made: {source}")


_GRPC_STATUS = {
    "CANCELLED": 408,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 408,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "ABORTED": 503,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


def _by_code(error: grpc.RpcError) -> SparsevecError:
    """A gRPC status as the HTTP status that says the same."""
    code = error.code().name
    return _by_status(_GRPC_STATUS.get(code, 400), f"{code} {error.details()}")
