"""Fusion and explanation, as functions of values."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevec.answers.explain import explain
from sparsevec.answers.fusion import Fusion, reciprocal_rank_fusion, weighted_sum
from sparsevec.answers.parents import parents_of
from sparsevec.answers.retriever import AsyncRetriever, Retriever
from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Id
from sparsevec.contract.connect import aconnect
from sparsevec.encoder import SparseEncoder
from sparsevec.encoder.config import AdoptedConfig
from sparsevec.encoder.model import Model
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.exact.reference import Reference
from sparsevec.testing.conformance.answering import COLUMNS, dense, unlearned
from sparsevec.vectors import SparseVectors


def ranking(*scored: tuple[Id, float]) -> Hits:
    return Hits(tuple(id_ for id_, _ in scored), np.array([score for _, score in scored], np.float32))


def test_reciprocal_rank_fusion_adds_one_over_sixty_plus_the_rank() -> None:
    text, vectors = ranking(("a", 9.0), ("b", 8.0)), ranking(("b", 0.9), ("c", 0.1))
    fused = reciprocal_rank_fusion([text, vectors])
    assert fused.ids == ("b", "a", "c")
    assert fused.scores.tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_a_ranking_counts_by_its_weight() -> None:
    fused = reciprocal_rank_fusion([ranking(("a", 1.0)), ranking(("b", 1.0))], weights=[1, 3])
    assert fused.ids == ("b", "a")


def test_ties_go_to_the_earlier_ranking_then_to_its_order() -> None:
    assert reciprocal_rank_fusion([ranking(("b", 1.0)), ranking(("a", 1.0))]).ids == ("b", "a")
    assert weighted_sum([ranking(), ranking(("y", 1.0), (7, 1.0))]).ids == ("y", 7)


def test_a_weighted_sum_scales_each_ranking_to_one() -> None:
    text, vectors = ranking(("a", 300.0), ("b", 200.0), ("c", 100.0)), ranking(("c", 0.2), ("b", 0.1))
    fused = weighted_sum([text, vectors], weights=[1, 2])
    assert dict(zip(fused.ids, fused.scores.tolist(), strict=True)) == {"c": 2.0, "a": 1.0, "b": 0.5}


def test_k_truncates_a_fusion() -> None:
    assert len(reciprocal_rank_fusion([ranking(("a", 2.0), ("b", 1.0))], k=1)) == 1


def test_payloads_come_with_a_fusion_when_all_rankings_have_them() -> None:
    with_payload = Hits(("a",), np.ones(1, np.float32), ({"n": 1},))
    assert reciprocal_rank_fusion([with_payload, with_payload]).payloads == ({"n": 1},)
    assert reciprocal_rank_fusion([with_payload, ranking(("a", 1.0))]).payloads is None


def test_a_fusion_of_nothing_or_with_a_wrong_weight_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one ranking"):
        reciprocal_rank_fusion([])
    with pytest.raises(InvalidInput, match="2 weights"):
        weighted_sum([ranking(), ranking()], weights=[1])
    with pytest.raises(InvalidInput, match="of at least 0"):
        weighted_sum([ranking()], weights=[float("nan")])
    for weights in (1, ["a", 1], [None, 1], ["1", "2"], "12", b"12", [True, True]):
        with pytest.raises(InvalidInput, match="2 weights of at least 0"):
            weighted_sum([ranking(), ranking()], weights=weights)  # type: ignore[arg-type]
    for text in ({"text": "\ud800"}, {"\ud800": "red"}, {1: "red"}, {"text": 5}):
        with pytest.raises(InvalidInput, match="text must map text fields to words, all valid unicode, found"):
            Fusion(text, None, 10, 100, "ranks", None)  # type: ignore[arg-type]
    for field in (5, "\ud800"):
        with pytest.raises(InvalidInput, match="dense must name a field with dense rows, or be None, found"):
            Fusion({}, field, 10, 100, "ranks", None)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="expected 2 weights"):
        Fusion({"text": "red"}, None, 10, 100, "ranks", [1.0])
    with pytest.raises(InvalidInput, match="rank_constant"):
        reciprocal_rank_fusion([ranking()], rank_constant=0)


def test_scores_and_weights_beyond_float32_are_fused_in_order() -> None:
    far, near = ranking(("a", np.inf), ("b", 2.0), ("c", -np.inf)), ranking(("b", 1.0), ("a", 0.0))
    fused = weighted_sum([far, near])
    assert dict(zip(fused.ids, fused.scores.tolist(), strict=True)) == {"b": 1.5, "a": 1.0, "c": 0.0}
    assert weighted_sum([far, near], weights=[1e39, 1e39]).ids == ("b", "a", "c")
    assert np.isinf(weighted_sum([near], weights=[1e39]).scores[0])


def test_rankings_with_a_score_that_is_no_number_are_not_scaled() -> None:
    with pytest.raises(InvalidInput, match="a score that is no number"):
        weighted_sum([ranking(("a", np.nan), ("b", 1.0))])


def test_a_parent_is_found_where_others_wrote_its_path_with_dots() -> None:
    payloads = ({"a": {"b": {"c": 1}}}, {"a.b.c": 1}, {"a.b": {"c": 1}}, {"a": {"b.c": 1}}, {"a": {"x": 1}, "a.b.c": 1})
    assert parents_of(Hits(tuple(range(5)), np.ones(5, np.float32), payloads), "a.b.c") == ["1"] * 5
    without = ({"a.b": 1}, {"a": [{"b": {"c": 1}}]}, {"a.b.c": None})
    assert len(set(parents_of(Hits((0, 1, 2), np.ones(3, np.float32), without), "a.b.c"))) == 3


def test_contributions_add_up_to_the_score_and_the_largest_comes_first() -> None:
    rows = SparseVectors.from_rows([{1: 2.0, 5: 1.0, 9: 3.0}, {1: 1.0, 9: -4.0, 7: 1.0}], dimension=10)
    why = explain(rows[0], rows[1])
    assert [(one.dimension, one.score) for one in why] == [(9, -12.0), (1, 2.0)]
    assert why.score == -10.0
    assert sum(one.share for one in why) == pytest.approx(1)
    assert "2 shared dimensions" in str(why)


def test_nothing_shared_explains_a_score_of_zero() -> None:
    rows = SparseVectors.from_rows([{1: 2.0}, {2: 1.0}], dimension=10)
    assert (explain(rows[0], rows[1]).score, len(explain(rows[0], rows[1]))) == (0.0, 0)


def test_a_batch_in_place_of_a_row_is_refused() -> None:
    rows = SparseVectors.from_rows([{1: 2.0}], dimension=10)
    with pytest.raises(InvalidVectors, match=r"vectors\[0\]"):
        explain(rows, rows[0])  # type: ignore[arg-type]


def test_a_cancelled_add_lets_go_of_its_journal_so_that_the_same_call_goes_on(tmp_path: Path) -> None:
    rows, begun = dense(40, seed=1), threading.Event()

    def slowly() -> Iterator[Id]:
        for id_ in range(40):
            begun.set()
            time.sleep(0.01)
            yield id_

    async def talk() -> tuple[int, int]:
        async with AsyncRetriever(unlearned(), await aconnect("local:")) as retriever:
            ids: Any = slowly()
            add = asyncio.create_task(retriever.add(ids, rows, journal=tmp_path / "x.journal", batch_count=5))
            await asyncio.to_thread(begun.wait)
            add.cancel()
            with pytest.raises(asyncio.CancelledError):
                await add
            report = await retriever.add(range(40), rows, journal=tmp_path / "x.journal", batch_count=5)
            return report.written, await retriever.adapter.count()

    assert asyncio.run(talk()) == (40, 40)


def test_dense_rows_that_an_adopted_model_cannot_be_compared_with_are_refused_when_the_retriever_is_made() -> None:
    encoder = SparseEncoder(COLUMNS, 96, similarity="l2")
    config = unlearned().config.model_copy(update={"adopted": AdoptedConfig(columns=COLUMNS), "similarity": "l2"})
    encoder._model = Model(config, {"similarity": np.ones(COLUMNS + 2, np.float32)})
    with pytest.raises(InvalidInput, match="have no length, which similarity='l2' needs"):
        Retriever(encoder, Reference(), rerank="dense", dense_field="row")
