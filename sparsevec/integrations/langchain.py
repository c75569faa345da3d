"""LangChain: a vector store over a `Retriever`, so that its answers are re-ranked. Extra `langchain`.

    store = SparsevecVectorStore(embeddings, retriever)           # makes the collection, or opens one that is there
    store.add_documents(documents)
    store.as_retriever(search_kwargs={"k": 5, "filter": {"section": "mail"}})

A document's text lies in the payload field `text_key`, its metadata beside it, one field each, so that filters reach
them; filters are those of `sparsevec.contract.filters`. A write that was not whole raises WriteFailed, with the report
of what became of every document; where an embedder fails in the middle, changes its width or returns NaN, what it gave
before is written, and the report of the error says how many were not reached. Scores are those of the final ranking;
asynchronous calls run in threads.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sparsevec import Retriever
from sparsevec.contract.filters import Where
from sparsevec.errors import InvalidInput
from sparsevec.integrations.embedders import embed
from sparsevec.integrations.guest import guest
from sparsevec.integrations.store import Store

with guest("langchain-core", "langchain"):
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance

__all__ = ["SparsevecVectorStore"]


class SparsevecVectorStore(VectorStore):  # type: ignore[misc]
    """Documents of one collection, embedded by `embedding`, encoded and re-ranked by `retriever`."""

    def __init__(self, embedding: Embeddings, retriever: Retriever, *, text_key: str = "text") -> None:
        """Makes the collection when it is not there. Raises what `Adapter.create` raises."""
        self._embedding, self._store = embedding, Store(retriever, text_key)

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
        given = list(texts)
        named = [id_ or str(uuid.uuid4()) for id_ in (ids if ids is not None else [None] * len(given))]
        beside = metadatas if metadatas is not None else [{} for _ in given]
        if not len(given) == len(named) == len(beside):
            raise InvalidInput(
                f"found {len(given)} texts, {len(named)} ids and {len(beside)} metadatas: expected as many"
            )
        if not given:
            return []
        payloads = [self._store.payload(text, metadata) for text, metadata in zip(given, beside, strict=True)]
        made = ids is None or not any(ids)  # here, so nobody has them
        self._store.write_texts(named, given, self._embedding.embed_documents, payloads, new=made, **options)
        return named

    def delete(self, ids: list[str] | None = None, **options: Any) -> bool:
        """Take documents away; an id that is not there is no error. Raises InvalidInput without ids, or for options,
        and WriteFailed with the report."""
        if ids is None or options:
            raise InvalidInput("expected ids to delete; to forget the whole collection: retriever.adapter.drop()")
        self._store.delete(ids)
        return True

    # ---- read

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Those that are there, in the order asked for."""
        return [self._document(*pair) for pair in self._store.fetched(ids)]

    def similarity_search(self, query: str, k: int = 4, filter: Where | None = None, **options: Any) -> list[Document]:  # noqa: A002
        """The k best documents; `options` are those of `Retriever.search`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **options)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[tuple[Document, float]]:
        """The k best documents with their scores, higher is nearer."""
        return self._found(self._asked(query), k, filter, options)

    def _asked(self, query: str) -> npt.NDArray[np.float32]:
        (row,) = embed([query], lambda _: [self._embedding.embed_query(query)])
        return np.asarray(row, np.float32)

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """The k best documents of a dense query."""
        return [document for document, _ in self._found(embedding, k, filter, options)]

    def _found(self, dense: Any, k: int, where: Where | None, options: dict[str, Any]) -> list[tuple[Document, float]]:
        hits = self._store.search(dense, k, where, **options)
        return [(self._document(hit.id, hit.payload), hit.score) for hit in hits]

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
        dense = self._asked(query).tolist()
        return self.max_marginal_relevance_search_by_vector(dense, k, fetch_k, lambda_mult, filter, **options)

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
        hits = self._store.search(embedding, fetch_k, filter, **options)
        if not len(hits):
            return []
        query, rows, held = self._store.near(embedding, hits)
        picked = maximal_marginal_relevance(query, list(rows), lambda_mult=lambda_mult, k=k)
        return [self._document(held.ids[row], held.payloads[row]) for row in picked]

    def _document(self, id_: Any, payload: Any) -> Document:
        text, metadata = self._store.text_and_metadata(payload)
        return Document(id=str(id_), page_content=text or "", metadata=metadata)
