"""The regularisers and losses against their formulas, finite differences and expectations in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sparsevec.encoder.codes import column_sums, dot_products, linear_top_k
from sparsevec.encoder.refining import DocumentCodes, candidate_scores
from sparsevec.training.losses import listwise_kl, relative_error
from sparsevec.training.regularizers import flops, flops_unbiased, pair_flops


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_flops_is_the_sum_of_squared_mean_magnitudes() -> None:
    a = numbers(5, 3)
    assert flops(a).item() == pytest.approx(sum(np.abs(a.numpy()[:, j]).mean() ** 2 for j in range(3)))


def test_flops_sees_signed_weights_that_cancel_in_the_mean() -> None:
    assert flops(torch.tensor([[1.0], [-1.0]])).item() == 1


def test_unbiased_flops_is_the_mean_over_pairs_of_different_rows() -> None:
    a = numbers(4, 6)
    magnitudes = a.abs().numpy()
    pairs = [magnitudes[i] @ magnitudes[j] for i in range(4) for j in range(4) if i != j]
    assert flops_unbiased(a).item() == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("b", [2, 5, 50])
def test_unbiased_flops_has_the_expectation_of_the_population_at_every_batch_size(b: int) -> None:
    """a_ij uniform in (0, 1), d = 3: F~ = 3 / 4, and the plug-in estimate is too high by 3 Var / b = 3 / (12 b)."""
    batches = torch.rand(20_000, b, 3, generator=torch.Generator().manual_seed(b), dtype=torch.float64)
    unbiased = torch.stack([flops_unbiased(batch) for batch in batches[:4000]])
    plug_in = torch.stack([flops(batch) for batch in batches[:4000]])
    error = 4 * unbiased.std().item() / 4000**0.5
    assert unbiased.mean().item() == pytest.approx(0.75, abs=error)
    assert plug_in.mean().item() == pytest.approx(0.75 + 3 / (12 * b), abs=error)


def test_pair_flops_of_one_population_is_flops() -> None:
    a = numbers(7, 5)
    magnitude = a.abs().mean(dim=0)
    assert pair_flops(magnitude, magnitude).item() == pytest.approx(flops(a).item())


@pytest.mark.parametrize("regularizer", [flops, flops_unbiased])
def test_gradients_of_regularizers_agree_with_finite_differences(regularizer: Callable[[Tensor], Tensor]) -> None:
    assert torch.autograd.gradcheck(regularizer, numbers(4, 3).requires_grad_())


def test_listwise_kl_is_zero_for_equal_scores_and_positive_otherwise() -> None:
    scores = numbers(3, 8)
    torch.testing.assert_close(listwise_kl(scores, scores + 5), torch.zeros(3, dtype=torch.float64))
    assert (listwise_kl(scores, numbers(3, 8, seed=1)) > 0).all()


def test_listwise_kl_is_its_formula() -> None:
    teacher, student = numbers(2, 4), numbers(2, 4, seed=1)
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    torch.testing.assert_close(listwise_kl(teacher, student), (p * (p / q).log()).sum(dim=1))


def test_relative_error_of_zeros_is_one() -> None:
    rows = numbers(3, 4)
    assert relative_error(torch.zeros_like(rows), rows).item() == pytest.approx(1)


def test_the_sparse_gradient_of_a_linear_top_k_is_the_dense_one() -> None:
    rows, weights, bias = numbers(6, 5).float(), numbers(20, 5, seed=1).float(), numbers(20, seed=2).float()
    target = numbers(6, 20, seed=3).float()
    ours = [weights.clone().requires_grad_(), bias.clone().requires_grad_()]
    values, indices = linear_top_k(rows, ours[0], ours[1], 4)
    (torch.zeros(6, 20).scatter(1, indices, values) * target).sum().backward()  # type: ignore[no-untyped-call]
    dense = [weights.clone().requires_grad_(), bias.clone().requires_grad_()]
    kept = torch.zeros(6, 20).scatter(1, indices, 1.0)
    ((rows @ dense[0].T + dense[1]).relu() * kept * target).sum().backward()  # type: ignore[no-untyped-call]
    for mine, due in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine.grad, due.grad)


def test_candidate_scores_and_their_gradients_are_the_dense_ones() -> None:
    values, indices = numbers(3, 4).abs().float(), torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7], [0, 2, 4, 6]])
    weights, dimensions = numbers(5, 2, seed=1).float(), torch.tensor([[0, 1], [2, 4], [3, 7], [5, 6], [1, 6]])
    candidates = torch.tensor([[0, 1, 4], [2, 2, 3], [4, 0, 1]])
    ours = [values.clone().requires_grad_(), weights.clone().requires_grad_()]
    scores = candidate_scores((ours[0], indices), DocumentCodes(ours[1], dimensions), candidates, 8)
    scores.square().sum().backward()  # type: ignore[no-untyped-call]
    dense = [values.clone().requires_grad_(), weights.clone().requires_grad_()]
    corpus = torch.zeros(5, 8).scatter(1, dimensions, dense[1].relu())
    due = torch.einsum("bd,bmd->bm", torch.zeros(3, 8).scatter(1, indices, dense[0]), corpus[candidates])
    due.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(scores, due)
    for mine, other in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_sparse_dot_products_and_their_gradients_are_the_dense_ones() -> None:
    values, others = numbers(3, 2).float(), numbers(4, 3, seed=1).float()
    indices, dimensions = (
        torch.tensor([[0, 1], [2, 5], [4, 3]]),
        torch.tensor([[0, 1, 2], [3, 4, 5], [5, 2, 0], [1, 3, 4]]),
    )
    ours = [values.clone().requires_grad_(), others.clone().requires_grad_()]
    products = dot_products((ours[0], indices), (ours[1], dimensions), 6)
    products.square().sum().backward()  # type: ignore[no-untyped-call]
    dense = [values.clone().requires_grad_(), others.clone().requires_grad_()]
    due = torch.zeros(3, 6).scatter(1, indices, dense[0]) @ torch.zeros(4, 6).scatter(1, dimensions, dense[1]).T
    due.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(products, due)
    for mine, other in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_column_sums_add_over_the_batch() -> None:
    values, indices = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0, 2], [2, 3]])
    assert column_sums(values, indices, 5).tolist() == [1, 0, 5, 4, 0]
