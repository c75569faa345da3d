"""Nearest documents of many rows without comparing all pairs: a row looks in the cells that are near its own.

Documents belong to the cell whose centre, the mean of those that a random leader attracts, is nearest ("cluster
pruning", Chierichetti et al., PODS 2007). All rows of one cell look in the same other cells, so that comparisons are
matrix products.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from sparsevec.dense import Nearest, blocks, largest
from sparsevec.vectors import Float32s, Int64s

__all__ = ["nearest_in_cells"]

_SCORES = 2**24  # similarities held at once


def nearest_in_cells(
    documents: Float32s, rows: Float32s, k: int, looked: int, *, itself: Int64s | None = None
) -> Nearest:
    """Of unit documents (n, d) k < n near ones of each unit row (q, d), best first: the nearest of `looked` or a few
    more, and of 2 k at least.

    itself (q,): the document that each row is, which it does not find.
    """
    generator = np.random.default_rng(0)
    centres = _centres(documents, math.isqrt(len(documents)), generator)
    members, starts = _by_cell(documents, centres)
    asking, bounds = _by_cell(rows, centres)
    near, scores = np.empty((len(rows), k), np.int64), np.empty((len(rows), k), np.float32)
    sizes, wanted = np.diff(starts), max(2 * k, looked)
    for cell, centre in enumerate(centres):
        order = np.argsort(-(centres @ centre), kind="stable")
        around = order[: 1 + int(np.searchsorted(np.cumsum(sizes[order]), wanted))]
        candidates = np.sort(np.concatenate([members[starts[one] : starts[one + 1]] for one in around]))
        there, mine = documents[candidates], asking[bounds[cell] : bounds[cell + 1]]
        step = max(1, _SCORES // len(candidates))
        for start in range(0, len(mine), step):
            some = mine[start : start + step]
            similarities = rows[some] @ there.T
            if itself is not None:
                own = np.searchsorted(candidates, itself[some])
                own[own == len(candidates)] = 0
                found = candidates[own] == itself[some]
                similarities[np.flatnonzero(found), own[found]] = -np.inf
            at, scores[some] = largest(similarities, k)
            near[some] = candidates[at]
    return Nearest(near, scores)


def _centres(documents: Float32s, cells: int, generator: np.random.Generator) -> Float32s:
    leaders = documents[np.sort(generator.choice(len(documents), cells, replace=False))]
    attracted = _nearest_centre(documents, leaders)
    one = np.ones(len(documents), np.float32)
    sums = sp.csr_array((one, attracted, np.arange(len(documents) + 1)), shape=(len(documents), cells)).T @ documents
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.maximum(lengths, 1e-30), leaders)


def _by_cell(rows: Float32s, centres: Float32s) -> tuple[Int64s, Int64s]:
    """Numbers of the rows, cell after cell, and where each cell begins (cells + 1,)."""
    cells = _nearest_centre(rows, centres)
    order = np.argsort(cells, kind="stable")
    return order, np.searchsorted(cells[order], np.arange(len(centres) + 1))


def _nearest_centre(rows: Float32s, centres: Float32s) -> Int64s:
    return np.concatenate([np.argmax(block @ centres.T, axis=1) for _, block in blocks(rows)])
