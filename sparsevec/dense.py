"""Dense rows as people bring them, checked; unit rows, blocks; and the one exact top-k, ties to the lower index.

Whatever people hold their embeddings in is taken: numpy of any real type, torch tensors of any dtype and with
gradients, pandas frames and series, lists of rows or of arrays, Arrow lists. Nobody else looks at such input.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from sparsevec.arrays import check_unmasked
from sparsevec.errors import InvalidVectors
from sparsevec.vectors import Float32s, Int64s

__all__ = [
    "Dense",
    "Nearest",
    "as_array",
    "best",
    "blocks",
    "dense_rows",
    "distinct",
    "largest",
    "nearest",
    "query_rows",
    "row_fault",
    "row_faults",
    "rows_without",
    "unit_rows",
]

Dense: TypeAlias = npt.NDArray[np.floating]
Reals: TypeAlias = npt.NDArray[Any]

_SCORES = 2**24  # similarities held at once
_FOLD = 16  # of which one is looked at; twice as many are no faster


# ---- what people bring


def dense_rows(dense: Any, columns: int | None = None, what: str = "dense vectors", *, zeros: bool = False) -> Dense:
    """`dense` as a floating array (n, columns), every row finite and not zero, unless `zeros` may be among them.

    Raises InvalidVectors that names `what` and the first bad row. Without `columns` any width of at least 1 is taken.
    """
    rows = as_array(dense, what)
    if rows.ndim == 0:
        raise InvalidVectors(f"{what} must be an array (n, {columns or 'd'}), found {type(dense).__name__}")
    return _checked(rows, columns, what, zeros)


def query_rows(dense: Any, columns: int, what: str = "queries", *, zeros: bool = False) -> Dense:
    """As `dense_rows`; one row (columns,) is taken too, as a batch of one. Raises InvalidVectors."""
    if (
        type(dense) is np.ndarray
        and dense.dtype in (np.float32, np.float64)
        and dense.shape in ((columns,), (1, columns))
    ):
        row = dense.reshape(1, columns)
        if 0 < float(np.vdot(row, row)) < np.inf:  # finite and not zero; the other way says what it is
            return row
    rows = as_array(dense, what)
    if rows.shape == (columns,):
        return _checked(rows[None], columns, what, zeros)
    return dense_rows(dense, columns, what, zeros=zeros)


def row_faults(dense: Any, columns: int, what: str = "dense vectors", *, zeros: bool = False) -> dict[int, str]:
    """Which of n rows `dense_rows` would refuse, and why, by row.

    Rows of a list are judged one by one, None and those of another width too; an array has one width, and another than
    `columns` raises InvalidVectors.
    """
    if _singly(dense):
        found = ((number, _fault_of(row, columns, zeros)) for number, row in enumerate(dense))
    else:
        rows = _table(as_array(dense, what), columns, what)
        faulty = (range(start, start + len(block)) for start, block in blocks(rows) if _fault(block, start, zeros))
        found = ((number, row_fault(rows[number], columns, zeros=zeros)) for some in faulty for number in some)
    return {number: fault for number, fault in found if fault is not None}


def rows_without(dense: Any, faulty: Collection[int], columns: int) -> Dense:
    """The rows of `dense` whose numbers are not among the `faulty` ones, (u, columns)."""
    if not _singly(dense):
        rows = as_array(dense)
        return np.delete(rows, list(faulty), axis=0) if faulty else rows
    some = [as_array(row) for number, row in enumerate(dense) if number not in faulty]
    return np.stack(some) if some else np.empty((0, columns), np.float32)


def _singly(dense: Any) -> TypeGuard[Sequence[Any]]:
    """Whether these are rows of which each has a width of its own."""
    if str(getattr(dense, "dtype", "")) == "object":  # an array, or a column of a frame
        return bool(dense.ndim == 1)
    return isinstance(dense, list | tuple) and not (len(dense) and np.isscalar(dense[0]))


def _fault_of(row: Any, columns: int, zeros: bool) -> str | None:
    if row is None:
        return "it has no dense row"
    try:
        numbers = as_array(row)
    except InvalidVectors as error:
        return str(error)
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu":
        return f"its dense row must be numbers (d,), found {numbers.dtype} of shape {numbers.shape}"
    return row_fault(numbers, columns, zeros=zeros)


def row_fault(row: Reals, columns: int, *, zeros: bool = False) -> str | None:
    """Why a dense row (d,) cannot be encoded, or None. `zeros`: a zero row has a place in the order, too."""
    if len(row) != columns:
        return f"its dense row has {len(row)} numbers, and the encoder takes {columns}"
    if not np.isfinite(row).all():
        return "its dense row holds NaN or infinity"
    if not zeros and not row.any():
        return "its dense row is zero and has no direction"
    return None


def _checked(rows: Reals, columns: int | None, what: str, zeros: bool) -> Dense:
    rows = _table(rows, columns, what)
    if rows.dtype.kind != "f":
        rows = rows.astype(np.float32 if rows.dtype.itemsize <= 2 else np.float64)  # exactly
    for start, block in blocks(rows):
        if (fault := _fault(block, start, zeros)) is not None:
            raise InvalidVectors(f"{what}: {fault}")
    return rows


def _table(rows: Reals, columns: int | None, what: str) -> Reals:
    """`rows`, which are real numbers (n, columns). Raises InvalidVectors."""
    width = "d" if columns is None else columns
    if rows.ndim != 2:
        one = "; one row is x[None, :]" if rows.ndim == 1 else ""
        raise InvalidVectors(f"{what} must have shape (n, {width}), found shape {rows.shape}{one}")
    if columns is not None and rows.shape[1] != columns:
        raise InvalidVectors(
            f"{what} must have {columns} columns (input_dim), found {rows.shape[1]}; encode with the model that the "
            "others came from"
        )
    if rows.dtype.kind not in "fiu":
        raise InvalidVectors(f"{what} must be real numbers, found {rows.dtype}; convert them with .astype('float32')")
    if rows.shape[1] == 0:
        raise InvalidVectors(f"{what} must have at least one column, found shape {rows.shape}")
    return rows


def as_array(dense: Any, what: str = "dense vectors") -> Reals:
    """Any container of rows as one array; its shape, type and numbers are the caller's to judge.

    Raises InvalidVectors for a container that holds no rows of one length.
    """
    if (torch := sys.modules.get("torch")) is not None and isinstance(dense, torch.Tensor):
        return _from_torch(dense, torch)
    if type(dense).__module__.partition(".")[0] == "pyarrow":
        return _from_arrow(dense, what)
    check_unmasked(dense, what)
    first = dense[0] if isinstance(dense, list | tuple) and len(dense) else None
    if first is not None and not isinstance(first, list | tuple) and not np.isscalar(first):  # arrays, tensors
        return _stacked(dense, what)
    try:
        rows = np.asarray(dense)
    except (ValueError, TypeError):  # lists of several lengths, or of what is no number
        return _stacked(dense, what)
    if rows.dtype == object and rows.size and (rows.ndim == 1 or rows.shape[1:] == (1,)):
        return _stacked(rows.reshape(-1), what)
    return rows


def _from_torch(tensor: Any, torch: Any) -> Reals:
    if tensor.layout != torch.strided:
        raise InvalidVectors(f"dense vectors must be a strided tensor, found {tensor.layout}; use .to_dense()")
    if tensor.device.type == "meta":
        raise InvalidVectors("dense vectors must have numbers, found a tensor on the device 'meta', which keeps none")
    tensor = tensor.detach().cpu()
    array: Reals = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _from_arrow(dense: Any, what: str) -> Reals:
    """A list array of one length, chunked or not, or a table of one such column."""
    if hasattr(dense, "num_columns"):
        if dense.num_columns != 1:
            raise InvalidVectors(f"{what}: expected the column that holds them, found a table of {dense.num_columns}")
        dense = dense.column(0)
    if hasattr(dense, "combine_chunks"):
        dense = dense.combine_chunks()
        dense = dense.chunk(0) if getattr(dense, "num_chunks", 0) else dense
    if dense.null_count:
        row = dense.is_null().to_pylist().index(True)
        raise InvalidVectors(f"{what}: row {row} is null; leave it out")
    if not hasattr(dense, "flatten") or "list" not in str(dense.type):
        raise InvalidVectors(f"{what}: expected an Arrow list of numbers a row, found {dense.type}")
    if not str(dense.type).startswith("fixed_size_list"):
        lengths = np.asarray(dense.value_lengths())
        _check_lengths(lengths, what)
    values = np.asarray(dense.flatten().to_numpy(zero_copy_only=False))
    return values.reshape(len(dense), -1) if len(dense) else values.reshape(0, 0)


def _stacked(rows: Sequence[Any] | Reals, what: str) -> Reals:
    """One row an element: lists, arrays, tensors."""
    try:
        arrays = [as_array(row, what) for row in rows]
    except (TypeError, RecursionError):
        raise InvalidVectors(f"{what} must be an array (n, d), found {type(rows).__name__}") from None
    if not arrays or any(array.dtype.kind not in "fiu" for array in arrays):
        odd = next((row for row, array in enumerate(arrays) if array.dtype.kind not in "fiu"), 0)
        raise InvalidVectors(f"{what} must be real numbers, found {type(rows[odd]).__name__} in row {odd}")
    if any(array.ndim != 1 for array in arrays):
        odd = next(row for row, array in enumerate(arrays) if array.ndim != 1)
        raise InvalidVectors(f"{what} must hold one row an element, found shape {arrays[odd].shape} at {odd}")
    _check_lengths(np.array([len(array) for array in arrays]), what)
    return np.stack(arrays)


def _check_lengths(lengths: npt.NDArray[Any], what: str) -> None:
    if len(lengths) and (lengths != lengths[0]).any():
        row = int(np.argmax(lengths != lengths[0]))
        raise InvalidVectors(
            f"{what} must all have one length: row 0 has {lengths[0]} numbers, row {row} has {lengths[row]}"
        )


def _fault(block: Dense, start: int, zeros: bool) -> str | None:
    largest_entry = np.abs(block).max(axis=1)
    if not np.isfinite(largest_entry).all():
        row = int(np.argmin(np.isfinite(largest_entry)))
        return f"row {start + row} holds NaN or infinity; leave it out or repair it"
    if not zeros and (largest_entry == 0).any():
        return f"row {start + int(np.argmin(largest_entry))} is zero and has no direction; leave it out"
    return None


# ---- inside


def blocks(rows: Dense, size: int = 8192) -> Iterator[tuple[int, Dense]]:
    """(first row, block of at most `size` rows), in order."""
    return ((start, rows[start : start + size]) for start in range(0, len(rows), size))


def unit_rows(rows: Dense) -> Float32s:
    """Each row over its length, (n, d) float32; scaled by its largest entry first, so nothing overflows."""
    units = np.empty(rows.shape, np.float32)
    for start, block in blocks(rows):
        block = block.astype(np.float64)
        block /= np.abs(block).max(axis=1, keepdims=True)
        units[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return units


def distinct(rows: Float32s) -> Int64s:
    """The numbers of rows (n, d) that no earlier one is equal to, ascending."""
    _, first = np.unique(np.ascontiguousarray(rows).view(f"V{rows.itemsize * rows.shape[1]}"), return_index=True)
    found: Int64s = np.sort(first).astype(np.int64)
    return found


class Nearest(NamedTuple):
    """Of each query, best first."""

    rows: Int64s
    """(q, k)"""
    scores: Float32s
    """(q, k) dot products"""


def nearest(rows: Float32s, queries: Float32s, k: int, *, itself: Int64s | None = None) -> Nearest:
    """Of rows (n, d) the k of largest dot product with each query (q, d), or all where there are fewer. Exact.

    itself (q,): the row that each query is, which it does not find; -1 where it is none. Then k is at most n - 1.
    """
    k = min(k, len(rows) - (itself is not None))
    size = max(1, _SCORES // max(1, len(rows)))
    found: list[tuple[Int64s, Float32s]] = []
    for start, block in blocks(queries, size):
        scores = block @ rows.T
        if itself is not None:
            own = itself[start : start + len(block)]
            scores[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
        found.append(largest(scores, k))
    if not found:
        return Nearest(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    return Nearest(np.concatenate([at for at, _ in found]), np.concatenate([scores for _, scores in found]))


def largest(scores: npt.NDArray[Any], k: int) -> tuple[Int64s, npt.NDArray[Any]]:
    """Of each row (b, m) the k largest, k <= m: indices and values (b, k), best first, ties to the lower index."""
    b, m = scores.shape
    if k == 0 or b == 0:
        return np.empty((b, k), np.int64), np.empty((b, k), scores.dtype)
    flat = np.flatnonzero(scores >= _bar(scores, k))
    rows, columns = flat // m, flat % m
    values = scores[rows, columns]
    order = np.lexsort((-values, rows))  # stable: among equal ones the lower column stays first
    starts = np.searchsorted(rows, np.arange(b))
    picked = order[starts[:, None] + np.arange(k)]
    return columns[picked], values[picked]


def _bar(scores: npt.NDArray[Any], k: int) -> npt.NDArray[Any]:
    """What the k largest of each row (b, m) reach, and few others, (b, 1): a fifth of the time of the k-th largest.

    It is the k-th largest of the maxima of 16 columns each: k of these reach it, each in another column.
    """
    b, m = scores.shape
    fold = min(_FOLD, m // (4 * k))  # four times as many maxima: the k largest then rarely share one
    if fold > 1:
        width = m // fold
        scores = scores[:, : fold * width].reshape(b, fold, width).max(axis=1)
        m = width
    return np.partition(scores, m - k, axis=1)[:, m - k, None]


def best(scores: npt.NDArray[Any], k: int) -> Int64s:
    """Positions of the k best of (m,) scores, or of all where there are fewer: ties to the lower position."""
    positions: Int64s = largest(scores[None], min(k, len(scores)))[0][0]
    return positions
