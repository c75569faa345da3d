"""Numbers and shapes that a caller of `sparsevec.training` sets: what is none is refused in words, never raw."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sparsevec.encoder import Budget
from sparsevec.errors import InvalidInput
from sparsevec.training import (
    ArcFace,
    BudgetController,
    Evenness,
    JumpReLU,
    Plan,
    SparseTower,
    constant,
    df_flops,
    flops,
    info_nce,
    l0_mask,
    l1,
    pair_flops,
    priced,
    quadratic_ramp,
    relative_error,
    soft_threshold,
    top_k,
    triplet,
)

CODES, LABELS = torch.rand(6, 10), torch.tensor([0, 0, 1, 1, 2, 2])
NUMBERS: dict[str, Callable[[Any], object]] = {
    "triplet": lambda it: triplet(CODES, LABELS, margin=it),
    "ArcFace dimension": lambda it: ArcFace(it, 3),
    "ArcFace classes": lambda it: ArcFace(10, it),
    "ArcFace scale": lambda it: ArcFace(10, 3, scale=it),
    "ArcFace margin": lambda it: ArcFace(10, 3, margin=it),
    "info_nce": lambda it: info_nce(CODES, CODES, temperature=it),
    "soft_threshold": lambda it: soft_threshold(CODES, it),
    "top_k": lambda it: top_k(CODES, it),
    "JumpReLU dimension": lambda it: JumpReLU(it),
    "JumpReLU threshold": lambda it: JumpReLU(10, threshold=it),
    "JumpReLU bandwidth": lambda it: JumpReLU(10, bandwidth=it),
    "constant": constant,
    "ramp": lambda it: quadratic_ramp(1.0, it),
    "controller's weight": lambda it: BudgetController(Budget(nnz=3), weight=it, ramp=10),
    "controller's ramp": lambda it: BudgetController(Budget(nnz=3), weight=1.0, ramp=it),
    "controller's budget": lambda it: BudgetController(it, weight=1.0, ramp=10),
    "Evenness": lambda it: Evenness(it, weight=1.0),
    "Evenness weight": lambda it: Evenness(1.0, weight=it),
    "Evenness smoothing": lambda it: Evenness(1.0, weight=1.0, smoothing=it),
    "Evenness gain": lambda it: Evenness(1.0, weight=1.0, gain=it),
    "Evenness least": lambda it: Evenness(1.0, weight=1.0, least=it),
    "Evenness most": lambda it: Evenness(1.0, weight=1.0, most=it),
    "l0_mask": lambda it: l0_mask(CODES, it),
    "df_flops alpha": lambda it: df_flops(CODES, torch.rand(10), alpha=it, beta=1.0),
    "df_flops beta": lambda it: df_flops(CODES, torch.rand(10), alpha=0.1, beta=it),
    "clip": lambda it: Plan(steps=3, document_regularizer_weight=constant(0.1), clip=it),
    "expected_nnz": lambda it: Plan(steps=3, document_regularizer_weight=constant(0.1), expected_nnz=it),
    "threshold": lambda it: SparseTower(nn.Identity(), 4, 4).encode([torch.rand(2, 4)], threshold=it),
}


@pytest.mark.parametrize("number", ["1", [1], math.nan, -(10**400)], ids=["text", "list", "NaN", "huge"])
@pytest.mark.parametrize("setting", NUMBERS)
def test_what_is_no_number_is_refused_in_words(setting: str, number: Any) -> None:
    with pytest.raises(InvalidInput, match="found"):
        NUMBERS[setting](number)


def test_a_temperature_that_learns_is_a_number() -> None:
    temperature = torch.tensor(0.1, requires_grad=True)
    info_nce(CODES, CODES, temperature=temperature).backward()  # type: ignore[arg-type, no-untyped-call]
    assert temperature.grad is not None
    assert soft_threshold(CODES, np.float32(0.5)).count_nonzero() < CODES.numel()  # type: ignore[arg-type]


@pytest.mark.parametrize("cost", [flops, l1, lambda them: l0_mask(them, 1)])
@pytest.mark.parametrize("shape", [(10,), (2, 3, 10)])
def test_activations_of_another_shape_have_no_cost(cost: Callable[[Any], object], shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"must be \(b, dimension\), found"):
        cost(torch.rand(shape))


def test_rows_that_are_fewer_are_not_compared_with_all() -> None:
    with pytest.raises(InvalidInput, match=r"needs \(b, d\) and \(b, d\), found \(1, 10\) and \(6, 10\)"):
        relative_error(CODES[:1], CODES)


def test_magnitudes_of_another_dimension_or_of_rows_do_not_meet() -> None:
    with pytest.raises(InvalidInput, match=r"found \(10,\) and \(3,\)"):
        priced(CODES, torch.rand(3))
    with pytest.raises(InvalidInput, match=r"found \(10, 10\) and \(10, 10\)"):
        pair_flops(torch.rand(10, 10), torch.rand(10, 10))


@pytest.mark.parametrize("setting", ["regularizer", "query_regularizer", "settings"])
def test_a_plan_of_what_cannot_be_called_or_named_is_refused(setting: str) -> None:
    with pytest.raises(InvalidInput, match=f"{setting} must be a"):
        Plan(steps=3, document_regularizer_weight=constant(0.1), **{setting: "flops"})  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [("bert", torch.relu), (nn.Identity(), "relu")])
def test_a_tower_of_what_cannot_be_called_is_refused(parts: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidInput, match="a backbone and an activation that can be called"):
        SparseTower(parts[0], 4, 4, activation=parts[1])
