"""Whatever bytes a file holds, a person learns which file and what was expected, or gets what it says."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sparsevec import files
from sparsevec.contract.payloads import payload_fault
from sparsevec.errors import ClientMissing, InvalidInput, InvalidVectors, SparsevecError
from sparsevec.files import holds_texts, read_dense, read_ids, read_objects, read_qrels, read_table
from sparsevec.vectors import SparseVectors

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


def test_a_byte_order_mark_before_lines_is_no_part_of_them(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbf" + b'{"id": 7}\n')
    assert (list(read_ids(path, 1)), list(read_objects(path))) == ([7], [{"id": 7}])
    assert read_qrels(written(tmp_path, b"\xef\xbb\xbf" + b"2 1 1\n"), [1], [2]) == {0: {0: 1}}


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


def test_a_grade_below_zero_is_one_as_in_trecs_own_judgements(tmp_path: Path) -> None:
    assert read_qrels(written(tmp_path, b"q 0 d1 -2\nq 0 d2 1\n"), ["d1", "d2"], ["q"]) == {0: {0: -2, 1: 1}}


def test_relevance_of_an_unknown_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"line 2: expected a query, a known document and a grade, found 'q d9 1'"):
        read_qrels(written(tmp_path, b"q d1 1\nq d9 1\n"), ["d1"], ["q"])


# ---- vectors in every format

LISTS = ROWS.tolist()
IDS = ["a", "b", "c"]
TABLE = pyarrow.table({"id": IDS, "emb": pyarrow.array(LISTS, pyarrow.list_(pyarrow.float32())), "year": [1, 2, 3]})
FIXED = TABLE.set_column(1, "emb", pyarrow.array(LISTS, pyarrow.list_(pyarrow.float32(), 2)))
OBJECTS = "".join(
    json.dumps({"id": i, "emb": row, "year": y}) + "\n" for i, row, y in zip(IDS, LISTS, (1, 2, 3), strict=True)
)
CSV = "id,emb,year\n" + "".join(f'{i},"{row}",{y}\n' for i, row, y in zip(IDS, LISTS, (1, 2, 3), strict=True))
WIDE = "id,x0,x1,year\n" + "".join(f"{i},{a},{b},{y}\n" for i, (a, b), y in zip(IDS, LISTS, (1, 2, 3), strict=True))
FRAME = pandas.DataFrame({"id": IDS, "emb": LISTS, "year": [1, 2, 3]})
WIDE_FRAME = pandas.DataFrame({"year": [1, 2, 3], "x0": ROWS[:, 0], "x1": ROWS[:, 1], "id": IDS})


def arrow(path: Path, table: Any) -> None:
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def test_a_parquet_file_of_many_rows_is_read_in_pieces_and_a_bad_row_is_named(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(9000, 3)).astype(np.float32).tolist()
    ids = list(range(9000))
    pyarrow.parquet.write_table(pyarrow.table({"emb": rows, "id": ids, "n": ids}), tmp_path / "v.parquet")
    found = read_table(tmp_path / "v.parquet")
    assert np.array_equal(found.rows, np.array(rows))
    assert (found.ids, list(found.payloads or ())) == (ids, [{"n": n} for n in ids])
    for odd, said in ((None, "row 8500: found null"), ([1.0], "row 8500: found 1 numbers, expected 3")):
        bad = pyarrow.table({"emb": [*rows[:8500], odd, *rows[8501:]]})
        pyarrow.parquet.write_table(bad, tmp_path / "bad.parquet")
        with pytest.raises(InvalidVectors, match=said):
            read_dense(tmp_path / "bad.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"emb": rows[:8192] + [[1.0]] * 9}), tmp_path / "bad.parquet")
    with pytest.raises(InvalidVectors, match="row 8192: found 1 numbers, expected 3 as in row 0"):
        read_dense(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("v.npz", lambda path: np.savez(path, id=np.array(IDS), emb=ROWS, year=np.array([1, 2, 3]))),
        ("v.parquet", lambda path: pyarrow.parquet.write_table(TABLE, path)),
        ("v.pq", lambda path: pyarrow.parquet.write_table(FIXED, path, row_group_size=2)),
        ("v.parquet", lambda path: FRAME.to_parquet(path)),
        ("v.arrow", lambda path: arrow(path, TABLE)),
        ("v.arrow", lambda path: arrow(path, FIXED)),
        ("v.feather", lambda path: pyarrow.feather.write_feather(TABLE, path)),
        ("v.jsonl", lambda path: path.write_text(OBJECTS)),
        ("v.csv", lambda path: path.write_text(CSV)),
        ("v.csv", lambda path: path.write_bytes(b"\xef\xbb\xbf" + WIDE.replace("\n", "\r\n").encode())),
        ("v.tsv", lambda path: path.write_text(WIDE.replace(",", "\t"))),
        ("v.csv", lambda path: WIDE_FRAME.to_csv(path)),
    ],
)
def test_a_file_with_vectors_ids_and_payloads_gives_all_three(
    tmp_path: Path, name: str, write: Callable[[Path], object]
) -> None:
    write(tmp_path / name)
    found = read_table(tmp_path / name)
    assert np.array_equal(found.rows, ROWS)
    assert found.ids == IDS
    assert found.payloads == [{"year": 1}, {"year": 2}, {"year": 3}]
    assert np.array_equal(read_dense(str(tmp_path / name)), ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.jsonl", "[0, 1]\n[2, 3]\n[4, 5]\n"),
        ("v.csv", "0,1\n2,3\n4,5\n".replace("0,1", "0.0,1", 1)),
        ("v.csv", "0,1\n0,1\n2,3\n4,5\n"),
        ("v.csv", '"[0, 1]"\n"[2, 3]"\n"[4, 5]"\n'),
        ("v.csv", "x0,x1\n0,1\n2,3\n4,5e0\n\n"),
    ],
)
def test_a_file_of_bare_vectors_gives_them(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    found = read_table(tmp_path / name)
    assert np.array_equal(found.rows, ROWS)
    assert (found.ids, found.payloads) == (None, None)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", "u1", "i1", "<i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_any_real_type_and_order_stays_on_disk(tmp_path: Path, dtype: str, order: Any) -> None:
    np.save(tmp_path / "v.npy", np.array(ROWS, dtype, order=order))
    rows = read_dense(tmp_path / "v.npy")
    assert isinstance(rows, np.memmap)
    assert (rows.dtype, rows.tolist()) == (np.dtype(dtype), LISTS)


@pytest.mark.parametrize(
    "source",
    [TABLE, FIXED, TABLE.to_batches()[0], FRAME, WIDE_FRAME, {"id": IDS, "emb": ROWS, "year": [1, 2, 3]}],
    ids=["table", "fixed", "batch", "frame", "wide", "dict"],
)
def test_a_table_in_memory_gives_vectors_ids_and_payloads(source: Any) -> None:
    found = read_table(source)
    assert np.array_equal(found.rows, ROWS)
    assert (found.ids, found.payloads) == (IDS, [{"year": 1}, {"year": 2}, {"year": 3}])


def test_a_field_that_a_line_does_not_have_is_no_null(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"v": [1], "a": null}\n{"v": [2], "b": {"c": 1}}\n')
    assert read_table(tmp_path / "v.jsonl").payloads == [{"a": None}, {"b": {"c": 1}}]


class Dataset:
    """What a Hugging Face dataset with shuffled rows answers, as far as it is asked."""

    column_names = ("id", "emb")

    def with_format(self, kind: str) -> dict[slice, Any]:
        return {"arrow": Rows()}[kind]  # type: ignore[return-value]


class Rows:
    def __getitem__(self, key: slice) -> Any:
        return TABLE.select(["id", "emb"])[key]


def test_a_hugging_face_dataset_is_taken() -> None:
    assert read_table(Dataset()).ids == IDS


@pytest.mark.parametrize(
    "source",
    [
        ROWS,
        LISTS,
        list(ROWS),
        FRAME["emb"].to_numpy(),
        torch.tensor(ROWS, requires_grad=True),
        torch.tensor(ROWS).bfloat16(),
        [torch.tensor(row) for row in ROWS],
        TABLE["emb"],
        FIXED["emb"].combine_chunks(),
    ],
)
def test_rows_in_memory_are_taken_as_they_come(source: Any) -> None:
    assert np.array_equal(read_dense(source), ROWS)


def test_a_column_is_named_where_several_could_be_the_vectors(tmp_path: Path) -> None:
    two = TABLE.append_column("other", TABLE["emb"])
    pyarrow.parquet.write_table(two, tmp_path / "v.parquet")
    with pytest.raises(InvalidInput, match=r"v\.parquet.*several that could be the vectors, emb, other.*column="):
        read_dense(tmp_path / "v.parquet")
    assert np.array_equal(read_dense(tmp_path / "v.parquet", column="emb"), ROWS)
    with pytest.raises(InvalidInput, match="no column 'embedding'; there are id, emb, year, other"):
        read_dense(tmp_path / "v.parquet", column="embedding")
    (tmp_path / "v.csv").write_text(WIDE)
    assert np.array_equal(read_dense(tmp_path / "v.csv", column="x"), ROWS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.jsonl", "[1, 2]\n[3]\n", r"v\.jsonl, line 2: found 1 numbers, expected 2 as in line 1"),
        ("v.jsonl", "[1, 2]\n[3, null]\n", r"line 2: expected a list of numbers, found None"),
        ("v.jsonl", '[1, 2]\n[3, "4"]\n', r"line 2: expected a list of numbers, found '4'"),
        ("v.jsonl", '{"v": [1]}\n[3]\n', r"line 2: expected an object as in line 1"),
        ("v.jsonl", '{"v": [1]}\n{"w": [1]}\n', r"several that could be the vectors, v, w"),
        ("v.jsonl", '{"v": [1]}\n{"x": 1}\n', r"column 'v', line 2: expected a list of numbers, found None"),
        ("v.jsonl", '{"v": 1}\n', r"found none\. There are v"),
        ("v.jsonl", "[1, 2]\n\x1b[0m\n", r"v\.jsonl, line 2, is not JSON"),
        ("v.jsonl", "", r"v\.jsonl: found no vectors"),
        ("v.csv", "", r"v\.csv: found no vectors"),
        ("v.csv", "\n\n", r"v\.csv: found no vectors"),
        ("v.csv", "a,b\n1\n", r"line 2: found 1 cells, expected 2"),
        ("v.csv", 'id,emb\n1,"[1, 2]"\n\n2,"[1]"\n', r"line 4: found 1 numbers, expected 2 as in line 2"),
        ("v.csv", 'emb\n"[1,"\n', r"v\.csv, line 2, is not JSON"),
        ("v.csv", "price,age\n1,2\n", r"found none\. There are price, age"),
        ("v.csv", 'emb,x,x\n"[1]",1,2\n', r"v\.csv has two columns 'x'; rename one"),
        ("v.txt", "1 2", r"v\.txt is no file of vectors that is known here: expected \.npy"),
        ("v.npy", "no", r"v\.npy is not a NumPy \.npy file"),
        ("v.npz", "PK\x03\x04", r"v\.npz is not a NumPy \.npz file"),
        ("v.jsonl", '{"id": 1, "v": [1], "id": 2}\n', r"v\.jsonl, line 1, .*'id' more than once"),
        ("v.parquet", "PAR1PAR1PAR1", r"v\.parquet is not a whole Parquet file"),
        ("v.parquet", "no", r"v\.parquet is not a whole Parquet file"),
        ("v.arrow", "ARROW1ARROW1", r"v\.arrow is not a whole Arrow file"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises((InvalidInput, InvalidVectors), match=message):
        read_dense(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"shape \(n, d\).*found float64 of shape \(3,\)"),
        (np.zeros((1, 2, 3)), r"shape \(1, 2, 3\)"),
        (np.zeros((1, 2), bool), "found bool"),
        (np.array([["a"]]), "found <U1"),
        (np.array([[object()]]), "pickled objects are never loaded"),
    ],
)
def test_an_array_that_holds_no_vectors_is_refused(tmp_path: Path, array: Any, message: str) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises((InvalidInput, InvalidVectors), match=message):
        read_dense(tmp_path / "v.npy")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (pyarrow.table({"v": [[1.0], None]}), "row 1: found null; leave it out"),
        (pyarrow.table({"v": [[1.0], [None]]}), "found null among the numbers"),
        (pyarrow.chunked_array([[[1.0]], [[1.0, 2.0]]]), "row 1: found 2 numbers, expected 1 as in row 0"),
        (pyarrow.array([["a"]]), "found object|found <U"),
        (pandas.DataFrame({"v": [[1.0], [1.0, 2.0]]}), "column 'v', row 1: found 2 numbers, expected 1"),
        (pandas.DataFrame({"price": [1.0]}), "found none. There are price"),
        (pyarrow.table([[[1.0]], [1], [2]], names=["v", "x", "x"]), "two columns 'x'; rename one, or leave it out"),
        (pandas.DataFrame([[[1.0], 1, 2]], columns=["v", "x", "x"]), "two columns 'x'"),
        ({"v": pyarrow.array([], pyarrow.list_(pyarrow.float32()))}, "found no vectors, expected at least one"),
        ({"v": [[1.0], [2.0]], "year": [1]}, "found 2 values in 'v' and 1 in 'year'"),
        ({"v": [[1.0], [2.0]], "id": [1, 2, 3]}, "found 2 values in 'v' and 3 in 'id'"),
        ({"x0": [1.0, 2.0], "x1": [1.0]}, "found 2 values in 'x0' and 1 in 'x1'"),
        ({"v": [[1.0]], "year": 1}, "column 'year': expected a value for each row, found 1"),
        (None, "found object|NoneType"),
        ([[1.0], "x"], "row 1: expected a list of numbers, found 'x'"),
        (np.ma.array(ROWS, mask=ROWS > 2), "must not be a masked array"),
        ({"x0": np.ma.array([1.0, 2.0], mask=True), "x1": [1.0, 2.0]}, "column 'x0' must not be a masked"),
        (torch.ones(2, 3, device="meta"), "the tensor cannot be read as an array"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_with_its_row(source: Any, message: str) -> None:
    with pytest.raises((InvalidInput, InvalidVectors), match=message):
        read_dense(source)


def test_a_file_that_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "documents.parquet").touch()
    (tmp_path / "notes\x1b.txt").touch()
    message = (
        r"documents\.npy cannot be read: No such file.*holds documents\.parquet, notes\\x1b\.txt; give .*\.parquet"
    )
    with pytest.raises(InvalidInput, match=message):
        read_dense(tmp_path / "documents.npy")
    with pytest.raises(InvalidInput, match=r"is a folder, expected a file of vectors; the folder holds documents"):
        read_dense(tmp_path)
    with pytest.raises(InvalidInput, match=r"ids\.jsonl cannot be read: No such file.*the folder holds"):
        read_ids(tmp_path / "ids.jsonl", 1)


def test_without_pyarrow_a_person_learns_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(files, "import_module", missing)
    pyarrow.parquet.write_table(TABLE, tmp_path / "v.parquet")
    with pytest.raises(ClientMissing, match=r"pip install 'sparsevec\[files\]'"):
        read_dense(tmp_path / "v.parquet")


def test_vectors_of_fixed_size_stay_on_disk_in_an_arrow_file(tmp_path: Path) -> None:
    rows = np.arange(200_000, dtype=np.float32).reshape(-1, 100)
    arrow(tmp_path / "v.arrow", pyarrow.table({"v": pyarrow.FixedSizeListArray.from_arrays(rows.ravel(), 100)}))
    before = pyarrow.total_allocated_bytes()
    found = read_dense(tmp_path / "v.arrow")
    assert np.array_equal(found, rows)
    assert not found.flags.owndata
    assert pyarrow.total_allocated_bytes() - before < rows.nbytes


@same_folder
@given(
    st.sampled_from([".jsonl", ".csv", ".npz", ".parquet", ".arrow"]), st.one_of(st.binary(), st.text().map(str.encode))
)
@example(".jsonl", b"[1E100]")
def test_bytes_under_any_name_raise_nothing_but_typed_errors(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with suppress(SparsevecError):
        read_table(path)


def test_ids_of_a_csv_stay_what_they_are_however_long_and_whatever_they_begin_with(tmp_path: Path) -> None:
    ids = [2**64 - 1, 1234567890123456789, 1234567890123456790]
    (tmp_path / "v.csv").write_text("".join(["id,v,zip\n", *(f'{id_},"[1]",0123{id_ % 7}\n' for id_ in ids)]))
    found = read_table(tmp_path / "v.csv")
    assert found.ids == ids
    assert found.payloads == [{"zip": f"0123{id_ % 7}"} for id_ in ids]
    (tmp_path / "v.csv").write_text('id,v\n007,"[1]"\n7,"[2]"\n')
    assert read_table(tmp_path / "v.csv").ids == ["007", "7"]
    (tmp_path / "v.csv").write_text('id,v\n-1,"[1]"\n0,"[2]"\n')
    assert read_table(tmp_path / "v.csv").ids == [-1, 0]


def test_an_arrow_stream_is_read_as_a_file_is(tmp_path: Path) -> None:
    with pyarrow.ipc.new_stream(str(tmp_path / "v.arrow"), TABLE.schema) as stream:  # as `datasets` keeps its files
        stream.write_table(TABLE)
    found = read_table(tmp_path / "v.arrow")
    assert np.array_equal(found.rows, ROWS)
    assert found.ids == IDS


def test_arrays_of_a_npz_are_numbered_columns_or_named(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    np.savez(path, x0=ROWS[:, 0], x1=ROWS[:, 1], scale=np.float32(3))
    assert np.array_equal(read_dense(path), ROWS)
    assert np.array_equal(read_dense(path, column="x"), ROWS)
    with pytest.raises(InvalidInput, match="column 'scale': expected a value for each row, found array"):
        read_dense(path, column="scale")


def test_a_date_of_a_frame_is_told_in_iso_8601_whatever_its_unit() -> None:
    days = pandas.Series(pandas.to_datetime(["2024-05-01", None]))
    for unit in ("s", "us", "ns"):
        first, second = (
            read_table(pandas.DataFrame({"v": [[1.0], [2.0]], "day": days.astype(f"M8[{unit}]")})).payloads or ()
        )
        assert first["day"] == "2024-05-01T00:00:00"
        assert second["day"] is None


def test_dates_and_decimals_of_a_parquet_file_are_written_as_json_says_them(tmp_path: Path) -> None:
    columns = {
        "v": pyarrow.array([[1.0], [2.0]]),
        "day": pyarrow.array([date(2024, 5, 1), None]),
        "at": pyarrow.array([datetime(2024, 5, 1, 12, tzinfo=UTC), None], pyarrow.timestamp("us", "UTC")),
        "price": pyarrow.array([Decimal("12.30"), None]),
        "offers": pyarrow.array([[{"until": date(2024, 6, 1)}], []]),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "v.parquet")
    said = {
        "day": "2024-05-01",
        "at": "2024-05-01T12:00:00+00:00",
        "price": 12.3,
        "offers": [{"until": "2024-06-01"}],
    }
    payloads = read_table(tmp_path / "v.parquet").payloads or ()
    assert payloads == [said, {"day": None, "at": None, "price": None, "offers": []}]
    assert [payload_fault(payload) for payload in payloads] == [None, None]


def test_lists_of_texts_or_objects_beside_the_vectors_are_no_vectors(tmp_path: Path) -> None:
    lines = [{"v": [1.0], "tags": [], "offers": [{"by": 1}]}, {"v": [2.0], "tags": ["a"], "offers": []}]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines), tmp_path / "v.parquet")
    beside = [{name: line[name] for name in ("tags", "offers")} for line in lines]
    for source in (tmp_path / "v.jsonl", tmp_path / "v.parquet", pandas.DataFrame(lines)):
        read = read_table(source)
        assert np.array_equal(read.rows, [[1.0], [2.0]])
        assert read.payloads == beside


def test_a_time_zone_of_a_frame_and_what_is_no_time_there_are_told() -> None:
    days = pandas.to_datetime(pandas.Series(["2024-05-01", None])).dt.tz_localize("Europe/Berlin")
    read = read_table(pandas.DataFrame({"v": [[1.0], [2.0]], "day": days}))
    assert read.payloads == [{"day": "2024-05-01T00:00:00+02:00"}, {"day": None}]


def test_a_duration_of_a_frame_is_no_number_of_nanoseconds() -> None:
    frame = pandas.DataFrame({"v": [[1.0]], "took": pandas.to_timedelta([1500], unit="ms")})
    assert read_table(frame).payloads == [{"took": timedelta(seconds=1.5)}]


def test_a_name_that_no_file_can_have_is_said_to_be_none() -> None:
    for name in map(Path, ("a\0b.jsonl", "x" * 5000 + ".jsonl")):
        for read in (
            read_dense,
            partial(holds_texts, field="text"),
            partial(read_ids, n=None),
            lambda path: list(read_objects(path)),
            partial(read_qrels, ids=[], query_ids=[]),
        ):
            with pytest.raises(InvalidInput, match="cannot be read"):
                read(name)


@pytest.mark.parametrize("ids", [np.arange(2), np.int64(7)])
def test_ids_of_a_npz_that_are_not_one_a_row_are_not_left_out_in_silence(tmp_path: Path, ids: Any) -> None:
    np.savez(tmp_path / "v.npz", v=np.ones((3, 2)), id=ids)
    with pytest.raises(InvalidInput, match=r"found 3 values in 'v' and 2 in 'id'|a value for each row"):
        read_table(tmp_path / "v.npz")


@pytest.mark.parametrize("read", [read_dense, read_table])
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_vectors_that_are_there_twice_are_refused(tmp_path: Path, read: Any, kind: str) -> None:
    twice = pyarrow.table([[[1.0]], [[2.0]]], names=["v", "v"])
    write = pyarrow.parquet.write_table if kind == "parquet" else pyarrow.feather.write_feather
    write(twice, tmp_path / f"v.{kind}")
    with pytest.raises(InvalidInput, match="has two columns 'v'; rename one"):
        read(tmp_path / f"v.{kind}")


def test_a_folder_of_sparse_vectors_is_told_from_one_of_dense_ones(tmp_path: Path) -> None:
    SparseVectors.from_rows([{1: 1.0}], dimension=8).save(tmp_path / "codes")
    with pytest.raises(InvalidInput, match=r"the folder holds sparse vectors, which SparseVectors\.load reads"):
        read_dense(tmp_path / "codes")


def test_several_datasets_or_one_that_is_not_read_yet_are_no_table() -> None:
    class Splits(dict[str, Any]):
        """As `datasets.DatasetDict` is."""

        column_names = with_format = None

    class Lazy:
        """As `polars.LazyFrame` is."""

        columns = collect_schema = null_count = None

    with pytest.raises(InvalidInput, match=r"found the splits \['train', 'test'\]; choose one of them"):
        read_dense(Splits(train=1, test=2))
    with pytest.raises(InvalidInput, match=r"found Lazy; \.collect\(\) makes one"):
        read_dense(Lazy())


def test_tensors_of_one_dimension_are_ids_and_payloads() -> None:
    found = read_table({"v": torch.from_numpy(ROWS), "id": torch.arange(3), "year": torch.tensor([1, 2, 3])})
    assert np.array_equal(found.rows, ROWS)
    assert (found.ids, found.payloads) == ([0, 1, 2], [{"year": 1}, {"year": 2}, {"year": 3}])


def test_a_column_of_a_frame_is_taken_as_rows() -> None:
    assert np.array_equal(read_dense(FRAME["emb"]), ROWS)
    with pytest.raises(InvalidVectors, match="row 1: expected a list of numbers, found 'x'"):
        read_dense(pandas.Series([[1.0], "x"]))


def test_an_archive_of_other_files_is_no_npz(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "v.xlsx", "w") as archive:
        archive.writestr("sheet.xml", "<sheet/>")
    with pytest.raises(InvalidInput, match=r"v\.xlsx is not a NumPy \.npz file.*sheet\.xml in it is no array"):
        read_table(tmp_path / "v.xlsx")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.npy")
    with pytest.raises(InvalidInput, match=r"v\.npy is a pipe or a device, expected a regular file"):
        read_dense(tmp_path / "v.npy")  # nobody writes to it: opening it would never end


def test_what_only_python_calls_a_number_stays_text_in_a_csv(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(f'id,v,digits,code\n1_0,"[1]",\uff11\uff12,{"9" * 24}\n')
    found = read_table(tmp_path / "v.csv")
    assert (found.ids, found.payloads) == (["1_0"], [{"digits": "\uff11\uff12", "code": "9" * 24}])


def test_a_plus_before_whole_numbers_of_a_csv_is_kept_where_none_is_below_zero(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text('v,phone,change,size\n"[1]",+49301234,+3,+0.5\n"[2]",49309876,-2,1\n')
    told = read_table(tmp_path / "v.csv").payloads
    assert told == [
        {"phone": "+49301234", "change": 3, "size": 0.5},
        {"phone": "49309876", "change": -2, "size": 1.0},
    ]


def test_a_long_text_in_a_csv_is_read(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    (tmp_path / "v.csv").write_text(f'v,text\n"[1]",{"x" * 200_000}\n')
    assert read_table(tmp_path / "v.csv").payloads == [{"text": "x" * 200_000}]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    "odd",
    [
        pyarrow.array([2**50], pyarrow.timestamp("s")),  # a year that Python's dates do not reach
        pyarrow.array([0], pyarrow.timestamp("us", tz="Nowhere/Land")),
        pyarrow.Array.from_buffers(pyarrow.string(), 1, pyarrow.array([b"\xff"]).buffers()),
    ],
)
def test_a_value_that_python_cannot_hold_is_named_with_its_column(tmp_path: Path, odd: Any) -> None:
    told = pyarrow.table({"v": [[1.0]], "odd": odd})
    pyarrow.parquet.write_table(told, tmp_path / "v.parquet")
    for source in (told, tmp_path / "v.parquet"):
        with pytest.raises(InvalidInput, match="column 'odd' holds what Python cannot"):
            read_table(source)


def test_offsets_out_of_bounds_in_an_arrow_file_are_refused(tmp_path: Path) -> None:
    offsets = pyarrow.array([0, 2**30, 1], pyarrow.int32())
    told = pyarrow.table({"v": [[1.0], [2.0]], "tags": pyarrow.ListArray.from_arrays(offsets, pyarrow.array(["a"]))})
    with pyarrow.ipc.new_file(str(tmp_path / "v.arrow"), told.schema) as file:
        file.write_table(told)
    with pytest.raises(InvalidInput, match=r"v\.arrow is not a whole Arrow file"):
        read_table(tmp_path / "v.arrow", column="v")


def test_relevance_of_ids_that_read_alike_or_of_a_grade_of_many_digits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 1 1\n")
    with pytest.raises(InvalidInput, match="found '1' twice"):
        read_qrels(tmp_path / "qrels", [1, "1"], ["q"])
    (tmp_path / "qrels").write_text(f"q 1 1\nq 1 {'9' * 5000}\n")
    with pytest.raises(InvalidInput, match="line 2: expected a query, a known document and a grade"):
        read_qrels(tmp_path / "qrels", [1], ["q"])
