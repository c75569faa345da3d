"""What else gives sparse codes from frozen dense vectors: learned here, in the same run, at the same number of weights.

A baseline is a linear head (mean, weights, bias) and is then cut and judged exactly as ours is. Sources:
top-k autoencoder: Makhzani & Frey, "k-Sparse Autoencoders", 2014, with the second term at 4k of Gao et al., 2024.
CSR: Wen et al., "Beyond Matryoshka: Revisiting Sparse Coding for Adaptive Representation", ICML 2025, and its code.
ReLU + L1 and ReLU + FLOPs: Paria et al., ICLR 2020, taught by the dense vectors as we are, since there are no labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sparsevec.encoder.learning.codes import dot_products, linear_top_k
from sparsevec.training.codes import TopK
from sparsevec.training.losses import listwise_kl, relative_error
from sparsevec.training.regularizers import flops_unbiased
from sparsevec.vectors import Float32s

__all__ = ["Baseline", "csr", "random_projection", "relu_flops", "relu_l1", "similarity_kl", "top_k_autoencoder"]

STEPS, BATCH, RATE, WARM_UP = 600, 448, 3e-3, 50
AUXILIARY, DEAD_AFTER = 512, 30  # CSR: dead dimensions that rebuild the error, steps without use that make one dead


@dataclass(frozen=True, slots=True)
class Baseline:
    """A linear head: activations (row - mean) @ weights.T + bias."""

    mean: Float32s
    weights: Float32s
    bias: Float32s


@dataclass(slots=True)
class _Parameters:
    mean: Tensor
    weights: Tensor
    bias: Tensor
    decoder: Tensor
    log_scale: Tensor

    def all(self) -> list[Tensor]:
        return [self.weights, self.bias, self.decoder, self.log_scale]

    def baseline(self) -> Baseline:
        return Baseline(*(tensor.detach().numpy() for tensor in (self.mean, self.weights, self.bias)))


def random_projection(documents: Float32s, dimension: int, _: int, seed: int) -> Baseline:
    """Nothing learned: random directions."""
    weights = np.random.default_rng(seed).standard_normal((dimension, documents.shape[1]), np.float32)
    return Baseline(documents.mean(axis=0), weights / np.linalg.norm(weights, axis=1, keepdims=True), weights[:, 0] * 0)


def top_k_autoencoder(documents: Float32s, dimension: int, nnz: int, seed: int) -> Baseline:
    """Rebuild each row from its nnz largest activations, and from its 4 nnz largest."""

    def loss(parameters: _Parameters, rows: Tensor, _: int) -> Tensor:
        return sum(_rebuilding(parameters, rows, nnz), start=torch.zeros(()))

    return _trained(documents, dimension, seed, loss)


def _rebuilding(parameters: _Parameters, rows: Tensor, nnz: int) -> tuple[Tensor, Tensor]:
    """The relative error at nnz, and an eighth of that at 4 nnz."""
    errors = []
    for k in (nnz, 4 * nnz):
        codes = linear_top_k(rows, parameters.weights, parameters.bias, k)
        rebuilt = F.embedding_bag(codes.indices, parameters.decoder, per_sample_weights=codes.values, mode="sum")
        errors.append(relative_error(rebuilt, rows))
    return errors[0], errors[1] / 8


def csr(documents: Float32s, dimension: int, nnz: int, seed: int) -> Baseline:
    """The autoencoder, with an auxiliary loss for dead dimensions and a contrastive one: each row against the batch."""
    unused = torch.zeros(dimension)

    def loss(parameters: _Parameters, rows: Tensor, _: int) -> Tensor:
        raw = linear_top_k(rows, parameters.weights, parameters.bias, nnz)
        values, indices = raw.values, raw.indices
        unused.add_(1)[indices[values > 0]] = 0
        rebuilt = F.embedding_bag(indices, parameters.decoder, per_sample_weights=values, mode="sum")
        codes = TopK(F.normalize(values, dim=1), indices, dimension)
        contrast = F.cross_entropy(dot_products(codes, codes) / 0.2, torch.arange(len(rows)))
        total = relative_error(rebuilt, rows) + _rebuilding(parameters, rows, nnz)[1] + 0.1 * contrast
        dead = torch.nonzero(unused > DEAD_AFTER).flatten()
        if len(dead) >= 1:
            total = total + _auxiliary(parameters, rows, rows - rebuilt.detach(), dead) / 32
        return total

    return _trained(documents, dimension, seed, loss)


def _auxiliary(parameters: _Parameters, rows: Tensor, error: Tensor, dead: Tensor) -> Tensor:
    weights, bias = parameters.weights[dead], parameters.bias[dead]
    codes = linear_top_k(rows, weights, bias, min(AUXILIARY, len(dead)))
    rebuilt = F.embedding_bag(codes.indices, parameters.decoder[dead], per_sample_weights=codes.values, mode="sum")
    return relative_error(rebuilt, error)


def relu_l1(documents: Float32s, dimension: int, nnz: int, seed: int) -> Baseline:
    """All positive activations, made few by sum_j |a_j|."""
    return _relu(documents, dimension, nnz, seed, lambda codes: codes.sum(dim=1).mean())


def relu_flops(documents: Float32s, dimension: int, nnz: int, seed: int) -> Baseline:
    """All positive activations, made few and evenly spread by F~, unbiased."""
    return _relu(documents, dimension, nnz, seed, flops_unbiased)


def _relu(documents: Float32s, dimension: int, nnz: int, seed: int, penalty: Callable[[Tensor], Tensor]) -> Baseline:
    """A controller finds the weight of the penalty that leaves a tenth more than nnz weights a row; a cut follows."""
    weight, due = 1e-3, 1.1 * nnz

    def loss(parameters: _Parameters, rows: Tensor, step: int) -> Tensor:
        nonlocal weight
        raw = torch.addmm(parameters.bias, rows, parameters.weights.T).relu()
        codes = F.normalize(raw, dim=1)
        found = float((raw > 0).sum(dim=1).float().mean())
        left = max(0.0, 1 - 2 * step / STEPS)
        aim = due * (dimension / 4 / due) ** left  # from a quarter of the dimensions to those due, in half of the steps
        weight *= max(found, 0.1 / nnz) ** 0.1 / aim**0.1
        units = F.normalize(rows + parameters.mean, dim=1)
        total: Tensor = similarity_kl(units, codes, parameters.log_scale) + weight * penalty(codes)
        return total

    return _trained(documents, dimension, seed, loss)


def similarity_kl(units: Tensor, codes: Tensor, log_scale: Tensor) -> Tensor:
    """KL from how a batch's unit rows (b, d) rank one another to how their codes (b, dimension) do.  -> ()."""
    itself = torch.eye(len(units), dtype=torch.bool)
    teacher = (units @ units.T / 0.05).masked_fill(itself, -1e9)
    student = (codes @ codes.T * log_scale.exp()).masked_fill(itself, -1e9)
    return listwise_kl(teacher, student).mean()


