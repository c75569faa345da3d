"""`SparseTower`: somebody's backbone, a sparse head, and sparse vectors out of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsevec.errors import InvalidInput, InvalidVectors, ModelBroken, StorageFailed
from sparsevec.training import JumpReLU, SparseTower, relu, soft_threshold, top_k


def tower(**settings: Any) -> SparseTower:
    torch.manual_seed(0)
    return SparseTower(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)), 16, 40, **settings)


def rows(n: int) -> Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "activation", [relu, partial(soft_threshold, threshold=0.2), partial(top_k, k=4), JumpReLU(40, threshold=0.1)]
)
def test_its_codes_have_unit_length_and_are_those_that_encode_gives(activation: Callable[[Tensor], Tensor]) -> None:
    it = tower(activation=activation)
    codes = it.eval()(rows(30))
    np.testing.assert_allclose(codes.norm(dim=1).detach(), 1, rtol=1e-6)
    np.testing.assert_array_equal(it.encode([rows(30)]).to_dense(), codes.detach())


def test_its_codes_keep_their_length_when_that_is_asked_for() -> None:
    it = tower(normalize=False).eval()
    np.testing.assert_array_equal(it(rows(30)).detach(), it.head(it.backbone(rows(30))).relu().detach())


def test_a_learned_threshold_is_one_of_its_parameters() -> None:
    assert "activation.log_threshold" in dict(tower(activation=JumpReLU(40)).named_parameters())


@given(st.lists(st.integers(1, 10), max_size=4))
def test_encoding_gives_the_rows_of_all_batches_in_order(sizes: list[int]) -> None:
    it, inputs = tower(), rows(sum(sizes))
    vectors = it.encode(torch.split(inputs, sizes))
    assert (len(vectors), vectors.dimension) == (sum(sizes), 40)
    np.testing.assert_allclose(vectors.to_dense(), it.eval()(inputs).detach(), atol=1e-6)


@given(st.floats(0, 1))
def test_weights_up_to_the_threshold_are_left_out(threshold: float) -> None:
    it = tower(activation=partial(soft_threshold, threshold=0.1))
    whole, cut = it.encode([rows(20)]).to_dense(), it.encode([rows(20)], threshold=threshold).to_dense()
    np.testing.assert_array_equal(cut, np.where(np.abs(whole) > threshold, whole, 0))


def test_encoding_leaves_every_part_in_the_mode_it_had() -> None:
    it = tower()
    it.backbone.get_submodule("1").eval()  # a frozen normalisation
    statistics = it.state_dict()["backbone.1.running_mean"].clone()
    it.encode([rows(20)])
    assert [part.training for part in it.modules()] == [True, True, True, False, True, True]
    assert torch.equal(it.state_dict()["backbone.1.running_mean"], statistics)


def test_under_autocast_the_head_may_be_coarse_but_its_codes_are_float32() -> None:
    it = tower().eval()
    with torch.autocast("cpu", torch.bfloat16):
        codes = it(rows(20))
    assert codes.dtype == torch.float32
    np.testing.assert_allclose(codes.detach().norm(dim=1), 1, rtol=1e-6)
    np.testing.assert_allclose(codes.detach(), it(rows(20)).detach(), atol=2**-6)


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    first, second = tower(), tower()
    nn.init.normal_(second.head.weight)
    first.save(tmp_path / "tower.safetensors")
    second.load(tmp_path / "tower.safetensors")
    assert second.encode([rows(20)]) == first.encode([rows(20)])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({}, r"saved by a tower with activation=top_k\(k=8\), this one has activation=relu"),
        ({"activation": partial(top_k, k=9)}, r"activation=top_k\(k=8\), this one has activation=top_k\(k=9\)"),
        ({"activation": partial(top_k, k=8), "normalize": False}, "normalize=True, this one has normalize=False"),
    ],
)
def test_a_tower_that_would_give_other_codes_does_not_take_the_weights(
    other: dict[str, Any], says: str, tmp_path: Path
) -> None:
    tower(activation=partial(top_k, k=8)).save(tmp_path / "tower.safetensors")
    it = tower(**other)
    nn.init.normal_(it.head.weight)
    before = it.head.weight.clone()
    with pytest.raises(ModelBroken, match=says):
        it.load(tmp_path / "tower.safetensors")
    assert torch.equal(it.head.weight, before)


def test_a_learned_threshold_is_compared_by_its_width_and_not_by_its_value(tmp_path: Path) -> None:
    tower(activation=JumpReLU(40, threshold=0.1, bandwidth=0.2)).save(tmp_path / "tower")
    same = tower(activation=JumpReLU(40, threshold=0.3, bandwidth=0.2))
    same.load(tmp_path / "tower")
    assert torch.allclose(same.activation.threshold, torch.tensor(0.1))  # type: ignore[attr-defined]
    with pytest.raises(ModelBroken, match=r"bandwidth=0.2.*bandwidth=0.5"):
        tower(activation=JumpReLU(40, bandwidth=0.5)).load(tmp_path / "tower")


def test_weights_that_were_saved_without_settings_are_taken(tmp_path: Path) -> None:
    import safetensors.torch

    first, second = tower(), tower()
    nn.init.normal_(first.head.weight)
    safetensors.torch.save_file(first.state_dict(), tmp_path / "tower")
    second.load(tmp_path / "tower")
    assert torch.equal(second.head.weight, first.head.weight)


# ---- what is refused


@pytest.mark.parametrize(
    ("backbone", "says"),
    [
        (nn.Linear(8, 15), r"must give \(b, 16\), as width=16 says, found shape \(20, 15\)"),
        (nn.Unflatten(1, (2, 4)), r"found shape \(20, 2, 4\)"),
        (nn.LSTM(8, 16), "found tuple"),
    ],
)
def test_a_backbone_that_gives_something_else_is_named_with_both_widths(backbone: nn.Module, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        SparseTower(backbone, 16, 40)(rows(20))


@pytest.mark.parametrize("sizes", [(0, 40), (16, 0), (16, -1), (16.0, 40), (True, 40)])
def test_sizes_that_make_no_sense_are_refused(sizes: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidInput, match="whole number of at least 1"):
        SparseTower(nn.Identity(), *sizes)


@pytest.mark.parametrize("threshold", [-0.1, float("nan")])
def test_a_threshold_that_is_no_magnitude_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidInput, match="magnitude of at least 0"):
        tower().encode([rows(3)], threshold=threshold)


def test_a_code_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InvalidVectors):
        tower().encode([rows(3) * float("nan")])


@pytest.mark.parametrize("place", [-1, -100, -1000])
def test_a_file_of_weights_with_a_changed_bit_is_refused(place: int, tmp_path: Path) -> None:
    it, path = tower(), tmp_path / "tower.safetensors"
    it.save(path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelBroken, match="was changed since it was saved"):
        it.load(path)


def test_a_file_of_weights_that_is_not_whole_or_not_this_towers_is_refused(tmp_path: Path) -> None:
    it, path = tower(), tmp_path / "tower.safetensors"
    it.save(path)
    content, due = path.read_bytes(), it.head.weight.clone()
    with pytest.raises(ModelBroken, match=r"head.weight as \(40, 16\), this tower has \(41, 16\)"):
        SparseTower(it.backbone, 16, 41).load(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelBroken, match="not a whole file"):
        it.load(path)
    with pytest.raises(ModelBroken, match="cannot be read"):
        it.load(tmp_path / "another")
    with pytest.raises(StorageFailed):
        it.save(path / "below a file")
    assert torch.equal(it.head.weight, due)
