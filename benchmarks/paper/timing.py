"""Measured time of a search, because multiplications are not latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["seconds_a_query"]

Query = TypeVar("Query")


def seconds_a_query(search: Callable[[Query], object], queries: Sequence[Query], *, repeats: int = 5) -> float:
    """Processor seconds of one query, asked alone: the median over `repeats` of the mean over `queries`, warm.

    Processor time of all threads, so a busy machine changes little and a second thread gains nothing: what one thread
    would need alone.
    """
    for query in queries:  # compiles, and fills the caches
        search(query)
    return statistics.median(_seconds(search, queries) for _ in range(repeats)) / len(queries)


def _seconds(search: Callable[[Query], object], queries: Sequence[Query]) -> float:
    began = time.process_time()
    for query in queries:
        search(query)
    return time.process_time() - began
