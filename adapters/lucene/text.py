"""Rows of weights as JSON, straight from the arrays: `{"5":0.3,"7":1.5}`.

Numbers are written by orjson, a whole array at once: a float32 in the fewest decimals that read back as the same
float32. What is left is to put keys and values in turn. Plain Python does it a string per weight; where numba is
installed a compiled loop does it byte by byte, the same bytes. It is compiled beside the run, while plain Python goes
on, and from then on kept in numba's cache.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from sparsevec.vectors import SparseVector, SparseVectors

__all__ = ["Compiled", "numbers", "row_to_json", "to_json"]

Assemble: TypeAlias = Callable[..., None]
Bytes: TypeAlias = npt.NDArray[np.uint8]

_WORTH = 50_000  # weights of a batch; compiling takes a second or two, which fewer would never give back
_PAD = 16  # bytes that are copied at once, whatever a number needs

_log = logging.getLogger(__name__)


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
    assemble(text, ends, vectors.indptr, vectors.indices, out, starts)
    bounds = starts.tolist()
    whole = out[: bounds[-1]].tobytes()
    return [whole[start:end] for start, end in pairwise(bounds)]


def _assemble(text: Bytes, ends: Any, indptr: Any, indices: Any, out: Bytes, starts: Any) -> None:
    """Write each row to `out`, and where it starts to `starts` (n + 1,). Written to be compiled."""
    at, begin = 0, 1  # in `out`, and of the next value in `text`
    for row in range(len(indptr) - 1):
        starts[row] = at
        out[at] = 123  # {
        at += 1
        for k in range(indptr[row], indptr[row + 1]):
            if k > indptr[row]:
                out[at] = 44  # ,
                at += 1
            left = np.uint32(indices[k])
            digits, power = 1, np.uint64(10)
            while left >= power:
                power *= np.uint64(10)
                digits += 1
            out[at] = 34  # "
            for place in range(digits, 0, -1):
                tenth = left // np.uint32(10)
                out[at + place] = np.uint8(48) + np.uint8(left - tenth * np.uint32(10))
                left = tenth
            at += digits + 1
            out[at], out[at + 1] = 34, 58  # ":
            at += 2
            length = ends[k] - begin
            for place in range(16):  # a number of known length is copied at once
                out[at + place] = text[begin + place]
            for place in range(16, length):
                out[at + place] = text[begin + place]
            at += length
            begin = ends[k] + 1
        out[at] = 125  # }
        at += 1
    starts[len(indptr) - 1] = at


class Compiled:
    """`_assemble` by numba, once it is there: None before that, and where there is no numba."""

    def __init__(self) -> None:
        self._assemble: Assemble | None = None
        self._begun = threading.Lock()

    def get(self, weights: int) -> Assemble | None:
        """For a batch of so many weights, the first large one of which starts the compiler."""
        if self._assemble is None and weights >= _WORTH and self._begun.acquire(blocking=False):
            threading.Thread(target=self.make, name="sparsevec-compile").start()
        return self._assemble

    def make(self) -> None:
        try:
            self._assemble = _jitted()
        except Exception as error:  # whatever a compiler can run into, plain Python says the same
            _log.info("rows are written without numba: %s: %s", type(error).__name__, error)


def _jitted() -> Assemble:
    import numba  # half a second, for which nobody waits

    try:
        compiled: Assemble = numba.njit(cache=True, nogil=True)(_assemble)
    except RuntimeError:  # numba found no folder for its cache that it may write to
        compiled = numba.njit(nogil=True)(_assemble)
    for dimension in (2, 2**32):  # indices are int32 up to 2**31 dimensions, uint32 beyond
        _assembled(SparseVectors([0, 1], [1], [1.0], dimension), compiled)
    return compiled


_COMPILED = Compiled()


def to_json(vectors: SparseVectors, compiled: Compiled = _COMPILED) -> list[bytes]:
    """Each row as a JSON object, its indices as names."""
    assemble = compiled.get(vectors.nnz)
    return _plain(vectors) if assemble is None else _assembled(vectors, assemble)
