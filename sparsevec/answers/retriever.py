"""`Retriever`: a dense query in, final answers out: encoded, searched, and the candidates re-ranked.

    retriever = sv.Retriever(encoder, adapter)                    # re-ranks by the second look
    retriever.add(ids, dense, payloads)                           # encodes, ingests, reports
    answers = retriever.search(queries, k=10, where={"brand": "acme"})

The sparse search finds `candidates` documents of each query, exactly. Which of them are the answer is said by `rerank`:

- "second look": by the weights that are stored anyway. The encoder has learned a second, signed query of full length;
  a candidate's score is its dot product with the stored vector. Needs nothing beside the sparse field.
- a callable `rerank(dense_query, documents)`, (input_dim,) and `Documents` of m candidates to m scores: a
  cross-encoder, a dense row from elsewhere.
- None: the order of the sparse scores.

A re-ranked score is *defined*: float64 products of the float32 weights, added in ascending dimension order, rounded to
float32. Ties go to the candidate that the sparse search had higher. So the answers are the same on every backend where
the candidates and their stored weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from sparsevec.answers.explain import Explanation, explain
from sparsevec.contract.adapter import Adapter, AsyncAdapter, Documents, Hits
from sparsevec.contract.checks import Id, Payload, check_k
from sparsevec.contract.filters import Where
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.ingestion.ingest import IngestReport, ingest
from sparsevec.vectors import Float32s, SparseVector, SparseVectors

__all__ = ["AsyncRetriever", "Rerank", "Retriever"]

Scorer: TypeAlias = Callable[[Float32s, Documents], Sequence[float]]
Rerank: TypeAlias = Literal["second look"] | Scorer | None

_FETCHED = 1000  # documents to a request


@dataclass(frozen=True, slots=True)
class _Asked:
    """The queries of one search, in every form that a stage needs."""

    dense: Float32s  # (q, input_dim)
    sparse: SparseVectors
    looks: SparseVectors | None


class _Ranking:
    """What both retrievers know: how queries are encoded, and how candidates become answers. No requests."""

    def __init__(self, encoder: SparseEncoder, rerank: Rerank, candidates: int) -> None:
        if not isinstance(encoder, SparseEncoder):
            raise InvalidInput(f"expected a SparseEncoder, found {type(encoder).__name__}")
        if rerank == "second look" and encoder.config.second_look is None:
            raise InvalidInput(
                "this encoder was learned without a second look; fit it again, or choose rerank=None or a callable"
            )
        if rerank is not None and rerank != "second look" and not callable(rerank):
            raise InvalidInput(f'rerank must be "second look", a callable or None, found {rerank!r:.80}')
        self.encoder, self.rerank, self.candidates = encoder, rerank, check_k(candidates)

    def asked(self, queries: Any) -> _Asked:
        sparse = self.encoder.encode_query(queries)
        looks = self.encoder.encode_second_look(queries) if self.rerank == "second look" else None
        dense = np.atleast_2d(np.asarray(queries, np.float32)) if callable(self.rerank) else np.empty((0, 0), "f4")
        return _Asked(dense, sparse, looks)

    def depth(self, k: int) -> int:
        """How many candidates the sparse stage is asked for. Raises InvalidInput when `candidates` are too few."""
        if self.rerank is not None and check_k(k) > self.candidates:
            raise InvalidInput(
                f"k={k} answers cannot be chosen from {self.candidates} candidates; raise candidates= to {k} or more"
            )
        return k if self.rerank is None else self.candidates

    def answers(self, asked: _Asked, found: Sequence[Hits], held: Documents, k: int) -> list[Hits]:
        """The k best of each query's candidates, whose documents are among `held`."""
        place = {id_: row for row, id_ in enumerate(held.ids)}
        return [self._answer(asked, number, hits, held, place, k) for number, hits in enumerate(found)]

    def _answer(self, asked: _Asked, number: int, hits: Hits, held: Documents, place: dict[Id, int], k: int) -> Hits:
        known = [position for position, id_ in enumerate(hits.ids) if id_ in place]  # others were deleted since
        rows = [place[hits.ids[position]] for position in known]
        scores = self._scores(asked, number, held, rows)
        order = np.argsort(-scores, kind="stable")[:k]
        picked = [known[at] for at in order.tolist()]
        payloads = None if hits.payloads is None else tuple(hits.payloads[at] for at in picked)
        return Hits(tuple(hits.ids[at] for at in picked), scores[order], payloads)

    def _scores(self, asked: _Asked, number: int, held: Documents, rows: list[int]) -> Float32s:
        if asked.looks is not None:
            return second_scores(asked.looks[number], held.vectors[rows])
        assert callable(self.rerank)
        some = Documents(
            tuple(held.ids[row] for row in rows), held.vectors[rows], tuple(held.payloads[row] for row in rows)
        )
        scores = np.asarray(self.rerank(asked.dense[number], some), np.float32)
        if scores.shape != (len(rows),) or not np.isfinite(scores).all():
            raise InvalidInput(
                f"the re-ranker must return {len(rows)} finite scores, one for each candidate, found shape "
                f"{scores.shape}{'' if np.isfinite(scores).all() else ' with NaN or infinity'}"
            )
        return scores


