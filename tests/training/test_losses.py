"""The losses against their formulas written out, finite differences, and batches that make trouble."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsevec.errors import InvalidInput
from sparsevec.training.activations import unit
from sparsevec.training.losses import ArcFace, info_nce, listwise_kl, margin_mse, relative_error, triplet

Matrix = npt.NDArray[np.float64]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def brute_force_triplet(codes: Matrix, labels: npt.NDArray[np.int64], margin: float) -> float:
    """Each anchor with each positive: the nearest negative beyond the positive, or else the farthest negative."""
    distances = np.square(codes[:, None] - codes).sum(axis=2)
    terms = []
    for a in range(len(labels)):
        negatives = sorted(distances[a, n] for n in range(len(labels)) if labels[n] != labels[a])
        for p in range(len(labels)):
            if p != a and labels[p] == labels[a]:
                beyond = [distance for distance in negatives if distance > distances[a, p]]
                terms.append(max(0.0, distances[a, p] - (beyond or negatives[-1:])[0] + margin))
    return float(np.mean(terms))


@st.composite
def classified(draw: st.DrawFn) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Points on a grid, so that distances are exact and often equal, some of them twice; at least one pair and two."""
    b = draw(st.integers(3, 9))
    labels = [0, 0, 1, *draw(st.lists(st.integers(0, 3), min_size=b - 3, max_size=b - 3))]
    points = draw(st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=b, max_size=b))
    return np.array(points, np.float64), np.array(labels)


@given(classified(), st.sampled_from([0.0, 0.125, 1.0, 4.0]))
def test_triplet_is_the_loop_over_all_anchors_and_positives(
    batch: tuple[Matrix, npt.NDArray[np.int64]], margin: float
) -> None:
    codes, labels = batch
    loss = triplet(torch.from_numpy(codes), torch.from_numpy(labels), margin=margin)
    assert loss.item() == pytest.approx(brute_force_triplet(codes, labels, margin), rel=1e-12, abs=1e-12)


def test_triplet_agrees_with_the_loop_on_unit_vectors() -> None:
    codes, labels = unit(numbers(40, 6).relu()), np.random.default_rng(0).integers(0, 7, 40)
    due = brute_force_triplet(codes.numpy(), labels, 0.1)
    assert triplet(codes, torch.from_numpy(labels), margin=0.1).item() == pytest.approx(due, rel=1e-9)


def test_triplet_takes_the_nearest_negative_that_is_beyond_the_positive() -> None:
    """From 0: the positive at 1, negatives at 0.5 (too near), 1.1 and 3. From 1: the positive at 1, a negative at 2.

    Squared: anchor 0 adds 1 - 1.21 + 0.5, anchor 1 adds 1 - 4 + 0.5 < 0; the negatives have no positives.
    """
    codes, labels = (
        torch.tensor([[0.0], [1.0], [0.5], [1.1], [3.0]], dtype=torch.float64),
        torch.tensor([0, 0, 1, 2, 3]),
    )
    assert triplet(codes, labels, margin=0.5).item() == pytest.approx((1 - 1.21 + 0.5) / 2)


def test_triplet_takes_the_farthest_negative_when_none_is_beyond_the_positive() -> None:
    """Both anchors, 0 and 3, have the negatives 1 and 2: the farthest is 2 away, 9 - 4 + 0.5 each."""
    codes, labels = torch.tensor([[0.0], [3.0], [1.0], [2.0]], dtype=torch.float64), torch.tensor([0, 0, 1, 2])
    assert triplet(codes, labels, margin=0.5).item() == pytest.approx(5.5)


def test_the_gradient_of_triplet_agrees_with_finite_differences() -> None:
    labels = torch.tensor([0, 1, 0, 1, 2, 2, 0])
    assert torch.autograd.gradcheck(
        lambda codes: triplet(unit(codes), labels, margin=0.3), numbers(7, 4).requires_grad_()
    )


def test_triplet_of_equal_rows_is_the_margin_and_its_gradient_is_finite() -> None:
    codes = torch.ones(4, 3).requires_grad_()
    loss = triplet(codes, torch.tensor([0, 0, 1, 1]), margin=0.25)
    backward(loss)
    assert loss.item() == 0.25
    assert codes.grad is not None
    assert codes.grad.isfinite().all()


