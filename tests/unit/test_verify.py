"""`verify` accepts every honest rounding and finds every lie.

The liars stand in for faults that a healthy engine does not produce."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import sparsevec as sv
from sparsevec.contract.adapter import Adapter, Hits, Info, Written
from sparsevec.contract.checks import Id, Payload, Queries, check_queries
from sparsevec.contract.filters import EngineFilter, Where
from sparsevec.errors import CollectionError, InvalidInput, InvalidVectors, NotExact, WrongSpace
from sparsevec.exact.verify import tolerances
from sparsevec.vectors import Float32s
from tests.strategies import distinct_ids, signed_weights, vectors

DOCUMENTS = sv.SparseVectors.from_dense(
    np.array([[1, 0, 0], [0.9, 0.5, 0], [0.5, 0, 0], [0, 0, 1], [0.1, 0, 0.2], [0, 0, 0]])
)
QUERIES = sv.SparseVectors.from_dense([[1, 0, 0], [0, 2, 0]])


class Search(Protocol):
    def __call__(self, queries: Queries, k: int = 10, *, where: Where | None = None) -> list[Hits]: ...


Lie: TypeAlias = Callable[[Search, Queries, int, Where | None], list[Hits]]


class Liar(sv.Reference):
    """The reference, which answers what `lie` makes of the truth."""

    def __init__(self, lie: Lie) -> None:
        super().__init__()
        self._lie = lie

    def search(
        self, queries: Queries, k: int = 10, *, where: Where | None = None, with_payloads: bool = False, **options: Any
    ) -> list[Hits]:
        return self._lie(partial(super().search, with_payloads=with_payloads, **options), queries, k, where)


def changed(change: Callable[[Hits], Hits]) -> Lie:
    """Every answer that has hits passes through `change`."""
    return lambda search, queries, k, where: [change(h) if len(h) else h for h in search(queries, k, where=where)]


class Float32Engine(sv.Reference):
    """Honest float32: adds in any order, keeps or drops a score of zero, breaks ties as it likes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)

    def search(
        self, queries: Queries, k: int = 10, *, where: Where | None = None, with_payloads: bool = False, **options: Any
    ) -> list[Hits]:
        asked = check_queries(queries, None)
        truth = super().search(asked, max(1, self.count()), where=where, with_payloads=with_payloads, **options)
        return [self._answer(query, hits.ids, k) for query, hits in zip(asked, truth, strict=True)]

    def _answer(self, query: sv.SparseVector, ids: Sequence[Id], k: int) -> Hits:
        documents = self.fetch(ids)
        scores = np.array([self._score(query.to_dict(), row.to_dict()) for row in documents.vectors], np.float32)
        kept = np.flatnonzero((scores != 0) | (self._random.random(len(scores)) < 0.5))
        kept = kept[np.lexsort((self._random.random(len(kept)), -scores[kept]))][:k]
        return Hits(tuple(documents.ids[at] for at in kept), scores[kept])

    def _score(self, query: dict[int, float], document: dict[int, float]) -> np.float32:
        total = np.float32(0)
        for index in self._random.permutation(sorted(query.keys() & document.keys())):
            total += np.float32(query[index]) * np.float32(document[index])
        return total


def filled(adapter: sv.Reference, documents: sv.SparseVectors, ids: Sequence[Id] | None = None) -> sv.Reference:
    adapter.create(documents.dimension)
    adapter.upsert(range(len(documents)) if ids is None else ids, documents)
    return adapter


# ---- honest engines


@given(vectors(dimension=5), vectors(dimension=5, min_rows=1), st.integers(1, 9), st.data())
def test_the_reference_is_exact_whatever_the_ids_and_k(
    documents: sv.SparseVectors, queries: sv.SparseVectors, k: int, data: st.DataObject
) -> None:
    ids = data.draw(distinct_ids(len(documents)))
    report = sv.verify(filled(sv.Reference(), documents, ids), documents, queries, k, ids=ids)
    assert report.exact, str(report)
    assert report.queries == len(queries)


