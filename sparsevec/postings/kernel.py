"""The compiled loop of a search, which the first index of a process asks for (`sparsevec.compiler`).

It adds the same products in the same order as numpy, which answers without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sparsevec.compiler import Loops

__all__ = ["compiled", "load"]

_LOOPS: Final = Loops("sparsevec.postings.loops")
load = _LOOPS.load


def compiled() -> Callable[..., None] | None:
    """`loops.search`; None while it is not compiled, or cannot be."""
    module = _LOOPS.get()
    return None if module is None else module.search
