"""How long an engine takes for a sparse query, from about thirty timed probes.

    model = latency_model(adapter, documents)             # documents: the SparseVectors that the collection holds
    print(model)
    model.predict(features(queries, documents, k=10))     # milliseconds of each query
    encoder.fit(dense, budget=Budget(nnz=32, milliseconds=2.5, engine=model))

F counts multiplications. An engine also pays for opening each posting list, for every document that it has to rank, and
for the hits that it hands over:

    milliseconds = c0 + c1 lists + c2 postings + c3 touched + c4 k

with coefficients of at least 0, fitted to the relative error (least squares of (predicted - measured) / measured). The
probes differ in how many lists they read, in how long these are, and in k. The error is of probes that the fit has not
seen: coefficients from one half predict the other, and the other way round. Times are at the client, one query at a
time, the median of several rounds in which the probes take turns, so that a slow moment hits all of them alike.
"""

from __future__ import annotations

import bisect
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from scipy.optimize import nnls

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import as_floats, check_adapter, check_k, check_seed, check_vectors
from sparsevec.errors import InvalidInput, printable
from sparsevec.measure.cost import document_frequency, touched_by_each
from sparsevec.planning.transformers import at_least
from sparsevec.postings import Float64s
from sparsevec.storage import as_path
from sparsevec.vectors import SparseVectors

__all__ = ["FEATURES", "LatencyModel", "features", "latency_model", "touched_by_chance"]

FEATURES = ("lists", "postings", "touched", "hits")
_LISTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # query lengths: what encoders give, and a margin on both sides
_DEPTHS = (10, 100, 300)  # answers alone, candidates for a second stage
_FEWEST = 8  # weights of a query that can be learned: the strongest one alone costs as much as four of even length
_KINDS = ("rare", "mixed", "common")  # which third of the lists, by length


def features(queries: SparseVectors, documents: SparseVectors, k: int | Sequence[int]) -> Float64s:
    """(q, 4): lists, postings, touched documents and hits of each query over these `documents`.

    `k` for all, or of each query. Raises InvalidInput without documents and for another number of `k`, InvalidVectors
    for vectors that do not fit together.
    """
    check_vectors(queries, "queries")
    check_vectors(documents, "documents")
    if not len(documents):
        raise InvalidInput("expected documents whose posting lists can be counted, found none")
    depths = np.array([check_k(one) for one in np.atleast_1d(np.asarray(k)).tolist()])
    if len(depths) not in (1, len(queries)):
        raise InvalidInput(f"expected one k for all or one for each of {len(queries)} queries, found {len(depths)}")
    touched = touched_by_each(queries, documents)
    frequency = document_frequency(documents)
    lists = queries.row_nnz
    postings = np.add.reduceat(np.append(frequency[queries.indices], 0), queries.indptr[:-1]) * (lists > 0)
    return np.column_stack([lists, postings, touched, np.minimum(depths, touched)]).astype(float)


def touched_by_chance(flops: float) -> float:
    """The share of the documents that a query of F `flops` touches when its lists meet by chance: 1 - exp(-F). Those of
    real codes overlap more, and touch fewer."""
    return -math.expm1(-flops)


