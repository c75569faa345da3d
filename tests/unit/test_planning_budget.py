"""Milliseconds as a budget: what an engine's latency model makes of a query's length and F."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparsevec as sv
from sparsevec.encoder.budget import resolved
from sparsevec.errors import InvalidInput
from sparsevec.planning.latency import features

ENGINE = sv.LatencyModel(
    engine="made up",
    documents=10_000,
    base=0.5,
    per_list=0.01,
    per_posting=2e-5,
    per_touched=1e-5,
    per_hit=0.002,
    probes=81,
    error_median=0.0,
    error_95=0.0,
)
NNZ, DIMENSION = 32, 8192


def even(lists: int, flops: float) -> float:
    """Milliseconds of a query of so many even lists for 100 hits."""
    return ENGINE.of(lists, flops, 1 - np.exp(-flops), 100)


@pytest.mark.parametrize("milliseconds", [0.9, 1.5, 2.0])
def test_a_query_is_as_long_as_its_milliseconds_allow(milliseconds: float) -> None:
    limits = resolved(sv.Budget(nnz=NNZ, milliseconds=milliseconds, engine=ENGINE), DIMENSION)
    longest = limits.query_nnz or 0
    assert even(longest, limits.flops) <= milliseconds
    assert even(longest + 1, min(0.64, (longest + 1) * NNZ / DIMENSION)) > milliseconds
    assert limits.flops == pytest.approx(min(0.64, longest * NNZ / DIMENSION))


def test_time_to_spare_leaves_the_other_limits_as_they_are() -> None:
    limits = resolved(sv.Budget(nnz=NNZ, flops=0.3, query_nnz=70, milliseconds=99, engine=ENGINE), DIMENSION)
    assert limits == (NNZ, 0.3, 70)


@pytest.mark.parametrize("milliseconds", [0.4, even(7, 7 * NNZ / DIMENSION)])
def test_a_time_in_which_no_query_finds_anything_is_refused_with_one_that_can_be_met(milliseconds: float) -> None:
    """Of fewer than eight weights the strongest would cost more than all of them may."""
    with pytest.raises(
        InvalidInput, match=r"query of 8 weights.*0\.5 the request.*raise milliseconds to 0\."
    ) as refused:
        resolved(sv.Budget(nnz=NNZ, milliseconds=milliseconds, engine=ENGINE), DIMENSION)
    nearest = float(str(refused.value).split("raise milliseconds to ")[1].split(",")[0])
    assert (resolved(sv.Budget(nnz=NNZ, milliseconds=nearest, engine=ENGINE), DIMENSION).query_nnz or 0) >= 8


def test_more_hits_leave_less_for_lists() -> None:
    many = ENGINE.model_copy(update={"hits": 300})
    short, long = (resolved(sv.Budget(nnz=NNZ, milliseconds=1.2, engine=one), DIMENSION) for one in (many, ENGINE))
    assert (short.query_nnz or 0) < (long.query_nnz or 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"milliseconds": 0.0, "engine": ENGINE}, "positive"),
        ({"milliseconds": float("nan"), "engine": ENGINE}, "positive"),
        ({"milliseconds": 2.0}, "latency model"),
        ({"engine": ENGINE}, "give both"),
        ({"milliseconds": 2.0, "engine": "local:"}, "latency model"),
    ],
)
def test_milliseconds_of_no_engine_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        sv.Budget(nnz=NNZ, **wrong)


def test_an_encoder_keeps_to_the_milliseconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((40, 24))
    dense = (centres[rng.integers(40, size=300)] + 0.3 * rng.standard_normal((300, 24))).astype(np.float32)
    model = ENGINE.model_copy(update={"documents": 300})
    encoder = sv.SparseEncoder(24, 512).fit(dense, budget=sv.Budget(nnz=8, milliseconds=0.8, engine=model))
    documents, queries = encoder.encode_document(dense), encoder.encode_query(dense)
    assert queries.row_nnz.max() <= (encoder.config.query_nnz or 0) < 20
    assert model.predict(features(queries, documents, 100)).mean() <= 0.8


def test_a_model_is_read_from_what_the_command_printed(tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_text(ENGINE.model_dump_json())
    assert sv.LatencyModel.load(tmp_path / "engine.json") == ENGINE
    faster_than_nothing = ENGINE.model_copy(update={"per_list": -0.1}).model_dump_json()
    for content, said in (("{}", "engine: Field required"), ("", "Invalid JSON"), (faster_than_nothing, "per_list: ")):
        (tmp_path / "engine.json").write_text(content)
        with pytest.raises(InvalidInput, match=f"latency URL DOCUMENTS --json` prints; .*{said}"):
            sv.LatencyModel.load(tmp_path / "engine.json")
    with pytest.raises(InvalidInput, match="latency URL DOCUMENTS --json"):
        sv.LatencyModel.load(tmp_path / "nowhere.json")
