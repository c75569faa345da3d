"""Loops that numba compiles, without any answer waiting for it.

A thread imports a module of loops, which compiles them, or finds in numba's cache what an earlier process compiled.
Until then numpy answers, and for good where numba is not installed, does not work or is told not to compile
(NUMBA_DISABLE_JIT): loops are no use as Python. Whoever has both makes them give the same bits, so that nobody can tell
from an answer which of them gave it. Learning alone waits, seconds of minutes, and goes on as it began.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

__all__ = ["Loops", "compiled", "given"]

_F = TypeVar("_F", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


class Loops:
    """A module of loops, there once they are compiled. `worth`: so many uses of a process are worth the thread; with
    0 it is started by `load` alone."""

    def __init__(self, module: str, worth: int = 1) -> None:
        self._name, self._left = module, worth
        self._module: Any = None
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        if hasattr(os, "register_at_fork"):  # the child of a fork amid an import would find its locks shut for good
            os.register_at_fork(before=self._settle)

    def get(self, uses: int = 1) -> Any | None:
        """The module; None while its loops are not compiled, or cannot be. The last of `worth` uses loads it."""
        if self._left > 0:
            self._left -= uses
            if self._left <= 0:
                self.load()
        return self._module

    def load(self, *, wait: bool = False) -> None:
        """Start to compile, once in a process; with `wait`, return when that has ended one way or the other."""
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._load, name="sparsevec-compiles")
                try:
                    thread.start()
                except RuntimeError as error:  # at the end of a process, or where there are no threads
                    _log.info("%s goes without numba: %s", self._name, error)
                    return
                self._thread = thread
        if wait:
            self._thread.join()

    def _load(self) -> None:
        try:
            import numba

            module = import_module(self._name)
        except Exception as error:  # not installed, or whatever a compiler can run into: numpy answers the same
            _log.info("%s goes without numba: %s: %s", self._name, type(error).__name__, error)
            return
        self._module = None if numba.config.DISABLE_JIT else module  # type: ignore[attr-defined]

    def _settle(self) -> None:
        if self._thread is not None:
            self._thread.join()


def compiled(signature: Any, *, any_order: bool = False) -> Callable[[_F], _F]:
    """A function compiled for that signature, now; numba's cache is used where it can be.

    `any_order`: its sums are exact whatever their order, and may be added as is fastest.
    """
    import numba

    njit: Any = numba.njit
    options = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"} if any_order else False}

    def compile_now(function: _F) -> _F:
        try:
            found: _F = njit(signature, cache=True, **options)(function)
        except (
            Exception
        ) as error:  # no folder that can be written, a full disk, a garbled cache: numba raises all sorts
            _log.info("numba's cache is of no use here: %s", error)
            found = njit(signature, **options)(function)
        return found

    return compile_now


def given(dtype: Any, dimensions: int = 1) -> Any:
    """The type of an array that a loop reads, in C order."""
    import numba

    return numba.types.Array(dtype, dimensions, "C", readonly=True)
