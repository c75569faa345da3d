"""`Retriever.verify`: are the candidates exact, and are the answers the exact re-ranking of those that came back?

The candidates are judged as `sparsevec.exact.verify` judges any search, with this backend's `stored` and its derived
tolerance. The answers have none: a re-ranked score is defined to the bit, so what comes is compared with the re-ranking
worked out from the documents that were given, and for dense rows and callables from those that the collection holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsevec.answers.calls import Call
from sparsevec.answers.candidates import brought, in_order, of_hits
from sparsevec.answers.ranking import Asked, Ranking, best_parents
from sparsevec.answers.scoring import Way
from sparsevec.contract.adapter import Adapter, Documents, Hit, Hits
from sparsevec.contract.checks import Id, Payload, check_batch
from sparsevec.contract.filters import Where, which_match
from sparsevec.contract.operations import run
from sparsevec.exact.verify import Judge, Offence, VerifyReport, check_asked, judged_conditions, record, spellings
from sparsevec.vectors import SparseVectors

__all__ = ["AnswersReport", "verified"]


class AnswersReport(VerifyReport):
    """What `verify` found of a retriever: `hits` are candidates, `k` answers were asked for of each query."""

    answers: int = 0
    from_all: int = 0
    """queries that were answered from every document that the filter left, without a search"""
    refined: bool = False
    """the encoder was refined, and the vectors that were written were not given: its own were expected"""

    def __str__(self) -> str:
        if not self.exact:
            hint = "\n  if what refine gave was written here, give it, too: verify(..., vectors=...), or --documents"
            return f"{super().__str__()}{hint if self.refined else ''}"
        asked = f"{self.backend}: {self.queries:,} queries for {self.k} answers from {self.documents:,} documents"
        if 0 < self.from_all == self.queries:
            return f"{asked}: all {self.answers:,} answers are the exact ranking of all that the filter leaves"
        some = f", {self.from_all:,} queries answered from all that the filter leaves," if self.from_all else ""
        return (
            f"{asked}: all {self.hits:,} candidates exact (largest error {self.worst:.2f} of what rounding allows)"
            f"{some} and all {self.answers:,} answers their exact re-ranking"
        )


def verified(
    ranking: Ranking,
    adapter: Adapter,
    dense: Any,
    queries: Any,
    k: int,
    *,
    ids: Iterable[Id] | None,
    where: Where | None,
    payloads: Sequence[Payload] | None,
    vectors: SparseVectors | None,
    group_by: str | None,
) -> AnswersReport:
    """What `Retriever.verify` gives, with its arguments."""
    documents, about = ranking.vectors(dense, vectors), adapter.info()
    wanted = judged_conditions(where, payloads)
    checked, fields = check_batch(range(len(documents)) if ids is None else ids, documents, payloads, about.dimension)
    allowed = which_match(fields, wanted)
    rows = check_asked(ranking.rows(queries))
    report = AnswersReport(
        backend=about.backend,
        documents=len(documents),
        k=k,
        queries=len(rows),
        hits=0,
        worst=0,
        offences=[],
        fingerprint=about.fingerprint,
        refined=vectors is None and ranking.encoder.config.stage == "refined",
    )
    truth = _Truth(ranking, adapter, dense, documents, spellings(checked, about), allowed)
    for number, row in enumerate(rows):
        asked = ranking.asked(row, k, where=where, with_payloads=True, group_by=group_by)
        truth.judge(report, number, asked)
    return report


class _Came:
    """An adapter's `send` that keeps what came back of one query: the last ranking, or all that the filter left. A
    search without the filter, for whether anybody has a dense row, is not of it."""

    def __init__(self, adapter: Adapter, where: Where | None) -> None:
        self._adapter, self._where = adapter, where
        self.hits, self.depth = Hits((), np.empty(0, np.float32), ()), 0
        self.all_: Documents | None = None

    def send(self, call: Call) -> Any:
        found = getattr(self._adapter, call.name)(*call.given, **call.named)
        aside = call.name == "search" and call.named["where"] is not self._where
        if call.name in ("search", "matching", "matching_or_search") and not aside:
            self.all_ = found if isinstance(found, Documents) else None
            if isinstance(found, list):
                (self.hits,), self.depth = found, call.given[1]
        return found


class _Truth:
    """About documents (n, dimension) that were written under `names`, of which a filter lets `allowed` (n,) through."""

    def __init__(
        self,
        ranking: Ranking,
        adapter: Adapter,
        dense: Any,
        documents: SparseVectors,
        names: list[tuple[Id, ...]],
        allowed: npt.NDArray[np.bool_],
    ) -> None:
        self._ranking, self._adapter = ranking, adapter
        self._dense, self._stored = dense, adapter.stored(documents)
        self._row = {name: row for row, of in enumerate(names) for name in of}
        self._allowed = set(np.flatnonzero(allowed).tolist())
        self._judge = Judge(adapter, documents, names, allowed)

    def judge(self, report: AnswersReport, number: int, asked: Asked) -> None:
        came = _Came(self._adapter, asked.where)
        (answers,) = run(self._ranking.search(asked, self._adapter.stored), came.send)
        report.answers += len(answers)
        if came.all_ is None:
            verdict = self._judge.judge(asked.sparse[0], came.hits, came.depth)
            record(report, number, came.hits, verdict)
            wrong = verdict.reason is not None
        else:
            report.from_all += 1
            wrong = self._record_all(report, number, came.all_)
        if not wrong and (reason := self._fault(asked, came, answers)):
            report.offences.append(Offence(query=number, id=None, reason=reason))

    def _record_all(self, report: AnswersReport, number: int, found: Documents) -> bool:
        rows = {self._row.get(id_) for id_ in found.ids}
        if rows == self._allowed and len(found.ids) == len(rows):
            return False
        reason = f"the filter leaves {len(self._allowed)} documents, and {len(found.ids)} others were brought"
        report.offences.append(Offence(query=number, id=None, reason=reason))
        return True

    def _fault(self, asked: Asked, came: _Came, answers: Hits) -> str | None:
        """What is wrong with the answers, given the candidates."""
        whole = came.all_ is not None or len(came.hits) < came.depth
        if asked.group_by is not None and not whole and not self._ranking.enough(asked, came.hits):
            return f"{came.depth} candidates do not prove {asked.k} parents"
        expected = self._expected(asked, came)
        if answers == expected:
            return None
        pairs = zip_longest(answers, expected)
        at, (found, due) = next((at, pair) for at, pair in enumerate(pairs, 1) if pair[0] != pair[1])
        return f"answer {at} is {_said(found)}, the exact re-ranking of its candidates has {_said(due)}"

    def _expected(self, asked: Asked, came: _Came) -> Hits:
        way = self._ranking.way
        if way is None:
            return came.hits if asked.group_by is None else best_parents(came.hits, asked)
        documents = in_order(came.all_) if came.all_ is not None else self._documents(way, came.hits, asked)
        rows = np.array([self._row[id_] for id_ in documents.ids], np.int64)
        vectors = self._stored[rows] if way.with_vectors else self._adapter.stored(documents.vectors)
        documents = replace(documents, vectors=vectors)
        if way.with_codes:
            documents = replace(documents, codes=self._codes[rows])
        return self._ranking.answer(asked, self._ranking.prepared(asked), 0, documents)

    def _documents(self, way: Way, hits: Hits, asked: Asked) -> Documents:
        if way.with_vectors:
            return brought(hits, self._adapter.stored, asked.sparse)
        return of_hits(hits, self._adapter.fetch(hits.ids, dense=way.dense_field))

    @cached_property
    def _codes(self) -> npt.NDArray[np.uint8]:
        """The residual codes that were to be written."""
        return self._ranking.encoder.residual_codes(self._dense, self._stored)


def _said(hit: Hit | None) -> str:
    return "none" if hit is None else f"id {hit.id!r} with {hit.score:.9g}"
