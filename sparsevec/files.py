"""Files that people bring: vectors in many formats, ids and payloads as lines of JSON, relevance as lines of text.

Each function raises InvalidInput or InvalidVectors, naming the file and the line or row.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from sparsevec.contract.checks import Id, first_repeated
from sparsevec.errors import ClientMissing, InvalidInput, InvalidVectors, printable
from sparsevec.tables import (
    IDS,
    Columns,
    DenseFile,
    by_name,
    dense_table,
    may_be_vectors,
    of_vectors,
    rows_of,
    table,
    vector_columns,
)

__all__ = ["DenseFile", "holds_texts", "read_dense", "read_ids", "read_objects", "read_qrels", "read_table"]

_KINDS = {
    ".npy": ".npy",
    ".npz": ".npz",
    ".parquet": ".parquet",
    ".arrow": ".arrow",
    ".feather": ".arrow",
    ".ipc": ".arrow",
    ".jsonl": ".jsonl",
    ".ndjson": ".jsonl",
    ".csv": ".csv",
    ".tsv": ".csv",
}
_MAGIC = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"PAR1": ".parquet", b"ARROW1": ".arrow"}
_LONGEST = 20  # digits of a whole number that is read as one: ids have up to 64 bits
_SPARSE = {"header.json", "indptr.npy", "indices.npy", "values.npy"}  # a folder of `SparseVectors.save`
_GRADE = re.compile(r"-?[0-9]{1,9}")  # TREC has some below 0, of what is worse than not relevant
_PADDED = re.compile(r"\s*[+-]?0\d").match
_BATCH = 8192  # rows of a Parquet file that are read at a time
_LISTED = 10  # files of a folder that a message names
_Source = str | os.PathLike[str]


def read_dense(source: Any, *, column: str | None = None) -> npt.NDArray[Any]:
    """(n, d): the vectors of a file, or of a table or array in memory; of .npy and .arrow left on disk where they fit.

    As `read_table`, without ids and payloads, and reading nothing but the vectors where the format allows.
    """
    return _read(source, column, only=True).rows


def read_table(source: Any, *, column: str | None = None) -> DenseFile:
    """The vectors of a file, with the ids and payloads that stand beside them.

    `source`: a path to .npy, .npz, .parquet, .arrow, .feather, .jsonl (lists, or objects) or .csv (numbers, or a column
    of JSON lists), or an Arrow table, a data frame, a Hugging Face dataset, an array. `column` names the vectors where
    several columns could be them. Raises InvalidInput, InvalidVectors, and ClientMissing for a format that needs
    pyarrow.
    """
    return _read(source, column, only=False)


def holds_texts(path: Path, field: str) -> bool:
    """Whether a file holds texts and not vectors: a text a line, or .jsonl with something in `field`, or no list.

    Raises InvalidInput for a folder, where there is no file, and where nothing is in it.
    """
    try:
        kind = _kind(path)
    except InvalidInput:
        if not os.path.isfile(path):  # noqa: PTH113  Path.is_file raises for a name too long
            raise
        kind = ".txt"
    if not path.stat().st_size:
        raise InvalidInput(f"{printable(path)} is empty: expected documents")
    if kind == ".txt":
        return True
    first = next(_lines(path), {field: ""}) if kind == ".jsonl" else None
    return isinstance(first, dict) and (field in first or not may_be_vectors(first))


def _read(source: Any, column: str | None, only: bool) -> DenseFile:
    if not isinstance(source, (str, os.PathLike)):
        return dense_table(source, column=column)
    path, where = Path(source), printable(source)
    read = _READERS[_kind(path)]
    try:
        return read(path, column, only)
    except OSError as error:
        raise InvalidInput(f"{where} cannot be read: {error.strerror or error}{_beside(path)}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{where} is not UTF-8 text: {error}") from error


def _kind(path: Path) -> str:
    """By what it begins with, else by its name."""
    try:
        folder = path.is_dir()
        piped = path.exists() and not folder and not path.is_file()
        begins = b"" if folder or piped else _begins(path)
    except OSError as error:
        raise InvalidInput(f"{printable(path)} cannot be read: {error.strerror or error}{_beside(path)}") from error
    except ValueError as error:  # a NUL in its name
        raise InvalidInput(f"{printable(path)} cannot be read: {error}") from error
    if folder:
        raise InvalidInput(f"{printable(path)} is a folder, expected a file of vectors{_holding(path)}")
    if piped:  # to look at it takes from it, and who opens it again may wait for ever
        raise InvalidInput(f"{printable(path)} is a pipe or a device, expected a regular file; write one first")
    kind = next((kind for magic, kind in _MAGIC.items() if begins.startswith(magic)), None)
    if kind is None and (kind := _KINDS.get(path.suffix.lower())) is None:
        raise InvalidInput(f"{printable(path)} is no file of vectors that is known here: expected {', '.join(_KINDS)}")
    return kind


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def _beside(path: Path) -> str:
    return "" if os.path.exists(path) else _holding(path.parent)  # noqa: PTH110  Path.exists raises for a name too long


def _holding(folder: Path) -> str:
    """What is in a folder, and which of it could have been meant."""
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return ""
    if not names:
        return "; the folder is empty"
    if set(names) >= _SPARSE:
        return "; the folder holds sparse vectors, which SparseVectors.load reads and no model encodes"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    known = [name for name in names if Path(name).suffix.lower() in _KINDS]
    meant = f"; give {printable(folder / known[0])}" if known else ""
    return f"; the folder holds {', '.join(map(printable, names[:_LISTED]))}{more}{meant}"


def _row(number: int) -> str:
    return f"row {number}"


def _line(number: int) -> str:
    return f"line {number + 1}"


def _read_npy(path: Path, column: str | None, only: bool) -> DenseFile:  # noqa: ARG001
    try:
        rows = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # NumPy parses the header as Python: TokenError, SyntaxError and more, by the byte
        raise InvalidInput(
            f"{printable(path)} is not a NumPy .npy file of numbers (write one with numpy.save; pickled objects are "
            f"never loaded): {printable(error, 300)}"
        ) from error
    return DenseFile(rows_of(rows, printable(path), _row))


def _read_npz(path: Path, column: str | None, only: bool) -> DenseFile:  # noqa: ARG001
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            columns = {name: packed[name] for name in packed.files}
        if strange := [name for name, values in columns.items() if not isinstance(values, np.ndarray)]:
            raise ValueError(f"{strange[0]} in it is no array")
    except OSError:
        raise
    except Exception as error:
        raise InvalidInput(
            f"{printable(path)} is not a NumPy .npz file of numbers and strings (pickled objects are never loaded): "
            f"{printable(error, 300)}"
        ) from error
    names = vector_columns({name: values.ndim == 2 for name, values in columns.items()}, column, printable(path))
    n = columns[names[0]].shape[:1]
    kept = {*names, *[name for name in IDS if name in columns][:1]}  # ids of another number are no other array
    beside = {other: values for other, values in columns.items() if other in kept or values.shape[:1] == n != ()}
    return table(beside, names[0] if len(names) == 1 else column, printable(path), _row)


def _read_parquet(path: Path, column: str | None, only: bool) -> DenseFile:
    parquet = _arrow("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path, memory_map=True)
        names = _vectors_of(file.schema_arrow, column, path)
        others = [] if only else [name for name in file.schema_arrow.names if name not in names]
        if len(names) > 1:
            return table(_of_arrow(file.read(columns=[*names, *others]), path), column, printable(path), _row)
        rows = _rows_of_parquet(file, names[0], f"{printable(path)}, column {names[0]!r}")
        beside = _of_arrow(file.read(columns=others), path)
        return table({names[0]: rows, **beside}, names[0], printable(path), _row)
    except _arrow("pyarrow").ArrowException as error:
        raise InvalidInput(f"{printable(path)} is not a whole Parquet file: {printable(error, 300)}") from error


def _rows_of_parquet(file: Any, name: str, where: str) -> npt.NDArray[Any]:
    """(n, d), read a batch at a time: a column as a whole would be held three times over."""
    rows, start = np.empty((0, 0), np.float32), 0
    for batch in file.iter_batches(_BATCH, columns=[name]):
        part = rows_of(batch.column(0), where, partial(_row_after, start))
        if start == 0:
            rows = np.empty((file.metadata.num_rows, part.shape[1]), part.dtype)
        if part.shape[1] != rows.shape[1]:
            raise InvalidVectors(
                f"{where}, row {start}: found {part.shape[1]} numbers, expected {rows.shape[1]} as in row 0"
            )
        rows[start : start + len(part)] = part
        start += len(part)
    return rows


def _row_after(start: int, number: int) -> str:
    return _row(start + number)


def _read_arrow(path: Path, column: str | None, only: bool) -> DenseFile:
    pyarrow = _arrow("pyarrow")
    try:
        source = pyarrow.memory_map(str(path))
        whole = _begins(path).startswith(b"ARROW1")  # else a stream, as `datasets` keeps its files
        read = (pyarrow.ipc.open_file if whole else pyarrow.ipc.open_stream)(source).read_all()
        read = read.select(_vectors_of(read.schema, column, path)) if only else read
        read.validate(full=True)  # offsets out of bounds would end the process
    except pyarrow.ArrowException as error:
        raise InvalidInput(f"{printable(path)} is not a whole Arrow file: {printable(error, 300)}") from error
    return table(_of_arrow(read, path), column, printable(path), _row)


def _arrow(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ClientMissing.extra("pyarrow", "files") from error


def _vectors_of(schema: Any, column: str | None, path: Path) -> list[str]:
    holds = {field.name: of_vectors(field.type) for field in schema}
    names = vector_columns(holds, column, printable(path))
    twice = [name for name in schema.names if name in names]
    by_name(twice, twice, printable(path))
    return names


def _of_arrow(read: Any, path: Path) -> Columns:
    return by_name(read.column_names, read.columns, printable(path))


def _read_jsonl(path: Path, column: str | None, only: bool) -> DenseFile:  # noqa: ARG001
    lines = list(_lines(path))
    if not lines or not isinstance(lines[0], dict):
        return DenseFile(rows_of(lines, printable(path), _line))
    for number, line in enumerate(lines):
        if not isinstance(line, dict):
            raise InvalidInput(
                f"{printable(path)}, {_line(number)}: expected an object as in line 1, found {line!r:.80}"
            )
    names = list(dict.fromkeys(name for line in lines for name in line))
    found = table({name: [line.get(name) for line in lines] for name in names}, column, printable(path), _line)
    if found.payloads is None:
        return found
    payloads = [
        {name: payload[name] for name in payload if name in line}
        for payload, line in zip(found.payloads, lines, strict=True)
    ]
    return replace(found, payloads=payloads)  # a field that a line does not have is no null


def _read_csv(path: Path, column: str | None, only: bool) -> DenseFile:  # noqa: ARG001
    """Numbers with or without a header, or a column of JSON lists; separated by commas, or by tabs in a .tsv."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        cells, ends = [], []
        limit = csv.field_size_limit(sys.maxsize)  # of the process; a text, or a row of many columns, may be longer
        try:
            for line in reader:
                if line:
                    cells.append(line)
                    ends.append(reader.line_num)
        finally:
            csv.field_size_limit(limit)
    header = bool(cells) and _is_header(cells[0])
    names = cells.pop(0) if header else list(map(str, range(len(cells[0]) if cells else 0)))
    lines = ends[header:]
    for number, line in zip(lines, cells, strict=True):
        if len(line) != len(names):
            raise InvalidInput(f"{printable(path)}, line {number}: found {len(line)} cells, expected {len(names)}")
    found = [_cells([line[at] for line in cells], printable(path), lines) for at in range(len(names))]
    columns = by_name(names, found, printable(path))
    if not header and all(isinstance(values, np.ndarray) for values in found):
        rows = np.stack(found, axis=1) if found else np.empty((0, 0), np.float32)
        return DenseFile(rows_of(rows, printable(path), _row))
    return table(columns, column, printable(path), lambda row: f"line {lines[row]}")


