"""`Reading`: the whole ranking of one query, page by page, from one point in time (C21).

A place is the point in time, and the score and shard document of the last hit that was taken: together they rank every
hit, so that no tie is lost at the edge of a page. The server keeps the point for minutes after each page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from sparsevec.contract.operations import Operation
from sparsevec.contract.searches import no_place

from . import points
from .answers import read_hits
from .queries import reading_body
from .session import Session

__all__ = ["Reading"]

Json = Mapping[str, Any]
_KEEP = "5m"
_GONE = 'the backend has forgotten that place of the ranking; begin again with after=""'


class Reading:
    def __init__(self, session: Session, body: Json, most: int) -> None:
        """Of the search `body`; no request asks for more than `most` hits."""
        self._session, self._body, self._most = session, body, most

    def behind(
        self, after: str, k: int, take: Callable[[list[Json]], list[Json]]
    ) -> Operation[tuple[list[Json], str | None]]:
        """The next k of the hits that the search takes, and the place behind them; None at the end."""
        point, place = (
            _place(after)
            if after
            else ((yield from points.opened(self._session.engine, self._session.path, _KEEP)), None)
        )
        taken: list[Json] = []
        while True:
            size = min(self._most, k + 1 - len(taken))  # one more says whether there is more
            found = yield from points.page(reading_body(self._body, point, _KEEP, size, place), _GONE)
            hits, point = read_hits(found), found.get("pit_id", point)
            taken += [{**hit, "_score": hit["sort"][0]} for hit in take(hits)]
            if len(taken) > k:
                return taken[:k], orjson.dumps([point, taken[k - 1]["sort"]]).decode()
            if len(hits) < size:
                yield from points.close(self._session.engine, point)
                return taken, None
            place = hits[-1]["sort"]


def _place(after: str) -> tuple[str, list[Any]]:
    try:
        point, place = orjson.loads(after)
        score, document = place
    except (ValueError, TypeError):
        point = score = document = None
    if not (isinstance(point, str) and isinstance(score, float) and isinstance(document, int)):
        raise no_place(after)
    return point, [score, document]
