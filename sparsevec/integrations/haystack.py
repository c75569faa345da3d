"""Haystack: a document store over a `Retriever`, and the component that asks it. Extra `haystack`.

    store = SparsevecDocumentStore("elasticsearch://localhost:9200/products?field=sparse", "model/")
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.add_component("retriever", SparsevecRetriever(store, top_k=5))         # query_embedding in, documents out

The text lies in the payload field `text_key`, the metadata beside it, one field each. A document without an embedding
is written, and no query finds it; the dense rows themselves are kept only where `embedding_key` says in which field.
Filters are translated to those of `sparsevec.contract.filters` and mean what is said there: `==` of a list, and an
order of texts that are no dates, are refused. Nothing is dropped: a write that was not whole raises WriteFailed, with
the report of what became of every document, a document that holds more than this store keeps (a blob, a sparse
embedding of others) InvalidInput. Asynchronous calls ask a server through `aconnect`, one connection for each event
loop, and what lies on this machine in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from enum import Enum
from functools import cached_property
from typing import Any, Literal, Self, TypeVar
from weakref import WeakKeyDictionary

from sparsevec import AsyncRetriever, RemovalReport, Retriever, SparseEncoder, aconnect, connect, ingest
from sparsevec.contract.filters import Where, conditions
from sparsevec.contract.operations import Operation, SyncAdapter
from sparsevec.errors import InvalidInput
from sparsevec.integrations.guest import guest
from sparsevec.integrations.haystack_filters import condition_of
from sparsevec.integrations.store import Store, Work

with guest("haystack-ai", "haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
    from haystack.errors import FilterError
    from haystack.utils import Secret, deserialize_secrets_inplace

__all__ = ["AlreadyThere", "FilterRefused", "SparsevecDocumentStore", "SparsevecRetriever", "where_of"]

Result = TypeVar("Result")
Policy = TypeVar("Policy", bound=Enum)

_SOME = 500  # documents whose fields are changed in one request


class AlreadyThere(InvalidInput, DuplicateDocumentError):  # type: ignore[misc]
    """A document that is there, under DuplicatePolicy.FAIL; nothing was written."""


class FilterRefused(InvalidInput, FilterError):  # type: ignore[misc]
    """A filter that is not whole, or that cannot be answered exactly."""


class SparsevecDocumentStore:
    """Documents of one collection, encoded and re-ranked by the encoder in the folder `model`."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        text_key: str = "content",
        embedding_key: str | None = None,
        rerank: Literal["usual", "second look", "residual"] | None = "usual",
        candidates: int | None = None,
        credentials: Mapping[str, Secret] | None = None,
    ) -> None:
        """Connects when it is first used, and makes the collection when it is not there.

        `rerank` and `candidates` are those of `sparsevec.Retriever`; "usual" and None are what it does when they are
        not given. `credentials` are those of `sparsevec.connect`. Raises InvalidInput for those that are no Secrets.
        """
        self._named: dict[str, Any] = {"url": url, "model": str(model), "rerank": rerank, "candidates": candidates}
        if not isinstance(credentials, Mapping | None) or not all(
            isinstance(secret, Secret) for secret in (credentials or {}).values()
        ):
            raise InvalidInput("credentials must be a mapping of names to Secrets, as haystack.utils has them")
        self._credentials = dict(credentials or {})
        self._text_key, self._embedding_key = text_key, embedding_key
        self._retriever: Retriever | None = None
        self._twins: WeakKeyDictionary[Any, AsyncRetriever] = WeakKeyDictionary()  # by event loop

    @classmethod
    def of(cls, retriever: Retriever, *, text_key: str = "content", embedding_key: str | None = None) -> Self:
        """Over a retriever of yours; such a store cannot be written to a file."""
        made = cls("", "", text_key=text_key, embedding_key=embedding_key)
        made._retriever = retriever
        return made

    def to_dict(self) -> dict[str, Any]:
        """For a pipeline's file. Raises InvalidInput for a store over a retriever of yours."""
        if not self._named["url"]:
            raise InvalidInput("a store over a retriever cannot be written to a file; make it from a url and a model")
        credentials = {name: secret.to_dict() for name, secret in self._credentials.items()}
        keys = {"text_key": self._text_key, "embedding_key": self._embedding_key}
        made: dict[str, Any] = default_to_dict(self, **self._named, **keys, credentials=credentials)
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The store that `to_dict` wrote."""
        data = deepcopy(data)
        credentials = data["init_parameters"].get("credentials") or {}
        deserialize_secrets_inplace(credentials, keys=credentials.keys())
        made: Self = default_from_dict(cls, data)
        return made

    @cached_property
    def store(self) -> Store:
        """What it stands on, connected."""
        if self._retriever is None:
            adapter = connect(self._named["url"], **self._resolved())
            encoder = SparseEncoder.load(self._named["model"])
            self._retriever = Retriever(encoder, adapter, **self._reranking())
        return Store(self._retriever, self._text_key)

    def _where(self, filters: dict[str, Any] | None) -> Where | None:
        return where_of(filters, text_key=self._text_key)

    def _run(self, operation: Operation[Result]) -> Result:
        return self.store.run(operation)

    async def _arun(self, operation: Operation[Result]) -> Result:
        if "store" not in vars(self):
            await asyncio.to_thread(lambda: self.store)  # connects
        return await self.store.arun(operation, await self._twin())

    async def _twin(self) -> AsyncRetriever | None:
        """For this event loop, where `url` is that of a server."""
        if not self._named["url"] or not isinstance(self.store.adapter, SyncAdapter):
            return None
        loop = asyncio.get_running_loop()
        if loop not in self._twins:
            adapter = await aconnect(self._named["url"], **self._resolved())
            if loop in self._twins:  # made by another call while this one waited
                await adapter.close()
            else:
                self._twins[loop] = AsyncRetriever(self.store.retriever.encoder, adapter, **self._reranking())
        return self._twins[loop]

    def _resolved(self) -> dict[str, Any]:
        return {name: secret.resolve_value() for name, secret in self._credentials.items()}

    def _reranking(self) -> dict[str, Any]:
        said = {} if self._named["rerank"] == "usual" else {"rerank": self._named["rerank"]}
        return {"candidates": self._named["candidates"], **said}

    def close(self) -> None:
        """Let go of the connection."""
        if "store" in vars(self):
            self.store.adapter.close()

    async def close_async(self) -> None:
        """Let go of the connection of this event loop."""
        if made := self._twins.pop(asyncio.get_running_loop(), None):
            await made.close()

    # ---- write

    def write_documents(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE, **options: Any
    ) -> int:
        """How many were written; NONE is FAIL. `options` are those of `sparsevec.ingest`.

        Raises AlreadyThere before anything is written, InvalidInput for what this store does not keep, WriteFailed with
        the report when a document was not written, InvalidVectors for an embedding of another width or not finite.
        """
        return self._run(self._written(documents, policy, options))

    def _written(self, documents: list[Document], policy: DuplicatePolicy, options: dict[str, Any]) -> Operation[int]:
        if not isinstance(documents, list) or not all(isinstance(one, Document) for one in documents):
            raise InvalidInput(f"expected a list of Documents, found {documents!r:.80}")
        policy = _one_of(DuplicatePolicy, policy, "policy")
        looked = policy != DuplicatePolicy.OVERWRITE
        if looked:
            documents = yield from self._new(documents, policy)
        if documents:
            payloads = [self._payload(document) for document in documents]
            if not self.store.coded:
                options = {"empty": "write", **options}
            rows = [document.embedding for document in documents]
            yield from self.store.write([one.id for one in documents], rows, payloads, new=looked, **options)
        return len(documents)

    def _new(self, documents: list[Document], policy: DuplicatePolicy) -> Operation[list[Document]]:
        """Those that are not there, each once."""
        found = yield from self.store.fetched([document.id for document in documents])
        new = {document.id: document for document in reversed(documents)}  # the first of each id stays
        there = {str(id_) for id_, _ in found}
        if policy != DuplicatePolicy.SKIP and (there or len(new) < len(documents)):
            ids = [document.id for document in documents]
            known = next(id_ for at, id_ in enumerate(ids) if id_ in there or id_ in ids[:at])
            raise AlreadyThere(f"document {known!r:.80} is there already; choose OVERWRITE or SKIP, or another id")
        return [document for id_, document in reversed(new.items()) if id_ not in there]

    def _payload(self, document: Document) -> dict[str, Any]:
        unkept = [name for name in ("blob", "sparse_embedding") if getattr(document, name) is not None]
        if unkept:
            raise InvalidInput(f"document {document.id!r:.80} has a {unkept[0]}, which this store does not keep")
        payload = dict(self.store.payload(document.content, document.meta))
        if self._embedding_key in payload:
            raise InvalidInput(
                f"document {document.id!r:.80} has a field {self._embedding_key!r}, where its embedding goes: choose "
                "another embedding_key"
            )
        if document.embedding is not None and self._embedding_key is not None:
            payload[self._embedding_key] = list(document.embedding)
        return payload

    def delete_documents(self, document_ids: list[str]) -> None:
        """Take documents away; an id that is not there is no error. Raises WriteFailed with the report."""
        self._run(self._deleted(document_ids))

    def _deleted(self, document_ids: list[str]) -> Operation[RemovalReport]:
        return (yield from self.store.delete(document_ids))

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Take away what a filter leaves; how many that were."""
        return self._run(self._removed(filters)).deleted

    def _removed(self, filters: dict[str, Any] | None) -> Operation[RemovalReport]:
        return (yield from self.store.remove(where=self._where(filters) or {}))

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """Take all documents away; of documents of others, our vectors. `recreate_index`: by dropping what is ours and
        making it again."""
        if recreate_index:
            self.store.adapter.drop()
            self.store.make()
        else:
            self._run(self._removed(None))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set fields of what a filter leaves; how many documents that were. Raises InvalidInput for a field where the
        text goes, WriteFailed with the report."""
        return self._run(self._updated(filters, meta))

    def _updated(self, filters: dict[str, Any], meta: dict[str, Any]) -> Operation[int]:
        fields = self.store.payload(None, meta)
        found = yield from self.store.matching(self._where(filters))
        ids = [id_ for id_, _ in found]

        def write(adapter: Any) -> None:
            for start in range(0, len(ids), _SOME):
                held = adapter.fetch(ids[start : start + _SOME])
                given = [fields] * len(held.ids)
                ingest(adapter, held.ids, held.vectors, given, codes=held.codes, empty="write").require_complete()

        yield Work(write)
        return len(ids)

    # ---- read

    def count_documents(self) -> int:
        """Documents with a vector of ours, and those written without an embedding."""
        return self._run(self._counted(None))

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many a filter leaves."""
        return self._run(self._counted(filters))

    def _counted(self, filters: dict[str, Any] | None) -> Operation[int]:
        return (yield from self.store.count(self._where(filters)))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """What a filter leaves, all of it without one. Raises FilterRefused."""
        return self._run(self._filtered(filters))

    def _filtered(self, filters: dict[str, Any] | None) -> Operation[list[Document]]:
        found = yield from self.store.matching(self._where(filters))
        return [self._document(*one) for one in found]

    def embedding_retrieval(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int = 10, **options: Any
    ) -> list[Document]:
        """The k best documents of a dense query, with the scores of the final ranking; `options` are those of
        `Retriever.search`. Raises FilterRefused, InvalidVectors, and what `Retriever.search` raises."""
        return self._run(self._retrieved(query_embedding, filters, top_k, options))

    def _retrieved(
        self, query_embedding: list[float], filters: dict[str, Any] | None, top_k: int, options: dict[str, Any]
    ) -> Operation[list[Document]]:
        hits = yield from self.store.search(query_embedding, top_k, self._where(filters), **options)
        return [self._document(hit.id, hit.payload, hit.score) for hit in hits]

    def _document(self, id_: Any, payload: Any, score: float | None = None) -> Document:
        text, meta = self.store.text_and_metadata(payload)
        embedding = None if self._embedding_key is None else meta.pop(self._embedding_key, None)
        return Document(id=str(id_), content=text, meta=meta, embedding=embedding, score=score)

    # ---- asynchronous

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE, **options: Any
    ) -> int:
        return await self._arun(self._written(documents, policy, options))

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        await self._arun(self._deleted(document_ids))

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        return (await self._arun(self._removed(filters))).deleted

    async def delete_all_documents_async(self, recreate_index: bool = False) -> None:
        if recreate_index:
            await asyncio.to_thread(self.delete_all_documents, recreate_index)
        else:
            await self._arun(self._removed(None))

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        return await self._arun(self._updated(filters, meta))

    async def count_documents_async(self) -> int:
        return await self._arun(self._counted(None))

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        return await self._arun(self._counted(filters))

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        return await self._arun(self._filtered(filters))

    async def embedding_retrieval_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int = 10, **options: Any
    ) -> list[Document]:
        return await self._arun(self._retrieved(query_embedding, filters, top_k, options))


