"""The nearest documents of each row, found once: `fit`, `refine` and other fits of the same rows share them.

The last that were found are kept in this process, of documents and of a sample: 8 bytes a neighbour, 20 MB for 20,000
rows, 50 MB at most.
"""

from __future__ import annotations

import hashlib
import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparsevec.dense import Nearest, nearest
from sparsevec.vectors import Float32s, Int64s

__all__ = ["nearest_once"]

_KEPT = 2  # the nearest of the documents themselves, and of the sample
_MOST = 50_000  # rows whose nearest are kept
_MARGIN = 28  # more than are asked for, since some will be left out: of 20,000 rows one in 39 is held back


class _Found(NamedTuple):
    """As `Nearest`, in half the bytes."""

    rows: npt.NDArray[np.int32]
    scores: Float32s


_found: dict[tuple[bytes, bytes, bool], _Found] = {}
_lock = threading.Lock()


def nearest_once(
    documents: Float32s, rows: Float32s, k: int, *, themselves: bool = False, kept: Int64s | None = None
) -> Nearest:
    """Of unit documents (n, d) the k nearest of each row (q, d), best first. Exact.

    themselves: the rows are the documents, in their order, and none finds itself. kept (m,): numbers, ascending, of the
    documents that may be found, of which k and more are there, and numbered by their place among these; with
    `themselves` their own nearest are wanted.
    """
    if kept is None:
        found = _known(documents, rows, k, themselves)
        return Nearest(found.rows[:, :k].astype(np.int64), found.scores[:, :k].copy())
    found = _known(documents, rows, k + _MARGIN, themselves)
    if themselves:
        rows, found = rows[kept], _Found(found.rows[kept], found.scores[kept])
    place = np.full(len(documents), -1, np.int64)
    place[kept] = np.arange(len(kept))
    at = place[found.rows]
    order = np.argsort(at < 0, axis=1, kind="stable")[:, :k]
    near, scores = np.take_along_axis(at, order, axis=1), np.take_along_axis(found.scores, order, axis=1)
    if len(short := np.flatnonzero((at >= 0).sum(axis=1) < k)):
        near[short], scores[short] = nearest(documents[kept], rows[short], k, itself=short if themselves else None)
    return Nearest(near, scores)


def _known(documents: Float32s, rows: Float32s, k: int, themselves: bool) -> _Found:
    """At least k, or all."""
    name = _name(documents)
    key = name, name if rows is documents else _name(rows), themselves
    known = _found.get(key)
    if known is not None and known.rows.shape[1] >= min(k, len(documents) - themselves):
        return known
    near = nearest(documents, rows, k, itself=np.arange(len(rows)) if themselves else None)
    known = _Found(near.rows.astype(np.int32), near.scores)
    if len(rows) <= _MOST:
        with _lock:
            _found.pop(key, None)
            while len(_found) >= _KEPT:
                del _found[next(iter(_found))]  # the oldest
            _found[key] = known
    return known


def _name(rows: Float32s) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(rows).data, digest_size=16).digest()
