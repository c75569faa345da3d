"""Files that people bring: dense vectors as .npy, ids and payloads as .jsonl, relevance as lines of text.

Each raises InvalidInput or InvalidVectors, naming the file and the line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsevec.contract.checks import Id
from sparsevec.errors import InvalidInput, InvalidVectors

__all__ = ["read_dense", "read_ids", "read_objects", "read_qrels"]


def read_dense(path: Path) -> npt.NDArray[Any]:
    """(n, d), left on disk and paged in as it is used."""
    try:
        rows = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # NumPy parses the header as Python: TokenError, SyntaxError and more, by the byte
        raise InvalidInput(f"{path} is not a NumPy .npy file (write one with numpy.save): {error}") from error
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise InvalidVectors(
            f"{path} must hold floats of shape (n, d), one row a vector; found {rows.dtype} of shape {rows.shape}"
        )
    return rows


def read_ids(path: Path | None, n: int | None) -> Sequence[Id]:
    """One id a line: an int, a string, or an object with an `id`; 0 to n - 1 without a file. n None: any number."""
    if path is None:
        return range(n or 0)
    ids = [line["id"] if isinstance(line, dict) and "id" in line else line for line in _lines(path)]
    if n is not None and len(ids) != n:
        raise InvalidInput(f"{path} holds {len(ids)} ids, expected {n}, one for each vector")
    return ids


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """One JSON object a line, read as they are needed."""
    for number, line in enumerate(_lines(path), 1):
        if not isinstance(line, dict):
            raise InvalidInput(f"{path}, line {number}: a JSON object is due, found {line!r:.80}")
        yield line


def _lines(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise InvalidInput(f"{path}, line {number}, is not JSON: {error}") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text: {error}") from error


def read_qrels(path: Path, ids: Sequence[Id], query_ids: Sequence[Id]) -> dict[int, dict[int, int]]:
    """Lines of `query document grade` (a header may come first) or TREC's `query 0 document grade`, as row numbers.

    Queries that we do not ask are passed over; a document that we do not have is an error.
    """
    rows = {str(id_): row for row, id_ in enumerate(ids)}
    queries = {str(id_): row for row, id_ in enumerate(query_ids)}
    qrels: dict[int, dict[int, int]] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        query, *_, document, grade = line.split() if len(line.split()) in (3, 4) else ("", "", "")
        if number == 1 and not grade.isdecimal():
            continue
        if not grade.isdecimal() or document not in rows:
            raise InvalidInput(
                f"{path}, line {number}: a query, a known document and a grade are due, found {line!r:.80}"
            )
        if query in queries:
            qrels.setdefault(queries[query], {})[rows[document]] = int(grade)
    return qrels


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
