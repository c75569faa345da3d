"""`verify`: does the backend answer what exact arithmetic says?

It asks of every hit whether it deserves its score, and of every answer whether anything better was left out. It never
compares lists of ids, so ties may fall either way. The truth: float64 scores of `adapter.stored(documents)`.

One tolerance judges every backend. Let a hit share m dimensions with the query, u = 2**-24 (half a unit in the last
place of a float32), A = sum |q_j * stored_j| and S = sum |q_j| * slack_j over those dimensions. An engine that adds
float32s, in whatever order, rounds each product once and then adds it up in at most m - 1 rounded additions, which
costs m u / (1 - m u) of A at most (Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1). One that
multiplies in float32, adds in float64 and rounds once (Lucene) makes two roundings. m + 1 in place of m covers both,
and our own float64 sum, which is off by m 2**-53 A. Weights that are off by their slack move the sum by S, and then the
roundings act on A + S. Products and sums too small for a normal float32 may be flushed to zero, 2**-126 each. Together

    |score - exact| <= S + g (A + S) + 2 m 2**-126        g = (m + 1) u / (1 - (m + 1) u)

A document whose exact score lies within this of zero may be a hit or not: engines drop scores that come out as zero,
but not on every path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, computed_field

from sparsevec.contract.adapter import Adapter, Hits, Info, UInt8s
from sparsevec.contract.checks import (
    Id,
    Payload,
    Queries,
    check_adapter,
    check_batch,
    check_codes,
    check_k,
    check_queries,
    check_space,
    check_vectors,
)
from sparsevec.contract.filters import Condition, EngineFilter, Where, conditions, which_match
from sparsevec.errors import InvalidInput, NotExact, WrongSpace
from sparsevec.postings import PostingLists
from sparsevec.vectors import Float32s, Int64s, SparseVector, SparseVectors

__all__ = [
    "Answering",
    "Judge",
    "Offence",
    "Verdict",
    "VerifyReport",
    "check_asked",
    "judged_conditions",
    "record",
    "spellings",
    "tolerances",
    "verify",
]

_BLOCK = 256  # queries asked at a time
_U = 2.0**-24
_TINY = 2.0**-126  # the smallest normal float32
_SHOWN = 5  # offences that a report prints; it holds all of them

Float64s = npt.NDArray[np.float64]
_Queries = TypeVar("_Queries", SparseVectors, Float32s)


class Offence(BaseModel):
    """The first thing wrong with the answer to one query; `id` is the document it is about, None for a whole answer."""

    query: int
    id: int | str | None
    reason: str

    def __str__(self) -> str:
        return f"query {self.query}: {self.reason}"


class VerifyReport(BaseModel):
    """What `verify` found. `worst` is the largest error of a score, as a share of what its tolerance allows.

    `fingerprint` names the space that the collection's vectors live in; None: they are foreign, so that nothing tells
    whether the queries are of the same encoder (C18).
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    backend: str
    documents: int
    k: int
    queries: int
    hits: int
    worst: float
    offences: list[Offence]
    fingerprint: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exact(self) -> bool:
        return not self.offences

    def require_exact(self) -> VerifyReport:
        """Itself. Raises NotExact when a query was answered wrongly."""
        if not self.exact:
            raise NotExact(str(self), self)
        return self

    def __str__(self) -> str:
        of = "foreign vectors" if self.fingerprint is None else f"vectors of the space {self.fingerprint}"
        asked = f"{self.backend}: {self.queries:,} queries for the best {self.k} of {self.documents:,} documents, {of}"
        if self.exact:
            return f"{asked}: all {self.hits:,} hits exact (largest error {self.worst:.2f} of what rounding allows)"
        shown = [f"  {offence}" for offence in self.offences[:_SHOWN]]
        if (more := len(self.offences) - _SHOWN) > 0:
            shown.append(f"  and {more} more")
        return "\n".join([f"{asked}: {len(self.offences)} answers are not what exact arithmetic says", *shown])


