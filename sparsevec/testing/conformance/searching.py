"""C4 to C8: every score is what arithmetic says, and nothing better is left out."""

from __future__ import annotations

import numpy as np
import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.errors import AdapterError, InvalidInput, InvalidVectors
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.documents import (
    DIMENSION,
    ask,
    corpus,
    fill,
    rows,
)
from sparsevec.testing.conformance.suite import Suite
from sparsevec.vectors import SparseVectors

__all__ = ["Searching"]


class Searching(Suite):
    def test_c4_a_score_is_the_dot_product(self, adapter: Adapter) -> None:
        fill(adapter, [7], rows({1: 2.0, 2: 0.5, 9: 4.0}))
        hits = ask(adapter, {1: 3.0, 2: 8.0, 5: 1.0})
        assert hits.scores.tolist() == [10.0]
        assert hits.scores.dtype == np.float32

    def test_c4_scores_are_within_what_rounding_allows(self, adapter: Adapter) -> None:
        documents = corpus(300, nnz=50)
        fill(adapter, range(300), documents)
        verify(adapter, documents, corpus(40, seed=1, nnz=50), k=20).require_exact()

    def test_c4_the_ends_of_the_range_of_dimensions_count(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({0: 1.0}, {DIMENSION - 1: 2.0}))
        assert ask(adapter, {0: 1.0, DIMENSION - 1: 1.0}).ids == (2, 1)

    def test_c4_negative_weights_are_held_exactly_or_refused_beforehand(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        documents = rows({1: 2.0}, {1: 3.0, 2: -1.0}, {2: 4.0})
        report = adapter.upsert(["first", "signed", "last"], documents)
        assert {*report.written, *report.failed} == {"first", "signed", "last"}
        assert set(report.failed) <= {"signed"}
        assert not any(failure.retryable for failure in report.failed.values())
        held = [row for row, id_ in enumerate(["first", "signed", "last"]) if id_ in report.written]
        verify(adapter, documents[held], rows({1: 1.0, 2: 1.0}), ids=list(report.written)).require_exact()

    def test_c4_negative_query_weights_are_answered_exactly_or_refused(self, adapter: Adapter) -> None:
        documents = rows({1: 2.0}, {1: 3.0, 2: 1.0}, {2: 4.0})
        fill(adapter, range(3), documents)
        try:
            verify(adapter, documents, rows({1: 1.0, 2: -0.5}, {2: -1.0})).require_exact()
        except AdapterError as refusal:
            assert "negative" in str(refusal)  # noqa: PT017  # both outcomes are conforming

    def test_c5_documents_without_a_shared_dimension_are_no_hits(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {2: 1.0}))
        assert ask(adapter, {1: 1.0}).ids == (1,)
        assert ask(adapter, {3: 1.0}).ids == ()

    def test_c5_a_document_without_weights_is_kept_and_never_a_hit(self, adapter: Adapter) -> None:
        fill(adapter, [1, "empty"], rows({1: 1.0}, {}), [{}, {"n": 1}])
        documents = adapter.fetch(["empty"])
        assert (documents.ids, documents.vectors.nnz, documents.payloads) == (("empty",), 0, ({"n": 1},))
        assert ask(adapter, {1: 1.0}).ids == (1,)
        assert ask(adapter, {1: 1.0}, where={"n": 1}).ids == ()

    def test_c5_a_document_that_loses_its_weights_is_no_hit_any_more(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {1: 1.0}))
        adapter.upsert([1], rows({}))
        assert ask(adapter, {1: 1.0}).ids == (2,)

    def test_c6_hits_come_best_first_and_at_most_k(self, adapter: Adapter) -> None:
        fill(adapter, range(9), rows(*({1: float(i + 1)} for i in range(9))))
        assert ask(adapter, {1: 1.0}, k=3).ids == (8, 7, 6)
        assert ask(adapter, {1: 1.0}, k=1).ids == (8,)

    def test_c6_a_k_above_the_count_truncates(self, adapter: Adapter) -> None:
        fill(adapter, [1, 2], rows({1: 1.0}, {1: 2.0}))
        assert ask(adapter, {1: 1.0}, k=1000).ids == (2, 1)

    def test_c6_a_large_k_brings_as_many_hits_as_it_says(self, adapter: Adapter) -> None:
        n = 1_500
        fill(adapter, range(n), rows(*({1: 1.0} for _ in range(n))))
        k = min(adapter.info().capabilities.largest_k or n, n - 10)
        assert len(set(ask(adapter, {1: 1.0}, k=k).ids)) == k

    def test_c6_a_k_that_is_no_positive_int_is_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        for k in (0, -1, True, 1.0, None):
            with pytest.raises(InvalidInput):
                ask(adapter, {1: 1.0}, k=k)  # type: ignore[arg-type]

    def test_c7_ties_may_fall_either_way_but_nothing_better_is_left_out(self, adapter: Adapter) -> None:
        documents = rows(*({1: 1.0} for _ in range(20)), *({1: 2.0} for _ in range(3)))
        fill(adapter, range(23), documents)
        hits = ask(adapter, {1: 1.0}, k=10)
        assert set(hits.ids[:3]) == {20, 21, 22}
        assert len(set(hits.ids)) == 10
        assert hits.scores.tolist() == [2.0] * 3 + [1.0] * 7

    def test_c8_each_answer_belongs_to_its_query(self, adapter: Adapter) -> None:
        fill(adapter, range(50), rows(*({i: 1.0} for i in range(50))))
        asked = [i % 50 for i in range(149, -1, -1)]  # more than a backend may take in one request
        answers = adapter.search(rows(*({i: 1.0} for i in asked)), 5)
        assert [hits.ids for hits in answers] == [(i,) for i in asked]

    def test_c8_an_empty_query_has_no_hits(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        answers = adapter.search(rows({}, {1: 1.0}, {}), 5, with_payloads=True)
        assert [hits.ids for hits in answers] == [(), (1,), ()]
        assert answers[0].payloads == ()

    def test_c8_no_queries_have_no_answers(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        assert adapter.search(rows(), 5) == []

    def test_c8_payloads_come_with_the_hits_when_asked_for(self, adapter: Adapter) -> None:
        fill(adapter, [1, "two"], rows({1: 1.0}, {1: 2.0}), [{}, {"deep": {"list": [1, None, {"x": 0.5}]}}])
        assert ask(adapter, {1: 1.0}).payloads is None
        assert ask(adapter, {1: 1.0}, with_payloads=True).payloads == ({"deep": {"list": [1, None, {"x": 0.5}]}}, {})

    def test_c8_queries_of_another_dimension_are_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        with pytest.raises(InvalidVectors):
            adapter.search(SparseVectors.from_rows([{1: 1.0}], dimension=DIMENSION + 1), 5)
