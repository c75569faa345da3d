"""Candidates as documents, whatever brought them: a search, a fetch after it, or a filter that leaves few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from sparsevec.contract.adapter import Documents, Hits
from sparsevec.contract.checks import Id
from sparsevec.vectors import Int64s, SparseVectors

__all__ = ["Stored", "brought", "by_id", "in_order", "of_hits", "order_of", "together"]

Stored: TypeAlias = Callable[[SparseVectors], SparseVectors]
"""An adapter's `stored`."""


def brought(hits: Hits, stored: Stored, like: SparseVectors) -> Documents:
    """What a search brought with its hits; of the dimension of `like`, where these have no vectors."""
    vectors = SparseVectors([0], [], [], like.dimension) if hits.vectors is None else stored(hits.vectors)
    payloads = ({},) * len(hits) if hits.payloads is None else hits.payloads
    return Documents(hits.ids, vectors, payloads, codes=hits.codes)


def of_hits(hits: Hits, held: Documents) -> Documents:
    """The candidates of one query, in their order, without those that were deleted since."""
    place = {id_: row for row, id_ in enumerate(held.ids)}
    known = [at for at, id_ in enumerate(hits.ids) if id_ in place]
    some = _some(held, [place[hits.ids[at]] for at in known])
    return some if hits.payloads is None else replace(some, payloads=tuple(hits.payloads[at] for at in known))


def together(pages: Sequence[Documents], like: SparseVectors) -> Documents:
    """Pages of a fetch as one; without any, no documents, of the dimension of `like`."""
    if not pages:
        return Documents((), SparseVectors([0], [], [], like.dimension), ())
    dense = [page.dense for page in pages if page.dense is not None]
    codes = [page.codes for page in pages if page.codes is not None]
    return Documents(
        tuple(id_ for page in pages for id_ in page.ids),
        SparseVectors.concat([page.vectors for page in pages]),
        tuple(payload for page in pages for payload in page.payloads),
        tuple(row for rows in dense for row in rows) if dense else None,
        np.concatenate(codes) if codes else None,
    )


def in_order(documents: Documents) -> Documents:
    """By id, ints before strings."""
    return _some(documents, order_of(documents.ids).tolist())


def order_of(ids: Sequence[Id]) -> Int64s:
    """Their places (m,) in the order of ids, ints before strings."""
    kinds, every = set(map(type, ids)), range(len(ids))
    order = sorted(every, key=ids.__getitem__ if len(kinds) == 1 else lambda at: _order(ids[at]))
    return np.array(order, np.int64)


def _some(held: Documents, rows: list[int]) -> Documents:
    return Documents(
        tuple(held.ids[row] for row in rows),
        held.vectors[np.array(rows, np.int64)],
        tuple(held.payloads[row] for row in rows),
        None if held.dense is None else tuple(held.dense[row] for row in rows),
        None if held.codes is None else held.codes[np.array(rows, np.int64)],
    )


def by_id(hits: Hits) -> Hits:
    """Ties in the order of ids, ints before strings: the same on every backend."""
    order = sorted(range(len(hits)), key=lambda at: (-float(hits.scores[at]), _order(hits.ids[at])))
    return hits.rows(np.array(order, np.int64))


def _order(id_: Id) -> tuple[bool, Id]:
    return isinstance(id_, str), id_