def _trained(
    documents: Float32s, dimension: int, seed: int, loss: Callable[[_Parameters, Tensor, int], Tensor]
) -> Baseline:
    """Adam with warm-up and a cosine; batches of neighbours and strangers, so that a ranking has something to rank."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.from_numpy(documents)
    mean = rows.mean(dim=0)
    centred = rows - mean
    seeds = centred[torch.randint(len(rows), (dimension,), generator=generator)]
    noise = 0.3 * torch.randn(seeds.shape, generator=generator) * centred.std(dim=0)
    weights = F.normalize(seeds + noise, dim=1)
    parameters = _Parameters(mean, weights, torch.zeros(dimension), 0.1 * weights, torch.tensor(math.log(10.0)))
    for parameter in parameters.all():
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(parameters.all(), lr=RATE, fused=True)
    for step in range(STEPS):
        rate = min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / STEPS)))
        optimizer.param_groups[0]["lr"] = RATE * rate
        total = loss(parameters, _batch(rows, generator) - mean, step)
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for p in parameters.all() if p.grad is not None], 5.0)
        optimizer.step()
    return parameters.baseline()


def _batch(rows: Tensor, generator: torch.Generator) -> Tensor:
    """64 anchors, with six of the hundred nearest of each."""
    anchors = torch.randint(len(rows), (BATCH // 7,), generator=generator)
    near = (rows[anchors] @ rows.T).topk(100, dim=1).indices
    picks = torch.randint(100, (len(anchors), 6), generator=generator)
    return rows[torch.unique(torch.cat([anchors, near.gather(1, picks).reshape(-1)]))]
