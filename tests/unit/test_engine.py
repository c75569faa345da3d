"""The local engine says what the reference says, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsevec.postings import BlockLists, PostingLists, blocks
from sparsevec.postings.blocks import BLOCK, LOOPS
from sparsevec.vectors import SparseVectors
from tests.strategies import signed_weights, vectors


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def _loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with the compiled loop, and with numpy in its place."""
    LOOPS.load(wait=True)
    assert LOOPS.get() is not None
    if request.param == "numpy":
        monkeypatch.setattr(LOOPS, "_module", None)


def require_the_references_bits(
    documents: SparseVectors, queries: SparseVectors, k: int, mask: npt.NDArray[np.bool_] | None = None
) -> None:
    reference, local = PostingLists(documents), BlockLists(documents)
    for query, among_others in zip(queries, local.search_all(queries, k, mask), strict=True):
        rows, scores = reference.search(query, k, mask)
        for found in (local.search(query, k, mask), among_others):
            assert found.rows.tolist() == rows.tolist()
            assert found.scores.tobytes() == scores.tobytes()


@given(st.data(), st.sampled_from([1, 7, 2**32]), st.integers(1, 9))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_and_scores_are_the_references_bit_for_bit(data: st.DataObject, dimension: int, k: int) -> None:
    documents = data.draw(vectors(dimension=dimension, weights=signed_weights))
    queries = data.draw(vectors(dimension=dimension, weights=signed_weights, min_rows=1))
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))), bool)
    require_the_references_bits(documents, queries, k, data.draw(st.sampled_from([None, allowed])))


def some_vectors(n: int, dimension: int, nnz: int, seed: int, signed: bool = False) -> SparseVectors:
    """Few different weights, so that many scores are equal."""
    rng = np.random.default_rng(seed)
    indices = np.sort(np.argsort(rng.random((n, min(dimension, 64))), axis=1)[:, :nnz], axis=1)
    indices = indices * (dimension // min(dimension, 64))
    weights = rng.choice([0.25, 0.5, 1.0, 3.0] + [-0.5, -1.0] * signed, n * nnz)
    return SparseVectors(np.arange(n + 1) * nnz, indices.ravel(), weights, dimension)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dimension", [16, 2**31 + 64])
@pytest.mark.parametrize("k", [1, 10, 300, 3000, 2 * BLOCK + 3])
def test_every_k_over_several_blocks(dimension: int, k: int, signed: bool) -> None:
    documents = some_vectors(2 * BLOCK + 3, dimension, 2, 0, signed)
    queries = some_vectors(3, dimension, 8, 1, signed)
    mask = np.random.default_rng(2).random(len(documents)) < 0.1
    require_the_references_bits(documents, queries, k)
    require_the_references_bits(documents, queries, k, mask)


@pytest.mark.parametrize("k", [1, 10, 200])
def test_blocks_with_few_postings_are_gone_through_by_these(k: int) -> None:
    documents = some_vectors(2 * BLOCK, 4096, 1, 3)
    require_the_references_bits(documents, some_vectors(4, 4096, 5, 4), k)


def test_dimensions_that_no_document_has_are_left_out() -> None:
    documents = SparseVectors.from_rows([{0: 1.0}, {3: 2.0}], dimension=5)
    queries = SparseVectors.from_rows([{0: 1.0, 4: 1.0}, {4: 9.0}, {1: 1.0, 3: 1.0}], dimension=2**20)
    require_the_references_bits(documents, queries, 5)


def test_no_documents_no_queries_and_documents_without_weights() -> None:
    empty = SparseVectors([0], [], [], 4)
    three = SparseVectors.from_rows([{}, {}, {}], dimension=4)
    query = SparseVectors.from_rows([{0: 1.0}, {}], dimension=4)
    require_the_references_bits(empty, query, 5)
    require_the_references_bits(three, query, 5)
    assert BlockLists(three).search_all(empty, 5) == []


def test_the_loop_means_the_same_where_it_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of 16 bits are added to rows beyond them."""
    loop: Any = import_module("sparsevec.postings.loops").search
    monkeypatch.setattr(LOOPS, "_module", SimpleNamespace(search=loop.py_func))
    monkeypatch.setitem(loop.py_func.__globals__, "_ask_for", lambda *_: None)  # which only a processor has
    documents = some_vectors(2 * BLOCK + 300, 64, 1, 9)
    mask = np.arange(len(documents)) > 2 * BLOCK
    require_the_references_bits(documents[2 * BLOCK - 300 :], some_vectors(2, 64, 8, 10), 5)
    require_the_references_bits(documents, some_vectors(1, 64, 2, 10), 5, mask)


@pytest.mark.parametrize("nnz", [1, 30])
def test_numbers_that_a_damaged_file_has_reach_no_other_documents(nnz: int) -> None:
    documents, queries = some_vectors(BLOCK + 5, 64, 4, 11), some_vectors(3, 64, nnz, 12)
    arrays = BlockLists(documents).lists
    numbers = arrays.numbers.copy()
    numbers[: 4 * BLOCK] |= 2**15
    assert arrays._replace(numbers=numbers).fault(len(documents), documents.nnz) is None
    damaged = BlockLists(documents, arrays._replace(numbers=numbers))
    for top in damaged.search_all(queries, 2 * BLOCK, np.ones(len(documents), bool)):
        assert ((top.rows >= BLOCK) & (top.rows < len(documents))).all()
    require_the_references_bits(documents, queries, 10)
    numbers[-1] = 5
    assert "of no document" in str(arrays._replace(numbers=numbers).fault(len(documents), documents.nnz))


@pytest.mark.parametrize("processors", [1, 2, 3, 8])
def test_the_number_of_threads_changes_nothing(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_processors", lambda: processors)
    monkeypatch.setattr(blocks, "_WORTH_A_THREAD", 1000)
    documents, queries = some_vectors(3 * BLOCK, 64, 4, 5), some_vectors(21, 64, 6, 6)
    require_the_references_bits(documents, queries, 25)


def test_many_threads_may_search_at_once() -> None:
    documents, queries = some_vectors(BLOCK + 5, 64, 4, 7), some_vectors(40, 64, 6, 8)
    local = BlockLists(documents)
    alone = [local.search(query, 20) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda query: local.search(query, 20), list(queries) * 5))
    assert [top.scores.tobytes() for top in together] == [top.scores.tobytes() for top in alone] * 5
    assert [top.rows.tolist() for top in together] == [top.rows.tolist() for top in alone] * 5


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
IN_PYTHON = "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'\n"
BROKEN_NUMBA = """
import sys
class Broken:
    def find_spec(self, name, *_):
        if name == "numba":
            raise OSError("libllvmlite.so: cannot open shared object file")
sys.meta_path.insert(0, Broken())
"""


@pytest.mark.parametrize("circumstance", [WITHOUT_NUMBA, BROKEN_NUMBA, IN_PYTHON, NOWHERE_TO_CACHE])
def test_without_numba_or_a_folder_to_cache_in_it_answers_with_the_same_bits(circumstance: str) -> None:
    answer = subprocess.run([sys.executable, "-c", circumstance + ANSWER], capture_output=True, text=True, check=True)
    local, reference, *_ = answer.stdout.splitlines()
    assert local == reference
    assert answer.stderr == ""


def test_a_loop_that_numba_may_not_compile_is_left_to_numpy() -> None:
    look = "from sparsevec.postings.blocks import LOOPS; LOOPS.load(wait=True); print(LOOPS.get())"
    answer = subprocess.run([sys.executable, "-c", IN_PYTHON + look], capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == ("None\n", "")
