"""The nearest documents of each row are found once, and those among a part of the documents are read from them."""

from __future__ import annotations

import numpy as np
import pytest

from sparsevec.dense import Nearest, nearest, unit_rows
from sparsevec.encoder import neighbours
from sparsevec.encoder.neighbours import nearest_once


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """How many documents were compared with how many rows."""
    compared: list[tuple[int, ...]] = []

    def seen(documents: np.ndarray, rows: np.ndarray, k: int, **options: object) -> Nearest:
        compared.append((len(documents), len(rows)))
        return nearest(documents, rows, k, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(neighbours, "_found", {})
    monkeypatch.setattr(neighbours, "nearest", seen)
    return compared


def rows(n: int, seed: int) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, 12)).astype(np.float32))


def same(found: Nearest, due: Nearest) -> None:
    np.testing.assert_array_equal(found.rows, due.rows)
    np.testing.assert_allclose(found.scores, due.scores, atol=1e-6)


def test_what_was_found_of_the_same_rows_is_not_looked_for_again(asked: list[tuple[int, ...]]) -> None:
    documents, sample = rows(300, 0), rows(40, 1)
    for k in (20, 20, 10):
        same(
            nearest_once(documents, documents, k, themselves=True),
            nearest(documents, documents, k, itself=np.arange(300)),
        )
        same(nearest_once(documents, sample, k), nearest(documents, sample, k))
    assert asked == [(300, 300), (300, 40)]


def test_more_of_them_or_other_rows_are_looked_for(asked: list[tuple[int, ...]]) -> None:
    documents = rows(300, 0)
    nearest_once(documents, documents, 20, themselves=True)
    nearest_once(documents, documents, 21, themselves=True)
    nearest_once(documents, documents.copy()[::-1], 21)
    nearest_once(rows(300, 2), documents, 5)
    assert len(asked) == 4
    assert len(neighbours._found) == 2  # the last


@pytest.mark.parametrize("held", [7, 200])
def test_the_nearest_among_a_part_are_those_that_it_alone_would_give(held: int) -> None:
    """Also where so many are held that they push a row's own nearest out of what was found."""
    documents, sample, k = rows(300, 0), rows(40, 1), 20
    kept = np.sort(np.random.default_rng(3).permutation(300)[held:])
    some = documents[kept]
    found = nearest_once(documents, documents, k, themselves=True, kept=kept)
    same(found, nearest(some, some, k, itself=np.arange(len(some))))
    same(nearest_once(documents, sample, k, kept=kept), nearest(some, sample, k))


def test_what_is_given_may_be_written_to() -> None:
    documents = rows(100, 0)
    first = nearest_once(documents, documents, 5, themselves=True)
    first.rows[:], first.scores[:] = 0, 0
    same(
        nearest_once(documents, documents, 5, themselves=True), nearest(documents, documents, 5, itself=np.arange(100))
    )
