"""Rankings of the engine's own: BM25 of a text field, and `knn` over an index's dense rows (Elasticsearch).

`knn` walks a graph of quantised rows. Among ids that are given it is exact all the same: it is told to take as many
candidates as there are ids and to score each again by its whole row, and an index that rescores is asked for that
(8.18 and later; seen equal to the exact order on 8.19 and 9.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Id, check_k
from sparsevec.contract.filters import Where, conditions
from sparsevec.contract.operations import Operation
from sparsevec.errors import BackendDown, BackendUnsupported, InvalidInput, OutOfLimits
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
_Bodies: TypeAlias = Callable[[Known], Operation[list[dict[str, Any]]]]
"""What to ask of the index that the name stands for, checked against it."""

_RESCORES = (8, 18)
_LEAST = 100
_MOST = 10_000  # candidates of one knn search, as shipped
_LOOKS = 3  # at an index that is another one at each
_WORDS = frozenset({"text", "match_only_text", "search_as_you_type", "annotated_text", "semantic_text"})
_WHOLE = frozenset({"keyword", "constant_keyword", "wildcard"})  # ranked too, by whole values


class Ranking:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._ranked: set[tuple[frozenset[str], str]] = set()  # fields of indices, seen to be of text

    def nearest(
        self,
        rows: Float32s,
        k: int,
        dense: str,
        among: Sequence[Sequence[Id]] | None,
        where: Where | None,
        with_payloads: bool,
    ) -> Operation[list[Hits]]:
        def bodies(known: Known) -> Operation[list[dict[str, Any]]]:
            yield from self._check(known, dense)
            asked = []
            for number, row in enumerate(rows):
                ids = None if among is None else [to_id(id_, known.target.ours) for id_ in among[number]]
                depth = check_k(k) if ids is None else max(1, len(ids))
                knn: dict[str, Any] = {"field": dense, "query_vector": row.tolist()}
                knn |= {"k": min(depth, _MOST), "num_candidates": min(max(depth, _LEAST), _MOST)}
                if ids is not None:
                    knn |= {"filter": {"ids": {"values": ids}}, "rescore_vector": {"oversample": 1.0}}
                asked.append({"knn": knn})
            return asked

        return (yield from self._asked(bodies, k, where, with_payloads, knn=True))

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
        def bodies(known: Known) -> Operation[list[dict[str, Any]]]:
            yield from self._check_text(known, field)
            return [{"query": {"match": {field: text}}} for text in texts]

        return (yield from self._asked(bodies, k, where, with_payloads, knn=False))

    def _check_text(self, known: Known, field: str) -> Operation[None]:
        """A field that is not there matches nothing, which nobody would notice. Raises InvalidInput."""
        if (known.target.names, field) in self._ranked:
            return
        caps = yield from json("GET", self._session.path("_field_caps"), params={"fields": field})
        kinds = set(caps.get("fields", {}).get(field, {})) - {"unmapped"}
        if not kinds & (_WORDS | _WHOLE):
            found = f"is of type {', '.join(sorted(kinds))}" if kinds else "is not there"
            raise InvalidInput(f"{field!r} {found} in {self._session.asked!r}, expected a field of text to rank by")
        if any(_apart(field, index.mappings) for index in known.target.indices):
            raise InvalidInput(
                f"{field!r} lies in nested objects of {self._session.asked!r}, whose words no ranking of documents "
                "sees: expected a field of the document itself (include_in_root: true makes it one)"
            )
        self._ranked.add((known.target.names, field))

    def _asked(
        self, bodies: _Bodies, k: int, where: Where | None, with_payloads: bool, *, knn: bool
    ) -> Operation[list[Hits]]:
        """Asked again where the name turns out to stand for another index: filters are narrowed by its mapping."""
        known = yield from self._session.existing()
        for _ in range(_LOOKS):
            asked = yield from bodies(known)
            known, found = yield from self._taken(known, asked, k, where, with_payloads, knn=knn)
            seen = {hit["_index"] for hits in found for hit in hits}
            now = known if seen and seen <= known.target.names else (yield from self._session.existing(0.0))
            if now.target == known.target:
                return [_hits(known, hits, with_payloads) for hits in found]
            known = now
        raise BackendDown(f"{self._session.asked!r} stands for another index at every look")

    def _taken(
        self, known: Known, bodies: list[dict[str, Any]], k: int, where: Where | None, with_payloads: bool, *, knn: bool
    ) -> Operation[tuple[Known, list[list[Json]]]]:
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
                return known, [some[:k] for some in taken]
            depth = min(depth * 8, most)


def _apart(path: str, mappings: Json) -> bool:
    """Whether a field lies in nested objects, which are documents of their own, and in no other."""
    nested = [inside for inside in _way(path, mappings) if inside.get("type") == "nested"]
    return bool(nested) and not any(inside.get("include_in_" + of) for inside in nested for of in ("root", "parent"))


def _way(path: str, parent: Json) -> Iterator[Json]:
    """The objects in which it lies."""
    head, _, rest = path.partition(".")
    if rest and head in (properties := parent.get("properties", {})):
        yield properties[head]
        yield from _way(rest, properties[head])


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
