"""One backbone is trained, then branched: a copy of it for every regulariser, weight and dimension.

A branch is the whole network, trained on end to end with a new head, as in the paper. All branches of a collection see
the same batches, the same number of steps and the same optimiser, and all but SDH, which has its own, the same loss.

What is finished is kept in the cache and not made again; a run that was killed goes on where its checkpoint stands.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from benchmarks.baselines import similarity_kl
from benchmarks.paper.data import Augment, Batch, Epochs, Part, Task
from benchmarks.paper.networks import backbone, centred, precision, width
from benchmarks.paper.sdh import sdh_loss
from sparsevec.encoder import Budget
from sparsevec.storage import whole_file
from sparsevec.training import Objective, Plan, SparseTower, TrainStep, train
from sparsevec.training.activations import relu, unit
from sparsevec.training.losses import ArcFace, info_nce, triplet
from sparsevec.training.regularizers import Regularizer, flops_unbiased, l1
from sparsevec.training.schedules import BudgetController, Schedule, constant, quadratic_ramp
from sparsevec.vectors import SparseVectors

__all__ = ["Branch", "Recipe", "School", "Watcher", "branch", "features", "frozen", "trunk", "trunk_seconds"]

REGULARIZERS: dict[str, Regularizer] = {"FLOPs": flops_unbiased, "L1": l1}
Watcher = Callable[[TrainStep], None]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""inputs, codes, labels -> ()"""
CHECKPOINT = 100  # steps between two
TRUNK_BATCH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class School:
    """How the networks of one collection are taught."""

    trunk_steps: int
    """0 where there is no backbone to train"""
    branch_steps: int
    loss: Literal["pairs", "triplet", "teacher"]
    """of the branches: InfoNCE of pairs of a class, semi-hard triplets, or KL to the similarities of the inputs"""
    each: int
    """rows of a class in a batch of the branches; 1 for rows as they come"""
    rate: float = 1e-3
    """Adam's, for what is new in a branch"""
    trunk_rate: float = 3e-4
    """Adam's, for the backbone in a branch"""
    batch: int = 128
    """of the branches"""
    frozen: bool = False
    """the branches are heads on what the backbone makes of the collection, which does not learn any more"""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """One branch. Its method says what is learned, the rest how much of it."""

    method: str
    """features (of the backbone), dense, ReLU, FLOPs, L1 or SDH"""
    dimension: int
    weight: float = 0.0
    """of the regulariser, reached along a parabola in half of the steps"""
    nnz: int | None = None
    """instead of a weight: a controller finds the one that leaves so many non-zeros"""
    active: int | None = None
    """SDH: how many dimensions a class holds"""

    @property
    def setting(self) -> str:
        """As the tables say it."""
        size = f"d={self.dimension}"
        if self.active is not None:
            return f"{size}, k={self.active}"
        if self.nnz is not None:
            return f"{size}, to {self.nnz} weights"
        return f"{size}, λ={self.weight:g}" if self.method in REGULARIZERS else size

    @property
    def file(self) -> str:
        """A name for its files, another for each recipe."""
        marks = {"λ": self.weight or None, "nnz": self.nnz, "k": self.active}
        return f"{self.method}-{self.dimension}" + "".join(f"-{k}{v:g}" for k, v in marks.items() if v is not None)


@dataclass(frozen=True, slots=True)
class Branch:
    """A finished branch: what it makes of the collection, sparse codes or (dense, SDH) rows of unit length."""

    recipe: Recipe
    gallery: SparseVectors
    queries: SparseVectors
    weight: float
    """of the regulariser at the last step"""
    seconds: float
    """of training, of all threads together; since it was resumed, where it was killed"""


def _identity(rows: Tensor) -> Tensor:
    return rows


def trunk(task: Task, school: School, cache: Path, watch: Watcher) -> nn.Module:
    """The backbone, trained with a dense embedding and ArcFace on the labels; from the cache when it is there."""
    with torch.random.fork_rng():
        torch.manual_seed(school.seed)
        network = backbone(task)
        tower = SparseTower(network, width(task), 256, activation=_identity)
        loss = ArcFace(256, task.classes, scale=16, margin=0.1)
    if school.trunk_steps == 0:
        return network
    file, taught = (
        cache / "trunk.safetensors",
        {"steps": school.trunk_steps, "batch": TRUNK_BATCH, "seed": school.seed},
    )
    if not _finished(cache / "trunk.json", taught):
        model = nn.ModuleDict({"tower": tower, "loss": loss})
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        plan = Plan(
            steps=school.trunk_steps,
            document_regularizer_weight=constant(0),
            precision=precision(),
            seed=school.seed,
        )
        epochs = Epochs(task.train, task.augment, TRUNK_BATCH)
        began = time.process_time()
        _run(
            model,
            epochs,
            partial(_objective, tower, lambda _, codes, labels: loss(codes, labels)),
            optimizer,
            plan,
            cache / "trunk.checkpoint",
            watch,
        )
        said = {"seconds": time.process_time() - began, "taught": taught}
        save_model(network, str(file))
        whole_file(cache / "trunk.json", json.dumps(said).encode())  # last: the weights are whole
        (cache / "trunk.checkpoint").unlink()
    load_model(network, str(file))
    return network


def trunk_seconds(cache: Path) -> float:
    """Of the processor, to train the backbone in that cache; 0 where there was none to train."""
    file = cache / "trunk.json"
    return float(json.loads(file.read_text())["seconds"]) if file.exists() else 0.0


def features(task: Task, network: nn.Module) -> Branch:
    """What the backbone gives without any head, at unit length: the first thing to beat."""
    gallery, queries = (SparseVectors.from_torch(_seen(part, network)) for part in (task.gallery, task.queries))
    return Branch(Recipe("features", width(task)), gallery, queries, 0.0, 0.0)


