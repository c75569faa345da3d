"""`SparseVectors`: the one type that crosses every border.

A batch of n sparse vectors over `dimension` dimensions, in CSR. Its constructor checks everything once; afterwards the
arrays are read-only and nobody checks again. The rules:

- inside a row the indices increase strictly and lie in [0, dimension), dimension <= 2**32
- values are finite float32 and never zero; signs are legal (the paper's soft threshold makes them)
- rows may be empty
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparsevec.errors import InvalidVectors, StorageFailed

if TYPE_CHECKING:
    import torch

__all__ = ["MAX_DIMENSION", "Float32s", "Int64s", "Row", "SparseVector", "SparseVectors"]

Int64s: TypeAlias = npt.NDArray[np.int64]
Indices: TypeAlias = npt.NDArray[np.int32] | npt.NDArray[np.uint32]
Float32s: TypeAlias = npt.NDArray[np.float32]
Row: TypeAlias = Mapping[int, float] | Iterable[tuple[int, float]]

MAX_DIMENSION = 2**32
_FORMAT = "sparsevec.vectors/1"
_PARTS = ("indptr", "indices", "values")


@dataclass(frozen=True, slots=True)
class SparseVector:
    """One row: `indices` (m,) ascending, `values` (m,) float32. Read-only views into its batch."""

    indices: Indices
    values: Float32s

    def __len__(self) -> int:
        return len(self.indices)

    def to_dict(self) -> dict[int, float]:
        """`{index: weight}` in ascending order."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))


