"""What a training step needs to know of codes, whether they are dense (b, dimension) or the k weights of each row.

The loop uses codes in four ways: it gathers them from all processes, asks a regulariser for their cost, counts which
dimensions they use, and counts the empty rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparsevec.training import together

__all__ = ["Codes", "DenseCodes", "Shares", "TopK", "as_codes", "column_sums", "shares"]

Shares: TypeAlias = npt.NDArray[np.float64]


class Codes(Protocol):
    """The activations of a batch of b rows."""

    def __len__(self) -> int: ...

    @property
    def dimension(self) -> int: ...

    def gathered(self) -> Codes:
        """Those of all processes, in their order, with gradients."""

    def regularized(self, regularizer: Callable[[Any], Tensor]) -> Tensor:
        """() the regulariser's value, which may be learned from."""

    def magnitudes(self) -> Tensor:
        """(dimension,) mean over the rows of |a_ij|: what F~ is made of."""

    def usage(self) -> Shares:
        """p_j: the share of rows with a weight at each dimension, (dimension,)."""

    def empty(self) -> float:
        """The share of rows without any weight."""


@dataclass(frozen=True, slots=True)
class DenseCodes:
    """(b, dimension) activations, in float32 at least."""

    activations: Tensor

    def __len__(self) -> int:
        return len(self.activations)

    @property
    def dimension(self) -> int:
        return self.activations.shape[1]

    def gathered(self) -> DenseCodes:
        return DenseCodes(together.gather(self.activations))

    def regularized(self, regularizer: Callable[[Any], Tensor]) -> Tensor:
        return regularizer(self.activations)

    def magnitudes(self) -> Tensor:
        return self.activations.abs().mean(dim=0)

    def usage(self) -> Shares:
        counts: Shares = self.activations.detach().count_nonzero(dim=0).cpu().numpy() / len(self)
        return counts

    def empty(self) -> float:
        return 1 - self.activations.any(dim=1).count_nonzero().item() / len(self)


@dataclass(frozen=True, slots=True)
class TopK:
    """Weights of b rows at k dimensions each, each dimension once a row; a weight of zero is none.

    Never (b, dimension): with k of 16 among 8,192 that is what makes training on a CPU feasible.
    """

    values: Tensor  # (b, k)
    indices: Tensor  # (b, k) int64
    dimension: int

    def __len__(self) -> int:
        return len(self.values)

    def gathered(self) -> TopK:
        return TopK(together.gather(self.values), together.gather(self.indices), self.dimension)

    def regularized(self, regularizer: Callable[[Any], Tensor]) -> Tensor:
        return regularizer(self)

    def to(self, device: torch.device) -> TopK:
        return TopK(self.values.to(device), self.indices.to(device), self.dimension)

    def dense(self) -> Tensor:
        """(b, dimension), for a regulariser that looks at single activations."""
        return self.values.new_zeros(len(self), self.dimension).scatter(1, self.indices, self.values)

    def magnitudes(self) -> Tensor:
        return column_sums(self.values.abs(), self.indices, self.dimension) / len(self)

    def usage(self) -> Shares:
        return shares(self.values, self.indices, self.dimension)

    def empty(self) -> float:
        return 1 - self.values.detach().any(dim=1).count_nonzero().item() / len(self)


def as_codes(activations: Tensor | TopK) -> Codes:
    """A tensor (b, dimension) in float32 at least, or top-k codes as they are."""
    if isinstance(activations, TopK):
        return activations
    return DenseCodes(activations.to(torch.promote_types(activations.dtype, torch.float32)))


def column_sums(values: Tensor, indices: Tensor, dimension: int) -> Tensor:
    """Sum over the batch at each dimension: (b, k) weights at (b, k) indices to (dimension,)."""
    return values.new_zeros(dimension).index_add(0, indices.reshape(-1), values.reshape(-1))


def shares(values: Tensor, indices: Tensor, dimension: int) -> Shares:
    """p_j: share of the batch with a weight at each dimension, (dimension,)."""
    used = indices.cpu().numpy()[values.detach().cpu().numpy() != 0]
    counts: Shares = np.bincount(used, minlength=dimension) / len(values)
    return counts
