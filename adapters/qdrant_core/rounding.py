"""By how much an index may round a weight, by its datatype. Pure.

An index of datatype float32 keeps weights as they are. float16 and uint8 take effect when the server optimises a
segment, a moment that cannot be known, so `stored` is what was given and the slack the largest change. float16 rounds a
weight w to the nearest float16: |w - float16(w)|. uint8 rounds each list of postings, which belongs to one dimension of
one segment, to 255 steps between its least and greatest weight: half a step, (max - min) / 510, and the float32
arithmetic of finding the step and undoing it, 4 roundings of at most max |w|. A segment's range lies within that of all
documents; so judge all documents of a uint8 collection at once, not a part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["LARGEST_FLOAT16", "slack"]

LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def slack(vectors: SparseVectors, datatype: str) -> Float32s:
    """(nnz,), of an index of `datatype`."""
    return _SLACKS[datatype](vectors)


def _none(vectors: SparseVectors) -> Float32s:
    return np.zeros(vectors.nnz, np.float32)


def _float16(vectors: SparseVectors) -> Float32s:
    return np.abs(vectors.values - vectors.values.astype(np.float16).astype(np.float32))


def _uint8(vectors: SparseVectors) -> Float32s:
    _, postings = np.unique(vectors.indices, return_inverse=True)
    least = np.full(postings.max(initial=-1) + 1, np.inf)
    greatest = -least
    np.minimum.at(least, postings, vectors.values)
    np.maximum.at(greatest, postings, vectors.values)
    largest = np.maximum(np.abs(least), np.abs(greatest))
    slack = (greatest - least) / 510 + 4 * 2.0**-24 * largest
    return np.where(greatest > least, slack, 0)[postings].astype(np.float32)


_SLACKS: Mapping[str, Callable[[SparseVectors], Float32s]] = {"float32": _none, "float16": _float16, "uint8": _uint8}