@runtime_checkable
class Answering(Protocol):
    """What makes answers of candidates, and can be judged by what it was given: a `Retriever`."""

    def verify(self, *given: Any, **options: Any) -> VerifyReport: ...


@overload
def verify(
    adapter: Adapter,
    documents: SparseVectors,
    queries: Queries,
    k: int = 10,
    *,
    ids: Iterable[Id] | None = None,
    where: Where | None = None,
    payloads: Sequence[Payload] | None = None,
    codes: UInt8s | None = None,
) -> VerifyReport: ...
@overload
def verify(adapter: Answering, documents: Any, queries: Any, k: int = 10, **options: Any) -> VerifyReport: ...
def verify(
    adapter: Adapter | Answering,
    documents: Any,
    queries: Any,
    k: int = 10,
    *,
    ids: Iterable[Id] | None = None,
    where: Where | None = None,
    payloads: Sequence[Payload] | None = None,
    codes: UInt8s | None = None,
    **options: Any,
) -> VerifyReport:
    """Ask the backend all `queries` and judge its answers against `documents`, which must be all that it holds.

    `documents`: SparseVectors (n, dimension); `queries` as `search` takes them. `ids` are those of `documents`, 0 to
    n - 1 when not given; a filter needs the `payloads` that it is about. With the residual `codes` (n, code_bytes) of
    the documents, every hit must bring its own, byte for byte (C19). With a `Retriever` in place of the adapter,
    `documents` and `queries` are dense rows, and its final answers are judged too: `Retriever.verify`, which makes the
    codes itself.
    Raises InvalidVectors, InvalidInput, WrongSpace when collection, documents and queries are not all of one encoder
    (C18), or what the adapter finds wrong.
    """
    if isinstance(adapter, Answering):
        if iscoroutinefunction(adapter.verify):
            raise InvalidInput(f"expected a retriever for threads, found {adapter!r:.80}; await its own verify(...)")
        if codes is not None:
            raise InvalidInput("codes= is for an adapter; a retriever makes the codes of its documents itself")
        return adapter.verify(documents, queries, k, ids=ids, where=where, payloads=payloads, **options)
    if options:
        raise TypeError(f"verify() of an adapter takes no {sorted(options)}")
    check_adapter(adapter)
    check_k(k)
    wanted = judged_conditions(where, payloads)
    check_vectors(documents, "documents")
    about = adapter.info()
    checked, fields = check_batch(range(len(documents)) if ids is None else ids, documents, payloads, about.dimension)
    asked = check_asked(check_queries(queries, documents.dimension, about.fingerprint))
    _check_one_space(documents, asked, about.fingerprint)
    allowed = which_match(fields, wanted)
    known = None if codes is None else check_codes(codes, documents, about.code_bytes)
    judge = Judge(adapter, documents, spellings(checked, about), allowed, known)
    brought: dict[str, Any] = {} if known is None else {"with_codes": True}
    report = VerifyReport(
        backend=about.backend,
        documents=len(documents),
        k=k,
        queries=len(asked),
        hits=0,
        worst=0,
        offences=[],
        fingerprint=about.fingerprint,
    )
    for start in range(0, len(asked), _BLOCK):
        block = asked[start : start + _BLOCK]
        answers = adapter.search(block, k, where=where, **brought)
        if len(answers) != len(block):
            reason = f"{len(answers)} answers to {len(block)} queries asked at once; whose is which cannot be known"
            report.offences.append(Offence(query=start, id=None, reason=reason))
            continue
        for number, (query, hits) in enumerate(zip(block, answers, strict=True), start):
            record(report, number, hits, judge.judge(query, hits, k))
    return report


def check_asked(queries: _Queries) -> _Queries:
    """Raises InvalidInput where there are none: what asks nothing would find every collection exact."""
    if not len(queries):
        raise InvalidInput("expected queries to judge the answers of, one at least, found none")
    return queries


