"""A small training, and processes that run it: alone, to be killed, or two together."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sparsevec as sv
from sparsevec.errors import SparsevecError
from sparsevec.training import (
    ArcFace,
    BudgetController,
    Objective,
    Plan,
    SparseTower,
    TrainStep,
    gather,
    info_nce,
    quadratic_ramp,
    train,
)

WIDTH, DIMENSION, CLASSES, STEPS = 12, 64, 6, 60

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [__name__, "torch._dynamo"]
)  # imported once, not in each process; optimizers import the latter


def rows(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """(n, WIDTH) and their classes (n,)."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(CLASSES, WIDTH, generator=generator)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    return (directions[labels] + 0.5 * torch.randn(n, WIDTH, generator=generator)).to(dtype), labels


class Task:
    """A tower with dropout under ArcFace, batches that are shuffled, and all that `train` is given."""

    def __init__(self, *, precision: Any = "float32", steps: int = STEPS, device: str = "cpu") -> None:
        torch.manual_seed(1)
        backbone = nn.Sequential(nn.Linear(WIDTH, 24), nn.ReLU(), nn.Dropout(0.2))
        self.tower, self.arcface = SparseTower(backbone, 24, DIMENSION), ArcFace(DIMENSION, CLASSES, scale=16)
        self.model, self.device = nn.ModuleList([self.tower, self.arcface]).to(device), device
        data = torch.utils.data.TensorDataset(*rows(160))
        self.batches = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 1e-2, total_steps=steps)
        controller = BudgetController(sv.Budget(nnz=4), weight=0.1, ramp=30)
        self.plan = Plan(steps=steps, document_regularizer_weight=controller, precision=precision, clip=5.0, seed=3)

    def objective(self, batch: tuple[Tensor, Tensor]) -> Objective:
        inputs, labels = (part.to(self.device) for part in batch)
        codes = self.tower(inputs)
        return Objective(self.arcface(codes, labels), codes)

    def steps(self, checkpoint: Path | None = None, **settings: Any) -> Iterator[TrainStep]:
        return train(
            self.model,
            self.batches,
            self.objective,
            self.optimizer,
            self.plan,
            scheduler=self.scheduler,
            checkpoint=checkpoint,
            **settings,
        )


def weights(model: nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


def begin(run: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
    """A process that runs `run(*arguments, out)`, and where to hear from it; EOFError there when it is gone."""
    here, there = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=run, args=(*arguments, there))
    process.start()
    there.close()
    return process, here


def alone(checkpoint: Path, precision: str, out: Connection) -> None:
    """Sends the number of each step, then the weights."""
    torch.set_num_threads(1)
    task = Task(precision=precision)
    for step in task.steps(checkpoint, every=7):
        torch.rand(3)  # what the caller draws in between must not matter
        out.send(step.step)
    out.send(weights(task.model))


class Pairs:
    """Queries and documents with towers and weights of their own, in float64: a wrong factor shows, rounding does not.

    The loss has a part that each process counts for its own rows, and one with negatives from all of them. Of
    `processes`, the one at `place` has its share of each joined batch.
    """

    def __init__(self, place: int, processes: int) -> None:
        torch.manual_seed(5 + place)  # the first process's weights are everyone's
        self.queries = SparseTower(nn.Linear(WIDTH, 24), 24, DIMENSION).double()
        self.documents = SparseTower(nn.Linear(WIDTH, 24), 24, DIMENSION).double()
        self.arcface = ArcFace(DIMENSION, CLASSES, scale=8).double()
        self.unused = nn.Linear(3, 3).double()  # reached by the first process alone
        self.model = nn.ModuleList([self.queries, self.documents, self.arcface, self.unused])
        joined = [rows(24, seed, torch.float64) for seed in range(5)]
        self.batches = [tuple(part.chunk(processes)[place] for part in batch) for batch in joined]
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.plan = Plan(
            steps=20,
            document_regularizer_weight=BudgetController(sv.Budget(nnz=8), weight=0.1, ramp=10),
            query_regularizer_weight=quadratic_ramp(0.5, 10),
            clip=1.0,
        )
        self.place, self.processes = place, processes

    def objective(self, batch: Any) -> Objective:
        queries, documents = self.queries(batch[0]), self.documents(batch[0].flip(1))
        matching = info_nce(gather(queries), gather(documents), temperature=0.1)
        loss = self.arcface(documents, batch[1]) + matching
        if self.place == 0:
            loss = loss + self.processes * self.unused.weight.square().sum()
        return Objective(loss, documents, queries)

    def steps(self, checkpoint: Path | None = None) -> Iterator[TrainStep]:
        return train(
            self.model, self.batches, self.objective, self.optimizer, self.plan, checkpoint=checkpoint, every=3
        )


def together(run: Callable[..., None], place: int, meeting: Path, *arguments: Any) -> None:
    """`run(place, *arguments)` as one of two processes that meet in the file `meeting`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=place, world_size=2)
    try:
        run(place, *arguments)
    finally:
        dist.destroy_process_group()


def pairs(place: int, checkpoint: Path | None, out: Connection) -> None:
    """Sends each step, then the weights."""
    task = Pairs(place, 2)
    for step in task.steps(checkpoint):
        out.send(step)
    out.send({name: tensor.numpy() for name, tensor in task.model.state_dict().items()})


def one_turns_nan(place: int, out: Connection) -> None:
    """Sends what was raised when the second process's loss is no number."""
    task = Pairs(place, 2)
    task.batches[2][0].mul_(float("nan") if place == 1 else 1.0)
    _tell(task, out)


def one_is_short(place: int, out: Connection) -> None:
    """Sends what was raised when the second process's batches are smaller."""
    task = Pairs(place, 2)
    task.batches = [tuple(part[: 12 - place] for part in batch) for batch in task.batches]
    _tell(task, out)


def _tell(task: Pairs, out: Connection) -> None:
    try:
        for _ in task.steps():
            pass
    except SparsevecError as error:
        out.send((type(error).__name__, str(error)))