def _is_header(cells: Sequence[str]) -> bool:
    """Names; or 0, 1, 2, ..., as pandas writes over columns without names."""
    counted = len(cells) > 1 and list(cells) == list(map(str, range(len(cells))))
    return counted or any(_number(cell) is None and not cell.lstrip().startswith("[") for cell in cells)


def _cells(cells: list[str], where: str, lines: Sequence[int]) -> Any:
    """A column of a CSV: lists where it holds JSON lists, else numbers where it holds nothing else, else text, as are
    numbers that begin with a zero or are longer than any id: codes, of which 007 is not 7. So are whole ones with a
    plus where none is below 0: of telephones, and no signed numbers."""
    if cells and all(cell.lstrip().startswith("[") for cell in cells):
        return [_json(cell, f"{where}, line {line}") for cell, line in zip(cells, lines, strict=True)]
    numbers = [_number(cell) for cell in cells]
    if any(number is None for number in numbers) or any(map(_PADDED, cells)):
        return cells
    if not cells or not all(isinstance(number, int) for number in numbers):
        return np.array(numbers, np.float64)
    if any("+" in cell for cell in cells) and not any("-" in cell for cell in cells):
        return cells
    return np.array(numbers) if max(map(abs, numbers)) < 2**63 else numbers  # type: ignore[arg-type]


