"""From dense queries to final answers: the second look, the retriever, and what both refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparsevec as sv
from sparsevec.answers.retriever import AsyncRetriever, Retriever
from sparsevec.answers.scoring import SecondLook, usual_candidates
from sparsevec.contract.adapter import DenseField, Documents, Hits, Info
from sparsevec.contract.connect import aconnect
from sparsevec.contract.deadlines import remaining
from sparsevec.contract.operations import InThreads
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.config import ResidualConfig
from sparsevec.encoder.model import Model
from sparsevec.errors import BackendDown, InvalidInput, InvalidVectors, NotExact, WrongSpace
from sparsevec.exact.reference import Reference
from sparsevec.vectors import MAX_DIMENSION, Float32s, SparseVectors
from tests.training.conftest import INPUT, NNZ, OUTPUT, clustered, unit


@pytest.fixture
def retriever(encoder: SparseEncoder, documents: Float32s) -> Iterator[Retriever]:
    with Retriever(encoder, Reference()) as retriever:
        retriever.add(range(len(documents)), documents, [{"even": row % 2 == 0} for row in range(len(documents))])
        yield retriever


def overlap(answers: list[Hits], documents: Float32s, queries: Float32s) -> float:
    """Of the answers with the dense top 10."""
    truth = np.argsort(-(unit(queries) @ unit(documents).T), axis=1)[:, :10]
    return float(np.mean([np.isin(due, hits.ids).mean() for hits, due in zip(answers, truth, strict=True)]))


def test_a_second_look_finds_more_of_the_dense_top_10(
    retriever: Retriever, encoder: SparseEncoder, documents: Float32s, unseen_queries: Float32s
) -> None:
    asked = unseen_queries[:300]
    first = Retriever(encoder, retriever._adapter, rerank=None).search(asked)
    gain = overlap(retriever.search(asked), documents, asked) - overlap(first, documents, asked)
    assert gain > 0.05
    figures = encoder.figures
    assert figures.second_look_recall_10 is not None
    assert figures.second_look_recall_10 > figures.recall_10


def test_a_second_score_is_the_product_of_the_second_query_with_the_stored_vector(
    retriever: Retriever, encoder: SparseEncoder, unseen_queries: Float32s
) -> None:
    (hits,) = retriever.search(unseen_queries[0], k=3)
    look = encoder.encode_second_look(unseen_queries[0]).to_dense()[0].astype(np.float64)
    held = retriever._adapter.fetch(hits.ids).vectors.to_dense().astype(np.float64)
    assert hits.scores.tolist() == pytest.approx((held @ look).tolist(), rel=1e-6)
    why = retriever.explain(unseen_queries[0], hits.ids[0])
    assert why.score == pytest.approx(float(hits.scores[0]), rel=1e-6)


def test_second_looks_have_the_same_bits_in_any_batch_and_after_loading(
    encoder: SparseEncoder, unseen_queries: Float32s, tmp_path: Path
) -> None:
    looks = encoder.encode_second_look(unseen_queries[:600])
    assert encoder.encode_second_look(unseen_queries[599]) == looks[599:]
    encoder.save(tmp_path / "model")
    assert SparseEncoder.load(tmp_path / "model").encode_second_look(unseen_queries[:600]) == looks


@pytest.mark.parametrize("scale", [1e300, 1e-310, 1e-30])
def test_a_query_of_any_length_has_the_answers_of_its_direction(
    retriever: Retriever, unseen_queries: Float32s, scale: float
) -> None:
    asked = unseen_queries[:3].astype(np.float64)
    due = [hits.ids for hits in retriever.search(asked)]
    assert [hits.ids for hits in retriever.search(asked * scale)] == due


def test_a_filter_holds_for_the_answers(retriever: Retriever, unseen_queries: Float32s) -> None:
    answers = retriever.search(unseen_queries[:20], where={"even": True}, with_payloads=True)
    assert all(payload == {"even": True} for hits in answers for payload in hits.payloads or ())
    assert all(len(hits) == 10 for hits in answers)


def test_a_callable_re_ranks_by_its_own_scores(encoder: SparseEncoder, retriever: Retriever) -> None:
    def by_id(query: Float32s, documents: Documents) -> list[float]:
        assert query.shape == (INPUT,)
        return [float(id_) for id_ in documents.ids]

    (hits,) = Retriever(encoder, retriever._adapter, rerank=by_id).search(clustered(1, seed=9))
    assert list(hits.ids) == sorted(hits.ids, reverse=True)


@pytest.mark.parametrize(
    "scores",
    [
        lambda *_: [1.0],
        lambda *_: None,
        lambda *given: np.full(len(given[1].ids), np.nan),
        lambda *_: ["best"],
        lambda *given: [10**400] * len(given[1].ids),
        lambda *given: np.full(len(given[1].ids), "NaT", "datetime64[s]"),
    ],
)
def test_a_re_ranker_that_returns_something_else_is_refused(
    encoder: SparseEncoder, retriever: Retriever, scores: Any
) -> None:
    with pytest.raises(InvalidInput, match="finite scores, one for each candidate"):
        Retriever(encoder, retriever._adapter, rerank=scores).search(clustered(1, seed=9))


def test_what_cannot_work_is_refused_before_the_search(encoder: SparseEncoder, retriever: Retriever) -> None:
    with pytest.raises(InvalidInput, match="raise candidates="):
        retriever.search(clustered(1, seed=9), k=101)
    with pytest.raises(InvalidInput, match="deadline must be a positive number"):
        retriever.search(clustered(1, seed=9), deadline="soon")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="examples must be a number of documents from 0 on, found -1"):
        retriever.explain(clustered(1, seed=9), 1, examples=-1)
    with pytest.raises(InvalidInput, match="found 2; explain them in turn"):
        retriever.explain(clustered(2, seed=9), 1)
    with pytest.raises(InvalidInput, match="found 0; explain them in turn"):
        retriever.explain(np.zeros((0, INPUT), np.float32), 1)
    with pytest.raises(InvalidInput, match="candidates must be an int of at least 1"):
        Retriever(encoder, Reference(), candidates=0)
    with pytest.raises(InvalidInput, match="second look"):
        Retriever(encoder, Reference(), rerank="auto")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="expected a SparseEncoder"):
        Retriever("model/", Reference())  # type: ignore[arg-type]


def test_several_queries_are_not_fused_into_one(retriever: Retriever) -> None:
    with pytest.raises(InvalidInput, match="found 2; fuse them in turn"):
        retriever.fuse(clustered(2, seed=9), text={"text": "red"})


def test_queries_are_searched_by_their_largest_weights(retriever: Retriever, encoder: SparseEncoder) -> None:
    asked = clustered(4, seed=9)
    short = Retriever(encoder, retriever._adapter, rerank=None, query_nnz=3)
    assert short.search(asked) == retriever._adapter.search(encoder.encode_query(asked, 3))
    assert [len(one.contributions) <= 3 for one in (short.explain(row, 0) for row in asked)] == [True] * 4
    for wrong in (0, OUTPUT + 1, True, 2.5):
        with pytest.raises(InvalidInput, match="query_nnz must be a number of weights from 1"):
            Retriever(encoder, Reference(), query_nnz=wrong)  # type: ignore[arg-type]


def test_a_query_that_was_searched_by_some_weights_is_looked_at_whole(retriever: Retriever) -> None:
    asked = clustered(1, seed=9)[0]
    (hits,) = Retriever(retriever.encoder, retriever._adapter, query_nnz=3).search(asked)
    for hit in hits:
        assert retriever.explain(asked, hit.id).score == pytest.approx(hit.score, rel=1e-6)


def test_every_dimension_that_explains_a_score_comes_with_examples(retriever: Retriever) -> None:
    asked = clustered(1, seed=9)[0]
    (hits,) = retriever.search(asked)
    why = retriever.explain(asked, hits.ids[0], examples=2)
    assert [len(one.examples) for one in why] == [2] * len(why)


def test_an_own_re_ranker_orders_by_more_digits_than_scores_are_given_in(retriever: Retriever) -> None:
    def newest(query: Float32s, documents: Documents) -> list[float]:
        assert len(query) == INPUT
        return [1.7e9 + float(id_) for id_ in documents.ids]

    (hits,) = Retriever(retriever.encoder, retriever._adapter, rerank=newest).search(clustered(1, seed=9))
    assert list(hits.ids) == sorted(hits.ids, reverse=True)


def test_a_threshold_cuts_the_scores_of_an_own_re_ranker_where_they_are_ordered(retriever: Retriever) -> None:
    def newest(_query: Float32s, documents: Documents) -> list[float]:
        return [1.7e9 + float(id_) for id_ in documents.ids]

    own, asked = Retriever(retriever.encoder, retriever._adapter, rerank=newest), clustered(1, seed=9)
    (whole,) = own.search(asked, 30)
    (cut,) = own.search(asked, 30, score_threshold=1.7e9 + float(whole.ids[12]))
    assert cut.ids == whole.ids[:12]


@pytest.mark.parametrize("rerank", ["second look", None])
def test_a_threshold_may_be_beyond_what_scores_can_be(retriever: Retriever, rerank: Any) -> None:
    asked, some = clustered(1, seed=9), Retriever(retriever.encoder, retriever._adapter, rerank=rerank)
    assert [len(some.search(asked, score_threshold=least)[0]) for least in (1e300, 10**400, -(10**400))] == [0, 0, 10]
    assert some.search(asked, deadline=10**400) == some.search(asked)


def test_whole_numbers_of_numpy_are_whole_numbers(retriever: Retriever, encoder: SparseEncoder) -> None:
    asked, three = clustered(2, seed=9), np.int64(3)
    assert encoder.encode_query(asked, three) == encoder.encode_query(asked, 3)  # type: ignore[arg-type]
    numpys, plain = (
        Retriever(encoder, retriever._adapter, query_nnz=n, candidates=n)  # type: ignore[arg-type]
        for n in (three, 3)
    )
    for where in (None, {"even": True}):
        assert numpys.search(asked, three, where=where) == plain.search(asked, 3, where=where)  # type: ignore[arg-type]
    assert type(numpys._ranking._behind_filter) is int


def test_an_own_re_ranker_is_not_asked_about_nothing(retriever: Retriever) -> None:
    own = Retriever(retriever.encoder, retriever._adapter, rerank=lambda *_: 1 / 0)  # type: ignore[arg-type]
    (hits,) = own.search(clustered(1, seed=9), where={"even": "neither"}, with_payloads=True)
    assert (hits.ids, hits.payloads) == ((), ())


def test_an_own_re_ranker_may_write_into_its_query(encoder: SparseEncoder, retriever: Retriever) -> None:
    def scaling(query: Float32s, documents: Documents) -> list[float]:
        query /= 2
        return [float(id_) for id_ in documents.ids]

    asked = clustered(2, seed=9)
    given = asked.copy()
    Retriever(encoder, retriever._adapter, rerank=scaling).search(asked)
    assert np.array_equal(asked, given)


def test_a_coroutine_is_no_re_ranker(encoder: SparseEncoder) -> None:
    async def scores(_query: Float32s, _documents: Documents) -> list[float]:
        return []

    with pytest.raises(InvalidInput, match="expected a plain one"):
        Retriever(encoder, Reference(), rerank=scores)  # type: ignore[arg-type]


@pytest.mark.parametrize("near", ["cosine", "dot", "l2"])
def test_dense_rows_are_compared_by_the_similarity_that_the_encoder_was_fitted_to(near: Any) -> None:
    rng = np.random.default_rng(0)
    rows = clustered(60, seed=1) * rng.uniform(0.5, 2.0, (60, 1)).astype(np.float32)
    asked = rows[:5] + 0.1 * rng.standard_normal((5, INPUT)).astype(np.float32)
    encoder = SparseEncoder(INPUT, OUTPUT, similarity=near).fit(rows, budget=Budget(nnz=NNZ))
    with Reference() as adapter:
        retriever = Retriever(encoder, adapter, rerank="dense", dense_field="row")
        retriever.add(range(60), rows, [{"row": row.tolist()} for row in rows])
        found = retriever.search(asked, k=10, where={"row": {"exists": True}})
    distances = np.square(asked[:, None] - rows[None]).sum(axis=2)
    due = {"cosine": unit(asked) @ unit(rows).T, "dot": asked @ rows.T, "l2": -distances}[near]
    assert [hits.ids for hits in found] == [tuple(row[:10]) for row in np.argsort(-due, axis=1).tolist()]
    for hits, scores in zip(found, due, strict=True):
        assert hits.scores == pytest.approx(scores[list(hits.ids)], rel=1e-4, abs=1e-5)


def test_documents_without_a_dense_row_are_no_answers_nor_are_those_that_a_filter_leaves(
    encoder: SparseEncoder, documents: Float32s
) -> None:
    payloads: list[dict[str, Any]] = [{"n": n, **({"row": documents[n].tolist()} if n < 50 else {})} for n in range(60)]
    with Reference() as adapter:
        retriever = Retriever(encoder, adapter, rerank="dense", dense_field="row")
        retriever.add(range(60), documents[:60], payloads)
        (few,) = retriever.search(documents[0], k=60)
        (none,) = retriever.search(documents[0], where={"n": {"gte": 50}})
        (nobody,) = retriever.search(documents[0], where={"n": {"gte": 60}})
    assert max(int(id_) for id_ in few.ids) < 50
    assert len(none) == len(nobody) == 0


@pytest.mark.parametrize("where", [None, {"even": True}, {"tenth": True}])
def test_a_field_that_holds_other_things_than_dense_rows_is_refused_behind_a_filter_too(
    encoder: SparseEncoder, documents: Float32s, where: Any
) -> None:
    payloads = [{"title": "x", "even": n % 2 == 0, "tenth": n % 10 == 0} for n in range(200)]
    with Reference() as adapter:
        Retriever(encoder, adapter).add(range(200), documents[:200], payloads)
        with pytest.raises(InvalidInput, match="candidates holds a dense row in 'title'"):
            Retriever(encoder, adapter, rerank="dense", dense_field="title", candidates=20).search(
                documents[:1], where=where
            )


class Indexed(Reference):
    """Declares a field of dense rows, and finds none in it."""

    def info(self) -> Info:
        return replace(super().info(), dense={"row": DenseField(INPUT, "cosine")})

    def nearest(self, rows: Float32s, *_given: Any, **_named: Any) -> list[Hits]:
        return [Hits((), np.empty(0, np.float32))] * len(rows)


def test_a_server_that_finds_no_dense_row_among_candidates_is_told_of_as_any(
    encoder: SparseEncoder, documents: Float32s
) -> None:
    with Retriever(encoder, Indexed(), rerank="dense", dense_field="row") as retriever:
        retriever.add(range(60), documents[:60])
        with pytest.raises(InvalidInput, match=r"none of \d+ candidates holds a dense row in 'row'"):
            retriever.search(documents[:1])


def test_the_second_look_is_not_the_default_where_the_card_says_that_it_finds_less(encoder: SparseEncoder) -> None:
    worse = SparseEncoder(INPUT, OUTPUT)
    config = encoder.config
    figures = config.figures.model_copy(update={"second_look_recall_10": config.figures.recall_10 - 0.01})
    worse._model = Model(config.model_copy(update={"figures": figures}), encoder._fitted().tensors)
    assert "rerank='second look'" in repr(Retriever(encoder, Reference()))
    assert "rerank=None" in repr(Retriever(worse, Reference()))


class Noting(Reference):
    """Remembers how many hits it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.depths: list[int] = []

    def search(self, queries: Any, k: int = 10, **named: Any) -> list[Hits]:
        self.depths.append(k)
        return super().search(queries, k, **named)


