"""Counters of looks for OpenTelemetry, where its API is installed; an application brings the SDK, or nothing is kept.

sparsevec.live.documents   counter, {document}: attributes place, stage and outcome (looked, right, missing, stale,
                           moved, without, cleared, faulty, written, gone, changed, failed)
sparsevec.live.retries     counter, {request}: place, stage
sparsevec.live.look        histogram, s: how long looks took
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sparsevec.live.reports import Look

__all__ = ["OUTCOMES", "count_look"]

OUTCOMES = (
    "looked",
    "right",
    "missing",
    "stale",
    "moved",
    "without",
    "cleared",
    "faulty",
    "written",
    "gone",
    "changed",
    "failed",
)


def count_look(place: str, stage: str, look: Look) -> None:
    """Add what a look found and did."""
    if (instruments := _instruments()) is None:
        return
    documents, retries, seconds = instruments
    about = {"place": place, "stage": stage}
    for outcome in OUTCOMES:
        if count := getattr(look, outcome):
            documents.add(count, {**about, "outcome": outcome})
    if look.retries:
        retries.add(look.retries, about)
    seconds.record(look.seconds, about)


@cache
def _instruments() -> tuple[Any, Any, Any] | None:
    """Made once: until an application sets a provider they lead nowhere, and from then on to it."""
    try:
        from opentelemetry import metrics
    except ImportError:
        return None
    meter = metrics.get_meter("sparsevec")
    return (
        meter.create_counter("sparsevec.live.documents", "{document}", "documents of looks, by outcome"),
        meter.create_counter("sparsevec.live.retries", "{request}", "requests that were sent again"),
        meter.create_histogram("sparsevec.live.look", "s", "how long a look took"),
    )