@given(
    vectors(dimension=5, weights=signed_weights, max_rows=12),
    vectors(dimension=5, weights=signed_weights, min_rows=1),
    st.integers(1, 9),
    st.integers(0, 2**32),
)
def test_float32_sums_in_any_order_are_exact_whatever_becomes_of_zeros_and_ties(
    documents: sv.SparseVectors, queries: sv.SparseVectors, k: int, seed: int
) -> None:
    report = sv.verify(filled(Float32Engine(seed), documents), documents, queries, k)
    assert report.exact, str(report)
    assert report.worst <= 1


def test_the_tolerance_is_tight_enough_to_be_nearly_used_up() -> None:
    """Weights of one size, added in float32: the bound is not a hundred times what happens."""
    rng = np.random.default_rng(0)
    documents = sv.SparseVectors.from_dense(rng.random((200, 8), np.float32) + 1)
    report = sv.verify(filled(Float32Engine(0), documents), documents, documents, 10)
    assert 0.1 < report.worst <= 1


def test_the_tolerance_is_the_one_that_is_derived() -> None:
    """Of two shared weights of 1 that are stored as they are: (m + 1) u / (1 - (m + 1) u) A + 2 m 2^-126, m = A = 2."""
    pair, u = sv.SparseVectors.from_dense([[1, 1, 0]]), 2.0**-24
    (found,) = tolerances(pair[0], pair, np.zeros(2), np.array([0]))
    assert found == pytest.approx(2 * 3 * u / (1 - 3 * u) + 4 * 2.0**-126, rel=1e-12)


def test_many_queries_are_asked_in_blocks_and_all_counted() -> None:
    queries = sv.SparseVectors.concat([QUERIES] * 300)
    report = sv.verify(filled(sv.Reference(), DOCUMENTS), DOCUMENTS, queries, 2)
    assert (report.queries, report.hits, report.exact) == (600, 900, True)


class Quarters(sv.Reference):
    """Keeps weights in steps of a quarter."""

    def upsert(
        self,
        ids: Sequence[Id],
        vectors: sv.SparseVectors,
        payloads: Sequence[Payload] | None = None,
        **options: Any,
    ) -> Written:
        return super().upsert(ids, quarters(vectors), payloads, **options)


class FrankQuarters(Quarters):
    """And says so."""

    def stored(self, vectors: sv.SparseVectors) -> sv.SparseVectors:
        return quarters(vectors)


def quarters(vectors: sv.SparseVectors) -> sv.SparseVectors:
    return sv.SparseVectors.from_dense(np.floor(vectors.to_dense() * 4) / 4)


def test_a_backend_that_rounds_as_it_says_is_exact() -> None:
    assert sv.verify(filled(FrankQuarters(), DOCUMENTS), DOCUMENTS, QUERIES).exact


def test_a_backend_that_rounds_in_secret_is_not() -> None:
    report = sv.verify(filled(Quarters(), DOCUMENTS), DOCUMENTS, QUERIES)
    assert "hit 2 (id 1) has score 0.75, exact arithmetic says 0.899999976" in str(report)


def test_slack_widens_the_tolerance_by_what_the_backend_states_and_no_more() -> None:
    class Loose(Liar):
        def slack(self, vectors: sv.SparseVectors) -> Float32s:
            return np.full(vectors.nnz, 0.01, np.float32)

    within = Loose(changed(lambda hits: replace(hits, scores=hits.scores + np.float32(0.009))))
    beyond = Loose(changed(lambda hits: replace(hits, scores=hits.scores + np.float32(0.03))))
    assert sv.verify(filled(within, DOCUMENTS), DOCUMENTS, QUERIES).exact
    assert not sv.verify(filled(beyond, DOCUMENTS), DOCUMENTS, QUERIES).exact


# ---- lies


def swap_first_two(hits: Hits) -> Hits:
    order = [1, 0, *range(2, len(hits))][: len(hits)]
    return Hits(tuple(hits.ids[at] for at in order), hits.scores[order])


