"""C14, C15: errors in our words, threads, forks, and what Python expects of an object."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sparsevec.contract.adapter import Adapter, Hit
from sparsevec.errors import AdapterClosed, InvalidInput, InvalidVectors
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.documents import (
    DIMENSION,
    ask,
    corpus,
    fill,
    rows,
)
from sparsevec.testing.conformance.suite import Suite
from sparsevec.testing.forks import in_a_forked_child

__all__ = ["Manners"]


class Manners(Suite):
    def test_c14_a_closed_adapter_says_so_in_our_words(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        adapter.close()
        adapter.close()
        with pytest.raises(AdapterClosed):
            adapter.search(rows({1: 1.0}), 1)
        with pytest.raises(AdapterClosed):
            adapter.upsert([2], rows({1: 1.0}))

    def test_the_name_says_which_engine_it_is(self, adapter: Adapter) -> None:
        assert adapter.info().backend
        assert not adapter.info().backend.startswith("<")

    def test_stored_is_what_is_kept_and_keeping_it_again_changes_nothing(self, adapter: Adapter) -> None:
        documents = corpus(20)
        once = adapter.stored(documents)
        assert adapter.stored(once) == once
        assert adapter.slack(documents).shape == (documents.nnz,)
        assert (adapter.slack(documents) >= 0).all()

    def test_c14_without_a_collection_or_with_one_the_backend_says_what_it_is(self, adapter: Adapter) -> None:
        before = adapter.info()
        assert (before.exists, before.dimension, before.fingerprint) == (False, None, None)
        fill(adapter, [1], rows({1: 1.0}))
        after = adapter.info()
        assert (after.backend, after.exists, after.ours) == (before.backend, True, True)

    def test_looking_changes_nothing(self, adapter: Adapter) -> None:
        assert [finding for finding in adapter.check() if finding.level == "blocking"] == []
        assert not adapter.info().exists
        fill(adapter, [1], rows({1: 1.0}), [{"n": 1}])
        before = adapter.info()
        assert all(finding.subject and finding.found for finding in adapter.check())
        assert adapter.info() == before
        assert adapter.count() == 1

    # ---- C15: threads and forks

    def test_c15_eight_threads_write_search_and_delete_at_once(self, adapter: Adapter) -> None:
        documents = corpus(8 * 20)
        adapter.create(DIMENSION)

        def work(thread: int) -> int:
            mine = range(20 * thread, 20 * thread + 20)
            for id_ in mine:
                assert adapter.upsert([id_], documents[id_ : id_ + 1], [{"thread": thread}]).written == (id_,)
                assert all(len(hits) <= 5 for hits in adapter.search(documents[id_], 5))
            adapter.delete(mine[:2])
            assert adapter.fetch(mine).ids == tuple(mine[2:])
            return sum(len(page) > 0 for page in adapter.scan(size=50))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))
        left = [i for i in range(160) if i % 20 > 1]
        assert adapter.count() == len(left)
        verify(adapter, documents[left], corpus(10, seed=1), ids=left).require_exact()

    def test_c15_eight_threads_read_at_once_and_each_gets_its_own_answer(self, adapter: Adapter) -> None:
        fill(adapter, range(64), rows(*({i: 1.0} for i in range(64))), [{"n": i} for i in range(64)])

        def work(i: int) -> bool:
            (hits,) = adapter.search(rows({i: 1.0}), 3, where={"n": i}, with_payloads=True)
            return list(hits) == [Hit(i, 1.0, {"n": i})]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(64)))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_c15_a_forked_child_is_told_to_connect_anew(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        for call in (adapter.count, lambda: adapter.search(rows({1: 1.0}), 1), lambda: list(adapter.scan())):
            said = in_a_forked_child(call)
            assert said.startswith("AdapterClosed: ")
            assert "connect again" in said
        assert in_a_forked_child(adapter.close) == "returned None"
        assert ask(adapter, {1: 1.0}).ids == (1,)

    # ---- as Python expects

    def test_an_adapter_is_a_context_manager(self, adapter: Adapter) -> None:
        with adapter as same:
            assert same is adapter
            fill(same, [1], rows({1: 1.0}))
        with pytest.raises(AdapterClosed):
            adapter.count()

    def test_its_repr_says_what_it_is(self, adapter: Adapter) -> None:
        assert " object at 0x" not in repr(adapter)

    def test_one_row_and_a_scipy_matrix_are_queries(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {2: 1.0}))
        queries = rows({1: 1.0}, {2: 1.0})
        assert [hits.ids for hits in adapter.search(queries[1], 5)] == [(2,)]
        assert [hits.ids for hits in adapter.search(queries.to_scipy(), 5)] == [(1,), (2,)]

    def test_a_dense_query_and_a_dense_write_are_refused_in_words(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        dense: Any = np.zeros((1, DIMENSION), np.float32)
        with pytest.raises(InvalidInput, match="expected queries as SparseVectors"):
            adapter.search(dense, 5)
        with pytest.raises(InvalidVectors, match="expected vectors as SparseVectors"):
            adapter.upsert([2], dense)

    def test_ten_hits_are_asked_for_unless_told_otherwise(self, adapter: Adapter) -> None:
        fill(adapter, range(12), rows(*({1: float(i + 1)} for i in range(12))))
        assert [len(hits) for hits in adapter.search(rows({1: 1.0}))] == [10]

    def test_hits_are_a_sequence(self, adapter: Adapter) -> None:
        fill(adapter, [1, "two"], rows({1: 1.0}, {1: 2.0}), [{"n": 1}, {}])
        hits = ask(adapter, {1: 1.0}, with_payloads=True)
        assert list(hits) == [Hit("two", 2.0, {}), Hit(1, 1.0, {"n": 1})]
        assert (hits[0].id, hits[-1].payload, len(hits[1:])) == ("two", {"n": 1}, 1)
        assert hits == ask(adapter, {1: 1.0}, with_payloads=True)
        assert hits != ask(adapter, {1: 1.0})
