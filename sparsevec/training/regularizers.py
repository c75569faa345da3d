"""Smooth stand-ins for the cost of a search, to be added to a loss. All take activations of unit length.

The cost itself, F = sum_j p^q_j p^d_j, counts non-zeros and has no gradient (`sparsevec.measure.cost` counts it; report
that one). Replacing the share p_j by the mean magnitude a_j gives the relaxation of Paria et al., "Minimizing FLOPs to
Learn Efficient Sparse Representations", ICLR 2020: F~ = sum_j a_j^2. Magnitudes are what is summed: without abs, signed
weights cancel. Sums are float32 at least, whatever the activations are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparsevec.contract.checks import is_positive
from sparsevec.errors import InvalidInput
from sparsevec.training.codes import TopK
from sparsevec.training.settings import check_real

__all__ = ["Regularizer", "df_flops", "flops", "flops_unbiased", "l0_mask", "l1", "pair_flops", "priced"]

Regularizer = Callable[[Any], Tensor]
"""Activations of unit length -> (); give the further arguments of `df_flops` and `l0_mask` by functools.partial.

Ours take (b, dimension) or `TopK`, whichever the objective gives; one of yours gets what your objective gives.
"""


def flops(activations: Tensor | TopK) -> Tensor:
    """F~ = sum_j (mean_i |a_ij|)^2, the plug-in estimate of a batch.  (b, dimension) -> ().

    It is too high by sum_j Var|a_j| / b in the mean, so its weight means something else at another batch size.
    """
    return _means(activations).square().sum()


def flops_unbiased(activations: Tensor | TopK) -> Tensor:
    """The same without the bias: sum_j mean over i != i' of |a_ij| |a_i'j|.  (b, dimension) -> (), b > 1.

    ((sum_i |a_ij|)^2 - sum_i a_ij^2) / (b (b - 1)): the terms of a row with itself are taken out. Raises InvalidInput.
    """
    b = len(activations)
    if b < 2:
        raise InvalidInput(
            f"flops_unbiased compares different rows of a batch, expected at least 2, found {b}: "
            "drop the last batch where it is incomplete, or use flops"
        )
    magnitudes = _magnitudes(activations)
    return (magnitudes.sum(dim=0).square() - magnitudes.square().sum(dim=0)).sum() / (b * (b - 1))


def l1(activations: Tensor | TopK) -> Tensor:
    """mean_i sum_j |a_ij|, what F~ is compared with in the paper.  (b, dimension) -> ().

    Its gradient is the same for every dimension, so it makes rows sparse and leaves them uneven.
    """
    return _magnitudes(activations).sum(dim=1).mean()


def df_flops(activations: Tensor | TopK, document_frequency: Tensor, *, alpha: float, beta: float) -> Tensor:
    """sum_j w_j (mean_i |a_ij|)^2: F~ with the dimensions that much of the corpus uses weighing more.  -> ().

    activations (b, dimension). document_frequency (dimension,): the share of the corpus, in [0, 1], that uses each
    dimension, counted anew now and then (every 100 steps in the paper). With x that share,

        w = 1 / (1 + (x^(log_alpha 2) - 1)^beta)        0 at x = 0, 1/2 at x = alpha, 1 at x = 1

    so alpha in (0, 1) is the frequency from which a dimension counts as common, and beta > 0 how sharply. The weights
    come from DF-FLOPS (Bloomberg, SIGIR 2025, arXiv 2505.15070); its normalisation is not settled by what we could
    read. Ours leaves the weight outside the square, so that all w = 1 give `flops`. Raises InvalidInput.
    """
    expected = "df_flops needs alpha in (0, 1) and beta above 0"
    check_real(expected, alpha, lambda real: 0 < real < 1)
    check_real(expected, beta, is_positive)
    magnitudes = _magnitudes(activations)
    if document_frequency.shape != magnitudes.shape[1:]:
        raise InvalidInput(
            f"document_frequency must be ({magnitudes.shape[1]},), one share for each dimension of the activations, "
            f"found {tuple(document_frequency.shape)}"
        )
    if not ((document_frequency >= 0) & (document_frequency <= 1)).all():
        raise InvalidInput(
            "document_frequency must be shares in [0, 1], found "
            f"{document_frequency.min().item():g} to {document_frequency.max().item():g}: "
            "divide the counts by the number of documents"
        )
    weights = _commonness(document_frequency.to(magnitudes.dtype), alpha, beta)
    return (weights * magnitudes.mean(dim=0).square()).sum()


def _commonness(shares: Tensor, alpha: float, beta: float) -> Tensor:
    power = shares ** (math.log(2) / math.log(alpha))  # infinite at 0
    rarity = (power - 1).clamp(min=0)  # below 0 by rounding, its power would be NaN
    return 1 / (1 + rarity**beta)


def l0_mask(activations: Tensor | TopK, most: int) -> Tensor:
    """F~ over the rows with more than `most` non-zeros: sum_j (1/b sum_i [nnz_i > most] |a_ij|)^2.  (b, d) -> ().

    Rows that are sparse enough are left alone, and still count in b. The l0 mask loss of Shen, Geng & Yang, "Exploring
    l0 Sparsification for Inference-free Sparse Retrievers", 2025. Raises InvalidInput for `most` below 0.
    """
    check_real("l0_mask spares rows of up to `most` non-zeros, at least 0", most, lambda real: real >= 0)
    magnitudes = _magnitudes(activations)
    too_long = magnitudes.count_nonzero(dim=1) > most  # (b,)
    return flops(magnitudes * too_long[:, None])


def pair_flops(queries: Tensor, documents: Tensor) -> Tensor:
    """sum_j a^q_j a^d_j for the mean magnitudes a^q, a^d (dimension,) of queries and documents.  -> ().

    The relaxation of F for two sides that differ. The sides are independent samples, so it has no bias to remove.
    Raises InvalidInput.
    """
    if queries.ndim != 1 or queries.shape != documents.shape:
        raise InvalidInput(
            "pair_flops takes the mean magnitudes (dimension,) of queries and of documents, found "
            f"{tuple(queries.shape)} and {tuple(documents.shape)}"
        )
    return queries @ documents


def priced(activations: Tensor | TopK, prices: Tensor) -> Tensor:
    """sum_j a_j price_j for the mean magnitudes a (dimension,): what queries cost against documents that stay.  -> ().

    prices (dimension,): such as the share of the corpus that uses each dimension; then it is `pair_flops` with those.
    """
    return pair_flops(_means(activations), prices)


def _means(activations: Tensor | TopK) -> Tensor:
    """(dimension,)"""
    return activations.magnitudes() if isinstance(activations, TopK) else _magnitudes(activations).mean(dim=0)


def _magnitudes(activations: Tensor | TopK) -> Tensor:
    """(b, dimension)"""
    activations = activations.dense() if isinstance(activations, TopK) else activations
    if activations.ndim != 2:  # its mean would be of something else
        raise InvalidInput(f"activations must be (b, dimension), found {tuple(activations.shape)}")
    return activations.to(torch.promote_types(activations.dtype, torch.float32)).abs()
