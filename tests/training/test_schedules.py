"""Schedules: the curve that was asked for, a controller that meets its budget, and state that goes on exactly."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsevec import Budget
from sparsevec.errors import InvalidInput
from sparsevec.training.activations import relu, unit
from sparsevec.training.regularizers import flops
from sparsevec.training.schedules import BudgetController, Evenness, Schedule, Seen, constant, quadratic_ramp


def test_constant_is_the_same_at_every_step() -> None:
    assert [constant(0.3).weight(step) for step in (0, 1, 10**9)] == [0.3, 0.3, 0.3]


def test_a_quadratic_ramp_rises_with_the_square_and_then_stays() -> None:
    assert [quadratic_ramp(8.0, 4).weight(step) for step in range(7)] == [0, 0.5, 2, 4.5, 8, 8, 8]


def test_a_ramp_without_steps_is_constant() -> None:
    assert quadratic_ramp(2.0, 0) == constant(2.0)


@pytest.mark.parametrize("schedule", [constant(1.0), quadratic_ramp(1.0, 5)])
def test_what_a_step_measured_does_not_change_a_pure_schedule(schedule: Schedule) -> None:
    before = [schedule.weight(step) for step in range(9)]
    schedule.saw(Seen(100.0, 20.0))
    schedule.load_state_dict(schedule.state_dict())
    assert [schedule.weight(step) for step in range(9)] == before


def controller(budget: Budget = Budget(nnz=8), *, weight: float = 0.1, ramp: int = 100) -> BudgetController:  # noqa: B008
    return BudgetController(budget, weight=weight, ramp=ramp)


def test_all_of_them_are_schedules() -> None:
    assert all(isinstance(schedule, Schedule) for schedule in (constant(1), quadratic_ramp(1, 2), controller()))


class Training:
    """A linear head of 128 dimensions on Gaussians of 16, asked to keep their cosines, with ReLU and unit length."""

    def __init__(self, schedule: Schedule, *, seed: int = 0) -> None:
        self.schedule, self.generator, self.step = schedule, torch.Generator().manual_seed(seed), 0
        self.weights, self.bias = (0.25 * self.draw(128, 16)).requires_grad_(), torch.zeros(128, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.weights, self.bias], lr=3e-3)

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    def __call__(self, steps: int) -> tuple[float, float]:
        """Mean nnz and F over the last tenth of `steps`."""
        measured = [self.one_step() for _ in range(steps)]
        nnz, f = np.mean(measured[-steps // 10 :], axis=0).tolist()
        return nnz, f

    def one_step(self) -> tuple[float, float]:
        rows = self.draw(128, 16)
        codes, cosines = unit(relu(rows @ self.weights.T + self.bias)), unit(rows) @ unit(rows).T
        loss = 10 * (codes @ codes.T - cosines).square().mean()
        self.optimizer.zero_grad()
        (loss + self.schedule.weight(self.step) * flops(codes)).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        counts = (codes > 0).sum(dim=0).double()
        nnz, f = counts.sum().item() / 128, (counts * (counts - 1)).sum().item() / (128 * 127)
        self.schedule.saw(Seen(nnz, f))
        self.step += 1
        return nnz, f


@pytest.mark.parametrize("weight", [0.01, 1.0])
def test_the_controller_finds_the_weight_for_so_many_non_zeros(weight: float) -> None:
    nnz, _ = Training(controller(Budget(nnz=16), weight=weight, ramp=400))(1600)
    assert nnz == pytest.approx(16, rel=0.05)


def test_the_controller_finds_the_weight_for_so_many_multiplications() -> None:
    _, f = Training(controller(Budget(flops=1.5), weight=0.1, ramp=400))(1600)
    assert f == pytest.approx(1.5, rel=0.05)


def test_of_two_limits_the_harder_one_is_met_and_the_other_is_not_exceeded() -> None:
    nnz, f = Training(controller(Budget(nnz=16, flops=1.0), weight=0.1, ramp=400))(1600)
    assert f == pytest.approx(1.0, rel=0.05)
    assert nnz < 16


def test_the_aim_falls_slowly_so_that_nothing_dies_at_once() -> None:
    """Half way down the ramp the codes are half way down, in proportions, from the 64 of 128 that a Gaussian gives."""
    training = Training(controller(Budget(nnz=16), weight=0.1, ramp=400))
    training(200)
    nnz, _ = training.one_step()
    assert nnz == pytest.approx(math.sqrt(64 * 16), rel=0.15)


def test_a_training_that_was_interrupted_goes_on_with_the_same_weights() -> None:
    whole, first, second = controller(), controller(), controller()
    seen = np.random.default_rng(0).uniform(4, 40, 60).tolist()
    for nnz in seen:
        whole.saw(Seen(nnz, nnz**2 / 100))
    for nnz in seen[:30]:
        first.saw(Seen(nnz, nnz**2 / 100))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for nnz in seen[30:]:
        second.saw(Seen(nnz, nnz**2 / 100))
    assert second.weight(60) == whole.weight(60)
    assert second.state_dict() == whole.state_dict()


def test_the_state_that_was_given_out_does_not_change_afterwards() -> None:
    schedule = controller()
    before = schedule.state_dict()
    schedule.saw(Seen(100, 1))
    assert before == controller().state_dict()


def test_the_repr_states_the_settings_and_not_the_state() -> None:
    schedule = controller(Budget(nnz=8), weight=0.1, ramp=100)
    schedule.saw(Seen(100, 1))
    assert repr(schedule) == "BudgetController(Budget(nnz=8), weight=0.1, ramp=100)"


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=300), st.integers(1, 50))
def test_whatever_is_measured_the_weight_stays_a_positive_number(seen: list[tuple[float, float]], ramp: int) -> None:
    schedule = controller(Budget(nnz=8, flops=0.5), weight=1.0, ramp=ramp)
    for nnz, f in seen:
        schedule.saw(Seen(nnz, f))
    assert 1e-6 * math.exp(-2.51) <= schedule.weight(len(seen)) <= 1e6 * math.exp(2.51)


def test_codes_that_died_bring_the_weight_down_and_recover_it() -> None:
    schedule = controller(weight=1.0, ramp=10)
    for _ in range(100):
        schedule.saw(Seen(0.0, 0.0))
    dead = schedule.weight(100)
    for _ in range(100):
        schedule.saw(Seen(80.0, 1.0))
    assert dead < 1e-5
    assert schedule.weight(200) > 1


def test_within_the_budget_from_the_start_the_weight_falls() -> None:
    schedule = controller(Budget(nnz=8), weight=1.0)
    for _ in range(50):
        schedule.saw(Seen(4.0, 0.1))
    assert schedule.weight(50) < 0.1


@pytest.mark.parametrize(("nnz", "f"), [(math.nan, 1.0), (1.0, math.inf), (-1.0, 1.0)])
def test_measurements_that_are_no_counts_are_refused(nnz: float, f: float) -> None:
    with pytest.raises(InvalidInput, match="finite and at least 0, found"):
        controller().saw(Seen(nnz, f))


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_controller_must_start_above_zero(weight: float) -> None:
    with pytest.raises(InvalidInput, match="must start above 0"):
        controller(weight=weight)


def test_a_controller_needs_a_ramp() -> None:
    with pytest.raises(InvalidInput, match="at least 1 step, found 0"):
        controller(ramp=0)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_weight_is_finite_and_not_negative(weight: float) -> None:
    with pytest.raises(InvalidInput, match="at least 0, found"):
        constant(weight)


def test_a_ramp_does_not_go_backwards() -> None:
    with pytest.raises(InvalidInput, match="steps of at least 0, found -1"):
        quadratic_ramp(1.0, -1)


def test_the_state_of_another_kind_of_schedule_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"has nothing, found .*'seen'.*another kind"):
        constant(1.0).load_state_dict(controller().state_dict())
    with pytest.raises(InvalidInput, match=r"found \[\]: it belongs to a schedule of another kind"):
        controller().load_state_dict(constant(1.0).state_dict())


# ---- evenness


def seen(documents: list[float], queries: list[float] | None = None) -> Seen:
    shares = np.array(documents), np.array(documents if queries is None else queries)
    return Seen(float(shares[0].sum()), float(shares[0] @ shares[1]), *shares)


def test_evenness_raises_the_weight_by_its_rule_while_dimensions_are_used_unevenly() -> None:
    evenness = Evenness(1.25, weight=10.0, gain=0.5)
    evenness.saw(seen([1.0, 0.5, 0.5, 0.0]))  # R_sub = 4 · 1.5 / 2^2 = 1.5
    assert evenness.weight(1) == pytest.approx(10 * (1.5 / 1.25) ** 0.5)
    even = Evenness(1.25, weight=10.0, gain=0.5)
    even.saw(seen([0.5, 0.5, 0.5, 0.5]))
    assert even.weight(1) == pytest.approx(10 * (1 / 1.25) ** 0.5)


def test_evenness_looks_at_shares_smoothed_over_steps_not_at_one_batch() -> None:
    """Queries and documents that meet within each batch, but not across batches, are even in the long run."""
    batch_alone, smoothed = (Evenness(1.0, weight=10.0, smoothing=share, gain=0.1) for share in (1.0, 0.1))
    for step in range(100):
        for evenness in (batch_alone, smoothed):
            evenness.saw(seen(np.eye(4)[step % 4].tolist()))  # each batch alone has R_sub 4
    assert batch_alone.weight(100) == 300
    assert smoothed.weight(100) < 60


def test_evenness_stays_within_its_bounds_and_goes_on_from_its_state() -> None:
    whole, first = Evenness(1.0, weight=2.0, gain=1.0, most=50), Evenness(1.0, weight=2.0, gain=1.0, most=50)
    for schedule in (whole, first):
        schedule.saw(seen([1.0, 0.0, 0.0, 0.0]))
    second = Evenness(1.0, weight=2.0, gain=1.0, most=50)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for schedule in (whole, second):
        schedule.saw(seen([0.0, 1.0, 0.5, 0.0]))
    assert second.state_dict() == whole.state_dict()
    for _ in range(20):
        whole.saw(seen([1.0, 0.0, 0.0, 0.0]))
    assert whole.weight(0) == 50
    assert repr(whole) == "Evenness(1.0, weight=2.0, smoothing=0.03, gain=1.0, least=1.0, most=50)"
    assert isinstance(whole, Schedule)


def test_empty_codes_leave_the_weight_alone() -> None:
    evenness = Evenness(1.0, weight=2.0)
    evenness.saw(seen([0.0, 0.0]))
    assert evenness.weight(1) == 2.0


@pytest.mark.parametrize(
    "settings", [{"spread": 0.0}, {"weight": 0.0}, {"least": 0.0}, {"least": 9.0, "most": 2.0}, {"smoothing": 0.0}]
)
def test_settings_of_evenness_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="found"):
        Evenness(**{"spread": 1.0, "weight": 2.0, **settings})


def test_evenness_needs_to_see_the_shares() -> None:
    with pytest.raises(InvalidInput, match="shares of documents and queries"):
        Evenness(1.0, weight=2.0).saw(Seen(3.0, 1.0))
