"""The judge itself, judged against arithmetic that is spelled out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.contract.urls import Url
from sparsevec.errors import CollectionError, InvalidInput, StorageFailed
from sparsevec.exact.reference import PostingLists, Reference, best
from sparsevec.vectors import SparseVector, SparseVectors
from tests.strategies import signed_weights, vectors


def spelled_out(query: SparseVector, document: SparseVector) -> float:
    total, weights = 0.0, document.to_dict()
    for index, weight in query.to_dict().items():
        total += float(weight) * float(weights.get(index, 0.0))
    return total


@given(st.data(), st.sampled_from([1, 7, 2**32]))
def test_scores_are_float64_sums_in_ascending_dimension_order_bit_for_bit(data: st.DataObject, dimension: int) -> None:
    documents = data.draw(vectors(dimension=dimension, weights=signed_weights))
    queries = data.draw(vectors(dimension=dimension, weights=signed_weights, min_rows=1))
    lists = PostingLists(documents)
    for query in queries:
        rows, scores = lists.scores(query)
        sharing = [row for row, document in enumerate(documents) if set(query.to_dict()) & set(document.to_dict())]
        assert rows.tolist() == sharing
        assert scores.tolist() == [spelled_out(query, documents[row]) for row in sharing]


def test_scores_are_the_same_bit_for_bit_in_any_batch_and_block() -> None:
    rng = np.random.default_rng(0)
    dense = rng.lognormal(size=(500, 64)) * (rng.random((500, 64)) < 0.3)
    documents, query = SparseVectors.from_dense(dense), SparseVectors.from_dense(rng.lognormal(size=(1, 64)))[0]
    _, whole = PostingLists(documents).scores(query)
    one_by_one = np.concatenate([PostingLists(documents[i : i + 1]).scores(query)[1] for i in range(500)])
    assert np.array_equal(whole.view(np.int64), one_by_one.view(np.int64))


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.0])), st.integers(1, 12))
def test_best_is_what_a_stable_sort_would_say(scores: list[float], k: int) -> None:
    due = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert best(np.array(scores), k).tolist() == due


def test_ties_go_to_the_lower_id_and_ints_come_before_strings() -> None:
    reference = Reference()
    reference.create(1)
    ids: list[int | str] = ["é", "b", "10", 10, 2**64 - 1, 9]
    reference.upsert(ids, SparseVectors.from_rows([{0: 1.0}] * 6, dimension=1))
    (hits,) = reference.search(SparseVectors.from_rows([{0: 1.0}], dimension=1), k=6)
    assert hits.ids == (9, 10, 2**64 - 1, "10", "b", "é")


def test_a_file_holds_what_was_written_when_it_is_opened_again(tmp_path: Path) -> None:
    url, documents = f"reference:{tmp_path / 'r.db'}", SparseVectors.from_rows([{0: 1.0}, {}], dimension=2**32)
    first = Reference.connect(Url.parse(url))
    first.create(2**32)
    first.upsert([1, "1"], documents, [{"a": 1}, {}])
    first.close()
    again = Reference.connect(Url.parse(url))
    assert (again.dimension, again.count()) == (2**32, 2)
    assert again.fetch(["1", 1, 7]).vectors == documents[[1, 0]]
    again.close()


def foreign_database(file: Path) -> None:
    sqlite3.connect(file).execute("CREATE TABLE theirs (x)").connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign_database, "somebody else's"),
        (lambda file: file.write_bytes(b"not a database, and longer than a header" * 40), "not a reference file"),
        (Path.mkdir, "unable to open"),
    ],
)
def test_a_path_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, make: Iterable[Path], message: str) -> None:
    file = tmp_path / "theirs"
    make(file)  # type: ignore[operator]
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises((CollectionError, StorageFailed), match=message):
        Reference(str(file))
    assert (file.read_bytes() if file.is_file() else None) == before


def test_a_folder_that_does_not_exist_is_named() -> None:
    with pytest.raises(CollectionError, match=r"/nowhere/at/all\.db does not exist"):
        Reference("/nowhere/at/all.db")


@pytest.mark.parametrize("url", ["reference://host/x", "reference+fast:x"])
def test_a_reference_url_has_no_host_and_no_variant(url: str) -> None:
    with pytest.raises(InvalidInput, match="reference:PATH"):
        Reference.connect(Url.parse(url))
