"""Smooth stand-ins for the cost of a search, to be added to a loss. All take activations of unit length.

The cost itself, F = sum_j p^q_j p^d_j, counts non-zeros and has no gradient (`sparsevec.flops` counts it; report that
one). Replacing the share p_j by the mean magnitude a_j gives the relaxation of Paria et al., "Minimizing FLOPs to Learn
Efficient Sparse Representations", ICLR 2020: F~ = sum_j a_j^2.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["flops", "flops_unbiased", "pair_flops"]


def flops(activations: Tensor) -> Tensor:
    """F~ = sum_j (mean_i |a_ij|)^2, the plug-in estimate of a batch.  (b, dimension) -> ().

    It is too high by sum_j Var|a_j| / b in the mean, so its weight means something else at another batch size.
    """
    return activations.abs().mean(dim=0).square().sum()  # without abs, signed weights cancel


def flops_unbiased(activations: Tensor) -> Tensor:
    """The same without the bias: sum_j mean over i != i' of |a_ij| |a_i'j|.  (b, dimension) -> (), b > 1.

    ((sum_i |a_ij|)^2 - sum_i a_ij^2) / (b (b - 1)): the terms of a row with itself are taken out.
    """
    b = len(activations)
    magnitudes = activations.abs()
    return (magnitudes.sum(dim=0).square() - magnitudes.square().sum(dim=0)).sum() / (b * (b - 1))


def pair_flops(queries: Tensor, documents: Tensor) -> Tensor:
    """sum_j a^q_j a^d_j for the mean magnitudes a^q, a^d (dimension,) of queries and documents.  -> ().

    The relaxation of F for two sides that differ. The sides are independent samples, so it has no bias to remove.
    """
    return queries @ documents
