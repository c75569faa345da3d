"""From activations to top-k codes and to their products, for training: (b, k), on a CPU never (b, dimension) of codes.

There a product is the sum over the weights that meet; a GPU does a dense product of such a batch in less time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sparsevec.compiler import Loops
from sparsevec.training.codes import TopK, column_sums
from sparsevec.vectors import SparseVectors

__all__ = ["arithmetic", "dot_products", "largest", "linear_top_k", "padded", "rounds"]

Int32s: TypeAlias = npt.NDArray[np.int32]

_LOOPS: Final = Loops("sparsevec.encoder.learning.loops", worth=0)
_TIED = 8  # times k candidates of a row: where ties make them more, looking at all takes less memory
_MAXIMA = 4  # groups for each of the k largest: with fewer more is looked at, with more their own k takes longer
_GROUPS, _SPARSE = 12, 8  # for each of the k largest, of compiled loops; numbers for each, of which they are worth it
_ROWS = 64
_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}  # of as many bytes
_DENSE = 1000  # multiplications of a dense product that take as long as one meeting


def linear_top_k(rows: Tensor, weights: Tensor, bias: Tensor, k: int) -> TopK:
    """ReLU of the k largest of z = rows @ weights.T + bias in each row, unordered.

    rows (b, input_dim), weights (dimension, input_dim), bias (dimension,). The gradient reaches only what was kept, so
    the backward pass costs b k input_dim and not b dimension input_dim. Where the processor multiplies bfloat16 itself,
    rows and weights are rounded to it, and so is z, for a third of the time: over two seeds, on 20,000 Debian
    descriptions, heads and refined codes then find .001 less to .003 more of the dense top 10, each within .0045.
    """
    values, indices = cast("tuple[Tensor, Tensor]", _LinearTopK.apply(rows, weights, bias, k))
    return TopK(values, indices, len(bias))


@cache
def _multiplies_bfloat16() -> bool:
    """Whether this processor has a unit for it (AMX). Without one, bfloat16 takes longer than float32."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of torch 2.10 and later
    return bool(capabilities.get("amx_bf16"))


@cache
def _compiled() -> Callable[..., None] | None:
    """`loops.strongest`; None where it cannot be compiled. Learning waits for it, so that it begins as it goes on."""
    _LOOPS.load(wait=True)
    module = _LOOPS.get()
    return None if module is None else module.strongest


def rounds(device: torch.device) -> bool:
    """Whether products are of bfloat16 while learning."""
    return device.type == "cpu" and _multiplies_bfloat16()


def arithmetic(device: torch.device) -> str:
    """What rows and weights are multiplied in while learning, and what chooses among equal ones; a checkpoint goes on
    to the same bits in the same."""
    chosen = " by loops" if device.type == "cpu" and _compiled() is not None else ""
    return ("bfloat16" if rounds(device) else "float32") + chosen