@pytest.mark.parametrize(("rerank", "expected"), [("dense", [100, 150, 40, 40]), ("second look", [100, 100, 40, 40])])
def test_behind_a_filter_dense_rows_order_half_as_many_candidates_again_unless_the_caller_says_how_many(
    encoder: SparseEncoder, documents: Float32s, rerank: Any, expected: list[int]
) -> None:
    field = "row" if rerank == "dense" else None
    with Noting() as adapter:
        payloads = [{"even": n % 2 == 0, "row": row.tolist()} for n, row in enumerate(documents)]
        Retriever(encoder, adapter).add(range(len(documents)), documents, payloads)
        for candidates in (None, 40):
            retriever = Retriever(encoder, adapter, rerank=rerank, dense_field=field, candidates=candidates)
            retriever.search(documents[0])
            retriever.search(documents[0], where={"even": True})
        assert adapter.depths == expected


def test_residual_codes_of_200_bytes_order_300_candidates_and_450_behind_a_filter(encoder: SparseEncoder) -> None:
    coded = SparseEncoder(INPUT, OUTPUT)
    for width, expected in ((199, (100, 150)), (200, (300, 450))):
        residual = ResidualConfig(bytes=width, groups=(), name="")
        coded._model = Model(encoder.config.model_copy(update={"residual": residual}), encoder._fitted().tensors)
        assert usual_candidates("residual", coded) == expected
        assert usual_candidates("second look", coded) == (100, 100)