def test_triplet_says_that_a_batch_has_no_two_rows_of_one_label() -> None:
    with pytest.raises(InvalidInput, match=r"two rows of one label, found 3 rows of 3 labels: draw several"):
        triplet(numbers(3, 2), torch.tensor([4, 5, 6]), margin=0.1)


def test_triplet_says_that_a_batch_has_only_one_label() -> None:
    with pytest.raises(InvalidInput, match=r"found 3 rows that all have the label 4: draw several classes"):
        triplet(numbers(3, 2), torch.tensor([4, 4, 4]), margin=0.1)


def arc_face(dimension: int = 5, classes: int = 4, *, scale: float = 8.0, margin: float = 0.5) -> ArcFace:
    loss = ArcFace(dimension, classes, scale=scale, margin=margin).double()
    loss.directions.data = numbers(classes, dimension, seed=9)
    return loss


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_arc_face_is_the_cross_entropy_of_angles_with_a_margin(margin: float) -> None:
    loss, codes, labels = arc_face(margin=margin), numbers(6, 5), torch.tensor([0, 1, 2, 3, 1, 1])
    directions, terms = loss.directions.detach().numpy(), []
    for code, label in zip(codes.numpy(), labels.tolist(), strict=True):
        cosines = directions @ code / np.linalg.norm(directions, axis=1) / np.linalg.norm(code)
        angles = np.arccos(cosines)
        assert angles[label] + margin < math.pi
        angles[label] += margin
        logits = 8.0 * np.cos(angles)
        terms.append(np.log(np.exp(logits).sum()) - logits[label])
    assert loss(codes, labels).item() == pytest.approx(np.mean(terms), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("sign", "due"), [(1.0, math.cos(0.5)), (-1.0, -1 - 0.5 * math.sin(0.5))])
def test_arc_face_at_cosines_of_one_is_its_formula_with_a_finite_gradient(
    dtype: torch.dtype, sign: float, due: float
) -> None:
    """Two classes along the axes, a code along the first: logits scale · due against 0."""
    loss = ArcFace(2, 2, scale=2.0, margin=0.5).to(dtype)
    loss.directions.data = torch.eye(2, dtype=dtype)
    codes = torch.tensor([[sign, 0.0]], dtype=dtype).requires_grad_()
    value = loss(codes, torch.tensor([0]))
    backward(value)
    assert value.item() == pytest.approx(math.log1p(math.exp(-2 * due)), rel=1e-6)
    assert codes.grad is not None
    assert codes.grad.isfinite().all()
    assert loss.directions.grad is not None
    assert loss.directions.grad.isfinite().all()


def test_the_loss_of_arc_face_rises_with_the_angle_all_the_way_round() -> None:
    loss = ArcFace(2, 2, scale=4.0, margin=0.5).double()
    loss.directions.data = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)  # the other logit is always 0
    angles = torch.linspace(0, math.pi, 200, dtype=torch.float64)
    codes = torch.stack([angles.cos(), angles.sin()], dim=1)
    losses = torch.stack([loss(code[None], torch.tensor([0])) for code in codes])
    assert (losses.diff() > 0).all()


def test_gradients_of_arc_face_agree_with_finite_differences() -> None:
    loss, labels = arc_face(), torch.tensor([0, 3, 3])
    assert torch.autograd.gradcheck(
        lambda codes, _: loss(codes, labels), (numbers(3, 5).requires_grad_(), loss.directions)
    )


@pytest.mark.parametrize("labels", [[0, 4], [-1, 2]])
def test_arc_face_says_which_labels_it_takes(labels: list[int]) -> None:
    with pytest.raises(InvalidInput, match=rf"in \[0, 4\), found {min(labels)} to {max(labels)}: number the classes"):
        arc_face()(numbers(2, 5), torch.tensor(labels))


