"""Rankings of the engine's own: by its dense vectors. Text it only filters by.

Of a distance, Euclid or Manhattan, the score is its negative, since more is better in every score of the contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Id, check_k
from sparsevec.contract.filters import Where
from sparsevec.contract.operations import Operation
from sparsevec.errors import BackendUnsupported, InvalidInput
from sparsevec.vectors import Float32s

from .filters import to_wire
from .ids import ORIGINAL, id_from_wire
from .payloads import payload_from_wire
from .requests import wanted_of
from .server import Server

__all__ = ["Ranking"]

_QUERIES = 64  # to a request
_DISTANCES = ("Euclid", "Manhattan")  # less is nearer


class Ranking(Server):
    def nearest(
        self,
        rows: Float32s,
        k: int,
        dense: str,
        among: Sequence[Sequence[Id]] | None,
        where: Where | None,
        with_payloads: bool,
    ) -> Operation[list[Hits]]:
        """Among ids by the whole rows, `exact`; else by the server's index. Scores are minus the distance, where the
        vector is compared by one."""
        found = yield from self._existing()
        if dense not in found.dense:
            raise InvalidInput(f"{dense!r} is no dense vector of {self._name}; it has {sorted(found.dense)}")
        asked = to_wire(wanted_of(where), found.indexes)
        if not asked.exact:
            raise BackendUnsupported(f"Qdrant cannot decide the filter {where!r:.200} by itself beside a dense search")
        must = [{"has_vector": self._vector}, *([asked.clause] if asked.clause else [])]
        params = {"exact": True, "quantization": {"ignore": True}} if among is not None else {}
        common: dict[str, Any] = {"using": dense or None, "limit": check_k(k), "params": params}
        common["with_payload"] = True if with_payloads else [ORIGINAL]
        searches = []
        for number, row in enumerate(rows):
            only = [] if among is None else [{"has_id": [self._spelled(found, id_) for id_ in among[number]]}]
            searches.append({"query": row, "filter": {"must": [*must, *only]}, **common})
        answers = []
        for start in range(0, len(searches), _QUERIES):
            answers += yield from self._ask("query_batch_points", searches=searches[start : start + _QUERIES])
        sign = -1 if found.dense[dense].similarity in _DISTANCES else 1
        return [_hits(answer["points"], with_payloads, sign) for answer in answers]

    def by_text(self, *_given: Any) -> Operation[list[Hits]]:
        yield from ()
        raise BackendUnsupported(
            "Qdrant filters by text and does not rank by it; keep BM25 weights in a sparse vector of their own, search "
            "it with an adapter of its own, and fuse both rankings with sparsevec.reciprocal_rank_fusion"
        )


def _hits(points: Sequence[Mapping[str, Any]], with_payloads: bool, sign: int) -> Hits:
    ids = tuple(id_from_wire(point["id"], point.get("payload")) for point in points)
    payloads = tuple(payload_from_wire(point.get("payload")) for point in points) if with_payloads else None
    return Hits(ids, np.array([sign * point["score"] for point in points], np.float32), payloads)