class SparseVectors:
    """A batch of n sparse vectors: `indptr` (n + 1,) int64, `indices` (nnz,) int32 or uint32, `values` (nnz,) float32.

    Raises InvalidVectors, naming the first offending row, when a rule of the module docstring is broken.
    """

    __slots__ = ("dimension", "fingerprint", "indices", "indptr", "values")

    indptr: Int64s
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
        self.dimension = _dimension(dimension)
        self.fingerprint = fingerprint
        self.indptr = _frozen(_integers("indptr", indptr).astype(np.int64, copy=False))
        self.indices = _frozen(_narrow(_integers("indices", indices), self.dimension))
        self.values = _frozen(_float32(values))
        if fault := _fault(self):
            raise InvalidVectors(fault)

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError(f"SparseVectors are read-only; {name!r} cannot be set")
        object.__setattr__(self, name, value)

    # ---- made from

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseVectors:
        """From any scipy sparse array or matrix (n, dimension); duplicates and explicit zeros are refused."""
        if not sp.issparse(matrix):
            raise InvalidVectors(f"expected a scipy sparse array, found {type(matrix).__name__}; try from_dense")
        if matrix.ndim != 2:
            raise InvalidVectors(f"expected two dimensions (n, dimension), found shape {matrix.shape}")
        if matrix.format != "csr":
            matrix = sp.coo_array(matrix)
            return cls._from_coo(matrix.row, matrix.col, matrix.data, matrix.shape)
        nnz = matrix.indptr[-1]  # the arrays of a matrix may be longer
        if not matrix.has_sorted_indices:
            rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
            return cls._from_coo(rows, matrix.indices[:nnz], matrix.data[:nnz], matrix.shape)
        return cls(matrix.indptr, matrix.indices[:nnz], matrix.data[:nnz], matrix.shape[1])

    @classmethod
    def from_dense(cls, array: npt.ArrayLike) -> SparseVectors:
        """From a dense array (n, dimension): its non-zeros."""
        dense = np.asarray(array)
        if dense.ndim != 2:
            raise InvalidVectors(f"expected an array of shape (n, dimension), found shape {dense.shape}")
        dense = _float32(dense)
        rows, columns = np.nonzero(dense)
        return cls(_indptr(rows, len(dense)), columns, dense[rows, columns], dense.shape[1])

    @classmethod
    def from_torch(cls, tensor: torch.Tensor) -> SparseVectors:
        """From a torch tensor (n, dimension): dense, COO or CSR, on any device; gradients are left behind."""
        import torch

        tensor = tensor.detach().cpu()
        if tensor.layout == torch.strided:
            return cls.from_dense(tensor.to(torch.float32).numpy())
        if tensor.layout == torch.sparse_coo:
            if tensor.ndim != 2 or tensor.dense_dim():
                raise InvalidVectors(f"expected a COO tensor (n, dimension), found shape {tuple(tensor.shape)}")
            rows, columns = tensor._indices().numpy()  # not coalesce(): it would add duplicates up in silence
            values = tensor._values().to(torch.float32).numpy()
            return cls._from_coo(rows, columns, values, (tensor.shape[0], tensor.shape[1]))
        if tensor.layout == torch.sparse_csr:
            values = tensor.values().to(torch.float32).numpy()
            return cls(tensor.crow_indices().numpy(), tensor.col_indices().numpy(), values, tensor.shape[1])
        raise InvalidVectors(f"expected a dense, COO or CSR tensor, found layout {tensor.layout}; use .to_sparse_csr()")

    @classmethod
    def from_rows(cls, rows: Iterable[Row], *, dimension: int) -> SparseVectors:
        """From rows of `(index, weight)` pairs, or of `{index: weight}` mappings, in any order inside a row."""
        indptr, indices, values = [0], [], []
        for number, row in enumerate(rows):
            for index, weight in _pairs(row, number):
                indices.append(index)
                values.append(weight)
            indptr.append(len(indices))
        columns = _integers(f"indices of {len(indptr) - 1} rows", indices if indices else np.empty(0, np.int64))
        row_numbers = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        return cls._from_coo(row_numbers, columns, np.array(values, np.float64), (len(indptr) - 1, dimension))

    @classmethod
    def concat(cls, batches: Sequence[SparseVectors]) -> SparseVectors:
        """The rows of all `batches`, one after the other; they must agree on the dimension."""
        if not batches:
            raise InvalidVectors("expected at least one batch to concat, found none")
        if len(dimensions := {batch.dimension for batch in batches}) > 1:
            raise InvalidVectors(f"batches of one dimension are due, found dimensions {sorted(dimensions)}")
        ends = np.cumsum([batch.nnz for batch in batches])
        indptr = [batches[0].indptr, *(b.indptr[1:] + e for b, e in zip(batches[1:], ends, strict=False))]
        indices = np.concatenate([batch.indices for batch in batches])
        values = np.concatenate([batch.values for batch in batches])
        spaces = {batch.fingerprint for batch in batches}
        fingerprint = spaces.pop() if len(spaces) == 1 else None
        return cls(np.concatenate(indptr), indices, values, batches[0].dimension, fingerprint=fingerprint)

    @classmethod
    def _from_coo(cls, rows: Any, columns: Any, values: Any, shape: tuple[int, int]) -> SparseVectors:
        """Sorted by row, then column; a duplicate stays, so that the constructor refuses it."""
        columns = np.asarray(columns)
        order = np.lexsort((columns, rows))
        return cls(_indptr(np.asarray(rows), shape[0]), columns[order], np.asarray(values)[order], shape[1])

    def with_fingerprint(self, fingerprint: str | None) -> SparseVectors:
        """The same vectors, said to live in the space `fingerprint`; None for foreign ones, which no check refuses."""
        return SparseVectors(self.indptr, self.indices, self.values, self.dimension, fingerprint=fingerprint)

    # ---- read as

    @property
    def nnz(self) -> int:
        """Weights in the whole batch."""
        return len(self.values)

    @property
    def row_nnz(self) -> Int64s:
        """Weights of each row, (n,)."""
        return np.diff(self.indptr)

    def to_scipy(self) -> sp.csr_array:
        """A csr_array (n, dimension) over the same memory."""
        matrix = sp.csr_array((len(self), self.dimension), dtype=np.float32)
        matrix.data, matrix.indices, matrix.indptr = self.values, self.indices, self.indptr
        return matrix

    def to_dense(self) -> Float32s:
        """(n, dimension) float32."""
        dense = np.zeros((len(self), self.dimension), np.float32)
        dense[np.repeat(np.arange(len(self)), self.row_nnz), self.indices] = self.values
        return dense

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __iter__(self) -> Iterator[SparseVector]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, key: int) -> SparseVector: ...
    @overload
    def __getitem__(self, key: slice | npt.NDArray[Any] | Sequence[int]) -> SparseVectors: ...
    def __getitem__(self, key: int | slice | npt.NDArray[Any] | Sequence[int]) -> SparseVector | SparseVectors:
        """One row for an int; a batch for a slice (views), row numbers or a boolean mask (n,)."""
        if isinstance(key, (int, np.integer)):
            row = range(len(self))[key]
            start, stop = self.indptr[row], self.indptr[row + 1]
            return SparseVector(self.indices[start:stop], self.values[start:stop])
        if isinstance(key, slice) and key.step in (None, 1):
            start, stop, _ = key.indices(len(self))
            indptr = self.indptr[start : max(start, stop) + 1]
            within = slice(indptr[0], indptr[-1])
            return self._some(indptr - indptr[0], within)
        rows = np.arange(len(self))[key]
        counts = self.row_nnz[rows]
        indptr = np.concatenate(([0], np.cumsum(counts)))
        picked = np.repeat(self.indptr[rows] - indptr[:-1], counts) + np.arange(indptr[-1])
        return self._some(indptr, picked)

    def _some(self, indptr: Int64s, kept: slice | Int64s) -> SparseVectors:
        parts = self.indices[kept], self.values[kept]
        return SparseVectors(indptr, *parts, self.dimension, fingerprint=self.fingerprint)

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
        """Write a folder of three .npy files and a header, complete or not at all. Raises StorageFailed."""
        folder = Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "header.json").unlink(missing_ok=True)
            for part in _PARTS:
                np.save(folder / f"{part}.npy", getattr(self, part))
            header = {"format": _FORMAT, "dimension": self.dimension, "n": len(self), "nnz": self.nnz}
            partial = folder / "header.json.part"
            partial.write_text(json.dumps(header))
            partial.replace(folder / "header.json")  # a folder without its header is not yet one of ours
        except OSError as error:
            raise StorageFailed(f"could not write vectors to {folder}: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> SparseVectors:
        """Read what `save` wrote; with `mmap` the arrays stay on disk and are paged in as they are touched."""
        folder = Path(path)
        try:
            header = json.loads((folder / "header.json").read_text())
            parts = [np.load(folder / f"{part}.npy", mmap_mode="r" if mmap else None) for part in _PARTS]
        except Exception as error:  # NumPy parses a header as Python: TokenError, SyntaxError and more, by the byte
            raise InvalidVectors(f"{folder} is not a whole folder written by SparseVectors.save: {error}") from error
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise InvalidVectors(f"{folder} does not say {_FORMAT!r}; it was not written by SparseVectors.save")
        vectors = cls(parts[0], parts[1], parts[2], header.get("dimension", 0))
        if (found := (len(vectors), vectors.nnz)) != (due := (header.get("n"), header.get("nnz"))):
            raise InvalidVectors(f"{folder} holds (n, nnz) = {found}, its header says {due}; write it again")
        return vectors


def _dimension(dimension: int) -> int:
    whole = isinstance(dimension, (int, np.integer)) and not isinstance(dimension, bool)
    if not whole or not 0 < dimension <= MAX_DIMENSION:
        raise InvalidVectors(f"dimension must be an int in [1, 2**32], found {dimension!r}")
    return int(dimension)


def _integers(name: str, array: npt.ArrayLike) -> npt.NDArray[Any]:
    integers = np.asarray(array)
    if integers.ndim != 1:
        raise InvalidVectors(f"{name} must have one dimension, found shape {integers.shape}")
    if integers.size == 0:
        return integers.astype(np.int64)
    if integers.dtype.kind not in "iu":
        raise InvalidVectors(f"{name} must be integers, found {integers.dtype}")
    return integers


def _narrow(indices: npt.NDArray[Any], dimension: int) -> Indices:
    """Checked against [0, dimension) before they are narrowed, so that nothing wraps around."""
    if indices.size and (indices.min() < 0 or indices.max() >= dimension):
        raise InvalidVectors(
            f"indices must lie in [0, {dimension}), found one in [{int(indices.min())}, {int(indices.max())}]"
        )
    return indices.astype(np.int32, copy=False) if dimension <= 2**31 else indices.astype(np.uint32, copy=False)


def _float32(values: npt.ArrayLike) -> Float32s:
    floats = np.asarray(values)
    if floats.dtype.kind not in "fiu":
        raise InvalidVectors(f"values must be real numbers, found {floats.dtype}")
    with np.errstate(over="ignore"):  # 1e39 becomes inf and is refused as such
        return floats.astype(np.float32, copy=False)


def _frozen(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view


def _indptr(rows: npt.NDArray[Any], n: int) -> Int64s:
    return np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=n)))).astype(np.int64)


