"""What an adapter says in a forked child (C15)."""

from __future__ import annotations

import os
import select
import signal
import warnings
from collections.abc import Callable

__all__ = ["in_a_forked_child"]

_PATIENCE = 20.0  # seconds; a child that inherited a lock may wait for ever


def in_a_forked_child(call: Callable[[], object]) -> str:
    """What became of `call` in a child that was forked for it: `returned ...`, `AdapterClosed: ...` or `hangs`."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tried here
        child = os.fork()
    if child == 0:
        _tell(writing, call)
    os.close(writing)
    try:
        if not select.select([reading], [], [], _PATIENCE)[0]:
            os.kill(child, signal.SIGKILL)
            return "hangs"
        return os.read(reading, 1 << 16).decode()
    finally:
        os.close(reading)
        os.waitpid(child, 0)


def _tell(writing: int, call: Callable[[], object]) -> None:
    """In the child, which ends here, without what Python and pytest do at an exit."""
    try:
        said = f"returned {call()!r}"
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    os.write(writing, said.encode()[: 1 << 15])
    os._exit(0)
