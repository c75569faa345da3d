"""From dense queries to answers, as one conversation with an adapter: `Retriever` and `AsyncRetriever` drive it.

It yields `Call`s and is sent what the adapter returned, as the adapters' own conversations do with requests
(`contract.conversation`). So threads and asyncio run the same lines, and `verify` sees which candidates came back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparsevec.answers.calls import Call
from sparsevec.answers.candidates import Stored, brought, by_id, in_order, of_hits, order_of, together
from sparsevec.answers.explain import Explanation, explain
from sparsevec.answers.fusion import Fusion
from sparsevec.answers.parents import best_of_each, check_field, proves
from sparsevec.answers.scoring import (
    DenseRows,
    Rerank,
    Residual,
    Scores,
    SecondLook,
    Way,
    check_columns,
    usual_candidates,
    way_of,
)
from sparsevec.contract.adapter import Adapter, Documents, Hits, Info
from sparsevec.contract.checks import Id, as_real, check_k, check_queries, check_vectors
from sparsevec.contract.deadlines import check_time
from sparsevec.contract.filters import Where
from sparsevec.contract.operations import Operation
from sparsevec.contract.searches import Search, as_given
from sparsevec.dense import Dense, dense_rows, query_rows
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import BackendUnsupported, InvalidInput, InvalidVectors, WrongSpace
from sparsevec.ingestion.chunks import Encoded
from sparsevec.vectors import MAX_DIMENSION, Float32s, Int64s, SparseVectors

__all__ = ["Asked", "Ranking", "best_parents"]

_FETCHED = 1000  # documents to a request
_LOOKED_AT = 16  # documents of a collection, for whose codes they keep
_MORE = 10  # nearest documents that an engine is asked for beyond twice k


@dataclass(frozen=True, slots=True)
class Asked:
    """What one search wants, checked."""

    dense: Float32s  # (q, query_dim)
    sparse: SparseVectors
    k: int
    where: Where | None
    with_payloads: bool
    group_by: str | None
    score_threshold: float

    @property
    def payloads(self) -> bool:
        """Whether the answers are made from payloads, wanted by the caller or not."""
        return self.with_payloads or self.group_by is not None


class Ranking:
    """How queries are encoded, and how candidates become answers."""

    def __init__(
        self,
        encoder: SparseEncoder,
        rerank: Rerank,
        candidates: int | None,
        dense_field: str | None,
        query_nnz: int | None,
        *,
        ranks: bool = False,
        counts: bool = False,
    ) -> None:
        """`ranks`: the adapter has `nearest` and `by_text` (`contract.ranking`), `counts`: `matching_or_search`
        (`contract.counting`)."""
        self._query_nnz = _checked_nnz(query_nnz, encoder.output_dim)
        self.encoder, self.rerank = encoder, rerank
        many = usual_candidates(rerank, encoder) if candidates is None else (check_k(candidates, "candidates"),) * 2
        self.candidates, self._behind_filter = many
        self.way: Way | None = way_of(rerank, encoder, dense_field)
        self._checked, self._seen, self._ranks, self._counts = False, False, ranks, counts
        self._rows_are_there = False  # as far as is known, in the field of dense rows
        self._fusable: set[str] = set()  # fields with rows of as many columns

    # ---- the question

    def asked(
        self,
        queries: Any,
        k: int,
        *,
        where: Where | None,
        with_payloads: bool,
        group_by: str | None = None,
        score_threshold: float | None = None,
    ) -> Asked:
        """Raises InvalidInput and InvalidVectors."""
        check_field(group_by)
        if self.way is not None and check_k(k) > self.candidates:
            raise InvalidInput(
                f"k={k} answers cannot be chosen from {self.candidates} candidates; raise candidates= to {k} or more"
            )
        rows, least = self.rows(queries), _threshold(score_threshold)
        return Asked(rows, self._sparse(rows), check_k(k), where, with_payloads, group_by, least)

    def rows(self, queries: Any) -> Float32s:
        """Dense queries (q, query_dim), or one of them, as they are compared. Raises InvalidVectors."""
        rows = query_rows(queries, self.encoder.query_dim, zeros=self.encoder.similarity == "l2")
        if self.encoder.similarity == "cosine" and len(rows):
            rows = _within_float32(rows)
        return rows.astype(np.float32, copy=False)

    def _sparse(self, rows: Float32s) -> SparseVectors:
        return self.encoder.encode_query(rows, self._query_nnz)

    @property
    def code_bytes(self) -> int | None:
        """Of the residual codes that re-rank here."""
        return self.encoder.residual_bytes if self.rerank == "residual" else None

    def check_code_bytes(self, kept: int | None) -> None:
        """Raises InvalidInput unless a collection keeps the codes that re-rank here."""
        if isinstance(self.way, Residual):
            self.way.check_width(kept)

    def check_kept(self, adapter: Adapter) -> None:
        """Once, by the first documents: that a collection keeps codes of this encoder, not of another of its space.
        Beside those, its own would spoil every search by codes. Raises InvalidInput."""
        if self._seen:
            return
        page = next(iter(adapter.scan(codes=True, size=_LOOKED_AT)), None)
        if page is not None and page.codes is not None:
            held = np.flatnonzero(page.codes.any(axis=1))
            try:
                self.encoder.check_residual_codes(page.codes[held], [page.ids[row] for row in held])
            except InvalidInput as error:
                raise InvalidInput(
                    f"{error}. Into another collection, or one by one into this one by sparsevec.ingest(..., "
                    "codes=encoder.residual_codes(...)): no search by codes answers until all are replaced"
                ) from None
        self._seen = True

    def least(self, depth: int) -> int:
        """How many answers of ours a fusion of that depth can have."""
        return depth if self.way is None else min(depth, self.candidates)

    def written(self, dense: Any, refined: SparseVectors | None) -> Encoded:
        """What to write for dense rows (n, input_dim), each judged by itself. Raises InvalidVectors when `refined` are
        not as many or of another dimension, WrongSpace when they are of another encoder."""
        if refined is None:
            return self.encoder.encode_each(dense)
        return Encoded(self._checked_refined(refined, len(dense)), self.encoder.document_faults(dense))

    def vectors(self, dense: Any, refined: SparseVectors | None) -> SparseVectors:
        """Those of dense rows (n, input_dim) that were all written. Raises what `written` raises."""
        if refined is None:
            return self.encoder.encode_document(dense)
        return self._checked_refined(refined, len(dense_rows(dense, self.encoder.input_dim, "documents")))

    def _checked_refined(self, refined: SparseVectors, n: int) -> SparseVectors:
        if len(check_vectors(refined)) != n:
            raise InvalidVectors(f"{len(refined)} vectors for {n} dense rows; expected those that refine made of them")
        ours, dimension = self.encoder.fingerprint, self.encoder.output_dim
        if refined.fingerprint not in (None, ours):
            raise WrongSpace(
                f"vectors= are of the space {refined.fingerprint}, expected {ours} of this retriever's encoder: give "
                "what its own refine made of these rows, or leave vectors= out"
            )
        if refined.dimension != dimension:
            raise InvalidVectors(f"vectors= have dimension {refined.dimension}, expected the encoder's {dimension}")
        return refined

    # ---- the answers

    def search(self, asked: Asked, stored: Stored) -> Operation[list[Hits]]:
        """`stored` is the adapter's: what came back may be as it was given, and scores are of what is stored."""
        if self.way is None:
            found = yield from self._ranked(asked)
        else:
            yield from self._check(self.way)
            found = yield from self._re_ranked(asked, self.way, stored)
            if isinstance(self.way, DenseRows) and asked.where and not all(hits.ids for hits in found):
                yield from self._check_rows(replace(asked, where=None), self.way)
            self._checked = True  # of a collection that was there
        return found if asked.with_payloads else [replace(hits, payloads=None) for hits in found]

    def explain(self, query: Any, id_: Id, examples: int, stored: Stored) -> Operation[Explanation]:
        """What `Retriever.explain` gives, with its arguments."""
        rows, examples = self.rows(query), _checked_examples(examples)
        if len(rows) != 1:
            raise InvalidInput(f"expected one query to explain a score of, found {len(rows)}; explain them in turn")
        if isinstance(self.way, Residual):
            yield from self._check(self.way)
        sparse = self._sparse(rows)
        held: Documents = yield Call("fetch", ([id_],))
        if not held.ids:
            raise InvalidInput(f"id {id_!r} holds no vector of ours in this collection")
        _check_read(sparse, held)
        if isinstance(self.way, Residual) and not held.vectors.nnz:
            raise InvalidInput(f"id {id_!r} has no weights, so no residual code either, and is no answer by these")
        held = replace(held, vectors=stored(held.vectors))
        why = self._why(rows[0], sparse, held)
        if not examples or not len(why):
            return why
        alone = SparseVectors.from_rows([{one.dimension: 1.0} for one in why], dimension=sparse.dimension)
        found: list[Hits] = yield Call("search", (alone, examples), {"with_payloads": True})
        return why.with_examples(found)

    def _why(self, row: Float32s, sparse: SparseVectors, held: Documents) -> Explanation:
        if isinstance(self.way, Residual):
            constant, asked, residual = self.way.parts(row, held)
            met = explain(asked[0], held.vectors[0])
            return replace(met.of(constant + met.score + residual), constant=constant, residual=residual)
        return explain(self.way.look(row) if isinstance(self.way, SecondLook) else sparse[0], held.vectors[0])

    def fused(self, asked: Asked, fusion: Fusion, stored: Stored) -> Operation[Hits]:
        """The answers of one query, fused with rankings of the engine's own. Raises InvalidInput for several queries,
        BackendUnsupported where the engine has no such rankings."""
        if len(asked.dense) != 1:
            raise InvalidInput(f"expected one query to fuse rankings of, found {len(asked.dense)}; fuse them in turn")
        if not self._ranks:
            raise BackendUnsupported(
                "this backend ranks neither text nor dense rows by itself; fuse with another ranking of yours by "
                "sparsevec.reciprocal_rank_fusion([...]) or weighted_sum([...])"
            )
        if fusion.dense is not None:
            yield from self._check_fusable(fusion.dense)
        named = {"where": asked.where, "with_payloads": asked.payloads}
        theirs: list[Hits] = []
        for field, words in fusion.text.items():
            theirs += yield Call("by_text", ([words], fusion.depth), {"field": field, **named})
        if fusion.dense is not None:
            theirs += yield Call(
                "nearest", (self.encoder.translate(asked.dense), fusion.depth), {"dense": fusion.dense, **named}
            )
        rankings = [*(yield from self.search(asked, stored)), *theirs]
        return fusion.of(rankings)

    def _check_fusable(self, field: str) -> Operation[None]:
        """Once a field, before anything is searched. Raises InvalidInput."""
        if field not in self._fusable:
            info: Info = yield Call("info")
            if (declared := info.dense.get(field)) is not None:
                check_columns(field, declared, self.encoder)
                self._fusable.add(field)

    def _check(self, way: Way) -> Operation[None]:
        """Once: what a collection declares of its dense rows and codes does not change."""
        if not self._checked:
            yield from way.check()
            if isinstance(way, DenseRows) and not self._ranks:
                way.on_server = False

    def _ranked(self, asked: Asked) -> Operation[list[Hits]]:
        """By the sparse scores alone."""
        depth = asked.k if asked.group_by is None else 2 * asked.k
        found: list[Hits] = yield self._search(asked.sparse, depth, asked)
        if asked.group_by is not None:
            found = [best_parents(hits, asked) for hits in (yield from self._deep_enough(asked, depth, found))]
        return [hits[: _above(asked, hits.scores)] for hits in found]

    def _re_ranked(self, asked: Asked, way: Way, stored: Stored) -> Operation[list[Hits]]:
        prepared = self.prepared(asked)
        found = yield from self._candidates(asked, way)
        if isinstance(found, Documents):
            _check_read(asked.sparse, found)
            few, places = replace(found, vectors=stored(found.vectors)), None
            if way.with_vectors:
                places = order_of(few.ids)
            else:
                few = in_order(few)
            return [self.answer(asked, prepared, row, few, places) for row in range(len(asked.dense))]
        if isinstance(way, DenseRows) and way.on_server and asked.group_by is None:
            answers = yield from self._by_server(asked, way, prepared, found)
            if answers is not None:
                return answers
        if way.with_vectors:
            held_by = [brought(hits, stored, asked.sparse) for hits in found]
            return [self.answer(asked, prepared, row, documents) for row, documents in enumerate(held_by)]
        held = yield from self._held(found, way, asked.sparse)
        held = replace(held, vectors=stored(held.vectors))
        return [self.answer(asked, prepared, row, of_hits(hits, held)) for row, hits in enumerate(found)]

    def prepared(self, asked: Asked) -> Any:
        """What the way of re-ranking takes of the queries."""
        assert self.way is not None
        return self.way.prepare(asked.dense, asked.sparse if self._query_nnz is None else None)

    def answer(
        self, asked: Asked, prepared: Any, number: int, documents: Documents, places: Int64s | None = None
    ) -> Hits:
        """The k best of documents in the order of the sparse search, or in that of these `places` (m,).

        Raises InvalidInput where candidates of a search have no dense row at all, BackendDown after the deadline."""
        assert self.way is not None
        if not documents.ids:
            return Hits((), np.empty(0, np.float32), ())
        scores = self.way.scores(prepared, number, documents)
        check_time()
        if isinstance(self.way, DenseRows) and not asked.where and np.isnan(scores).all():
            raise self.way.missing(f"none of {len(scores)} candidates")
        return _best(asked, documents, scores, places)

    def _by_server(
        self, asked: Asked, way: DenseRows, prepared: Any, found: Sequence[Hits]
    ) -> Operation[list[Hits] | None]:
        """The engine picks the nearest of the candidates, some more than k; their rows are brought, and scored as
        defined. None where what it left out might still be among the k: engines round in their own order."""
        depth = 2 * asked.k + _MORE
        among, rows = [hits.ids for hits in found], self.encoder.translate(asked.dense)
        try:
            near: list[Hits] = yield Call("nearest", (rows, depth), {"dense": way.dense_field, "among": among})
        except BackendUnsupported:
            way.on_server = False
            return None
        held = yield from self._held(near, way, asked.sparse)
        answers = []
        for number, (hits, some) in enumerate(zip(found, near, strict=True)):
            if hits.ids and not some.ids and not asked.where:
                raise way.missing(f"none of {len(hits)} candidates")
            picked = set(some.ids)
            documents = of_hits(
                hits.rows(np.array([row for row, id_ in enumerate(hits.ids) if id_ in picked], np.int64)), held
            )
            if len(some) == depth and not way.proves(prepared, number, documents, asked.k):
                return None
            answers.append(self.answer(asked, prepared, number, documents))
        return answers

    def _candidates(self, asked: Asked, way: Way) -> Operation[list[Hits] | Documents]:
        """Of each query; or every document that the filter leaves, where they are few."""
        depth = self._behind_filter if asked.where else self.candidates
        found = yield from self._first(asked, way, self._search(asked.sparse, depth, asked))
        if asked.group_by is None or isinstance(found, Documents):
            return found
        return (yield from self._deep_enough(asked, depth, found))

    def _first(self, asked: Asked, way: Way, search: Call) -> Operation[list[Hits] | Documents]:
        found: list[Hits] | Documents | None = None
        if asked.where:
            most, dense = way.few * self.candidates, {"dense": way.dense_field}
            if self._counts:
                found = yield Call("matching_or_search", (*search.given, Search(**search.named), most), dense)
            else:
                found = yield Call("matching", (asked.where, most), dense)
        if found is None:
            found = yield search
        return found

    def _check_rows(self, asked: Asked, way: DenseRows) -> Operation[None]:
        """Whether documents that a filter leaves have no rows because none has: once, unless so."""
        if self._rows_are_there:
            return
        found: list[Hits] = yield self._search(asked.sparse, self.candidates, asked)
        held = yield from self._held(found, way, asked.sparse)
        if held.ids and not any(row is not None for row in held.dense or ()):
            raise way.missing(f"none of {len(held.ids)} candidates")
        self._rows_are_there = True

    def _search(self, sparse: SparseVectors, depth: int, asked: Asked) -> Call:
        """One search, with what the re-ranking needs, so that it is the only request."""
        way = self.way
        more = {} if way is None or not way.with_vectors else {"with_vectors": True, "with_codes": way.with_codes}
        return Call("search", (sparse, depth), {"where": asked.where, "with_payloads": asked.payloads, **more})

    def enough(self, asked: Asked, hits: Hits) -> bool:
        """Whether a ranking is deep enough for k parents: it holds them, and without re-ranking it proves them."""
        if self.way is None:
            return proves(hits, str(asked.group_by), asked.k)
        return len(best_of_each(hits, str(asked.group_by), asked.k)) >= asked.k

    def _deep_enough(self, asked: Asked, depth: int, found: Sequence[Hits]) -> Operation[list[Hits]]:
        """These, the best `depth` of each query, or twice as many until that is `enough` or all that there are."""
        found = list(found)
        while still := [row for row, hits in enumerate(found) if len(hits) == depth and not self.enough(asked, hits)]:
            depth *= 2
            ranked = yield self._search(asked.sparse[np.array(still)], depth, asked)
            for row, hits in zip(still, ranked, strict=True):
                found[row] = hits
        return found

    def _held(self, found: Sequence[Hits], way: Way, like: SparseVectors) -> Operation[Documents]:
        """Every candidate once, a request's worth at a time."""
        ids = list(dict.fromkeys(id_ for hits in found for id_ in hits.ids))
        pages = []
        for start in range(0, len(ids), _FETCHED):
            page: Documents = yield Call("fetch", (ids[start : start + _FETCHED],), {"dense": way.dense_field})
            pages.append(page)
        return together(pages, like)


