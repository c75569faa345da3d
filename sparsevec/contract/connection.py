"""`Connection`: what every adapter knows of itself, closed and forked ones among them (C15)."""

from __future__ import annotations

import os
from typing import Any

from sparsevec.errors import AdapterClosed, InvalidInput

__all__ = ["Connection"]


class Connection:
    """What every adapter knows of itself: where it came from, whether it was closed, and whose process it is in.

    What it opened belongs to the process that opened it: in a forked child every call raises AdapterClosed, and `close`
    lets go of nothing, for the parent still uses it.
    """

    def __init__(self, place: str, origin: str | None = None) -> None:
        """`place` names the collection in messages; `origin` is the url that opens it again, without secrets."""
        self._place, self._origin = place, origin
        self._closed, self._process = False, os.getpid()

    def check_open(self) -> None:
        """Raises AdapterClosed after `close`, and in a forked child (C15)."""
        if self._closed:
            raise AdapterClosed(f"this adapter of {self._place} was closed; connect again")
        if self._process != os.getpid():
            raise AdapterClosed(
                f"this adapter of {self._place} was connected in process {self._process} and is now in its forked "
                f"child {os.getpid()}, where its connections and locks cannot be used; connect again in the child"
            )

    def _close_once(self) -> bool:
        """Closed from now on; whether there is something of this process to let go of."""
        first, self._closed = not self._closed, True
        return first and self._process == os.getpid()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._place}{' (closed)' if self._closed else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """By pickle or copy: connected anew from its url."""
        if self._origin is None:
            raise InvalidInput(
                f"{self!r} cannot be copied or sent to another process: it was made with credentials, or around a "
                "client or memory of its own; send the url, and connect there"
            )
        return type(self)._again, (self._origin,)

    @classmethod
    def _again(cls, origin: str) -> Any:
        raise NotImplementedError
