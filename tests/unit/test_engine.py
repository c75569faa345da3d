"""The local engine says what the reference says, bit for bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsevec.exact.local import BLOCK, BlockLists
from sparsevec.exact.reference import PostingLists
from sparsevec.vectors import SparseVectors
from tests.strategies import signed_weights, vectors


@given(st.data(), st.sampled_from([1, 7, 2**32]), st.integers(1, 9))
def test_rows_and_scores_are_the_references_bit_for_bit(data: st.DataObject, dimension: int, k: int) -> None:
    documents = data.draw(vectors(dimension=dimension, weights=signed_weights))
    queries = data.draw(vectors(dimension=dimension, weights=signed_weights, min_rows=1))
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))), bool)
    mask = data.draw(st.sampled_from([None, allowed]))
    for query in queries:
        due_rows, due_scores = PostingLists(documents).search(query, k, mask)
        rows, scores = BlockLists(documents).search(query, k, mask)
        assert rows.tolist() == due_rows.tolist()
        assert scores.tobytes() == due_scores.tobytes()


def test_ties_across_blocks_go_to_the_lower_row() -> None:
    n = 2 * BLOCK + 3
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 8, (n, 2)) + np.array([0, 8])
    documents = SparseVectors(np.arange(n + 1) * 2, indices.ravel(), rng.choice([0.5, 1.0], 2 * n), 16)
    query = SparseVectors.from_dense(np.ones((1, 16)))[0]
    due_rows, due_scores = PostingLists(documents).search(query, 1000)
    rows, scores = BlockLists(documents).search(query, 1000)
    assert rows.tolist() == due_rows.tolist()
    assert scores.tolist() == due_scores.tolist()


ANSWER = """if True:
    import numpy as np
    import sparsevec as sv
    rng = np.random.default_rng(0)
    vectors = sv.SparseVectors.from_dense(rng.lognormal(size=(50, 20)) * (rng.random((50, 20)) < 0.3))
    for url in ("local:", "reference:"):
        with sv.connect(url) as adapter:
            adapter.create(20)
            adapter.upsert(range(50), vectors)
            print([(hits.ids, hits.scores.tobytes().hex()) for hits in adapter.search(vectors, 5)])
"""
WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None\n"
NOWHERE_TO_CACHE = "from numba.core import caching; caching.CacheImpl._locator_classes = []\n"


@pytest.mark.parametrize("circumstance", [WITHOUT_NUMBA, NOWHERE_TO_CACHE])
def test_without_numba_or_a_folder_to_cache_in_it_answers_with_the_same_bits(circumstance: str) -> None:
    answer = subprocess.run([sys.executable, "-c", circumstance + ANSWER], capture_output=True, text=True, check=True)
    local, reference, *_ = answer.stdout.splitlines()
    assert local == reference
