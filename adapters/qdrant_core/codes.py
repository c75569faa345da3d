"""Residual codes as Qdrant holds them: beside our vector, a dense one of bytes (uint8) without a graph. Pure.

Measured on a server 1.18.3, 100 bytes a code, against a payload field in base64: a point's vectors are replaced by one
operation, whole or not at all, where payloads are set one operation a point (1,000 points replaced: 0.13 s against
1.55 s). What speaks against it: over REST a hit brings 6 characters a byte instead of 2. `benchmarks/results/
code_storage.md` has the figures, and `benchmarks/code_storage_qdrant.py` makes them.

An application sees the vector in the collection's settings; no search goes to it, so it has no graph and lies on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparsevec.contract.adapter import UInt8s
from sparsevec.contract.checks import gathered_codes

__all__ = ["PREFIX", "WITHOUT_A_GRAPH", "codes_from_wire", "vector_params"]

PREFIX = "_sparsevec_code_"  # of the names of such vectors
WITHOUT_A_GRAPH = {"hnsw_config": {"m": 0}, "on_disk": True}


def vector_params(code_bytes: int) -> dict[str, Any]:
    """The vector of a collection that is made with it."""
    return {"size": code_bytes, "distance": "Dot", "datatype": "uint8", **WITHOUT_A_GRAPH}


def codes_from_wire(
    vectors: Sequence[Mapping[str, Any]], ids: Sequence[object], name: str, width: int, *, strict: bool
) -> UInt8s:
    """The code of each point, (m, width), from its vectors by name. A point without one has zeros; `strict` raises
    CollectionError for it, since its rank would be wrong."""
    codes = (held.get(name) for held in vectors)
    found = (code if isinstance(code, list) and len(code) == width else None for code in codes)
    return gathered_codes(found, ids, width, strict=strict)
