"""More queries than the sample has: each moved a little in a random direction. Draws from torch's global generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["mixed", "noisy"]


def noisy(rows: Tensor, *, share: float = 1.0, reach: float = 1.0) -> Tensor:
    """unit(row + r g / sqrt(input_dim)) of a `share` of unit rows (q, input_dim); g normal, r uniform in (0, reach)."""
    lengths = reach * torch.rand(len(rows), 1, device=rows.device) / math.sqrt(rows.shape[1])
    lengths *= torch.rand(len(rows), 1, device=rows.device) < share
    return F.normalize(rows + lengths * torch.randn_like(rows), dim=1)


def mixed(rows: Tensor, alike: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Rows (q, input_dim) moved some of the way to one of those that `alike` (q, m) names, and a little aside.

    And which of the rows that was, (q,).
    """
    picks = alike.gather(1, torch.randint(alike.shape[1], (len(rows), 1), device=rows.device))[:, 0].long()
    share = torch.rand(len(rows), 1, device=rows.device)
    between = F.normalize(torch.lerp(rows, rows[picks], share), dim=1)
    return noisy(between, reach=reach), picks
