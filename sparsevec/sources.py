"""How other people's rows, arrays, matrices and tensors become CSR arrays: raises InvalidVectors."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparsevec.arrays import Csr, Row, as_dimension, as_float32, as_plain_array, frozen
from sparsevec.errors import InvalidVectors

__all__ = ["csr_of_dense", "csr_of_rows", "csr_of_scipy", "csr_of_torch"]

_LONGEST = 20  # digits of an index that is read: of more Python makes no int, from some thousands on


def csr_of_dense(array: npt.ArrayLike) -> Csr:
    """The non-zeros of a dense array (n, dimension)."""
    if sp.issparse(array):
        raise InvalidVectors(f"expected a dense array, found {type(array).__name__}; from_scipy takes it")
    given = as_plain_array("the rows", array)
    if given.ndim != 2:
        raise InvalidVectors(
            f"expected an array of shape (n, dimension), found shape {given.shape}"
            + ("; a batch of one row is x[None, :]" if given.ndim == 1 else "")
        )
    dense = as_float32(given)
    n, dimension = dense.shape
    flat = dense.ravel()
    at = np.flatnonzero(flat != 0)
    indptr = np.searchsorted(at, np.arange(n + 1) * dimension)
    columns = at - np.repeat(np.arange(n) * dimension, np.diff(indptr))
    return Csr(frozen(indptr), frozen(columns), frozen(flat[at]), dimension)


def csr_of_scipy(matrix: Any) -> Csr:
    """Of any scipy sparse array or matrix, (n, dimension) or (dimension,); duplicates and explicit zeros stay."""
    if not sp.issparse(matrix):
        raise InvalidVectors(f"expected a scipy sparse array, found {type(matrix).__name__}; from_dense takes arrays")
    if matrix.ndim == 1:
        matrix = sp.coo_array(matrix).reshape(1, -1)
    if matrix.ndim != 2:
        raise InvalidVectors(f"expected two dimensions (n, dimension), found shape {matrix.shape}")
    if matrix.dtype.kind not in "fiu":
        as_float32(np.empty(0, matrix.dtype))  # refuses it, in words
    if fault := _fault(matrix):
        raise InvalidVectors(fault)
    if matrix.format == "bsr":  # its blocks cannot but hold zeros
        matrix = matrix.tocsr(copy=True)
        matrix.eliminate_zeros()
    if matrix.format == "coo":
        return _csr_of_coo(matrix.row, matrix.col, matrix.data, matrix.shape)
    csr = matrix.tocsr()
    if not csr.has_sorted_indices:
        csr = csr.sorted_indices()
    nnz, arrays = csr.indptr[-1], (csr.indptr, csr.indices, csr.data)
    indptr, indices, values = arrays if csr is matrix else map(frozen, arrays)
    return Csr(indptr, indices[:nnz], values[:nnz], csr.shape[1])  # the arrays of a matrix may be longer


def _fault(matrix: Any) -> str | None:
    """What scipy does not look at when a compressed matrix is made, and what it then converts or sorts in memory that
    is not its own; None for nothing."""
    if matrix.format not in ("csr", "csc", "bsr"):
        return None
    starts, indices = matrix.indptr, matrix.indices
    if not len(starts) or starts[0] != 0 or (starts[1:] < starts[:-1]).any() or starts[-1] > len(indices):
        return "indptr must start at 0, never fall, and end within the indices"
    rows = matrix.shape[0]
    if matrix.format == "csc" and len(indices) and (indices.min() < 0 or indices.max() >= rows):
        return f"rows must lie in [0, {rows}), found one in [{indices.min()}, {indices.max()}]"
    return None


def _csr_of_coo(rows: Any, columns: Any, values: Any, shape: tuple[int, int]) -> Csr:
    """Sorted by row, then column; a duplicate is refused, not added up."""
    if _in_order(rows, columns, shape[0]):
        ends = np.cumsum(np.bincount(rows, minlength=shape[0]))
        return Csr(frozen(np.concatenate(([0], ends))), columns, values, shape[1])
    try:
        csr = sp.coo_array((as_float32(values), (rows, columns)), shape=shape).tocsr()
    except ValueError as error:
        raise InvalidVectors(f"the coordinates cannot be read: {error}") from error
    if csr.nnz < len(values):
        order = np.lexsort((columns, rows))
        twice = int(np.argmax((np.diff(rows[order]) == 0) & (np.diff(columns[order]) == 0)))
        row, column = rows[order][twice], columns[order][twice]
        raise InvalidVectors(f"row {row} repeats index {column}; add duplicates up, or leave all but one out")
    return Csr(frozen(csr.indptr), frozen(csr.indices), frozen(csr.data), csr.shape[1])


def _in_order(rows: Any, columns: Any, n: int) -> bool:
    """Whether coordinates stand row after row, columns rising, each once, as they mostly do."""
    if not len(rows) or rows[0] < 0 or rows[-1] >= n:
        return False
    falls = rows[1:] < rows[:-1]
    if falls.any():
        return False
    return bool(((columns[1:] > columns[:-1]) | (rows[1:] > rows[:-1])).all())


def csr_of_torch(tensor: Any) -> Csr:
    """Of a tensor (n, dimension) or (dimension,): dense, COO or CSR, of any real type, with or without gradients."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise InvalidVectors(f"expected a torch tensor, found {type(tensor).__name__}; from_dense takes arrays")
    if tensor.is_complex() or tensor.is_quantized or tensor.dtype == torch.bool or tensor.is_meta:
        raise InvalidVectors(f"expected a tensor of real numbers, found {tensor.dtype} on {tensor.device}")
    tensor = tensor.detach().cpu()
    shape = (1, *tensor.shape) if tensor.ndim == 1 else tuple(tensor.shape)
    if len(shape) != 2:
        raise InvalidVectors(f"expected a tensor of shape (n, dimension) or (dimension,), found {tuple(tensor.shape)}")
    if tensor.layout == torch.strided:
        return csr_of_dense(tensor.to(torch.float32).resolve_neg().reshape(shape).numpy())
    if tensor.layout == torch.sparse_coo and not tensor.dense_dim():
        at = tensor._indices().numpy()  # not coalesce(): it would add duplicates up in silence
        rows = at[0] if tensor.ndim == 2 else np.zeros(at.shape[1], np.int64)
        return _csr_of_coo(rows, at[-1], tensor._values().to(torch.float32).numpy(), (shape[0], shape[1]))
    if tensor.layout == torch.sparse_csr:
        values = tensor.values().to(torch.float32).numpy()
        return Csr(tensor.crow_indices().numpy(), tensor.col_indices().numpy(), values, shape[1])
    raise InvalidVectors(f"expected a dense, COO or CSR tensor, found layout {tensor.layout}; use .to_sparse_csr()")


