"""One request to an engine that tests run on, and the wait until it answers; adapters have their own ways."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

__all__ = ["ask", "until"]


def ask(
    host: str,
    port: int,
    path: str,
    body: Any = None,
    *,
    method: str = "GET",
    secure: bool = False,
    timeout: float = 10,
    accepted: tuple[int, ...] = (200, 201),
) -> Any:
    """The body of the answer, read as JSON when it is; `body` is sent as JSON.

    Raises OSError, or HTTPException for an answer that is not `accepted`.
    """
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    with closing(kind(host, port, timeout=timeout)) as connection:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {} if sent is None else {"content-type": "application/json"})
        answer = connection.getresponse()
        found = answer.read()
    if answer.status not in accepted:
        raise http.client.HTTPException(f"{method} {path} answered {answer.status} {answer.reason}: {found[:300]!r}")
    return json.loads(found) if "json" in answer.getheader("content-type", "") else found


def until(answered: Callable[[], object], patience: float, given_up: Callable[[], Exception | None]) -> None:
    """Ask again until `answered` raises no more.

    Raises what `given_up` returns, asked between two tries; after `patience` seconds, TimeoutError.
    """
    end = time.monotonic() + patience
    while True:
        with suppress(OSError, http.client.HTTPException):
            answered()
            return
        if (error := given_up()) is not None:
            raise error
        if time.monotonic() > end:
            raise TimeoutError(f"no answer in {patience:.0f} s")
        time.sleep(0.1)
