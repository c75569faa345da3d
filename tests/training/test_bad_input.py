"""Bad rows and arguments: a typed error that says what was found, and an encoder that is as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.dense import unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.figures import agreement
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.vectors import Float32s
from tests.training.conftest import FLOPS, INPUT, NNZ, OUTPUT, clustered


def spoiled(row: int, column: int, value: float) -> Float32s:
    rows = clustered(150, seed=0)
    rows[row, column] = value
    return rows


@given(st.integers(0, 149), st.integers(0, INPUT - 1), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_row_that_is_not_finite_is_named(encoder: SparseEncoder, row: int, column: int, value: float) -> None:
    with pytest.raises(InvalidVectors, match=f"row {row} holds NaN or infinity"):
        encoder.encode_document(spoiled(row, column, value))


@given(st.integers(0, 149))
def test_a_zero_row_is_named(encoder: SparseEncoder, row: int) -> None:
    rows = clustered(150, seed=0)
    rows[row] = 0
    with pytest.raises(InvalidVectors, match=f"row {row} is zero"):
        encoder.encode_query(rows)


@given(
    st.one_of(
        st.lists(st.integers(0, 4), max_size=3).filter(lambda shape: len(shape) != 2).map(np.ones),
        st.integers(0, 100).filter(lambda columns: columns != INPUT).map(lambda columns: np.ones((5, columns))),
        st.just(np.full((3, INPUT), "x")),
        st.just(np.ones((3, INPUT), complex)),
        st.just(np.ones((3, INPUT), bool)),
        st.just([[1.0] * INPUT, [object()] * INPUT]),
    )
)
def test_rows_of_another_shape_or_kind_are_refused(encoder: SparseEncoder, rows: Any) -> None:
    with pytest.raises(InvalidVectors):
        encoder.encode_document(rows)


@given(st.floats(1e-300, 1e300), st.integers(0, 2**32))
def test_any_finite_row_with_a_direction_is_encoded(encoder: SparseEncoder, scale: float, seed: int) -> None:
    rows = scale * np.random.default_rng(seed).uniform(-1, 1, (3, INPUT))
    vectors = encoder.encode_document(rows)
    assert (vectors.row_nnz > 0).all()
    assert (vectors.values > 0).all()


def test_whole_numbers_are_rows_too(encoder: SparseEncoder) -> None:
    rows = np.random.default_rng(0).integers(-128, 128, (20, INPUT), np.int8)
    assert encoder.encode_document(rows) == encoder.encode_document(rows.astype(np.float32))


@pytest.mark.parametrize("nnz", [0, -1, 1.5, True, "8", OUTPUT + 1])
def test_an_nnz_that_makes_no_sense_is_refused(encoder: SparseEncoder, nnz: Any) -> None:
    for encode in (encoder.encode_document, encoder.encode_query):
        with pytest.raises(InvalidInput, match="nnz must be"):
            encode(clustered(3, seed=0), nnz=nnz)


@pytest.mark.parametrize("sizes", [(0, 256), (32, 0), (32, 8), (-1, 256), (1.0, 256), (32, True)])
def test_sizes_that_make_no_sense_are_refused(sizes: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidInput, match="whole number"):
        SparseEncoder(*sizes)


@pytest.mark.parametrize(
    ("documents", "queries", "says"),
    [
        (clustered(200, seed=0), clustered(20, seed=1), "at least 50 sample queries"),
        (np.ones((200, INPUT)), None, "same direction"),
        (spoiled(3, 4, np.nan), None, "documents: row 3"),
        (clustered(200, seed=0), spoiled(5, 6, np.inf), "queries: row 5"),
        (clustered(200, seed=0), np.ones((100, 7)), "queries must have 32 columns"),
    ],
)
def test_rows_that_nothing_can_be_learned_from_are_refused(documents: Any, queries: Any, says: str) -> None:
    with pytest.raises(InvalidVectors, match=says):
        SparseEncoder(INPUT, OUTPUT).fit(documents, queries, budget=Budget(nnz=NNZ))


def test_nothing_can_be_encoded_refined_or_saved_before_it_is_learned(tmp_path: Any) -> None:
    encoder = SparseEncoder(INPUT, OUTPUT)
    for call in (encoder.encode_document, encoder.encode_query, encoder.refine):
        with pytest.raises(InvalidInput, match="learned nothing"):
            call(clustered(200, seed=0))
    with pytest.raises(InvalidInput, match="learned nothing"):
        encoder.save(tmp_path / "model")


@pytest.mark.usefixtures("brief")
def test_a_sample_from_another_model_is_told_by_its_directions(documents: Float32s, queries: Float32s) -> None:
    """Its columns fit. Turning the queries is what another model of the same width does to them."""
    turned = queries @ np.linalg.qr(np.random.default_rng(0).standard_normal((INPUT, INPUT)))[0]
    encoder = SparseEncoder(INPUT, OUTPUT).fit(documents, turned, budget=Budget(nnz=NNZ, flops=FLOPS))
    (said,) = [each for each in encoder.figures.warnings if "ANOTHER MODEL" in each]
    assert f"shares {encoder.figures.sample_agreement:.2f} of" in said
    encoder.refine(documents, turned)
    assert said in encoder.figures.warnings


def test_a_sample_of_the_same_model_agrees_with_the_documents(encoder: SparseEncoder) -> None:
    assert encoder.figures.sample_agreement == pytest.approx(1, abs=0.2)
    assert "ANOTHER MODEL" not in str(encoder.figures)


@pytest.mark.parametrize("copies", [0, 60, 1000])
def test_equal_rows_and_queries_all_alike_are_no_other_model(copies: int) -> None:
    rows = clustered(600, seed=1)
    repeated = unit_rows(np.concatenate([rows, np.repeat(rows[:1], copies, axis=0)]))
    assert agreement(repeated, unit_rows(clustered(200, seed=2))) == pytest.approx(1, abs=0.2)
    assert agreement(repeated, np.repeat(repeated[:1], 50, axis=0)) is None


def test_of_documents_that_spread_evenly_no_model_can_be_told() -> None:
    rows = unit_rows(np.random.default_rng(0).standard_normal((4000, INPUT)).astype(np.float32))
    assert agreement(rows[:2000], rows[2000:]) is None


@pytest.mark.parametrize("at", [1, 77, 149])
def test_a_row_of_another_width_is_named(encoder: SparseEncoder, at: int) -> None:
    rows: list[Any] = list(clustered(150, seed=0))
    rows[at] = rows[at][:-1]
    with pytest.raises(InvalidVectors, match=f"row 0 has {INPUT} numbers, row {at} has {INPUT - 1}"):
        encoder.encode_document(rows)


def faulty(n: int) -> list[Any]:
    """n rows of which the first five cannot be encoded."""
    rows: list[Any] = list(np.random.default_rng(3).normal(size=(n, INPUT)).astype(np.float32))
    rows[:5] = [None, rows[0][:-1], np.full(INPUT, np.nan), np.zeros(INPUT), ["x"] * INPUT]
    return rows


FAULTS = {
    0: "it has no dense row",
    1: f"its dense row has {INPUT - 1} numbers, and the encoder takes {INPUT}",
    2: "its dense row holds NaN or infinity",
    3: "its dense row is zero and has no direction",
    4: f"its dense row must be numbers (d,), found <U1 of shape ({INPUT},)",
}


def test_a_row_that_cannot_be_encoded_keeps_no_other_from_its_vector(encoder: SparseEncoder) -> None:
    made = encoder.encode_each(faulty(9))
    assert made.faults == FAULTS
    assert made.vectors.fingerprint == encoder.fingerprint
    assert made.vectors.row_nnz[:5].tolist() == [0] * 5
    assert made.vectors[5:] == encoder.encode_document(np.stack(faulty(9)[5:]))


def test_of_an_array_each_row_is_judged_too(encoder: SparseEncoder) -> None:
    rows = spoiled(7, 0, np.nan)
    made = encoder.encode_each(rows)
    assert made.faults == {7: FAULTS[2]}
    assert made.vectors[:7] == encoder.encode_document(rows[:7])
    with pytest.raises(InvalidVectors, match=rf"must have {INPUT} columns"):
        encoder.encode_each(rows[:, 1:])
    with pytest.raises(InvalidVectors, match="one row is"):
        encoder.encode_each(rows[0].tolist())


def test_where_no_row_can_be_encoded_all_are_named(encoder: SparseEncoder) -> None:
    made = encoder.encode_each(faulty(9)[:5])
    assert (len(made), made.faults, made.vectors.nnz) == (5, FAULTS, 0)


def test_one_that_is_much_longer_than_any_that_was_learned_from_is_named_by_its_place(documents: Float32s) -> None:
    rows = [np.ones(3), *documents[:150]]
    lengths = SparseEncoder(INPUT, 64, similarity="dot").fit(documents[:99], budget=Budget(nnz=4))
    rows[9] = 100 * rows[9]
    assert sorted(lengths.document_faults(rows)) == [0, 9]
    assert "times as long" in lengths.document_faults(rows)[9]
