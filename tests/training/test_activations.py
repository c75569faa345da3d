"""The activations against their formulas, their gradients, and rows that make trouble."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from sparsevec.errors import InvalidInput
from sparsevec.training.activations import Activation, JumpReLU, relu, soft_threshold, top_k, unit

Matrix = npt.NDArray[np.float64]

_values = st.one_of(st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, 1e-45, 3e38, -3e38]), st.floats(-10, 10, width=32))
_shapes = st.tuples(st.integers(1, 5), st.integers(1, 7))
rows = arrays.arrays(np.float32, _shapes, elements=_values)
"""(b, dimension) with ties, zeros, one row, one dimension, and the ends of float32"""


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_relu_keeps_what_is_positive() -> None:
    assert relu(tensor(-1, 0, 2)).tolist() == [0, 0, 2]


def test_soft_threshold_pulls_both_signs_towards_zero() -> None:
    assert soft_threshold(tensor(-2, -0.5, -0.1, 0, 0.4, 0.5, 3), 0.5).tolist() == [-1.5, 0, 0, 0, 0, 0, 2.5]


@given(rows)
def test_soft_threshold_is_its_formula(x: npt.NDArray[np.float32]) -> None:
    due = np.sign(x) * np.maximum(np.abs(x) - np.float32(0.25), 0)
    np.testing.assert_array_equal(soft_threshold(torch.from_numpy(x), 0.25).numpy(), due)


def test_top_k_keeps_the_largest_that_are_positive() -> None:
    x = tensor([3, 1, 2, -1], [-4, -1, 5, -2])
    assert top_k(x, 2).tolist() == [[3, 0, 2, 0], [0, 0, 5, 0]]


def test_top_k_keeps_no_more_than_k_of_equals() -> None:
    assert top_k(torch.ones(3, 10), 4).count_nonzero(dim=1).tolist() == [4, 4, 4]


@given(rows, st.data())
def test_top_k_keeps_the_values_that_a_sort_puts_first(x: npt.NDArray[np.float32], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, x.shape[1]))
    kept = np.sort(top_k(torch.from_numpy(x), k).numpy(), axis=1)[:, ::-1]
    due = np.maximum(np.sort(x, axis=1)[:, ::-1], 0)
    due[:, k:] = 0
    np.testing.assert_array_equal(kept, due)


def test_the_gradient_of_top_k_reaches_what_was_kept_and_nothing_else() -> None:
    x = tensor([3, 1, 2, -1]).requires_grad_()
    (top_k(x, 2) * tensor(10, 20, 30, 40)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [[10, 0, 30, 0]]


@pytest.mark.parametrize("k", [0, 5, -1])
def test_top_k_refuses_more_than_there_are_and_fewer_than_one(k: int) -> None:
    with pytest.raises(InvalidInput, match=f"1 to 4 of 4 dimensions, found {k}"):
        top_k(torch.ones(2, 4), k)


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_soft_threshold_refuses_a_threshold_that_is_none(threshold: float) -> None:
    with pytest.raises(InvalidInput, match="at least 0"):
        soft_threshold(torch.ones(2, 4), threshold)


@pytest.mark.parametrize("activation", [relu, soft_threshold, lambda x: top_k(x, 2), unit])
def test_gradients_of_activations_agree_with_finite_differences(activation: Activation) -> None:
    assert torch.autograd.gradcheck(activation, numbers(4, 5).requires_grad_())


def test_jump_relu_keeps_whole_what_exceeds_the_threshold_of_its_dimension() -> None:
    jump = JumpReLU(3, threshold=1.0).double()
    jump.log_threshold.data = tensor(1, 2, 3).log()
    assert jump(tensor([1.5, 1.5, 4], [-9, 2.5, 0])).tolist() == [[1.5, 0, 4], [0, 2.5, 0]]
    assert jump.l0(tensor([1.5, 1.5, 4], [-9, 2.5, 0])).tolist() == [2, 1]


def test_jump_relu_learns_its_thresholds_by_the_rectangle_around_them() -> None:
    """2.2 and 1.9 are within 0.25 of t = 2, from above and below, 4 is far: d/dt = -t / bandwidth for the first two."""
    jump = JumpReLU(1, threshold=2.0, bandwidth=0.5).double()
    x = tensor([2.2], [1.9], [4.0]).requires_grad_()
    (jump(x) * tensor([1], [10], [100])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1], [0], [100]]  # exact: 1 where x > t
    assert jump.log_threshold.grad is not None
    assert jump.log_threshold.grad.item() == pytest.approx(-(1 + 10) * 2 / 0.5 * 2)  # times dt / dlog t = t


def test_the_count_of_jump_relu_moves_its_thresholds_and_not_its_input() -> None:
    jump = JumpReLU(1, threshold=2.0, bandwidth=0.5).double()
    x = tensor([2.1], [1.9], [4.0]).requires_grad_()
    jump.l0(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is None
    assert jump.log_threshold.grad is not None
    assert jump.log_threshold.grad.item() == pytest.approx(-2 / 0.5 * 2.0)


def test_the_pseudo_derivative_of_the_count_is_that_of_its_expectation() -> None:
    """For x uniform in (0, 2), E H(x - t) = 1 - t / 2: its derivative is -1/2 at every t, whatever the bandwidth."""
    x = torch.linspace(0, 2, 200_001, dtype=torch.float64)[:, None]
    for bandwidth in (0.1, 0.5):
        jump = JumpReLU(1, threshold=0.8, bandwidth=bandwidth).double()
        jump.l0(x).mean().backward()  # type: ignore[no-untyped-call]
        assert jump.log_threshold.grad is not None
        assert jump.log_threshold.grad.item() / 0.8 == pytest.approx(-0.5, rel=1e-3)


def test_learning_to_pass_fewer_raises_the_thresholds_of_jump_relu() -> None:
    x, jump = numbers(2000, 4), JumpReLU(4, threshold=0.1, bandwidth=0.2).double()
    optimizer, before = torch.optim.Adam(jump.parameters(), 0.05), jump.l0(x).mean().item()
    for _ in range(100):
        optimizer.zero_grad()
        (jump.l0(x).mean() - 1).square().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert before == pytest.approx(4 * 0.46, abs=0.1)  # P(x > 0.1) = 0.46
    assert jump.l0(x).mean().item() == pytest.approx(1, abs=0.05)
    assert (jump.threshold > 0).all()


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"bandwidth": -1.0}, {"dimension": 0}, {"threshold": math.nan}])
def test_jump_relu_refuses_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=f"needs a {next(iter(wrong))} above 0"):
        JumpReLU(**{"dimension": 3, **wrong})  # type: ignore[arg-type]


@given(rows)
def test_unit_rows_have_length_one_and_zero_rows_stay_zero(x: npt.NDArray[np.float32]) -> None:
    silent = np.abs(x).max(axis=1) < np.finfo(np.float32).tiny
    lengths = np.linalg.norm(unit(torch.from_numpy(x)).numpy().astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, np.where(silent, 0, 1), rtol=1e-6)


@given(rows)
def test_the_gradient_of_unit_rows_is_finite(x: npt.NDArray[np.float32]) -> None:
    leaf = torch.from_numpy(x).requires_grad_()
    unit(leaf).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_activations_keep_the_dtype(dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, -2.0, 300.0]], dtype=dtype)
    activations: list[Activation] = [relu, soft_threshold, lambda x: top_k(x, 2), JumpReLU(3), JumpReLU(3).l0, unit]
    assert {activation(x).dtype for activation in activations} == {dtype}