def test_arc_face_says_which_dimension_it_takes() -> None:
    with pytest.raises(InvalidInput, match="takes codes of dimension 5, found 6"):
        arc_face()(numbers(2, 6), torch.tensor([0, 1]))


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"margin": 3.2}, {"margin": -0.1}, {"scale": math.inf}])
def test_arc_face_refuses_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=f"needs a {next(iter(wrong))}"):
        arc_face(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.tensor([0, 1]), r"\(3,\), one for each row of codes, found \(2,\)"),
        (torch.zeros(3, 4, dtype=torch.long), r"found \(3, 4\): give the class of each row as a number"),
        (torch.tensor([0.0, 1.0, 1.0]), r"must be integers, found torch.float32: number the classes"),
        (torch.tensor([True, False, True]), r"must be integers, found torch.bool"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels: Tensor, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        triplet(numbers(3, 5), labels, margin=0.1)
    with pytest.raises(InvalidInput, match=words):
        arc_face()(numbers(3, 5), labels)


def test_codes_of_no_row_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"at least one row, found \(0, 5\)"):
        arc_face()(torch.empty(0, 5), torch.empty(0, dtype=torch.long))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_may_be_integers_of_any_width(dtype: torch.dtype) -> None:
    codes, labels = numbers(4, 5), torch.tensor([0, 1, 1, 0])
    for loss in (arc_face(), lambda codes, labels: triplet(codes, labels, margin=0.1)):
        assert loss(codes, labels.to(dtype)).item() == loss(codes, labels).item()


def test_info_nce_is_minus_the_log_share_of_the_right_document() -> None:
    queries, documents = numbers(4, 3), numbers(4, 3, seed=1)
    scores = np.exp(queries.numpy() @ documents.numpy().T / 0.2)
    due = np.mean([-math.log(scores[i, i] / scores[i].sum()) for i in range(4)])
    assert info_nce(queries, documents, temperature=0.2).item() == pytest.approx(due, rel=1e-12)


def test_gradients_of_info_nce_agree_with_finite_differences() -> None:
    pairs = numbers(4, 3).requires_grad_(), numbers(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda queries, documents: info_nce(queries, documents, temperature=0.5), pairs)


def test_info_nce_of_a_batch_of_one_costs_nothing() -> None:
    assert info_nce(numbers(1, 3), numbers(1, 3, seed=1), temperature=0.1).item() == 0


def test_info_nce_of_zero_rows_knows_nothing() -> None:
    assert info_nce(torch.zeros(8, 3), torch.zeros(8, 3), temperature=0.1).item() == pytest.approx(math.log(8))


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (0, 2)])
def test_info_nce_needs_a_document_for_each_query(shape: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match=r"a document for each query.*found \(\d, 2\) and"):
        info_nce(torch.ones(shape[0] and 2, 2), torch.ones(*shape), temperature=0.1)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_info_nce_needs_a_temperature_above_zero(temperature: float) -> None:
    with pytest.raises(InvalidInput, match="temperature"):
        info_nce(torch.ones(2, 2), torch.ones(2, 2), temperature=temperature)


def test_margin_mse_is_the_mean_square_of_the_difference_of_leads() -> None:
    teacher, student = numbers(3, 4).numpy(), numbers(3, 4, seed=1).numpy()
    leads = [[scores[i, 0] - scores[i, j] for i in range(3) for j in range(1, 4)] for scores in (teacher, student)]
    due = np.mean([(t - s) ** 2 for t, s in zip(*leads, strict=True)])
    assert margin_mse(torch.from_numpy(teacher), torch.from_numpy(student)).item() == pytest.approx(due, rel=1e-12)


def test_margin_mse_does_not_mind_another_level_of_the_scores() -> None:
    assert margin_mse(numbers(3, 4), numbers(3, 4) + 5).item() == pytest.approx(0, abs=1e-24)


def test_the_gradient_of_margin_mse_agrees_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(
        lambda scores: margin_mse(numbers(3, 4), scores), numbers(3, 4, seed=1).requires_grad_()
    )


@pytest.mark.parametrize(("teacher", "student"), [((3, 4), (3, 5)), ((3, 1), (3, 1)), ((4,), (4,)), ((0, 2), (0, 2))])
def test_margin_mse_needs_the_same_two_scores_or_more_of_each_query(
    teacher: tuple[int, ...], student: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidInput, match="teacher and student alike, at least two a query"):
        margin_mse(torch.ones(teacher), torch.ones(student))


