"""LlamaIndex: a vector store over a `Retriever`, so that its answers are re-ranked. Extra `llama-index`.

    store = SparsevecVectorStore(retriever)                       # makes the collection, or opens one that is there
    index = VectorStoreIndex.from_vector_store(store, embed_model=model)
    index.as_retriever(similarity_top_k=5, filters=MetadataFilters.from_dicts([...])).retrieve("...")

A node's text lies in the payload field `text_key`, its metadata beside it, what else it is in `_node_content`; a
document of others, which has none, becomes a TextNode. Filters are translated to those of `sparsevec.contract.filters`
and mean what is said there (a field that is missing is "not equal"; a number and its text differ); `text_match` is
refused. Modes: default, sparse (the same), mmr, and hybrid, which fuses with the engine's own ranking of the text by
ranks, `alpha` to one minus `alpha`. What a query asks beyond that is refused by name.

A node without an embedding is failed, and a write that was not whole raises WriteFailed, with the report of what became
of every node. Asynchronous calls go through an AsyncRetriever, where one is given, else they run in threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sparsevec import AsyncRetriever, Hits, Retriever
from sparsevec.contract.checks import check_k, check_several
from sparsevec.contract.filters import Where
from sparsevec.contract.operations import Operation
from sparsevec.errors import InvalidInput
from sparsevec.integrations.guest import guest
from sparsevec.integrations.store import Asked, Store, check_share, strings

with guest("llama-index-core", "llama-index"):
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
    from llama_index.core.schema import BaseNode, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

__all__ = ["SparsevecVectorStore", "where_of"]

_PARENT = "ref_doc_id"  # the field that `node_to_metadata_dict` keeps a node's document in
_PREFETCH = 4  # times as many are asked for as an mmr query wants, as LlamaIndex's own store does
_CANDIDATES = 100  # that a Retriever has at least, where nobody says how many: more could not be answered


class SparsevecVectorStore(BasePydanticVectorStore):  # type: ignore[misc]
    """Nodes of one collection, encoded and re-ranked by `retriever`."""

    stores_text: bool = True
    flat_metadata: bool = False
    _store: Store = PrivateAttr()

    def __init__(
        self, retriever: Retriever, *, text_key: str = "text", asynchronous: AsyncRetriever | None = None
    ) -> None:
        """Makes the collection when it is not there. `asynchronous`, over `aconnect` of the same collection, is what
        asynchronous calls use. Raises what `Adapter.create` raises."""
        super().__init__(stores_text=True)
        self._store = Store(retriever, text_key, asynchronous)

    @classmethod
    def class_name(cls) -> str:
        return "SparsevecVectorStore"

    @property
    def client(self) -> Any:
        """The adapter."""
        return self._store.adapter

    # ---- write

    def add(self, nodes: Sequence[BaseNode], **options: Any) -> list[str]:
        """Encode and write nodes with their embeddings; the ids. A node that is there is replaced.

        `options` are those of `sparsevec.ingest`; `empty="write"` takes nodes without an embedding, which no query
        finds. Raises WriteFailed when a node was not written, InvalidVectors for an embedding of another width or not
        finite, InvalidInput for metadata with a field where the text goes.
        """
        return self._store.run(self._added(nodes, options))

    async def async_add(self, nodes: Sequence[BaseNode], **options: Any) -> list[str]:
        return await self._store.arun(self._added(nodes, options))

    def _added(self, nodes: Sequence[BaseNode], options: dict[str, Any]) -> Operation[list[str]]:
        nodes = list(check_several("nodes", nodes))
        if odd := [node for node in nodes if not isinstance(node, BaseNode)]:
            raise InvalidInput(f"expected nodes of LlamaIndex, found {odd[0]!r:.80}")
        ids = [node.node_id for node in nodes]
        if nodes:
            payloads = [self._payload(node) for node in nodes]
            yield from self._store.write(ids, [node.embedding for node in nodes], payloads, **options)
        return ids

    def _payload(self, node: BaseNode) -> Any:
        try:
            fields = node_to_metadata_dict(node, remove_text=True)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"node {node.node_id!r:.80} holds what JSON has no word for: {error}") from error
        lost = {name: value for name, value in node.metadata.items() if _holds_nan(value)}  # None, by way of JSON
        return self._store.payload(node.get_content(), fields | lost)

    def delete(self, ref_doc_id: str, **options: Any) -> None:
        """Take the nodes of one document away. Raises InvalidInput for options, WriteFailed with the report."""
        self._check_none(options)
        self._store.run(self._store.remove(where=_of_documents(None, [ref_doc_id])))

    async def adelete(self, ref_doc_id: str, **options: Any) -> None:
        self._check_none(options)
        await self._store.arun(self._store.remove(where=_of_documents(None, [ref_doc_id])))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **options: Any
    ) -> None:
        """Take nodes away: those of `node_ids` that `filters` leave. Raises InvalidInput when neither is given."""
        self._check_none(options)
        self._store.run(self._deleted(node_ids, filters))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **options: Any
    ) -> None:
        self._check_none(options)
        await self._store.arun(self._deleted(node_ids, filters))

    def _deleted(self, node_ids: list[str] | None, filters: MetadataFilters | None) -> Operation[None]:
        where = where_of(filters)
        if node_ids is None and where is None:
            raise InvalidInput("expected node_ids or filters; clear() takes all nodes away")
        if node_ids is None:
            yield from self._store.remove(where=where)
        elif where is None:
            yield from self._store.delete(node_ids)
        else:
            found = yield from self._matching(node_ids, where)
            yield from self._store.remove([id_ for id_, _ in found])

    def clear(self) -> None:
        """Take all nodes away; of documents of others, our vectors."""
        self._store.run(self._store.remove(where={}))

    async def aclear(self) -> None:
        await self._store.arun(self._store.remove(where={}))

    # ---- read

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Nodes without their embeddings: those of `node_ids`, of all when None, that `filters` leave."""
        return [self._node(*found) for found in self._store.run(self._matching(node_ids, where_of(filters)))]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        return [self._node(*found) for found in await self._store.arun(self._matching(node_ids, where_of(filters)))]

    def _matching(self, node_ids: list[str] | None, where: Where | None) -> Operation[list[tuple[Any, Any]]]:
        if where is None and node_ids is not None:
            return (yield from self._store.fetched(node_ids))
        asked = None if node_ids is None else set(strings(node_ids))
        found = yield from self._store.matching(where)
        return [(id_, payload) for id_, payload in found if asked is None or str(id_) in asked]

    def query(self, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
        """The best nodes of an embedded query, with the scores of the final ranking; `options` are those of
        `Retriever.search`. Raises InvalidInput for what cannot be asked here, BackendUnsupported for a hybrid query of
        an engine that does not rank text."""
        return self._store.run(self._queried(query, options))

    async def aquery(self, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
        return await self._store.arun(self._queried(query, options))

    def _queried(self, query: VectorStoreQuery, options: dict[str, Any]) -> Operation[VectorStoreQueryResult]:
        _check_query(query)
        where = _of_documents(where_of(query.filters), query.doc_ids)
        if query.mode == VectorStoreQueryMode.MMR:
            return (yield from self._apart(query, where, options))
        if query.mode == VectorStoreQueryMode.HYBRID:
            return self._result((yield self._hybrid(query, where, options)))
        k = query.similarity_top_k
        return self._result((yield from self._store.search(query.query_embedding, k, where, **options)))

    def _apart(
        self, query: VectorStoreQuery, where: Where | None, options: dict[str, Any]
    ) -> Operation[VectorStoreQueryResult]:
        """Nodes that differ; how near two are is the cosine of their sparse vectors."""
        k, dense = query.similarity_top_k, query.query_embedding
        if query.mmr_threshold is not None:
            check_share(query.mmr_threshold, "mmr_threshold")
        usual = max(check_k(k), min(_PREFETCH * k, _CANDIDATES))
        hits = yield from self._store.search(dense, options.pop("mmr_prefetch_k", usual), where, **options)
        if not len(hits):
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        asking, rows, held = yield from self._store.near(dense, hits)
        similarities, picked = get_top_k_mmr_embeddings(
            asking.tolist(), list(rows), similarity_top_k=k, mmr_threshold=query.mmr_threshold
        )
        nodes = [self._node(held.ids[row], held.payloads[row]) for row in picked]
        return VectorStoreQueryResult(nodes, [float(one) for one in similarities], [node.node_id for node in nodes])

    def _hybrid(self, query: VectorStoreQuery, where: Where | None, options: dict[str, Any]) -> Asked:
        if query.query_str is None:
            raise InvalidInput("a hybrid query needs query_str, the words to rank texts by")
        alpha = 0.5 if query.alpha is None else query.alpha
        dense, k = self._store.query(query.query_embedding), query.hybrid_top_k or query.similarity_top_k
        named = {"text": {self._store.text_key: query.query_str}, "weights": [alpha, 1 - alpha], "where": where}
        return Asked("fuse", (dense, k), {**options, **named, "with_payloads": True})

    def _result(self, hits: Hits) -> VectorStoreQueryResult:
        nodes = [self._node(hit.id, hit.payload) for hit in hits]
        return VectorStoreQueryResult(nodes, hits.scores.tolist(), [node.node_id for node in nodes])

    def _node(self, id_: Any, payload: Any) -> BaseNode:
        text, metadata = self._store.text_and_metadata(payload)
        if "_node_content" in metadata:
            return metadata_dict_to_node(metadata, text)
        return TextNode(id_=str(id_), text=text or "", metadata=metadata)

    @staticmethod
    def _check_none(options: dict[str, Any]) -> None:
        if options:
            raise InvalidInput(f"expected no options, found {sorted(options)}")


def _holds_nan(value: Any) -> bool:
    """Or infinity, at any depth."""
    if isinstance(value, Mapping):
        return any(map(_holds_nan, value.values()))
    if isinstance(value, list | tuple | set):
        return any(map(_holds_nan, value))
    return isinstance(value, float) and not math.isfinite(value)


def _check_query(query: VectorStoreQuery) -> None:
    if not isinstance(query, VectorStoreQuery):
        raise InvalidInput(f"expected a VectorStoreQuery, found {query!r:.80}")
    modes = [VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.SPARSE]
    modes += [VectorStoreQueryMode.MMR, VectorStoreQueryMode.HYBRID]
    if query.mode not in modes:
        found = getattr(query.mode, "value", query.mode)
        raise InvalidInput(f"expected a mode of {[mode.value for mode in modes]}, found {found!r:.80}")
    if query.query_embedding is None:
        raise InvalidInput("the query has no query_embedding; an index embeds its queries by its embed_model")
    unsaid = [name for name in ("node_ids", "output_fields", "embedding_field") if getattr(query, name)]
    if unsaid:
        raise InvalidInput(f"a query cannot say {unsaid[0]} here; filter by a field of the metadata")


def _of_documents(where: Where | None, documents: list[str] | None) -> Where | None:
    if documents is None:
        return where
    among: Where = {_PARENT: strings(documents, "documents")}
    return among if where is None else {"$all": [where, among]}


def where_of(filters: MetadataFilters | None) -> Where | None:
    """Their filters as ours (C11). Raises InvalidInput, naming what cannot be said."""
    if filters is None:
        return None
    if not isinstance(filters, MetadataFilters):
        raise InvalidInput(f"expected MetadataFilters, found {filters!r:.80}; MetadataFilters.from_dicts makes some")
    if not filters.filters:
        return None
    parts = [where_of(one) or {} if isinstance(one, MetadataFilters) else _condition(one) for one in filters.filters]
    if filters.condition == FilterCondition.NOT:
        return {"$not": {"$any": parts}}
    return {"$any" if filters.condition == FilterCondition.OR else "$all": parts}


_BOUNDS = {
    FilterOperator.GT: "gt",
    FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt",
    FilterOperator.LTE: "lte",
}


def _condition(one: MetadataFilter) -> dict[str, Any]:
    """Of one field; a list in the metadata holds when one of its elements does."""
    key, value, operator = one.key, one.value, one.operator
    if operator == FilterOperator.IS_EMPTY:
        return {key: {"exists": False}}
    if operator in (FilterOperator.EQ, FilterOperator.NE) and value is None:
        return {key: {"exists": operator == FilterOperator.NE}}
    if operator in _BOUNDS:
        return {key: {_BOUNDS[operator]: value}}
    several = isinstance(value, list)
    if operator in (FilterOperator.EQ, FilterOperator.CONTAINS) and not several:
        return {key: value}
    if operator == FilterOperator.NE and not several:
        return {key: {"not": value}}
    if operator in (FilterOperator.IN, FilterOperator.ANY) and several:
        return {key: value}
    if operator == FilterOperator.NIN and several:
        return {key: {"not": value}}
    if operator == FilterOperator.ALL and several:
        return {"$all": [{key: each} for each in value]}
    raise InvalidInput(
        f"the filter {key} {operator.value} {value!r:.80} cannot be answered exactly here; there are == != > >= < <= "
        "of one value, in, nin, any and all of a list, contains and is_empty"
    )
