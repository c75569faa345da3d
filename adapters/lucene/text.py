"""Rows of weights as JSON, straight from the arrays: `{"5":0.3,"7":1.5}`.

Numbers are written by orjson, a whole array at once: a float32 in the fewest decimals that read back as the same
float32. What is left is to put keys and values in turn. Plain Python does it a string per weight; where numba is
installed a compiled loop does it byte by byte, the same bytes. It is compiled beside the run, while plain Python goes
on, and from then on kept in numba's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from sparsevec.compiler import Loops
from sparsevec.vectors import SparseVector, SparseVectors

__all__ = ["LOOPS", "numbers", "row_to_json", "to_json"]

Assemble: TypeAlias = Callable[..., None]

_PAD = 16  # bytes that the loop copies at once, whatever a number needs

LOOPS: Final = Loops("sparsevec_adapters.lucene.loops", worth=1_000_000)
"""of weights: compiling takes a second or two, which fewer would never give back"""


def row_to_json(row: SparseVector) -> bytes:
    """One row as a JSON object."""
    return b"{%b}" % b",".join([b'"%b":%b' % p for p in zip(numbers(row.indices), numbers(row.values), strict=True)])


def numbers(array: npt.NDArray[Any]) -> list[bytes]:
    """Each number of an array as JSON."""
    return _text(array)[1:-1].split(b",") if len(array) else []


def _text(array: npt.NDArray[Any]) -> bytes:
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(vectors: SparseVectors) -> list[bytes]:
    """Keys come with the punctuation around them, so a row is one join of its keys and values in turn."""
    if not vectors.nnz:
        return [b"{}"] * len(vectors)
    keys = b',"%b":' % _text(vectors.indices)[1:-1].replace(b",", b'":\n,"')
    parts: list[bytes] = [b""] * (2 * vectors.nnz)
    parts[0::2], parts[1::2] = keys.split(b"\n"), numbers(vectors.values)
    ends = (2 * vectors.indptr.astype(np.int64)).tolist()
    return [b"{%b}" % b"".join(parts[start:end])[1:] for start, end in pairwise(ends)]


def _assembled(vectors: SparseVectors, assemble: Assemble) -> list[bytes]:
    text = np.frombuffer(_text(vectors.values) + bytes(_PAD), np.uint8)
    ends = np.flatnonzero((text == ord(",")) | (text == ord("]")))  # of each value
    out = np.empty(len(text) + vectors.nnz * 14 + 2 * len(vectors) + _PAD, np.uint8)
    starts = np.empty(len(vectors) + 1, np.int64)
    assemble(text, ends, vectors.indptr.astype(np.int64), vectors.indices.view(np.uint32), out, starts)
    bounds = starts.tolist()
    whole = out[: bounds[-1]].tobytes()
    return [whole[start:end] for start, end in pairwise(bounds)]


def to_json(vectors: SparseVectors) -> list[bytes]:
    """Each row as a JSON object, its indices as names."""
    loops = LOOPS.get(vectors.nnz)
    return _plain(vectors) if loops is None else _assembled(vectors, loops.assemble)
