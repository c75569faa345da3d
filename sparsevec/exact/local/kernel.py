"""Where the compiled loop comes from, without anybody waiting for it.

The first index of a process starts a thread that imports numba and compiles `loops`, or finds in numba's cache what an
earlier process compiled. Until then numpy answers, and for good where numba is not installed, does not work or is told
not to compile (NUMBA_DISABLE_JIT): the loop is no use as Python. Both add the same products in the same order, so
nobody can tell from an answer which of them gave it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

__all__ = ["compiled", "load"]

_log = logging.getLogger(__name__)
_starting = threading.Lock()
_thread: threading.Thread | None = None
_search: Callable[..., None] | None = None


def compiled() -> Callable[..., None] | None:
    """`loops.search`; None while it is not compiled, or cannot be."""
    return _search


def load(*, wait: bool = False) -> None:
    """Start to compile, once in a process; with `wait`, return when that has ended one way or the other."""
    global _thread
    with _starting:
        if _thread is None:
            _thread = threading.Thread(target=_load, name="sparsevec-compiles")
            _thread.start()
    if wait:
        _thread.join()


def _load() -> None:
    global _search
    try:
        from sparsevec.exact.local.loops import COMPILED, search
    except Exception as error:  # not installed, or whatever a compiler can run into: numpy answers the same
        _log.info("searches go without numba: %s: %s", type(error).__name__, error)
        return
    _search = search if COMPILED else None


def _settle() -> None:
    if _thread is not None:
        _thread.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_settle)  # the child of a fork amid an import would find its locks shut for good