def _pairs(row: Row, number: int) -> list[tuple[int, float]]:
    try:
        pairs = [(index, weight) for index, weight in (row.items() if isinstance(row, Mapping) else row)]
    except (TypeError, ValueError):
        raise InvalidVectors(f"row {number} is neither (index, weight) pairs nor a mapping: {row!r:.80}") from None
    for index, weight in pairs:
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
            raise InvalidVectors(f"row {number}: an index must be an int, found {index!r}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float, np.integer, np.floating)):
            raise InvalidVectors(f"row {number}: a weight must be a real number, found {weight!r}")
    return pairs


def _fault(vectors: SparseVectors) -> str | None:
    """What breaks a rule, or None. Each step may rely on the ones before it."""
    indptr, indices, values = vectors.indptr, vectors.indices, vectors.values
    if values.ndim != 1:
        return f"values must have one dimension, found shape {values.shape}"
    if len(indptr) == 0 or indptr[0] != 0 or np.any(np.diff(indptr) < 0):
        return "indptr must start at 0 and never fall"
    if not len(indices) == len(values) == indptr[-1]:
        return f"indices ({len(indices)}), values ({len(values)}) and indptr[-1] ({indptr[-1]}) must agree"
    if (bad := _first(~np.isfinite(values))) is not None:
        return f"row {_row(indptr, bad)}: values must be finite float32, found {values[bad]} at index {indices[bad]}"
    if (bad := _first(values == 0)) is not None:
        return f"row {_row(indptr, bad)}: values must not be zero, found {values[bad]} at index {indices[bad]}"
    rises = indices[1:] > indices[:-1]
    starts = indptr[1:-1]
    rises[starts[(starts > 0) & (starts < len(indices))] - 1] = True  # the first of a row may fall below the row before
    if (bad := _first(~rises)) is not None:
        kind = "repeats" if indices[bad] == indices[bad + 1] else "is not sorted at"
        return f"row {_row(indptr, bad)} {kind} index {indices[bad + 1]}; indices must increase strictly"
    return None


def _first(mask: npt.NDArray[np.bool_]) -> int | None:
    return int(np.argmax(mask)) if mask.any() else None


def _row(indptr: Int64s, position: int) -> int:
    return int(np.searchsorted(indptr, position, side="right")) - 1
