"""Final answers: re-ranked, by chunks, from few documents, explained; the same on every backend, threads or asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from sparsevec.answers.retriever import AsyncRetriever, Retriever
from sparsevec.contract.adapter import Adapter, Documents, Hits
from sparsevec.contract.operations import InThreads
from sparsevec.encoder import SparseEncoder
from sparsevec.encoder.config import Config, CutConfig, Figures, ResidualConfig
from sparsevec.encoder.model import Model
from sparsevec.encoder.residual import HEADER, TENSORS, name_of
from sparsevec.encoder.store import fingerprint
from sparsevec.errors import InvalidInput
from sparsevec.exact.verify import verify
from sparsevec.ingestion.ingest import IngestReport
from sparsevec.measure.recall import evaluate
from sparsevec.testing.conformance.suite import Suite
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["Answering", "unlearned"]

COLUMNS, DIMENSION, WEIGHTS = 12, 96, 6
GROUPS = (4, 4, 4)  # components of each byte of a residual code


@cache
def unlearned() -> SparseEncoder:
    """An encoder of random directions, with a second look and residual codes: made without learning, without torch."""
    directions = np.random.default_rng(5).standard_normal((DIMENSION, COLUMNS)).astype(np.float32)
    none, zeros = np.zeros(COLUMNS, np.float32), np.zeros(DIMENSION, np.float32)
    tensors = {"mean": none, "weights": directions, "bias": zeros, "query_weights": directions, "query_bias": zeros}
    tensors["second_look"] = directions / np.float32(COLUMNS)
    generator, turned = np.random.default_rng(6), np.eye(COLUMNS, dtype=np.float32)
    codewords = generator.standard_normal((COLUMNS, 256)).astype(np.float32) / np.float32(2)
    decoder, gains = directions / np.float32(4 * COLUMNS), np.linspace(0.1, 2, 256, dtype=np.float32)
    tensors |= dict(zip(TENSORS, (decoder, turned, turned, codewords, gains), strict=True))
    residual = ResidualConfig(bytes=HEADER + len(GROUPS), groups=GROUPS, name=name_of(tensors, none), signed=True)
    rows, codes = np.eye(COLUMNS, dtype=np.float32), SparseVectors.from_dense(np.eye(COLUMNS, DIMENSION))
    cut = CutConfig(cap=WEIGHTS, threshold=0, sixteenths=16)
    config = Config(
        input_dim=COLUMNS,
        output_dim=DIMENSION,
        seed=5,
        nnz=WEIGHTS,
        flops=1,
        stage="head",
        documents=cut,
        queries=cut,
        figures=Figures(**evaluate(rows, rows, codes, codes).model_dump(), asked="documents", seconds=0),
        second_look=0.1,
        residual=residual,
        fingerprint=fingerprint(tensors),
    )
    encoder = SparseEncoder(COLUMNS, DIMENSION, seed=5)
    encoder._model = Model(config, tensors)
    return encoder


def dense(n: int, seed: int) -> Float32s:
    return np.random.default_rng(seed).standard_normal((n, COLUMNS)).astype(np.float32)


def filled(
    adapter: Adapter, n: int = 60, rerank: Any = "second look"
) -> tuple[Retriever, Float32s, list[dict[str, Any]]]:
    """A retriever over n documents, three chunks to a parent; each has its dense row in its payload."""
    rows = dense(n, seed=1)
    payloads = [
        {"parent": f"p{at // 3}", "number": at, "even": at % 2 == 0, "tenth": at % 10 == 0, "row": row.tolist()}
        for at, row in enumerate(rows)
    ]
    retriever = Retriever(unlearned(), adapter, rerank=rerank, candidates=20)
    assert retriever.add(range(n), rows, payloads).written == n
    return retriever, rows, payloads


class Answering(Suite):
    @pytest.mark.parametrize("rerank", ["second look", "residual", "dense", None])
    def test_answers_are_the_exact_re_ranking_of_exact_candidates(self, adapter: Adapter, rerank: Any) -> None:
        """Behind filters that leave many documents and few, whether the engine decides them or what documents hold."""
        _, rows, payloads = filled(adapter, rerank="residual" if rerank == "residual" else "second look")
        field = "row" if rerank == "dense" else None
        retriever = Retriever(unlearned(), adapter, rerank=rerank, candidates=3, dense_field=field)
        filters: list[Any] = [None, {"even": True}, {"tenth": True}, {"parent": ["p0", "p7"]}, {"number": {"lt": 20.5}}]
        for where, group_by in product(filters, (None, "parent")):
            report = verify(retriever, rows, dense(6, 2), 3, where=where, payloads=payloads, group_by=group_by)
            assert (report.exact, report.queries) == (True, 6), (where, group_by, report)

    def test_the_best_hit_of_each_parent_is_what_all_scores_say(self, adapter: Adapter) -> None:
        retriever, rows, payloads = filled(adapter)
        asked = dense(4, 3)
        looks = unlearned().encode_second_look(asked).to_scipy()
        exact = (looks @ adapter.stored(unlearned().encode_document(rows)).to_scipy().T).toarray()
        for query, hits in enumerate(retriever.search(asked, 5, where={"row": {"exists": True}}, group_by="parent")):
            order = sorted(range(len(rows)), key=lambda at: -exact[query, at])
            best = list(dict.fromkeys(payloads[at]["parent"] for at in order))[:5]
            assert [payloads[int(id_)]["parent"] for id_ in hits.ids] == best

    def test_a_document_without_a_parent_is_its_own(self, adapter: Adapter) -> None:
        retriever = Retriever(unlearned(), adapter, rerank=None)
        rows = np.repeat(dense(1, 4), 5, axis=0)
        retriever.add(range(5), rows, [{}, {"p": 1}, {"p": 1}, {"p": "1"}, {"p": None}])
        (hits,) = retriever.search(rows[0], 10, group_by="p")
        assert hits.ids == (0, 1, 3, 4)

    def test_a_filter_that_leaves_few_documents_is_answered_from_all_of_them(self, adapter: Adapter) -> None:
        retriever, rows, _ = filled(adapter)
        retriever = Retriever(unlearned(), adapter, rerank="dense", dense_field="row", candidates=6)
        asked = dense(5, 6)
        for query, hits in zip(asked, retriever.search(asked, 6, where={"tenth": True}), strict=True):
            cosines = rows[::10] @ query / np.linalg.norm(rows[::10], axis=1)
            assert list(hits.ids) == (10 * np.argsort(-cosines)).tolist()

    def test_a_callable_sees_the_candidates_and_no_more_than_agreed(self, adapter: Adapter) -> None:
        filled(adapter)
        seen: list[int] = []

        def by_id(query: Float32s, documents: Documents) -> Sequence[float]:
            assert query.shape == (COLUMNS,)
            seen.append(len(documents.ids))
            return [float(id_) for id_ in documents.ids]

        retriever = Retriever(unlearned(), adapter, rerank=by_id, candidates=8)
        (hits,) = retriever.search(dense(1, 7), 3, where={"even": True})
        assert list(hits.ids) == sorted(hits.ids, reverse=True, key=int)
        assert max(seen) <= 8

    def test_answers_at_or_below_a_threshold_are_left_out(self, adapter: Adapter) -> None:
        retriever, *_ = filled(adapter)
        (whole,) = retriever.search(dense(1, 8), 6)
        (cut,) = retriever.search(dense(1, 8), 6, score_threshold=float(whole.scores[2]))
        assert cut == whole[:2]

    def test_an_explanation_sums_to_the_score_and_shows_who_uses_its_dimensions(self, adapter: Adapter) -> None:
        retriever, *_ = filled(adapter)
        query = dense(1, 9)[0]
        (hits,) = retriever.search(query, 1)
        why = retriever.explain(query, hits.ids[0], examples=2)
        assert why.score == pytest.approx(sum(one.score for one in why), rel=1e-12)
        assert why.score == pytest.approx(float(hits.scores[0]), rel=1e-6)
        first = why.contributions[0]
        assert len(first.examples) == 2
        assert all(hit.payload is not None and "parent" in hit.payload for hit in first.examples)
        with pytest.raises(InvalidInput, match="nobody"):
            retriever.explain(query, "nobody")

    def test_a_residual_score_is_explained_with_the_share_of_its_code(self, adapter: Adapter) -> None:
        retriever, *_ = filled(adapter, rerank="residual")
        query = dense(1, 9)[0]
        (hits,) = retriever.search(query, 1)
        why = retriever.explain(query, hits.ids[0])
        assert why.residual is not None
        assert why.score == pytest.approx(why.constant + sum(one.score for one in why) + why.residual, rel=1e-12)
        assert why.score == pytest.approx(float(hits.scores[0]), rel=1e-5)

    def test_codes_that_are_not_there_are_refused_before_the_search(self, adapter: Adapter) -> None:
        filled(adapter)
        retriever = Retriever(unlearned(), adapter, rerank="residual")
        with pytest.raises(InvalidInput, match="keeps no residual codes, expected the 5 bytes"):
            retriever.search(dense(1, 1))
        with pytest.raises(InvalidInput, match="keeps no residual codes, expected the 5 bytes"):
            retriever.add([1], dense(1, 1))

    def test_codes_of_another_width_are_refused_before_the_search(self, adapter: Adapter) -> None:
        adapter.create(DIMENSION, fingerprint=unlearned().fingerprint, code_bytes=9)
        with pytest.raises(InvalidInput, match="residual codes of 9 bytes, expected the 5 bytes"):
            Retriever(unlearned(), adapter, rerank="residual").search(dense(1, 1))

    def test_asyncio_gives_the_same_answers(self, adapter: Adapter) -> None:
        retriever, *_ = filled(adapter, rerank="residual")
        asked = dense(3, 10)
        options: list[dict[str, Any]] = [{}, {"where": {"tenth": True}}, {"group_by": "parent"}]
        expected = [retriever.search(asked, 4, **one) for one in options]

        async def search() -> list[list[Hits]]:
            again = AsyncRetriever(unlearned(), InThreads(adapter), rerank="residual", candidates=20)
            return [await again.search(asked, 4, **one) for one in options]

        assert asyncio.run(search()) == expected

    def test_asyncio_writes_with_the_same_account(self, adapter: Adapter) -> None:
        async def add() -> IngestReport:
            return await AsyncRetriever(unlearned(), InThreads(adapter)).add(range(5), dense(5, 11))

        assert asyncio.run(add()).written == 5
        assert adapter.count() == 5

    def test_a_dense_field_that_is_not_there_or_of_another_width_is_refused(self, adapter: Adapter) -> None:
        filled(adapter)
        adapter.upsert([0], unlearned().encode_document(dense(1, 1)), [{"odd": [1.0, 2.0]}])
        for field, said in {"nowhere": "no document holds a dense row", "odd": "2 columns, expected 12"}.items():
            retriever = Retriever(unlearned(), adapter, rerank="dense", dense_field=field, candidates=60)
            with pytest.raises(InvalidInput, match=said):
                retriever.search(dense(1, 1))
