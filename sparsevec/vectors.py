"""`SparseVectors`: the one type that crosses every border.

A batch of n sparse vectors over `dimension` dimensions, in CSR. Its constructor checks everything once; afterwards the
arrays are its own and read-only, also after pickle and copy, and nobody checks again. The rules:

- inside a row the indices increase strictly and lie in [0, dimension), dimension <= 2**32
- values are finite float32 and never zero; signs are legal (the paper's soft threshold makes them)
- rows may be empty
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparsevec.arrays import (
    MAX_DIMENSION,
    Float32s,
    Indices,
    Indptr,
    Int64s,
    Row,
    UInt8s,
    checked,
    frozen,
    narrowest,
)
from sparsevec.errors import InvalidVectors, printable
from sparsevec.folders import PARTS, read_arrays, write_arrays
from sparsevec.sources import csr_of_dense, csr_of_rows, csr_of_scipy, csr_of_torch

if TYPE_CHECKING:
    import torch

__all__ = ["MAX_DIMENSION", "Float32s", "Int64s", "Row", "SparseVector", "SparseVectors", "UInt8s"]

_SHOWN = 6  # weights in the repr of a row
_LARGEST_ARRAY = 2**30  # bytes that np.asarray may take without being asked in so many words


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SparseVector:
    """One row: `indices` (m,) ascending, `values` (m,) float32. Read-only views into its batch.

    Iteration yields (index, weight) pairs, so `dict(row)` and `SparseVectors.from_rows([row], ...)` work. Equal when
    the weights and the dimension are.
    """

    indices: Indices
    values: Float32s
    dimension: int | None = None
    """None for a row that was made by hand"""
    fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.indices.tolist(), self.values.tolist(), strict=True)

    def to_dict(self) -> dict[int, float]:
        """`{index: weight}` in ascending order."""
        return dict(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseVector):
            return NotImplemented
        same = self.dimension == other.dimension and np.array_equal(self.indices, other.indices)
        return same and np.array_equal(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]  # equality looks at every weight

    def __repr__(self) -> str:
        weights = [f"{index}: {weight}" for index, weight in zip(self.indices[:_SHOWN], self.values, strict=False)]
        more = f", ... {len(self)} in all" if len(self) > _SHOWN else ""
        return f"SparseVector({{{', '.join(weights)}{more}}}, dimension={self.dimension})"


class SparseVectors:
    """A batch of n sparse vectors: `indptr` (n + 1,) int32, `indices` (nnz,) int32, `values` (nnz,) float32.

    `indptr` is int64 from 2**31 weights on, `indices` uint32 where the dimension is above 2**31. Arrays that the caller
    could still write to are copied. Equal when the weights and the dimension are; the fingerprint does not count.
    Raises InvalidVectors, naming the first offending row, when a rule of the module docstring is broken.
    """

    __slots__ = ("dimension", "fingerprint", "indices", "indptr", "values")
    __array_ufunc__ = None  # no arithmetic: NumPy leaves the operators to this class

    indptr: Indptr
    indices: Indices
    values: Float32s
    dimension: int
    fingerprint: str | None
    """names the space that these vectors live in, made by an encoder's `fit`; None: foreign, accepted anywhere"""

    def __init__(
        self,
        indptr: npt.ArrayLike,
        indices: npt.ArrayLike,
        values: npt.ArrayLike,
        dimension: int,
        *,
        fingerprint: str | None = None,
    ) -> None:
        csr = checked(indptr, indices, values, dimension)
        self._set(*csr, fingerprint)

    def _set(self, indptr: Any, indices: Any, values: Any, dimension: int, fingerprint: str | None) -> None:
        if fingerprint is not None and not (isinstance(fingerprint, str) and fingerprint.isprintable()):
            raise InvalidVectors(f"fingerprint must be a printable string or None, found {fingerprint!r:.80}")
        for name, value in zip(self.__slots__, (dimension, fingerprint, indices, indptr, values), strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def _made(cls, indptr: Any, indices: Any, values: Any, dimension: int, fingerprint: str | None) -> SparseVectors:
        """Of arrays that are ours, and sound by how they were made: nothing is looked at again."""
        vectors, made = cls.__new__(cls), (narrowest(indptr), indices, values)
        known = (type(array) is np.ndarray and not array.flags.writeable for array in made)
        ends, columns, weights = (array if one else frozen(array) for array, one in zip(made, known, strict=True))
        vectors._set(ends, columns, weights, dimension, fingerprint)
        return vectors

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"SparseVectors are read-only; {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"SparseVectors are read-only; {name!r} cannot be deleted")

    def __copy__(self) -> SparseVectors:
        return self

    def __deepcopy__(self, memo: object) -> SparseVectors:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Through the constructor, so that what was pickled is checked, owned and read-only as well."""
        return _unpickled, (type(self), self.indptr, self.indices, self.values, self.dimension, self.fingerprint)

    # ---- made from

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseVectors:
        """From a scipy sparse array or matrix of any format, (n, dimension), or (dimension,) for one row.

        Duplicates and explicit zeros are refused.
        """
        return cls(*csr_of_scipy(matrix))

    @classmethod
    def from_dense(cls, array: npt.ArrayLike) -> SparseVectors:
        """From a dense array (n, dimension): its non-zeros, as float32."""
        return cls(*csr_of_dense(array))

    @classmethod
    def from_torch(cls, tensor: torch.Tensor | Sequence[torch.Tensor]) -> SparseVectors:
        """From a torch tensor (n, dimension), or (dimension,) for one row, or a list of such tensors.

        Dense, COO (coalesced or not; duplicates are refused) or CSR, of any real type, on any device; gradients are
        left behind.
        """
        tensors = tensor if isinstance(tensor, (list, tuple)) else [tensor]
        return cls.concat([cls(*csr_of_torch(one)) for one in tensors])

    @classmethod
    def from_rows(cls, rows: Iterable[Row], *, dimension: int) -> SparseVectors:
        """From rows in any order inside a row: `{index: weight}` mappings, `(index, weight)` pairs, or objects with
        `indices` and `values`, such as rows of a batch and what fastembed gives.

        An index may be a decimal string, as JSON has it. Raises InvalidVectors, naming the row.
        """
        return cls(*csr_of_rows(rows, dimension))

    @classmethod
    def concat(cls, batches: Sequence[SparseVectors]) -> SparseVectors:
        """The rows of all `batches`, one after the other; they must agree on the dimension.

        The fingerprint is kept when they agree on it too.
        """
        if not isinstance(batches, Sequence):
            raise InvalidVectors(f"expected a list of SparseVectors to concat, found {type(batches).__name__}")
        if len(batches) == 1 and isinstance(batches[0], SparseVectors):
            return batches[0]
        if not batches:
            raise InvalidVectors("expected at least one batch to concat, found none")
        if wrong := [batch for batch in batches if not isinstance(batch, SparseVectors)]:
            raise InvalidVectors(f"expected batches to be SparseVectors, found {type(wrong[0]).__name__}")
        if len(dimensions := {batch.dimension for batch in batches}) > 1:
            raise InvalidVectors(f"expected batches of one dimension, found dimensions {sorted(dimensions)}")
        starts = np.cumsum([0, *(batch.nnz for batch in batches)])
        indptr = [batch.indptr[:-1] + start for batch, start in zip(batches, starts, strict=False)]
        indices = np.concatenate([batch.indices for batch in batches])
        values = np.concatenate([batch.values for batch in batches])
        spaces = {batch.fingerprint for batch in batches}
        fingerprint = spaces.pop() if len(spaces) == 1 else None
        ends = np.concatenate([*indptr, starts[-1:]])
        return cls._made(ends, indices, values, batches[0].dimension, fingerprint)

    def with_fingerprint(self, fingerprint: str | None) -> SparseVectors:
        """The same vectors, said to live in the space `fingerprint`; None for foreign ones, which no check refuses."""
        return self._made(self.indptr, self.indices, self.values, self.dimension, fingerprint)

    # ---- read as

    @property
    def nnz(self) -> int:
        """Weights in the whole batch."""
        return len(self.values)

    @property
    def row_nnz(self) -> Int64s:
        """Weights of each row, (n,)."""
        return np.diff(self.indptr).astype(np.int64, copy=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, dimension)."""
        return len(self), self.dimension

    def to_scipy(self) -> sp.csr_array:
        """A csr_array (n, dimension) over the same memory, which is read-only; `.copy()` makes one to write to.

        From dimension 2**31 on, and from 2**31 weights on, its index arrays are int64 copies: scipy knows no uint32.
        """
        arrays: tuple[Any, Any] = self.indices, self.indptr
        if self.dimension >= 2**31 or self.indptr.dtype != np.int32:
            arrays = self.indices.astype(np.int64), self.indptr.astype(np.int64)
        return _csr(arrays[1], arrays[0], self.values, self.shape)

    def to_dense(self) -> Float32s:
        """(n, dimension) float32. Raises InvalidVectors when that does not fit into memory."""
        try:
            dense = np.zeros(self.shape, np.float32)
        except (MemoryError, ValueError) as error:
            raise InvalidVectors(self._too_large()) from error
        dense[np.repeat(np.arange(len(self)), self.row_nnz), self.indices] = self.values
        return dense

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The dense array, for `np.asarray`; InvalidVectors above 1 GiB, where that is rarely meant."""
        if 4 * len(self) * self.dimension > _LARGEST_ARRAY:
            raise InvalidVectors(self._too_large())
        if copy is False:
            raise ValueError("sparse vectors cannot become a dense array without a copy")
        dense = self.to_dense()
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def _too_large(self) -> str:
        size = 4 * len(self) * self.dimension / 2**30
        return f"{self!r} as a dense array takes {size:,.0f} GiB; to_scipy() keeps it sparse, and [i:j] takes some rows"

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __iter__(self) -> Iterator[SparseVector]:
        for start, stop in pairwise(self.indptr.tolist()):
            yield SparseVector(self.indices[start:stop], self.values[start:stop], self.dimension, self.fingerprint)

    @overload
    def __getitem__(self, key: int) -> SparseVector: ...
    @overload
    def __getitem__(self, key: slice | npt.NDArray[Any] | Sequence[int]) -> SparseVectors: ...
    def __getitem__(self, key: int | slice | npt.NDArray[Any] | Sequence[int]) -> SparseVector | SparseVectors:
        """One row for an int; a batch for a slice (views), row numbers or a boolean mask (n,). Raises IndexError."""
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            key = int(key)  # a byte is too small for the arithmetic
            if not -len(self) <= key < len(self):
                raise IndexError(f"row {key} of a batch of {len(self)}")
            start, stop = self.indptr[key % len(self)], self.indptr[key % len(self) + 1]
            return SparseVector(self.indices[start:stop], self.values[start:stop], self.dimension, self.fingerprint)
        if isinstance(key, slice) and key.step in (None, 1):
            first, last, _ = key.indices(len(self))
            indptr = self.indptr[first : max(first, last) + 1]
            within = slice(int(indptr[0]), int(indptr[-1]))
            parts = indptr - indptr[0], self.indices[within], self.values[within]
            return self._made(*parts, self.dimension, self.fingerprint)
        rows = np.arange(len(self))[key]
        if isinstance(key, bool) or rows.ndim != 1:
            raise IndexError(f"expected a row number, a slice, row numbers or a mask (n,), found {key!r:.80}")
        whole = _csr(self.indptr, self.indices.view(np.int32), self.values, (len(self), 1))  # copies indices only
        picked = whole[rows]
        indices = picked.indices.astype(np.int32, copy=False).view(self.indices.dtype)
        return self._made(picked.indptr, indices, picked.data, self.dimension, self.fingerprint)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseVectors):
            return NotImplemented
        same = self.dimension == other.dimension and np.array_equal(self.indptr, other.indptr)
        return same and np.array_equal(self.indices, other.indices) and np.array_equal(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]  # equality looks at every weight

    def __repr__(self) -> str:
        mean = self.nnz / len(self) if len(self) else 0.0
        return f"SparseVectors(n={len(self)}, dimension={self.dimension}, mean nnz={mean:.1f})"

    # ---- kept

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder of three .npy files and a header, complete or not at all.

        What was saved there before is replaced; whoever has it open or mapped keeps it, also this batch. Raises
        StorageFailed, and InvalidInput for a folder that holds anything else.
        """
        header = {"dimension": self.dimension, "n": len(self), "nnz": self.nnz, "fingerprint": self.fingerprint}
        write_arrays(path, {part: getattr(self, part) for part in PARTS}, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> SparseVectors:
        """Read what `save` wrote; with `mmap` the arrays stay on disk and are paged in as they are touched.

        All of it is of one `save`, however often somebody saves there meanwhile. Raises InvalidVectors.
        """
        folder = printable(path)
        header, parts = read_arrays(path, mmap)
        dimension, fingerprint = header.get("dimension", 0), header.get("fingerprint")
        try:
            vectors = cls(parts[0], parts[1], parts[2], dimension, fingerprint=fingerprint)
        except InvalidVectors as error:
            raise InvalidVectors(f"{folder}: {error}") from error
        if (found := (len(vectors), vectors.nnz)) != (said := (header.get("n"), header.get("nnz"))):
            raise InvalidVectors(f"{folder} holds (n, nnz) = {found}, its header says {said}; write it again")
        return vectors


def _csr(indptr: Any, indices: Any, values: Float32s, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.csr_array(shape, dtype=np.float32)
    matrix.data, matrix.indices, matrix.indptr = values, indices, indptr  # as they are: known to be right
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    return matrix


def _unpickled(
    cls: type[SparseVectors], indptr: Any, indices: Any, values: Any, dimension: int, fingerprint: str | None
) -> SparseVectors:
    return cls(frozen(indptr), frozen(indices), frozen(values), dimension, fingerprint=fingerprint)  # nobody else's
