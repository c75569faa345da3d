"""`Reading`: how the hits behind a place are read (C21), in a ranking of Qdrant, which has no point in time.

A place is how many hits score higher than the last one that was given, and which of its score were given already: an
offset of the one, and leaving out the others, loses no tie and gives none twice, in whatever order they come. Hits that
are written or deleted meanwhile move the offset: then one may come twice, or not at all (C21).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sparsevec.errors import InvalidInput

from .ids import Point

__all__ = ["Reading"]

Hit = TypeVar("Hit")

_MOST = 1000  # hits of one request for more, where few of them match


class Reading(Generic[Hit]):
    """The k `hits` behind a place: ask for `limit` of them at `offset`, for as long as it goes on."""

    def __init__(
        self,
        after: str,
        k: int,
        rank: Callable[[Hit], tuple[Point, float]],
        keep: Callable[[list[Hit]], list[Hit]],
    ) -> None:
        """`rank`: point and score of a hit. `keep`: those that match, where the engine alone cannot tell. Raises
        InvalidInput for what is no `Hits.after`."""
        self._place, self._k, self._rank, self._keep = _Place.parse(after), k, rank, keep
        self._more = k + 1
        self.hits: list[Hit] = []
        self.after: str | None = None
        """`Hits.after` of these; None where there are no more"""

    @property
    def offset(self) -> int:
        """Hits to pass over."""
        return self._place.above

    @property
    def limit(self) -> int:
        """Hits to ask for: what is wanted, and those of the last score, which come again."""
        return self._more + len(self._place.tied)

    def goes_on(self, found: Sequence[Hit]) -> bool:
        """Take what was found there. False when there is nothing more to ask for."""
        new = self._place.behind(found, self._rank)
        kept, room = self._keep(new), self._k - len(self.hits)
        self.hits += kept[:room]
        if len(kept) > room:
            passed = new[: new.index(kept[room - 1]) + 1] if room else []
            self.after = str(self._place.after(map(self._rank, passed)))
            return False
        if len(found) < self.limit:
            return False
        self._place = self._place.after(map(self._rank, new))
        self._more = max(self._k + 1 - len(self.hits), min(2 * self._more, _MOST))
        return True


@dataclass(frozen=True, slots=True)
class _Place:
    score: float | None = None
    above: int = 0
    """hits that score higher: the offset to ask for"""
    tied: tuple[Point, ...] = ()
    """those of that score that were given"""

    @classmethod
    def parse(cls, after: str) -> _Place:
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

    def behind(self, found: Iterable[Hit], rank: Callable[[Hit], tuple[Point, float]]) -> list[Hit]:
        """Those of the hits found at this offset that were not given yet."""
        given = set(self.tied)
        return [hit for hit in found if rank(hit)[0] not in given]

    def after(self, passed: Iterable[tuple[Point, float]]) -> _Place:
        """The place behind these hits as well, which follow in the ranking: point and score of each."""
        score, above, tied = self.score, self.above, list(self.tied)
        for point, its_score in passed:
            if its_score != score:
                score, above, tied = its_score, above + len(tied), []
            tied.append(point)
        return _Place(score, above, tuple(tied))
