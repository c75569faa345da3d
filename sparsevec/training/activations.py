"""What makes a row of pre-activations sparse, and the length of 1 afterwards. (b, dimension) in and out.

Each is an `Activation`: a function of the last axis alone, or a module where it has a parameter to learn. All keep the
device and the dtype they are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparsevec.contract.checks import is_positive
from sparsevec.errors import InvalidInput
from sparsevec.training.settings import check_real, check_whole

__all__ = ["Activation", "JumpReLU", "relu", "soft_threshold", "top_k", "unit"]

Activation = Callable[[Tensor], Tensor]


def relu(x: Tensor) -> Tensor:
    """max(x, 0), which Paria et al. (ICLR 2020) use on MobileFaceNet."""
    return x.relu()


def soft_threshold(x: Tensor, threshold: float = 0.5) -> Tensor:
    """sign(x) · max(|x| - threshold, 0): signed weights, as Paria et al. (ICLR 2020) use on ResNet with 0.5.

    Elasticsearch and OpenSearch hold no negative weight; Qdrant does. Raises InvalidInput below 0.
    """
    check_real("a soft threshold must be a finite number of at least 0", threshold, lambda real: real >= 0)
    return (x - threshold).relu() - (-x - threshold).relu()


def top_k(x: Tensor, k: int) -> Tensor:
    """The k largest of each row where they are positive, 0 elsewhere: ReLU(top-k), Makhzani & Frey, ICLR 2014.

    Never more than k of a row, also where several are equal. The gradient reaches what was kept and nothing else.
    Raises InvalidInput for a k outside 1 ... dimension.
    """
    expected = f"top_k keeps 1 to {x.shape[-1]} of {x.shape[-1]} dimensions"
    check_whole(expected, k, 1)
    if k > x.shape[-1]:
        raise InvalidInput(f"{expected}, found {k}")
    values, indices = x.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(x).scatter(-1, indices, values.relu())


class JumpReLU(nn.Module):
    """x where x > threshold, 0 elsewhere, with a positive threshold for each dimension that is learned.

    Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU Sparse Autoencoders", 2024.
    The jump has no gradient, so the threshold t_j gets pseudo-derivatives from a rectangle of width `bandwidth`:

        d JumpReLU(x) / d t = -(t / bandwidth) · 1[|x - t| < bandwidth / 2]
        d H(x - t)    / d t = -(1 / bandwidth) · 1[|x - t| < bandwidth / 2]

    x gets the exact gradient 1[x > t] and none from `l0`. Their t is exp(log_threshold), so it stays positive. They use
    0.001 for both settings on activations of mean square 1; a pre-activation further than bandwidth / 2 from the
    threshold teaches it nothing, so widen it where few are that near.
    """

    def __init__(self, dimension: int, *, threshold: float = 0.001, bandwidth: float = 0.001) -> None:
        super().__init__()
        check_whole("JumpReLU needs a dimension above 0", dimension, 1)
        for name, value in (("threshold", threshold), ("bandwidth", bandwidth)):
            check_real(f"JumpReLU needs a {name} above 0", value, is_positive)
        self.bandwidth = bandwidth
        self.log_threshold = nn.Parameter(torch.full((dimension,), math.log(threshold)))

    @property
    def threshold(self) -> Tensor:
        """(dimension,), positive."""
        return self.log_threshold.exp()

    def forward(self, x: Tensor) -> Tensor:
        kept: Tensor = _JumpReLU.apply(x, self.threshold.to(x.dtype), self.bandwidth)
        return kept

    def l0(self, x: Tensor) -> Tensor:
        """How many of a row pass, sum_j H(x_ij - t_j), a term for a loss.  (b, dimension) -> (b,)."""
        passed: Tensor = _Heaviside.apply(x, self.threshold.to(x.dtype), self.bandwidth)
        return passed.sum(dim=-1)


class _JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        context.save_for_backward(x, threshold)
        context.bandwidth = bandwidth
        return torch.where(x > threshold, x, 0)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        x, threshold = context.saved_tensors
        near = (x - threshold).abs() < context.bandwidth / 2
        per_row = torch.where(near, gradient, 0) * (-threshold / context.bandwidth)
        return torch.where(x > threshold, gradient, 0), per_row.sum_to_size(threshold.shape), None


class _Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        context.save_for_backward(x, threshold)
        context.bandwidth = bandwidth
        return (x > threshold).to(x.dtype)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (gradient,) = gradients
        x, threshold = context.saved_tensors
        near = (x - threshold).abs() < context.bandwidth / 2
        per_row = torch.where(near, gradient, 0) / -context.bandwidth
        return None, per_row.sum_to_size(threshold.shape), None


def unit(x: Tensor) -> Tensor:
    """Each row divided by its Euclidean length; a row of zeros stays zeros, and its gradient is zero.

    Divided by the largest magnitude first, so that no square overflows or vanishes. A row whose largest magnitude is
    below the smallest normal number of the dtype counts as zeros: its gradient would not be finite.
    """
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    silent = largest < torch.finfo(x.dtype).tiny
    scaled = x / torch.where(silent, 1, largest)
    length = torch.where(silent, 1, scaled.square().sum(dim=-1, keepdim=True)).sqrt()
    return torch.where(silent, 0, scaled / length)
