"""A model pushed and pulled as a repository: by huggingface_hub itself, to a stand-in of the hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

import sparsevec as sv
from sparsevec.errors import BackendDown, BackendUnsupported, InvalidInput, ModelBroken
from sparsevec.integrations.hub import pull, push
from sparsevec.vectors import Float32s
from tests.guests.hub import Hub, serving

NAME = "somebody/products-sparse"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def small() -> sv.SparseEncoder:
    return sv.SparseEncoder(24, 64).fit(np.random.default_rng(0).normal(size=(60, 24)), budget=sv.Budget(nnz=8))


def test_what_was_pushed_is_pulled_and_encodes_the_same(
    hub: Hub, small: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    url = push(small, NAME, token="hf_own", endpoint=hub.url)
    assert url == f"{hub.url}/{NAME}/commit/{hub.commit(NAME)}"
    assert set(hub.repositories[NAME]) == {"README.md", "config.json", "model.safetensors"}
    again = pull(NAME, endpoint=hub.url, cache_dir=tmp_path)
    assert again.encode_document(dense) == small.encode_document(dense)
    assert again.fingerprint == small.fingerprint


def test_the_card_says_the_figures_in_its_metadata(hub: Hub, encoder: sv.SparseEncoder) -> None:
    push(encoder, NAME, token="hf_own", endpoint=hub.url)
    card = ModelCard(hub.repositories[NAME]["README.md"].decode())
    said = {result.metric_type: result.metric_value for result in card.data.eval_results}
    figures = encoder.figures
    assert said["recall_10"] == round(figures.recall_10, 4)
    assert said["flops"] == round(figures.flops, 4)
    assert (card.data.library_name, card.data.model_name) == ("sparsevec", "products-sparse")
    assert "SparseEncoder.load" in card.text


def test_a_second_push_changes_the_model_and_a_second_pull_finds_it(
    hub: Hub, small: sv.SparseEncoder, encoder: sv.SparseEncoder, tmp_path: Path
) -> None:
    for one in (small, encoder):
        push(one, NAME, token="hf_own", endpoint=hub.url)
        assert pull(NAME, endpoint=hub.url, cache_dir=tmp_path).fingerprint == one.fingerprint


def test_a_hub_that_is_gone_serves_from_the_cache(hub: Hub, small: sv.SparseEncoder, tmp_path: Path) -> None:
    push(small, NAME, token="hf_own", endpoint=hub.url)
    pull(NAME, endpoint=hub.url, cache_dir=tmp_path)
    assert pull(NAME, endpoint="http://127.0.0.1:9", cache_dir=tmp_path).fingerprint == small.fingerprint
    with pytest.raises(BackendDown):
        pull(NAME, endpoint="http://127.0.0.1:9", cache_dir=tmp_path / "empty")
    with pytest.raises(BackendDown):
        push(small, NAME, token="hf_own", endpoint="http://127.0.0.1:9")


def test_what_the_hub_has_not_is_told_as_that(hub: Hub, small: sv.SparseEncoder, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nobody/nothing"):
        pull("nobody/nothing", endpoint=hub.url, cache_dir=tmp_path)
    push(small, NAME, token="hf_own", endpoint=hub.url)
    with pytest.raises(InvalidInput, match="revision"):
        pull(NAME, revision="v9", endpoint=hub.url, cache_dir=tmp_path)
    with pytest.raises(InvalidInput, match="a/b/c"):
        push(small, "a/b/c", endpoint=hub.url)


def test_a_repository_that_holds_no_whole_model_is_refused(hub: Hub, small: sv.SparseEncoder, tmp_path: Path) -> None:
    push(small, NAME, token="hf_own", endpoint=hub.url)
    hub.repositories[NAME]["model.safetensors"] = hub.repositories[NAME]["model.safetensors"][:-4]
    with pytest.raises(ModelBroken, match="SHA-256"):
        pull(NAME, endpoint=hub.url, cache_dir=tmp_path)
    hub.repositories["somebody/else"] = {"config.json": b"{}"}
    with pytest.raises(ModelBroken):
        pull("somebody/else", endpoint=hub.url, cache_dir=tmp_path)


@pytest.mark.parametrize(("status", "kind"), [(403, BackendUnsupported), (503, BackendDown)])
def test_a_hub_that_refuses_or_is_busy_is_told_apart(
    hub: Hub, small: sv.SparseEncoder, status: int, kind: type[Exception]
) -> None:
    hub.status = status
    with pytest.raises(kind):
        push(small, NAME, token="hf_own", endpoint=hub.url)
