"""`Place`: where reading on goes on in a ranking of Qdrant, which has no point in time.

How many hits score higher than the last one that was given, and which of its score were given already: an offset of the
one, and leaving out the others, loses no tie and gives none twice, in whatever order they come. Hits that are written
or deleted meanwhile move the offset: then one may come twice, or not at all (C21).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from sparsevec.errors import InvalidInput

from .ids import Point

__all__ = ["Place"]

Hit = TypeVar("Hit")


@dataclass(frozen=True, slots=True)
class Place:
    score: float | None = None
    above: int = 0
    """hits that score higher: the offset to ask for"""
    tied: tuple[Point, ...] = ()
    """those of that score that were given"""

    @classmethod
    def parse(cls, after: str) -> Place:
        """Of `Hits.after`; the beginning for an empty one. Raises InvalidInput."""
        try:
            score, above, tied = json.loads(after) if after else (None, 0, [])
            if after and not (isinstance(score, float) and type(above) is int and above >= 0 and type(tied) is list):
                raise ValueError
        except (ValueError, TypeError):
            raise InvalidInput(
                f'expected after="" to begin, or the `after` of earlier hits, found {after!r:.80}'
            ) from None
        return cls(score, above, tuple(tied))

    def __str__(self) -> str:
        return json.dumps([self.score, self.above, self.tied])

    def limit(self, wanted: int) -> int:
        """There is no point in time. How many hits to ask for, of which `wanted` are new."""
        return wanted + len(self.tied)

    def behind(self, found: Iterable[Hit], rank: Callable[[Hit], tuple[Point, float]]) -> list[Hit]:
        """Those of the hits found at this offset that were not given yet."""
        given = set(self.tied)
        return [hit for hit in found if rank(hit)[0] not in given]

    def after(self, passed: Iterable[tuple[Point, float]]) -> Place:
        """The place behind these hits as well, which follow in the ranking: point and score of each."""
        score, above, tied = self.score, self.above, list(self.tied)
        for point, its_score in passed:
            if its_score != score:
                score, above, tied = its_score, above + len(tied), []
            tied.append(point)
        return Place(score, above, tuple(tied))