def csr_of_rows(rows: Iterable[Row], dimension: int) -> Csr:
    """Of `{index: weight}`, `(index, weight)` pairs, or objects with `indices` and `values`, in any order in a row."""
    dimension, counts = as_dimension(dimension), [0]
    indices, values = array("q"), array("d")
    if isinstance(rows, (Mapping, str)) or not isinstance(rows, Iterable):
        raise InvalidVectors(f"expected a list of rows, found {type(rows).__name__}; one row is a list of one")
    for number, row in enumerate(rows):
        columns, weights = _columns_and_weights(row, number)
        try:
            _extend(indices, columns)
            _extend(values, weights)
        except OverflowError as error:
            bounds = f"indices must lie in [0, {dimension}), and weights be numbers"
            raise InvalidVectors(f"row {number}: {bounds}: {error}") from error
        counts.append(len(indices))
    found, weights = np.frombuffer(indices, np.int64), np.frombuffer(values, np.float64)
    if found.size and (found.min() < 0 or found.max() >= dimension):  # before scipy meets them
        raise InvalidVectors(f"indices must lie in [0, {dimension}), found one in [{found.min()}, {found.max()}]")
    csr = sp.csr_array((weights, found, np.array(counts)), shape=(len(counts) - 1, dimension))
    csr.sort_indices()
    return Csr(frozen(csr.indptr), frozen(csr.indices), frozen(csr.data), dimension)


def _extend(column: array[Any], some: list[Any] | npt.NDArray[Any]) -> None:
    if isinstance(some, list):
        column.fromlist(some)
    else:
        column.frombytes(some.astype(column.typecode, copy=False).tobytes())


def _columns_and_weights(row: Any, number: int) -> tuple[Any, Any]:
    """The two columns of one row: lists of plain or numpy numbers, or both arrays."""
    try:
        if isinstance(row, Mapping):
            columns, weights = list(row.keys()), list(row.values())
        elif hasattr(row, "indices") and hasattr(row, "values"):
            columns, weights = row.indices, row.values
            if _plain(columns, "iu") and _plain(weights, "fiu") and len(columns) == len(weights):
                return columns, weights
            columns, weights = (x if isinstance(x, list) else list(np.asarray(x).tolist()) for x in (columns, weights))
        else:
            pairs = list(row)
            columns, weights = list(map(list, zip(*pairs, strict=True))) if pairs else ([], [])
    except (TypeError, ValueError):
        raise InvalidVectors(f"row {number} is neither (index, weight) pairs nor a mapping: {row!r:.80}") from None
    if len(columns) != len(weights):
        raise InvalidVectors(f"row {number} has {len(columns)} indices and {len(weights)} values; expected as many")
    if list(map(type, columns)).count(int) < len(columns):
        columns = [_index(column, number) for column in columns]
    if list(map(type, weights)).count(float) < len(weights):
        for weight in weights:
            if isinstance(weight, bool) or not isinstance(weight, (int, float, np.integer, np.floating)):
                raise InvalidVectors(f"row {number}: a weight must be a real number, found {weight!r:.80}")
    return columns, weights


def _plain(column: Any, kinds: str) -> bool:
    """Whether it is an array whose numbers need no look one by one: uint64 may hold more than int64 does."""
    known = type(column) is np.ndarray and column.ndim == 1 and column.dtype.kind in kinds
    return known and column.dtype.itemsize <= 8 and column.dtype != np.uint64


def _index(index: Any, number: int) -> int:
    if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
        return int(index)
    decimal = isinstance(index, str) and index.isascii() and index.isdecimal() and len(index) <= _LONGEST
    if decimal and str(int(index)) == index:
        return int(index)  # as JSON has keys
    raise InvalidVectors(f"row {number}: an index must be an int, found {index!r:.80}; a token stands for its number")
