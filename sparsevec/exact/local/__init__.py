"""The exact engine to serve from: `engine` keeps documents in `segments`, whose posting lists are `postings.blocks`."""

from sparsevec.exact.local.engine import LocalEngine

__all__ = ["LocalEngine"]
