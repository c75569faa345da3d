"""Exact nearest rows, in blocks: memory grows with the number of rows, never with its square."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nearest"]

_SCORES = 2**25  # similarities held at once: 128 MiB


def nearest(queries: Tensor, rows: Tensor, m: int) -> Tensor:
    """Of rows (n, input_dim) the m of largest dot product with each query (q, input_dim): (q, m), best first."""
    size = max(1, _SCORES // len(rows))
    found = [(queries[start : start + size] @ rows.T).topk(m, dim=1).indices for start in range(0, len(queries), size)]
    return torch.cat(found).to(torch.int32)
