"""What a user gets for nothing: a scan of one bit a component and one scale a row, with nothing learned.

Rows are centred and turned at random, a document keeps the signs and the scale at which the product of the signs with
the row itself is right; queries stay exact (as in RaBitQ, Gao and Long, SIGMOD 2024). Every document is scanned.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from sparsevec.dense import nearest
from sparsevec.vectors import Float32s, Int64s

__all__ = ["one_bit_top"]


def one_bit_top(rows: Float32s, queries: Float32s, k: int, *, itself: Int64s | None = None) -> list[Int64s]:
    """Of each query (q, d) the k best of unit rows (n, d), best first."""
    mean = rows.mean(axis=0)
    turned = _turned(rows - mean)
    signs = np.where(turned >= 0, np.float32(1), np.float32(-1))
    scales = np.square(turned).sum(axis=1) / np.maximum(np.abs(turned).sum(axis=1), 1e-30)
    documents = np.concatenate([signs * scales[:, None], np.ones((len(rows), 1), np.float32)], axis=1)
    asking = np.concatenate([_turned(queries), (queries @ mean)[:, None]], axis=1)
    return list(nearest(documents.astype(np.float32), asking.astype(np.float32), k, itself=itself).rows)


def _turned(rows: Float32s) -> Float32s:
    """Random signs and a cosine transform, twice: as good as a random rotation, and fast for wide rows."""
    generator = np.random.default_rng(0)
    for _ in range(2):
        rows = rows * generator.choice(np.array([-1, 1], np.float32), rows.shape[1])
        rows = scipy.fft.dct(rows, norm="ortho", axis=1)
    return rows