def test_losses_are_as_exact_under_bfloat16_as_without() -> None:
    """Under autocast a plain product has 8 bits; a margin of 0.1 and a scale of 64 would drown in that."""
    codes, labels, face = unit(numbers(8, 16).float()), torch.tensor([0, 1] * 4), ArcFace(16, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = triplet(codes, labels, margin=0.1), face(codes, labels), info_nce(codes, codes, temperature=0.05)
    outside = triplet(codes, labels, margin=0.1), face(codes, labels), info_nce(codes, codes, temperature=0.05)
    assert [loss.item() for loss in inside] == [loss.item() for loss in outside]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_take_every_dtype(dtype: torch.dtype) -> None:
    codes, labels = unit(numbers(8, 16)).to(dtype), torch.tensor([0, 1] * 4)
    losses = triplet(codes, labels, margin=0.1), ArcFace(16, 2)(codes, labels), info_nce(codes, codes, temperature=0.05)
    assert all(loss.isfinite() for loss in losses)


def test_listwise_kl_is_zero_for_equal_scores_and_positive_otherwise() -> None:
    scores = numbers(3, 8)
    torch.testing.assert_close(listwise_kl(scores, scores + 5), torch.zeros(3, dtype=torch.float64))
    assert (listwise_kl(scores, numbers(3, 8, seed=1)) > 0).all()


def test_listwise_kl_is_its_formula() -> None:
    teacher, student = numbers(2, 4), numbers(2, 4, seed=1)
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    torch.testing.assert_close(listwise_kl(teacher, student), (p * (p / q).log()).sum(dim=1))


def test_the_gradient_of_listwise_kl_agrees_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(
        lambda scores: listwise_kl(numbers(3, 4), scores), numbers(3, 4, seed=1).requires_grad_()
    )


@pytest.mark.parametrize(("teacher", "student"), [((3, 4), (1, 4)), ((3, 4), (3, 1)), ((4,), (4,))])
def test_listwise_kl_needs_the_same_scores_of_each_query(teacher: tuple[int, ...], student: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="teacher and student alike"):
        listwise_kl(torch.ones(teacher), torch.ones(student))


@pytest.mark.parametrize("labels", [[0, 1], np.array([0, 1]), ["a", "b"], None])
def test_labels_that_are_no_tensor_are_refused(labels: Any) -> None:
    for loss in (partial(triplet, margin=0.1), ArcFace(3, 2)):
        with pytest.raises(InvalidInput, match="labels must be a tensor of integers, found"):
            loss(numbers(2, 3), labels)


def test_relative_error_of_zeros_is_one() -> None:
    rows = numbers(3, 4)
    assert relative_error(torch.zeros_like(rows), rows).item() == pytest.approx(1)


def test_equal_documents_of_a_batch_are_no_negatives_of_one_another() -> None:
    codes = torch.nn.functional.normalize(torch.rand(6, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    twice = codes.clone()
    twice[3] = twice[1]
    ids = torch.tensor([0, 1, 2, 1, 4, 5])
    found = info_nce(twice, twice, temperature=0.1, document_ids=ids)
    scores = twice @ twice.T / 0.1
    others = [[j for j in range(6) if j == i or ids[j] != ids[i]] for i in range(6)]
    due = torch.stack([scores[i, others[i]].logsumexp(0) - scores[i, i] for i in range(6)]).mean()
    torch.testing.assert_close(found, due)
    assert found < info_nce(twice, twice, temperature=0.1)


def test_distinct_ids_change_nothing_and_their_gradients_are_finite() -> None:
    codes = torch.rand(5, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert info_nce(codes, codes, temperature=0.1, document_ids=torch.arange(5)) == info_nce(
        codes, codes, temperature=0.1
    )
    info_nce(codes, codes, temperature=0.1, document_ids=torch.zeros(5, dtype=torch.long)).backward()  # type: ignore[no-untyped-call]
    assert codes.grad is not None
    assert codes.grad.isfinite().all()


@pytest.mark.parametrize("ids", [torch.arange(4), torch.rand(5), torch.zeros(5, 1, dtype=torch.long)])
def test_ids_that_do_not_name_each_document_are_refused(ids: torch.Tensor) -> None:
    with pytest.raises(InvalidInput, match="labels must be"):
        info_nce(torch.rand(5, 8), torch.rand(5, 8), temperature=0.1, document_ids=ids)
