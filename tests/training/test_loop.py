"""`train`: what a step does to the weights, what it says of itself, and when it stops."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sparsevec as sv
from sparsevec.errors import InvalidInput, TrainingCollapsed
from sparsevec.measure.cost import flops as counted
from sparsevec.progress import Progress
from sparsevec.training import (
    BudgetController,
    Objective,
    Plan,
    SparseTower,
    TrainStep,
    constant,
    flops,
    l1,
    quadratic_ramp,
    top_k,
    train,
    triplet,
)
from sparsevec.vectors import SparseVectors
from tests.training.worker import DIMENSION, WIDTH, Task, rows, weights

BATCHES = [rows(32, seed) for seed in range(4)]
CONTROLLER = BudgetController(sv.Budget(nnz=4), weight=0.1, ramp=10)


def tower(**settings: Any) -> SparseTower:
    torch.manual_seed(0)
    return SparseTower(nn.Sequential(nn.Linear(WIDTH, 24), nn.ReLU()), 24, DIMENSION, **settings)


def trained(
    it: SparseTower,
    loss: Callable[[Tensor, Tensor], Tensor] = lambda codes, labels: triplet(codes, labels, margin=0.2),
    batches: Iterable[Any] = BATCHES,
    rate: float = 1e-2,
    **settings: Any,
) -> list[TrainStep]:
    def objective(batch: tuple[Tensor, Tensor]) -> Objective:
        codes = it(batch[0])
        return Objective(loss(codes, batch[1]), codes)

    settings = {"steps": 40, "document_regularizer_weight": constant(0.0), **settings}
    return list(train(it, batches, objective, torch.optim.Adam(it.parameters(), lr=rate), Plan(**settings)))


def test_its_steps_are_those_of_the_loop_one_writes_by_hand() -> None:
    ours, by_hand = tower(), tower()
    trained(ours, document_regularizer_weight=quadratic_ramp(2.0, 20), clip=0.5)

    optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-2)
    for step in range(40):
        inputs, labels = BATCHES[step % 4]
        codes = by_hand(inputs)
        optimizer.zero_grad()
        total = triplet(codes, labels, margin=0.2) + 2.0 * min(1, step / 20) ** 2 * flops(codes)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
    assert weights(ours) == weights(by_hand)


def test_a_step_says_what_the_batch_came_to() -> None:
    it = tower()
    codes = it(BATCHES[0][0]).detach()
    (step,) = trained(it, steps=1, document_regularizer_weight=constant(0.5))
    vectors = SparseVectors.from_torch(codes)
    pairs = [counted(vectors[[i]], vectors[[j]]) for i in range(32) for j in range(32) if i != j]
    assert (step.step, step.steps, step.epoch, step.document_weight, step.query_weight) == (1, 1, 0, 0.5, 0)
    assert step.loss == pytest.approx(float(triplet(codes, BATCHES[0][1], margin=0.2)))
    assert step.regularizer == pytest.approx(float(flops(codes)))
    assert step.nnz == step.query_nnz == vectors.nnz / 32
    assert step.empty == 0
    assert step.flops == pytest.approx(np.mean(pairs))
    assert step.spread == pytest.approx(step.flops * DIMENSION / step.nnz**2)
    assert all(type(number) is float for number in step.figures.values())


def test_a_step_is_a_progress_event_like_any_other() -> None:
    heard: list[Progress] = list(trained(tower(), steps=4))
    assert [(event.stage, event.fraction) for event in heard] == [("training", i / 4) for i in range(1, 5)]
    assert str(heard[1]) == heard[1].text
    assert heard[1].text.startswith("2/4: loss ")
    assert 0 < heard[0].seconds < heard[3].seconds


def test_a_step_says_how_many_documents_are_lost() -> None:
    it = tower()
    nn.init.constant_(it.head.bias, -0.4)
    codes = it(BATCHES[0][0])
    (step,) = trained(it, steps=1)
    assert step.empty == float((codes == 0).all(dim=1).sum()) / 32
    assert 0 < step.empty < 1


def test_queries_have_their_own_tower_weight_and_figures() -> None:
    towers = nn.ModuleList([tower(), tower(activation=lambda x: top_k(x, 20))])
    queries, documents = (it(BATCHES[0][0]).detach() for it in towers)

    def objective(batch: tuple[Tensor, Tensor]) -> Objective:
        sides = towers[0](batch[0]), towers[1](batch[0])
        return Objective((sides[0] - sides[1]).square().sum(dim=1).mean(), sides[1], sides[0])

    plan = Plan(
        steps=1,
        document_regularizer_weight=constant(0.1),
        query_regularizer_weight=constant(0.3),
        query_regularizer=l1,
    )
    (step,) = train(towers, BATCHES, objective, torch.optim.SGD(towers.parameters(), lr=0.1), plan)
    assert (step.document_weight, step.query_weight) == (0.1, 0.3)
    assert step.query_regularizer == pytest.approx(float(l1(queries)))
    assert step.regularizer == pytest.approx(float(flops(documents)))
    assert step.flops == pytest.approx(counted(SparseVectors.from_torch(queries), SparseVectors.from_torch(documents)))
    assert (step.nnz, step.query_nnz) == (float((documents != 0).sum() / 32), float((queries != 0).sum() / 32))


def test_a_controller_hears_what_was_seen_and_meets_the_budget() -> None:
    controller = BudgetController(sv.Budget(nnz=4), weight=0.1, ramp=200)
    steps = trained(tower(), steps=400, document_regularizer_weight=controller)
    assert np.mean([step.nnz for step in steps[-50:]]) == pytest.approx(4, rel=0.15)


def test_the_scheduler_moves_once_a_step() -> None:
    task = Task(steps=20)
    moved = [task.scheduler.get_last_lr() for _ in task.steps()]
    again = Task(steps=20)
    for _ in range(20):
        again.optimizer.step()
        again.scheduler.step()
    assert len(moved) == 20
    assert moved[-1] == again.scheduler.get_last_lr()


def test_the_seed_alone_decides_and_nobody_elses_random_numbers_are_touched() -> None:
    first, second, other = Task(), Task(), Task()
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    due = torch.rand(()), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    steps = list(first.steps())
    assert (torch.rand(()), np.random.rand(), random.random()) == due
    assert [step.figures for step in second.steps()] == [step.figures for step in steps]
    other.plan = dataclasses.replace(other.plan, seed=4)
    assert [step.figures for step in other.steps()] != [step.figures for step in steps]
    assert [step.epoch for step in steps[:11]] == [0] * 5 + [1] * 5 + [2]


def test_in_threads_side_by_side_each_training_draws_as_it_would_alone() -> None:
    tasks = [Task() for _ in range(4)]
    alone, outside = list(tasks[0].steps()), torch.get_rng_state()
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda task: list(task.steps()), tasks[1:]))
    assert [[step.figures for step in steps] for steps in found] == 3 * [[step.figures for step in alone]]
    assert torch.equal(torch.get_rng_state(), outside)


# ---- half precision


def test_in_bfloat16_the_backbone_is_coarse_and_the_loss_and_the_regularizer_are_not() -> None:
    seen = []

    def watched(codes: Tensor) -> Tensor:
        seen.append((codes.dtype, torch.is_autocast_enabled("cpu")))
        return flops(codes)

    fine, coarse = tower(), tower()
    coarse.backbone.register_forward_hook(lambda *told: seen.append((told[2].dtype, True)))
    due = trained(fine, steps=200, document_regularizer_weight=quadratic_ramp(1.0, 100))
    found = trained(
        coarse,
        steps=200,
        document_regularizer_weight=quadratic_ramp(1.0, 100),
        regularizer=watched,
        precision="bfloat16",
    )
    assert set(seen) == {(torch.bfloat16, True), (torch.float32, False)}
    assert {parameter.dtype for parameter in coarse.parameters()} == {torch.float32}
    assert found[0].loss == pytest.approx(due[0].loss, abs=2**-7)
    assert found[-1].nnz == pytest.approx(due[-1].nnz, rel=0.3)


class Overflow(torch.autograd.Function):
    """The identity, with a gradient that float16 cannot hold while the scale is above 1024."""

    @staticmethod
    def forward(_: Any, codes: Tensor) -> Tensor:
        return codes.clone()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return torch.where(gradients[0].abs().max() > 1, torch.inf, gradients[0])


def overflowing(codes: Tensor, labels: Tensor) -> Tensor:
    kept: Tensor = Overflow.apply(codes)
    return triplet(kept, labels, margin=0.2)


def test_in_float16_a_step_that_overflows_is_left_out_and_the_next_is_scaled_less() -> None:
    it = tower()
    before = weights(it)
    steps = trained(it, overflowing, steps=1, precision="float16")
    assert not np.isfinite(steps[0].gradient)
    assert weights(it) == before
    steps = trained(it, overflowing, steps=30, precision="float16")
    assert np.isfinite(steps[-1].gradient)
    assert weights(it) != before


def test_in_float16_a_gradient_that_no_scale_helps_stops_the_training() -> None:
    it = tower()
    before = weights(it)
    with pytest.raises(TrainingCollapsed, match="step 18 of 40: the gradient is nan"):
        trained(it, lambda codes, _: (codes * 0).sum().sqrt(), precision="float16")
    assert weights(it) == before


# ---- collapse


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_it_before_the_weights_hear_of_it(number: float) -> None:
    it = tower()
    trained(it, steps=3)
    before = weights(it)
    with pytest.raises(TrainingCollapsed, match=f"step 1 of 40: the loss is {number}, the weights are as they were"):
        trained(it, lambda codes, _: codes.sum() * number)
    assert weights(it) == before


def test_so_does_a_gradient_that_is_no_number() -> None:
    it = tower()
    before = weights(it)
    with pytest.raises(TrainingCollapsed, match="step 1 of 40: the gradient is nan"):
        trained(it, lambda codes, _: (codes * 0).sum().sqrt())
    assert weights(it) == before


def test_codes_that_are_all_zero_stop_it_early() -> None:
    it = tower()
    nn.init.constant_(it.head.bias, -100)
    with pytest.raises(TrainingCollapsed, match=r"step 20 of 40: all zero: .* lower the regularizer's weight"):
        trained(it, lambda codes, _: codes.sum())


def test_codes_that_stay_dense_stop_it_once_it_should_have_settled_when_an_nnz_was_expected() -> None:
    it = tower()
    nn.init.constant_(it.head.bias, 3)
    assert len(trained(it)) == 40
    with pytest.raises(TrainingCollapsed, match=r"step 30 of 40: all dense: .* 4 were asked for"):
        trained(it, expected_nnz=4, settled=30)


def test_documents_that_all_have_the_same_dimensions_stop_it_in_the_middle() -> None:
    it = tower(activation=lambda x: top_k(x, 5))
    nn.init.zeros_(it.head.weight)
    nn.init.normal_(it.head.bias)
    with pytest.raises(TrainingCollapsed, match=r"step 20 of 40: few dimensions do everything: .* the same 5 of 64"):
        trained(it, rate=1e-9)


# ---- what is refused


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 0}, "steps must be"),
        ({"steps": 1.5}, "steps must be"),
        ({"seed": -1}, "seed must be"),
        ({"settled": -1}, "settled must be"),
        ({"precision": "float8"}, "one of float32, bfloat16, float16, found 'float8'"),
        ({"clip": 0.0}, "clip must be"),
        ({"clip": float("nan")}, "clip must be"),
        ({"clip": "1"}, "clip must be"),
        ({"expected_nnz": -3}, "expected_nnz must be"),
        ({"document_regularizer_weight": 0.1}, r"must be a schedule, such as constant\(0.1\) .* found 0.1"),
        ({"document_regularizer_weight": None}, "must be a schedule.*found None"),
        ({"query_regularizer_weight": 0.1}, "must be a schedule"),
        (dict.fromkeys(("document_regularizer_weight", "query_regularizer_weight"), CONTROLLER), "each its own"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        Plan(**{"steps": 10, "document_regularizer_weight": constant(0.1), **settings})


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "no batch came"),
        (iter([]), "no batch came"),
        (iter(BATCHES), "ended after one pass and cannot be gone through again"),
    ],
)
def test_batches_that_are_none_or_run_out_are_refused(batches: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        trained(tower(), batches=batches)


def test_a_sampler_is_told_each_epoch() -> None:
    told = []

    class Epochs(list[Any]):
        def set_epoch(self, epoch: int) -> None:
            told.append(epoch)

    trained(tower(), batches=Epochs(BATCHES), steps=9)
    assert told == [0, 1, 2]


def test_a_generator_that_lasts_is_enough() -> None:
    assert len(trained(tower(), batches=(BATCHES[i % 4] for i in range(40)))) == 40


LINEAR = nn.Linear(WIDTH, DIMENSION)


@pytest.mark.parametrize(
    ("objective", "settings", "says"),
    [
        (lambda x: Objective(LINEAR(x).mean(dim=0), LINEAR(x)), {}, r"one number .* found shape \(64,\)"),
        (lambda x: Objective(LINEAR(x).detach().mean(), LINEAR(x)), {}, "requires_grad=False"),
        (lambda x: Objective(LINEAR(x).mean(), LINEAR(x)[0]), {}, r"must be \(b, dimension\), .* found \(64,\)"),
        (lambda x: Objective(LINEAR(x).mean(), LINEAR(x), LINEAR(x)[:, 1:]), {}, r"\(32, 64\) and \(32, 63\)"),
        (lambda x: LINEAR(x).mean(), {}, r"must give Objective\(loss, documents\) .* found Tensor"),
        (lambda _: None, {}, "must give Objective.* found NoneType"),
        (lambda x: Objective(1.0, LINEAR(x)), {}, "loss must be a tensor, found float"),  # type: ignore[arg-type]
        (lambda x: Objective(LINEAR(x).mean(), None), {}, "or TopK, found NoneType"),  # type: ignore[arg-type]
        (lambda x: Objective(x.clone().requires_grad_().mean(), LINEAR(x).detach()), {}, "nothing that the optimizer"),
        (lambda x: Objective(LINEAR(x).mean(), LINEAR(x)[:1]), {}, "at least 2 documents, found 1"),
        (
            lambda x: Objective(LINEAR(x).mean(), LINEAR(x)),
            {"query_regularizer_weight": constant(1.0)},
            "gives no queries",
        ),
    ],
)
def test_an_objective_that_gives_something_else_is_refused(
    objective: Callable[[Tensor], Objective], settings: dict[str, Any], says: str
) -> None:
    plan = Plan(steps=2, document_regularizer_weight=constant(0.1), **settings)
    before = weights(LINEAR)
    with pytest.raises(InvalidInput, match=says):
        list(train(LINEAR, [BATCHES[0][0]], objective, torch.optim.SGD(LINEAR.parameters(), lr=1.0), plan))
    assert weights(LINEAR) == before


def test_activations_that_change_their_dimension_are_refused() -> None:
    sizes = iter([64, 63])

    def objective(inputs: Tensor) -> Objective:
        codes = LINEAR(inputs)[:, : next(sizes)]
        return Objective(codes.mean(), codes)

    plan = Plan(steps=2, document_regularizer_weight=constant(0.1))
    with pytest.raises(InvalidInput, match="had dimension 64, now they have 63"):
        list(train(LINEAR, [BATCHES[0][0]], objective, torch.optim.SGD(LINEAR.parameters(), lr=0.0), plan))


def test_an_optimizer_that_moves_what_the_model_does_not_hold_is_refused() -> None:
    task = Task()
    task.model = nn.ModuleList([task.tower])
    with pytest.raises(InvalidInput, match=r"of shapes \[\(6, 64\)\] that `model` does not hold"):
        next(task.steps())


def test_what_steps_by_more_than_being_told_to_is_refused_before_the_first_step() -> None:
    it = tower()
    adam, plan = torch.optim.Adam(it.parameters()), Plan(steps=1, document_regularizer_weight=constant(0.0))
    objective = lambda batch: Objective(it(batch[0]).sum(), it(batch[0]))  # noqa: E731
    with pytest.raises(InvalidInput, match="each step of LBFGS needs a closure"):
        next(train(it, BATCHES, objective, torch.optim.LBFGS(it.parameters()), plan))
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(adam)
    with pytest.raises(InvalidInput, match="such as LambdaLR"):
        next(train(it, BATCHES, objective, adam, plan, scheduler=plateau))


@pytest.mark.parametrize("wrong", ["model", "batches", "objective", "optimizer", "plan", "scheduler"])
def test_what_is_no_part_of_a_training_is_named_before_the_first_step(wrong: str) -> None:
    it = tower()
    adam, plan = torch.optim.Adam(it.parameters()), Plan(steps=1, document_regularizer_weight=constant(0.0))
    given: dict[str, Any] = {"model": it, "batches": BATCHES, "objective": it, "optimizer": adam, "plan": plan}
    with pytest.raises(InvalidInput, match=f"expected {wrong}, .*found 5"):
        next(train(**(given | {wrong: 5})))


def test_labels_that_do_not_fit_the_batch_are_refused() -> None:
    with pytest.raises(InvalidInput, match="labels must be"):
        trained(tower(), batches=[(BATCHES[0][0], BATCHES[0][1][:-1])])


def test_a_backbone_of_another_width_is_refused_with_both_widths() -> None:
    it = SparseTower(nn.Linear(WIDTH, 24), 25, DIMENSION)
    with pytest.raises(InvalidInput, match=r"must give \(b, 25\).*found shape \(32, 24\)"):
        trained(it)
