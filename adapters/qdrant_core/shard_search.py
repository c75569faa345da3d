"""`ShardSearch`: how the embedded engine is searched (qdrant-edge-py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sparsevec.contract.adapter import Hits
from sparsevec.contract.filters import Condition
from sparsevec.contract.searches import rescored
from sparsevec.errors import ClientMissing
from sparsevec.vectors import SparseVector

from .embedded import Folder, engine_errors
from .ids import ORIGINAL
from .places import Reading
from .records import VECTOR, Bring, filter_of, kept_of, rank, row_to_wire

try:
    import qdrant_edge as edge
except ImportError as error:
    raise ClientMissing.extra("qdrant-edge-py", "qdrant") from error

__all__ = ["MOST", "ShardSearch"]

MOST = 2**32 - 1  # documents the engine can number, so no answer is longer


class ShardSearch:
    """One search of the engine's shard in `folder`, whose queries want the same."""

    def __init__(self, folder: Folder, shard: edge.EdgeShard, bring: Bring, wanted: Sequence[Condition]) -> None:
        """Raises InvalidInput for a filter that the engine cannot be asked."""
        self.bring = bring
        self._folder, self._shard, self._wanted = folder, shard, wanted
        with engine_errors(folder):
            self._exact, self._filter = filter_of(wanted, shard)

    def best(self, query: SparseVector, k: int) -> list[edge.ScoredPoint]:
        """The k best points that match, looking further where the engine does not decide the filter."""
        limit = k
        while True:
            points = self._ask(query, limit)
            kept = kept_of(points, self._wanted, exact=self._exact)
            if self._exact or len(kept) >= k or len(points) < limit:
                return kept[:k]
            limit = min(limit * 8, MOST)

    def rescored(self, query: SparseVector, second: SparseVector, k: int, candidates: int) -> Hits:
        """The k best by `second` of the `candidates` best (C20): by the engine, where it decides the filter."""
        if self._exact:
            return self.bring.hits(self._ask(query, min(k, candidates), second, candidates))
        hits = replace(self.bring, with_vectors=True).hits(self.best(query, candidates))
        return rescored(hits, second, k, with_vectors=self.bring.with_vectors)

    def read_on(self, query: SparseVector, k: int, after: str) -> Hits:
        """The hits behind `after` (C21)."""
        reading = Reading(after, k, rank, partial(kept_of, wanted=self._wanted, exact=self._exact))
        goes_on = len(query) > 0
        while goes_on:
            goes_on = reading.goes_on(self._ask(query, reading.limit, offset=reading.offset))
        return replace(self.bring.hits(reading.hits), after=reading.after)

    def _ask(
        self,
        query: SparseVector,
        limit: int,
        second: SparseVector | None = None,
        candidates: int = 0,
        offset: int = 0,
    ) -> list[edge.ScoredPoint]:
        """The best points by `query`, or by `second` of the candidates that it finds."""
        if not len(query) or (second is not None and not len(second)):
            return []
        nearest = edge.Query.Nearest(row_to_wire(query), VECTOR)
        first = None if second is None else [edge.Prefetch(candidates, query=nearest, filter=self._filter)]
        whole = self.bring.with_payloads or not self._exact
        request = edge.QueryRequest(
            limit,
            offset=offset,
            query=nearest if second is None else edge.Query.Nearest(row_to_wire(second), VECTOR),
            prefetches=first,
            filter=self._filter,
            with_payload=True if whole else edge.PayloadSelector.Include([ORIGINAL]),
            with_vector=self.bring.names(always=not self._exact) or False,
        )
        with engine_errors(self._folder):
            return self._shard.query(request)
