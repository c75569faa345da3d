"""`LocalEngine`: the reference's documents and the reference's scores, bit for bit, from a compiled loop.

Without numba (`pip install 'sparsevec[fast]'`), and until it has compiled, numpy scores: the same bits, later.
"""

from __future__ import annotations

import numpy as np

from sparsevec.contract.adapter import Adapter
from sparsevec.exact.local.lists import BlockLists
from sparsevec.exact.reference import Reference

__all__ = ["LocalEngine"]


class LocalEngine(Reference):
    """The exact engine behind `local:` (in memory) and `local:PATH` (a file like the reference's)."""

    _make_lists = BlockLists
    _engine = "local"

    @property
    def _name(self) -> str:
        return f"local engine (numpy {np.__version__})"


_contract: type[Adapter] = LocalEngine
