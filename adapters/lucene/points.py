"""A point in time of an index: opened, kept for some minutes after each request, and let go of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson

from sparsevec.contract.operations import Operation

from .wire import ask, json

__all__ = ["close", "opened"]


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