def _within_float32(rows: Dense) -> Dense:
    """Those that float32 could not hold times a power of two, which leaves them their directions."""
    largest = np.abs(rows).max(axis=1)
    if largest.min() >= 2.0**-61 and largest.max() < 2.0**60:
        return rows
    _, exponents = np.frexp(largest)
    return np.ldexp(rows, np.where(np.abs(exponents) > 60, -exponents, 0)[:, None])


def _checked_nnz(nnz: int | None, dimension: int) -> int | None:
    whole = isinstance(nnz, int | np.integer) and not isinstance(nnz, bool)
    if nnz is not None and not (whole and 1 <= nnz <= dimension):
        raise InvalidInput(f"query_nnz must be a number of weights from 1 to {dimension} or None, found {nnz!r:.80}")
    return nnz


def _threshold(least: float | None) -> float:
    if least is None:
        return -math.inf
    if (number := as_real(least)) is None or math.isnan(number):
        raise InvalidInput(f"score_threshold must be a number or None, found {least!r:.80}")
    return number


def _checked_examples(examples: Any) -> int:
    if isinstance(examples, bool) or not isinstance(examples, int | np.integer) or examples < 0:
        raise InvalidInput(f"examples must be a number of documents from 0 on, found {examples!r:.80}")
    return int(examples)


