"""Residual codes: what a sparse code leaves out of its dense row, in a few bytes; numpy alone.

A unit row x with the stored sparse code s leaves r = x - mean - D s, for a decoder D that was learned. In the basis in
which errors count for as much as queries make them count, z = T r, bytes are spent where z varies:

    byte 0      the signature of the model that made the code (`ResidualConfig.name`): a sum of the other bytes times
                odd numbers that the name stands for, so that codes of another model, and changed ones, are found out
    byte 1      the length of z, one of 256 gains
    byte 2 + g  the codeword of the g-th group of components of z / gain, the nearest of 256

The score of a document is *defined*: an estimate of the cosine of query and row,

    q . mean  +  sum over j of s_j (q . D_j)  +  gain * sum over g of L_g[byte 2 + g]

where L_g is the query's table of its products with the codewords. Everything is kept to fixed point, so that products
and their sums are exact whatever the order (see `encoder.head`): in float64, and q . D_j in float32, D coarse and the
query in two parts, each of which adds up to less than 2**24. The sum over j adds in ascending order, in float64; then
the three terms are added from left to right and rounded to float32 once. Compiled loops (`encoder.loops`), where there
are any, do the same in less time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparsevec.contract.checks import Id
from sparsevec.dense import Dense, blocks
from sparsevec.encoder.head import LOOPS, Float64s, unit
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.vectors import Float32s, Int64s, SparseVectors

__all__ = ["HEADER", "TENSORS", "ResidualCodes", "UInt8s", "most_bytes", "name_of", "shapes"]

UInt8s = npt.NDArray[np.uint8]

HEADER: Final = 2
"""bytes of a code before its codewords"""
TENSORS: Final = ("residual_decoder", "residual_basis", "residual_queries", "residual_codewords", "residual_gains")
_BITS = 20  # weights, decoder, components and codewords are kept to 2**-20
_ROW_BITS = 24
_QUERY_BITS, _LOW_BITS = 20, 8  # of a query that meets the decoder, and of the lower of its two parts
_LONGEST = 8.0  # of a residual; of unit rows and their own codes it is below 2
_ROWS = 1024
_HELD = 256  # rows of the decoder that stay in the processor's cache


def most_bytes(columns: int) -> int:
    """The longest code of rows of so many columns: a byte a component."""
    return HEADER + columns


def shapes(output_dim: int, columns: int, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Of the tensors; `sizes`: components of each group."""
    matrix = sum(sizes), columns
    return dict(zip(TENSORS, ((output_dim, columns), matrix, matrix, (sum(sizes), 256), (256,)), strict=True))


def name_of(tensors: Mapping[str, Float32s], mean: Float32s) -> str:
    """Of the codes that these tensors make: another decoder or other codewords, another name."""
    digest = hashlib.sha256(np.ascontiguousarray(mean, "<f4").tobytes())
    for tensor in TENSORS:
        digest.update(np.ascontiguousarray(tensors[tensor], "<f4").tobytes())
    return digest.hexdigest()[:16]


