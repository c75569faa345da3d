"""`Reading`: how the hits behind a place are read (C21), in a ranking of Qdrant, which has no point in time.

A place is the score of the last hit that was given, and which hits of that score were: what scores higher was given, or
has come since, so each document that stays as it is comes once, ties in whatever order. How many scored higher is a
hint where to ask: from the last of these on. If it still scores higher than the place, nothing before it was missed; if
not, some were deleted, and an earlier one is asked for, twice as far back each time, the first of all at last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from sparsevec.contract.searches import no_place

from .ids import Point

__all__ = ["Reading"]

Hit = TypeVar("Hit")
Ranked: TypeAlias = tuple[Point, float]

_MOST = 1000  # hits of one request for more, where few of them match


class Reading(Generic[Hit]):
    """The k `hits` behind a place: ask for `limit` of them at `offset`, for as long as it goes on."""

    def __init__(
        self,
        after: str,
        k: int,
        rank: Callable[[Hit], Ranked],
        keep: Callable[[list[Hit]], list[Hit]],
    ) -> None:
        """`rank`: point and score of a hit. `keep`: those that match, where the engine alone cannot tell. Raises
        InvalidInput for what is no `Hits.after`."""
        self._place, self._k, self._rank, self._keep = _Place.parse(after), k, rank, keep
        self._more, self._back = k + 1, 1
        self.hits: list[Hit] = []
        self.after: str | None = None
        """`Hits.after` of these; None where there are no more"""

    @property
    def offset(self) -> int:
        """Hits to pass over: all but the last that scored higher than the place, or fewer where that one is gone."""
        return max(0, self._place.above - self._back)

    @property
    def limit(self) -> int:
        """Hits to ask for: what is wanted, those of the last score, which come again, and the higher ones before."""
        return self._more + len(self._place.tied) + min(self._back, self._place.above, _MOST)

    def goes_on(self, found: Sequence[Hit]) -> bool:
        """Take what was found there. False when there is nothing more to ask for."""
        ranked, offset, last = [self._rank(hit) for hit in found], self.offset, len(found) < self.limit
        if offset and not (ranked and ranked[0][1] > self._place.score):
            self._back *= 2
            return True
        rows = self._place.behind(ranked)
        new = [found[row] for row in rows]
        kept, room = self._keep(new), self._k - len(self.hits)
        self.hits += kept[:room]
        if len(kept) > room:
            rows = rows[: new.index(kept[room - 1]) + 1] if room else []
            self.after = str(self._place.after([ranked[row] for row in rows], ranked, offset))
            return False
        if last:
            return False
        self._place, self._back = self._place.after([ranked[row] for row in rows], ranked, offset), 1
        self._more = max(self._k + 1 - len(self.hits), min(2 * self._more, _MOST))
        return True


@dataclass(frozen=True, slots=True)
class _Place:
    score: float = math.inf
    above: int = 0
    """hits that scored higher"""
    tied: tuple[Point, ...] = ()
    """those of that score that were given"""

    @classmethod
    def parse(cls, after: str) -> _Place:
        """Of `Hits.after`; the beginning for an empty one. Raises InvalidInput."""
        if not after:
            return cls()
        try:
            score, above, tied = json.loads(after)
            ranks = isinstance(score, float) and math.isfinite(score) and type(above) is int and 0 <= above < 2**63
            if not ranks or type(tied) is not list or not {int, str}.issuperset(map(type, tied)):
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            raise no_place(after) from None
        return cls(score, above, tuple(tied))

    def __str__(self) -> str:
        return json.dumps([self.score, self.above, self.tied])

    def behind(self, found: Sequence[Ranked]) -> list[int]:
        """Which of the hits found follow in the ranking, and were not given."""
        given = set(self.tied)
        return [row for row, (point, score) in enumerate(found) if score <= self.score and point not in given]

    def after(self, passed: Sequence[Ranked], found: Sequence[Ranked], offset: int) -> _Place:
        """The place behind these hits as well, of those that were found at `offset`."""
        score = passed[-1][1] if passed else self.score
        tied = [*(self.tied if score == self.score else ()), *(point for point, its in passed if its == score)]
        return _Place(score, offset + sum(its > score for _, its in found), tuple(tied))
