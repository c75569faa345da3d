"""The exact engine to serve from: `engine` keeps documents, `lists` finds them, `loops` is compiled."""

from sparsevec.exact.local.engine import LocalEngine
from sparsevec.exact.local.lists import BLOCK, BlockLists

__all__ = ["BLOCK", "BlockLists", "LocalEngine"]
