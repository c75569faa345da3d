"""Checks of what a caller hands to `ingest` and `remove`, before anything is done."""

from __future__ import annotations

from inspect import iscoroutinefunction

from sparsevec.errors import InvalidInput

__all__ = ["check_adapter", "check_listener"]


def check_adapter(adapter: object, verb: str) -> None:
    """Raises InvalidInput for a url, a client, or an adapter for asyncio, in place of an adapter that has `verb`."""
    method = getattr(adapter, verb, None)
    if not callable(method) or not callable(getattr(adapter, "info", None)):
        raise InvalidInput(f"expected an adapter, found {type(adapter).__name__}; sparsevec.connect(url) makes one")
    if iscoroutinefunction(method):
        raise InvalidInput(
            f"expected an adapter for threads, found {type(adapter).__name__}, which is one for asyncio; connect(url) "
            "makes one for threads, and await asyncio.to_thread(...) runs this beside a loop"
        )


def check_listener(on_progress: object) -> None:
    """Raises InvalidInput unless it is None, or can be called."""
    if on_progress is not None and not callable(on_progress):
        raise InvalidInput(f"on_progress must be a function of one argument, found {on_progress!r:.80}")
