"""`train`: a backbone and a sparse head learn together, to a loss of yours plus the cost of searching their codes.

The total is loss + λ_d(t) R(documents) + λ_q(t) R(queries), as in Paria et al., ICLR 2020, where R is the FLOPs
regulariser and λ rises quadratically. The loop prints nothing and saves nothing but the checkpoint: it yields what each
step came to, and the caller logs, measures, or stops.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor, nn

from sparsevec.contract.checks import as_real
from sparsevec.errors import InvalidInput, TrainingCollapsed
from sparsevec.measure.cost import r_sub
from sparsevec.progress import Progress
from sparsevec.training import together
from sparsevec.training.batches import Batches
from sparsevec.training.checkpoint import Checkpoint, Stateful
from sparsevec.training.codes import Codes, Shares, TopK, as_codes
from sparsevec.training.collapse import Watch
from sparsevec.training.randomness import Randomness
from sparsevec.training.regularizers import Regularizer, flops, pair_flops
from sparsevec.training.schedules import BudgetController, Evenness, Schedule, Seen, constant

__all__ = ["Objective", "Plan", "TrainStep", "train"]

Batch = TypeVar("Batch")
Precision = Literal["float32", "bfloat16", "float16"]


class Objective(NamedTuple):
    """What the caller's forward makes of a batch."""

    loss: Tensor
    """() the mean over the batch, without any regulariser"""
    documents: Tensor | TopK
    """(b, dimension) activations, of unit length; or the k weights of each row"""
    queries: Tensor | TopK | None = None
    """(q, dimension), where queries are encoded by another tower or cost another weight"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train. Raises InvalidInput."""

    steps: int
    document_regularizer_weight: Schedule | None = None
    """None: documents are not regularised by themselves"""
    query_regularizer_weight: Schedule | None = None
    """None: queries, where the objective gives any, are not regularised by themselves"""
    pair_regularizer_weight: Schedule | None = None
    """of `pair_flops`, the stand-in for what queries cost against documents where the objective gives both"""
    regularizer: Regularizer = flops
    """sees the activations of all processes, in float32"""
    query_regularizer: Regularizer | None = None
    """None: the same; `l1` here shortens queries where `flops` would only even them out"""
    precision: Precision = "float32"
    """of the objective, by autocast; the weights stay as they are"""
    clip: float | None = None
    """the gradient's longest length"""
    seed: int = 0
    """of the order of the batches, of dropout, and of whatever else draws from the global generators"""
    expected_nnz: float | None = None
    """weights of a document that training should end with; far from it, TrainingCollapsed"""
    settled: int | None = None
    """the step from which codes are judged (see `collapse.Watch`), by default half of the steps; past the ramp"""
    settings: Mapping[str, object] = field(default_factory=dict)
    """whatever else of the objective and the data a resumed training must share with the one that was stopped"""

    def __post_init__(self) -> None:
        if fault := _fault(self):
            raise InvalidInput(fault)


def _fault(plan: Plan) -> str | None:
    if not _whole(plan.steps, 1):
        return f"steps must be a whole number of at least 1, found {plan.steps!r}"
    if not _whole(plan.seed, 0):
        return f"seed must be a whole number of at least 0, found {plan.seed!r}"
    if plan.settled is not None and not _whole(plan.settled, 0):
        return f"settled must be a number of steps of at least 0, or None, found {plan.settled!r}"
    if plan.precision not in get_args(Precision):
        return f"precision must be one of {', '.join(get_args(Precision))}, found {plan.precision!r}"
    for name, number in (("clip", plan.clip), ("expected_nnz", plan.expected_nnz)):
        if number is not None and not 0 < (as_real(number) or 0) < math.inf:
            return f"{name} must be a finite number above 0, or None, found {number!r}"
    for name in ("regularizer", "query_regularizer"):
        if (given := getattr(plan, name)) is not None and not callable(given):
            return f"{name} must be a function of activations, such as flops or l1, found {given!r:.80}"
    settings: object = plan.settings
    if not isinstance(settings, Mapping):
        return f"settings must be a mapping of names to what they are set to, found {settings!r:.80}"
    names = ("document_regularizer_weight", "query_regularizer_weight", "pair_regularizer_weight")
    weights = [getattr(plan, name) for name in names]
    for name, weight in zip(names, weights, strict=True):
        if weight is not None and not isinstance(weight, Schedule):
            return f"{name} must be a schedule, such as constant(0.1) or quadratic_ramp(0.1, 1000), found {weight!r}"
    if weights == [None, None, None]:
        return (
            "document_regularizer_weight must be a schedule, such as constant(0.1) or quadratic_ramp(0.1, 1000), found "
            "None: nothing would make the codes sparse; constant(0.0) says that this is meant"
        )
    steering = [id(weight) for weight in weights if isinstance(weight, BudgetController | Evenness)]
    if len(set(steering)) < len(steering):
        return "one BudgetController cannot steer both sides, for it sees each step once; give each its own"
    return None


