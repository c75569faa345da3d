"""The steps of a stage, as events of the whole."""

from __future__ import annotations

from collections.abc import Iterator

from sparsevec.errors import TrainingCollapsed
from sparsevec.progress import Whole
from sparsevec.training.loop import TrainStep

__all__ = ["followed"]


def followed(steps: Iterator[TrainStep], stage: str, whole: Whole) -> None:
    """Take all steps, each an event. TrainingCollapsed names the stage."""
    try:
        for step in steps:
            whole.at(stage, step.step, step.steps, f"{stage} {step.text}", weight=step.pair_weight, **step.figures)
    except TrainingCollapsed as error:
        raise TrainingCollapsed(f"{stage}: {error.diagnosis}") from error
