"""C19: a residual code stays beside its vector, byte for byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sparsevec.contract.adapter import Adapter, UInt8s
from sparsevec.errors import CollectionError, InvalidInput
from sparsevec.testing.conformance.documents import DIMENSION, ask, corpus, fill, rows
from sparsevec.testing.conformance.sharing import kept
from sparsevec.testing.conformance.suite import Others, Suite

__all__ = ["Coding"]

WIDTH = 5  # no multiple of 3, so that base64 is padded
MALFORMED_CODES: tuple[Any, ...] = (  # of two documents with weights
    None,
    [[1] * WIDTH] * 2,
    np.zeros((2, WIDTH), np.int8),
    np.zeros((2, WIDTH + 1), np.uint8),
    np.zeros((2, WIDTH - 1), np.uint8),
    np.zeros((1, WIDTH), np.uint8),
    np.zeros(2 * WIDTH, np.uint8),
)


def codes_of(n: int, seed: int = 0, width: int = WIDTH) -> UInt8s:
    return np.random.default_rng(seed).integers(0, 256, (n, width), np.uint8)


def coded(adapter: Adapter, n: int = 3) -> UInt8s:
    """A collection of n documents {1: i + 1} with the ids 0 to n - 1, and their codes."""
    adapter.create(DIMENSION, code_bytes=WIDTH)
    codes = codes_of(n)
    report = adapter.upsert(
        range(n), rows(*({1: float(i + 1)} for i in range(n))), [{"n": i} for i in range(n)], codes=codes
    )
    assert report.written == tuple(range(n))
    return codes


def same(found: UInt8s | None, expected: npt.ArrayLike) -> bool:
    return found is not None and found.dtype == np.uint8 and np.array_equal(found, np.asarray(expected))


class Coding(Suite):
    def test_c19_a_collection_says_how_wide_its_codes_are(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, code_bytes=WIDTH)
        assert adapter.info().code_bytes == self.another(adapter).info().code_bytes == WIDTH

    def test_c19_a_collection_without_codes_says_so(self, adapter: Adapter) -> None:
        fill(adapter, [1], rows({1: 1.0}))
        assert adapter.info().code_bytes is None
        assert adapter.fetch([1]).codes is None
        assert [page.codes for page in adapter.scan(codes=True)] == [None]
        assert ask(adapter, {1: 1.0}).codes is None
        with pytest.raises(CollectionError, match="code_bytes"):
            ask(adapter, {1: 1.0}, with_codes=True)
        with pytest.raises(InvalidInput, match="code_bytes"):
            adapter.upsert([2], rows({1: 1.0}), codes=codes_of(1))
        assert adapter.count() == 1

    def test_c19_codes_come_back_byte_for_byte_with_hits_and_documents(self, adapter: Adapter) -> None:
        codes = coded(adapter, 20)
        hits = ask(adapter, {1: 1.0}, k=20, with_codes=True)
        assert same(hits.codes, codes[np.array(hits.ids, np.int64)])
        assert same(adapter.fetch([7, 3, 99, 11]).codes, codes[[7, 3, 11]])
        some = adapter.matching({"n": {"gte": 17}}, 10)
        assert some is not None
        assert same(some.codes, codes[np.array(some.ids, np.int64)])

    def test_c19_a_scan_brings_codes_byte_for_byte_where_they_are_asked_for(self, adapter: Adapter) -> None:
        codes = coded(adapter, 9)
        adapter.upsert([9], rows({}))
        expected = np.concatenate([codes, np.zeros((1, WIDTH), np.uint8)])
        pages = list(adapter.scan(codes=True, size=4))
        assert {id_ for page in pages for id_ in page.ids} == set(range(10))
        assert all(same(page.codes, expected[np.array(page.ids, np.int64)]) for page in pages)
        (some,) = adapter.scan(codes=True, vectors=True, payloads=True, where={"n": {"gte": 7}})
        assert same(some.codes, codes[np.array(some.ids, np.int64)])
        assert (some.vectors is not None, some.payloads) == (True, tuple({"n": id_} for id_ in some.ids))
        assert [page.codes for page in adapter.scan()] == [None]

    def test_c19_every_byte_and_width_is_kept(self, adapter: Adapter) -> None:
        codes = np.arange(256, dtype=np.uint8)[None].repeat(3, 0)
        codes[1], codes[2] = 0, 255
        adapter.create(DIMENSION, code_bytes=256)
        adapter.upsert([1, 2, "three"], rows({1: 3.0}, {1: 2.0}, {1: 1.0}), codes=codes)
        assert same(ask(adapter, {1: 1.0}, with_codes=True).codes, codes)
        assert same(adapter.fetch([1, 2, "three"]).codes, codes)

    def test_c19_a_code_is_replaced_with_its_vector(self, adapter: Adapter) -> None:
        codes, new = coded(adapter), codes_of(1, seed=1)
        adapter.upsert([1], rows({1: 9.0}), codes=new)
        hits = ask(adapter, {1: 1.0}, with_codes=True)
        assert hits.ids == (1, 2, 0)
        assert same(hits.codes, [new[0], codes[2], codes[0]])

    def test_c19_a_code_is_deleted_with_its_vector(self, adapter: Adapter) -> None:
        codes = coded(adapter)
        adapter.delete([1])
        assert same(ask(adapter, {1: 1.0}, with_codes=True).codes, codes[[2, 0]])
        assert same(adapter.fetch([1]).codes, np.empty((0, WIDTH)))

    def test_c19_a_write_without_its_code_is_impossible(self, adapter: Adapter) -> None:
        codes = coded(adapter)
        for malformed in MALFORMED_CODES:
            with pytest.raises(InvalidInput, match="code"):
                adapter.upsert([1, 9], rows({1: 5.0}, {1: 6.0}), [{"n": -1}, {}], codes=malformed)
        documents = adapter.fetch([0, 1, 2, 9])
        assert documents.ids == (0, 1, 2)
        assert same(documents.codes, codes)
        assert documents.payloads == ({"n": 0}, {"n": 1}, {"n": 2})

    def test_c19_a_document_without_weights_needs_no_code(self, adapter: Adapter) -> None:
        codes = coded(adapter, 2)
        assert adapter.upsert([1, 5], rows({}, {})).written == (1, 5)
        assert same(ask(adapter, {1: 1.0}, with_codes=True).codes, codes[[0]])
        assert same(adapter.fetch([0, 1, 5]).codes, [codes[0], [0] * WIDTH, [0] * WIDTH])

    def test_c19_no_payload_shows_a_code(self, adapter: Adapter) -> None:
        coded(adapter)
        expected = ({"n": 2}, {"n": 1}, {"n": 0})
        assert ask(adapter, {1: 1.0}, with_payloads=True).payloads == expected
        assert ask(adapter, {1: 1.0}, with_payloads=True, with_codes=True).payloads == expected
        assert adapter.fetch([2, 1, 0]).payloads == expected
        scanned = [p for page in adapter.scan(payloads=True) for p in page.payloads or ()]
        assert sorted(payload["n"] for payload in scanned) == [0, 1, 2]
        assert all(payload.keys() == {"n"} for payload in scanned)

    def test_c19_payload_fields_stay_when_a_code_is_written_again(self, adapter: Adapter) -> None:
        coded(adapter)
        new = codes_of(2, seed=2)
        adapter.upsert([0, 1], rows({1: 7.0}, {1: 8.0}), [{"m": None}, {}], codes=new)
        documents = adapter.fetch([0, 1])
        assert documents.payloads == ({"n": 0, "m": None}, {"n": 1})
        assert same(documents.codes, new)

    def test_c19_codes_come_with_filters_payloads_and_vectors(self, adapter: Adapter) -> None:
        codes = coded(adapter, 9)
        where = {"n": [2, 5, 7]}
        hits = ask(adapter, {1: 1.0}, where=where, with_payloads=True, with_vectors=True, with_codes=True)
        assert hits.ids == (7, 5, 2)
        assert hits.payloads == ({"n": 7}, {"n": 5}, {"n": 2})
        assert same(hits.codes, codes[[7, 5, 2]])
        assert hits.vectors == adapter.stored(rows({1: 8.0}, {1: 6.0}, {1: 3.0}))

    def test_c19_a_query_without_hits_has_no_codes(self, adapter: Adapter) -> None:
        coded(adapter)
        answers = adapter.search(rows({}, {2: 1.0}, {1: 1.0}), 1, with_codes=True, with_vectors=True)
        assert [None if hits.codes is None else hits.codes.shape for hits in answers] == [(0, 5), (0, 5), (1, 5)]
        assert [None if hits.vectors is None else len(hits.vectors) for hits in answers] == [0, 0, 1]

    def test_c19_with_vectors_brings_what_is_stored(self, adapter: Adapter) -> None:
        documents = corpus(40)
        fill(adapter, range(40), documents, [{"n": i} for i in range(40)])
        for hits in adapter.search(corpus(5, seed=3), 10, with_vectors=True):
            assert hits.vectors is not None
            assert hits.vectors == adapter.stored(documents)[np.array(hits.ids, np.int64)]
            assert hits.payloads is None
        assert adapter.search(corpus(1, seed=3), 3)[0].vectors is None

    def test_c19_a_width_that_no_code_has_is_refused(self, adapter: Adapter) -> None:
        for width in (0, -1, True, 2.0, "5", 2**20):
            with pytest.raises(InvalidInput, match="code_bytes"):
                adapter.create(DIMENSION, code_bytes=width)  # type: ignore[arg-type]
        assert not adapter.info().exists

    def test_c19_after_a_drop_codes_may_have_another_width_or_none(self, adapter: Adapter) -> None:
        coded(adapter)
        adapter.drop()
        adapter.create(DIMENSION, code_bytes=WIDTH + 2)
        codes = codes_of(1, width=WIDTH + 2)
        adapter.upsert([1], rows({1: 1.0}), codes=codes)
        assert same(ask(adapter, {1: 1.0}, with_codes=True).codes, codes)
        adapter.drop()
        fill(adapter, [1], rows({1: 1.0}))
        assert (adapter.info().code_bytes, adapter.fetch([1]).codes) == (None, None)

    def test_c19_codes_survive_a_restart(self, adapter: Adapter) -> None:
        codes = coded(adapter)
        again = self.reopen(adapter)
        assert same(ask(again, {1: 1.0}, with_codes=True).codes, codes[::-1])

    # ---- in a collection of others

    def test_c19_codes_beside_documents_of_others_leave_everything_else(self, adapter: Adapter, others: Others) -> None:
        before, n = others.documents(), len(others.ids)
        codes = codes_of(n)
        adapter.create(DIMENSION, code_bytes=WIDTH)
        documents = rows(*({1: float(n - i)} for i in range(n)))
        assert adapter.upsert(others.ids, documents, codes=codes).written == others.ids
        hits = ask(adapter, {1: 1.0}, k=n, with_codes=True, with_payloads=True)
        assert hits.ids == others.ids
        assert same(hits.codes, codes)
        assert same(adapter.fetch(others.ids).codes, codes)
        for page in adapter.scan(codes=True):
            assert same(page.codes, codes[[others.ids.index(id_) for id_ in page.ids]])
        assert kept(before, others.documents()) == before
        assert not any("_sparsevec" in name for payload in hits.payloads or () for name in payload)

    def test_c19_what_others_edit_keeps_its_code(self, adapter: Adapter, others: Others) -> None:
        codes, first = codes_of(1), others.ids[:1]
        adapter.create(DIMENSION, code_bytes=WIDTH)
        adapter.upsert(first, rows({1: 1.0}), codes=codes)
        others.edit(first[0], {"edited": 1})
        assert same(adapter.fetch(first).codes, codes)
        assert same(ask(self.another(adapter), {1: 1.0}, with_codes=True).codes, codes)

    def test_c19_deleting_and_dropping_takes_codes_from_documents_of_others(
        self, adapter: Adapter, others: Others
    ) -> None:
        before, n = others.documents(), len(others.ids)
        adapter.create(DIMENSION, code_bytes=WIDTH)
        adapter.upsert(others.ids, rows(*({1: 1.0} for _ in range(n))), codes=codes_of(n))
        adapter.delete(others.ids[:1])
        assert adapter.fetch(others.ids).ids == others.ids[1:]
        adapter.drop()
        assert kept(before, others.documents()) == before
        adapter.create(DIMENSION, code_bytes=WIDTH + 1)
        codes = codes_of(1, width=WIDTH + 1)
        adapter.upsert(others.ids[:1], rows({1: 1.0}), codes=codes)
        assert same(ask(adapter, {1: 1.0}, with_codes=True).codes, codes)
        assert adapter.count() == 1
