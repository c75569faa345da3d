"""Rankings of the engine's own: BM25 of a text field, and `knn` over an index's dense rows (Elasticsearch).

`knn` walks a graph of quantised rows. Among ids that are given it is exact all the same: it is told to take as many
candidates as there are ids and to score each again by its whole row, and an index that rescores is asked for that
(8.18 and later; seen equal to the exact order on 8.19 and 9.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Id, check_k
from sparsevec.contract.filters import Where, conditions
from sparsevec.contract.operations import Operation
from sparsevec.errors import BackendUnsupported, InvalidInput, OutOfLimits
from sparsevec.vectors import Float32s

from .answers import clause_limit, read_hits
from .claims import HIDDEN
from .hazards import source_fault
from .ids import from_id, to_id
from .index import dense_fields
from .judging import Judge
from .session import Known, Session
from .wire import json

__all__ = ["Ranking"]

Json = Mapping[str, Any]

_RESCORES = (8, 18)
_LEAST = 100
_MOST = 10_000  # candidates of one knn search, as shipped
_WORDS = frozenset({"text", "match_only_text", "search_as_you_type", "annotated_text", "semantic_text"})
_WHOLE = frozenset({"keyword", "constant_keyword", "wildcard"})  # ranked too, by whole values


class Ranking:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._ranked: set[str] = set()  # fields seen to be of text

    def nearest(
        self,
        rows: Float32s,
        k: int,
        dense: str,
        among: Sequence[Sequence[Id]] | None,
        where: Where | None,
        with_payloads: bool,
    ) -> Operation[list[Hits]]:
        known = yield from self._session.existing()
        yield from self._check(known, dense)
        bodies = []
        for number, row in enumerate(rows):
            ids = None if among is None else [to_id(id_, known.target.ours) for id_ in among[number]]
            depth = check_k(k) if ids is None else max(1, len(ids))
            knn: dict[str, Any] = {"field": dense, "query_vector": row.tolist()}
            knn |= {"k": min(depth, _MOST), "num_candidates": min(max(depth, _LEAST), _MOST)}
            if ids is not None:
                knn |= {"filter": {"ids": {"values": ids}}, "rescore_vector": {"oversample": 1.0}}
            bodies.append({"knn": knn})
        return (yield from self._asked(known, bodies, k, where, with_payloads, knn=True))

    def _check(self, known: Known, dense: str) -> Operation[None]:
        if self._session.engine != "elasticsearch":
            raise BackendUnsupported(f"{self._session.engine} is not asked for dense neighbours here")
        version = (yield from self._session.serving()).version
        if version is not None and tuple(map(int, version.split(".")[:2])) < _RESCORES:
            raise BackendUnsupported(f"Elasticsearch {version} does not rescore quantised rows; expected 8.18 or later")
        if dense not in (declared := dense_fields(known.target)):
            raise InvalidInput(f"{dense!r} is not declared to hold dense rows; declared are {sorted(declared)}")
        if not declared[dense].similarity:
            raise BackendUnsupported(f"{dense!r} has no index (index: false), so knn cannot search it")

    def by_text(
        self, texts: Sequence[str], k: int, field: str, where: Where | None, with_payloads: bool
    ) -> Operation[list[Hits]]:
        known = yield from self._session.existing()
        yield from self._check_text(field)
        bodies = [{"query": {"match": {field: text}}} for text in texts]
        return (yield from self._asked(known, bodies, k, where, with_payloads, knn=False))

    def _check_text(self, field: str) -> Operation[None]:
        """A field that is not there matches nothing, which nobody would notice. Raises InvalidInput."""
        if field in self._ranked:
            return
        caps = yield from json("GET", self._session.path("_field_caps"), params={"fields": field})
        kinds = set(caps.get("fields", {}).get(field, {})) - {"unmapped"}
        if not kinds & (_WORDS | _WHOLE):
            found = f"is of type {', '.join(sorted(kinds))}" if kinds else "is not there"
            raise InvalidInput(f"{field!r} {found} in {self._session.asked!r}, expected a field of text to rank by")
        self._ranked.add(field)

    def _asked(
        self, known: Known, bodies: list[dict[str, Any]], k: int, where: Where | None, with_payloads: bool, *, knn: bool
    ) -> Operation[list[Hits]]:
        """One multi-search; where documents have to be judged by what they hold, deeper until enough match."""
        most, limit = known.target.window, "index.max_result_window"
        if knn and most > _MOST:
            most, limit = _MOST, "num_candidates of a knn search"
        if check_k(k) > most:
            raise OutOfLimits(
                f"{k} hits of a ranking of the engine's own are more than {self._session.asked!r} gives, {most} "
                f"({limit}); ask for fewer: depth= of a fusion"
            )
        wanted = conditions(where, self._session.engine)
        known = yield from self._session.knowing(known, wanted)
        judge = Judge.of(known.target, wanted)
        clauses = [*judge.clauses, {"exists": {"field": known.field.present}}]
        if (with_payloads or judge.fields) and (fault := source_fault(known.target)):
            raise fault
        source: Any = {"excludes": sorted({known.field.name, HIDDEN, *known.target.hidden})}
        shown = {"_source": source if with_payloads else list(judge.fields) or False, "track_total_hits": False}
        yield from self._session.refresh()
        depth = check_k(k)
        while True:
            asked = [{**_narrowed(body, clauses, depth, knn=knn), **shown, "size": depth} for body in bodies]
            responses = yield from self._session.msearch(asked)
            if room := next(filter(None, map(clause_limit, responses)), None):
                raise OutOfLimits(
                    f"words and filter make more clauses than the {room} that {self._session.engine} takes "
                    "(indices.query.bool.max_clause_count); give fewer words"
                )
            answers = list(map(read_hits, responses))
            taken = list(map(judge.taken, answers))
            done = all(len(some) >= k or len(hits) < depth for some, hits in zip(taken, answers, strict=True))
            if done or depth >= most:
                return [_hits(known, some[:k], with_payloads) for some in taken]
            depth = min(depth * 8, most)


def _narrowed(body: Json, clauses: list[Json], depth: int, *, knn: bool) -> dict[str, Any]:
    if not knn:
        return {"query": {"bool": {"must": [body["query"]], "filter": clauses}}}
    own = body["knn"]
    filters = [*([own["filter"]] if "filter" in own else []), *clauses]
    deeper = {name: max(own[name], depth) for name in ("k", "num_candidates")}  # k of them are all that it brings
    return {"knn": {**own, **deeper, "filter": filters}}


def _hits(known: Known, found: Sequence[Json], with_payloads: bool) -> Hits:
    ids = tuple(from_id(hit["_id"], known.target.ours) for hit in found)
    scores = np.array([hit["_score"] for hit in found], np.float32)
    return Hits(ids, scores, tuple(hit.get("_source", {}) for hit in found) if with_payloads else None)