class ResidualCodes:
    """Encodes, and scores, with `TENSORS`: decoder (dimension, columns); basis and queries (p, columns), the rows of T
    and what meets them on the query's side; codewords (p, 256); gains (256,) ascending."""

    def __init__(
        self, tensors: Mapping[str, Float32s], mean: Float32s, sizes: Sequence[int], name: str, *, signed: bool = True
    ) -> None:
        decoder, basis, queries, codewords, gains = (tensors[tensor] for tensor in TENSORS)
        self.width, self.name, self._tag = HEADER + len(sizes), name, int(name[:2], 16)
        key = np.frombuffer(hashlib.shake_256(name.encode()).digest(self.width - 1), np.uint8)
        self._key = key | 1 if signed else 0 * key
        self._starts = np.concatenate(([0], np.cumsum(sizes)))
        self._components, self._shape = np.arange(sum(sizes)), (len(sizes), sum(sizes))  # of groups, and components
        self._table_starts = 256 * np.arange(len(sizes))
        self._decoder, self._decoder_bits = _coarse(decoder)
        self._basis, self._basis_scale = _fixed_rows(basis, _LONGEST)
        self._queries, self._queries_scale = _fixed_rows(queries, 1.0)
        self._codewords = np.rint(np.ldexp(codewords.astype(np.float64, order="C"), _BITS))
        self._gains = gains.astype(np.float64)
        self._mean = mean.astype(np.float64)

    # ---- documents

    def encoded(self, rows: Dense, stored: SparseVectors) -> UInt8s:
        """The codes (n, width) of dense rows (n, columns) whose sparse codes are kept as `stored`.

        Raises InvalidVectors for weights that no row of this model can have.
        """
        codes, decoder = np.empty((len(rows), self.width), np.uint8), self._decoder.astype(np.float64)
        for start, block in blocks(rows, _ROWS):
            codes[start : start + len(block)] = self._block(block, stored[start : start + len(block)], decoder, start)
        return codes

    def _block(self, rows: Dense, stored: SparseVectors, decoder: Float64s, start: int) -> UInt8s:
        fixed = np.rint(np.ldexp(unit(rows) - self._mean, _ROW_BITS))
        weights = np.rint(np.ldexp(stored.values.astype(np.float64), _BITS))
        sparse = sp.csr_array((weights, stored.indices, stored.indptr), shape=(len(stored), stored.dimension))
        fixed -= np.rint(np.ldexp(np.asarray(sparse @ decoder), _ROW_BITS - _BITS - self._decoder_bits))
        if not (sound := np.linalg.norm(fixed, axis=1) < 0.99 * _LONGEST * 2**_ROW_BITS).all():
            raise InvalidVectors(
                f"the sparse code of row {start + int(np.argmin(sound))} is far from what this encoder makes of such a "
                "row; give the codes that belong to these rows"
            )
        components = np.ldexp(fixed @ self._basis.T, self._basis_scale)  # (b, p), exact
        whole = np.rint(np.ldexp(components, _BITS)).astype(np.int64)
        lengths = np.ldexp(np.sqrt(np.einsum("ij,ij->i", whole, whole).astype(np.float64)), -_BITS)
        codes = np.empty((len(rows), self.width), np.uint8)
        codes[:, 1] = np.searchsorted((self._gains[1:] + self._gains[:-1]) / 2, lengths)
        shaped = components / self._gains[codes[:, 1]][:, None]
        shaped = np.rint(np.ldexp(np.clip(shaped, -64, 64), _BITS))
        for group, (first, stop) in enumerate(zip(self._starts[:-1], self._starts[1:], strict=True)):
            words = self._codewords[first:stop]
            nearness = shaped[:, first:stop] @ (2 * words) - np.square(words).sum(axis=0)
            codes[:, HEADER + group] = nearness.argmax(axis=1)
        codes[:, 0] = self._signatures(codes)
        return codes

    def _signatures(self, codes: UInt8s) -> UInt8s:
        """The first byte of each code (m,): whoever changes one other byte changes it."""
        if (loops := LOOPS.get(0)) is None:
            return ((self._tag + codes[:, 1:] @ self._key.astype(np.float64)) % 256).astype(np.uint8)  # exact
        found = np.empty(len(codes), np.uint8)
        loops.signatures(np.ascontiguousarray(codes), self._key, self._tag, found)
        return found

    # ---- queries

    def scores(self, query: Dense, stored: SparseVectors, codes: UInt8s) -> Float32s:
        """Of m candidates for one query (1, columns), as the module docstring defines it: (m,).

        `check` says whether they are codes of this model.
        """
        if not len(codes):
            return np.empty(0, np.float32)
        if (loops := LOOPS.get()) is None or codes.shape != (len(stored), self.width):
            fixed, constant = self._asked(query)
            return (constant + self._explained(fixed, stored) + self._left(fixed, codes)).astype(np.float32)
        kinds = zip((stored.indptr, stored.indices, stored.values), (np.int32, np.int32, np.float32), strict=True)
        rows = [np.require(part, kind, ["C", "A"]) for part, kind in kinds]
        decoder = self._decoder, 2.0 ** -(_QUERY_BITS + self._decoder_bits)
        components, codewords = self._halved
        words = components, 2.0 ** (_BITS + self._queries_scale), codewords, self._starts, self._gains
        row, found = query[0].astype(np.float64), np.empty(len(codes), np.float32)
        loops.scores(row, self._mean, *decoder, *rows, *words, np.ascontiguousarray(codes), found)
        return found

    @cached_property
    def _halved(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """What meets queries, and codewords, in half the bytes: they are below 2**28, and time goes by bytes."""
        return self._queries.astype(np.int32), self._codewords.astype(np.int32)

    def parts(self, query: Dense, stored: SparseVectors, codes: UInt8s) -> tuple[float, SparseVectors, float]:
        """What one document's score is made of: q . mean, which all have; the query (1, dimension) whose products with
        the stored weights are the middle term, on the dimensions that occur; and the code's part."""
        fixed, constant = self._asked(query)
        seen = np.unique(stored.indices).astype(np.int64)
        products = self._products(fixed, seen)
        pairs = zip(seen.tolist(), products.tolist(), strict=True)
        asked = SparseVectors.from_rows([{at: product for at, product in pairs if product}], dimension=stored.dimension)
        return constant, asked, float(self._left(fixed, codes)[0])

    def _asked(self, query: Dense) -> tuple[Float64s, float]:
        """One query (1, columns) to whole numbers (columns,), and q . mean."""
        fixed = np.rint(np.ldexp(unit(query)[0], _ROW_BITS))
        return fixed, math.ldexp(float(np.rint(np.ldexp(self._mean, _ROW_BITS)) @ fixed), -2 * _ROW_BITS)

    def _explained(self, fixed: Float64s, stored: SparseVectors) -> Float64s:
        """sum_j s_j (q . D_j), of the dimensions that occur."""
        met = np.zeros(stored.dimension, bool)
        met[stored.indices] = True
        seen = np.flatnonzero(met)
        products = np.zeros(stored.dimension)
        products[seen] = self._products(fixed, seen)
        rows = np.repeat(np.arange(len(stored)), stored.row_nnz)
        return np.bincount(rows, products[stored.indices] * stored.values, minlength=len(stored)).astype(np.float64)

    def _products(self, fixed: Float64s, dimensions: Int64s) -> Float64s:
        """q . D_j of those dimensions, exact."""
        query = np.rint(np.ldexp(fixed, _QUERY_BITS - _ROW_BITS))
        high = np.rint(np.ldexp(query, -_LOW_BITS))
        parts = np.stack([high, query - np.ldexp(high, _LOW_BITS)], axis=1).astype(np.float32)
        sums = np.empty((len(dimensions), 2))
        for start in range(0, len(dimensions), _HELD):
            some = dimensions[start : start + _HELD]
            sums[start : start + _HELD] = self._decoder.take(some, axis=0).astype(np.float32) @ parts
        products: Float64s = np.ldexp(np.ldexp(sums[:, 0], _LOW_BITS) + sums[:, 1], -_QUERY_BITS - self._decoder_bits)
        return products

    def _left(self, fixed: Float64s, codes: UInt8s) -> Float64s:
        asked = np.rint(np.ldexp(self._queries @ fixed, _BITS + self._queries_scale))
        tables = sp.csr_array((asked, self._components, self._starts), shape=self._shape) @ self._codewords  # exact
        found = tables.ravel().take(codes[:, HEADER:] + self._table_starts).sum(axis=1)
        left: Float64s = self._gains[codes[:, 1]] * np.ldexp(found, -2 * _BITS)
        return left

    def check(self, codes: UInt8s, ids: Sequence[Id]) -> None:
        """Raises InvalidInput for codes (m, width) of another width or model; `ids` are those of the m documents."""
        if codes.ndim != 2 or codes.shape[1] != self.width or codes.dtype != np.uint8:
            raise InvalidInput(
                f"residual codes of this model are uint8 of {self.width} bytes a document, found {codes.dtype} of "
                f"shape {codes.shape}; they were made by another model, or for another number of bytes"
            )
        if len(others := np.flatnonzero(codes[:, 0] != self._signatures(codes))):
            raise InvalidInput(
                f"the residual code of document {ids[others[0]]!r} was made by another model than {self.name}, or was "
                f"changed since, and so were {len(others)} of {len(codes)} here; write the documents again with the "
                "codes of this one: a model that was refined again makes other codes"
            )


def _coarse(decoder: Float32s) -> tuple[npt.NDArray[np.int16], int]:
    """Whole numbers, of 2**-bits, whose products with either part of a query add up to less than 2**24 in any order;
    rows of them are no longer than 2**12."""
    half = 0.5 * math.sqrt(decoder.shape[1])  # what rounding may add to a length
    part = max(2.0 ** (_QUERY_BITS - _LOW_BITS), 2.0**_LOW_BITS * half) + half
    longest = float(np.sqrt(np.square(decoder, dtype=np.float64).sum(axis=1).max(initial=1e-30)))
    bits = math.floor(math.log2((2.0**24 / part - half) / max(longest, 1e-3)))
    return np.rint(np.ldexp(decoder, bits)).astype(np.int16, order="C"), bits


def _fixed_rows(matrix: Float32s, longest: float) -> tuple[Float64s, int]:
    """Whole numbers, and the exponent of what they and rows of 2**-24 multiply to: exact for rows up to `longest`."""
    norm = float(np.sqrt(np.square(matrix, dtype=np.float64).sum(axis=1).max(initial=1e-30)))
    bits = 51 - _ROW_BITS - math.frexp(norm * longest)[1]
    return np.rint(np.ldexp(matrix.astype(np.float64, order="C"), bits)), -(bits + _ROW_BITS)
