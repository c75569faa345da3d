"""What planning and measuring are given: a figure of something else, or an error of somebody else's, is never told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sparsevec.errors import InvalidInput
from sparsevec.measure.intervals import interval, paired_interval
from sparsevec.measure.labels import ndcgs, quality
from sparsevec.planning.latency import LatencyModel
from sparsevec.planning.stages import Pipeline, embedding, model_rerank, quality_per_petaflop, retrieval
from sparsevec.planning.transformers import Transformer

RANKING = [np.array([0, 1])]
MODEL = LatencyModel(
    engine="quiet",
    documents=10,
    base=1,
    per_list=0.1,
    per_posting=0.01,
    per_touched=0.01,
    per_hit=0.1,
    probes=81,
    error_median=0.1,
    error_95=0.2,
)


@pytest.mark.parametrize("grade", [2**31 - 1, 2**32, 10**400, None, 1.5])
def test_a_grade_that_trec_eval_cannot_count_is_refused_and_not_worth_nothing(grade: Any) -> None:
    with pytest.raises(InvalidInput, match=r"all whole numbers, found .*; each must be below 2\*\*31"):
        ndcgs(RANKING, {0: {0: grade}}, 10)
    with pytest.raises(InvalidInput, match="all whole numbers"):
        quality(RANKING, {0: {0: grade}})


def test_a_query_that_is_judged_without_any_relevant_document_does_not_count() -> None:
    assert ndcgs(RANKING * 3, {2: {0: 1}, 0: {1: 0}, 1: {0: 1, 1: 0}}, 10).tolist() == [1, 1]
    with pytest.raises(InvalidInput, match="for at least one query, found none"):
        ndcgs(RANKING, {0: {0: 0}}, 10)


@pytest.mark.parametrize("counted", ["x", [1, 2], [[1, 2, 3, math.nan]], [1, -1, 1, 1], [[[1] * 4]], 10**400, None])
def test_what_are_no_features_take_no_time(counted: Any) -> None:
    for asked in (MODEL.predict, MODEL.shares):
        with pytest.raises(InvalidInput, match="lists, postings, touched, hits of each query"):
            asked(counted)


def test_of_no_query_there_are_no_shares() -> None:
    assert MODEL.predict(np.empty((0, 4))).shape == (0,)
    with pytest.raises(InvalidInput, match="of at least one query"):
        MODEL.shares(np.empty((0, 4)))


@pytest.mark.parametrize("milliseconds", [math.nan, "2", -1])
def test_a_time_that_is_none_allows_no_query(milliseconds: Any) -> None:
    with pytest.raises(InvalidInput, match="milliseconds"):
        MODEL.longest_query(milliseconds, 8, 100, 1.0)


def test_a_kind_of_transformer_that_is_misspelt_is_not_counted_as_another() -> None:
    with pytest.raises(InvalidInput, match="kind must be one of encoder, decoder, encoder-decoder, found 'Encoder'"):
        Transformer(
            kind="Encoder",  # type: ignore[arg-type]
            layers=2,
            width=8,
            inner=8,
            key_value=8,
            feed_forward=16,
            gated=False,
        )


@pytest.mark.parametrize("model", ["MiniLM/config.json", None, {"model_type": "bert"}])
def test_a_model_that_was_not_read_is_not_counted(model: Any) -> None:
    with pytest.raises(InvalidInput, match=r"Transformer\.from_config"):
        embedding(model, 128, 16)
    with pytest.raises(InvalidInput, match=r"Transformer\.from_config"):
        model_rerank(model, 100, 160)


@pytest.mark.parametrize("stages", ["stage", 5, (1,), iter([retrieval(10, 1)])])
def test_a_pipeline_has_stages_that_can_be_counted_twice(stages: Any) -> None:
    with pytest.raises(InvalidInput, match="a tuple of stages"):
        Pipeline(stages)


def test_numbers_beyond_the_floats_have_no_mean() -> None:
    for asked in (interval, lambda them: paired_interval(them, [1.0]), lambda them: quality_per_petaflop(them, 1.0)):
        for given in (["x"], [10**400]):
            with pytest.raises(InvalidInput, match=r"numbers?.*, found \["):
                asked(given)
