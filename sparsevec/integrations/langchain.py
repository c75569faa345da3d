"""LangChain: a vector store over a `Retriever`, so that its answers are re-ranked. Extra `langchain`.

    store = SparsevecVectorStore(embeddings, retriever)           # makes the collection, or opens one that is there
    store.add_documents(documents)
    store.as_retriever(search_kwargs={"k": 5, "filter": {"section": "mail"}})

A document's text lies in the payload field `text_key`, its metadata beside it, one field each, so that filters reach
them; filters are those of `sparsevec.contract.filters`. A write that was not whole raises WriteFailed, with the report
of what became of every document; where an embedder fails in the middle, changes its width or returns NaN, what it gave
before is written, and the report of the error says how many were not reached. Scores are those of the final ranking.
Asynchronous calls go through an AsyncRetriever, where one is given, else they run in threads.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Self

from sparsevec import AsyncRetriever, RemovalReport, Retriever
from sparsevec.contract.checks import Payload, check_k, check_several
from sparsevec.contract.filters import Where
from sparsevec.contract.operations import Operation
from sparsevec.errors import InvalidInput
from sparsevec.integrations.embedders import as_far_as_it_comes, as_far_as_it_comes_async
from sparsevec.integrations.guest import guest
from sparsevec.integrations.store import Store, check_share

with guest("langchain-core", "langchain"):
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance

__all__ = ["SparsevecVectorStore"]


class SparsevecVectorStore(VectorStore):  # type: ignore[misc]
    """Documents of one collection, embedded by `embedding`, encoded and re-ranked by `retriever`."""

    def __init__(
        self,
        embedding: Embeddings,
        retriever: Retriever,
        *,
        text_key: str = "text",
        asynchronous: AsyncRetriever | None = None,
    ) -> None:
        """Makes the collection when it is not there. `asynchronous`, over `aconnect` of the same collection, is what
        asynchronous calls use. Raises InvalidInput, and what `Adapter.create` raises."""
        if not callable(getattr(embedding, "embed_documents", None)):
            raise InvalidInput(f"expected an Embeddings of LangChain, found {type(embedding).__name__}")
        self._embedding, self._store = embedding, Store(retriever, text_key, asynchronous)

    @property
    def embeddings(self) -> Embeddings:
        """What embeds texts and queries."""
        return self._embedding

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        retriever: Retriever | None = None,
        **options: Any,
    ) -> Self:
        """A store with these texts in it; `retriever` says where. Raises InvalidInput without one."""
        if retriever is None:
            raise InvalidInput("expected retriever=sparsevec.Retriever(encoder, adapter), which says where texts go")
        store = cls(embedding, retriever, **options)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    # ---- write

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **options: Any,
    ) -> list[str]:
        """Embed, encode and write; the ids, made where there are none. An id that is there is replaced.

        `options` are those of `sparsevec.ingest`. Raises WriteFailed when a document was not written, InvalidInput for
        metadata that a payload cannot hold.
        """
        named, given, payloads, new = self._given(texts, metadatas, ids)
        if given:
            embedded = as_far_as_it_comes(given, self._embedding.embed_documents)
            self._store.run(self._store.write_embedded(named, embedded, payloads, new=new, **options))
        return named

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **options: Any,
    ) -> list[str]:
        """The same for asyncio, embedded by `aembed_documents`."""
        named, given, payloads, new = self._given(texts, metadatas, ids)
        if given:
            embedded = await as_far_as_it_comes_async(given, self._embedding.aembed_documents)
            await self._store.arun(self._store.write_embedded(named, embedded, payloads, new=new, **options))
        return named

    def _given(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None,
        ids: Sequence[str | None] | None,
    ) -> tuple[list[str], list[str], list[Payload], bool]:
        """Ids, texts, payloads, and whether the ids were made here, so that nobody has them."""
        given = list(check_several("texts", texts))
        asked = [None] * len(given) if ids is None else list(check_several("ids", ids))
        named = [str(uuid.uuid4()) if id_ is None or id_ == "" else id_ for id_ in asked]
        beside = [{} for _ in given] if metadatas is None else list(check_several("metadatas", metadatas))
        if not len(given) == len(named) == len(beside):
            raise InvalidInput(
                f"found {len(given)} texts, {len(named)} ids and {len(beside)} metadatas: expected as many"
            )
        payloads = [self._store.payload(text, metadata) for text, metadata in zip(given, beside, strict=True)]
        return named, given, payloads, not any(asked)

    def delete(self, ids: list[str] | None = None, *, where: Where | None = None, **options: Any) -> bool:
        """Take documents away, these or what a filter leaves; an id that is not there is no error. Raises InvalidInput
        unless one of the two is given, or for options, and WriteFailed with the report."""
        self._store.run(self._removed(ids, where, options))
        return True

    async def adelete(self, ids: list[str] | None = None, *, where: Where | None = None, **options: Any) -> bool:
        """The same for asyncio."""
        await self._store.arun(self._removed(ids, where, options))
        return True

    def _removed(self, ids: list[str] | None, where: Where | None, options: dict[str, Any]) -> Operation[RemovalReport]:
        if (ids is None) == (where is None) or options:
            raise InvalidInput(
                "expected ids or a filter as where=, one of the two; to forget the collection: retriever.adapter.drop()"
            )
        return self._store.remove(where=where) if ids is None else self._store.delete(ids)

    # ---- read

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Those that are there, in the order asked for."""
        return [self._document(*pair) for pair in self._store.run(self._store.fetched(ids))]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The same for asyncio."""
        return [self._document(*pair) for pair in await self._store.arun(self._store.fetched(ids))]

    def similarity_search(self, query: str, k: int = 4, filter: Where | None = None, **options: Any) -> list[Document]:  # noqa: A002
        """The k best documents; `options` are those of `Retriever.search`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **options)]

    async def asimilarity_search(
        self,
        query: str,
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """The same for asyncio."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, filter, **options)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[tuple[Document, float]]:
        """The k best documents with their scores, higher is nearer."""
        return self._store.run(self._found(self._asked(query), k, filter, options))

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[tuple[Document, float]]:
        """The same for asyncio."""
        return await self._store.arun(self._found(await self._aasked(query), k, filter, options))

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """The k best documents of a dense query."""
        return [document for document, _ in self._store.run(self._found(embedding, k, filter, options))]

    async def asimilarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """The same for asyncio."""
        return [document for document, _ in await self._store.arun(self._found(embedding, k, filter, options))]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """k of the `fetch_k` best that differ from one another."""
        return self._store.run(self._apart(self._asked(query), k, fetch_k, lambda_mult, filter, options))

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """The same for asyncio."""
        return await self._store.arun(self._apart(await self._aasked(query), k, fetch_k, lambda_mult, filter, options))

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """The same of a dense query; how near two documents are is the cosine of their sparse vectors."""
        return self._store.run(self._apart(embedding, k, fetch_k, lambda_mult, filter, options))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """The same for asyncio."""
        return await self._store.arun(self._apart(embedding, k, fetch_k, lambda_mult, filter, options))

    def _select_relevance_score_fn(self) -> Any:
        raise InvalidInput(
            "scores here are those of the final ranking, which no rule brings to [0, 1]: expected "
            "similarity_search_with_score and a threshold of its scores, in place of relevance scores"
        )

    # ---- conversations

    def _asked(self, query: str) -> Any:
        return as_far_as_it_comes([query], lambda _: [self._embedding.embed_query(query)]).whole()[0]

    async def _aasked(self, query: str) -> Any:
        async def embedder(_: list[str]) -> list[list[float]]:
            return [await self._embedding.aembed_query(query)]

        return (await as_far_as_it_comes_async([query], embedder)).whole()[0]

    def _found(
        self, dense: Any, k: int, where: Where | None, options: dict[str, Any]
    ) -> Operation[list[tuple[Document, float]]]:
        hits = yield from self._store.search(dense, k, where, **options)
        return [(self._document(hit.id, hit.payload), hit.score) for hit in hits]

    def _apart(
        self, dense: Any, k: int, fetch_k: int, lambda_mult: float, where: Where | None, options: dict[str, Any]
    ) -> Operation[list[Document]]:
        check_k(k)
        check_share(lambda_mult, "lambda_mult")
        hits = yield from self._store.search(dense, check_k(fetch_k, "fetch_k"), where, **options)
        if not len(hits):
            return []
        query, rows, held = yield from self._store.near(dense, hits)
        picked = maximal_marginal_relevance(query, list(rows), lambda_mult=lambda_mult, k=k)
        return [self._document(held.ids[row], held.payloads[row]) for row in picked]

    def _document(self, id_: Any, payload: Any) -> Document:
        text, metadata = self._store.text_and_metadata(payload)
        return Document(id=str(id_), page_content=text or "", metadata=metadata)
