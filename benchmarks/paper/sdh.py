"""SDH: sparse k-hot hash codes learned with the network, and a hash table whose candidates are ranked densely.

Jeong & Song, "Efficient end-to-end learning for quantizable representations", ICML 2018. In every batch each class
gets the k dimensions that its mean embedding is strongest in, dearer the more classes want the same one: a minimum-cost
flow, solved exactly. The triplet loss then counts only the dimensions that one of the two codes holds. A document lies
in the buckets of its k strongest dimensions; a query opens its own k, and more while it has too few candidates; these
are ranked by the dense embedding.

After the paper and the code beside it, which solves the flow with OR-Tools; ours is below. `conflict` is the price of
each pair of classes that share a dimension, as in that code (the paper's sum counts a pair twice).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparsevec.errors import InvalidInput
from sparsevec.vectors import Float32s, Int64s

__all__ = ["HashTable", "k_hot", "sdh_loss"]

Float64s = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_CLOSER = 1e-9  # a path shorter by less is rounding


def k_hot(strengths: npt.ArrayLike, k: int, *, conflict: float) -> Mask:
    """The codes (c, dimension) of c classes, k dimensions each: the most strength for the fewest conflicts, exactly.

    Maximises sum_ij strengths_ij code_ij - conflict * sum_j n_j (n_j - 1) / 2, where n_j classes hold dimension j, by
    successive shortest paths: one dimension more for one class at a time, others moving when that is cheaper.
    Raises InvalidInput when k is not within [1, dimension] or the conflict is negative.
    """
    benefit = np.asarray(strengths, np.float64)
    if not 1 <= k <= benefit.shape[1] or conflict < 0:
        raise InvalidInput(f"k within [1, {benefit.shape[1]}] and a conflict >= 0 are due, found {k} and {conflict}")
    codes = np.zeros(benefit.shape, np.bool_)
    for owner in np.tile(np.arange(len(benefit)), k):
        _give_one(benefit, codes, conflict, int(owner))
    return codes


def _give_one(benefit: Float64s, codes: Mask, conflict: float, owner: int) -> None:
    """One dimension more for `owner`, along the cheapest path owner -> dimension -> its holder -> dimension ..."""
    each_class, each_dimension = (np.arange(size) for size in codes.shape)
    cost, came_from, came_by = np.full(len(codes), np.inf), np.full(len(codes), -1), np.full(len(codes), -1)
    cost[owner] = 0
    while True:  # Bellman and Ford, all classes and dimensions at once
        taking = np.where(codes, np.inf, cost[:, None] - benefit)
        taker = taking.argmin(axis=0)
        reached = taking[taker, each_dimension]  # (dimension,)
        leaving = np.where(codes, reached + benefit, np.inf)
        left = leaving.argmin(axis=1)
        cheaper = leaving[each_class, left] < cost - _CLOSER
        if not cheaper.any():
            break
        cost[cheaper] = leaving[cheaper, left[cheaper]]
        came_by[cheaper], came_from[cheaper] = left[cheaper], taker[left[cheaper]]
    dimension = int(np.argmin(reached + conflict * codes.sum(axis=0)))
    holder = int(taker[dimension])
    codes[holder, dimension] = True
    while holder != owner:
        dimension = int(came_by[holder])
        codes[holder, dimension] = False
        holder = int(came_from[holder])
        codes[holder, dimension] = True


def sdh_loss(embeddings: Tensor, labels: Tensor, k: int, *, conflict: float = 0.01, margin: float = 0.1) -> Tensor:
    """The semi-hard triplet loss of unit embeddings over the dimensions of their classes' k-hot codes.

    (b, dimension), (b,) -> (). The distance of a pair is sum |a_j - b_j| over the dimensions that either code holds.
    The defaults are those of the authors' CIFAR-100 runs. Raises InvalidInput for a batch without two of a class, or of
    one class alone.
    """
    classes, members = torch.unique(labels, return_inverse=True)
    same = members[:, None] == members
    positives = torch.nonzero(same.fill_diagonal_(False))  # (pairs, 2)
    if len(positives) == 0 or len(classes) < 2:
        raise InvalidInput(f"two items of a class and two classes are due, found labels {labels.tolist()!r:.80}")
    sums = torch.zeros(len(classes), embeddings.shape[1]).index_add_(
        0, members.cpu(), embeddings.detach().float().cpu()
    )
    codes = torch.from_numpy(k_hot((sums / members.cpu().bincount()[:, None]).numpy(), k, conflict=conflict))
    distances = _distances(embeddings, codes.to(embeddings.device)[members], k)
    return _semi_hard(distances, members, positives, margin)


def _distances(embeddings: Tensor, codes: Tensor, k: int) -> Tensor:
    """sum_j (h_ij or h_i'j) |a_ij - a_i'j| of every pair, visiting the k dimensions of each code only.  -> (b, b)"""
    held = codes.nonzero()[:, 1].reshape(-1, k)  # (b, k)
    apart = (embeddings.gather(1, held)[:, None] - embeddings.T[held].transpose(1, 2)).abs()  # (b, b, k)
    other_too = codes.T[held].transpose(1, 2)  # whether the other's code holds it as well
    return apart.sum(dim=2) + (apart * ~other_too).sum(dim=2).T


def _semi_hard(distances: Tensor, members: Tensor, positives: Tensor, margin: float) -> Tensor:
    """Of each positive pair: the nearest negative that is farther than the positive, else the farthest there is."""
    near = distances[positives[:, 0], positives[:, 1]]  # (pairs,)
    others = distances[positives[:, 0]]  # (pairs, b)
    negative = members[positives[:, 0], None] != members
    farther = negative & (others > near[:, None])
    outside = others.masked_fill(~farther, torch.inf).amin(dim=1)
    inside = others.masked_fill(~negative, -torch.inf).amax(dim=1)
    return (margin + near - torch.where(farther.any(dim=1), outside, inside)).relu().mean()


class HashTable:
    """Buckets of the `gallery` (n, d): row i lies in those of the `active` largest of its `strengths` (n, buckets)."""

    def __init__(self, gallery: Float32s, strengths: Float32s, active: int) -> None:
        self._gallery, self._active = gallery, active
        held = _strongest_first(strengths)[:, :active]
        order = np.argsort(held, axis=None, kind="stable")
        ends = np.cumsum(np.bincount(held.ravel(), minlength=strengths.shape[1]))
        self._buckets = np.split(order // active, ends[:-1])

    def candidates(self, strengths: Float32s, k: int) -> tuple[Int64s, int]:
        """The rows that a query with these strengths (buckets,) finds, ascending, and how many entries it read.

        It opens its `active` strongest buckets, and further ones while fewer than k rows were found.
        """
        order = _strongest_first(strengths)
        opened = self._active
        rows = np.unique(np.concatenate([self._buckets[bucket] for bucket in order[:opened]]))
        while len(rows) < k and opened < len(order):
            rows = np.union1d(rows, self._buckets[order[opened]])
            opened += 1
        return rows, sum(len(self._buckets[bucket]) for bucket in order[:opened])

    def search(self, query: Float32s, strengths: Float32s, k: int) -> Int64s:
        """The k best candidates by dot product with the dense `query` (d,), best first."""
        rows, _ = self.candidates(strengths, k)
        return rows[np.argsort(-(self._gallery[rows] @ query), kind="stable")[:k]]


def _strongest_first(strengths: Float32s) -> Int64s:
    return np.argsort(-strengths, axis=-1, kind="stable")
