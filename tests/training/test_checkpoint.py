"""A training that is killed goes on to the same bits; what is not its own whole checkpoint is never loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from sparsevec.errors import CheckpointMismatch, InvalidInput, ModelBroken, StorageFailed
from sparsevec.training import ArcFace, SparseTower, constant, df_flops, quadratic_ramp
from tests.training.worker import DIMENSION, STEPS, WIDTH, Task, alone, begin, weights


def finished(task: Task, **arguments: Any) -> bytes:
    for _ in task.steps(**arguments):
        pass
    return weights(task.model)


def kill(checkpoint: Path, precision: str, chance: Random) -> None:
    """Begin or go on, and kill -9 the process a few milliseconds after one of its steps, or before any."""
    process, out = begin(alone, checkpoint, precision)
    with suppress(EOFError):  # it came to its end first
        for _ in range(chance.randint(0, 25)):
            out.recv()
    time.sleep(chance.uniform(0, 0.01))  # a random moment, nothing is waited for
    process.kill()
    process.join()


def finish(checkpoint: Path, precision: str) -> tuple[list[int], bytes]:
    process, out = begin(alone, checkpoint, precision)
    said: list[Any] = [out.recv()]
    while not isinstance(said[-1], bytes):
        said.append(out.recv())
    process.join()
    return said[:-1], said[-1]


def check_a_training(folder: Path, precision: str, seed: int) -> None:
    """Shuffled batches, dropout, a scheduler and a controller; killed three times, and gone on after each."""
    _, due = finish(folder / "whole", precision)
    chance = Random(seed)
    for _ in range(3):
        kill(folder / "killed", precision, chance)
    assert finish(folder / "killed", precision)[1] == due
    assert finish(folder / "killed", precision) == ([], due)


@pytest.mark.parametrize(("precision", "seed"), [("float32", 0), ("float16", 1)])
def test_a_training_that_is_killed_goes_on_to_the_same_bits(precision: str, seed: int, tmp_path: Path) -> None:
    check_a_training(tmp_path, precision, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 40))
def test_thirty_trainings_that_are_killed_go_on_to_the_same_bits(seed: int, tmp_path: Path) -> None:
    check_a_training(tmp_path, "float32", seed)


def test_a_checkpoint_changes_nothing_about_the_training(tmp_path: Path) -> None:
    assert finished(Task()) == finished(Task(), checkpoint=tmp_path / "checkpoint", every=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_the_weights_after_the_last_step_are_kept(tmp_path: Path) -> None:
    due = finished(Task(), checkpoint=tmp_path / "checkpoint", every=1000)
    again = Task()
    assert list(again.steps(tmp_path / "checkpoint")) == []
    assert weights(again.model) == due


def random_batches() -> Iterator[Any]:
    """Batches that a generator draws, without end."""
    while True:
        labels = torch.from_numpy(np.random.randint(6, size=16))
        yield torch.randn(16, WIDTH) + labels[:, None], labels


class Epochs:
    """Batches in an order of their own, as a sampler for several processes has it."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.epoch)
        for _ in range(5):
            labels = torch.randint(6, (16,), generator=generator)
            yield torch.randn(16, WIDTH, generator=generator) + labels[:, None], labels


def with_its_own_generator() -> Any:
    data = list(zip(torch.randn(100, WIDTH), torch.arange(100) % 6, strict=True))
    return torch.utils.data.DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(9))  # type: ignore[arg-type]


def stopped(task: Task, step: int, checkpoint: Path) -> Task:
    for found in task.steps(checkpoint, every=1):
        if found.step == step:
            break
    return task


@pytest.mark.parametrize("batches", [random_batches, Epochs, with_its_own_generator])
@pytest.mark.parametrize("step", [1, 5, 6, 17])
def test_streams_that_draw_are_found_again(batches: Callable[[], Any], step: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole, begun, again = Task(), Task(), Task()
    sources = [batches()] * 3 if batches is with_its_own_generator else [batches() for _ in range(3)]
    whole.batches, begun.batches, again.batches = sources
    due = finished(whole)
    stopped(begun, step, tmp_path / "checkpoint")
    assert finished(again, checkpoint=tmp_path / "checkpoint") == due


# ---- what is refused


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoints") / "checkpoint"
    stopped(Task(), 10, path)
    return path.read_bytes()


def refused(content: bytes, path: Path) -> str:
    """What is said of a file with this content; the weights are as they were."""
    path.write_bytes(content)
    task = Task()
    before = weights(task.model)
    with pytest.raises(ModelBroken) as raised:
        next(task.steps(path))
    assert weights(task.model) == before
    assert path.read_bytes() == content
    return str(raised.value)


reuse = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)


@reuse
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_refused(checkpoint: bytes, share: float, tmp_path: Path) -> None:
    assert "remove it to train from the start" in refused(checkpoint[: int(share * len(checkpoint))], tmp_path / "cut")


