"""`SparseVectors`: one door, one lock."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevec.errors import InvalidInput, InvalidVectors, StorageFailed
from sparsevec.vectors import MAX_DIMENSION, SparseVectors
from tests.full_disk import files_up_to
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


FORMATS = [sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_array, sp.lil_matrix, sp.dok_array, sp.dia_array]


@pytest.mark.parametrize("make", [*FORMATS, lambda dense: sp.bsr_array(dense, blocksize=(1, 2))])
def test_every_scipy_format_is_taken(make: Callable[[Any], Any]) -> None:
    assert SparseVectors.from_scipy(make(DENSE)) == SparseVectors.from_rows(ROWS, dimension=4)


def test_unsorted_csr_is_sorted_without_touching_the_callers_matrix() -> None:
    matrix = sp.csr_array((np.array([-2, 1.5], np.float32), np.array([3, 1]), np.array([0, 2])), shape=(1, 4))
    assert SparseVectors.from_scipy(matrix)[0].to_dict() == {1: 1.5, 3: -2.0}
    assert matrix.indices.tolist() == [3, 1]


def test_a_one_dimensional_sparse_array_is_one_row() -> None:
    assert SparseVectors.from_scipy(sp.coo_array(DENSE[0])) == SparseVectors.from_dense(DENSE[:1])


def test_a_coo_matrix_is_taken_in_any_order_of_its_entries() -> None:
    matrix = sp.coo_array((np.array([1.0, 3.0, -2.0, 1.5]), ([2, 2, 0, 0], [3, 0, 3, 1])), shape=(3, 4))
    assert SparseVectors.from_scipy(matrix) == SparseVectors.from_dense(DENSE)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize(
    "tensors",
    [
        [torch.tensor(row).to_sparse() for row in DENSE],
        [torch.tensor(DENSE[0]), torch.tensor(DENSE[1:]).to_sparse()],
        torch.tensor(DENSE).bfloat16(),
        torch.tensor(DENSE).half().to_sparse(),
        torch.tensor(DENSE).double().requires_grad_(),
        torch.complex(torch.zeros(DENSE.shape), torch.tensor(-DENSE)).conj().imag,
        torch.tensor(DENSE[::-1].copy()).to_sparse().index_select(0, torch.tensor([2, 1, 0])),
    ],
)
def test_tensors_come_in_lists_in_any_real_type_and_in_any_order(tensors: Any) -> None:
    assert SparseVectors.from_torch(tensors) == SparseVectors.from_dense(DENSE)


def test_one_sparse_tensor_of_one_dimension_is_one_row() -> None:
    assert SparseVectors.from_torch(torch.tensor(DENSE[0]).to_sparse()) == SparseVectors.from_dense(DENSE[:1])


@given(vectors(dimension=7), st.data())
def test_coordinates_in_any_order_make_the_same_batch(batch: SparseVectors, data: st.DataObject) -> None:
    coo = batch.to_scipy().tocoo()
    order = np.array(data.draw(st.permutations(range(batch.nnz))), np.int64)
    shuffled = sp.coo_array((coo.data[order], (coo.row[order], coo.col[order])), shape=coo.shape)
    assert SparseVectors.from_scipy(coo) == SparseVectors.from_scipy(shuffled) == batch


@pytest.mark.parametrize(
    "matrix",
    [
        sp.csc_array((np.ones(2), [-1, 77_777_777], [0, 2, 2]), shape=(3, 2)),
        sp.csc_array((np.ones(2), [0, 3], [0, 2, 2]), shape=(3, 2)),
        sp.csc_array((np.ones(2), [0, 1], [0, 10**9, 2]), shape=(3, 2)),
        sp.csr_array((np.ones(2), [0, 1], [0, 10**9, 2]), shape=(2, 2)),
        sp.bsr_array((np.ones((2, 1, 1)), [0, 1], [0, 10**9, 2]), shape=(2, 2)),
    ],
)
def test_a_matrix_that_scipy_has_not_looked_at_is_refused_before_it_converts_it(matrix: Any) -> None:
    with pytest.raises(InvalidVectors, match=r"indptr must start at 0|rows must lie in \[0, 3\)"):
        SparseVectors.from_scipy(matrix)


@pytest.mark.parametrize(("rows", "columns"), [([0, 0, 2], [1, 4, 0]), ([0, 0, 3], [1, 2, 0]), ([-1, 0, 2], [1, 2, 0])])
def test_coordinates_outside_are_refused(rows: list[int], columns: list[int]) -> None:
    tensor = torch.sparse_coo_tensor(
        torch.tensor([rows, columns]), torch.ones(3), (3, 4), check_invariants=False, is_coalesced=True
    )
    with pytest.raises(InvalidVectors, match=r"indices must lie in|coordinates cannot be read"):
        SparseVectors.from_torch(tensor)


@given(vectors(dimension=7), st.data())
def test_rows_may_be_written_each_in_another_way(batch: SparseVectors, data: st.DataObject) -> None:
    ways: list[Callable[[Any], Any]] = [
        lambda row: row,
        dict,
        list,
        lambda row: SimpleNamespace(indices=row.indices.tolist(), values=row.values.tolist()),
        lambda row: SimpleNamespace(indices=row.indices.astype(np.uint64), values=row.values.astype(np.float64)),
    ]
    rows = [data.draw(st.sampled_from(ways))(row) for row in batch]
    assert SparseVectors.from_rows(rows, dimension=7) == batch


@pytest.mark.parametrize(
    "row",
    [
        {"3": -2.0, "1": 1.5},
        zip([3, 1], [-2.0, 1.5], strict=True),
        np.array([[3, -2], [1, 1.5]], object),
        {np.int64(3): np.float16(-2), np.uint8(1): np.float64(1.5)},
        SimpleNamespace(indices=np.array([3, 1]), values=np.array([-2, 1.5])),
        SparseVectors.from_dense(DENSE)[0],
    ],
)
def test_a_row_is_taken_as_others_write_it(row: Any) -> None:
    assert SparseVectors.from_rows([row], dimension=4) == SparseVectors.from_dense(DENSE[:1])


# ---- as scipy, scikit-learn, numpy and Python expect


def test_scipy_gets_the_same_memory_and_index_arrays_of_one_type() -> None:
    batch = SparseVectors.from_dense(DENSE)
    matrix = batch.to_scipy()
    assert np.shares_memory(matrix.data, batch.values)
    assert matrix.indices.dtype == matrix.indptr.dtype == batch.indptr.dtype == batch.indices.dtype == np.int32


@given(vectors(weights=signed_weights))
def test_whatever_scipy_does_with_the_matrix_its_entries_are_the_same(batch: SparseVectors) -> None:
    matrix = batch.to_scipy()
    matrix.check_format(full_check=True)
    for other in (matrix.tocoo(), matrix.copy(), matrix[:], sp.vstack([matrix]).tocsr()):
        assert SparseVectors.from_scipy(other) == batch
    assert len(matrix.nonzero()[0]) == len(sp.find(matrix)[0]) == len(matrix.todok()) == batch.nnz


def test_scikit_learn_takes_the_matrix_as_it_is() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    cluster = pytest.importorskip("sklearn.cluster")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    matrix = SparseVectors.from_dense(np.random.default_rng(0).integers(1, 3, (9, 5))).to_scipy()
    assert cluster.KMeans(2, n_init=1).fit(matrix).labels_.shape == (9,)
    assert decomposition.TruncatedSVD(2).fit_transform(matrix).shape == (9, 2)
    assert preprocessing.normalize(matrix).nnz == 45


def test_numpy_gets_the_dense_array_unless_it_would_be_huge() -> None:
    assert np.array_equal(np.asarray(SparseVectors.from_dense(DENSE)), DENSE)
    assert np.asarray(SparseVectors.from_dense(DENSE), dtype=np.float64).dtype == np.float64
    huge = SparseVectors.from_rows([{0: 1.0}], dimension=MAX_DIMENSION)
    with pytest.raises(InvalidVectors, match="takes 16 GiB; to_scipy"):
        np.asarray(huge)


def test_numpys_operators_are_not_applied_weight_by_weight() -> None:
    batch = SparseVectors.from_dense(DENSE)
    assert (batch == DENSE) is False
    assert (batch == DENSE) is False
    with pytest.raises(TypeError):
        DENSE + batch


def test_a_batch_has_a_shape_and_a_repr() -> None:
    batch = SparseVectors.from_dense(DENSE)
    assert batch.shape == batch.to_scipy().shape == (3, 4)
    assert repr(batch) == "SparseVectors(n=3, dimension=4, mean nnz=1.3)"


def test_a_row_is_a_value_of_its_own() -> None:
    batch = SparseVectors.from_dense(DENSE).with_fingerprint("space")
    row = batch[0]
    assert row == SparseVectors.from_rows([ROWS[0]], dimension=4)[0]
    assert row != batch[2]
    assert row != "row"
    assert (len(row), row.dimension, row.fingerprint) == (2, 4, "space")
    assert dict(row) == ROWS[0]
    assert repr(row) == "SparseVector({1: 1.5, 3: -2.0}, dimension=4)"
    assert [part.fingerprint for part in batch] == ["space"] * 3
    assert repr(SparseVectors.from_dense(np.ones((1, 9)))[0]).endswith("5: 1.0, ... 9 in all}, dimension=9)")


@pytest.mark.parametrize("key", [3, -4, np.int64(3), True, None, "a", 1.0, [[0]], [True], (0, 1), [5]])
def test_a_row_that_is_not_there_is_an_index_error(key: Any) -> None:
    with pytest.raises(IndexError):
        SparseVectors.from_dense(DENSE)[key]


# ---- owned and read-only

pickled = [lambda batch, protocol=protocol: pickle.loads(pickle.dumps(batch, protocol)) for protocol in (2, 4, 5)]


def out_of_band(batch: SparseVectors) -> SparseVectors:
    """As Ray and Dask send it: the arrays beside the pickle, in memory that somebody can write to."""
    buffers: list[pickle.PickleBuffer] = []
    packed = pickle.dumps(batch, 5, buffer_callback=buffers.append)
    shared = [bytearray(buffer.raw()) for buffer in buffers]
    batch = pickle.loads(packed, buffers=shared)
    for memory in shared:
        memory[:] = b"\xff" * len(memory)
    return batch


@pytest.mark.parametrize("again", [lambda batch: batch, *pickled, out_of_band, copy.copy, copy.deepcopy])
def test_nobody_can_write_to_a_batch(again: Callable[[SparseVectors], SparseVectors]) -> None:
    batch = again(SparseVectors.from_dense(DENSE).with_fingerprint("space"))
    assert (batch, batch.fingerprint) == (SparseVectors.from_dense(DENSE), "space")
    for array in (batch.indptr, batch.indices, batch.values, batch[0].values, batch.to_scipy().data, batch[1:].indptr):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    for name in ("dimension", "values", "other"):
        with pytest.raises(AttributeError, match="read-only"):
            setattr(batch, name, 9)
    with pytest.raises(AttributeError, match="read-only"):
        del batch.values


def view(array: Any) -> Any:
    """Read-only, over memory that its owner can write to."""
    seen = array.view()
    seen.flags.writeable = False
    return seen


@pytest.mark.parametrize("lend", [lambda array: array, view, lambda array: np.frombuffer(array.data, array.dtype)])
def test_arrays_that_somebody_else_can_write_to_are_copied(lend: Callable[[Any], Any]) -> None:
    theirs = np.array([0, 2], np.int32), np.array([1, 3], np.int32), np.array([1.5, -2], np.float32)
    indptr, indices, values = map(lend, theirs)
    batch = SparseVectors(indptr, indices, values, 4)
    for array in theirs:
        array[:] = 0
    assert batch == SparseVectors.from_dense(DENSE[:1])
    assert all(array.flags.writeable for array in theirs)


def test_a_callers_matrix_stays_writable() -> None:
    matrix = sp.csr_array(DENSE)
    SparseVectors.from_scipy(matrix)
    matrix.data *= 2
    dense = DENSE.copy()
    SparseVectors.from_dense(dense)
    dense[0, 0] = 1


def test_what_is_ours_and_read_only_is_not_copied_again() -> None:
    batch = SparseVectors.from_dense(DENSE)
    again = SparseVectors(batch.indptr, batch.indices, batch.values, 4)
    for other in (again, batch[1:], batch.with_fingerprint("space"), SparseVectors.from_scipy(batch.to_scipy())):
        assert np.shares_memory(other.values, batch.values)


def test_the_fingerprint_is_kept_by_all_that_keeps_the_space(tmp_path: Path) -> None:
    batch = SparseVectors.from_dense(DENSE).with_fingerprint("space")
    batch.save(tmp_path / "v")
    loaded = SparseVectors.load(tmp_path / "v")
    for other in (batch[1:], batch[[2, 0]], SparseVectors.concat([batch, batch[:1]]), loaded):
        assert other.fingerprint == "space"
    assert SparseVectors.concat([batch, batch.with_fingerprint(None)]).fingerprint is None


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
        ([{}, {"x": 1.0}], "row 1: an index must be an int, found 'x'"),
        ([{"01": 1.0}], "row 0: an index must be an int, found '01'"),
        ([{"1": 1.0, 1: 2.0}], "row 0 repeats index 1"),
        ([{True: 1.0}], "row 0: an index must be an int"),
        ([{0: None}], "row 0: a weight must be a real number, found None"),
        ([{0: "1"}], "row 0: a weight must be"),
        ([[1.0, 2.0]], "row 0 is neither"),
        ([{2**70: 1.0}], "indices"),
        ([{-1: 1.0}], r"\[0, 4\)"),
        ([{0: float("nan")}], "finite"),
        ([3], "row 0 is neither"),
        ([SimpleNamespace(indices=[1, 2], values=[1.0])], "row 0 has 2 indices and 1 values"),
        ([SimpleNamespace(indices=5, values=6)], "row 0 is neither"),
        ([{"9" * 5000: 1.0}], "row 0: an index must be an int, found '999"),
        ({0: 1.0}, "list of rows, found dict"),
        (None, "list of rows, found NoneType"),
    ],
)
def test_bad_rows_are_refused_by_number(rows: Any, message: str) -> None:
    with pytest.raises(InvalidVectors, match=message):
        SparseVectors.from_rows(rows, dimension=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SparseVectors.from_dense(np.zeros(3)), r"x\[None, :\]"),
        (lambda: SparseVectors.from_dense(sp.csr_array(DENSE)), "from_scipy"),
        (lambda: SparseVectors.from_dense(torch.zeros(1, 2, requires_grad=True)), "from_torch"),
        (lambda: SparseVectors.from_dense([[1, 2], [3]]), "cannot be read as an array"),
        (lambda: SparseVectors.from_dense(np.ma.array([[1.0]], mask=[[True]])), "masked"),
        (lambda: SparseVectors.from_dense(np.array([[1e39]])), "row 0: values must be finite"),
        (lambda: SparseVectors.from_dense(np.array([[True]])), r"found bool; .astype"),
        (lambda: SparseVectors.from_scipy(sp.csr_array(DENSE != 0)), "found bool"),
        (lambda: SparseVectors.from_scipy(sp.csc_array(([0.0], [0], [0, 1]), shape=(1, 1))), "must not be zero"),
        (lambda: SparseVectors.from_torch(DENSE), "from_dense"),  # type: ignore[arg-type]
        (lambda: SparseVectors.from_torch([torch.zeros(2), torch.zeros(3)]), r"\[2, 3\]"),
        (lambda: SparseVectors.from_torch([]), "at least one"),
        (lambda: SparseVectors.from_torch(torch.zeros(1, 1, 1)), r"\(1, 1, 1\)"),
        (lambda: SparseVectors.from_torch(torch.ones(1, 2, dtype=torch.complex64)), "complex64"),
        (lambda: SparseVectors.from_torch(torch.ones(1, 2, device="meta")), "meta"),
        (lambda: SparseVectors.from_torch(torch.tensor([[1e6]]).half()), "row 0: values must be finite"),
        (lambda: SparseVectors.from_torch(torch.ones(1, 2).to_sparse_csc()), "to_sparse_csr"),
        (lambda: SparseVectors([0], [], [], 3, fingerprint=7), "fingerprint"),  # type: ignore[arg-type]
        (lambda: SparseVectors([0], [], [], 3, fingerprint="\ud800"), "printable"),
        (lambda: SparseVectors.concat([{0: 1.0}]), "found dict"),  # type: ignore[list-item]
        (lambda: SparseVectors.from_dense(np.array([["a"]])), "real numbers"),
        (lambda: SparseVectors.from_scipy(np.zeros((1, 1))), "scipy sparse"),
        (lambda: SparseVectors.from_scipy(sp.coo_array(([1.0, 1.0], ([0, 0], [1, 1])), shape=(1, 2))), "repeats"),
        (lambda: SparseVectors.concat([]), "at least one"),
        (lambda: SparseVectors.concat(iter(())), "found tuple_iterator"),  # type: ignore[arg-type]
        (lambda: SparseVectors.concat([SparseVectors([0], [], [], 1), SparseVectors([0], [], [], 2)]), r"\[1, 2\]"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSC tensor support:UserWarning")
def test_bad_sources_are_refused(make: Callable[[], SparseVectors], message: str) -> None:
    with pytest.raises(InvalidVectors, match=message):
        make()


@pytest.mark.filterwarnings("ignore:Sparse (invariant checks|CSC tensor support|CSR tensor support):UserWarning")
def test_duplicates_in_a_coo_tensor_are_refused_not_added_up() -> None:
    tensor = torch.sparse_coo_tensor(torch.tensor([[0, 0], [1, 1]]), torch.tensor([1.0, 2.0]), (1, 3))
    with pytest.raises(InvalidVectors, match="repeats index 1"):
        SparseVectors.from_torch(tensor)


def test_the_last_dimension_there_is_can_be_used() -> None:
    batch = SparseVectors.from_rows([{0: 1.0, MAX_DIMENSION - 1: 2.0}], dimension=MAX_DIMENSION)
    assert batch[0].to_dict() == {0: 1.0, MAX_DIMENSION - 1: 2.0}


@settings(max_examples=50)  # each waits for the disk
@given(batch=vectors(weights=signed_weights))
def test_what_was_saved_is_loaded_and_mapped(tmp_path_factory: pytest.TempPathFactory, batch: SparseVectors) -> None:
    folder = tmp_path_factory.mktemp("vectors")
    batch.save(folder)
    assert SparseVectors.load(folder) == batch == SparseVectors.load(folder, mmap=True)


def test_a_batch_whose_last_bytes_find_no_room_does_not_take_the_place_of_the_one_before(tmp_path: Path) -> None:
    before = SparseVectors.from_rows([{1: 1.0}], dimension=4)
    before.save(tmp_path / "v")
    larger = SparseVectors.from_dense(np.ones((40, 40), np.float32))
    with files_up_to(larger.nnz * 4), pytest.raises(StorageFailed, match="too large"):
        larger.save(tmp_path / "v")
    assert SparseVectors.load(tmp_path / "v") == before


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
    with pytest.raises(StorageFailed, match="could not be written: Not a directory"):
        SparseVectors.from_dense(DENSE).save(tmp_path / "file" / "vectors")


# ---- saved over what others read


def constant(weight: float, n: int = 50) -> SparseVectors:
    return SparseVectors.from_dense(np.full((n, 40), weight))


def test_a_batch_may_be_saved_over_the_folder_that_it_is_mapped_from(tmp_path: Path) -> None:
    constant(1.0).save(tmp_path / "v")
    mapped = SparseVectors.load(tmp_path / "v", mmap=True)
    mapped[:10].save(tmp_path / "v")
    assert mapped == constant(1.0)
    assert SparseVectors.load(tmp_path / "v") == constant(1.0, 10)


def test_a_reader_that_maps_a_folder_goes_on_reading_it_when_it_is_replaced(tmp_path: Path) -> None:
    constant(1.0, 2000).save(tmp_path / "v")
    mapped = SparseVectors.load(tmp_path / "v", mmap=True)
    constant(2.0, 1).save(tmp_path / "v")
    assert float(mapped.values.sum()) == 2000 * 40


@pytest.mark.parametrize("mmap", [False, True])
def test_a_reader_never_mixes_two_folders_however_often_they_are_replaced(tmp_path: Path, mmap: bool) -> None:
    batches = [constant(1.0, 50), constant(2.0, 30)]
    batches[0].save(tmp_path / "v")
    stop = threading.Event()

    def save() -> None:
        for number in range(10_000):
            batches[number % 2].save(tmp_path / "v")
            if stop.is_set():
                return

    writer = threading.Thread(target=save)
    writer.start()
    found = [SparseVectors.load(tmp_path / "v", mmap=mmap) for _ in range(300)]
    stop.set()
    writer.join()
    assert all(batch in batches for batch in found)


SAVING = """
import sys
import numpy as np
from sparsevec.vectors import SparseVectors

