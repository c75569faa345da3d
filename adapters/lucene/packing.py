"""`Packing`: the weights of a document in some 3 bytes each, beside its residual code, as FeatureField keeps them.

A hit that is re-ranked by its residual code must bring its weights too, and the engines have these in `_source` or in
term vectors: 20 ms and more for 200 hits, where a doc value costs 2 (`benchmarks/code_storage.py`). One record of
fixed width holds them to the bit:

    16 bits               the largest weight: its sign, exponent and 8 bits of mantissa, all that FeatureField keeps
    highs                 the dimensions over 2**low, in unary: the i-th is the one at its value + i (Elias-Fano)
    weights x low bits    the rest of each dimension
    weights x bits        each weight, as so many steps of the last bit below the largest

A document with more weights than that, or weaker ones, has none; it is read the dear way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from sparsevec.contract.adapter import UInt8s
from sparsevec.errors import InvalidVectors
from sparsevec.vectors import Float32s, Int64s, SparseVectors

from .text import LOOPS

__all__ = ["Packing"]

_Read: TypeAlias = tuple[Int64s, Int64s, Float32s]
"""indptr, indices and values, not looked at yet"""

_TOP = 16  # bits
_WORD = 8  # bytes
_MANY = 64  # documents that show how long the others will be
_BLOCK = 4096  # documents at a time
_INT32 = 2**31  # the largest dimension whose indices it holds


@dataclass(frozen=True, slots=True)
class Packing:
    """Of documents with at most so many `weights`, the least of them within `2**bits` steps of the largest."""

    dimension: int
    weights: int
    bits: int

    @classmethod
    def fitting(cls, vectors: SparseVectors) -> Self:
        """For a collection that begins with these; few of them say little of the others, so that there is room."""
        longest, widest = int(vectors.row_nnz.max(initial=1)), int(_below(vectors)[1].max(initial=1))
        few = len(vectors) < _MANY
        most = min(longest + (longest // 2 if few else 0), vectors.dimension)
        return cls(vectors.dimension, most, min(widest.bit_length() + few, _TOP))

    @property
    def width(self) -> int:
        """Bytes."""
        return -(-(_TOP + self._highs + self.weights * (self._low + self.bits)) // 8)

    @property
    def _low(self) -> int:
        return (self.dimension // self.weights).bit_length() - 1

    @property
    def _highs(self) -> int:
        return ((self.dimension - 1) >> self._low) + self.weights

    def packed(self, vectors: SparseVectors) -> tuple[UInt8s, npt.NDArray[np.bool_]]:
        """Of (n, dimension) the records (n, width), and which of them hold their document, (n,)."""
        records, held = np.zeros((len(vectors), self.width), np.uint8), np.empty(len(vectors), bool)
        for start in range(0, len(vectors), _BLOCK):
            block = slice(start, start + _BLOCK)
            held[block] = self._fill(records[block], vectors[block])
        return records, held

    def _fill(self, records: UInt8s, vectors: SparseVectors) -> npt.NDArray[np.bool_]:
        top, below = _below(vectors)
        rows = np.repeat(np.arange(len(vectors)), vectors.row_nnz)
        place = np.arange(vectors.nnz) - vectors.indptr[:-1].astype(np.int64)[rows]
        held = (vectors.row_nnz <= self.weights) & (top >= 0)
        np.logical_and.at(held, rows, below < 1 << self.bits)
        kept = held[rows]
        rows, place, below, at = rows[kept], place[kept], below[kept], vectors.indices[kept].astype(np.int64)
        bits = np.zeros((len(vectors), 8 * self.width), np.uint8)
        bits[:, :_TOP] = _spread(np.where(held, top, 0), _TOP)
        bits[rows, _TOP + (at >> self._low) + place] = 1
        lows, steps = self._parts(bits)
        lows[rows, place] = _spread(at, self._low)
        steps[rows, place] = _spread(below, self.bits)
        records[:] = np.packbits(bits, axis=1)
        return held

    def unpacked(self, records: UInt8s) -> SparseVectors | None:
        """The vectors (m, dimension) of records (m, width) that hold their document; None where one is no record."""
        loops = LOOPS.get(len(records) * self.weights) if self.dimension <= _INT32 else None
        if loops is not None:
            return self._read_by(loops.unpack, records)
        read = self._read(records)
        try:
            return None if read is None else SparseVectors(*read, self.dimension)
        except InvalidVectors:
            return None

    def _read_by(self, unpack: Callable[..., bool], records: UInt8s) -> SparseVectors | None:
        room, middle = len(records) * self.weights, _TOP + self._highs
        indptr, indices = np.zeros(len(records) + 1, np.int32), np.empty(room, np.int32)
        values = np.empty(room, np.float32)
        given = records, self.dimension, self.weights, self._low, self.bits, middle
        if not unpack(*given, indptr, indices, values.view(np.uint32)):
            return None
        return SparseVectors._made(indptr, indices[: indptr[-1]], values[: indptr[-1]], self.dimension, None)

    def _read(self, records: UInt8s) -> _Read | None:
        words, start = _Words(records), _TOP + self._highs
        bits = np.unpackbits(records, axis=1, count=start)
        bits[:, :_TOP] = 0
        rows, found = np.divmod(np.flatnonzero(bits.view(np.bool_)), start)
        counts = np.bincount(rows, minlength=len(records))
        if counts.max(initial=0) > self.weights:
            return None
        ends = np.cumsum(counts)
        place = np.arange(len(rows)) - (ends - counts)[rows]
        indices = ((found - _TOP - place) << self._low) + words.at(rows, start + place * self._low, self._low)
        steps = words.at(rows, start + self.weights * self._low + place * self.bits, self.bits)
        top = words.at(np.arange(len(records)), 0, _TOP)
        values = ((top[rows] - steps).astype(np.uint32) << 15).view(np.float32)
        return np.concatenate(([0], ends)), indices, values

    def _parts(self, bits: UInt8s) -> tuple[UInt8s, UInt8s]:
        """Views of the lower bits of dimensions (n, weights, low), and of the steps (n, weights, bits)."""
        start = _TOP + self._highs
        middle = start + self.weights * self._low
        stop = middle + self.weights * self.bits
        shape = len(bits), self.weights
        return bits[:, start:middle].reshape(*shape, self._low), bits[:, middle:stop].reshape(*shape, self.bits)


def _below(vectors: SparseVectors) -> tuple[Int64s, Int64s]:
    """What FeatureField keeps of each row's largest weight, (n,), -1 where it keeps one that is no positive number; and
    how far below it each weight is, (nnz,)."""
    kept = (np.ascontiguousarray(vectors.values).view(np.uint32) >> 15).astype(np.int64)
    top = np.zeros(len(vectors), np.int64)
    rows = np.repeat(np.arange(len(vectors)), vectors.row_nnz)
    np.maximum.at(top, rows, kept)
    below = top[rows] - kept
    return np.where(top < 1 << _TOP, top, -1), below  # the sign is the 17th bit


def _spread(numbers: Int64s, bits: int) -> UInt8s:
    """The bits of each, the highest first: (n,) to (n, bits)."""
    return (numbers[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)


class _Words:
    """Records (m, width), to read numbers of up to 57 bits from, wherever they begin."""

    def __init__(self, records: UInt8s) -> None:
        flat = np.concatenate((records.reshape(-1), np.zeros(_WORD, np.uint8)))
        self._words = np.ndarray((len(flat) - _WORD + 1,), ">u8", flat, strides=(1,))  # one begins at each byte
        self._bits = 8 * records.shape[1]

    def at(self, rows: Int64s, start: Int64s | int, bits: int) -> Int64s:
        """The numbers that begin at those bits of those rows."""
        first = rows * self._bits + start
        words = self._words.take(first >> 3).astype(np.int64)
        numbers: Int64s = (words >> (8 * _WORD - bits - (first & 7))) & ((1 << bits) - 1)
        return numbers
