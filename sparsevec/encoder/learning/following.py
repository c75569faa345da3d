"""What all stages have in common: where they are learned and kept, how far they draw, and their steps as events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from sparsevec.errors import InvalidInput, TrainingCollapsed
from sparsevec.progress import Whole
from sparsevec.training.loop import TrainStep

__all__ = ["STRETCH", "checkpoint_file", "chosen_device", "followed", "within_memory"]

STRETCH = 25  # batches that are drawn from one seed: as many, at most, are drawn again when a training goes on


_Given = ParamSpec("_Given")
_Learned = TypeVar("_Learned")


def within_memory(learn: Callable[_Given, _Learned]) -> Callable[_Given, _Learned]:
    """Learning that raises InvalidInput where a GPU, or the machine, has too little memory for it; to the same bits
    whatever the caller has set of torch."""

    @wraps(learn)
    def told(*given: _Given.args, **named: _Given.kwargs) -> _Learned:
        try:
            with _as_torch_begins():
                return learn(*given, **named)
        except torch.cuda.OutOfMemoryError as error:
            reason = str(error).partition(". GPU")[0]
            raise InvalidInput(
                f"the GPU has too little memory for these rows ({reason}); learn with device='cpu', or give it fewer "
                "documents or dimensions"
            ) from error
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
                raise
            raise InvalidInput(
                f"there is too little memory for these rows ({error!s:.200}); learn from fewer documents or dimensions"
            ) from error

    return told


@contextmanager
def _as_torch_begins() -> Iterator[None]:
    """With gradients, in float32, on the CPU where no device is named; afterwards as the caller had it."""
    dtype = torch.get_default_dtype()
    with ExitStack() as settings:
        settings.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        settings.enter_context(torch.inference_mode(False))
        settings.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                settings.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # each call of torch takes longer under one
            settings.enter_context(torch.device("cpu"))
        yield


def chosen_device(device: str) -> torch.device:
    """The one that is named. Raises InvalidInput."""
    try:
        place = torch.device(device)
        torch.zeros(1, device=place).item()  # "meta" makes tensors without numbers
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(
            f"device={device!r} cannot be learned on ({reason}); give 'cpu', 'cuda' or 'cuda:1'"
        ) from None
    return place


def checkpoint_file(folder: Path | None, stage: str) -> Path | None:
    """One for each stage; none where there is no folder."""
    return None if folder is None else folder / f"{stage}.checkpoint"


def followed(steps: Iterator[TrainStep], stage: str, whole: Whole) -> None:
    """Take all steps, each an event. TrainingCollapsed names the stage."""
    try:
        for step in steps:
            whole.at(stage, step.step, step.steps, f"{stage} {step.text}", weight=step.pair_weight, **step.figures)
    except TrainingCollapsed as error:
        raise TrainingCollapsed(f"{stage}: {error.diagnosis}") from error
