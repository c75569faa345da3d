"""LangChain: a vector store over a `Retriever`, so that its answers are re-ranked. Extra `langchain`.

    store = SparsevecVectorStore(embeddings, retriever)           # makes the collection, or opens one that is there
    store.add_documents(documents)
    store.as_retriever(search_kwargs={"k": 5, "filter": {"section": "mail"}})

A document's text lies in the payload field `text_key`, its metadata beside it, one field each, so that filters reach
them; filters are those of `sparsevec.contract.filters`. A write that was not whole raises WriteFailed, with the report
of what became of every document. Scores are those of the final ranking; asynchronous calls run in threads.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from sparsevec.answers.retriever import Retriever
from sparsevec.contract.adapter import Documents
from sparsevec.contract.filters import Where
from sparsevec.errors import ClientMissing, InvalidInput, WriteFailed
from sparsevec.integrations.embedders import embed

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as error:
    raise ClientMissing.extra("langchain-core", "langchain") from error

__all__ = ["SparsevecVectorStore"]


class SparsevecVectorStore(VectorStore):  # type: ignore[misc]
    """Documents of one collection, embedded by `embedding`, encoded and re-ranked by `retriever`."""

    def __init__(self, embedding: Embeddings, retriever: Retriever, *, text_key: str = "text") -> None:
        """Makes the collection when it is not there. Raises what `Adapter.create` raises."""
        self._embedding, self._retriever, self._text_key = embedding, retriever, text_key
        adapter, encoder = retriever.adapter, retriever.encoder
        if not adapter.info().exists:
            adapter.create(encoder.output_dim, fingerprint=encoder.fingerprint)

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
        payloads = [self._payload(text, metadata) for text, metadata in zip(given, beside, strict=True)]
        report = self._retriever.add(named, embed(given, self._embedding.embed_documents), payloads, **options)
        if report.failed:
            raise WriteFailed(f"{report.failed} of {len(given)} documents were not written: {report}", report)
        return named

    def _payload(self, text: str, metadata: dict[str, Any]) -> dict[str, Any]:
        if self._text_key in metadata:
            raise InvalidInput(f"metadata has a field {self._text_key!r}, where the text goes: choose another text_key")
        return {**metadata, self._text_key: text}

    def delete(self, ids: list[str] | None = None, **options: Any) -> bool:
        """Take documents away; an id that is not there is no error. Raises InvalidInput without ids, or for options."""
        if ids is None or options:
            raise InvalidInput("expected ids to delete; to forget the whole collection: retriever.adapter.drop()")
        self._retriever.delete(ids)
        return True

    # ---- read

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Those that are there, in the order asked for."""
        found = self._retriever.adapter.fetch(list(dict.fromkeys(ids))) if ids else None
        return [] if found is None else [self._document(*pair) for pair in zip(found.ids, found.payloads, strict=True)]

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
        return self._found(self._embedding.embed_query(query), k, filter, options)

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """The k best documents of a dense query."""
        return [document for document, _ in self._found(embedding, k, filter, options)]

    def _found(
        self, dense: Sequence[float], k: int, where: Where | None, options: dict[str, Any]
    ) -> list[tuple[Document, float]]:
        query = np.asarray(dense, np.float32)
        (hits,) = self._retriever.search(query, k, where=where, with_payloads=True, **options)
        if len(hits) < k and where is None:  # few documents: all of them, also those that share nothing with the query
            everyone: Where = {self._text_key: {"exists": True}}
            (hits,) = self._retriever.search(query, k, where=everyone, with_payloads=True, **options)
        return [(self._document(hit.id, hit.payload or {}), hit.score) for hit in hits]

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
        dense = self._embedding.embed_query(query)
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
        dense = np.asarray(embedding, np.float32)
        (hits,) = self._retriever.search(dense, fetch_k, where=filter, **options)
        if not len(hits):
            return []
        held: Documents = self._retriever.adapter.fetch(hits.ids)
        query = self._retriever.encoder.encode_query(dense).to_dense()[0]
        rows = list(held.vectors.to_dense())
        picked = maximal_marginal_relevance(query, rows, lambda_mult=lambda_mult, k=k)
        return [self._document(held.ids[row], held.payloads[row]) for row in picked]

    def _document(self, id_: Any, payload: Any) -> Document:
        metadata = {name: value for name, value in payload.items() if name != self._text_key}
        return Document(id=str(id_), page_content=str(payload.get(self._text_key, "")), metadata=metadata)