def judged_conditions(where: Where | None, payloads: Sequence[Payload] | None) -> tuple[Condition, ...]:
    if isinstance(where, EngineFilter):
        raise InvalidInput(
            f"what this filter of {where.engine} means, only {where.engine} knows, so its answers cannot be verified; "
            "say it as a mapping of fields to conditions"
        )
    if where and payloads is None:
        raise InvalidInput("to verify a filter, the payloads of the documents are expected as well: payloads=")
    return conditions(where)


def _check_one_space(documents: SparseVectors, queries: SparseVectors, fingerprint: str | None) -> None:
    check_space(documents, fingerprint)
    known = {vectors.fingerprint for vectors in (documents, queries)} - {None}
    if len(known) > 1:
        raise WrongSpace(
            f"the documents are of the space {documents.fingerprint}, the queries of {queries.fingerprint}: made by "
            "different encoders, so their dimensions mean different things; encode both with one"
        )


def spellings(ids: list[Id], about: Info) -> list[tuple[Id, ...]]:
    """Each id as its hits may give it: where others made the collection, 7 may come back as "7" (C10)."""
    given = set(ids)
    if about.ours:
        return [(id_,) for id_ in ids]
    return [(id_, str(id_)) if isinstance(id_, int) and str(id_) not in given else (id_,) for id_ in ids]


