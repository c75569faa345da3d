"""Errors of the server as errors of ours: of a whole answer, and of one document of a bulk request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sparsevec.contract.adapter import Failure
from sparsevec.errors import AdapterError, BackendDown, BackendUnsupported, CollectionError, OutOfLimits

__all__ = ["error_type", "failure", "read_error", "says", "to_error"]

Json = Mapping[str, Any]

_BUSY = {408, 409, 429, 502, 503, 504}
_PASSING = re.compile(  # causes of a 500 that pass: a full disk, a shard that moves, a slow master
    r"i_?o_exception|timeout|timed_out|closed|unavailable|disconnected|rejected|circuit|translog|interrupted|no_shard"
    r"|not_master|no_longer_primary|retry_on",
    re.IGNORECASE,
)


def error_type(item: Json) -> str | None:
    """Of the error of an action of a bulk request; None where it has none."""
    error = item.get("error")
    return error.get("type") if isinstance(error, dict) else None


def read_error(answer: Any) -> tuple[str, str]:
    """The type and the reason of an error, with the cause that the server found."""
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if not isinstance(error, Mapping):
        return "error", f"{error or answer}"[:300]
    cause = error.get("caused_by") or next(iter(error.get("root_cause") or [{}]))
    reason, because = f"{error.get('reason')}", f"{cause.get('reason') or ''}"
    return f"{error.get('type')}", reason if not because or because in reason else f"{reason}: {because}"


def says(answer: Any, text: str) -> bool:
    """Whether an error, or one of its causes, is of a type or has a reason that holds `text`."""
    return any(text in f"{cause.get('type')} {cause.get('reason')}" for cause in _causes(answer))


def _causes(answer: Any) -> Iterator[Json]:
    error = answer.get("error") if isinstance(answer, dict) else None
    while isinstance(error, dict):
        yield error
        yield from (cause for cause in error.get("root_cause") or () if isinstance(cause, Mapping))
        error = error.get("caused_by")


def failure(item: Json, *, guarded: bool = False) -> Failure | None:
    """Why an action of a bulk request did not take effect, or None. `guarded`: it was sent with a version."""
    status = item["status"]
    if status < 300:
        dropped = item.get("result") == "noop" and item.get("_seq_no", -2) < 0  # an update that changes nothing has one
        return Failure("an ingest pipeline of the index dropped it") if dropped else None
    kind, reason = read_error(item)
    said = f"{kind}: {reason}"
    if status == 409 and guarded:
        return Failure(f"it changed since that version ({said})", kind="stale")
    if status == 404 and kind == "document_missing_exception":
        return Failure("it is not there", kind="missing")
    if kind == "routing_missing_exception":
        return Failure(
            "it is not there, and the index demands a routing of new documents: pass routing=", kind="missing"
        )
    return Failure(said, status in _BUSY or (status >= 500 and _passes(item)))


def _passes(item: Json) -> bool:
    texts = [f"{cause.get('type')} {cause.get('reason')}".replace("timed out", "timeout") for cause in _causes(item)]
    return any(map(_PASSING.search, texts))


def to_error(status: int, answer: Any, retry_after: float | None = None) -> AdapterError:
    """Our error for an answer of that HTTP status."""
    kind, reason = read_error(answer)
    said = f"{kind}: {reason}"
    if status == 413:
        return OutOfLimits(f"the request was too large ({said}); send fewer documents at once", splittable=True)
    if kind == "cluster_block_exception" and status in (403, 429):
        first = "free disk space, then " if "disk" in reason else ""
        return CollectionError(f"{reason} {first}lift the block with PUT INDEX/_settings")
    if status in (408, 429) or status >= 500:
        busy = status in (429, 503)
        return BackendDown(f"the backend answered {status} ({said})", retry_after=retry_after, busy=busy)
    if status == 401:
        return BackendUnsupported(
            f"the credentials are missing or wrong ({said}); pass api_key=, basic_auth= or bearer_auth="
        )
    if status == 403:
        return BackendUnsupported(f"the credentials lack a privilege ({said})")
    if kind == "index_not_found_exception":
        return CollectionError(f"the index is not there ({reason}); create(dimension) makes it")
    if kind == "index_closed_exception":
        return CollectionError(f"{said}; open the index with POST INDEX/_open")
    if kind == "resource_already_exists_exception":
        return CollectionError(said)
    if kind == "media_type_header_exception":
        return BackendUnsupported(
            f"the server does not speak the API of Elasticsearch 8, which versions 7.14 to 9 do ({reason}); "
            f"a newer sparsevec may"
        )
    return BackendUnsupported(f"the backend answered {status} ({said})")
