"""One document that cannot be encoded keeps no other from its vector, and is named with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import sparsevec as sv
from sparsevec.errors import InvalidInput
from tests.live.conftest import DIMENSION
from tests.live.shops import WIDTH, LuceneShop, dense_rows

N = 30
ROWS = dense_rows(N)


def filled(place: Path, rows: Any = ROWS) -> sv.Adapter:
    """A collection of ours whose documents hold dense rows, and no vectors yet."""
    adapter = sv.connect(f"reference:{place}")
    adapter.create(DIMENSION)
    put(adapter, dict(enumerate(rows)))
    return adapter


def put(adapter: sv.Adapter, rows: dict[int, Any], name: str = "n") -> None:
    empty = sv.SparseVectors([0] * (len(rows) + 1), [], [], DIMENSION)
    payloads = [{"emb": np.asarray(row).tolist(), **({"name": name} if name else {})} for row in rows.values()]
    adapter.upsert(list(rows), empty, payloads)


@pytest.fixture(params=["dot", "l2"])
def lengths(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of an encoder for which lengths count."""
    near: Literal["dot", "l2"] = request.param
    sv.SparseEncoder(WIDTH, DIMENSION, similarity=near).fit(ROWS, budget=sv.Budget(nnz=6)).save(tmp_path / "lengths")
    return tmp_path / "lengths"


def test_a_document_longer_than_any_that_was_learned_from_stops_no_catch_up(lengths: Path, tmp_path: Path) -> None:
    with filled(tmp_path / "c") as adapter:
        assert sv.retrofit(adapter, model=lengths, dense_field="emb").written == N
        put(adapter, {3: 100 * ROWS[3], 7: ROWS[8], N: ROWS[7]})
        look = sv.catch_up(adapter, model=lengths).look
        assert (look.looked, look.faulty, look.written, look.failed) == (N + 1, 1, 2, 0)
        (failure,) = look.failures
        assert (failure.id, "times as long as similarity=" in failure.reason) == (3, True)
        assert "fit again with rows like it, or leave it out" in str(look)
        assert sv.catch_up(adapter, model=lengths).look.settled


def test_nor_a_retrofit_that_finds_it_in_its_sample(lengths: Path, tmp_path: Path) -> None:
    with filled(tmp_path / "c", [100 * ROWS[0], *ROWS[1:]]) as adapter:
        report = sv.retrofit(adapter, model=lengths, dense_field="emb")
        assert (report.written, report.looks[0].faulty, report.settled) == (N - 1, 1, True)


def test_where_no_document_can_be_encoded_nothing_is_changed(lengths: Path, tmp_path: Path) -> None:
    with (
        filled(tmp_path / "c", 100 * ROWS) as adapter,
        pytest.raises(InvalidInput, match=r"none of 30 dense rows can be encoded; such as 0: .* times as long"),
    ):
        sv.retrofit(adapter, model=lengths, dense_field="emb")


def test_a_zero_row_has_a_code_where_lengths_count_and_none_where_directions_do(
    lengths: Path, model: Path, tmp_path: Path
) -> None:
    for folder, faulty in ((lengths, 0), (model, 1)):
        with filled(tmp_path / f"c{faulty}", [0 * ROWS[0], *ROWS[1:]]) as adapter:
            assert sv.retrofit(adapter, model=folder, dense_field="emb").looks[0].faulty == faulty


def unguarded(document: Any) -> Any:
    return document["emb"] if document["name"] else None


def two_rows(document: Any) -> Any:
    return document["emb"] if document.get("name") else [document["emb"]] * 2


def words(document: Any) -> Any:
    return document["emb"] if document.get("name") else ["x"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (unguarded, "dense_field makes no row of it: KeyError: 'name'"),
        (two_rows, "dense_field makes of each document a row (d,) or None, found shape (2, 24)"),
        (words, "dense_field makes no row of it: ValueError: could not convert string to float: 'x'"),
    ],
)
def test_a_document_that_a_function_makes_no_row_of_stops_nothing(
    model: Path, tmp_path: Path, row: Any, said: str
) -> None:
    with filled(tmp_path / "c") as adapter:
        adapter.delete([3])
        put(adapter, {3: ROWS[3]}, name="")
        look = sv.retrofit(adapter, model=model, dense_field=row).looks[0]
        assert (look.written, look.faulty, [(one.id, one.reason) for one in look.failures]) == (N - 1, 1, [(3, said)])


def test_a_document_that_holds_no_list_of_numbers_has_no_row(lucene: LuceneShop, model: Path) -> None:
    lucene.http("DELETE", "")
    lucene.http("PUT", "", {"mappings": {"properties": {"rows": {"type": "float", "index": False}}}})
    lucene.put(
        {**{i: {"rows": row.tolist()} for i, row in enumerate(ROWS)}, N: {"rows": [1.0, None]}, N + 1: {"rows": 2}}
    )
    look = sv.retrofit(lucene.url, model=model, dense_field="rows").looks[0]
    assert (look.looked, look.written, look.without) == (N + 2, N, 2)