_Coefficient = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LatencyModel(BaseModel):
    """Milliseconds at the client of one query of this engine, over the collection that was probed."""

    model_config = ConfigDict(frozen=True)

    engine: str
    documents: PositiveInt
    base: _Coefficient
    """milliseconds of a query that finds nothing"""
    per_list: _Coefficient
    per_posting: _Coefficient
    per_touched: _Coefficient
    per_hit: _Coefficient
    probes: int
    error_median: float
    """of (predicted - measured) / measured, of probes that the fit has not seen"""
    error_95: float
    hits: PositiveInt = 100
    """that a query of a `Budget(milliseconds=…)` asks for"""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LatencyModel:
        """What `sparsevec latency --json` printed into a file. Raises InvalidInput."""
        place = as_path(path)
        expected = f"expected in {printable(place)} what `sparsevec latency URL DOCUMENTS --json` prints"
        try:
            return cls.model_validate_json(place.read_bytes())
        except OSError as error:
            raise InvalidInput(f"{expected}, could not read it: {error.strerror}") from error
        except ValidationError as error:
            wrong = error.errors()[0]
            at = "".join(f"{name}: " for name in wrong["loc"])
            raise InvalidInput(f"{expected}; {at}{wrong['msg']}") from error

    @property
    def coefficients(self) -> Float64s:
        """(5,): milliseconds of a request, a list, a posting, a touched document, a hit."""
        return np.array([self.base, self.per_list, self.per_posting, self.per_touched, self.per_hit])

    def predict(self, counted: npt.ArrayLike) -> Float64s:
        """Milliseconds (q,) of `features` (q, 4). Raises InvalidInput."""
        return _with_base(_checked(counted)) @ self.coefficients

    def of(self, lists: float, flops: float, touched: float, hits: int, documents: float | None = None) -> float:
        """Milliseconds of a query of so many lists and hits, of F `flops`, that touches that share of the documents.

        Among as many documents as were probed, or among `documents`, which lengthens the same lists.
        """
        return float(self.predict(self.counted(lists, flops, touched, hits, documents))[0])

    def counted(
        self, lists: float, flops: float, touched: float, hits: int, documents: float | None = None
    ) -> list[float]:
        """The features of such a query."""
        n = self.documents if documents is None else documents
        return [lists, n * flops, n * touched, min(hits, n * touched)]

    def longest_query(self, milliseconds: float, nnz: int, dimension: int, flops: float) -> int:
        """The most weights that a query may have to take `milliseconds` for `hits` hits, by this model.

        Of codes with `nnz` weights a document, evenly over `dimension`, whose F is at most `flops`, and that touch what
        `touched_by_chance` says. Raises InvalidInput, naming the least that can be met, when eight weights take longer.
        """
        for name, number in (("milliseconds", milliseconds), ("nnz", nnz), ("flops", flops)):
            at_least(0, number, name)

        def taken(lists: int) -> float:
            spent = min(flops, lists * nnz / dimension)
            return self.of(lists, spent, touched_by_chance(spent), self.hits)

        if (least := taken(_FEWEST)) > milliseconds:
            raise InvalidInput(
                f"milliseconds={milliseconds:g} cannot be met on {self.engine} with {self.documents:,} documents: a "
                f"query of {_FEWEST} weights for {self.hits} hits takes {least:.3g}, of which {self.base:.3g} the "
                f"request as such; raise milliseconds to {1.05 * least:.3g}, or lower `hits` in the latency model"
            )
        return bisect.bisect_right(range(1, dimension + 1), milliseconds, key=taken)

    def shares(self, counted: npt.ArrayLike) -> dict[str, float]:
        """Which part of the mean time goes to a request as such, to lists, postings, touched documents and hits.

        Raises InvalidInput.
        """
        if not len(rows := _checked(counted)):
            raise InvalidInput("expected the features of at least one query, found none")
        parts = _with_base(rows).mean(axis=0) * self.coefficients
        total = parts.sum() or 1.0
        return {name: float(part / total) for name, part in zip(("request", *FEATURES), parts, strict=True)}

    def warning(self, counted: npt.ArrayLike, documents: float | None = None) -> str | None:
        """Where F misleads: what to change instead, when multiplications are a small part of the time.

        Among as many documents as were probed, or `documents`.
        """
        shares = self.shares(counted)
        worked = shares["postings"] + shares["touched"]
        if worked >= _WORKED:
            return None
        advice = _INSTEAD[max(_INSTEAD, key=lambda part: shares[part])]
        return (
            f"on {self.engine} with {documents or self.documents:,.0f} documents F is {worked:.0%} of a query's time "
            f"(lists {shares['lists']:.0%}, hits {shares['hits']:.0%}, the request {shares['request']:.0%}): {advice}"
        )

    @property
    def doubt(self) -> str | None:
        """Where its error is too large to budget by."""
        if self.error_median <= _MEDIAN and self.error_95 <= _NINETY_FIVE:
            return None
        return (
            f"do not budget by this: probes that the fit has not seen are off by more than {_MEDIAN:.0%} (median) or "
            f"{_NINETY_FIVE:.0%} (95 %), which is a busy engine or client; probe again when they are quiet, or in more "
            "rounds"
        )

    def __str__(self) -> str:
        return (
            f"{self.engine}, {self.documents:,} documents: {self.base:.3g} ms + {1e3 * self.per_list:.3g} µs a list "
            f"+ {1e6 * self.per_posting:.3g} ns a posting + {1e6 * self.per_touched:.3g} ns a touched document "
            f"+ {1e3 * self.per_hit:.3g} µs a hit; of {self.probes} probes, unseen: "
            f"median error {self.error_median:.0%}, 95 % within {self.error_95:.0%}"
        )


_MEDIAN, _NINETY_FIVE = 0.15, 0.35  # errors that models of quiet engines stay below: benchmarks/results/latency.md
_INSTEAD = {
    "lists": "shorter queries save most: Budget(query_nnz=…)",
    "hits": "ask for fewer hits",
    "request": "only fewer requests save much: ask several queries at once",
}
_WORKED = 1 / 3  # of the time: below, halving F saves less than a sixth