def _number(cell: str) -> int | float | None:
    whole = cell.strip("+-").isdecimal()
    if "_" in cell or not cell.isascii() or (whole and len(cell) > _LONGEST):  # 1_000 is a number to Python alone
        return None
    try:
        return int(cell) if whole else float(cell)
    except ValueError:
        return None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}, is not JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each name of which is there once: json would keep the last and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object has {first_repeated(name for name, _ in pairs)!r:.80} more than once")
    return found


_READERS: dict[str, Callable[[Path, str | None, bool], DenseFile]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
}


def read_ids(path: Path | None, n: int | None) -> Sequence[Id]:
    """One id a line: an int, a string, or an object with an `id`; 0 to n - 1 without a file. n None: any number."""
    if path is None:
        return range(n or 0)
    ids = [line["id"] if isinstance(line, dict) and "id" in line else line for line in _lines(path)]
    if n is not None and len(ids) != n:
        raise InvalidInput(f"{printable(path)} holds {len(ids)} ids, expected {n}, one for each vector")
    return ids


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """One JSON object a line, read as they are needed."""
    for number, line in enumerate(_lines(path), 1):
        if not isinstance(line, dict):
            raise InvalidInput(f"{printable(path)}, line {number}: expected a JSON object, found {line!r:.80}")
        yield line