@component
class SparsevecRetriever:
    """Documents of a SparsevecDocumentStore for a dense query, re-ranked."""

    def __init__(
        self,
        document_store: SparsevecDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy | Literal["replace", "merge"] = FilterPolicy.REPLACE,
    ) -> None:
        """Raises InvalidInput for a store of another kind, or a policy that is none."""
        if not isinstance(document_store, SparsevecDocumentStore):
            raise InvalidInput(f"expected a SparsevecDocumentStore, found {type(document_store).__name__}")
        self.document_store, self.filters, self.top_k = document_store, filters, top_k
        self.filter_policy = _one_of(FilterPolicy, filter_policy, "filter_policy")

    def to_dict(self) -> dict[str, Any]:
        """For a pipeline's file."""
        made: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
        )
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` wrote."""
        data = deepcopy(data)
        given = data["init_parameters"]
        given["document_store"] = SparsevecDocumentStore.from_dict(given["document_store"])
        made: Self = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The best documents, best first."""
        return {"documents": self.document_store.embedding_retrieval(query_embedding, *self._asked(filters, top_k))}

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The same for asyncio."""
        asked = self._asked(filters, top_k)
        return {"documents": await self.document_store.embedding_retrieval_async(query_embedding, *asked)}

    def _asked(self, filters: dict[str, Any] | None, top_k: int | None) -> tuple[dict[str, Any] | None, int]:
        merged = apply_filter_policy(self.filter_policy, self.filters, filters)
        return merged, self.top_k if top_k is None else top_k


def _one_of(kind: type[Policy], given: Any, what: str) -> Policy:
    """A policy of theirs, also by its name."""
    try:
        return kind(given)
    except ValueError:
        raise InvalidInput(f"{what} must be one of {[one.value for one in kind]}, found {given!r:.80}") from None


def where_of(filters: dict[str, Any] | None, *, text_key: str = "content") -> Where | None:
    """Their filters as ours (C11), the text in `text_key`. Raises FilterRefused, naming what cannot be said."""
    try:
        where = condition_of(filters, text_key) if filters else None
        conditions(where)  # looks at fields and values
    except InvalidInput as error:
        raise FilterRefused(str(error)) from None
    return where