def latency_model(
    adapter: Adapter,
    documents: SparseVectors,
    *,
    rounds: int = 7,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyModel:
    """Probe the collection at `adapter`, which holds `documents` (n, dimension), and fit the model to what it took.

    81 searches a round, and one round to warm up. Raises InvalidVectors for what is no SparseVectors, InvalidInput for
    documents without weights, and when the collection answers no probe: it does not hold them.
    """
    check_adapter(adapter)
    check_vectors(documents, "documents")
    check_k(rounds, "rounds")
    plan = _planned(documents, np.random.default_rng(check_seed(seed)))
    counted = features(plan.queries, documents, plan.depths)
    taken = _timed(adapter, plan, rounds, np.random.default_rng(seed + 1), clock)
    coefficients, errors = _fit(counted, taken), _unseen_errors(counted, taken)
    base, *rest = coefficients.tolist()
    return LatencyModel(
        engine=adapter.info().backend,
        documents=len(documents),
        base=base,
        **dict(zip(("per_list", "per_posting", "per_touched", "per_hit"), rest, strict=True)),
        probes=len(taken),
        error_median=float(np.median(errors)),
        error_95=float(np.quantile(errors, 0.95)),
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    queries: SparseVectors
    depths: tuple[int, ...]


def _planned(documents: SparseVectors, rng: np.random.Generator) -> _Plan:
    """Every length with every kind of list and every depth: lists are drawn among those that documents are in."""
    frequency = document_frequency(documents)
    used = np.flatnonzero(frequency)
    if not len(used):
        raise InvalidInput("expected documents with weights to probe with, found none")
    by_length = used[np.argsort(frequency[used], kind="stable")]
    third = max(1, len(by_length) // 3)
    pools = {"rare": by_length[:third], "mixed": by_length, "common": by_length[-third:]}
    rows, depths = [], []
    for lists in _LISTS:
        for kind in _KINDS:
            for depth in _DEPTHS:
                pool = pools[kind]
                picked = np.sort(rng.choice(pool, min(lists, len(pool)), replace=False))
                rows.append(dict(zip(picked.tolist(), rng.uniform(0.1, 1.0, len(picked)).tolist(), strict=True)))
                depths.append(depth)
    return _Plan(SparseVectors.from_rows(rows, dimension=documents.dimension), tuple(depths))


def _timed(
    adapter: Adapter, plan: _Plan, rounds: int, rng: np.random.Generator, clock: Callable[[], float]
) -> Float64s:
    """Milliseconds (probes,): the median of the rounds."""
    taken = np.empty((rounds + 1, len(plan.queries)))
    answered = 0
    for number in range(rounds + 1):
        for at in rng.permutation(len(plan.queries)):
            query, depth = plan.queries[int(at) : int(at) + 1], plan.depths[at]
            started = clock()
            (hits,) = adapter.search(query, depth)
            taken[number, at] = (clock() - started) * 1e3
            answered += len(hits)
    if not answered:
        raise InvalidInput(
            "no probe found a document: expected the collection to hold the documents that the probes were made from"
        )
    return np.asarray(np.median(taken[1:], axis=0))


def _checked(counted: npt.ArrayLike) -> Float64s:
    """(q, 4)"""
    expected = (
        f"expected the {', '.join(FEATURES)} of each query, (q, 4) numbers of at least 0 as `features` counts them"
    )
    rows = np.atleast_2d(as_floats(expected, counted))
    if rows.ndim != 2 or rows.shape[1] != len(FEATURES) or not (np.isfinite(rows) & (rows >= 0)).all():
        raise InvalidInput(f"{expected}, found {counted!r:.80}")
    return rows


def _with_base(counted: Float64s) -> Float64s:
    return np.column_stack([np.ones(len(counted)), counted])


def _fit(counted: Float64s, taken: Float64s) -> Float64s:
    """(5,), each at least 0."""
    rows = _with_base(counted)
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0  # a column of nothing stays nothing, and the solver stays calm
    solved, _ = nnls(rows / scale / taken[:, None], np.ones(len(taken)))
    return np.asarray(solved / scale)


def _unseen_errors(counted: Float64s, taken: Float64s) -> Float64s:
    """|predicted - measured| / measured (probes,), each predicted by coefficients from the other half."""
    halves = np.arange(len(taken)) % 2
    predicted = np.empty(len(taken))
    for half in (0, 1):
        ours = halves == half
        predicted[ours] = _with_base(counted[ours]) @ _fit(counted[~ours], taken[~ours])
    return np.abs(predicted - taken) / taken
