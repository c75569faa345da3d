"""A point in time of an index: opened, kept for some minutes after each request, and let go of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from sparsevec.contract.operations import Operation
from sparsevec.errors import PlaceForgotten

from .errors import says, to_error
from .wire import Answer, ask, good, json

__all__ = ["ELSEWHERE", "close", "opened", "page"]

ELSEWHERE = "that place is of another index than the name stands for; begin again"
_NEVER = ("search context id", "invalid id", "EOFException")  # of a point that no server gave, by version


def opened(engine: str, path: Callable[..., str], keep: str, params: Mapping[str, str] | None = None) -> Operation[str]:
    """Of what `path` makes a path of its actions."""
    action = ("_search", "point_in_time") if engine == "opensearch" else ("_pit",)
    answer = yield from json("POST", path(*action), params={"keep_alive": keep, **(params or {})})
    return str(answer["pit_id"] if "pit_id" in answer else answer["id"])


def close(engine: str, point: str) -> Operation[None]:
    if engine == "opensearch":
        yield from ask("DELETE", "/_search/point_in_time", body=orjson.dumps({"pit_id": [point]}))
    else:
        yield from ask("DELETE", "/_pit", body=orjson.dumps({"id": point}))


def page(body: Mapping[str, Any], forgotten: str) -> Operation[Mapping[str, Any]]:
    """The answer to one page of it. Raises PlaceForgotten, in those words, when the point is gone or never was."""
    answer: Answer = yield from ask("POST", "/_search", body=orjson.dumps(body))
    gone = answer.status == 404 and says(answer.body, "search_context_missing")
    never = answer.status == 400 and any(says(answer.body, words) for words in _NEVER)
    if gone or never:
        raise PlaceForgotten(forgotten) from to_error(answer.status, answer.body)
    found: Mapping[str, Any] = good(answer)
    if not found.get("_shards", {}).get("total"):
        raise PlaceForgotten(forgotten)
    return found
