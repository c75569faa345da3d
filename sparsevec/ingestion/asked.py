"""A check of what a caller hands to `ingest` and `remove`, before anything is done."""

from __future__ import annotations

from sparsevec.errors import InvalidInput

__all__ = ["check_listener"]


def check_listener(on_progress: object) -> None:
    """Raises InvalidInput unless it is None, or can be called."""
    if on_progress is not None and not callable(on_progress):
        raise InvalidInput(f"on_progress must be a function of one argument, found {on_progress!r:.80}")