def _lines(path: Path) -> Iterator[Any]:
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                yield _json(line, f"{printable(path)}, line {number}")
    except OSError as error:
        raise InvalidInput(f"{printable(path)} cannot be read: {error.strerror or error}{_beside(path)}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{printable(path)} is not UTF-8 text: {error}") from error


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig")
    except ValueError as error:  # a NUL in its name
        raise InvalidInput(f"{printable(path)} cannot be read: {error}") from error


def read_qrels(path: Path, ids: Sequence[Id], query_ids: Sequence[Id]) -> dict[int, dict[int, int]]:
    """Lines of `query document grade` (a header may come first) or TREC's `query 0 document grade`, as row numbers.

    Queries that we do not ask are passed over; a document that we do not have is an error.
    """
    rows, queries = _by_text(ids), _by_text(query_ids)
    qrels: dict[int, dict[int, int]] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        query, *_, document, grade = line.split() if len(line.split()) in (3, 4) else ("", "", "")
        graded = _GRADE.fullmatch(grade) is not None
        if number == 1 and not graded:
            continue
        if not graded or document not in rows:
            raise InvalidInput(
                f"{printable(path)}, line {number}: expected a query, a known document and a grade, found {line!r:.80}"
            )
        if query in queries:
            qrels.setdefault(queries[query], {})[rows[document]] = int(grade)
    return qrels


def _by_text(ids: Sequence[Id]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for row, id_ in enumerate(ids):
        if rows.setdefault(str(id_), row) != row:
            raise InvalidInput(f"relevance names its documents and queries by id: found {id_!r:.80} twice")
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # not UTF-8, or a NUL in its name
        raise InvalidInput(f"{printable(path)} cannot be read: {printable(error)}") from error
