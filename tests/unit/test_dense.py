"""Dense rows at the door: whatever holds them gives the same array, and what is none is refused by row and reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.dense import best, dense_rows, largest, nearest, query_rows, row_faults, unit_rows
from sparsevec.errors import InvalidVectors

ROWS = np.arange(1.0, 13).reshape(4, 3).astype(np.float32)  # small whole numbers: exact in every type


@pytest.mark.parametrize(
    "held",
    [
        lambda x: x.astype(np.float16),
        lambda x: x.astype(">f8"),
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(np.int64),
        lambda x: x.tolist(),
        list,
        lambda x: tuple(map(tuple, x.tolist())),
        lambda x: np.array([*x, None], dtype=object)[:-1],
        torch.tensor,
        lambda x: torch.tensor(x, requires_grad=True),
        lambda x: torch.tensor(x).bfloat16(),
        lambda x: torch.tensor(x).half(),
        lambda x: list(torch.tensor(x, requires_grad=True)),
    ],
)
def test_whatever_holds_them_the_rows_are_the_same(held: Callable[[Any], Any]) -> None:
    found = dense_rows(held(ROWS), 3)
    assert found.dtype.kind == "f"
    np.testing.assert_array_equal(found.astype(np.float32), ROWS)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (None, "must be an array .*, found NoneType"),
        ("abc", "must be an array .*, found str"),
        ({"a": [1.0]}, "found dict"),
        (ROWS[0], r"found shape \(3,\); one row is x\[None, :\]"),
        (ROWS[None], r"found shape \(1, 4, 3\)"),
        (ROWS[:, :2], "must have 3 columns .*found 2"),
        (ROWS > 2, "real numbers, found bool"),
        (ROWS.astype(complex), "real numbers, found complex"),
        ([[1.0, 2, 3], [1.0, 2]], "row 0 has 3 numbers, row 1 has 2"),
        ([[1.0, 2, 3], "abc"], "found str in row 1"),
        ([ROWS, ROWS], r"found shape \(2, 4, 3\)|one row an element"),
        (torch.ones(2, 3).to_sparse(), "use .to_dense"),
        (torch.ones(2, 3, device="meta"), "device 'meta', which keeps none"),
        (np.ones((3, 0)), "must have 3 columns"),
        (np.ma.array(ROWS, mask=ROWS > 4), "masked array; .filled"),
        ([np.ma.array(row) for row in ROWS], "masked array; .filled"),
        ([[1.0, 2, 3], [0.0, 0, 0]], "row 1 is zero and has no direction"),
        ([[1.0, 2, 3], [np.nan, 0, 0]], "row 1 holds NaN or infinity"),
    ],
)
def test_what_is_no_batch_of_rows_is_refused_with_what_was_found(wrong: Any, says: str) -> None:
    with pytest.raises(InvalidVectors, match=says):
        dense_rows(wrong, 3)


@pytest.mark.parametrize("one", [ROWS[1], ROWS[1].tolist(), torch.tensor(ROWS[1], requires_grad=True), ROWS[1:2]])
def test_one_query_is_a_batch_of_one(one: Any) -> None:
    assert query_rows(one, 3).tolist() == [[4, 5, 6]]


def test_one_query_of_another_width_is_refused() -> None:
    with pytest.raises(InvalidVectors, match=r"queries must have shape \(n, 3\), found shape \(2,\)"):
        query_rows(ROWS[0, :2], 3)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_unit_rows_neither_overflow_nor_vanish(scale: float) -> None:
    np.testing.assert_allclose(np.linalg.norm(unit_rows(ROWS.astype(np.float64) * scale), axis=1), 1, rtol=1e-6)


# ---- the one top-k


@given(st.integers(1, 8), st.integers(0, 2**32))
def test_the_nearest_are_those_of_a_stable_sort_of_all_products(k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, queries = (generator.integers(-2, 3, (n, 3)).astype(np.float32) for n in (6, 4))
    itself = generator.integers(-1, 6, 4)
    products = queries @ rows.T
    products[np.flatnonzero(itself >= 0), itself[itself >= 0]] = -np.inf
    due = np.argsort(-products, axis=1, kind="stable")[:, : min(k, 5)]
    found = nearest(rows, queries, k, itself=itself)
    assert found.rows.tolist() == due.tolist()
    assert found.scores.tolist() == np.take_along_axis(products, due, axis=1).tolist()


@given(st.integers(1, 40), st.integers(1, 400), st.integers(2, 1000), st.integers(0, 2**32))
def test_the_largest_of_wide_rows_are_those_of_a_stable_sort(k: int, beyond: int, levels: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(levels, size=(3, k + beyond)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.1] = -np.inf
    due = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    at, values = largest(scores, k)
    assert at.tolist() == due.tolist()
    assert values.tolist() == np.take_along_axis(scores, due, axis=1).tolist()


@given(st.sets(st.integers(0, 19_999), max_size=5), st.sets(st.integers(0, 19_999), max_size=5), st.booleans())
def test_the_faulty_rows_of_an_array_are_those_of_the_list_of_its_rows(
    zero: set[int], infinite: set[int], zeros: bool
) -> None:
    rows = np.ones((20_000, 2), np.float32)
    rows[list(zero)] = 0
    rows[list(infinite), 1] = np.inf
    due = infinite if zeros else zero | infinite
    found = row_faults(rows, 2, zeros=zeros)
    assert sorted(found) == sorted(due)
    picked = sorted(due | {0, 19_999})
    listed = row_faults([rows[number] for number in picked], 2, zeros=zeros)
    assert {picked[at]: fault for at, fault in listed.items()} == found


def test_nothing_is_nearest_where_nobody_is() -> None:
    assert nearest(ROWS[:0], ROWS, 3).rows.shape == (4, 0)
    assert nearest(ROWS, ROWS[:0], 3).rows.shape == (0, 3)
    assert best(np.empty(0), 3).tolist() == []
    assert largest(np.ones((2, 3)), 0)[0].shape == (2, 0)
