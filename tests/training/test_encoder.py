"""Learning, keeping and loading an encoder."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from sparsevec.encoder import Budget, Progress, SparseEncoder, stages
from sparsevec.encoder.recipe import SecondLookRecipe, refine_recipe
from sparsevec.errors import InvalidInput, ModelBroken, StorageFailed
from sparsevec.measure.cost import cost
from sparsevec.similarity import Near
from sparsevec.training.collapse import diagnosis
from sparsevec.vectors import Float32s, SparseVectors
from tests.training.conftest import FLOPS, INPUT, NNZ, OUTPUT, clustered, ranking_overlap, unit

FILES = ["config.json", "model.safetensors"]


@pytest.mark.usefixtures("brief")
def test_the_same_seed_gives_the_same_vectors_and_another_seed_others(documents: Float32s, queries: Float32s) -> None:
    def made(seed: int) -> list[SparseVectors]:
        encoder = SparseEncoder(INPUT, OUTPUT, seed).fit(documents, queries, budget=Budget(nnz=NNZ, flops=FLOPS))
        fitted = encoder.encode_query(queries)
        return [fitted, encoder.refine(documents, queries), encoder.encode_query(queries)]

    same, again, other = made(0), made(0), made(1)
    assert again == same
    assert all(one != another for one, another in zip(same, other, strict=True))


def test_unnormalised_shifted_and_badly_scaled_rows_are_no_obstacle(unseen_queries: Float32s) -> None:
    scales = np.exp(np.random.default_rng(0).uniform(-20, 20, (1500, 1)))
    rows = (clustered(1500, seed=1) + 2.0) * scales
    encoder = SparseEncoder(INPUT, OUTPUT).fit(rows, budget=Budget(nnz=NNZ, flops=FLOPS))
    shifted = unseen_queries + 2.0
    corpus, asked = encoder.encode_document(rows), encoder.encode_query(shifted)
    dense = unit(shifted) @ unit(rows).T
    assert ranking_overlap(asked, corpus, dense) > 0.2
    assert cost(asked, corpus).active_dims == pytest.approx(NNZ, rel=0.01)


def test_refined_newcomers_score_on_the_scale_of_the_corpus(
    refined: tuple[SparseEncoder, SparseVectors], unseen_queries: Float32s
) -> None:
    encoder, corpus = refined
    asked = encoder.encode_query(unseen_queries).to_scipy()
    newcomers = encoder.encode_document(clustered(1500, seed=5))
    fitted, new = (float((asked @ vectors.to_scipy().T).mean()) for vectors in (corpus, newcomers))
    assert new == pytest.approx(fitted, rel=0.25)


def test_a_price_makes_queries_avoid_the_dimensions_that_many_documents_use(
    encoder: SparseEncoder,
    documents: Float32s,
    queries: Float32s,
    unseen_queries: Float32s,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder.save(tmp_path / "head")
    spent = []
    for price in (0.0, 0.1):
        recipe = replace(refine_recipe(OUTPUT, NNZ), price=price)
        monkeypatch.setattr("sparsevec.encoder.learning.learn.refine_recipe", Mock(return_value=recipe))
        again = SparseEncoder.load(tmp_path / "head")
        corpus = again.refine(documents, queries)
        spent.append(cost(again.encode_query(unseen_queries), corpus))
    free, dear = spent
    assert dear.r_sub < free.r_sub
    assert dear.query_active_dims > free.query_active_dims
    assert dear.flops == pytest.approx(free.flops, rel=0.03)


@pytest.mark.usefixtures("brief")
def test_a_listener_hears_every_step_and_nothing_is_printed(
    documents: Float32s, queries: Float32s, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[Progress] = []
    encoder = SparseEncoder(INPUT, OUTPUT)
    encoder.fit(documents, queries, budget=Budget(nnz=NNZ), on_step=heard.append)
    encoder.refine(documents, queries, on_step=heard.append)
    for stage in ("head", "towers", "refine"):
        steps = [step for step in heard if step.stage == stage]
        assert [step.step for step in steps] == list(range(1, steps[0].steps + 1))
        assert steps[-1].figures["loss"] < steps[0].figures["loss"]
    assert capfd.readouterr() == ("", "")


def test_a_broken_listener_stops_the_training(documents: Float32s) -> None:
    def stop(at: Progress) -> None:
        raise KeyboardInterrupt

    encoder = SparseEncoder(INPUT, OUTPUT)
    with pytest.raises(KeyboardInterrupt):
        encoder.fit(documents, budget=Budget(nnz=NNZ), on_step=stop)
    with pytest.raises(InvalidInput, match="learned nothing"):
        encoder.encode_document(documents)


# ---- kept


def test_a_saved_encoder_encodes_the_same(
    refined: tuple[SparseEncoder, SparseVectors], unseen_queries: Float32s, tmp_path: Path
) -> None:
    encoder, _ = refined
    encoder.save(tmp_path / "model")
    loaded = SparseEncoder.load(tmp_path / "model")
    assert loaded.encode_query(unseen_queries) == encoder.encode_query(unseen_queries)
    assert loaded.encode_document(unseen_queries) == encoder.encode_document(unseen_queries)
    assert loaded.config.figures == encoder.config.figures


def test_a_loaded_head_can_be_refined(refined: tuple[SparseEncoder, SparseVectors], documents: Float32s) -> None:
    assert refined[0].config.stage == "refined"
    assert len(refined[1]) == len(documents)


def test_the_card_states_the_measured_figures(encoder: SparseEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"{encoder.config.figures.flops:.3f}" in card
    assert f"{encoder.config.figures.recall_10_at_100:.3f}" in card


def test_saving_again_replaces_the_model_and_leaves_nothing_beside_it(encoder: SparseEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "model")
    encoder.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    SparseEncoder.load(tmp_path / "model")


def test_a_folder_of_something_else_is_not_overwritten(encoder: SparseEncoder, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not a model of ours"):
        encoder.save(tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_disk_that_refuses_loses_nothing(
    encoder: SparseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder.save(tmp_path / "model")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed, match="No space left"):
        encoder.save(tmp_path / "model")
    SparseEncoder.load(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_folder_cut_short_says_so(encoder: SparseEncoder, tmp_path: Path, name: str, share: float) -> None:
    encoder.save(tmp_path / "model")
    file = tmp_path / "model" / name
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(ModelBroken, match="save it again"):
        SparseEncoder.load(tmp_path / "model")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(encoder: SparseEncoder, tmp_path: Path, name: str) -> None:
    encoder.save(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelBroken, match=name):
        SparseEncoder.load(tmp_path / "model")


@pytest.mark.parametrize(
    "change",
    [{"format": "other/3"}, {"output_dim": 128}, {"nnz": 0}, {"stage": "half"}, {"surprise": 1}, {"flops": math.nan}],
)
def test_a_changed_config_is_refused(encoder: SparseEncoder, tmp_path: Path, change: dict[str, object]) -> None:
    encoder.save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ModelBroken):
        SparseEncoder.load(tmp_path / "model")


def test_a_model_of_a_later_version_is_said_to_be_one(encoder: SparseEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("sparsevec.model/2", "sparsevec.model/10"))
    with pytest.raises(ModelBroken, match=r"of format sparsevec\.model/10, .* install a newer version"):
        SparseEncoder.load(tmp_path / "model")


def test_a_config_of_nothing_but_brackets_is_no_json(encoder: SparseEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("[" * 200_000)
    with pytest.raises(ModelBroken, match="is not JSON"):
        SparseEncoder.load(tmp_path / "model")


def test_a_name_that_no_folder_can_have_is_refused(encoder: SparseEncoder, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="could not be written: File name too long"):
        encoder.save(tmp_path / ("x" * 300))


def test_a_file_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("not a folder")
    with pytest.raises(ModelBroken):
        SparseEncoder.load(tmp_path / "model")


# ---- collapse


def test_a_healthy_usage_has_no_diagnosis() -> None:
    assert diagnosis(1.0, np.full(256, 8 / 256), 8) is None


@pytest.mark.parametrize(
    ("loss", "usage", "says"),
    [
        (math.nan, np.full(256, 8 / 256), "loss is nan"),
        (1.0, np.zeros(256), "all zero"),
        (1.0, np.full(256, 0.9), "all dense"),
        (1.0, np.where(np.arange(256) < 9, 8 / 9, 0), "few dimensions do everything"),
    ],
)
def test_degenerate_codes_are_named(
    loss: float, usage: np.ndarray[tuple[int], np.dtype[np.float64]], says: str
) -> None:
    assert says in str(diagnosis(loss, usage, 8))


@pytest.mark.parametrize("near", ["dot", "l2"])
def test_where_learning_collapses_codes_that_need_none_serve_and_the_card_says_why(near: Near) -> None:
    rows = clustered(600, seed=1)
    rows[0] *= 1000
    encoder = SparseEncoder(INPUT, OUTPUT, similarity=near).fit(rows, budget=Budget(nnz=NNZ))
    assert encoder.config.stage == "untrained"
    assert encoder.figures.collapsed is not None
    assert "learning collapsed" in str(encoder.figures)
    assert encoder.encode_document(rows).row_nnz.max() <= 2 * NNZ


def test_rows_that_are_equal_but_for_one_are_served_by_codes_that_need_no_learning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "SecondLookRecipe", partial(SecondLookRecipe, steps=30))
    rows = clustered(120, seed=1)
    rows[1:] = rows[1]
    encoder = SparseEncoder(INPUT, OUTPUT, similarity="dot").fit(rows, budget=Budget(nnz=NNZ))
    assert encoder.config.stage == "untrained"
    assert encoder.figures.collapsed is not None


def test_importing_the_encoder_does_not_import_torch() -> None:
    code = "import sys, sparsevec.encoder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
