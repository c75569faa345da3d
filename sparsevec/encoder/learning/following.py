"""What all stages have in common: where they are learned and kept, how far they draw, and their steps as events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from sparsevec.errors import InvalidInput, TrainingCollapsed
from sparsevec.progress import Whole
from sparsevec.training.loop import TrainStep

__all__ = ["STRETCH", "checkpoint_file", "chosen_device", "followed"]

STRETCH = 25  # batches that are drawn from one seed: as many, at most, are drawn again when a training goes on


def chosen_device(device: str) -> torch.device:
    """The one that is named. Raises InvalidInput."""
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
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
