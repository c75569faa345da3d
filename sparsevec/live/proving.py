"""Whether a collection answers what exact arithmetic says of all that it holds, while others may write to it."""

from __future__ import annotations

import numpy as np

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import Id
from sparsevec.encoder import SparseEncoder
from sparsevec.exact.verify import VerifyReport, verify
from sparsevec.vectors import Float32s, SparseVectors

__all__ = ["proved"]

_QUERIES = 50  # rows of the sample that ask
_TRIES = 3  # while others write
_IN_MEMORY = 200_000  # documents: 32 weights each are 50 MB


def proved(adapter: Adapter, encoder: SparseEncoder, rows: Float32s) -> VerifyReport | None:
    """With some of the dense `rows` (n, input_dim) as queries. None when there are none, when what the backend holds is
    too much for memory, or others write all the time, so that what was read is not what was searched."""
    if not len(rows):
        return None
    queries = encoder.encode_query(rows[:_QUERIES])
    for _ in range(_TRIES):
        if (held := _held(adapter)) is None:
            return None
        report = verify(adapter, held[1], queries, 10, ids=held[0])
        if report.exact or _held(adapter) == held:
            return report
    return None


def _held(adapter: Adapter) -> tuple[list[Id], SparseVectors] | None:
    """Every vector of ours, by id; None when there are none, or more than fit in memory."""
    ids: list[Id] = []
    parts: list[SparseVectors] = []
    for page in adapter.scan(vectors=True):
        assert page.vectors is not None
        assert page.holds is not None
        rows = np.flatnonzero(page.holds)
        ids += [page.ids[row] for row in rows.tolist()]
        parts.append(page.vectors[rows])
        if len(ids) > _IN_MEMORY:
            return None
    if len(set(ids)) < len(ids):  # one id for several documents, which others tell apart by their routing
        return None
    order = sorted(range(len(ids)), key=lambda row: str(ids[row]))
    return ([ids[row] for row in order], SparseVectors.concat(parts)[order]) if ids else None
