"""Exact nearest rows, in blocks: memory grows with the number of rows, never with its square."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nearest"]

_SCORES = 2**25  # similarities held at once: 128 MiB


def nearest(queries: Tensor, rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Of rows (n, input_dim) the m of largest dot product with each query (q, input_dim), best first.

    Their numbers, int32, and these products: (q, m) each.
    """
    size = max(1, _SCORES // len(rows))
    best = [(queries[start : start + size] @ rows.T).topk(m, dim=1) for start in range(0, len(queries), size)]
    return torch.cat([part.indices for part in best]).to(torch.int32), torch.cat([part.values for part in best])
