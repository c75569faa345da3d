"""Tables that people hold their vectors in, by column: Arrow, pandas, polars, Hugging Face `datasets`, arrays.

One column (or numbered columns such as `dim_0`, `dim_1`) holds the vectors; a column `id` or `_id` the ids; the rest is
payload. No library of theirs is imported here: their objects are known by what they can do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sparsevec.arrays import check_unmasked
from sparsevec.contract.checks import Id
from sparsevec.errors import InvalidInput, InvalidVectors, printable

__all__ = [
    "IDS",
    "Columns",
    "DenseFile",
    "by_name",
    "columns_of",
    "dense_table",
    "may_be_vectors",
    "of_vectors",
    "table",
]

Reals: TypeAlias = npt.NDArray[Any]
Columns: TypeAlias = Mapping[str, Any]
"""Names to arrays, lists or Arrow arrays, all of one length."""

IDS = ("id", "_id", "ids")
_NUMBERED = re.compile(r"(.*?)(\d+)")
_MAY_BE_NUMBERS = re.compile(r"u?int|float|halffloat|double|decimal|null|\w*list").match


@dataclass(frozen=True, slots=True)
class DenseFile:
    """Vectors that somebody brought, and what stands beside them."""

    rows: Reals
    """(n, d), of the type that they were kept in; perhaps still on disk"""
    ids: Sequence[Id] | None = None
    """(n,); None where there is no column `id`"""
    payloads: Sequence[dict[str, Any]] | None = None
    """(n,): all other columns, as JSON; None where there are none"""


def dense_table(source: Any, *, column: str | None = None) -> DenseFile:
    """The vectors, ids and payloads of a table, or the vectors of an array, tensor or list of rows.

    `column` names the vectors where several columns could be them. Raises InvalidInput for a table without such a
    column, InvalidVectors for rows that are none, with the row.
    """
    columns = columns_of(source)
    if columns is None:
        return DenseFile(rows_of(source, "the vectors", _row))
    return table(columns, column, "the table", _row)


def _row(number: int) -> str:
    return f"row {number}"


def columns_of(source: Any) -> Columns | None:
    """The columns of an Arrow table, a data frame or a dataset; None for anything that is not a table. Raises
    InvalidInput for several datasets, or one that is not in memory yet."""
    if isinstance(source, Mapping) and hasattr(source, "with_format"):  # datasets.DatasetDict
        raise InvalidInput(f"expected one dataset, found the splits {printable(list(source), 200)}; choose one of them")
    if hasattr(source, "collect_schema") and not hasattr(source, "to_arrow"):  # polars.LazyFrame
        raise InvalidInput(f"expected a table in memory, found {type(source).__name__}; .collect() makes one")
    if hasattr(source, "column_names") and hasattr(source, "with_format"):  # datasets.Dataset, also one of some rows
        source = source.with_format("arrow")[:]
    elif hasattr(source, "to_arrow") and hasattr(source, "columns"):  # polars
        source = source.to_arrow()
    if hasattr(source, "column_names") and hasattr(source, "column"):  # pyarrow
        return by_name(source.column_names, map(source.column, range(len(source.column_names))), "the table")
    if hasattr(source, "columns") and hasattr(source, "iloc"):  # pandas
        frame = (source.iloc[:, at].to_numpy() for at in range(len(source.columns)))
        return by_name(map(str, source.columns), frame, "the table")
    if isinstance(source, Mapping):
        return by_name(map(str, source), source.values(), "the table")
    return None


def by_name(names: Iterable[str], columns: Iterable[Any], where: str) -> Columns:
    """Raises InvalidInput for two columns of one name, of which one would be lost."""
    found: dict[str, Any] = {}
    for name, values in zip(names, columns, strict=True):
        if name in found:
            raise InvalidInput(f"{where} has two columns {name!r}; rename one, or leave it out")
        found[name] = values
    return found


def table(columns: Columns, column: str | None, where: str, place: Callable[[int], str]) -> DenseFile:
    """Vectors, ids and payloads of `columns`; `where` and `place(row)` stand in messages."""
    _check_lengths(columns, where)
    names = vector_columns({name: _holds_vectors(values) for name, values in columns.items()}, column, where)
    if len(names) == 1:
        rows = rows_of(columns[names[0]], f"{where}, column {names[0]!r}", place)
    else:
        rows = np.stack([_numbers(columns[name], f"{where}, column {name!r}") for name in names], axis=1)
    ids = next((name for name in IDS if name in columns and name not in names), None)
    others = {
        name: _as_json(_plain(columns[name], f"{where}, column {name!r}"))
        for name in columns
        if name and name not in names and name != ids
    }
    payloads = [dict(zip(others, row, strict=True)) for row in zip(*others.values(), strict=True)]
    own = None if ids is None else _plain(columns[ids], f"{where}, column {ids!r}")
    return DenseFile(rows, own, payloads if others else None)


def _check_lengths(columns: Columns, where: str) -> None:
    """Raises InvalidInput unless each column has a value for each row."""
    rows: dict[int, str] = {}
    for name, values in columns.items():
        try:
            rows.setdefault(len(values), name)
        except TypeError:
            raise InvalidInput(
                f"{where}, column {name!r}: expected a value for each row, found {values!r:.80}"
            ) from None
    if len(rows) > 1:
        (n, one), (m, other), *_ = rows.items()
        raise InvalidInput(f"{where}: expected columns of one length, found {n} values in {one!r} and {m} in {other!r}")


def vector_columns(holds: Mapping[str, bool], column: str | None, where: str) -> list[str]:
    """Which of the columns the vectors are in; `holds` says of each whether it has a list in every row."""
    groups = _numbered(list(holds))
    shown = printable(", ".join(map(str, holds)), 200)
    if column is not None:
        if found := [column] if column in holds else groups.get(column, []):
            return found
        raise InvalidInput(f"{where} has no column {column!r}; there are {shown}")
    lists = [name for name, holds_lists in holds.items() if holds_lists]
    choices = [[name] for name in lists] if lists else list(groups.values())
    if len(choices) != 1:
        could = ", ".join(one[0] for one in choices)
        raise InvalidInput(
            f"{where}: expected one column of lists of numbers, or numbered columns such as dim_0, dim_1; found "
            + (f"several that could be the vectors, {printable(could, 200)}. " if choices else "none. ")
            + f"There are {shown}; name one with column="
        )
    return choices[0]


def may_be_vectors(line: Mapping[str, Any]) -> bool:
    """Whether one line of a table has a list in it, or numbered columns."""
    return any(isinstance(value, list) for value in line.values()) or bool(_numbered(list(line)))


def _numbered(names: Sequence[str]) -> dict[str, list[str]]:
    """Columns that differ in a running number only, by what stands before it."""
    matches = [
        (match.group(1), int(match.group(2)), match.group()) for name in names if (match := _NUMBERED.fullmatch(name))
    ]
    groups = {stem: list(group) for stem, group in groupby(sorted(matches), key=lambda match: match[0])}
    return {
        stem: [name for _, _, name in group]
        for stem, group in groups.items()
        if len(group) > 1 and [number for _, number, _ in group] == list(range(group[0][1], group[0][1] + len(group)))
    }


def of_vectors(kind: Any) -> bool:
    """Whether an Arrow type is one of lists that may be vectors."""
    return "list" in str(kind).partition("<")[0] and _MAY_BE_NUMBERS(str(kind.value_type)) is not None


def _holds_vectors(values: Any) -> bool:
    """Whether it holds lists, and not of texts, objects and the like, as tags and offers are."""
    if hasattr(values, "null_count"):
        return of_vectors(values.type)
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return values.dtype.kind in "fiu"
    if hasattr(values, "detach"):
        return bool(values.ndim == 2)
    first = next((value for value in values if not isinstance(value, list | tuple | None) or value), None)
    if isinstance(first, list | tuple):
        return not isinstance(first[0], str | dict)
    return isinstance(first, np.ndarray) or hasattr(first, "detach")


def rows_of(values: Any, where: str, place: Callable[[int], str]) -> Reals:
    """(n, d) of an array, a tensor, an Arrow column or a sequence of rows. Raises InvalidVectors."""
    check_unmasked(values, where)
    if hasattr(values, "null_count"):
        rows = _of_arrow(values, where, place)
    elif hasattr(values, "detach"):
        rows = _of_tensor(values)
    elif isinstance(values, np.ndarray) and values.dtype.kind != "O":
        rows = values
    elif isinstance(values, (list, tuple, np.ndarray)):
        rows = _stacked(values, where, place)
    else:
        try:
            rows = np.asarray(values)
        except Exception as error:
            raise InvalidVectors(f"{where} cannot be read as an array: {error}") from error
        if rows.dtype.kind == "O" and rows.ndim == 1:  # a column of a frame
            rows = _stacked(rows, where, place)
    if rows.shape == (0, 0) or (rows.ndim == 1 and len(rows) == 0):
        raise InvalidVectors(f"{where}: found no vectors, expected at least one")
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise InvalidVectors(
            f"{where} must hold numbers of shape (n, d), one row a vector; found {rows.dtype} of shape {rows.shape}"
        )
    return rows


def _of_tensor(tensor: Any) -> Reals:
    try:
        tensor = tensor.detach().cpu()
        array: Reals = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
    except Exception as error:
        raise InvalidVectors(f"the tensor cannot be read as an array: {error}") from error
    return array


def _of_arrow(column: Any, where: str, place: Callable[[int], str]) -> Reals:
    if column.null_count:
        raise InvalidVectors(f"{where}, {place(column.is_null().to_pylist().index(True))}: found null; leave it out")
    if not hasattr(column, "num_chunks"):
        return _of_chunk(column, where, place)
    chunks = [_of_chunk(chunk, where, place) for chunk in column.chunks if len(chunk)]
    if len(chunks) == 1:
        return chunks[0]  # perhaps still on disk
    if len({chunk.shape[1:] for chunk in chunks}) > 1:  # to say in which row
        return _stacked([row for chunk in chunks for row in chunk], where, place)
    return np.concatenate(chunks) if chunks else np.empty((0, 0), np.float32)


def _of_chunk(chunk: Any, where: str, place: Callable[[int], str]) -> Reals:
    if not hasattr(chunk, "flatten") or "list" not in str(chunk.type):
        raise InvalidVectors(f"{where}: expected a list of numbers in each row, found {chunk.type}")
    values = chunk.flatten()
    if values.null_count:
        raise InvalidVectors(f"{where}: found null among the numbers of a vector")
    numbers = np.asarray(values.to_numpy(zero_copy_only=False))
    if "fixed" not in str(chunk.type):
        lengths = np.asarray(chunk.value_lengths())
        _same_length(lengths.tolist(), where, place)
    return numbers.reshape(len(chunk), -1) if len(chunk) else np.empty((0, 0), np.float32)


def _stacked(values: Any, where: str, place: Callable[[int], str]) -> Reals:
    """One row an element: lists, arrays or tensors."""
    rows = [_one(value, f"{where}, {place(number)}") for number, value in enumerate(values)]
    _same_length([len(row) for row in rows], where, place)
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def _one(value: Any, where: str) -> Reals:
    if hasattr(value, "detach"):
        value = _of_tensor(value)
    if isinstance(value, (list, tuple)) and not set(map(type, value)) <= {int, float} and not _numpy_numbers(value):
        odd = next(number for number in value if type(number) not in (int, float))
        raise InvalidVectors(f"{where}: expected a list of numbers, found {odd!r:.80} in it")
    try:
        with np.errstate(over="ignore"):  # 1e39 becomes inf, which whoever takes the rows refuses as such
            row = np.asarray(value, None if hasattr(value, "dtype") else np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidVectors(f"{where}: expected a list of numbers, found {value!r:.80}") from error
    if row.ndim != 1 or row.dtype.kind not in "fiu":
        raise InvalidVectors(f"{where}: expected a list of numbers, found {value!r:.80}")
    return row


def _numpy_numbers(value: Sequence[Any]) -> bool:
    return all(isinstance(number, (np.floating, np.integer, int, float)) and number is not True for number in value)


def _same_length(lengths: Sequence[int], where: str, place: Callable[[int], str]) -> None:
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            raise InvalidVectors(
                f"{where}, {place(row)}: found {length} numbers, expected {lengths[0]} as in {place(0)}"
            )


def _numbers(values: Any, where: str) -> Reals:
    check_unmasked(values, where)
    column = np.asarray(values)
    if column.dtype.kind not in "fiu" or column.ndim != 1:
        raise InvalidVectors(f"{where}: expected numbers, found {column.dtype}")
    return column


def _plain(values: Any, where: str) -> list[Any]:
    if hasattr(values, "to_pylist"):
        try:
            return list(values.to_pylist())
        except Exception as error:  # text that is not UTF-8, a date after the year 9999, a time zone that is none
            raise InvalidInput(f"{where} holds what Python cannot: {printable(error, 300)}") from error
    if hasattr(values, "detach"):
        values = _of_tensor(values)
    kind = getattr(values, "dtype", np.dtype(object)).kind
    if kind in "mM":  # of nanoseconds, item() would make numbers of dates and durations
        values = values.astype(f"{kind}8[us]")
    return [value.item() if isinstance(value, np.generic) else value for value in values]


_PLAIN = {str, int, float, bool, type(None)}


def _as_json(values: list[Any]) -> list[Any]:
    """What columns hold and JSON does not: dates and times in ISO 8601, decimals as the nearest number."""
    return values if _PLAIN.issuperset(map(type, values)) else list(map(_json_of, values))


def _json_of(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat() if value == value else None  # NaT of pandas
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return list(map(_json_of, value))
    return {name: _json_of(inner) for name, inner in value.items()} if isinstance(value, dict) else value