def _check_read(queries: SparseVectors, held: Documents) -> None:
    """What a search checks, of documents that were read without one. Raises InvalidVectors, WrongSpace."""
    said = held.vectors.dimension
    check_queries(queries, None if said == MAX_DIMENSION else said, held.vectors.fingerprint)  # the most: not known


def best_parents(hits: Hits, asked: Asked) -> Hits:
    """The k best parents of a ranking that proves them."""
    return best_of_each(by_id(hits), str(asked.group_by), asked.k)


def _best(asked: Asked, documents: Documents, scores: Scores, places: Int64s | None) -> Hits:
    """The k best by re-ranked score, ties to the document that stands before; without those that have none (NaN)."""
    falling = np.argsort(-(scores if places is None else scores[places]), kind="stable")
    order = (falling if places is None else places[falling])[: _above(asked, scores)]
    if asked.group_by is None:
        order = order[: asked.k]
    picked = order.tolist()
    ids, payloads = (tuple(documents.ids[at] for at in picked), tuple(documents.payloads[at] for at in picked))
    hits = Hits(ids, as_given(scores[order]), payloads)
    return hits if asked.group_by is None else best_of_each(hits, asked.group_by, asked.k)


def _above(asked: Asked, scores: Scores) -> int:
    """How many are above the threshold, in the digits by which they are ordered."""
    with np.errstate(over="ignore"):  # a threshold beyond float32 is infinite there
        return int(np.count_nonzero(scores > asked.score_threshold))
