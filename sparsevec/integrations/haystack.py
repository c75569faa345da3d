"""Haystack: a document store over a `Retriever`, and the component that asks it. Extra `haystack`.

    store = SparsevecDocumentStore("elasticsearch://localhost:9200/products?field=sparse", "model/")
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.add_component("retriever", SparsevecRetriever(store, top_k=5))         # query_embedding in, documents out

The text lies in the payload field `text_key`, the metadata beside it, one field each. A document without an embedding
is written, and no query finds it; the dense rows themselves are kept only where `embedding_key` says in which field.
Filters are translated to those of `sparsevec.contract.filters` and mean what is said there: `==` of a list, and an
order of texts that are no dates, are refused. Nothing is dropped: a write that was not whole raises WriteFailed, with
the report of what became of every document, a document that holds more than this store keeps (a blob, a sparse
embedding of others) InvalidInput. Asynchronous calls run in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from sparsevec import Retriever, SparseEncoder, connect, ingest
from sparsevec.contract.filters import Where, instant
from sparsevec.errors import InvalidInput
from sparsevec.integrations.guest import guest
from sparsevec.integrations.store import Store

with guest("haystack-ai", "haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
    from haystack.errors import FilterError
    from haystack.utils import Secret, deserialize_secrets_inplace

__all__ = ["AlreadyThere", "FilterRefused", "SparsevecDocumentStore", "SparsevecRetriever", "where_of"]

_BARE = "_without_embedding"  # marks a document that no query may find
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
        not given. `credentials` are those of `sparsevec.connect`.
        """
        self._named: dict[str, Any] = {"url": url, "model": str(model), "rerank": rerank, "candidates": candidates}
        self._credentials = dict(credentials or {})
        self._text_key, self._embedding_key = text_key, embedding_key
        self._retriever: Retriever | None = None

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
        credentials = data["init_parameters"].get("credentials") or {}
        deserialize_secrets_inplace(credentials, keys=credentials.keys())
        made: Self = default_from_dict(cls, data)
        return made

    @cached_property
    def store(self) -> Store:
        """What it stands on, connected."""
        if self._retriever is None:
            named = self._named
            credentials = {name: secret.resolve_value() for name, secret in self._credentials.items()}
            adapter = connect(named["url"], **credentials)
            encoder = SparseEncoder.load(named["model"])
            said = {} if named["rerank"] == "usual" else {"rerank": named["rerank"]}
            self._retriever = Retriever(encoder, adapter, candidates=named["candidates"], **said)
        return Store(self._retriever, self._text_key)

    # ---- write

    def write_documents(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE, **options: Any
    ) -> int:
        """How many were written; NONE is FAIL. `options` are those of `sparsevec.ingest`.

        Raises AlreadyThere before anything is written, WriteFailed with the report when a document was not written,
        InvalidVectors for an embedding of another width or not finite.
        """
        if not isinstance(documents, list) or not all(isinstance(one, Document) for one in documents):
            raise InvalidInput(f"expected a list of Documents, found {documents!r:.80}")
        if policy != DuplicatePolicy.OVERWRITE:
            documents = self._new(documents, policy)
        if documents:
            payloads = [self._payload(document) for document in documents]
            if not self.store.coded:
                options = {"empty": "write", **options}
            rows = [document.embedding for document in documents]
            looked = policy != DuplicatePolicy.OVERWRITE
            self.store.write([document.id for document in documents], rows, payloads, new=looked, **options)
        return len(documents)

    def _new(self, documents: list[Document], policy: DuplicatePolicy) -> list[Document]:
        """Those that are not there, each once."""
        new = {document.id: document for document in reversed(documents)}  # the first of each id stays
        there = {str(id_) for id_, _ in self.store.fetched(list(new))}
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
        if document.embedding is None:
            payload[_BARE] = True
        elif self._embedding_key is not None:
            payload[self._embedding_key] = list(document.embedding)
        return payload

    def delete_documents(self, document_ids: list[str]) -> None:
        """Take documents away; an id that is not there is no error. Raises WriteFailed with the report."""
        self.store.delete(document_ids)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Take away what a filter leaves; how many that were."""
        return self.store.remove([id_ for id_, _ in self.store.matching(where_of(filters))]).deleted

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """Take all documents away; of documents of others, our vectors. `recreate_index`: by dropping what is ours and
        making it again."""
        if recreate_index:
            self.store.adapter.drop()
            self.store.make()
        else:
            self.store.remove([id_ for id_, _ in self.store.matching(None)])

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set fields of what a filter leaves; how many documents that were. Raises WriteFailed with the report."""
        adapter, ids = self.store.adapter, [id_ for id_, _ in self.store.matching(where_of(filters))]
        for start in range(0, len(ids), _SOME):
            held = adapter.fetch(ids[start : start + _SOME])
            fields = [meta] * len(held.ids)
            ingest(adapter, held.ids, held.vectors, fields, codes=held.codes, empty="write").require_complete()
        return len(ids)

    # ---- read

    def count_documents(self) -> int:
        """Documents with a vector of ours, and those written without an embedding."""
        counted: int = self.store.adapter.count()
        return counted

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many a filter leaves."""
        return sum(1 for _ in self.store.matching(where_of(filters)))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """What a filter leaves, all of it without one. Raises FilterRefused."""
        return [self._document(*found) for found in self.store.matching(where_of(filters))]

    def embedding_retrieval(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int = 10, **options: Any
    ) -> list[Document]:
        """The k best documents of a dense query, with the scores of the final ranking; `options` are those of
        `Retriever.search`. Raises FilterRefused, InvalidVectors, and what `Retriever.search` raises."""
        where = where_of(filters)
        hits = self.store.search(query_embedding, top_k, where, **options)
        if any(_BARE in (hit.payload or {}) for hit in hits):  # few documents are answered from all of them
            found: Where = {"$all": [where or {}, {_BARE: {"exists": False}}]}
            hits = self.store.search(query_embedding, top_k, found, **options)
        return [self._document(hit.id, hit.payload, hit.score) for hit in hits]

    def _document(self, id_: Any, payload: Any, score: float | None = None) -> Document:
        text, meta = self.store.text_and_metadata(payload)
        meta.pop(_BARE, None)
        embedding = None if self._embedding_key is None else meta.pop(self._embedding_key, None)
        return Document(id=str(id_), content=text, meta=meta, embedding=embedding, score=score)

    # ---- asynchronous

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE, **options: Any
    ) -> int:
        return await asyncio.to_thread(self.write_documents, documents, policy, **options)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def delete_all_documents_async(self, recreate_index: bool = False) -> None:
        await asyncio.to_thread(self.delete_all_documents, recreate_index)

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def count_documents_async(self) -> int:
        return await asyncio.to_thread(self.count_documents)

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        return await asyncio.to_thread(self.filter_documents, filters)

    async def embedding_retrieval_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int = 10, **options: Any
    ) -> list[Document]:
        return await asyncio.to_thread(self.embedding_retrieval, query_embedding, filters, top_k, **options)


@component
class SparsevecRetriever:
    """Documents of a SparsevecDocumentStore for a dense query, re-ranked."""

    def __init__(
        self,
        document_store: SparsevecDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        """Raises InvalidInput for a store of another kind."""
        if not isinstance(document_store, SparsevecDocumentStore):
            raise InvalidInput(f"expected a SparsevecDocumentStore, found {type(document_store).__name__}")
        self.document_store, self.filters, self.top_k = document_store, filters, top_k
        self.filter_policy = filter_policy

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
        given = data["init_parameters"]
        given["document_store"] = SparsevecDocumentStore.from_dict(given["document_store"])
        given["filter_policy"] = FilterPolicy.from_str(given["filter_policy"])
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


def where_of(filters: dict[str, Any] | None) -> Where | None:
    """Their filters as ours (C11). Raises FilterRefused, naming what cannot be said."""
    return _condition(filters) if filters else None


_LOGIC = {"AND": "$all", "OR": "$any"}
_BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_NOTHING: Where = {"$any": [{"$not": {}}]}


def _condition(given: dict[str, Any]) -> Where:
    if "field" in given:
        return _of_field(given)
    operator, parts = _part(given, "operator"), _part(given, "conditions")
    if operator not in (*_LOGIC, "NOT") or not isinstance(parts, list) or not parts:
        raise FilterRefused(f"expected AND, OR or NOT and a list of conditions, found {given!r:.80}")
    inner = [_condition(part) for part in parts]
    return {"$not": {"$all": inner}} if operator == "NOT" else {_LOGIC[operator]: inner}


def _part(given: Any, name: str) -> Any:
    if not isinstance(given, Mapping) or name not in given:
        raise FilterRefused(f"{name!r} key missing in {given!r:.80}")
    return given[name]


def _of_field(given: dict[str, Any]) -> Where:
    """Of one field; a list in the metadata holds when one of its elements does."""
    field, operator, value = str(given["field"]).removeprefix("meta."), _part(given, "operator"), _part(given, "value")
    several = isinstance(value, list)
    if operator in ("==", "!=") and value is None:
        return {field: {"exists": operator == "!="}}
    if operator in ("==", "!=") and not several:
        return {field: value if operator == "==" else {"not": value}}
    if operator in _BOUNDS and value is None:
        return _NOTHING  # as Haystack has it: nothing compares to None
    if operator in _BOUNDS and not several and not (isinstance(value, str) and instant(value) is None):
        return {field: {_BOUNDS[operator]: value}}
    if operator in ("in", "not in") and several:
        return _among(field, value) if operator == "in" else {"$not": _among(field, value)}
    raise FilterRefused(
        f"the filter {field} {operator} {value!r:.80} cannot be answered exactly here; there are == and != of one "
        "value, > >= < <= of a number or an ISO date, in and not in of a list"
    )


def _among(field: str, values: list[Any]) -> Where:
    """One of some values, None among them, perhaps of none."""
    some = [value for value in values if value is not None]
    parts: list[Where] = [{field: some}] if some else []
    return {"$any": [*parts, {field: {"exists": False}}]} if None in values else parts[0] if parts else _NOTHING
