"""`Snapshot`: a collection as it was after one write: segments, and which of their documents still count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sparsevec.contract.filters import Condition
from sparsevec.exact.local.segments import Row, Segment, Sizes
from sparsevec.exact.local.texts import Texts
from sparsevec.postings import Float64s, Mask
from sparsevec.postings.blocks import Top
from sparsevec.vectors import Int64s, SparseVectors

__all__ = ["Found", "Snapshot"]

_STEP = 4  # a segment is merged with the one before unless that is so many times larger


class Found(NamedTuple):
    """Documents of a snapshot, (m,) each."""

    segments: Int64s
    rows: Int64s
    """in their segment"""
    scores: Float64s

    def some(self, at: Int64s) -> Found:
        return Found(self.segments[at], self.rows[at], self.scores[at])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The first segment is the base, those behind it hold what was written since, each id once."""

    segments: tuple[Segment, ...]
    alive: tuple[Mask | None, ...]
    """of each segment the rows that no later one stands for; None for all"""
    sequence: int
    """of the last change that is in it"""

    def __len__(self) -> int:
        several = zip(self.segments, self.alive, strict=True)
        return sum(len(segment) if mask is None else int(np.count_nonzero(mask)) for segment, mask in several)

    @property
    def beside(self) -> int:
        """Documents that lie beside the base, or in it for nothing."""
        mask = self.alive[0]
        of_base = len(self.segments[0]) if mask is None else int(np.count_nonzero(mask))
        return sum(map(len, self.segments)) - of_base

    def changed(self, keys: Sequence[bytes], rows: Sequence[Row], sequence: int) -> Snapshot:
        """With `rows`, in ascending order, in place of all that stood under `keys`."""
        if not keys:
            return Snapshot(self.segments, self.alive, sequence)
        alive = [_without(segment, mask, keys) for segment, mask in zip(self.segments, self.alive, strict=True)]
        segments = list(self.segments)
        if rows:
            base = self.segments[0]
            code_bytes = None if base.codes is None else base.codes.shape[1]
            segments.append(Segment.of_rows([rows], Sizes.of(rows), base.vectors.dimension, code_bytes))
            alive.append(None)
        while len(segments) > 2 and len(segments[-2]) <= _STEP * len(segments[-1]):
            segments[-2:], alive[-2:] = [Segment.merged(segments[-2:], alive[-2:])], [None]
        return Snapshot(tuple(segments), tuple(alive), sequence)

    def whole(self) -> Snapshot:
        """The same documents in one segment."""
        if len(self.segments) == 1 and self.alive[0] is None:
            return self
        return Snapshot((Segment.merged(self.segments, self.alive),), (None,), self.sequence)

    # ---- reading

    def allowed(self, wanted: tuple[Condition, ...]) -> list[Mask | None]:
        """Of each segment the rows that are alive and meet all conditions; None for all."""
        if not wanted:
            return list(self.alive)
        met = [segment.columns.allowed(wanted) for segment in self.segments]
        return [one if mask is None else one & mask for one, mask in zip(met, self.alive, strict=True)]

    def search(self, queries: SparseVectors, k: int, wanted: tuple[Condition, ...] = ()) -> list[Found]:
        """The k best documents of each query: higher score first, then lower key."""
        several = zip(self.segments, self.allowed(wanted), strict=True)
        tops = [segment.lists.search_all(queries, k, mask) for segment, mask in several]
        return [self._best([top[query] for top in tops], k) for query in range(len(queries))]

    def _best(self, tops: list[Top], k: int) -> Found:
        if len(tops) == 1:
            return Found(np.zeros(len(tops[0].rows), np.int64), *tops[0])
        segments = np.repeat(np.arange(len(tops)), [len(top.rows) for top in tops])
        rows, scores = np.concatenate([top.rows for top in tops]), np.concatenate([top.scores for top in tops])
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        if (ranked[1:] == ranked[:-1]).any():
            keys = self.keys(Found(segments, rows, scores))
            order = np.array(sorted(range(len(keys)), key=lambda i: (-scores[i], keys[i])), np.int64)
        return Found(segments, rows, scores).some(order[:k])

    def every(self, wanted: tuple[Condition, ...]) -> Found:
        """All documents that meet the conditions, in ascending order of their keys."""
        masks = zip(self.segments, self.allowed(wanted), strict=True)
        taken = [np.arange(len(segment)) if mask is None else np.flatnonzero(mask) for segment, mask in masks]
        segments = np.repeat(np.arange(len(taken)), [len(rows) for rows in taken])
        rows = np.concatenate([np.empty(0, np.int64), *taken])
        found = Found(segments, rows, np.zeros(len(rows)))
        if len(self.segments) == 1:
            return found
        keys = self.keys(found)
        return found.some(np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64))

    def keys(self, found: Found) -> list[bytes]:
        return self._texts([segment.keys for segment in self.segments], found)

    def payloads(self, found: Found) -> list[bytes]:
        """As JSON."""
        return self._texts([segment.payloads for segment in self.segments], found)

    def _texts(self, texts: list[Texts], found: Found) -> list[bytes]:
        if len(texts) == 1:
            return texts[0].each(found.rows)
        order, parts = self._parts(found)
        several = [text for segment, rows in parts for text in texts[segment].each(rows)]
        return [several[at] for at in order.tolist()]

    def vectors(self, found: Found) -> SparseVectors:
        order, parts = self._parts(found)
        return SparseVectors.concat([self.segments[s].vectors[rows] for s, rows in parts])[order]

    def codes(self, found: Found) -> Any:
        """(m, code_bytes); None in a collection without."""
        order, parts = self._parts(found)
        codes = [self.segments[s].codes for s, _ in parts]
        if any(one is None for one in codes):
            return None
        return np.concatenate([one[rows] for one, (_, rows) in zip(codes, parts, strict=True)])[order]  # type: ignore[index]

    def _parts(self, found: Found) -> tuple[Int64s, list[tuple[int, Int64s]]]:
        """The rows of each segment, and where each document of `found` stands when these follow one another."""
        parts = [(s, found.rows[found.segments == s]) for s in range(len(self.segments))]
        order = np.empty(len(found.rows), np.int64)
        order[np.argsort(found.segments, kind="stable")] = np.arange(len(order))
        return order, parts


def _without(segment: Segment, mask: Mask | None, keys: Sequence[bytes]) -> Mask | None:
    gone = [row for row in map(segment.keys.find, keys) if row is not None]
    if not gone:
        return mask
    left = np.ones(len(segment), bool) if mask is None else mask.copy()
    left[gone] = False
    return left
