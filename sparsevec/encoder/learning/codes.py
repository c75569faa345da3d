"""From activations to top-k codes and to their products, for training: (b, k), never (b, dimension)."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from sparsevec.training.codes import TopK, column_sums
from sparsevec.vectors import SparseVectors

__all__ = ["dot_products", "linear_top_k", "padded"]


def linear_top_k(rows: Tensor, weights: Tensor, bias: Tensor, k: int) -> TopK:
    """ReLU of the k largest of z = rows @ weights.T + bias in each row, unordered.

    rows (b, input_dim), weights (dimension, input_dim), bias (dimension,). The gradient reaches only what was kept, so
    the backward pass costs b k input_dim and not b dimension input_dim.
    """
    values, indices = cast("tuple[Tensor, Tensor]", _LinearTopK.apply(rows, weights, bias, k))
    return TopK(values, indices, len(bias))


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
        flat = gradients[0] * (values > 0)
        of_weights = torch.from_numpy(_csr(flat, indices, ctx.dimension).T @ rows.numpy())
        return None, of_weights, column_sums(flat, indices, ctx.dimension), None


def dot_products(queries: TopK, documents: TopK) -> Tensor:
    """Of every query with every document: codes (q, k) and (b, m) to (q, b). Costs F multiplications a pair."""
    pairs = queries.values, queries.indices, documents.values, documents.indices
    return cast("Tensor", _DotProducts.apply(*pairs, documents.dimension))


class _DotProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qv: Tensor, qi: Tensor, dv: Tensor, di: Tensor, dimension: int) -> Tensor:
        ctx.save_for_backward(qv, qi, dv, di)
        ctx.dimension = dimension
        return torch.from_numpy((_csr(qv, qi, dimension) @ _csr(dv, di, dimension).T).toarray())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        qv, qi, dv, di = ctx.saved_tensors
        upstream = gradients[0].numpy()  # (q, b)
        of_queries = _csr(dv, di, ctx.dimension).T @ upstream.T  # (dimension, q): what the documents send back
        of_documents = _csr(qv, qi, ctx.dimension).T @ upstream  # (dimension, b)
        return _own(of_queries, qi), None, _own(of_documents, di), None, None


def _own(of_dimensions: npt.NDArray[np.float32], indices: Tensor) -> Tensor:
    """(dimension, b) at each row's own indices (b, k): (b, k)."""
    return torch.from_numpy(of_dimensions[indices.numpy(), np.arange(len(indices))[:, None]])


def padded(vectors: SparseVectors, missing: float) -> TopK:
    """(n, longest row), with `missing` for the weights that shorter rows do not have."""
    lengths, k = vectors.row_nnz, int(vectors.row_nnz.max())
    filled = np.arange(k) < lengths[:, None]
    weights, indices = np.full(filled.shape, missing, np.float32), np.zeros(filled.shape, np.int64)
    weights[filled], indices[filled] = vectors.values, vectors.indices
    return TopK(torch.from_numpy(weights), torch.from_numpy(indices), vectors.dimension)


def _csr(values: Tensor, indices: Tensor, dimension: int) -> sp.csr_array:
    b, k = indices.shape
    parts = (values.detach().numpy().reshape(-1), indices.numpy().reshape(-1), np.arange(0, b * k + 1, k))
    return sp.csr_array(parts, shape=(b, dimension))
