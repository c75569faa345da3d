"""Whatever bytes a file holds, a person hears which file and what is due, or gets what it says."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sparsevec.errors import InvalidInput, InvalidVectors, SparsevecError
from sparsevec.files import read_dense, read_ids, read_objects, read_qrels

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


@same_folder
@given(st.one_of(st.binary(), st.binary(min_size=68).map(lambda tail: npy(ROWS)[:60] + tail)))
@example(b"")
@example(npy(ROWS)[:-1])
@example(npy(ROWS)[:10] + b"{".ljust(118))  # TokenError
@example(npy(ROWS).replace(b"<f4", b",f4"))  # SyntaxError
@example(npy(np.array([object()], dtype=object)))
def test_bytes_that_are_no_array_raise_a_typed_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises((InvalidInput, InvalidVectors), match="file"):
        read_dense(written(tmp_path, content))


@same_folder
@given(st.one_of(st.binary(), st.text().map(str.encode), st.lists(st.integers()).map(lambda x: json.dumps(x).encode())))
def test_lines_of_any_bytes_raise_nothing_but_typed_errors(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)
    for read in (lambda: list(read_ids(path, 2)), lambda: list(read_objects(path)), lambda: read_qrels(path, [1], [2])):
        with suppress(SparsevecError):
            read()


def test_an_array_comes_back_without_being_read_into_memory(tmp_path: Path) -> None:
    rows = read_dense(written(tmp_path, npy(ROWS)))
    assert isinstance(rows, np.memmap)
    assert np.array_equal(rows, ROWS)


def test_ids_are_bare_or_in_objects(tmp_path: Path) -> None:
    assert list(read_ids(written(tmp_path, b'1\n"a"\n{"id": "b", "text": "c"}\n'), 3)) == [1, "a", "b"]
    assert list(read_ids(None, 3)) == [0, 1, 2]


def test_relevance_comes_as_three_columns_or_as_trecs_four(tmp_path: Path) -> None:
    wanted = {0: {1: 2, 0: 1}}
    three = written(tmp_path, b"query\tdocument\tgrade\nq\td2\t2\nq\td1\t1\nother\td1\t1\n")
    assert read_qrels(three, ["d1", "d2"], ["q"]) == wanted
    four = written(tmp_path, b"q 0 d2 2\nq 0 d1 1\n")
    assert read_qrels(four, ["d1", "d2"], ["q"]) == wanted


def test_relevance_of_an_unknown_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"line 2: a query, a known document and a grade are due, found 'q d9 1'"):
        read_qrels(written(tmp_path, b"q d1 1\nq d9 1\n"), ["d1"], ["q"])
