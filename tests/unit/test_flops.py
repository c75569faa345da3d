"""F, counted and compared with its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.errors import InvalidVectors
from sparsevec.measure.cost import cost, document_frequency, flops, touched
from sparsevec.vectors import SparseVectors
from tests.strategies import signed_weights, vectors


@given(st.data())
def test_f_is_the_mean_number_of_shared_dimensions_over_all_pairs(data: st.DataObject) -> None:
    queries, documents = (
        data.draw(vectors(dimension=7, weights=signed_weights, min_rows=1)) for _ in ("queries", "documents")
    )
    shared = [len(set(q.to_dict()) & set(d.to_dict())) for q in queries for d in documents]
    assert flops(queries, documents) == pytest.approx(np.mean(shared))


@given(st.data(), st.sampled_from([1, 7, 2**32]))
def test_touched_is_the_share_of_pairs_with_a_shared_dimension(data: st.DataObject, dimension: int) -> None:
    queries, documents = (
        data.draw(vectors(dimension=dimension, weights=signed_weights, min_rows=1)) for _ in ("queries", "documents")
    )
    shared = [bool(set(q.to_dict()) & set(d.to_dict())) for q in queries for d in documents]
    assert touched(queries, documents) == pytest.approx(np.mean(shared))


def test_touched_counts_every_block_of_queries() -> None:
    queries = SparseVectors.from_rows([{0: 1.0}] * 256 + [{1: 1.0}] * 256 + [{}] * 88, dimension=2)
    assert touched(queries, SparseVectors.from_rows([{0: 1.0}, {1: -1.0}], dimension=2)) == 512 / 1200


def test_an_even_spread_has_r_sub_one_and_a_skewed_one_more() -> None:
    even = SparseVectors.from_dense(np.eye(8, dtype=np.float32))
    skewed = SparseVectors.from_rows([{0: 1.0}] * 8, dimension=8)
    assert cost(even, even).r_sub == pytest.approx(1)
    assert cost(skewed, skewed).r_sub == pytest.approx(8)
    assert (cost(skewed, skewed).dead_dims, cost(skewed, skewed).max_document_frequency) == (7, 1.0)


def test_fewer_weights_make_f_fall_quadratically_at_an_even_spread() -> None:
    rng = np.random.default_rng(0)
    one, half = (
        SparseVectors.from_dense((rng.permuted(np.tile(np.arange(256) < nnz, (4000, 1)), axis=1)).astype(np.float32))
        for nnz in (32, 16)
    )
    assert flops(one, one) / flops(half, half) == pytest.approx(4, rel=0.02)


def test_document_frequency_counts_vectors_not_weights() -> None:
    vectors = SparseVectors.from_rows([{0: 5.0, 2: 1.0}, {2: -1.0}], dimension=4)
    assert document_frequency(vectors).tolist() == [1, 0, 2, 0]


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(InvalidVectors, match="at least one"):
        flops(SparseVectors([0], [], [], 2), SparseVectors([0, 0], [], [], 2))
    with pytest.raises(InvalidVectors, match="queries have dimension 2, documents 3"):
        flops(SparseVectors([0, 0], [], [], 2), SparseVectors([0, 0], [], [], 3))
    with pytest.raises(InvalidVectors, match="at least one query and one document"):
        touched(SparseVectors([0, 0], [], [], 2), SparseVectors([0], [], [], 2))
    with pytest.raises(InvalidVectors, match="queries have dimension 2, documents 3"):
        touched(SparseVectors([0, 0], [], [], 2), SparseVectors([0, 0], [], [], 3))
