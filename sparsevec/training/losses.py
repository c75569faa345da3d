"""Losses that need no labels: the dense vectors themselves are the teacher."""

from __future__ import annotations

from torch import Tensor

__all__ = ["listwise_kl", "relative_error"]


def listwise_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) along each row of scores.  (b, m), (b, m) -> (b,).

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, on similarities instead of classes.
    """
    due = teacher.log_softmax(dim=1)
    return (due.exp() * (due - student.log_softmax(dim=1))).sum(dim=1)


def relative_error(reconstructed: Tensor, rows: Tensor) -> Tensor:
    """Squared error over squared length, summed over the batch: 1 is what zeros give.  (b, d), (b, d) -> ()."""
    return (reconstructed - rows).square().sum() / rows.square().sum()