@reuse
@given(share=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_file_with_a_changed_byte_is_refused(checkpoint: bytes, share: float, flip: int, tmp_path: Path) -> None:
    content = bytearray(checkpoint)
    content[int(share * len(content))] ^= flip
    assert "restore it from a copy" in refused(bytes(content), tmp_path / "changed")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harmed"),)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"step": Harmful()}, buffer)
    packed = buffer.getvalue()
    content = b"sparsevec.checkpoint/1 " + hashlib.sha256(packed).hexdigest().encode() + b"\n" + packed
    assert "cannot be read back" in refused(content, tmp_path / "foreign")
    assert not (tmp_path / "harmed").exists()


def test_what_a_killed_write_left_beside_it_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.partial").write_bytes(b"sparsevec.checkpoint/1 half of")
    assert finished(Task(), checkpoint=tmp_path / "checkpoint") == finished(Task())


def other_plan(**changes: Any) -> Callable[[Task], None]:
    def change(task: Task) -> None:
        task.plan = dataclasses.replace(task.plan, **changes)

    return change


def other_tower(task: Task) -> None:
    task.tower = SparseTower(task.tower.backbone, 24, 2 * DIMENSION)
    task.model = nn.ModuleList([task.tower, ArcFace(2 * DIMENSION, 6)])
    task.optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-2)
    task.scheduler = torch.optim.lr_scheduler.OneCycleLR(task.optimizer, 1e-2, total_steps=STEPS)


def other_optimizer(make: Callable[[Any], torch.optim.Optimizer]) -> Callable[[Task], None]:
    def change(task: Task) -> None:
        task.optimizer = make(task.model.parameters())
        task.scheduler = torch.optim.lr_scheduler.OneCycleLR(task.optimizer, 1e-2, total_steps=STEPS)

    return change


def other_scheduler(task: Task) -> None:
    task.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(task.optimizer, 10)  # type: ignore[assignment]


def other_data(task: Task) -> None:
    task.batches = [tuple(part.flip(0) for part in batch) for batch in task.batches]  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_plan(steps=61), "plan.steps is 61, in the file 60"),
        (other_plan(clip=None), "plan.clip is None, in the file 5.0"),
        (other_plan(precision="bfloat16"), "plan.precision is bfloat16, in the file float32"),
        (other_plan(regularizer=torch.sum), "plan.regularizer is .*sum.*, in the file <function flops>"),
        (other_plan(document_regularizer_weight=quadratic_ramp(1, 2)), "document_regularizer_weight is Ramp"),
        (other_plan(query_regularizer_weight=constant(1)), "query_regularizer_weight is Ramp.*, in the file None"),
        (other_tower, r"0.head.weight is \(128, 24\) torch.float32, in the file \(64, 24\) torch.float32"),
        (other_optimizer(torch.optim.Adam), "optimizer is Adam, in the file AdamW"),
        (other_optimizer(lambda parameters: torch.optim.AdamW(parameters, weight_decay=0.5)), "weight_decay is 0.5"),
        (other_scheduler, "scheduler is CosineAnnealingLR, in the file OneCycleLR"),
        (other_data, "batch 5 of epoch 2 is not the one that the checkpoint saw"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    checkpoint: bytes, change: Callable[[Task], None], says: str, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint").write_bytes(checkpoint)
    task = Task()
    change(task)
    with pytest.raises(CheckpointMismatch, match=says):
        next(task.steps(tmp_path / "checkpoint"))


def test_corpus_frequencies_may_have_been_counted_anew(tmp_path: Path) -> None:
    for frequency, steps in ((torch.zeros(DIMENSION), 3), (torch.ones(DIMENSION), 5)):
        task = Task()
        task.plan = dataclasses.replace(
            task.plan, regularizer=partial(df_flops, document_frequency=frequency, alpha=0.1, beta=5.0)
        )
        *_, last = islice(task.steps(tmp_path / "checkpoint", every=1), steps)
    assert last.step > steps


def test_a_place_that_cannot_be_written_is_found_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    task = Task()
    before = weights(task.model)
    with pytest.raises(StorageFailed, match="file"):
        next(task.steps(tmp_path / "file" / "checkpoint"))
    assert weights(task.model) == before


def test_a_state_that_could_not_be_read_back_is_never_written(tmp_path: Path) -> None:
    class Strange(torch.optim.lr_scheduler.StepLR):
        def state_dict(self) -> dict[str, Any]:
            return super().state_dict() | {"path": tmp_path}

    task = Task()
    task.scheduler = Strange(task.optimizer, 10)  # type: ignore[assignment]
    with pytest.raises(InvalidInput, match=r"keeps tensors, numbers and texts; .* pathlib"):
        next(task.steps(tmp_path / "checkpoint"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("every", [0, -1])
def test_a_checkpoint_after_no_steps_is_refused(every: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="every 1 or more steps"):
        next(Task().steps(tmp_path / "checkpoint", every=every))
