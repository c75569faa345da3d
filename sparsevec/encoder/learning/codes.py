"""From activations to top-k codes and to their products, for training: (b, k), on a CPU never (b, dimension).

There scipy multiplies sparse matrices; a GPU does a dense product of such a batch in less time than a sparse one.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
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
        of_weights = _sent_back(TopK(flat, indices, ctx.dimension), rows)
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
        queries, documents = TopK(qv, qi, dimension), TopK(dv, di, dimension)
        if qv.device.type != "cpu":
            return queries.dense() @ documents.dense().T
        return torch.from_numpy((_csr(queries) @ _csr(documents).T).toarray())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        qv, qi, dv, di = ctx.saved_tensors
        of_queries = _sent_back(TopK(dv, di, ctx.dimension), gradients[0].T)  # (dimension, q)
        of_documents = _sent_back(TopK(qv, qi, ctx.dimension), gradients[0])  # (dimension, b)
        return _own(of_queries, qi), None, _own(of_documents, di), None, None


def _sent_back(codes: TopK, rows: Tensor) -> Tensor:
    """codes.T @ rows: codes (b, k), rows (b, m), to (dimension, m)."""
    if rows.device.type != "cpu":
        return codes.dense().T @ rows
    by_dimension = _csr(codes).T.tocsr()  # writes each row of the sum once: of long codes in half the time
    return torch.from_numpy(by_dimension @ rows.numpy())


def _own(of_dimensions: Tensor, indices: Tensor) -> Tensor:
    """(dimension, b) at each row's own indices (b, k): (b, k)."""
    return of_dimensions[indices, torch.arange(len(indices), device=indices.device)[:, None]]


def padded(vectors: SparseVectors, missing: float) -> TopK:
    """(n, longest row), with `missing` for the weights that shorter rows do not have."""
    lengths, k = vectors.row_nnz, int(vectors.row_nnz.max())
    filled = np.arange(k) < lengths[:, None]
    weights, indices = np.full(filled.shape, missing, np.float32), np.zeros(filled.shape, np.int64)
    weights[filled], indices[filled] = vectors.values, vectors.indices
    return TopK(torch.from_numpy(weights), torch.from_numpy(indices), vectors.dimension)


def _csr(codes: TopK) -> sp.csr_array:
    b, k = codes.indices.shape
    parts = (codes.values.detach().numpy().reshape(-1), codes.indices.numpy().reshape(-1), np.arange(0, b * k + 1, k))
    return sp.csr_array(parts, shape=(b, codes.dimension))