@pytest.mark.usefixtures("brief")
def test_an_encoder_of_another_space_is_refused(retriever: Retriever, documents: Float32s) -> None:
    other = SparseEncoder(INPUT, OUTPUT, seed=5).fit(documents, budget=Budget(nnz=NNZ))
    strange = Retriever(other, retriever._adapter)
    retriever.add([9000], documents[:1], [{"one": True}])
    for where in (None, {"one": True}):  # searched, and answered from all that the filter leaves
        with pytest.raises(WrongSpace, match=other.fingerprint):
            strange.search(documents[:1], where=where)
    with pytest.raises(WrongSpace, match=other.fingerprint):
        strange.explain(documents[0], 7)


@pytest.mark.parametrize("dimension", [OUTPUT // 4, 2 * OUTPUT])
@pytest.mark.parametrize("rerank", ["second look", None, lambda _query, documents: [1.0] * len(documents.ids)])
def test_a_collection_of_another_dimension_is_refused_however_it_is_read(
    encoder: SparseEncoder, dimension: int, rerank: Any
) -> None:
    with Reference() as adapter:
        adapter.create(dimension)
        held = SparseVectors.from_rows([{dimension - 1: 1.0}] * 40, dimension=dimension)
        adapter.upsert(list(range(40)), held, [{"few": n < 4, "n": n} for n in range(40)])
        retriever = Retriever(encoder, adapter, rerank=rerank, candidates=10)
        for where in (None, {"n": {"gte": 0}}, {"few": True}, {"few": "none"}):
            with pytest.raises(InvalidVectors, match=f"has dimension {dimension}, the vectors have {OUTPUT}"):
                retriever.search(clustered(1, seed=9), 5, where=where)
        with pytest.raises(InvalidVectors, match=f"has dimension {dimension}, the vectors have {OUTPUT}"):
            retriever.explain(clustered(1, seed=9), 3)


def test_weights_beyond_the_encoder_in_a_collection_that_does_not_say_its_dimension_are_refused(
    encoder: SparseEncoder,
) -> None:
    look, asked = SecondLook(encoder), clustered(1, seed=9)
    held = SparseVectors.from_rows([{OUTPUT: 1.0}], dimension=MAX_DIMENSION)
    with pytest.raises(InvalidVectors, match=f"a weight at index {OUTPUT}, expected vectors of dimension {OUTPUT}"):
        look.scores(look.prepare(asked, None), 0, Documents((1,), held, ({},)))


def test_a_deleted_document_is_no_answer(retriever: Retriever, documents: Float32s) -> None:
    retriever.delete([7])
    (hits,) = retriever.search(documents[7])
    assert 7 not in hits.ids
    with pytest.raises(InvalidInput, match="7"):
        retriever.explain(documents[7], 7)


def test_answers_are_the_same_with_asyncio(
    encoder: SparseEncoder, documents: Float32s, unseen_queries: Float32s, tmp_path: Path
) -> None:
    with Retriever(encoder, sv.connect(f"reference:{tmp_path}/r")) as retriever:
        retriever.add(range(len(documents)), documents)
        expected = retriever.search(unseen_queries[:5])

    async def search() -> list[Hits]:
        async with AsyncRetriever(encoder, await aconnect(f"reference:{tmp_path}/r")) as retriever:
            report = await retriever.verify(documents, unseen_queries[:2])
            report.require_exact()
            assert report.answers == 20
            with pytest.raises(InvalidInput, match="await its own verify"):
                sv.verify(retriever, documents, unseen_queries[:2])  # type: ignore[call-overload]
            return await retriever.search(unseen_queries[:5])

    assert asyncio.run(search()) == expected


# ---- what verify sees, and what a deadline reaches


class Shuffled(Reference):
    """Brings with each hit the vector of another."""

    def search(self, *given: Any, **named: Any) -> list[Hits]:
        found = super().search(*given, **named)
        return [
            hits if hits.vectors is None else replace(hits, vectors=hits.vectors[np.arange(len(hits))[::-1]])
            for hits in found
        ]


class Forgetful(Reference):
    """Leaves the best document out of every answer."""

    def search(self, queries: Any, k: int = 10, **named: Any) -> list[Hits]:
        return [hits[1:] for hits in super().search(queries, k + 1, **named)]


@pytest.mark.parametrize(
    ("kind", "said"), [(Shuffled, "exact re-ranking of its candidates has"), (Forgetful, "was left out")]
)
def test_verify_finds_wrong_answers_and_wrong_candidates(
    encoder: SparseEncoder, documents: Float32s, unseen_queries: Float32s, kind: type[Reference], said: str
) -> None:
    with Retriever(encoder, kind()) as retriever:
        retriever.add(range(300), documents[:300])
        report = sv.verify(retriever, documents[:300], unseen_queries[:4])
        with pytest.raises(NotExact, match=said):
            report.require_exact()


def test_refined_documents_are_written_and_verified_as_they_are(
    documents: Float32s, encoder: SparseEncoder, unseen_queries: Float32s
) -> None:
    refined = encoder.encode_document(documents[:200], nnz=4)
    with Retriever(encoder, Reference()) as retriever:
        retriever.add(range(200), documents[:200], vectors=refined)
        sv.verify(retriever, documents[:200], unseen_queries[:3], vectors=refined).require_exact()
        with pytest.raises(InvalidVectors, match="200 vectors for 7 dense rows"):
            retriever.add(range(7), documents[:7], vectors=refined)


@pytest.mark.usefixtures("brief")
def test_vectors_of_another_encoder_are_refused_before_a_collection_is_made(
    documents: Float32s, encoder: SparseEncoder
) -> None:
    other = SparseEncoder(INPUT, OUTPUT, seed=5).fit(documents, budget=Budget(nnz=NNZ))
    strange, ours = other.encode_document(documents[:9]), encoder.encode_document(documents[:9])
    wide = SparseVectors.from_rows([{0: 1.0}] * 9, dimension=2 * OUTPUT)
    with Retriever(encoder, Reference()) as retriever:
        with pytest.raises(WrongSpace, match=f"{other.fingerprint}, expected {encoder.fingerprint}"):
            retriever.add(range(9), documents[:9], vectors=strange)
        with pytest.raises(InvalidVectors, match=f"dimension {2 * OUTPUT}, expected the encoder's {OUTPUT}"):
            retriever.add(range(9), documents[:9], vectors=wide)
        assert not retriever.adapter.info().exists
        assert retriever.add(range(9), documents[:9], vectors=ours.with_fingerprint(None)).written == 9
        with pytest.raises(WrongSpace, match=f"{other.fingerprint}, expected {encoder.fingerprint}"):
            retriever.verify(documents[:9], documents[:1], vectors=strange)


class Rounding(Reference):
    """Keeps half of the digits, and gives back all of them."""

    def stored(self, vectors: SparseVectors) -> SparseVectors:
        values = vectors.values.astype(np.float16)
        parts = vectors.indptr, vectors.indices, values, vectors.dimension
        return SparseVectors(*parts, fingerprint=vectors.fingerprint)


def test_verify_gives_an_own_re_ranker_the_vectors_that_a_search_gives_it(
    encoder: SparseEncoder, documents: Float32s, unseen_queries: Float32s
) -> None:
    def largest(_query: Float32s, documents: Documents) -> list[float]:
        return [float(row.values.max()) for row in documents.vectors]

    payloads = [{"few": n < 5} for n in range(60)]
    with Retriever(encoder, Rounding(), rerank=largest) as retriever:
        retriever.add(range(60), documents[:60], payloads)
        given: dict[str, Any] = {"payloads": payloads, "where": {"few": True}}
        report = sv.verify(retriever, documents[:60], unseen_queries[:4], **given)
    assert report.require_exact().queries == 4


@pytest.mark.parametrize("rerank", ["second look", "dense", None])
def test_verify_takes_the_queries_that_a_search_takes(rerank: Any) -> None:
    rows = clustered(60, seed=1)
    encoder = SparseEncoder(INPUT, OUTPUT, similarity="l2").fit(rows, budget=Budget(nnz=NNZ))
    zero, payloads = np.zeros((1, INPUT), np.float32), [{"row": row.tolist()} for row in rows]
    field = "row" if rerank == "dense" else None
    with Retriever(encoder, Reference(), rerank=rerank, dense_field=field) as retriever:
        retriever.add(range(60), rows, payloads)
        assert len(retriever.search(zero)[0]) == 10
        report = retriever.verify(rows, zero)
    report.require_exact()
    assert report.answers == 10


def test_every_request_of_a_search_is_under_its_deadline(encoder: SparseEncoder, retriever: Retriever) -> None:
    left: list[float] = []

    def scorer(query: Float32s, documents: Documents) -> list[float]:
        assert query.shape == (INPUT,)
        left.append(remaining(1000.0))
        return [0.0] * len(documents.ids)

    Retriever(encoder, retriever._adapter, rerank=scorer).search(clustered(1, seed=9), deadline=60.0)
    assert max(left) <= 60.0
    with pytest.raises(InvalidInput, match="deadline must be a positive number"):
        retriever.search(clustered(1, seed=9), deadline=0)


def test_what_comes_behind_a_deadline_is_not_begun(encoder: SparseEncoder) -> None:
    for retriever in (Retriever(encoder, Reference()), Retriever(encoder, Reference(), rerank=None)):
        with pytest.raises(BackendDown, match="the deadline passed"):  # and not that there is no collection
            retriever.search(clustered(1, seed=9), deadline=1e-9)


def test_an_answer_that_comes_after_the_deadline_is_an_error(retriever: Retriever) -> None:
    def slow(_query: Float32s, documents: Documents) -> list[float]:
        time.sleep(0.3)
        return [0.0] * len(documents.ids)

    with pytest.raises(BackendDown, match="the deadline passed"):
        Retriever(retriever.encoder, retriever._adapter, rerank=slow).search(clustered(1, seed=9), deadline=0.2)


def test_verify_counts_what_was_answered_from_all_that_a_filter_leaves(
    encoder: SparseEncoder, documents: Float32s, unseen_queries: Float32s
) -> None:
    payloads = [{"few": n < 5} for n in range(300)]
    with Retriever(encoder, Reference()) as retriever:
        retriever.add(range(300), documents[:300], payloads)
        given: dict[str, Any] = {"payloads": payloads, "where": {"few": True}}
        report = sv.verify(retriever, documents[:300], unseen_queries[:4], **given)
        with pytest.raises(InvalidInput, match="codes= is for an adapter"):
            sv.verify(retriever, documents[:300], unseen_queries[:4], codes=np.zeros((300, 4), np.uint8))
    assert "all 20 answers are the exact ranking of all that the filter leaves" in str(report)


def test_verify_does_not_take_the_look_for_dense_rows_without_the_filter_for_candidates(
    encoder: SparseEncoder, documents: Float32s, unseen_queries: Float32s
) -> None:
    payloads: list[dict[str, Any]] = [{"n": n, **({"row": documents[n].tolist()} if n < 50 else {})} for n in range(60)]
    with Retriever(encoder, Reference(), rerank="dense", dense_field="row") as retriever:
        retriever.add(range(60), documents[:60], payloads)
        given: dict[str, Any] = {"payloads": payloads, "where": {"n": {"gte": 50}}}
        report = retriever.verify(documents[:60], unseen_queries[:3], **given)
    report.require_exact()
    assert (report.answers, report.from_all) == (0, 3)


def test_an_encoder_without_residual_codes_is_told_how_to_get_them(encoder: SparseEncoder) -> None:
    with pytest.raises(InvalidInput, match=r"fit\(\.\.\., budget=Budget\(\.\.\., residual_bytes=100\)\)"):
        Retriever(encoder, Reference(), rerank="residual")


def test_a_task_that_is_cancelled_writes_no_more(encoder: SparseEncoder, documents: Float32s) -> None:
    reference = Reference()

    async def cancelled() -> int:
        retriever = AsyncRetriever(encoder, InThreads(reference))
        task = asyncio.create_task(retriever.add(range(1500), documents, batch_count=10))
        while not (reference.info().exists and reference.count()):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)
        return reference.count()

    assert 0 < asyncio.run(cancelled()) < 1500


def test_a_row_that_cannot_be_encoded_has_failed_and_the_others_are_added(
    encoder: SparseEncoder, documents: Float32s
) -> None:
    rows = documents[:9].copy()
    rows[2], rows[5] = np.nan, 0
    with sv.Reference() as adapter:
        retriever = Retriever(encoder, adapter)
        report = retriever.add(range(9), rows)
        assert (report.given, report.written, [failure.id for failure in report.failures]) == (9, 7, [2, 5])
        refined = encoder.encode_document(documents[:9])
        again = retriever.add(range(9), rows, vectors=refined)
        assert (again.written, again.failed, adapter.count()) == (7, 2, 7)


def test_two_that_add_first_at_once_share_the_collection(
    encoder: SparseEncoder, documents: Float32s, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Reference(str(tmp_path / "ours")) as adapter, Reference(str(tmp_path / "ours")) as faster:
        create = adapter.create

        def overtaken(*given: Any, **named: Any) -> None:
            Retriever(encoder, faster).add(range(5), documents[:5])
            create(*given, **named)

        monkeypatch.setattr(adapter, "create", overtaken)
        report = Retriever(encoder, adapter).add(range(5, 9), documents[5:9])
        assert (report.written, faster.count()) == (4, 9)
