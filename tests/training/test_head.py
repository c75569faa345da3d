"""Encoding: the same bits whatever surrounds a row, and never an empty one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.dense import largest
from sparsevec.encoder import SparseEncoder
from sparsevec.encoder.head import Cut, Projection, encoded
from sparsevec.vectors import Float32s, SparseVectors
from tests.training.conftest import NNZ, OUTPUT


def a_projection(seed: int, dimension: int = 300, input_dim: int = 384) -> Projection:
    generator = np.random.default_rng(seed)
    parts = [generator.standard_normal(shape, np.float32) for shape in ((dimension, input_dim), dimension, input_dim)]
    return Projection(parts[0], 0.1 * parts[1], 0.01 * parts[2])


def some_rows(n: int, input_dim: int = 384) -> Float32s:
    return np.random.default_rng(n).standard_normal((n, input_dim), np.float32)


def test_a_row_alone_gives_the_bits_it_gives_among_a_thousand() -> None:
    projection, rows, cut = a_projection(0), some_rows(1000), Cut(20, 0.05, 15)
    together = encoded(rows, projection, cut)
    alone = SparseVectors.concat([encoded(rows[i : i + 1], projection, cut) for i in range(1000)])
    assert alone == together


def test_the_order_of_the_rows_changes_nothing() -> None:
    projection, rows, cut = a_projection(1), some_rows(700), Cut(20)
    shuffled = np.random.default_rng(0).permutation(700)
    assert encoded(rows[shuffled], projection, cut) == encoded(rows, projection, cut)[shuffled]


def test_the_layout_in_memory_changes_nothing() -> None:
    projection, rows, cut = a_projection(2), some_rows(300), Cut(20)
    plain = encoded(rows, projection, cut)
    assert encoded(np.asfortranarray(rows), projection, cut) == plain
    assert encoded(np.repeat(rows, 2, axis=1)[:, ::2], projection, cut) == plain
    assert encoded(rows.astype(np.float64), projection, cut) == plain


_ENCODE = """
import sys, numpy as np
from sparsevec.encoder import SparseEncoder
vectors = SparseEncoder.load(sys.argv[1]).encode_query(np.load(sys.argv[2]))
assert "torch" not in sys.modules
vectors.save(sys.argv[3])
"""


@pytest.mark.parametrize("threads", ["1", "2", "7"])
def test_the_number_of_threads_changes_nothing_and_torch_is_not_needed(
    encoder: SparseEncoder, unseen_queries: Float32s, tmp_path: Path, threads: str
) -> None:
    encoder.save(tmp_path / "model")
    np.save(tmp_path / "rows.npy", unseen_queries)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    paths = [str(tmp_path / name) for name in ("model", "rows.npy", "vectors")]
    subprocess.run([sys.executable, "-c", _ENCODE, *paths], check=True, env=environment)
    assert SparseVectors.load(tmp_path / "vectors") == encoder.encode_query(unseen_queries)


def all_computed_exactly(rows: Float32s, projection: Projection, k: int) -> tuple[bytes, bytes]:
    indices, values = largest(projection(rows), k)
    return indices.tobytes(), values.tobytes()


def first_in_float32(rows: Float32s, projection: Projection, k: int) -> tuple[bytes, bytes]:
    found = list(projection.largest(rows, k))
    return b"".join(i.tobytes() for i, _ in found), b"".join(v.tobytes() for _, v in found)


@pytest.mark.parametrize("k", [1, 3, 32, 250])
@pytest.mark.parametrize("dimension", [1023, 1024, 4099])
def test_float32_first_leaves_out_none_of_the_largest(dimension: int, k: int) -> None:
    projection, rows = a_projection(dimension, dimension), some_rows(600)
    assert first_in_float32(rows, projection, k) == all_computed_exactly(rows, projection, k)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("bias", [0.0, 1e-3, 1e4])
def test_float32_first_holds_for_weights_and_biases_of_any_size(scale: float, bias: float) -> None:
    generator = np.random.default_rng(6)
    weights = (scale * generator.standard_normal((2000, 48))).astype(np.float32)
    biases = (bias * generator.standard_normal(2000)).astype(np.float32)
    projection, rows = Projection(weights, biases, np.zeros(48, np.float32)), some_rows(40, 48)
    assert first_in_float32(rows, projection, 8) == all_computed_exactly(rows, projection, 8)


@pytest.mark.parametrize("different", [1, 7, 100, 2000])
def test_float32_first_holds_where_activations_are_equal_or_nearly_so(different: int) -> None:
    generator = np.random.default_rng(different)
    weights = generator.standard_normal((different, 48), np.float32)[generator.integers(0, different, 2000)]
    weights[::3] *= np.float32(1 + 2.0**-23)  # below what float32 can tell apart in a sum of 48
    projection, rows = Projection(weights, np.zeros(2000, np.float32), np.zeros(48, np.float32)), some_rows(40, 48)
    assert first_in_float32(rows, projection, 8) == all_computed_exactly(rows, projection, 8)


def test_scaling_a_row_by_a_power_of_two_changes_nothing() -> None:
    projection, rows, cut = a_projection(3), some_rows(50), Cut(20)
    assert encoded(rows * np.float32(2.0**40), projection, cut) == encoded(rows, projection, cut)
    assert encoded(rows.astype(np.float64) * 2.0**-900, projection, cut) == encoded(rows, projection, cut)


def test_the_projection_is_what_the_formula_says() -> None:
    generator = np.random.default_rng(5)
    weights, bias, mean = (generator.standard_normal(s, np.float32) for s in ((64, 24), 64, 24))
    rows = some_rows(40, 24)
    units = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    due = (units - mean) @ weights.T.astype(np.float64) + bias
    np.testing.assert_allclose(Projection(weights, bias, mean)(rows), due, atol=1e-5)


def test_equal_activations_go_to_the_lower_index() -> None:
    indices, values = largest(np.array([[1.0, 3.0, 2.0, 3.0, 2.0, 2.0]]), 4)
    assert indices.tolist() == [[1, 3, 2, 4]]
    assert values.tolist() == [[3.0, 3.0, 2.0, 2.0]]


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_the_largest_agree_with_a_stable_sort(m: int, seed: int) -> None:
    activations = np.random.default_rng(seed).integers(-2, 3, (5, 6)).astype(np.float64)
    indices, values = largest(activations, m)
    due = np.argsort(-activations, axis=1, kind="stable")[:, :m]
    np.testing.assert_array_equal(indices, due)
    np.testing.assert_array_equal(values, np.take_along_axis(activations, due, axis=1))


def test_a_row_for_which_nothing_fires_keeps_its_nearest_dimension() -> None:
    weights = np.eye(4, dtype=np.float32)
    silent = Projection(weights, np.array([-9, -8, -9, -9], np.float32), np.zeros(4, np.float32))
    (row,) = encoded(np.ones((1, 4), np.float32), silent, Cut(2))
    assert row.to_dict() == {1: 1.0}


@pytest.mark.parametrize("sixteenths", range(1, 17))
def test_weights_are_raised_to_the_power_of_the_cut(sixteenths: int) -> None:
    projection, rows = a_projection(4), some_rows(5)
    plain, raised = (encoded(rows, projection, Cut(10, 0.0, power)).to_dense() for power in (16, sixteenths))
    due = plain.astype(np.float64) ** (sixteenths / 16)
    np.testing.assert_allclose(raised, due / np.linalg.norm(due, axis=1, keepdims=True), rtol=1e-6)


def test_documents_and_queries_have_length_one(encoder: SparseEncoder, unseen_queries: Float32s) -> None:
    for vectors in (encoder.encode_document(unseen_queries), encoder.encode_query(unseen_queries)):
        np.testing.assert_allclose(np.linalg.norm(vectors.to_dense(), axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("nnz", [1, 3, NNZ, 20])
def test_one_model_serves_several_budgets(encoder: SparseEncoder, unseen_queries: Float32s, nnz: int) -> None:
    assert encoder.encode_document(unseen_queries, nnz=nnz).row_nnz.max() == nnz
    assert encoder.encode_query(unseen_queries, nnz=nnz).row_nnz.max() == nnz


def test_no_rows_give_no_vectors(encoder: SparseEncoder) -> None:
    vectors = encoder.encode_document(np.empty((0, encoder.input_dim), np.float32))
    assert len(vectors) == 0
    assert vectors.dimension == OUTPUT
