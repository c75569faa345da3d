"""The regularisers against their formulas, finite differences and expectations in closed form; the sparse kernels."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from sparsevec.encoder.learning import codes
from sparsevec.encoder.learning.codes import _meetings, dot_products, largest, linear_top_k
from sparsevec.encoder.learning.refining import candidate_scores
from sparsevec.errors import InvalidInput
from sparsevec.training.codes import DenseCodes, TopK, column_sums
from sparsevec.training.regularizers import (
    Regularizer,
    df_flops,
    flops,
    flops_unbiased,
    l0_mask,
    l1,
    pair_flops,
    priced,
)

Matrix = npt.NDArray[np.float64]

_values = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), st.floats(-2, 2), st.floats(-1e100, 1e100))
_shapes = st.tuples(st.integers(1, 5), st.integers(1, 6))
activations = arrays.arrays(np.float64, _shapes, elements=_values)
"""(b, dimension) of any length: signed, with ties, zeros, one row, one dimension and huge values"""


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_magnitudes(a: Matrix) -> list[float]:
    return [sum(abs(a[i, j]) for i in range(len(a))) / len(a) for j in range(a.shape[1])]


@given(activations)
def test_flops_is_the_sum_of_squared_mean_magnitudes(a: Matrix) -> None:
    due = sum(mean**2 for mean in mean_magnitudes(a))
    assert flops(torch.from_numpy(a)).item() == pytest.approx(due, rel=1e-12)


@given(activations.filter(lambda a: len(a) > 1))
def test_unbiased_flops_is_the_mean_over_pairs_of_different_rows(a: Matrix) -> None:
    pairs = [abs(a[i]) @ abs(a[j]) for i, j in itertools.permutations(range(len(a)), 2)]
    rounding = 1e-14 * float(np.square(np.abs(a).sum(axis=0)).sum())  # of the two sums whose difference it is
    assert flops_unbiased(torch.from_numpy(a)).item() == pytest.approx(np.mean(pairs), rel=1e-12, abs=rounding)


@given(activations)
def test_l1_is_the_mean_over_rows_of_summed_magnitudes(a: Matrix) -> None:
    due = sum(abs(a[i, j]) for i in range(a.shape[0]) for j in range(a.shape[1])) / len(a)
    assert l1(torch.from_numpy(a)).item() == pytest.approx(due, rel=1e-12)


@given(activations, st.integers(0, 6))
def test_l0_mask_is_flops_of_the_rows_that_are_too_long(a: Matrix, most: int) -> None:
    means = [sum(abs(row[j]) for row in a if np.count_nonzero(row) > most) / len(a) for j in range(a.shape[1])]
    due = sum(mean**2 for mean in means)
    assert l0_mask(torch.from_numpy(a), most).item() == pytest.approx(due, rel=1e-12)


def test_l0_mask_gives_rows_that_are_sparse_enough_no_gradient() -> None:
    a = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 3.0]]).requires_grad_()
    l0_mask(a, 2).backward()  # type: ignore[no-untyped-call]
    assert a.grad is not None
    assert a.grad.tolist() == [[0, 0, 0], [0.5, 1, 1.5]]  # of (a / 2)^2: a / 2


def commonness(share: float, alpha: float, beta: float) -> float:
    return 1 / (1 + math.pow(math.pow(share, math.log(2, alpha)) - 1, beta))


@given(activations, st.floats(0.01, 0.9), st.floats(0.5, 20), st.data())
def test_df_flops_is_its_formula(a: Matrix, alpha: float, beta: float, data: st.DataObject) -> None:
    shares = data.draw(st.lists(st.floats(0.01, 0.99), min_size=a.shape[1], max_size=a.shape[1]))
    due = sum(commonness(x, alpha, beta) * mean**2 for x, mean in zip(shares, mean_magnitudes(a), strict=True))
    loss = df_flops(torch.from_numpy(a), torch.tensor(shares, dtype=torch.float64), alpha=alpha, beta=beta)
    assert loss.item() == pytest.approx(due, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 10.0), (0.5, 1.0), (0.01, 0.5), (0.9, 20.0)])
def test_df_flops_weighs_nothing_half_and_whole_at_none_alpha_and_all(
    alpha: float, beta: float, dtype: torch.dtype
) -> None:
    one = torch.ones(1, 3, dtype=dtype)
    weights = [
        df_flops(one * torch.eye(3, dtype=dtype)[j], torch.tensor([0, alpha, 1]), alpha=alpha, beta=beta).item()
        for j in range(3)
    ]
    assert weights == [0, pytest.approx(0.5, rel=1e-4), 1]


@given(st.floats(0.01, 0.99), st.floats(0.1, 50), st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_df_flops_weighs_common_dimensions_no_less_than_rare_ones(
    alpha: float, beta: float, shares: list[float]
) -> None:
    """Also within rounding of 0 and 1, where the power is infinite or its base a little below zero."""
    frequencies = torch.tensor([*sorted(shares), 1 - 2**-53], dtype=torch.float64)
    weights = [df_flops(row[None], frequencies, alpha=alpha, beta=beta).item() for row in torch.eye(len(frequencies))]
    assert all(0 <= weight <= 1 for weight in weights)
    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(weights))


def test_df_flops_of_dimensions_that_all_documents_use_is_flops() -> None:
    a = numbers(4, 3)
    assert df_flops(a, torch.ones(3), alpha=0.1, beta=10).item() == flops(a).item()


_frequencies = torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64)
_df_flops: Regularizer = partial(df_flops, document_frequency=_frequencies, alpha=0.1, beta=2)
_l0_mask: Regularizer = partial(l0_mask, most=2)
_all = pytest.mark.parametrize("regularizer", [flops, flops_unbiased, l1, _df_flops, _l0_mask])


@_all
def test_gradients_of_regularizers_agree_with_finite_differences(regularizer: Regularizer) -> None:
    assert torch.autograd.gradcheck(regularizer, numbers(4, 3).requires_grad_())


@_all
def test_regularizers_see_signed_weights_that_cancel_in_the_mean(regularizer: Regularizer) -> None:
    a = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    assert regularizer(a).item() == regularizer(a.abs()).item() > 0


@_all
def test_regularizers_of_nothing_are_nothing_and_push_nowhere(regularizer: Regularizer) -> None:
    a = torch.zeros(4, 3).requires_grad_()
    loss = regularizer(a)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert a.grad is not None
    assert not a.grad.any()


@_all
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_regularizers_of_half_precision_are_summed_in_float32(regularizer: Regularizer, dtype: torch.dtype) -> None:
    """2^-10 squared is below half of the least float16, and a sum of thousands is beyond the 8 bits of bfloat16."""
    a = torch.full((512, 3), 2.0**-13, dtype=dtype)
    assert regularizer(a).dtype == torch.float32
    assert regularizer(a).item() == pytest.approx(regularizer(a.double()).item(), rel=1e-5)


def every_batch(population: Tensor, b: int) -> list[Tensor]:
    """All the batches of b independent draws from the rows of `population`, each as likely as another."""
    return [population[list(rows)] for rows in itertools.product(range(len(population)), repeat=b)]


@pytest.mark.parametrize("b", [2, 3, 5])
def test_the_plug_in_estimate_is_too_high_by_the_variance_over_b_and_the_unbiased_one_is_right(b: int) -> None:
    """Over all the 4^b batches of a population of 4 rows, so exact but for rounding: 4^b sums of at most 20 numbers."""
    population = numbers(4, 3)
    magnitudes = population.abs()
    truth, bias = flops(population).item(), magnitudes.var(dim=0, correction=0).sum().item() / b
    batches = every_batch(population, b)
    plug_in = math.fsum(flops(batch).item() for batch in batches) / len(batches)
    unbiased = math.fsum(flops_unbiased(batch).item() for batch in batches) / len(batches)
    rounding = 20 * 2**-53 * float((b * magnitudes.amax(dim=0)).square().sum())
    assert bias > 0.05 * truth  # so that neither would pass for the other
    assert plug_in == pytest.approx(truth + bias, rel=0, abs=rounding)
    assert unbiased == pytest.approx(truth, rel=0, abs=rounding)


@pytest.mark.parametrize("b", [2, 3])
def test_pair_flops_of_independent_batches_has_no_bias(b: int) -> None:
    queries, documents = numbers(3, 4).abs(), numbers(3, 4, seed=1).abs()
    pairs = itertools.product(every_batch(queries, b), every_batch(documents, b))
    costs = [pair_flops(q.mean(dim=0), d.mean(dim=0)).item() for q, d in pairs]
    due = pair_flops(queries.mean(dim=0), documents.mean(dim=0)).item()
    assert math.fsum(costs) / len(costs) == pytest.approx(due, rel=1e-13)


def test_pair_flops_of_one_population_is_flops() -> None:
    a = numbers(7, 5)
    magnitude = a.abs().mean(dim=0)
    assert pair_flops(magnitude, magnitude).item() == pytest.approx(flops(a).item())


@pytest.mark.parametrize("b", [0, 1])
def test_unbiased_flops_refuses_a_batch_without_two_rows(b: int) -> None:
    with pytest.raises(InvalidInput, match=f"expected at least 2, found {b}: drop the last batch"):
        flops_unbiased(torch.ones(b, 3))


def test_l0_mask_refuses_fewer_than_none() -> None:
    with pytest.raises(InvalidInput, match="at least 0, found -1"):
        l0_mask(torch.ones(2, 3), -1)


@pytest.mark.parametrize(
    ("frequencies", "words"),
    [
        ([0.1, 0.2], r"must be \(3,\), one share for each dimension of the activations, found \(2,\)"),
        ([1.0, 20.0, 3.0], r"found 1 to 20: divide the counts by the number of documents"),
        ([0.5, -0.5, 0.5], r"shares in \[0, 1\], found -0.5"),
        ([0.5, math.nan, 0.5], r"shares in \[0, 1\], found nan"),
    ],
)
def test_df_flops_says_which_frequencies_it_takes(frequencies: list[float], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        df_flops(torch.ones(2, 3), torch.tensor(frequencies), alpha=0.1, beta=10)


@pytest.mark.parametrize(("alpha", "beta"), [(0, 1), (1, 1), (1.5, 1), (0.1, 0), (0.1, math.inf), (math.nan, 1)])
def test_df_flops_refuses_settings_that_cannot_be(alpha: float, beta: float) -> None:
    with pytest.raises(InvalidInput, match=r"alpha in \(0, 1\) and beta above 0"):
        df_flops(torch.ones(2, 3), torch.ones(3), alpha=alpha, beta=beta)


def test_the_sparse_gradient_of_a_linear_top_k_is_the_dense_one() -> None:
    rows, weights, bias = numbers(6, 5).float(), numbers(20, 5, seed=1).float(), numbers(20, seed=2).float()
    target = numbers(6, 20, seed=3).float()
    ours = [weights.clone().requires_grad_(), bias.clone().requires_grad_()]
    found = linear_top_k(rows, ours[0], ours[1], 4)
    (found.dense() * target).sum().backward()  # type: ignore[no-untyped-call]
    dense = [weights.clone().requires_grad_(), bias.clone().requires_grad_()]
    kept = torch.zeros(6, 20).scatter(1, found.indices, 1.0)
    ((rows @ dense[0].T + dense[1]).relu() * kept * target).sum().backward()  # type: ignore[no-untyped-call]
    for mine, due in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine.grad, due.grad)


def test_candidate_scores_and_their_gradients_are_the_dense_ones() -> None:
    values, indices = numbers(3, 4).abs().float(), torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7], [0, 2, 4, 6]])
    weights, dimensions = numbers(5, 2, seed=1).float(), torch.tensor([[0, 1], [2, 4], [3, 7], [5, 6], [1, 6]])
    candidates = torch.tensor([[0, 1, 4], [2, 2, 3], [4, 0, 1]])
    ours = [values.clone().requires_grad_(), weights.clone().requires_grad_()]
    scores = candidate_scores(TopK(ours[0], indices, 8), ours[1], dimensions, candidates)
    scores.square().sum().backward()  # type: ignore[no-untyped-call]
    dense = [values.clone().requires_grad_(), weights.clone().requires_grad_()]
    corpus = torch.zeros(5, 8).scatter(1, dimensions, dense[1].relu())
    due = torch.einsum("bd,bmd->bm", torch.zeros(3, 8).scatter(1, indices, dense[0]), corpus[candidates])
    due.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(scores, due)
    for mine, other in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("apart", [1, 1000], ids=["multiplied whole", "by the weights that meet"])
def test_dot_products_and_their_gradients_are_the_dense_ones(apart: int) -> None:
    values, others = numbers(3, 2).float(), numbers(4, 3, seed=1).float()
    indices = apart * torch.tensor([[0, 1], [2, 5], [4, 3]])
    dimensions = apart * torch.tensor([[0, 1, 2], [3, 4, 5], [5, 2, 0], [1, 3, 4]])
    dimension = 6 * apart
    assert (_meetings(indices, dimensions, dimension) is None) == (apart == 1)
    ours = [values.clone().requires_grad_(), others.clone().requires_grad_()]
    products = dot_products(TopK(ours[0], indices, dimension), TopK(ours[1], dimensions, dimension))
    products.square().sum().backward()  # type: ignore[no-untyped-call]
    dense = [values.clone().requires_grad_(), others.clone().requires_grad_()]
    whole = torch.zeros(3, dimension).scatter(1, indices, dense[0])
    due = whole @ torch.zeros(4, dimension).scatter(1, dimensions, dense[1]).T
    due.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(products, due)
    for mine, other in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_codes_that_never_meet_have_products_of_zero() -> None:
    queries, documents = (
        TopK(torch.ones(2, 1), torch.tensor([[0], [1]]), 9000),
        TopK(torch.ones(3, 1), torch.tensor([[2], [3], [4]]), 9000),
    )
    assert dot_products(queries, documents).tolist() == [[0.0] * 3] * 2


@given(
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    st.sampled_from([1, 7, 64, 96, 1000, 1024]),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.5, 1000.0]),
    st.integers(0, 2**16),
    st.data(),
)
def test_the_largest_activations_are_kept_of_any_width_with_ties_and_nan(
    dtype: torch.dtype, dimension: int, b: int, steps: float, seed: int, data: st.DataObject
) -> None:
    """Also by compiled loops, which look at float32 and bfloat16 where they are many for each that is kept."""
    z = numbers(b, dimension, seed=seed).to(dtype)
    z = (z * steps).round() if steps else torch.zeros_like(z)  # few different numbers, many, or one
    z[torch.rand(b, dimension, generator=torch.Generator().manual_seed(seed)) < 0.01] = math.nan
    if data.draw(st.booleans()):
        z = z.copysign(numbers(b, dimension, seed=seed + 1).to(dtype))  # NaN has a sign, too
    k = data.draw(st.integers(1, dimension) | st.integers(1, max(1, dimension // 8)))
    values, indices = largest(z, k)
    due = z.topk(k, dim=1).values
    torch.testing.assert_close(values.sort(dim=1, descending=True).values, due, equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(z.gather(1, indices), values, equal_nan=True, rtol=0, atol=0)
    assert all(len(set(row)) == k for row in indices.tolist())


def test_where_most_activations_are_equal_no_more_are_held_than_there_are() -> None:
    z = torch.ones(50, 4096)
    z[:, :3] = torch.tensor([3.0, 2.0, 4.0])
    values, indices = largest(z, 8)
    assert values.sort(dim=1, descending=True).values.tolist() == [[4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]] * 50
    assert all(len(set(row)) == 8 for row in indices.tolist())


def test_where_bfloat16_is_fast_what_is_kept_is_among_the_largest_but_for_its_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codes, "_multiplies_bfloat16", lambda: True)
    rows, weights, bias = (numbers(*shape).float() for shape in ((6, 40), (500, 40), (500,)))
    kept = linear_top_k(rows, weights, bias, 16)
    z = torch.addmm(bias, rows, weights.T)
    off = 2.0**-7 * (z.abs().max() + (rows.abs() @ weights.abs().T).max())
    assert kept.values.dtype == torch.float32
    torch.testing.assert_close(kept.values, z.gather(1, kept.indices), rtol=0, atol=float(off))
    assert (kept.values.amin(dim=1) >= z.topk(16, dim=1).values.amin(dim=1) - off).all()
    assert linear_top_k(rows.double(), weights.double(), bias.double(), 16).values.dtype == torch.float64


def test_column_sums_add_over_the_batch() -> None:
    values, indices = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0, 2], [2, 3]])
    assert column_sums(values, indices, 5).tolist() == [1, 0, 5, 4, 0]


def top_k_codes(b: int = 5, k: int = 3, dimension: int = 9) -> TopK:
    indices = torch.stack([torch.randperm(dimension, generator=torch.Generator().manual_seed(i))[:k] for i in range(b)])
    values = numbers(b, k).clone()
    values[0], values[1, 0] = 0, 0
    return TopK(values.requires_grad_(), indices, dimension)


@pytest.mark.parametrize(
    "regularizer",
    [
        flops,
        flops_unbiased,
        l1,
        partial(l0_mask, most=2),
        partial(df_flops, document_frequency=torch.linspace(0, 1, 9), alpha=0.3, beta=2.0),
        partial(priced, prices=torch.linspace(0, 2, 9, dtype=torch.float64)),
    ],
)
def test_top_k_codes_cost_and_teach_what_the_same_dense_codes_do(regularizer: Regularizer) -> None:
    codes = top_k_codes()
    sparse = codes.regularized(regularizer)
    (mine,) = torch.autograd.grad(sparse, codes.values)
    dense = regularizer(codes.dense())
    (due,) = torch.autograd.grad(dense, codes.values)
    torch.testing.assert_close(sparse, dense)
    torch.testing.assert_close(mine, due)


def test_top_k_codes_are_counted_as_the_same_dense_codes_are() -> None:
    codes = top_k_codes()
    dense = DenseCodes(codes.dense())
    assert (len(codes), codes.empty(), codes.usage().tolist()) == (len(dense), dense.empty(), dense.usage().tolist())
    torch.testing.assert_close(codes.magnitudes(), dense.magnitudes())
    assert codes.empty() == pytest.approx(0.2)
