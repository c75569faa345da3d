"""From activations to sparse codes, for training: pairs (values, indices), both (b, k), never (b, dimension)."""

from __future__ import annotations

from typing import Any, cast

import scipy.sparse as sp
import torch
from torch import Tensor

__all__ = ["linear_top_k", "scattered"]


def linear_top_k(rows: Tensor, weights: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """ReLU of the k largest of z = rows @ weights.T + bias in each row: values and indices (b, k), unordered.

    rows (b, input_dim), weights (dimension, input_dim), bias (dimension,). The gradient reaches only what was kept, so
    the backward pass costs b k input_dim and not b dimension input_dim.
    """
    return cast("tuple[Tensor, Tensor]", _LinearTopK.apply(rows, weights, bias, k))


class _LinearTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
        values, indices = torch.addmm(bias, rows, weights.T).topk(k, dim=1, sorted=False)
        values = values.clamp_min(0)
        ctx.save_for_backward(rows, indices, values)
        ctx.dimension = len(bias)
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, None]:
        rows, indices, values = ctx.saved_tensors
        b, k = indices.shape
        flat = (gradients[0] * (values > 0)).reshape(-1)
        columns = indices.reshape(-1)
        matrix = sp.csr_array((flat.numpy(), columns.numpy(), range(0, b * k + 1, k)), shape=(b, ctx.dimension))
        of_weights = torch.from_numpy(matrix.T @ rows.numpy())
        of_bias = torch.zeros(ctx.dimension).index_add_(0, columns, flat)
        return None, of_weights, of_bias, None


def scattered(values: Tensor, indices: Tensor, dimension: int) -> Tensor:
    """The same codes as a dense (b, dimension)."""
    return torch.zeros(len(values), dimension).scatter(1, indices, values)
