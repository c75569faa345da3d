"""More queries than the sample has: each moved a little in a random direction."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["noisy"]


def noisy(rows: Tensor, generator: torch.Generator, share: float = 1.0) -> Tensor:
    """unit(row + r g / sqrt(input_dim)) of a `share` of unit rows (q, input_dim); g normal, r uniform in (0, 1)."""
    reach = torch.rand(len(rows), 1, generator=generator) / math.sqrt(rows.shape[1])
    reach *= torch.rand(len(rows), 1, generator=generator) < share
    return F.normalize(rows + reach * torch.randn(rows.shape, generator=generator), dim=1)
