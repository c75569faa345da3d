"""`Capabilities`: what a backend can and cannot do, as data: asked, not found out by failing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Capabilities"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Of one collection. A limit of None means that there is none worth naming, or that the backend does not say."""

    negative_weights: bool = True
    """of documents and of queries"""
    versions: bool = False
    """`scan` and `fetch` say the version of a document, and `upsert` leaves one that changed since alone (C17)"""
    routing: bool = False
    """documents have a routing of their own, which a write must repeat"""
    empty_vectors: bool = True
    """a document without weights can be held"""
    rescores: bool = False
    """the server itself re-orders candidates by a second query (C20); elsewhere their vectors are read back for that"""
    point_in_time: bool = False
    """reading on shows the collection as it was at the first page (C21)"""
    largest_k: int | None = None
    """hits of one search; beyond it a search raises OutOfLimits"""
    query_weights: int | None = None
    """weights of one query that are answered in one request; longer queries are answered too, but slowly"""
    request_bytes: int | None = None
    """of one write"""
    requests_at_once: int = 1
    """writes that are worth having under way at the same time; 1 for an engine in this process, which takes one"""
