"""The LlamaIndex store: in an index of theirs, with filters judged by their own store, and what is refused."""

# mypy: disable-error-code="misc"
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    SimpleVectorStore,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode

import sparsevec as sv
from sparsevec.errors import BackendUnsupported, InvalidInput, InvalidVectors, WriteFailed
from sparsevec.integrations.llama_index import SparsevecVectorStore
from sparsevec.vectors import Float32s

COLOURS = ["red", "green", "blue"]


class Letters(MockEmbedding):
    """Texts to 24 columns, the same at every call."""

    def __init__(self) -> None:
        super().__init__(embed_dim=24)

    def _get_text_embedding(self, text: str) -> list[float]:
        return np.random.default_rng(list(text.encode())).normal(size=24).tolist()  # type: ignore[no-any-return]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def nodes(dense: Float32s, n: int = 60) -> list[TextNode]:
    made = []
    for at in range(n):
        node = TextNode(id_=f"node {at}", text=f"text {at}", embedding=dense[at].tolist())
        node.metadata = {"n": at, "colour": COLOURS[at % 3], "tags": ["even" if at % 2 == 0 else "odd", f"t{at % 5}"]}
        if at % 4 == 0:
            node.metadata["price"] = at / 2
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"document {at // 10}")
        made.append(node)
    return made


@pytest.fixture(params=["reference:", "qdrant+edge:{}/edge"])
def retriever(request: pytest.FixtureRequest, encoder: sv.SparseEncoder, tmp_path: Path) -> Iterator[sv.Retriever]:
    with sv.Retriever(encoder, sv.connect(request.param.format(tmp_path))) as found:
        yield found


@pytest.fixture
def store(retriever: sv.Retriever, dense: Float32s) -> SparsevecVectorStore:
    made = SparsevecVectorStore(retriever)
    made.add(nodes(dense))
    return made


def asked(dense: Any, k: int = 5, **said: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=np.asarray(dense).tolist(), similarity_top_k=k, **said)


def ids(found: VectorStoreQueryResult) -> list[str]:
    return list(found.ids or [])


def test_answers_are_the_retrievers(store: SparsevecVectorStore, retriever: sv.Retriever, dense: Float32s) -> None:
    (hits,) = retriever.search(dense[7], 5, where={"n": {"gt": 2}})
    filters = MetadataFilters(filters=[MetadataFilter(key="n", value=2, operator=FilterOperator.GT)])
    found = store.query(asked(dense[7], filters=filters))
    assert (ids(found), found.similarities) == (list(hits.ids), hits.scores.tolist())
    assert ids(found)[0] == "node 7"


def test_a_node_comes_back_as_it_went_in(store: SparsevecVectorStore, dense: Float32s) -> None:
    (found,) = store.get_nodes(["node 7"])
    assert found.model_dump(exclude={"embedding"}) == nodes(dense)[7].model_dump(exclude={"embedding"})


def test_an_index_of_theirs_is_filled_asked_and_emptied(retriever: sv.Retriever) -> None:
    storage = StorageContext.from_defaults(vector_store=SparsevecVectorStore(retriever))
    documents = [Document(doc_id=f"d{n}", text=f"words {n}", metadata={"n": n}) for n in range(20)]
    index = VectorStoreIndex.from_documents(documents, storage_context=storage, embed_model=Letters())
    (found,) = index.as_retriever(similarity_top_k=1).retrieve("n: 3\n\nwords 3")  # as it embeds texts: metadata first
    assert (found.node.get_content(), found.node.ref_doc_id) == ("words 3", "d3")
    index.delete_ref_doc("d3")
    again = VectorStoreIndex.from_vector_store(SparsevecVectorStore(retriever), embed_model=Letters())
    texts = [one.node.get_content() for one in again.as_retriever(similarity_top_k=20).retrieve("words 3")]
    assert sorted(texts) == sorted(f"words {n}" for n in range(20) if n != 3)


FILTERS = [
    ("colour", "red", FilterOperator.EQ),
    ("colour", "red", FilterOperator.NE),
    ("price", 4.0, FilterOperator.EQ),
    ("price", 4.0, FilterOperator.NE),
    ("n", 12, FilterOperator.GT),
    ("n", 12, FilterOperator.GTE),
    ("n", 12, FilterOperator.LT),
    ("price", 12, FilterOperator.LTE),
    ("colour", ["red", "blue"], FilterOperator.IN),
    ("price", [2.0, 4.0], FilterOperator.NIN),
    ("tags", ["even", "t1"], FilterOperator.ANY),
    ("tags", ["even", "t1"], FilterOperator.ALL),
    ("tags", "odd", FilterOperator.CONTAINS),
    ("price", None, FilterOperator.IS_EMPTY),
]
SINGLE = [MetadataFilters(filters=[MetadataFilter(key=k, value=v, operator=o)]) for k, v, o in FILTERS]
TWO = [MetadataFilter(key=k, value=v, operator=o) for k, v, o in (FILTERS[0], FILTERS[4])]
SEVERAL = [MetadataFilters(filters=TWO, condition=condition) for condition in FilterCondition]