def _activations(rows: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """z (b, dimension)"""
    if rows.dtype != torch.float32 or not rounds(rows.device):
        return torch.addmm(bias, rows, weights.T)
    b = len(rows)
    rows = F.pad(rows.bfloat16(), (0, 0, 0, -b % _ROWS))  # each new number of rows costs what three products do
    return torch.addmm(bias.bfloat16(), rows, weights.bfloat16().T)[:b]


def largest(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row (b, m), unordered: values and indices (b, k). NaN is the largest, as for topk."""
    b, m = z.shape
    strongest = _compiled() if z.device.type == "cpu" and z.dtype in _BITS and m >= _SPARSE * k else None
    if strongest is None:
        return _largest(z, k)
    indices = torch.empty((b, k), dtype=torch.int64)
    bits = z.detach().contiguous().view(_BITS[z.dtype])
    strongest(bits.numpy(), k, min(_GROUPS * k, m // 4), indices.numpy())
    return z.gather(1, indices), indices


def _largest(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What does not reach the k-th largest of the maxima of groups is not among them."""
    (b, m), groups = z.shape, z.shape[1]
    while groups % 2 == 0 and groups // 2 >= _MAXIMA * k:
        groups //= 2
    if groups == m or z.device.type != "cpu":
        return z.topk(k, dim=1, sorted=False)
    grouped = z.view(b, m // groups, groups)
    maxima = grouped.amax(dim=1)
    bars = maxima.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    rows, columns = (~(maxima < bars)).nonzero(as_tuple=True)
    if len(rows) > 2 * b * k:
        return z.topk(k, dim=1, sorted=False)
    members = grouped[rows, :, columns]
    at, line = (~(members < bars[rows])).nonzero(as_tuple=True)
    rows, columns = rows[at], line * groups + columns[at]
    counts = torch.bincount(rows, minlength=b)
    if int(counts.max()) > _TIED * k:
        return z.topk(k, dim=1, sorted=False)
    places = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
    found = z.new_full((b, int(counts.max())), -math.inf)
    found[rows, places] = members[at, line]
    indices = columns.new_zeros(found.shape)
    indices[rows, places] = columns
    values, picked = found.topk(k, dim=1, sorted=False)
    return values, indices.gather(1, picked)


class _LinearTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
        values, indices = largest(_activations(rows, weights, bias), k)
        values = values.to(rows.dtype).clamp_min(0)
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


class _Meetings(NamedTuple):
    """Where weights of queries and of documents meet: pairs of places in what is flat of (q, k) and (b, m)."""

    queries: Int32s  # ascending
    documents: Int32s
    products: Int32s  # the places of their products, in what is flat of (q, b)


def _meetings(queries: Tensor, documents: Tensor, dimension: int) -> _Meetings | None:
    """Of the indices (q, k) and (b, m); None where they are so many that a dense product takes less."""
    (q, k), (b, m) = queries.shape, documents.shape
    asked, places = _flat(queries), torch.arange(b * m, dtype=torch.int32).view(b, m)
    by_dimension = _csr(TopK(places, documents, dimension)).T.tocsr()
    counts = np.diff(by_dimension.indptr)[asked]
    ends = np.cumsum(counts, dtype=np.int64)
    if _DENSE * int(ends[-1]) > q * b * dimension:
        return None
    of_queries = np.repeat(np.arange(q * k, dtype=np.int32), counts)
    before = (ends - counts - by_dimension.indptr[asked]).astype(np.int32)
    of_documents = by_dimension.data[np.arange(ends[-1], dtype=np.int32) - np.repeat(before, counts)]
    return _Meetings(of_queries, of_documents, of_queries // k * b + of_documents // m)


class _DotProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qv: Tensor, qi: Tensor, dv: Tensor, di: Tensor, dimension: int) -> Tensor:
        ctx.save_for_backward(qv, qi, dv, di)
        ctx.dimension = dimension
        ctx.met = met = _meetings(qi, di, dimension) if qv.device.type == "cpu" else None
        if met is None:
            return TopK(qv, qi, dimension).dense() @ TopK(dv, di, dimension).dense().T
        products = _flat(qv)[met.queries] * _flat(dv)[met.documents]
        return _sums(met.products, products, (len(qv), len(dv))).to(qv.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        qv, qi, dv, di = ctx.saved_tensors
        if (met := ctx.met) is None:
            of_queries = (gradients[0] @ TopK(dv, di, ctx.dimension).dense()).gather(1, qi)
            of_documents = (gradients[0].T @ TopK(qv, qi, ctx.dimension).dense()).gather(1, di)
            return of_queries, None, of_documents, None, None
        sent = _flat(gradients[0])[met.products]
        of_queries = _sums(met.queries, sent * _flat(dv)[met.documents], qv.shape).to(qv.dtype)
        of_documents = _sums(met.documents, sent * _flat(qv)[met.queries], dv.shape).to(dv.dtype)
        return of_queries, None, of_documents, None, None


def _flat(values: Tensor) -> npt.NDArray[Any]:
    return values.detach().numpy().reshape(-1)


def _sums(places: Int32s, values: npt.NDArray[Any], shape: tuple[int, ...]) -> Tensor:
    """Of the values at each place of what is flat of that shape; added in float64."""
    return torch.from_numpy(np.bincount(places, values, minlength=math.prod(shape)).reshape(shape))


def _sent_back(codes: TopK, rows: Tensor) -> Tensor:
    """codes.T @ rows: codes (b, k), rows (b, m), to (dimension, m)."""
    if rows.device.type != "cpu":
        return codes.dense().T @ rows
    by_dimension = _csr(codes).T.tocsr()  # so that each row of the sum is written once
    weights, indices, bounds = map(torch.from_numpy, (by_dimension.data, by_dimension.indices, by_dimension.indptr))
    return F.embedding_bag(indices, rows, bounds, mode="sum", per_sample_weights=weights, include_last_offset=True)


def padded(vectors: SparseVectors, missing: float) -> TopK:
    """(n, longest row), with `missing` for the weights that shorter rows do not have."""
    lengths, k = vectors.row_nnz, int(vectors.row_nnz.max())
    filled = np.arange(k) < lengths[:, None]
    weights, indices = np.full(filled.shape, missing, np.float32), np.zeros(filled.shape, np.int64)
    weights[filled], indices[filled] = vectors.values, vectors.indices
    return TopK(torch.from_numpy(weights), torch.from_numpy(indices), vectors.dimension)


def _csr(codes: TopK) -> sp.csr_array:
    b, k = codes.indices.shape
    parts = _flat(codes.values), _flat(codes.indices), np.arange(0, b * k + 1, k)
    return sp.csr_array(parts, shape=(b, codes.dimension))