for number in range(1, 10**6):
    SparseVectors.from_dense(np.full((50, 40), number)).save(sys.argv[1])
    print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 4, 9])
def test_killed_while_saving_the_old_batch_or_the_new_is_there(tmp_path: Path, lines: int) -> None:
    with subprocess.Popen([sys.executable, "-c", SAVING, str(tmp_path / "v")], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(lines):
            child.stdout.readline()
        child.kill()
    batch = SparseVectors.load(tmp_path / "v")
    assert batch.values.min() == batch.values.max() >= lines


def test_a_batch_is_saved_under_a_relative_name_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    constant(1.0).save("v")
    constant(2.0).save("v")
    assert SparseVectors.load("v") == constant(2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


@pytest.mark.parametrize("name", ["notes.txt", "values.npy", "header.json.part"])
def test_a_folder_that_holds_anything_else_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("theirs")
    with pytest.raises(InvalidInput, match="choose an empty or a new folder"):
        constant(1.0).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "theirs"


def test_a_folder_of_ours_with_something_beside_is_refused(tmp_path: Path) -> None:
    constant(1.0).save(tmp_path)
    (tmp_path / "ids.jsonl").touch()
    with pytest.raises(InvalidInput, match=r"holds ids\.jsonl, which SparseVectors.save did not write"):
        constant(2.0).save(tmp_path)
    assert SparseVectors.load(tmp_path) == constant(1.0)


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "v").touch()
    with pytest.raises(InvalidInput, match="is a file"):
        constant(1.0).save(tmp_path / "v")


def test_a_folder_that_an_earlier_version_wrote_is_loaded(tmp_path: Path) -> None:
    """int64 row ends, and a header that knows no fingerprint."""
    batch = SparseVectors.from_dense(DENSE)
    np.save(tmp_path / "indptr.npy", batch.indptr.astype(np.int64))
    np.save(tmp_path / "indices.npy", batch.indices)
    np.save(tmp_path / "values.npy", batch.values)
    header = {"format": "sparsevec.vectors/1", "dimension": 4, "n": 3, "nnz": 4}
    (tmp_path / "header.json").write_text(json.dumps(header))
    assert SparseVectors.load(tmp_path) == SparseVectors.load(tmp_path, mmap=True) == batch


def test_what_is_no_folder_of_vectors_is_named_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(InvalidVectors, match="it is empty"):
        SparseVectors.load(tmp_path / "model")
    (tmp_path / "model" / "config.json").touch()
    with pytest.raises(InvalidVectors, match=r"it holds config\.json"):
        SparseVectors.load(tmp_path / "model")
    with pytest.raises(InvalidVectors, match="it is a file"):
        SparseVectors.load(tmp_path / "model" / "config.json")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidVectors, match=r"nowhere is not a whole folder .*it is not there"):
        SparseVectors.load(tmp_path / "nowhere")


def test_a_mapped_batch_is_not_read_into_memory(tmp_path: Path) -> None:
    constant(1.0).save(tmp_path / "v")
    base: Any = SparseVectors.load(tmp_path / "v", mmap=True).values
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