def second_scores(look: SparseVector, stored: SparseVectors) -> Float32s:
    """The dot products of one second look with the stored rows (m, dimension): (m,), as the module docstring says."""
    query = np.zeros(stored.dimension)
    query[look.indices] = look.values
    products = query[stored.indices] * stored.values
    rows = np.repeat(np.arange(len(stored)), stored.row_nnz)
    return np.bincount(rows, products, minlength=len(stored)).astype(np.float32)


class Retriever:
    """Final answers from one collection, for threads."""

    def __init__(
        self, encoder: SparseEncoder, adapter: Adapter, *, rerank: Rerank = "second look", candidates: int = 100
    ) -> None:
        """Raises InvalidInput when the encoder cannot do what `rerank` asks for."""
        self._ranking, self._adapter = _Ranking(encoder, rerank, candidates), adapter

    def __repr__(self) -> str:
        return f"Retriever({self._ranking.encoder!r}, {self._adapter!r}, rerank={self._ranking.rerank!r})"

    def search(
        self, queries: Any, k: int = 10, *, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        """The k answers to each dense query (q, input_dim), or to one (input_dim,), best first; a list of q `Hits`.

        Raises InvalidInput, InvalidVectors, WrongSpace for a collection of another encoder, what the adapter raises.
        """
        asked, depth = self._ranking.asked(queries), self._ranking.depth(k)
        found = self._adapter.search(asked.sparse, depth, where=where, with_payloads=with_payloads)
        if self._ranking.rerank is None:
            return found
        pages = [self._adapter.fetch(ids) for ids in _wanted(found)]
        return self._ranking.answers(asked, found, _together(pages, asked.sparse), k)

    def add(
        self, ids: Sequence[Id], dense: Any, payloads: Sequence[Payload] | None = None, **options: Any
    ) -> IngestReport:
        """Encode rows (n, input_dim) and write them, accounted for; `options` are those of `ingest`.

        The collection is made when it is not there.
        """
        vectors = self._ranking.encoder.encode_document(dense)
        if not self._adapter.info().exists:
            self._adapter.create(vectors.dimension, fingerprint=vectors.fingerprint)
        return ingest(self._adapter, ids, vectors, payloads, **options)

    def delete(self, ids: Sequence[Id]) -> None:
        """Remove documents, or our vector from those of others (C12)."""
        self._adapter.delete(ids)

    def explain(self, query: Any, id_: Id) -> Explanation:
        """Why the document `id_` is where it is for one dense query (input_dim,): dimensions that add up to its score.

        Of the second look where that ranks, else of the sparse score. Raises InvalidInput when the id is not there.
        """
        asked, held = self._ranking.asked(query), self._adapter.fetch([id_])
        return _explained(asked, id_, self._adapter.stored(held.vectors))

    def close(self) -> None:
        """Close the adapter."""
        self._adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncRetriever:
    """The same for asyncio: `search`, `delete` and `explain` are awaited; encoding runs in the loop's own thread."""

    def __init__(
        self, encoder: SparseEncoder, adapter: AsyncAdapter, *, rerank: Rerank = "second look", candidates: int = 100
    ) -> None:
        """Raises InvalidInput when the encoder cannot do what `rerank` asks for."""
        self._ranking, self._adapter = _Ranking(encoder, rerank, candidates), adapter

    async def search(
        self, queries: Any, k: int = 10, *, where: Where | None = None, with_payloads: bool = False
    ) -> list[Hits]:
        """The k answers to each dense query, best first, as `Retriever.search` gives them."""
        asked, depth = self._ranking.asked(queries), self._ranking.depth(k)
        found = await self._adapter.search(asked.sparse, depth, where=where, with_payloads=with_payloads)
        if self._ranking.rerank is None:
            return found
        pages = [await self._adapter.fetch(ids) for ids in _wanted(found)]
        return self._ranking.answers(asked, found, _together(pages, asked.sparse), k)

    async def delete(self, ids: Sequence[Id]) -> None:
        """Remove documents, or our vector from those of others (C12)."""
        await self._adapter.delete(ids)

    async def explain(self, query: Any, id_: Id) -> Explanation:
        """Why a document is where it is, as `Retriever.explain` says it."""
        asked, held = self._ranking.asked(query), await self._adapter.fetch([id_])
        return _explained(asked, id_, self._adapter.stored(held.vectors))

    async def close(self) -> None:
        """Close the adapter."""
        await self._adapter.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


def _explained(asked: _Asked, id_: Id, stored: SparseVectors) -> Explanation:
    if not len(stored):
        raise InvalidInput(f"id {id_!r} holds no vector of ours in this collection")
    rows = asked.looks if asked.looks is not None else asked.sparse
    return explain(rows[0], stored[0])


def _wanted(found: Sequence[Hits]) -> Iterator[list[Id]]:
    """Every candidate once, a request's worth at a time."""
    ids = list(dict.fromkeys(id_ for hits in found for id_ in hits.ids))
    return (ids[start : start + _FETCHED] for start in range(0, len(ids), _FETCHED))


def _together(pages: Sequence[Documents], like: SparseVectors) -> Documents:
    if not pages:
        return Documents((), SparseVectors([0], [], [], like.dimension), ())
    return Documents(
        tuple(id_ for page in pages for id_ in page.ids),
        SparseVectors.concat([page.vectors for page in pages]),
        tuple(payload for page in pages for payload in page.payloads),
    )
