"""`Retriever`: a dense query in, final answers out: encoded, searched, and the candidates re-ranked.

    retriever = sv.Retriever(encoder, adapter)                    # re-ranks by the second look
    retriever.add(ids, dense, payloads)                           # encodes, ingests, reports
    answers = retriever.search(queries, k=10, where={"brand": "acme"}, group_by="parent", deadline=0.5)

The sparse search finds `candidates` documents of each query, exactly: 100, or 300 for residual codes of 200 bytes or
more, and behind a filter half as many again for residual codes and dense rows. Which of them are the answer is said by
`rerank`, the second look unless the model's card says that it finds less:

- "second look": by the weights that are stored anyway. The encoder has learned a second, signed query of full length;
  a candidate's score is its dot product with the stored vector. Needs nothing beside the sparse field.
- "residual": by residual codes, a few bytes a document that say what its sparse code does not of its dense row; for an
  encoder fitted with `Budget(residual_bytes=...)`. They come with the hits, so one request answers.
- "dense": by the encoder's similarity with the dense row that the cluster holds in `dense_field`, the one the encoder
  was fitted on: the cosine, the dot product, or minus the squared distance ("l2"). A document without one is no answer;
  where no candidate has one, with or without the filter, InvalidInput says so.
- a callable `rerank(dense_query, documents)`, (query_dim,) and `Documents` of m candidates, one at least, to m scores:
  a cross-encoder, a dense row from elsewhere.
- None: the order of the sparse scores.

A re-ranked score is *defined* (`answers.scoring`), so the answers are the same on every backend where the candidates
and what is stored of them are; `sv.verify(retriever, ...)` holds it to that. Ties go to the candidate that the sparse
search had higher; of documents that are the same in everything, the engine's own order chooses.

**Filters that leave few documents.** A filter that leaves at most 2 × `candidates` documents, 3 × for dense rows and
1 × for a callable (of the 100 or 300 without a filter, where not given), is answered from all of them, without the
sparse search: among few documents many share no dimension with a query, and are no candidates though they are near.
Ties go to the lower id, ints before strings. So the answers there are those of an exhaustive re-ranking. Elasticsearch
and OpenSearch count what a filter leaves in the request that searches, or that reads where the last filter on the same
fields left few: one request, and two where that changes. What only a document's own words decide there (`not` of a
number, a date in a keyword field) is counted with what the engine lets through, and judged in further requests where a
query finds fewer candidates than it asks for; if every query finds them all, they answer. On Qdrant, `exists` and dates
count as what the engine lets through, so that such a filter may be searched though it leaves few.

**Chunks.** `group_by="parent"` gives the k best parents, each by its best hit; `answers.parents` defines what a parent
is, and proves the k. Re-ranked, the candidates are the first of `candidates`, twice, four times ... as many documents
that hold k parents, or all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Self

from sparsevec.answers.beside_loop import BesideLoop
from sparsevec.answers.calls import Call
from sparsevec.answers.explain import Explanation
from sparsevec.answers.fusion import Fusion
from sparsevec.answers.judging import AnswersReport, verified
from sparsevec.answers.ranking import Ranking
from sparsevec.answers.scoring import USUAL, Rerank, Usual, usual_rerank
from sparsevec.contract.adapter import Hits
from sparsevec.contract.checks import Id, Payload, as_real, check_adapter, check_async_adapter, check_k
from sparsevec.contract.deadlines import check_time, within
from sparsevec.contract.filters import Where
from sparsevec.contract.operations import Operation, arun, run
from sparsevec.encoder import SparseEncoder
from sparsevec.errors import CollectionError, InvalidInput
from sparsevec.ingestion.ingest import IngestReport, ingest
from sparsevec.vectors import SparseVectors

__all__ = ["AsyncRetriever", "Retriever"]


class _Answering:
    """What both retrievers say, and how they are made."""

    _check_adapter: Callable[[object], None]

    def __init__(
        self,
        encoder: SparseEncoder,
        adapter: Any,
        *,
        rerank: Rerank | Usual = USUAL,
        candidates: int | None = None,
        dense_field: str | None = None,
        query_nnz: int | None = None,
    ) -> None:
        """Where `rerank` is not given, it is the second look, or None for an encoder whose card says that the second
        look finds less. `candidates` are 100 where not given, 300 for residual codes of 200 bytes or more; behind a
        filter 150 or 450 for residual codes, and 150 for dense rows. Queries are searched by their `query_nnz` largest
        weights, or by all: each opens a list, which is most of the time on small shards, and re-ranking makes up for
        those left out. Raises InvalidInput when the encoder cannot do that, and for what is no adapter of this kind."""
        if not isinstance(encoder, SparseEncoder):
            raise InvalidInput(f"expected a SparseEncoder, found {type(encoder).__name__}")
        self._check_adapter(adapter)
        rerank = usual_rerank(encoder) if isinstance(rerank, Usual) else rerank
        ranks, counts = (callable(getattr(adapter, name, None)) for name in ("nearest", "matching_or_search"))
        self._ranking = Ranking(encoder, rerank, candidates, dense_field, query_nnz, ranks=ranks, counts=counts)
        self._adapter = adapter

    @property
    def encoder(self) -> SparseEncoder:
        return self._ranking.encoder

    @property
    def adapter(self) -> Any:
        return self._adapter

    def _fused(self, query: Any, fusion: Fusion, where: Where | None, *, with_payloads: bool) -> Operation[Hits]:
        asked = self._ranking.asked(query, self._ranking.least(fusion.depth), where=where, with_payloads=with_payloads)
        return self._ranking.fused(asked, fusion, self._adapter.stored)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.encoder!r}, {self._adapter!r}, rerank={self._ranking.rerank!r})"


class Retriever(_Answering):
    """Final answers from one collection, for threads."""

    _check_adapter = staticmethod(check_adapter)

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        group_by: str | None = None,
        score_threshold: float | None = None,
        deadline: float | None = None,
    ) -> list[Hits]:
        """The k answers to each dense query (q, query_dim), or to one (query_dim,), best first; a list of q `Hits`.

        `group_by`: a field of the payload, and the k best parents come, each by its best hit. Answers whose final score
        is not above `score_threshold` are left out. `deadline`: seconds for all of it but the encoding, whatever the
        number of requests; a step that has begun is not broken off, and its answer comes too late.
        Raises InvalidInput, InvalidVectors, WrongSpace for a collection of another encoder, BackendDown at the
        deadline, and what the adapter raises.
        """
        asked = self._ranking.asked(
            queries,
            k,
            where=where,
            with_payloads=with_payloads,
            group_by=group_by,
            score_threshold=score_threshold,
        )
        with _limited(deadline):
            return run(self._ranking.search(asked, self._adapter.stored), self._send)

    def fuse(
        self,
        query: Any,
        k: int = 10,
        *,
        text: Mapping[str, str] | None = None,
        dense: str | None = None,
        by: Literal["ranks", "scores"] = "ranks",
        weights: Sequence[float] | None = None,
        depth: int = 100,
        where: Where | None = None,
        with_payloads: bool = False,
        deadline: float | None = None,
    ) -> Hits:
        """The k answers to one dense query (query_dim,), fused with rankings of the engine's own.

        `text`: fields to words, each ranked as the engine ranks text; `dense`: a field whose own index is asked, too.
        The best `depth` of each ranking, ours first, become one `by` their "ranks" (reciprocal rank fusion) or by their
        "scores", each scaled to [0, 1]; `weights`: one for each, in that order. It is done here, everywhere: the same
        answer on every engine and licence, ties by the rule of `answers.fusion`. Raises BackendUnsupported where the
        engine has no such ranking, and what `search` raises.
        """
        fusion = Fusion(text or {}, dense, check_k(k), check_k(depth, "depth"), by, weights)
        operation = self._fused(query, fusion, where, with_payloads=with_payloads)
        with _limited(deadline):
            return run(operation, self._send)

    def _send(self, call: Call) -> Any:
        check_time()
        found = getattr(self._adapter, call.name)(*call.given, **call.named)
        check_time()  # an engine in this process knows of no deadline
        return found

    def add(
        self,
        ids: Sequence[Id],
        dense: Any,
        payloads: Sequence[Payload] | None = None,
        *,
        vectors: SparseVectors | None = None,
        **options: Any,
    ) -> IngestReport:
        """Encode rows (n, input_dim) and write them, accounted for; `options` are those of `ingest`. A row that cannot
        be encoded has failed, with the reason, and keeps no other from being written.

        `vectors` (n, dimension): what `refine` made of these rows, to be written in place of the encoder's own. The
        collection is made when it is not there, with residual codes where these re-rank; one that keeps residual codes
        gets them. Raises InvalidInput when the encoder cannot make them, or the collection keeps those of another,
        WrongSpace for `vectors` of another encoder before anything is made.
        """
        return _written(self._ranking, self._adapter, ids, dense, payloads, vectors, options)

    def delete(self, ids: Sequence[Id]) -> None:
        """Remove documents, or our vector from those of others (C12)."""
        self._adapter.delete(ids)

    def verify(
        self,
        dense: Any,
        queries: Any,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        where: Where | None = None,
        payloads: Sequence[Payload] | None = None,
        vectors: SparseVectors | None = None,
        group_by: str | None = None,
    ) -> AnswersReport:
        """Ask all dense `queries` (q, query_dim), and judge candidates and answers.

        `dense` (n, input_dim): all that the collection holds, under `ids` (0 to n - 1 when not given), with `payloads`
        and `vectors` as they were given to `add`. The candidates must be exact for this backend's `stored`, the answers
        the exact re-ranking of the candidates that came back, to the bit. A callable is asked twice.
        Raises what `sparsevec.verify` raises.
        """
        return verified(
            self._ranking,
            self._adapter,
            dense,
            queries,
            k,
            ids=ids,
            where=where,
            payloads=payloads,
            vectors=vectors,
            group_by=group_by,
        )

    def explain(self, query: Any, id_: Id, *, examples: int = 0) -> Explanation:
        """Why the document `id_` is where it is for one dense query (query_dim,): dimensions that add up to its score.

        Of the second look or the residual code where these rank, with the code's part; else, as for dense rows and
        callables, of the sparse score, which made it a candidate. `examples`: so many documents come with each
        dimension that use it most, with their payloads. Raises InvalidInput when the id is not there, and for another
        number of queries, WrongSpace for a collection of another encoder.
        """
        return run(self._ranking.explain(query, id_, examples, self._adapter.stored), self._send)

    def close(self) -> None:
        """Close the adapter."""
        self._adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncRetriever(_Answering):
    """The same for asyncio, over an AsyncAdapter; encoding runs in the loop's own thread, `add` in one of its own."""

    _check_adapter = staticmethod(check_async_adapter)

    async def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        where: Where | None = None,
        with_payloads: bool = False,
        group_by: str | None = None,
        score_threshold: float | None = None,
        deadline: float | None = None,
    ) -> list[Hits]:
        """The k answers to each dense query, best first, as `Retriever.search` gives them."""
        asked = self._ranking.asked(
            queries,
            k,
            where=where,
            with_payloads=with_payloads,
            group_by=group_by,
            score_threshold=score_threshold,
        )
        with _limited(deadline):
            return await arun(self._ranking.search(asked, self._adapter.stored), self._send)

    async def fuse(
        self,
        query: Any,
        k: int = 10,
        *,
        text: Mapping[str, str] | None = None,
        dense: str | None = None,
        by: Literal["ranks", "scores"] = "ranks",
        weights: Sequence[float] | None = None,
        depth: int = 100,
        where: Where | None = None,
        with_payloads: bool = False,
        deadline: float | None = None,
    ) -> Hits:
        """One ranking of several, as `Retriever.fuse` makes it."""
        fusion = Fusion(text or {}, dense, check_k(k), check_k(depth, "depth"), by, weights)
        operation = self._fused(query, fusion, where, with_payloads=with_payloads)
        with _limited(deadline):
            return await arun(operation, self._send)

    async def _send(self, call: Call) -> Any:
        check_time()
        found = await getattr(self._adapter, call.name)(*call.given, **call.named)
        check_time()
        return found

    async def add(
        self,
        ids: Sequence[Id],
        dense: Any,
        payloads: Sequence[Payload] | None = None,
        *,
        vectors: SparseVectors | None = None,
        **options: Any,
    ) -> IngestReport:
        """Encode and write, accounted for, as `Retriever.add` does. A task that is cancelled stops at the next request,
        for which it waits some seconds at most, and what was settled by then stays."""
        bridge = BesideLoop(self._adapter, asyncio.get_running_loop())
        return await bridge.run(_written, self._ranking, bridge, ids, dense, payloads, vectors, options)

    async def delete(self, ids: Sequence[Id]) -> None:
        """Remove documents, or our vector from those of others (C12)."""
        await self._adapter.delete(ids)

    async def verify(
        self,
        dense: Any,
        queries: Any,
        k: int = 10,
        *,
        ids: Iterable[Id] | None = None,
        where: Where | None = None,
        payloads: Sequence[Payload] | None = None,
        vectors: SparseVectors | None = None,
        group_by: str | None = None,
    ) -> AnswersReport:
        """Judge candidates and answers, as `Retriever.verify` does, in a thread beside the loop."""
        bridge: Any = BesideLoop(self._adapter, asyncio.get_running_loop())
        asked: dict[str, Any] = {
            "ids": ids,
            "where": where,
            "payloads": payloads,
            "vectors": vectors,
            "group_by": group_by,
        }
        report: AnswersReport = await bridge.run(verified, self._ranking, bridge, dense, queries, k, **asked)
        return report

    async def explain(self, query: Any, id_: Id, *, examples: int = 0) -> Explanation:
        """Why a document is where it is, as `Retriever.explain` says it."""
        return await arun(self._ranking.explain(query, id_, examples, self._adapter.stored), self._send)

    async def close(self) -> None:
        """Close the adapter."""
        await self._adapter.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


