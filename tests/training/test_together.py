"""Two processes train one model: the steps are those of one process with the joined batch."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsevec.training import gather
from tests.training.worker import Pairs, begin, one_is_short, one_turns_nan, pairs, together

TOLERANCE = 1e-11
"""20 steps of sums over 24 rows and 64 dimensions, rounded to 2**-53 each, come to 20 · 24 · 64 · 1.1e-16 = 3e-12 if
all err alike."""


def two(run: Callable[..., None], meeting: Path, *arguments: Any) -> list[Any]:
    """Begin `run` in two processes that meet, and return both with where to hear from them."""
    return [begin(together, run, place, meeting, *arguments) for place in range(2)]


def heard(out: Connection, n: int) -> list[Any]:
    return [out.recv() for _ in range(n)]


@pytest.fixture
def alone() -> tuple[list[Any], dict[str, torch.Tensor]]:
    """The steps and the weights of one process with the joined batches."""
    task = Pairs(0, 1)
    return list(task.steps()), task.model.state_dict()


def test_two_processes_make_the_steps_of_one_with_the_joined_batch(
    alone: tuple[list[Any], dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    begun = two(pairs, tmp_path / "meeting", None)
    for process, out in begun:
        *steps, weights = heard(out, 21)
        process.join()
        for name, due in alone[1].items():
            np.testing.assert_allclose(weights[name], due.numpy(), rtol=0, atol=TOLERANCE, err_msg=name)
        for step, same in zip(steps, alone[0], strict=True):
            assert step.figures == pytest.approx(same.figures, rel=TOLERANCE)
            assert (step.step, step.epoch) == (same.step, same.epoch)


def test_two_processes_that_are_killed_go_on_to_the_same_bits(tmp_path: Path) -> None:
    (first, out), (second, _) = two(pairs, tmp_path / "meeting", None)
    due = heard(out, 21)[-1]
    first.join(), second.join()

    begun = two(pairs, tmp_path / "killed", tmp_path / "checkpoint")
    heard(begun[0][1], 8)
    for process, _ in begun:
        process.kill()
        process.join()
    for process, out in two(pairs, tmp_path / "again", tmp_path / "checkpoint"):
        *steps, weights = heard_all(out)
        process.join()
        assert [step.step for step in steps] == list(range(steps[0].step, 21))
        assert steps[0].step in (7, 10)
        assert all(np.array_equal(weights[name], due[name]) for name in due)


def heard_all(out: Connection) -> list[Any]:
    said = [out.recv()]
    while not isinstance(said[-1], dict):
        said.append(out.recv())
    return said


@pytest.mark.parametrize(
    ("run", "raised", "says"),
    [
        (one_turns_nan, "TrainingCollapsed", "stopped at step 3 of 20: the loss is nan"),
        (one_is_short, "InvalidInput", r"same shape, found (12, 64), (11, 64)"),
    ],
)
def test_what_goes_wrong_in_one_process_is_raised_in_both(
    run: Callable[..., None], raised: str, says: str, tmp_path: Path
) -> None:
    for process, out in two(run, tmp_path / "meeting"):
        kind, message = out.recv()
        process.join()
        assert kind == raised
        assert says in message


def test_a_process_alone_gathers_what_it_has() -> None:
    rows = torch.randn(3, 4)
    assert gather(rows) is rows
