"""What goes over the wire: a `Request`, and the server's `Answer` to it. The doors send them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from json import loads
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from sparsevec.contract.operations import Operation
from sparsevec.errors import BackendDown

from .errors import to_error

__all__ = ["Answer", "Request", "ask", "good", "json", "parsed", "path_of", "retry_after"]

_SHAPE = bytes.maketrans(b"123456789[,:-\n\r\t", b"000000000       ")
_LONG = b" " + b"0" * 19  # how an integer begins that 64 bits may not hold


@dataclass(frozen=True, slots=True)
class Request:
    """One request, to a path with its parameters. `kind` of a body: json or x-ndjson."""

    method: str
    target: str
    body: bytes | None = None
    kind: str = "json"

    def __str__(self) -> str:
        """For logs: neither parameters nor documents."""
        return f"{self.method} {self.target.partition('?')[0]}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of the server, whatever its status; `body` is read JSON."""

    status: int
    body: Any
    retry_after: float | None = None


def ask(
    method: str,
    path: str,
    params: Mapping[str, str] | None = None,
    body: bytes | None = None,
    kind: str = "json",
) -> Operation[Answer]:
    """One request and its answer, of any status."""
    answer: Answer = yield Request(method, f"{path}?{urlencode(params)}" if params else path, body, kind)
    return answer


def json(method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None) -> Operation[Any]:
    """The JSON object that answers a request. Raises what the status stands for."""
    answer = yield from ask(method, path, params, None if body is None else orjson.dumps(body))
    return good(answer)


def good(answer: Answer) -> Any:
    """The JSON object of an answer. Raises what the status stands for."""
    if answer.status >= 300:
        raise to_error(answer.status, answer.body, answer.retry_after)
    if not isinstance(answer.body, Mapping):
        raise BackendDown(f"the answer is not a JSON object: {answer.body!r:.100}")
    return answer.body


def parsed(text: bytes) -> Any:
    """JSON, read by orjson, five times as fast as by Python's own reader; which is asked where orjson would round an
    integer beyond 64 bits, for a document of others may be written again as it was read, or refuses half a surrogate.

    Raises ValueError.
    """
    try:
        if _LONG not in text.translate(_SHAPE):
            return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    return loads(text)


def path_of(index: str, *actions: str) -> str:
    return "/" + "/".join([quote(index, safe=""), *actions])


def retry_after(headers: Iterable[tuple[str, str]]) -> float | None:
    """The seconds that a server asked us to wait."""
    seconds = next((value for name, value in headers if name.lower() == "retry-after"), "")
    return float(seconds) if seconds.isdecimal() else None