def record(report: VerifyReport, number: int, hits: Hits, verdict: Verdict) -> None:
    report.hits += len(hits)
    report.worst = max(report.worst, verdict.worst)
    if verdict.reason is not None:
        report.offences.append(Offence(query=number, id=verdict.id, reason=verdict.reason))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one answer: what is wrong, None when nothing is, and its largest error as a share of the tolerance."""

    reason: str | None = None
    id: Id | None = None
    worst: float = 0.0


class Judge:
    """Knows the truth about the documents (n, dimension) as the backend stores them; `allowed` (n,) by the filter."""

    def __init__(
        self,
        adapter: Adapter,
        documents: SparseVectors,
        ids: list[tuple[Id, ...]],
        allowed: npt.NDArray[np.bool_],
        codes: UInt8s | None = None,
    ) -> None:
        self._stored = adapter.stored(documents)
        self._slack = adapter.slack(documents).astype(np.float64)
        self._lists = PostingLists(self._stored)
        self._ids = [id_ for id_, *_ in ids]
        self._row = {spelling: row for row, spellings in enumerate(ids) for spelling in spellings}
        self._allowed = allowed
        self._codes = codes

    def judge(self, query: SparseVector, hits: Hits, k: int) -> Verdict:
        """Of one answer. Each step may rely on the ones before it."""
        if verdict := self._form(hits, k):
            return verdict
        touched, exact = self._lists.scores(query)
        rows = np.array([self._row[id_] for id_ in hits.ids], np.int64)
        at = np.searchsorted(touched, rows)
        if not (deserved := np.append(touched, -1)[at] == rows).all():
            return self._blame(hits, int(np.argmin(deserved)), "shares no dimension with the query")
        if not (allowed := self._allowed[rows]).all():
            return self._blame(hits, int(np.argmin(allowed)), "does not match the filter")
        if (coded := self._same_codes(hits, rows)) is not None and not coded.all():
            return self._blame(hits, int(np.argmin(coded)), "has another residual code than it was written with")
        expected = exact[at]
        tolerance = tolerances(query, self._stored, self._slack, rows)
        errors = np.abs(hits.scores.astype(np.float64) - expected) / tolerance
        worst = float(errors.max(initial=0))
        if not (close := errors <= 1).all():  # also when an error is NaN
            far = int(np.argmin(close))
            found = (
                f"has score {hits.scores[far]:.9g}, exact arithmetic says {expected[far]:.9g} ± {tolerance[far]:.1g}"
            )
            return self._blame(hits, far, found, worst)
        left_out = self._allowed[touched]
        left_out[at] = False
        floor = float((expected + tolerance).min()) if len(hits) >= k else -np.inf
        return self._left_out(query, touched[left_out], exact[left_out], floor) or Verdict(worst=worst)

    def _same_codes(self, hits: Hits, rows: Int64s) -> npt.NDArray[np.bool_] | None:
        """Whether each hit brings its document's code, (m,); None where none are expected."""
        if self._codes is None:
            return None
        if hits.codes is None or hits.codes.shape != self._codes[rows].shape:
            return np.zeros(len(rows), np.bool_)
        return np.asarray((hits.codes == self._codes[rows]).all(axis=1))

    def _form(self, hits: Hits, k: int) -> Verdict | None:
        """What is wrong with an answer whatever the query was."""
        if len(hits.ids) != len(hits.scores):
            return Verdict(f"{len(hits.ids)} ids with {len(hits.scores)} scores")
        if len(hits) > k:
            return Verdict(f"{len(hits)} hits, at most {k} were asked for")
        seen: set[int] = set()
        for at, id_ in enumerate(hits.ids):
            if (row := self._row.get(id_)) is None:
                return self._blame(hits, at, "is not among the documents verified against")
            if row in seen:
                return self._blame(hits, at, "stands in the answer already")
            seen.add(row)
        if len(falls := np.flatnonzero(hits.scores[1:] > hits.scores[:-1])):
            at = int(falls[0]) + 1
            return self._blame(hits, at, f"scores {hits.scores[at]:.9g}, more than the hit before it: not best first")
        return None

    def _blame(self, hits: Hits, at: int, found: str, worst: float = 0.0) -> Verdict:
        return Verdict(f"hit {at + 1} (id {hits.ids[at]!r}) {found}", hits.ids[at], worst)

    def _left_out(self, query: SparseVector, rows: Int64s, exact: Float64s, floor: float) -> Verdict | None:
        """The best of `rows` if it certainly is no zero and beats `floor` (-inf: the answer had room)."""
        above = exact > floor
        rows, exact = rows[above], exact[above]
        tolerance = tolerances(query, self._stored, self._slack, rows)
        missed = (np.abs(exact) > tolerance) & (exact - tolerance > floor)
        if not missed.any():
            return None
        at = int(np.argmax(np.where(missed, exact, -np.inf)))
        why = "there was room for it" if floor == -np.inf else f"a hit scores {floor:.9g} at most"
        id_ = self._ids[rows[at]]
        return Verdict(f"id {id_!r} was left out: it scores {exact[at]:.9g}, and {why}", id_)


def tolerances(query: SparseVector, stored: SparseVectors, slack: Float64s, rows: Int64s) -> Float64s:
    """How far the scores of `rows` (m,) of `stored` may be from the exact ones, (m,): see the module docstring.

    `slack` (nnz of `stored`,) is by how much each stored weight may be off.
    """
    counts = stored.row_nnz[rows]
    ends = np.cumsum(counts)
    positions = np.repeat(stored.indptr[rows] - (ends - counts), counts) + np.arange(counts.sum())
    at = np.searchsorted(query.indices, stored.indices[positions])
    known = at < len(query)
    known[known] = query.indices[at[known]] == stored.indices[positions[known]]
    owner, positions = np.repeat(np.arange(len(rows)), counts)[known], positions[known]
    q = np.abs(query.values[at[known]].astype(np.float64))
    shared = np.bincount(owner, minlength=len(rows))
    magnitude = np.bincount(owner, q * np.abs(stored.values[positions]), minlength=len(rows))
    moved = np.bincount(owner, q * slack[positions], minlength=len(rows))
    relative = (shared + 1) * _U / (1 - (shared + 1) * _U)
    return np.asarray(moved + relative * (magnitude + moved) + 2 * shared * _TINY)