@pytest.mark.parametrize("filters", [*SINGLE, *SEVERAL], ids=lambda filters: repr(filters)[:80])
def test_a_filter_leaves_what_their_own_store_leaves(
    store: SparsevecVectorStore, dense: Float32s, filters: MetadataFilters
) -> None:
    theirs = SimpleVectorStore()
    theirs.add(nodes(dense))
    query = asked(dense[0], 60, filters=filters)
    left = set(ids(theirs.query(query)))
    assert set(ids(store.query(query))) == left
    assert {node.node_id for node in store.get_nodes(filters=filters)} == left
    assert 0 < len(left) < 60


def test_filters_nest(store: SparsevecVectorStore) -> None:
    inner = MetadataFilters(filters=TWO, condition=FilterCondition.OR)
    outer = MetadataFilters(filters=[inner, MetadataFilter(key="n", value=9, operator=FilterOperator.LT)])
    assert {node.metadata["n"] for node in store.get_nodes(filters=outer)} == {0, 3, 6}


def test_nodes_are_deleted_by_document_by_id_and_by_filter(store: SparsevecVectorStore) -> None:
    store.delete("document 1")
    assert len(store.get_nodes()) == 50
    store.delete_nodes(["node 0", "node 1", "not there"])
    red = MetadataFilters(filters=[MetadataFilter(key="colour", value="red")])
    store.delete_nodes(["node 3", "node 4"], red)
    assert {f"node {n}" for n in (0, 1, 3, 4)} & {node.node_id for node in store.get_nodes()} == {"node 4"}
    store.delete_nodes(filters=red)
    assert {node.metadata["colour"] for node in store.get_nodes()} == {"green", "blue"}
    store.clear()
    assert store.get_nodes() == []


def test_a_query_may_name_documents(store: SparsevecVectorStore, dense: Float32s) -> None:
    found = store.query(asked(dense[0], 60, doc_ids=["document 2"]))
    assert set(ids(found)) == {f"node {n}" for n in range(20, 30)}


def test_a_node_that_is_written_again_has_none_of_its_old_fields(store: SparsevecVectorStore, dense: Float32s) -> None:
    store.add([TextNode(id_="node 0", text="new", embedding=dense[0].tolist(), metadata={"n": -1})])
    (found,) = store.get_nodes(["node 0"])
    assert (found.get_content(), found.metadata) == ("new", {"n": -1})
    assert "node 0" not in {node.node_id for node in store.get_nodes(filters=SINGLE[0])}


def test_mmr_prefers_what_differs(store: SparsevecVectorStore, dense: Float32s) -> None:
    store.add([TextNode(id_=f"copy {n}", text="copy", embedding=dense[7].tolist()) for n in range(4)])
    plain = store.query(asked(dense[7], 4))
    apart = store.query(asked(dense[7], 4, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.1))
    assert len([id_ for id_ in ids(plain) if "copy" in id_]) > len([id_ for id_ in ids(apart) if "copy" in id_])
    assert len(ids(apart)) == 4


async def test_asynchronous_calls_give_the_same(store: SparsevecVectorStore, dense: Float32s) -> None:
    assert await store.aquery(asked(dense[9])) == store.query(asked(dense[9]))
    await store.async_add([TextNode(id_="late", text="late", embedding=dense[70].tolist())])
    assert [node.node_id for node in await store.aget_nodes(["late"])] == ["late"]
    await store.adelete_nodes(["late"])
    await store.adelete("document 0")
    assert len(await store.aget_nodes()) == 50
    await store.aclear()
    assert await store.aget_nodes() == []


def test_a_node_without_an_embedding_is_accounted(store: SparsevecVectorStore, dense: Float32s) -> None:
    given = [TextNode(id_="fine", text="a", embedding=dense[0].tolist()), TextNode(id_="bare", text="b")]
    with pytest.raises(WriteFailed, match="bare") as failed:
        store.add(given)
    assert (failed.value.report.written, failed.value.report.failed, failed.value.report.given) == (1, 1, 2)
    store.add(given, empty="write")
    found = store.get_nodes(["fine", "bare"])
    assert {node.node_id: node.metadata for node in found} == {"fine": {}, "bare": {}}
    for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):  # of few all are answered: not of these
        everything = store.query(asked(dense[0], 100, mode=mode))
        assert set(everything.ids or ()) == {"fine", *(f"node {at}" for at in range(60))}
    store.add([TextNode(id_="bare", text="b", embedding=dense[1].tolist())])
    assert "bare" in (store.query(asked(dense[0], 100)).ids or ())