def _whole(number: object, least: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= least


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainStep(Progress):
    """One step, a progress event like any other, in plain numbers; over several processes, of the batch that they make
    together. `step` is 1 .. `steps`; `seconds` are those of this call; `figures` has what was measured, by name.
    """

    epoch: int
    """from 0: how often the batches have been gone through"""
    document_weight: float
    query_weight: float
    pair_weight: float

    @property
    def loss(self) -> float:
        """Of the objective, without the regularisers."""
        return self.figures["loss"]

    @property
    def regularizer(self) -> float:
        """Of the documents, without its weight."""
        return self.figures["regularizer"]

    @property
    def query_regularizer(self) -> float:
        return self.figures["query_regularizer"]

    @property
    def pair_regularizer(self) -> float:
        """F~ of the queries against the documents, without its weight."""
        return self.figures["pair_regularizer"]

    @property
    def gradient(self) -> float:
        """Its length before it was clipped."""
        return self.figures["gradient"]

    @property
    def nnz(self) -> float:
        """Mean weights of a document."""
        return self.figures["nnz"]

    @property
    def query_nnz(self) -> float:
        """Of a query; of a document, where the objective gives no queries."""
        return self.figures["query_nnz"]

    @property
    def empty(self) -> float:
        """The share of documents without any weight: no search finds them."""
        return self.figures["empty"]

    @property
    def flops(self) -> float:
        """F: of the queries against the documents, or of two different documents."""
        return self.figures["flops"]

    @property
    def spread(self) -> float:
        """R_sub = F / (nnz · query_nnz / dimension): 1 is even."""
        return self.figures["spread"]


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    objective: Callable[[Batch], Objective],
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    *,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 1000,
) -> Iterator[TrainStep]:
    """Train `model` in place, a step each time the caller asks for one.

    model: all that learns, the heads of losses too (`nn.ModuleList([tower, arcface])`), in the mode the caller wants.
    batches: gone through again and again. objective: the caller's forward; it moves the batch to the model's device.
    checkpoint: a file, written every so many steps and after the last; when it is there, training goes on from it, to
    the same bits as without the break where the device computes the same bits twice (see `Batches` for the data).
    With torch.distributed initialised every process calls it, with its own batches of one size; the step is that of one
    process with all of them (statistics of batch normalisation excepted), the first process writes the checkpoint.

    Raises TrainingCollapsed, before a loss that is not finite reaches the weights; InvalidInput; CheckpointMismatch,
    ModelBroken or StorageFailed for the checkpoint.
    """
    began = time.perf_counter()
    _check(model, batches, objective, optimizer, plan, scheduler)
    for part in (optimizer, scheduler):
        if isinstance(part, torch.optim.LBFGS | torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise InvalidInput(
                f"each step of {type(part).__name__} needs a closure or a figure, and here it gets none; take an "
                "optimizer such as Adam, and a scheduler that counts steps, such as LambdaLR"
            )
    learned, device = _learned(model, optimizer), next(model.parameters()).device.type
    half = torch.float16 if plan.precision == "float16" else torch.bfloat16
    scaler = torch.amp.GradScaler(device, enabled=plan.precision == "float16")
    stream, randomness = Batches(batches, plan.seed, together.place()), Randomness(plan.seed, together.place())
    watch = Watch(plan.expected_nnz, plan.steps // 2 if plan.settled is None else plan.settled)
    weights = plan.document_regularizer_weight, plan.query_regularizer_weight, plan.pair_regularizer_weight
    of_documents, of_queries, of_pairs = (weight or constant(0.0) for weight in weights)
    query_regularizer = plan.query_regularizer or plan.regularizer

    together.begin_equal(model)
    shared: dict[str, Stateful | None] = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    shared |= {"scaler": scaler, "watch": watch, "documents": of_documents, "queries": of_queries}
    shared |= {"pairs": plan.pair_regularizer_weight}
    own: dict[str, Stateful] = {"batches": stream, "randomness": randomness}
    kept = Checkpoint(checkpoint, every, _configuration(model, optimizer, scheduler, plan), shared, own)
    for step in range(kept.resume(), plan.steps):
        batch, pair_weight = next(stream), of_pairs.weight(step)
        document_weight, query_weight = of_documents.weight(step), of_queries.weight(step)
        with randomness:
            with torch.autocast(device, half, enabled=plan.precision != "float32"):
                found = _checked(objective(batch), plan)
            documents, queries = _gathered(found)
            loss = _wide(found.loss)
            cost = documents.regularized(plan.regularizer)
            query_cost = cost.new_zeros(()) if queries is None else queries.regularized(query_regularizer)
            total = loss + document_weight * cost + query_weight * query_cost
            pair_cost = loss.new_zeros(())
            if queries is not None and plan.pair_regularizer_weight is not None:
                pair_cost = pair_flops(queries.magnitudes(), documents.magnitudes())
                total = total + pair_weight * pair_cost
            _require_finite("loss", together.mean(total), step, plan)

            optimizer.zero_grad()
            scaler.scale(total).backward()  # type: ignore[no-untyped-call]
            together.average_gradients(learned)
            scaler.unscale_(optimizer)
            gradient = _clipped(learned, plan.clip)
            if not scaler.is_enabled() or scaler.get_scale() < 1:  # above it, float16 may want a lower scale
                _require_finite("gradient", gradient, step, plan)
            if gradient.isfinite():
                scaler.step(optimizer)
                if scheduler is not None:
                    scheduler.step()
            scaler.update()

        usage = documents.usage()
        query_usage = usage if queries is None else queries.usage()
        nnz, query_nnz = float(usage.sum()), float(query_usage.sum())
        f = _of_two(usage, len(documents)) if queries is None else float(usage @ query_usage)
        of_documents.saw(Seen(nnz, f, usage, query_usage))
        of_queries.saw(Seen(query_nnz, f, usage, query_usage))
        of_pairs.saw(Seen(nnz, f, usage, query_usage))
        watch.saw(usage)
        if fault := watch.fault(step + 1):
            raise TrainingCollapsed(f"stopped at step {step + 1} of {plan.steps}: {fault}")
        kept.save_when_due(step + 1, plan.steps)
        figures = {
            "loss": together.mean(found.loss).item(),
            "regularizer": cost.item(),
            "query_regularizer": query_cost.item(),
            "pair_regularizer": pair_cost.item(),
            "gradient": gradient.item(),
            "nnz": nnz,
            "query_nnz": query_nnz,
            "empty": documents.empty(),
            "flops": f,
            "spread": r_sub(f, nnz, query_nnz, len(usage)),
        }
        yield TrainStep(
            stage="training",
            step=step + 1,
            steps=plan.steps,
            fraction=(step + 1) / plan.steps,
            seconds=time.perf_counter() - began,
            text=f"{step + 1}/{plan.steps}: loss {{loss:.3f}}, F {{flops:.3f}}, R_sub {{spread:.2f}}".format(**figures),
            figures=figures,
            epoch=stream.epoch,
            document_weight=document_weight,
            query_weight=query_weight,
            pair_weight=pair_weight,
        )


def _check(
    model: object, batches: object, objective: object, optimizer: object, plan: object, scheduler: object
) -> None:
    """Raises InvalidInput for what is something else than `train` takes."""
    fits = {
        "model, an nn.Module": (model, isinstance(model, nn.Module)),
        "batches, an iterable": (batches, isinstance(batches, Iterable) or hasattr(batches, "__getitem__")),
        "objective, a function of a batch": (objective, callable(objective)),
        "optimizer, one of torch.optim": (optimizer, isinstance(optimizer, torch.optim.Optimizer)),
        "plan, a Plan": (plan, isinstance(plan, Plan)),
        "scheduler, with a step()": (scheduler, scheduler is None or callable(getattr(scheduler, "step", None))),
    }
    for expected, (given, fit) in fits.items():
        if not fit:
            raise InvalidInput(f"expected {expected}, found {given!r:.80}")


def _clipped(learned: list[Tensor], longest: float | None) -> Tensor:
    """The gradient's length before; one that is short enough is only read, which takes half the time."""
    found = [parameter.grad for parameter in learned if parameter.grad is not None]
    if not found:
        raise InvalidInput(
            "the loss depends on nothing that the optimizer moves: compute it from what the model gives, and do not "
            "detach that"
        )
    parts = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in found]
    lengths = [torch.linalg.vector_norm(part).to(found[0].device) for part in parts]
    length: Tensor = torch.linalg.vector_norm(torch.stack(lengths))
    if longest is not None and length > longest:
        nn.utils.clip_grad_norm_(learned, longest)
    return length


def _learned(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What the optimizer moves; InvalidInput when there is anything that `model`, so the checkpoint, does not hold."""
    learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = {id(parameter) for parameter in model.parameters()}
    strangers = [tuple(parameter.shape) for parameter in learned if id(parameter) not in held]
    if strangers:
        raise InvalidInput(
            f"the optimizer moves parameters of shapes {strangers[:3]} that `model` does not hold; give a model that "
            "holds all that learns, such as nn.ModuleList([tower, arcface])"
        )
    return learned


def _configuration(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None,
    plan: Plan,
) -> dict[str, str]:
    """A text for each setting that a resumed training must share with the one that was stopped.

    The learning rate, and what else a scheduler moves, is taken from where it began.
    """
    tensors = model.state_dict()
    settings: dict[str, object] = {f"plan.{option.name}": getattr(plan, option.name) for option in fields(plan)}
    settings |= {f"settings.{name}": value for name, value in plan.settings.items()}
    del settings["plan.settings"]
    for name in ("plan.regularizer", "plan.query_regularizer"):
        settings[name] = _without_tensors(settings[name])
    settings |= {f"model.{name}": f"{tuple(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items()}
    settings |= {"optimizer": type(optimizer).__name__, "scheduler": type(scheduler).__name__}
    for number, group in enumerate(optimizer.param_groups):
        began = {name.removeprefix("initial_"): value for name, value in group.items() if name.startswith("initial_")}
        moved = {"params", "momentum", "betas"} if scheduler is not None else {"params"}
        kept = {name: value for name, value in (group | began).items() if name not in moved}
        settings |= {f"optimizer.{number}.{name}": value for name, value in kept.items()}
        settings |= {f"optimizer.{number}.parameters": len(group["params"])}
    settings |= {"processes": together.processes()}
    return {name: re.sub(r" at 0x[0-9a-f]+", "", str(value)) for name, value in settings.items()}


def _without_tensors(regularizer: object) -> object:
    """What stays the same of one with arguments: corpus frequencies are refreshed on the way."""
    if not isinstance(regularizer, partial):
        return regularizer
    named = {name: value for name, value in regularizer.keywords.items() if not isinstance(value, Tensor)}
    unnamed = [value for value in regularizer.args if not isinstance(value, Tensor)]
    return regularizer.func, unnamed, named


def _checked(found: Objective, plan: Plan) -> Objective:
    """Raises InvalidInput when the objective gave something else than it should."""
    if not isinstance(found, tuple) or len(found) != 3:
        raise InvalidInput(
            f"the objective must give Objective(loss, documents) or Objective(loss, documents, queries), found "
            f"{type(found).__name__}"
        )
    loss, documents, queries = found
    if not isinstance(loss, Tensor):
        raise InvalidInput(f"the objective's loss must be a tensor, found {type(loss).__name__}; leave out .item()")
    for side in (documents,) if queries is None else (documents, queries):
        if not isinstance(side, Tensor | TopK):
            raise InvalidInput(f"activations must be a tensor (b, dimension) or TopK, found {type(side).__name__}")
    if loss.shape != () or not loss.requires_grad:
        raise InvalidInput(
            f"the objective's loss must be one number that depends on the weights, found shape {tuple(loss.shape)}, "
            f"requires_grad={loss.requires_grad}; take its mean over the batch, and do not detach it"
        )
    sides = [side for side in (documents, queries) if side is not None]
    if any(isinstance(side, Tensor) and side.ndim != 2 for side in sides) or len(set(map(_width, sides))) > 1:
        shapes = " and ".join(str(tuple((side if isinstance(side, Tensor) else side.values).shape)) for side in sides)
        raise InvalidInput(f"activations must be (b, dimension), of one dimension on both sides, found {shapes}")
    if queries is None and plan.pair_regularizer_weight is not None:
        raise InvalidInput(
            "the plan has a pair_regularizer_weight, but the objective gives no queries; return "
            "Objective(loss, documents, queries), or use document_regularizer_weight"
        )
    if queries is None and plan.query_regularizer_weight is not None:
        raise InvalidInput(
            "the plan has a query_regularizer_weight, but the objective gives no queries; return "
            "Objective(loss, documents, queries), or leave the weight out"
        )
    return found


def _width(side: Tensor | TopK) -> int:
    return side.dimension if isinstance(side, TopK) else side.shape[-1]


def _gathered(found: Objective) -> tuple[Codes, Codes | None]:
    """Documents and queries of all processes; raises InvalidInput when there are no two documents to compare."""
    documents = as_codes(found.documents).gathered()
    if len(documents) < 2:
        raise InvalidInput(f"expected a batch of at least 2 documents, found {len(documents)}; drop a last short batch")
    return documents, None if found.queries is None else as_codes(found.queries).gathered()


def _wide(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _require_finite(what: str, number: Tensor, step: int, plan: Plan) -> None:
    if not number.isfinite():
        raise TrainingCollapsed(
            f"stopped at step {step + 1} of {plan.steps}: the {what} is {number.item()}, the weights are as they were "
            "before this step; lower the learning rate, clip the gradient, or look for bad rows in the batch"
        )


def _of_two(usage: Shares, b: int) -> float:
    """F of two different rows of the b: sum_j s_j (s_j - 1) / (b (b - 1)) for the counts s_j."""
    counts = usage * b
    return float(counts @ (counts - 1)) / (b * (b - 1))