LIES: dict[str, tuple[Callable[[Hits], Hits], str]] = {
    "an unknown id": (
        lambda hits: replace(hits, ids=(77, *hits.ids[1:])),
        "hit 1 (id 77) is not among the documents verified against",
    ),
    "an id of another type": (
        lambda hits: replace(hits, ids=(str(hits.ids[0]), *hits.ids[1:])),
        "hit 1 (id '0') is not among the documents verified against",
    ),
    "an id twice": (
        lambda hits: Hits((*hits.ids[:1], *hits.ids[:1]), hits.scores[[0, 0]]),
        "hit 2 (id 0) stands in the answer already",
    ),
    "a document that shares nothing": (
        lambda hits: Hits((*hits.ids, 3), np.append(hits.scores, np.float32(0))),
        "(id 3) shares no dimension with the query",
    ),
    "an empty document": (
        lambda hits: Hits((*hits.ids, 5), np.append(hits.scores, np.float32(0))),
        "(id 5) shares no dimension with the query",
    ),
    "a score a little too high": (
        lambda hits: replace(hits, scores=hits.scores * np.float32(1.000001)),
        "hit 1 (id 0) has score 1.00000095, exact arithmetic says 1",
    ),
    "a score that is not a number": (
        lambda hits: replace(hits, scores=np.full(len(hits), np.nan, np.float32)),
        "hit 1 (id 0) has score nan",
    ),
    "a score that overflowed": (
        lambda hits: replace(hits, scores=np.full(len(hits), np.inf, np.float32)),
        "hit 1 (id 0) has score inf",
    ),
    "scores of other hits": (
        lambda hits: replace(hits, ids=hits.ids[::-1]),
        "exact arithmetic says",
    ),
    "worst first": (swap_first_two, "hit 2 (id 0) scores 1, more than the hit before it: not best first"),
    "the best left out": (
        lambda hits: Hits(hits.ids[1:], hits.scores[1:]),
        "id 0 was left out: it scores 1, and there was room for it",
    ),
    "nothing": (lambda hits: Hits((), hits.scores[:0]), "id 0 was left out"),
    "fewer scores than ids": (lambda hits: replace(hits, scores=hits.scores[:-1]), "4 ids with 3 scores"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found_and_named(lie: str) -> None:
    change, words = LIES[lie]
    report = sv.verify(filled(Liar(changed(change)), DOCUMENTS), DOCUMENTS, QUERIES[:1], 10)
    assert [offence.query for offence in report.offences] == [0]
    assert words in str(report)


def test_more_hits_than_asked_for_is_an_offence() -> None:
    report = sv.verify(
        filled(Liar(lambda search, queries, k, where: search(queries, k + 1, where=where)), DOCUMENTS),
        DOCUMENTS,
        QUERIES[:1],
        2,
    )
    assert "3 hits, at most 2 were asked for" in str(report)


def test_a_better_document_left_out_of_a_full_answer_is_an_offence() -> None:
    def forget(search: Search, queries: Queries, k: int, where: Where | None) -> list[Hits]:
        return [Hits(hits.ids[1:], hits.scores[1:]) for hits in search(queries, k + 1, where=where)]

    report = sv.verify(filled(Liar(forget), DOCUMENTS), DOCUMENTS, QUERIES[:1], 2)
    assert "id 0 was left out: it scores 1, and a hit scores 0.5" in str(report)


def test_an_answer_for_each_query_is_due() -> None:
    report = sv.verify(
        filled(Liar(lambda search, queries, k, where: search(queries, k, where=where)[:-1]), DOCUMENTS),
        DOCUMENTS,
        QUERIES,
    )
    assert "1 answers to 2 queries" in str(report)


def test_answers_to_other_queries_are_an_offence() -> None:
    report = sv.verify(
        filled(Liar(lambda search, queries, k, where: search(queries, k, where=where)[::-1]), DOCUMENTS),
        DOCUMENTS,
        QUERIES,
    )
    assert [offence.query for offence in report.offences] == [0, 1]


@given(vectors(dimension=4, min_rows=1, weights=st.floats(2**-100, 1e6, width=32)), st.data())
def test_any_lost_document_is_missed(documents: sv.SparseVectors, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, len(documents) - 1))
    assume(documents.row_nnz[lost])
    adapter = filled(sv.Reference(), documents)
    adapter.delete([lost])
    query = sv.SparseVectors.from_rows([{int(documents[lost].indices[0]): 1.0}], dimension=4)
    report = sv.verify(adapter, documents, query, len(documents))
    assert [offence.id for offence in report.offences] == [lost]


@given(vectors(dimension=4, min_rows=1, weights=st.sampled_from([0.5, 1.0, 2.0])), st.data())
def test_any_changed_weight_is_noticed(documents: sv.SparseVectors, data: st.DataObject) -> None:
    changed = data.draw(st.integers(0, len(documents) - 1))
    assume(documents.row_nnz[changed])
    adapter = filled(sv.Reference(), documents)
    row = documents[changed].to_dict()
    index = next(iter(row))
    row[index] = float(np.nextafter(np.float32(row[index]), np.float32(9)) * np.float32(1.000001))
    adapter.upsert([changed], sv.SparseVectors.from_rows([row], dimension=4))
    query = sv.SparseVectors.from_rows([{index: 1.0}], dimension=4)
    report = sv.verify(adapter, documents, query, len(documents))
    assert [offence.id for offence in report.offences] == [changed]


def test_a_document_that_only_the_backend_holds_is_an_offence() -> None:
    adapter = filled(sv.Reference(), DOCUMENTS)
    adapter.upsert([99], DOCUMENTS[:1])
    assert "(id 99) is not among the documents verified against" in str(sv.verify(adapter, DOCUMENTS, QUERIES))


# ---- filters


PAYLOADS = [{"colour": colour} for colour in ("red", "blue", "red", "blue", "red", "blue")]


def coloured(adapter: sv.Reference) -> Adapter:
    adapter.create(3)
    adapter.upsert(range(6), DOCUMENTS, PAYLOADS)
    return adapter


def test_a_filter_is_verified_with_the_payloads() -> None:
    adapter = coloured(sv.Reference())
    report = sv.verify(adapter, DOCUMENTS, QUERIES, where={"colour": "red"}, payloads=PAYLOADS)
    assert (report.exact, report.hits) == (True, 3)


def test_a_hit_that_the_filter_forbids_is_an_offence() -> None:
    report = sv.verify(
        coloured(Liar(lambda search, queries, k, _: search(queries, k))),
        DOCUMENTS,
        QUERIES,
        where={"colour": "red"},
        payloads=PAYLOADS,
    )
    assert "(id 1) does not match the filter" in str(report)


def test_a_filter_without_payloads_cannot_be_verified() -> None:
    with pytest.raises(InvalidInput, match="payloads of the documents are expected"):
        sv.verify(coloured(sv.Reference()), DOCUMENTS, QUERIES, where={"colour": "red"})


# ---- the report


def test_require_exact_raises_with_the_report_when_an_answer_is_wrong() -> None:
    adapter = filled(sv.Reference(), DOCUMENTS)
    adapter.delete([0])
    report = sv.verify(adapter, DOCUMENTS, QUERIES)
    with pytest.raises(NotExact, match="id 0 was left out") as caught:
        report.require_exact()
    assert caught.value.report is report


def test_require_exact_hands_an_exact_report_back() -> None:
    report = sv.verify(filled(sv.Reference(), DOCUMENTS), DOCUMENTS, QUERIES)
    assert report.require_exact() is report
    assert "all 5 hits exact" in str(report)


def test_a_report_survives_json() -> None:
    adapter = filled(Liar(changed(lambda hits: replace(hits, scores=hits.scores * np.float32("inf")))), DOCUMENTS)
    report = sv.verify(adapter, DOCUMENTS, QUERIES)
    again = sv.VerifyReport.model_validate_json(report.model_dump_json())
    assert again == report
    assert '"exact":false' in report.model_dump_json()


def test_a_long_list_of_offences_is_cut_in_print_but_not_in_the_report() -> None:
    adapter = filled(sv.Reference(), DOCUMENTS)
    adapter.delete([0])
    report = sv.verify(adapter, DOCUMENTS, sv.SparseVectors.concat([QUERIES[:1]] * 8))
    assert len(report.offences) == 8
    assert "and 3 more" in str(report)


def test_the_report_says_whose_vectors_they_are() -> None:
    foreign = sv.verify(filled(sv.Reference(), DOCUMENTS), DOCUMENTS, QUERIES)
    named = DOCUMENTS.with_fingerprint("0123abcd")
    ours = sv.verify(filled(sv.Reference(), named), named, QUERIES.with_fingerprint("0123abcd"))
    assert (foreign.fingerprint, ours.fingerprint) == (None, "0123abcd")
    assert "of 6 documents, foreign vectors: all 5 hits exact" in str(foreign)
    assert "of 6 documents, vectors of the space 0123abcd: all 5 hits exact" in str(ours)


# ---- what others made


class Theirs(sv.Reference):
    """A collection that others made, on an engine whose ids are strings."""

    def info(self) -> Info:
        return replace(super().info(), ours=False)

    def search(
        self, queries: Queries, k: int = 10, *, where: Where | None = None, with_payloads: bool = False, **options: Any
    ) -> list[Hits]:
        answers = super().search(queries, k, where=where, with_payloads=with_payloads, **options)
        return [replace(hits, ids=tuple(map(str, hits.ids))) for hits in answers]


def test_ids_that_come_back_in_the_spelling_of_others_are_known_again() -> None:
    assert sv.verify(filled(Theirs(), DOCUMENTS), DOCUMENTS, QUERIES).exact
    assert not sv.verify(filled(Liar(changed(spelled)), DOCUMENTS), DOCUMENTS, QUERIES).exact


def spelled(hits: Hits) -> Hits:
    return replace(hits, ids=tuple(map(str, hits.ids)))


# ---- bad input


def test_vectors_of_another_space_are_refused_with_both_names() -> None:
    adapter = filled(sv.Reference(), DOCUMENTS.with_fingerprint("space-a"))
    for documents, queries in [
        (DOCUMENTS.with_fingerprint("space-b"), QUERIES),
        (DOCUMENTS, QUERIES.with_fingerprint("space-b")),
    ]:
        with pytest.raises(WrongSpace, match=r"space-a.*space-b"):
            sv.verify(adapter, documents, queries)
    with pytest.raises(WrongSpace, match="documents are of the space space-a, the queries of space-b"):
        sv.verify(
            filled(sv.Reference(), DOCUMENTS),
            DOCUMENTS.with_fingerprint("space-a"),
            QUERIES.with_fingerprint("space-b"),
        )


def test_a_filter_of_an_engines_own_cannot_be_verified() -> None:
    with pytest.raises(InvalidInput, match="only qdrant knows"):
        sv.verify(coloured(sv.Reference()), DOCUMENTS, QUERIES, where=EngineFilter("qdrant", {}), payloads=PAYLOADS)


def test_one_row_or_a_scipy_matrix_is_a_query() -> None:
    adapter = filled(sv.Reference(), DOCUMENTS)
    assert sv.verify(adapter, DOCUMENTS, QUERIES[0]).queries == 1
    assert sv.verify(adapter, DOCUMENTS, QUERIES.to_scipy()).queries == 2


@pytest.mark.parametrize("dense", [np.ones((6, 3)), [[1.0, 0, 0]], None])
def test_dense_rows_are_refused_with_what_makes_them_sparse(dense: Any) -> None:
    with pytest.raises(InvalidVectors, match=r"expected documents as SparseVectors, found .*from_scipy"):
        sv.verify(filled(sv.Reference(), DOCUMENTS), dense, QUERIES)
    with pytest.raises(InvalidInput, match="expected queries as SparseVectors"):
        sv.verify(filled(sv.Reference(), DOCUMENTS), DOCUMENTS, dense)


@pytest.mark.parametrize("k", [0, -1, True, 1.5])
def test_a_k_that_is_no_count_is_refused(k: int) -> None:
    with pytest.raises(InvalidInput, match="k must be an int"):
        sv.verify(filled(sv.Reference(), DOCUMENTS), DOCUMENTS, QUERIES, k)


def test_documents_of_another_dimension_are_refused() -> None:
    with pytest.raises(InvalidVectors, match="the collection has dimension 3, the vectors have 1"):
        sv.verify(filled(sv.Reference(), DOCUMENTS), sv.SparseVectors.from_dense([[1]]), QUERIES)


def test_queries_of_another_dimension_are_refused() -> None:
    with pytest.raises(InvalidVectors, match="the vectors have 1"):
        sv.verify(filled(sv.Reference(), DOCUMENTS), DOCUMENTS, sv.SparseVectors.from_dense([[1]]))


@pytest.mark.parametrize(("ids", "words"), [([1, 2], "as many ids"), ([0, 1, 2, 3, 4, 4], "stands twice")])
def test_ids_that_do_not_fit_are_refused(ids: list[int], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        sv.verify(filled(sv.Reference(), DOCUMENTS), DOCUMENTS, QUERIES, ids=ids)


def test_a_collection_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(CollectionError, match="holds no collection yet"):
        sv.verify(sv.Reference(), DOCUMENTS, QUERIES)
