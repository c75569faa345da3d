"""C2, C3, C9, C12: what was written is there, whole, until it is deleted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id, Payload
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.documents import (
    DIMENSION,
    MALFORMED_WRITES,
    ask,
    corpus,
    fill,
    rows,
)
from sparsevec.testing.conformance.suite import Suite
from sparsevec.vectors import SparseVectors

__all__ = ["Writing"]


class Writing(Suite):
    # ---- C2: what was reported as written stays

    def test_c2_written_documents_are_searchable_at_once(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        for i in range(5):
            adapter.upsert([i], rows({i: 1.0}))
            assert ask(adapter, {i: 1.0}).ids == (i,)

    def test_c2_written_documents_survive_a_restart(self, adapter: Adapter) -> None:
        documents = corpus(40)
        fill(adapter, range(40), documents, [{"n": i} for i in range(40)])
        adapter.delete([0])
        adapter = self.reopen(adapter)
        assert adapter.count() == 39
        assert adapter.fetch([7]).payloads == ({"n": 7},)
        verify(adapter, documents[1:], corpus(10, seed=1), ids=range(1, 40)).require_exact()

    # ---- C3: replacement

    def test_c3_writing_an_id_again_replaces_its_vector(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0, 2: 1.0}))
        adapter.upsert([1], rows({2: 3.0}))
        assert adapter.count() == 1
        assert ask(adapter, {1: 1.0}).ids == ()
        assert ask(adapter, {2: 1.0}).scores.tolist() == [3.0]

    def test_c3_a_rewrite_keeps_the_payload_fields_that_are_not_given(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}), [{"kept": {"deep": [1, "two"]}, "changed": {"old": 1}}])
        adapter.upsert([1], rows({1: 2.0}), [{"changed": {"new": 2}, "added": True}])
        (payload,) = adapter.fetch([1]).payloads
        assert payload == {"kept": {"deep": [1, "two"]}, "changed": {"new": 2}, "added": True}

    def test_c3_a_rewrite_without_payload_keeps_the_payload(self, adapter: Adapter) -> None:
        fill(adapter, ["a", 2], rows({1: 1.0}, {1: 1.0}), [{"n": 1}, {"n": 2}])
        adapter.upsert(["a", 2], rows({1: 2.0}, {1: 2.0}))
        assert adapter.fetch(["a", 2]).payloads == ({"n": 1}, {"n": 2})

    def test_c3_a_field_can_be_rewritten_to_nothing(self, adapter: Adapter) -> None:
        fill(adapter, [1, "a"], rows({1: 1.0}, {1: 1.0}), [{"n": 1, "m": 1}, {"n": None}])
        adapter.upsert([1, "a"], rows({1: 2.0}, {1: 2.0}), [{"n": None, "new": [None]}, {"m": None}])
        assert adapter.fetch([1, "a"]).payloads == ({"n": None, "m": 1, "new": [None]}, {"n": None, "m": None})

    def test_c3_a_rewrite_changes_no_other_document(self, adapter: Adapter) -> None:
        documents = corpus(30)
        fill(adapter, range(30), documents, [{"n": i} for i in range(30)])
        adapter.upsert([4], documents[7:8], [{"n": "new"}])
        documents = SparseVectors.concat([documents[:4], documents[7:8], documents[5:]])
        verify(adapter, documents, corpus(10, seed=2)).require_exact()
        assert adapter.fetch([3, 5]).payloads == ({"n": 3}, {"n": 5})

    def test_c3_old_and_new_ids_in_one_write(self, adapter: Adapter) -> None:
        fill(adapter, [1, "b"], rows({1: 1.0}, {1: 1.0}), [{"n": 1}, {"n": 2}])
        report = adapter.upsert(["b", "c", 1], rows({2: 2.0}, {2: 3.0}, {2: 1.0}), [{"m": 1}, {"m": 2}, {}])
        assert report.written == ("b", "c", 1)
        assert ask(adapter, {2: 1.0}).ids == ("c", "b", 1)
        assert adapter.fetch(["b", "c", 1]).payloads == ({"n": 2, "m": 1}, {"m": 2}, {"n": 1})

    # ---- C9: writes are accounted for

    def test_c9_a_write_of_nothing_writes_nothing(self, adapter: Adapter) -> None:
        fill(adapter, [], rows())
        assert adapter.count() == 0

    def test_c9_a_malformed_write_is_refused_whole(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        for ids, payloads in MALFORMED_WRITES:
            with pytest.raises(InvalidInput):
                adapter.upsert(ids, rows({1: 1.0}, {1: 1.0}), payloads)
        assert adapter.count() == 0

    def test_c9_vectors_of_another_dimension_are_refused_whole(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION)
        with pytest.raises(InvalidVectors):
            adapter.upsert([1], SparseVectors.from_rows([{1: 1.0}], dimension=DIMENSION - 1))
        assert adapter.count() == 0

    def test_c9_payloads_stay_the_callers_and_documents_the_backends(self, adapter: Adapter) -> None:
        payloads: list[dict[str, Any]] = [{"deep": {"n": [1]}, "large": 2**62 + 1}, {}]
        fill(adapter, [1, "a"], rows({1: 1.0}, {1: 1.0}), payloads)
        assert payloads == [{"deep": {"n": [1]}, "large": 2**62 + 1}, {}]
        payloads[0]["deep"]["n"].append(2)
        payloads[1]["late"] = True
        found: Any = adapter.fetch([1, "a"]).payloads
        assert found == ({"deep": {"n": [1]}, "large": 2**62 + 1}, {})
        found[0]["deep"]["n"].append(3)
        (hits,) = adapter.search(rows({1: 1.0}), where={"deep.n": 1}, with_payloads=True)
        assert hits.payloads == ({"deep": {"n": [1]}, "large": 2**62 + 1},)

    def test_c9_what_was_reported_as_written_is_there(self, adapter: Adapter) -> None:
        ids: list[Id] = [*range(30), "a", "x" * 5000, 2**64 - 1]
        documents = corpus(len(ids))
        adapter.create(DIMENSION)
        report = adapter.upsert(ids, documents)
        assert sorted([*report.written, *report.skipped, *report.failed], key=str) == sorted(ids, key=str)
        found = adapter.fetch(report.written)
        assert found.ids == report.written
        assert adapter.stored(found.vectors) == adapter.stored(documents[[ids.index(id_) for id_ in report.written]])
        assert adapter.count() == len(report.written)

    # ---- C17, in a collection of ours: ids that are not there

    def test_c17_in_ours_an_id_that_is_not_there_is_made(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        assert adapter.upsert([1, 2], rows({2: 1.0}, {2: 1.0})).written == (1, 2)
        assert adapter.upsert([3], rows({2: 1.0}), missing="create").written == (3,)
        assert adapter.count() == 3

    def test_c17_in_ours_it_fails_when_told(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}), [{"n": 1}])
        report = adapter.upsert([2, 1], rows({2: 1.0}, {2: 1.0}), [{"m": 2}, {"m": 1}], missing="fail")
        assert (report.written, dict(report.skipped)) == ((1,), {})
        assert {id_: (f.kind, f.retryable) for id_, f in report.failed.items()} == {2: ("missing", False)}
        assert adapter.fetch([1, 2]).payloads == ({"n": 1, "m": 1},)
        assert adapter.count() == 1

    def test_c17_in_ours_it_is_skipped_when_told(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        report = adapter.upsert(["two", 1], rows({2: 1.0}, {2: 1.0}), missing="skip")
        assert (report.written, set(report.skipped), dict(report.failed)) == ((1,), {"two"}, {})
        assert adapter.count() == 1

    def test_c17_a_missing_that_is_none_is_refused(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        missing: Any = "ignore"
        with pytest.raises(InvalidInput, match="missing must be"):
            adapter.upsert([1], rows({1: 1.0}), missing=missing)

    # ---- C12: fetch, delete, count

    def test_c12_deleted_documents_are_gone_from_search_and_count(self, adapter: Adapter) -> None:
        fill(adapter, [1, "two", 3], rows({1: 1.0}, {1: 2.0}, {1: 3.0}))
        adapter.delete(["two", 3])
        assert adapter.count() == 1
        assert ask(adapter, {1: 1.0}).ids == (1,)
        assert adapter.fetch(["two", 1]).ids == (1,)

    def test_c12_deleting_unknown_ids_is_no_error(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        adapter.delete([99, "nobody"])
        adapter.delete([])
        adapter.delete([1])
        adapter.delete([1])
        assert adapter.count() == 0

    def test_c12_a_deleted_id_can_be_written_again_and_starts_afresh(self, adapter: Adapter) -> None:
        fill(adapter, ["a"], rows({1: 1.0}), [{"old": 1}])
        adapter.delete(["a"])
        adapter.upsert(["a"], rows({2: 2.0}), [{"new": 1}])
        assert adapter.fetch(["a"]).payloads == ({"new": 1},)
        assert ask(adapter, {1: 1.0, 2: 1.0}).scores.tolist() == [2.0]

    def test_c12_fetch_gives_the_documents_in_the_order_asked_for_without_unknown_ones(self, adapter: Adapter) -> None:
        documents = corpus(20)
        ids: list[Id] = [f"d{i}" if i % 2 else i for i in range(20)]
        fill(adapter, ids, documents, [{"n": i} for i in range(20)])
        found = adapter.fetch([ids[9], "nobody", ids[2], 77, ids[19]])
        assert found.ids == (ids[9], ids[2], ids[19])
        assert found.payloads == ({"n": 9}, {"n": 2}, {"n": 19})
        assert adapter.stored(found.vectors) == adapter.stored(documents[[9, 2, 19]])

    def test_c12_fetching_nothing_finds_nothing(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        assert adapter.fetch([]).ids == ()
        assert len(adapter.fetch([2]).vectors) == 0

    def test_c12_ids_of_numpys_are_deleted(self, adapter: Adapter) -> None:
        fill(adapter, range(3), rows({1: 1.0}, {1: 1.0}, {1: 1.0}))
        ids: Any = np.arange(2)
        adapter.delete(ids)
        assert adapter.fetch([0, 1, 2]).ids == (2,)

    def test_c12_one_call_fetches_and_deletes_as_many_as_are_given(self, adapter: Adapter) -> None:
        given = 2_100  # more than a backend may take in one request
        fill(adapter, range(given), rows(*[{1: 1.0}] * given), [{"late": i >= 1_050} for i in range(given)])
        backwards = tuple(range(given))[::-1]
        assert adapter.fetch(backwards).ids == backwards
        adapter.delete(range(1_040))
        assert adapter.count() == 1_060
        adapter.delete(where={"late": True})
        assert adapter.fetch(backwards).ids == tuple(range(1_049, 1_039, -1))

    # ---- all of them together

    @pytest.mark.parametrize("seed", range(3))
    def test_any_sequence_of_writes_and_deletes_ends_in_what_it_should(self, adapter: Adapter, seed: int) -> None:
        rng = np.random.default_rng(seed)
        pool: list[Id] = [0, 1, 2, 3, 2**64 - 1, "0", "1", "a", "b", "é"]
        documents = corpus(200, seed=seed)
        held: dict[Id, tuple[int, Payload]] = {}
        adapter.create(DIMENSION)
        for _ in range(15):
            chosen = [pool[i] for i in rng.choice(len(pool), size=rng.integers(1, 5), replace=False)]
            if rng.random() < 0.25:
                adapter.delete(chosen)
                held = {id_: kept for id_, kept in held.items() if id_ not in chosen}
            else:
                picked = rng.choice(len(documents), size=len(chosen))
                payloads: list[Payload] = [{f"f{rng.integers(3)}": int(rng.integers(3))} for _ in chosen]
                assert adapter.upsert(chosen, documents[picked], payloads).written == tuple(chosen)
                for id_, row, payload in zip(chosen, picked, payloads, strict=True):
                    held[id_] = (int(row), {**held.get(id_, (0, {}))[1], **payload})
        ids = list(held)
        expected = documents[[row for row, _ in held.values()]]
        assert adapter.count() == len(held)
        assert adapter.fetch(ids).payloads == tuple(payload for _, payload in held.values())
        verify(adapter, expected, corpus(20, seed=99), 5, ids=ids).require_exact()
