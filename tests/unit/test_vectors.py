"""`SparseVectors`: one door, one lock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.errors import InvalidVectors, StorageFailed
from sparsevec.vectors import MAX_DIMENSION, SparseVectors
from tests.strategies import signed_weights, vectors

DENSE = np.array([[0, 1.5, 0, -2], [0, 0, 0, 0], [3, 0, 0, 1]], np.float32)
ROWS = [{1: 1.5, 3: -2.0}, {}, {0: 3.0, 3: 1.0}]


@given(vectors(weights=signed_weights))
def test_a_batch_survives_every_way_out_and_in(batch: SparseVectors) -> None:
    rows = [row.to_dict() for row in batch]
    assert SparseVectors.from_scipy(batch.to_scipy()) == batch
    assert SparseVectors.from_rows(rows, dimension=batch.dimension) == batch
    assert SparseVectors.from_rows([list(row.items())[::-1] for row in rows], dimension=batch.dimension) == batch


@given(vectors(dimension=7, weights=signed_weights))
def test_a_batch_survives_being_dense_or_a_tensor(batch: SparseVectors) -> None:
    dense = torch.from_numpy(batch.to_dense())
    assert SparseVectors.from_dense(batch.to_dense()) == batch
    assert SparseVectors.from_torch(dense) == batch
    assert SparseVectors.from_torch(dense.to_sparse()) == batch


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
def test_a_csr_tensor_with_gradients_is_taken() -> None:
    tensor = torch.tensor(DENSE, requires_grad=True).to_sparse_csr()
    assert SparseVectors.from_torch(tensor) == SparseVectors.from_dense(DENSE)


@pytest.mark.parametrize("make", [sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_array, sp.lil_matrix, sp.dok_array])
def test_every_scipy_format_is_taken(make: Callable[[Any], Any]) -> None:
    assert SparseVectors.from_scipy(make(DENSE)) == SparseVectors.from_rows(ROWS, dimension=4)


def test_unsorted_csr_is_sorted_without_touching_the_callers_matrix() -> None:
    matrix = sp.csr_array((np.array([-2, 1.5], np.float32), np.array([3, 1]), np.array([0, 2])), shape=(1, 4))
    assert SparseVectors.from_scipy(matrix)[0].to_dict() == {1: 1.5, 3: -2.0}
    assert matrix.indices.tolist() == [3, 1]


def test_to_scipy_copies_nothing() -> None:
    batch = SparseVectors.from_dense(DENSE)
    assert np.shares_memory(batch.to_scipy().data, batch.values)


def test_arrays_and_attributes_are_read_only() -> None:
    batch = SparseVectors.from_dense(DENSE)
    with pytest.raises(ValueError, match="read-only"):
        batch.values[0] = 9
    with pytest.raises(AttributeError, match="read-only"):
        batch.dimension = 9


@given(vectors(min_rows=1, max_rows=5), st.data())
def test_picking_rows_equals_picking_them_one_by_one(batch: SparseVectors, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, len(batch) - 1), max_size=6))
    picked = batch[np.array(numbers, np.int64)]
    assert [row.to_dict() for row in picked] == [batch[number].to_dict() for number in numbers]


@given(vectors(max_rows=6), st.integers(0, 7), st.integers(0, 7))
def test_concat_undoes_slicing(batch: SparseVectors, one: int, other: int) -> None:
    first, second = sorted((one, other))
    parts = [batch[:first], batch[first:second], batch[second:]]
    assert SparseVectors.concat(parts) == batch


def test_a_mask_picks_its_rows_and_a_negative_row_counts_from_the_end() -> None:
    batch = SparseVectors.from_dense(DENSE)
    assert batch[np.array([True, False, True])] == SparseVectors.from_rows([ROWS[0], ROWS[2]], dimension=4)
    assert batch[-1].to_dict() == ROWS[2]


@pytest.mark.parametrize(
    ("indptr", "indices", "values", "dimension", "message"),
    [
        ([0, 1], [0], [np.nan], 4, "row 0: values must be finite"),
        ([0, 0, 1], [2], [np.inf], 4, "row 1: values must be finite"),
        ([0, 1], [0], [1e39], 4, "finite"),
        ([0, 1], [0], [0.0], 4, "must not be zero"),
        ([0, 1], [0], [1e-60], 4, "must not be zero"),
        ([0, 2], [1, 1], [1, 1], 4, "row 0 repeats index 1"),
        ([0, 1, 3], [1, 2, 0], [1, 1, 1], 4, "row 1 is not sorted at index 0"),
        ([0, 1], [4], [1], 4, r"indices must lie in \[0, 4\)"),
        ([0, 1], [-1], [1], 4, r"indices must lie in \[0, 4\)"),
        ([0, 1], [0.5], [1], 4, "indices must be integers, found float64"),
        ([0, 2], [0], [1], 4, "must agree"),
        ([1, 1], [0], [1], 4, "start at 0"),
        ([0, 1, 0], [], [], 4, "never fall"),
        ([], [], [], 4, "start at 0"),
        ([[0]], [], [], 4, "one dimension"),
        ([0], [], [], 0, "dimension must be"),
        ([0], [], [], 2**32 + 1, "dimension must be"),
        ([0], [], [], 3.0, "dimension must be"),
        ([0], [], [], True, "dimension must be"),
        ([0, 1], [0], ["x"], 4, "real numbers"),
        ([0, 1], [0], [1j], 4, "real numbers"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(
    indptr: Any, indices: Any, values: Any, dimension: Any, message: str
) -> None:
    with pytest.raises(InvalidVectors, match=message):
        SparseVectors(indptr, indices, values, dimension)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[(0, 1.0), (0, 2.0)]], "row 0 repeats index 0"),
        ([{}, {"1": 1.0}], "row 1: an index must be an int, found '1'"),
        ([{True: 1.0}], "row 0: an index must be an int"),
        ([{0: None}], "row 0: a weight must be a real number, found None"),
        ([{0: "1"}], "row 0: a weight must be"),
        ([[1.0, 2.0]], "row 0 is neither"),
        ([{2**70: 1.0}], "indices"),
        ([{-1: 1.0}], r"\[0, 4\)"),
        ([{0: float("nan")}], "finite"),
    ],
)
def test_bad_rows_are_refused_by_number(rows: Any, message: str) -> None:
    with pytest.raises(InvalidVectors, match=message):
        SparseVectors.from_rows(rows, dimension=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SparseVectors.from_dense(np.zeros(3)), "shape"),
        (lambda: SparseVectors.from_dense(np.array([["a"]])), "real numbers"),
        (lambda: SparseVectors.from_scipy(np.zeros((1, 1))), "scipy sparse"),
        (lambda: SparseVectors.from_scipy(sp.coo_array(([1.0, 1.0], ([0, 0], [1, 1])), shape=(1, 2))), "repeats"),
        (lambda: SparseVectors.concat([]), "at least one"),
        (lambda: SparseVectors.concat([SparseVectors([0], [], [], 1), SparseVectors([0], [], [], 2)]), r"\[1, 2\]"),
    ],
)
def test_bad_sources_are_refused(make: Callable[[], SparseVectors], message: str) -> None:
    with pytest.raises(InvalidVectors, match=message):
        make()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_duplicates_in_a_coo_tensor_are_refused_not_added_up() -> None:
    tensor = torch.sparse_coo_tensor(torch.tensor([[0, 0], [1, 1]]), torch.tensor([1.0, 2.0]), (1, 3))
    with pytest.raises(InvalidVectors, match="repeats index 1"):
        SparseVectors.from_torch(tensor)


def test_the_last_dimension_there_is_can_be_used() -> None:
    batch = SparseVectors.from_rows([{0: 1.0, MAX_DIMENSION - 1: 2.0}], dimension=MAX_DIMENSION)
    assert batch[0].to_dict() == {0: 1.0, MAX_DIMENSION - 1: 2.0}


@pytest.mark.parametrize("mmap", [False, True])
@given(batch=vectors(weights=signed_weights))
def test_what_was_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, mmap: bool, batch: SparseVectors) -> None:
    folder = tmp_path_factory.mktemp("vectors")
    batch.save(folder)
    assert SparseVectors.load(folder, mmap=mmap) == batch


@pytest.mark.parametrize("part", ["header.json", "indptr.npy", "indices.npy", "values.npy"])
@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        lambda file: file.write_bytes(file.read_bytes()[:-8]),
        lambda file: file.write_bytes(file.read_bytes()[:10] + b"{".ljust(118)),
    ],
)
def test_a_folder_cut_short_or_garbled_is_refused(tmp_path: Path, part: str, harm: Callable[[Path], object]) -> None:
    SparseVectors.from_dense(DENSE).save(tmp_path)
    harm(tmp_path / part)
    with pytest.raises(InvalidVectors, match=str(tmp_path)):
        SparseVectors.load(tmp_path)


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    SparseVectors.from_dense(DENSE).save(tmp_path)
    (tmp_path / "header.json").write_text('{"format": "theirs"}')
    with pytest.raises(InvalidVectors, match="not written by"):
        SparseVectors.load(tmp_path)


def test_a_path_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="could not write"):
        SparseVectors.from_dense(DENSE).save(tmp_path / "file" / "vectors")