def test_metadata_that_a_backend_cannot_hold_is_accounted(store: SparsevecVectorStore, dense: Float32s) -> None:
    row = dense[0].tolist()
    for at in (float("nan"), [float("inf")], {"x": (float("nan"),)}):
        wrong = TextNode(id_="wrong", text="a", embedding=row, metadata={"at": at})
        with pytest.raises(WriteFailed, match="wrong") as failed:
            store.add([TextNode(id_="fine", text="a", embedding=row), wrong])
        assert failed.value.report.written == 1
    with pytest.raises(InvalidInput, match="node 'wrong' holds what JSON has no word for"):
        store.add([TextNode(id_="wrong", text="a", embedding=row, metadata={"at": np.int64(3)})])


@pytest.mark.parametrize("row", [[1.0, 2.0], [float("nan")] * 24], ids=["narrow", "nan"])
def test_an_embedder_that_went_wrong_is_told_before_anything_is_written(
    store: SparsevecVectorStore, dense: Float32s, row: list[Any]
) -> None:
    wrong = TextNode(id_="wrong", text="b")
    wrong.__dict__["embedding"] = row  # past their own validation
    with pytest.raises(InvalidVectors, match="wrong") as failed:
        store.add([TextNode(id_="first", text="a", embedding=dense[0].tolist()), wrong])
    assert store.get_nodes(["first"]) == []
    assert (failed.value.report.given, failed.value.report.unreached) == (0, 2)


def test_what_cannot_be_asked_is_refused_by_name(store: SparsevecVectorStore, dense: Float32s) -> None:
    match = MetadataFilters(filters=[MetadataFilter(key="colour", value="re", operator=FilterOperator.TEXT_MATCH)])
    for said, word in (
        ({"mode": VectorStoreQueryMode.SVM}, "svm"),
        ({"node_ids": ["node 0"]}, "node_ids"),
        ({"doc_ids": "document 1"}, "expected a sequence of documents, found 'document 1'"),
        ({"doc_ids": [1]}, "expected documents as strings, found 1"),
        ({"mode": VectorStoreQueryMode.MMR, "mmr_threshold": float("nan")}, "mmr_threshold must be a number"),
        ({"filters": match}, "text_match"),
        ({"mode": VectorStoreQueryMode.HYBRID}, "query_str"),
    ):
        with pytest.raises(InvalidInput, match=word):
            store.query(asked(dense[0], **said))
    with pytest.raises(InvalidInput, match="query_embedding"):
        store.query(VectorStoreQuery(query_str="a"))
    with pytest.raises(InvalidInput, match="found 'svm'"):
        store.query(asked(dense[0], mode="svm"))
    with pytest.raises(InvalidVectors, match=r"the query has shape \(1,\), expected \(24,\)"):
        store.query(VectorStoreQuery(query_embedding=[1.0], query_str="a", mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(InvalidInput, match="expected nodes of LlamaIndex, found 'a text'"):
        store.add(["a text"])
    with pytest.raises(InvalidInput, match="expected a sequence of ids, found 'node 1'"):
        store.delete_nodes("node 1")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="clear"):
        store.delete_nodes()
    red: Any = {"colour": "red"}
    for wrong in (lambda: store.get_nodes(filters=red), lambda: store.query(asked(dense[0], filters=red))):
        with pytest.raises(InvalidInput, match=r"expected MetadataFilters, found \{'colour': 'red'\}"):
            wrong()
    with pytest.raises(InvalidInput, match="expected a VectorStoreQuery, found None"):
        store.query(None)
    with pytest.raises(InvalidInput, match="text_key"):
        store.add([TextNode(text="a", embedding=dense[0].tolist(), metadata={"text": "b"})])
    with pytest.raises(InvalidInput, match=r"sparsevec\.Retriever"):
        SparsevecVectorStore(store)


def test_ids_that_are_none_are_refused_beside_a_filter_as_without_one(store: SparsevecVectorStore) -> None:
    wrong: Any
    for wrong in ("node 3", [3]):
        for call in (store.get_nodes, store.delete_nodes):
            with pytest.raises(InvalidInput, match=r"expected (a sequence of ids|ids as strings)"):
                call(wrong, SINGLE[0])
    for wrong in (3, None, ["document 1"]):
        with pytest.raises(InvalidInput, match="expected documents as strings"):
            store.delete(wrong)
    assert len(store.get_nodes()) == 60


def test_a_hybrid_query_of_an_engine_without_text_says_so(store: SparsevecVectorStore, dense: Float32s) -> None:
    with pytest.raises(BackendUnsupported, match="text"):
        store.query(asked(dense[0], mode=VectorStoreQueryMode.HYBRID, query_str="text 3"))


def test_marginal_relevance_of_many_asks_for_no_more_than_there_are_candidates(
    store: SparsevecVectorStore, dense: Float32s
) -> None:
    found = store.query(asked(dense[0], 30, mode=VectorStoreQueryMode.MMR))  # four times 30 are more than 100
    assert len(set(found.ids or ())) == 30