def _seen(part: Part, network: nn.Module, alter: Augment = _identity) -> Tensor:
    """(n, width) of unit length."""
    network.eval()
    with torch.inference_mode():
        rows = torch.cat([network(alter(inputs)) for inputs in part.blocks()])
    network.train()
    return unit(rows.clone())


def frozen(task: Task, network: nn.Module, seed: int) -> Task:
    """The collection as the backbone sees it, centred unit vectors; each training input was altered once before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        train = _seen(task.train, network, task.augment)
    mean = train.mean(dim=0)
    gallery = Part(unit(_seen(task.gallery, network) - mean), task.gallery.labels)
    queries = gallery if task.leave_one_out else Part(unit(_seen(task.queries, network) - mean), task.queries.labels)
    learned = Part(unit(train - mean), task.train.labels)
    return replace(task, train=learned, gallery=gallery, queries=queries, augment=_identity)


def branch(task: Task, school: School, recipe: Recipe, network: nn.Module, cache: Path, watch: Watcher) -> Branch:
    """A copy of the trunk, trained on by `recipe`, and what it makes of the collection; from the cache when there."""
    folder = cache / recipe.file
    if not _finished(folder / "branch.json", asdict(school)):
        _teach(task, school, recipe, network, folder, watch)
    said = json.loads((folder / "branch.json").read_text())
    gallery, queries = (SparseVectors.load(folder / side) for side in ("gallery", "queries"))
    return Branch(recipe, gallery, queries, said["weight"], said["seconds"])


def _finished(file: Path, taught: dict[str, Any]) -> bool:
    """Whether `file` says that its part is there and was taught just so."""
    return file.exists() and json.loads(file.read_text())["taught"] == taught


def _teach(task: Task, school: School, recipe: Recipe, network: nn.Module, folder: Path, watch: Watcher) -> None:
    began, checkpoint = time.process_time(), folder / "training.checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(school.seed)
        activation = _identity if recipe.method in ("dense", "SDH") else relu
        body = centred(task, copy.deepcopy(network))
        tower = SparseTower(body, width(task), recipe.dimension, activation=activation)
        loss = _loss(school, recipe)
    model = nn.ModuleDict({"tower": tower} | ({"loss": loss} if isinstance(loss, nn.Module) else {}))
    old = list(tower.backbone.parameters())
    new = [parameter for name, parameter in model.named_parameters() if not name.startswith("tower.backbone")]
    groups = [{"params": new, "lr": school.rate}] + ([{"params": old, "lr": school.trunk_rate}] if old else [])
    optimizer = torch.optim.Adam(groups)
    schedule = _schedule(school, recipe)
    plan = Plan(
        steps=school.branch_steps,
        regularizer=REGULARIZERS.get(recipe.method, flops_unbiased),
        document_regularizer_weight=schedule,
        precision=precision(),
        clip=5.0,
        seed=school.seed,
    )
    epochs = Epochs(task.train, task.augment, school.batch, school.each)
    _run(model, epochs, partial(_objective, tower, loss), optimizer, plan, checkpoint, watch)
    seconds = time.process_time() - began
    for side, part in (("gallery", task.gallery), ("queries", task.queries)):
        tower.encode(part.blocks()).save(folder / side)
    said = {"weight": schedule.weight(school.branch_steps), "seconds": seconds, "taught": asdict(school)}
    whole_file(folder / "branch.json", json.dumps(said).encode())  # last: the codes beside it are whole
    checkpoint.unlink()


def _loss(school: School, recipe: Recipe) -> Loss:
    if recipe.active is not None:
        return lambda _, codes, labels: sdh_loss(codes, labels, k=recipe.active or 1)
    if school.loss == "triplet":
        return lambda _, codes, labels: triplet(codes, labels, margin=0.1)
    return Teacher() if school.loss == "teacher" else _pairs


class Teacher(nn.Module):
    """KL between the similarities of a batch's inputs, unit vectors, and those of its codes; needs no labels."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(20.0).log())

    def forward(self, inputs: Tensor, codes: Tensor, _: Tensor) -> Tensor:
        return similarity_kl(inputs, codes, self.log_scale)


def _pairs(_: Tensor, codes: Tensor, __: Tensor) -> Tensor:
    """InfoNCE both ways between the first row of each class in the batch and its second."""
    first, second = codes.chunk(2)
    return (info_nce(first, second, temperature=1 / 16) + info_nce(second, first, temperature=1 / 16)) / 2


def _schedule(school: School, recipe: Recipe) -> Schedule:
    ramp = school.branch_steps // 2
    if recipe.nnz is not None:
        return BudgetController(Budget(nnz=recipe.nnz), weight=1.0 if recipe.method == "FLOPs" else 0.03, ramp=ramp)
    return quadratic_ramp(recipe.weight, ramp)


def _objective(tower: SparseTower, loss: Loss, batch: Batch) -> Objective:
    inputs, labels = batch
    codes = tower(inputs)
    return Objective(loss(inputs, codes, labels), codes)


def _run(
    model: nn.Module,
    epochs: Epochs,
    objective: Callable[[Batch], Objective],
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    checkpoint: Path,
    watch: Watcher,
) -> None:
    """All steps, the rate up for a tenth of them and then down to nothing; from the checkpoint where one was left."""
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=plan.steps,
        pct_start=0.1,
        div_factor=10,
        final_div_factor=100,
        cycle_momentum=False,
    )
    for step in train(
        model, epochs, objective, optimizer, plan, scheduler=scheduler, checkpoint=checkpoint, every=CHECKPOINT
    ):
        watch(step)
