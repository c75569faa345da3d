"""The CSR arrays behind `SparseVectors`, checked: raises InvalidVectors, gives arrays that nobody else can write to."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sparsevec.errors import InvalidVectors

__all__ = [
    "MAX_DIMENSION",
    "Csr",
    "Float32s",
    "Indices",
    "Indptr",
    "Int64s",
    "Row",
    "UInt8s",
    "as_dimension",
    "as_float32",
    "as_plain_array",
    "check_unmasked",
    "checked",
    "frozen",
    "narrowest",
]

Int64s: TypeAlias = npt.NDArray[np.int64]
Indices: TypeAlias = npt.NDArray[np.int32] | npt.NDArray[np.uint32]
Indptr: TypeAlias = npt.NDArray[Any]  # int32; int64 where 2**31 weights or more make that necessary
Float32s: TypeAlias = npt.NDArray[np.float32]
UInt8s: TypeAlias = npt.NDArray[np.uint8]
Row: TypeAlias = Mapping[int, float] | Mapping[str, float] | Iterable[tuple[int, float]]

MAX_DIMENSION = 2**32
_INT32 = 2**31


class Csr(NamedTuple):
    """The arrays of n rows over `dimension` dimensions: `indptr` (n + 1,), `indices` (nnz,), `values` (nnz,)."""

    indptr: Indptr
    indices: npt.NDArray[Any]
    values: npt.NDArray[Any]
    dimension: int


def checked(indptr: npt.ArrayLike, indices: npt.ArrayLike, values: npt.ArrayLike, dimension: int) -> Csr:
    """The same arrays by the rules of `sparsevec.vectors`, in its types; copied where a caller could still write."""
    dimension = as_dimension(dimension)
    starts, columns, weights = _integers("indptr", indptr), _integers("indices", indices), as_float32(values)
    if weights.ndim != 1:
        raise InvalidVectors(f"values must have one dimension, found shape {weights.shape}")
    if fault := _fault(starts, columns, weights, dimension):
        raise InvalidVectors(fault)
    narrow = _converted(columns, np.int32 if dimension <= _INT32 else np.uint32)
    return Csr(_owned(narrowest(starts)), _owned(narrow), _owned(weights), dimension)


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A new array of ours, read-only for good: also its flag cannot be set back."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base.flags.writeable = False
        base = base.base
    return array.view(np.ndarray)


def narrowest(indptr: npt.NDArray[Any]) -> Indptr:
    """As int32, so that scipy takes it beside int32 indices; as int64 where that is too small."""
    return _converted(indptr, np.int32 if indptr[-1] < _INT32 else np.int64)


def _converted(array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The same array, or a new one that is already frozen."""
    new = array.astype(dtype, copy=False)
    return new if new is array else frozen(new)


def _owned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return frozen(array if _immutable(array) else array.copy())


def _immutable(array: npt.NDArray[Any]) -> bool:
    """Whether nobody can write to its memory: read-only down to its owner, or to bytes or a read-only map."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, bytes) or (isinstance(base, mmap.mmap) and memoryview(base).readonly)


def as_dimension(dimension: int) -> int:
    whole = isinstance(dimension, (int, np.integer)) and not isinstance(dimension, bool)
    if not whole or not 0 < dimension <= MAX_DIMENSION:
        raise InvalidVectors(f"dimension must be an int in [1, 2**32], found {dimension!r:.80}")
    return int(dimension)


def _integers(name: str, array: npt.ArrayLike) -> npt.NDArray[Any]:
    integers = as_plain_array(name, array)
    if integers.ndim != 1:
        raise InvalidVectors(f"{name} must have one dimension, found shape {integers.shape}")
    if integers.size == 0:
        return np.empty(0, np.int64)
    if integers.dtype.kind not in "iu":
        raise InvalidVectors(f"{name} must be integers, found {integers.dtype}")
    return integers


def as_float32(values: npt.ArrayLike) -> Float32s:
    floats = as_plain_array("values", values)
    if floats.dtype.kind not in "fiu":
        raise InvalidVectors(f"values must be real numbers, found {floats.dtype}; .astype('float32') makes some")
    with np.errstate(over="ignore"):  # 1e39 becomes inf and is refused as such
        return _converted(floats, np.float32)


def check_unmasked(array: object, what: str) -> None:
    """Raises InvalidVectors for a masked array, whose numbers are there still where it is masked."""
    if np.ma.isMaskedArray(array):
        raise InvalidVectors(f"{what} must not be a masked array; .filled(0) says what stands where it is masked")


def as_plain_array(name: str, array: npt.ArrayLike) -> npt.NDArray[Any]:
    check_unmasked(array, name)
    try:
        return np.asarray(array)
    except Exception as error:  # a ragged list, a tensor with gradients or on another device
        hint = "; from_torch takes tensors" if type(array).__module__.startswith("torch") else ""
        raise InvalidVectors(f"{name} cannot be read as an array: {error}{hint}") from error


def _fault(indptr: npt.NDArray[Any], indices: npt.NDArray[Any], values: Float32s, dimension: int) -> str | None:
    """What breaks a rule, or None. Each step may rely on the ones before it, and passes once over the weights."""
    if indptr.size == 0 or indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any():
        return "indptr must start at 0 and never fall"
    if not len(indices) == len(values) == indptr[-1]:
        return f"indices ({len(indices)}), values ({len(values)}) and indptr[-1] ({indptr[-1]}) must agree"
    if not len(indices):
        return None
    if _outside(indices, dimension):
        return f"indices must lie in [0, {dimension}), found one in [{int(indices.min())}, {int(indices.max())}]"
    with np.errstate(over="ignore", invalid="ignore"):
        certain = np.isfinite(values.sum())  # not for nan and inf, nor for a sum that overflows
    if not certain and (bad := _first(~np.isfinite(values))) is not None:
        return f"row {_row(indptr, bad)}: values must be finite float32, found {values[bad]} at index {indices[bad]}"
    if np.count_nonzero(values) < len(values):
        bad = int(np.argmax(values == 0))
        return f"row {_row(indptr, bad)}: values must not be zero, found {values[bad]} at index {indices[bad]}"
    rises = indices[1:] > indices[:-1]
    starts = indptr[1:-1]
    rises[starts[(starts > 0) & (starts < len(indices))] - 1] = True  # the first of a row may fall below the row before
    if not rises.all():
        bad = int(np.argmin(rises))
        kind = "repeats" if indices[bad] == indices[bad + 1] else "is not sorted at"
        return f"row {_row(indptr, bad)} {kind} index {indices[bad + 1]}; indices must increase strictly"
    return None


def _outside(indices: npt.NDArray[Any], dimension: int) -> bool:
    if indices.dtype.kind == "i" and indices.dtype.isnative and dimension <= 2 ** (8 * indices.itemsize - 1):
        return bool(indices.view(f"u{indices.itemsize}").max() >= dimension)  # one pass: -1 reads as 2**n - 1
    return bool(indices.min() < 0 or indices.max() >= dimension)


def _first(mask: npt.NDArray[np.bool_]) -> int | None:
    return int(np.argmax(mask)) if mask.any() else None


def _row(indptr: npt.NDArray[Any], position: int) -> int:
    return int(np.searchsorted(indptr, position, side="right")) - 1