@contextmanager
def _limited(deadline: float | None) -> Iterator[None]:
    seconds = as_real(deadline)
    if deadline is not None and not (seconds is not None and seconds > 0):
        raise InvalidInput(f"deadline must be a positive number of seconds or None, found {deadline!r:.80}")
    with nullcontext() if seconds is None else within(seconds):
        yield


def _written(
    ranking: Ranking,
    adapter: Any,
    ids: Sequence[Id],
    dense: Any,
    payloads: Sequence[Payload] | None,
    vectors: SparseVectors | None,
    options: dict[str, Any],
) -> IngestReport:
    written, info = ranking.written(dense, vectors), adapter.info()
    width = info.code_bytes if info.exists else ranking.code_bytes
    if info.exists:
        ranking.check_code_bytes(width)
    vectors, codes = written.vectors, None
    if width is not None:
        if info.exists:
            ranking.check_kept(adapter)
        codes = ranking.encoder.residual_codes(dense, adapter.stored(vectors), faults=written.faults)
    if not info.exists:
        try:
            adapter.create(vectors.dimension, fingerprint=vectors.fingerprint, code_bytes=width)
        except CollectionError:
            if adapter.info().exists:  # another has made it meanwhile
                return _written(ranking, adapter, ids, dense, payloads, vectors, options)
            raise
    return ingest(adapter, ids, written, payloads, codes=codes, **options)
