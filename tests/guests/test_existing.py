"""A collection of others, with dense vectors in a field, opened by each framework: sparse search in three lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding as Embedding
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery

import sparsevec as sv
from sparsevec.errors import WriteFailed
from sparsevec.integrations import haystack, langchain, llama_index
from tests.live.shops import WIDTH, LuceneShop, dense_rows

ROWS = dense_rows(200)
RED = MetadataFilters(filters=[MetadataFilter(key="brand", value="b1")])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("existing") / "model"
    sv.SparseEncoder(WIDTH, 256).fit(dense_rows(90, seed=1), budget=sv.Budget(nnz=8)).save(folder)
    return str(folder)


@pytest.fixture
def shop(engine_url: Callable[[str], str]) -> Iterator[LuceneShop]:
    place = LuceneShop(engine_url("elasticsearch9"), f"guests-{uuid4().hex[:8]}", nine=True)
    place.put({at: {"title": f"title {at}", "brand": f"b{at % 3}", "emb": ROWS[at].tolist()} for at in range(200)})
    yield place
    place.close()


@pytest.mark.elasticsearch
def test_each_framework_searches_what_was_there_in_three_lines(shop: LuceneShop, model: str) -> None:
    sv.retrofit(shop.url, dense_field="emb", model=model)
    retriever = sv.Retriever(sv.SparseEncoder.load(model), sv.connect(shop.url))
    chain = langchain.SparsevecVectorStore(Embedding(size=WIDTH), retriever, text_key="title")
    nodes = llama_index.SparsevecVectorStore(retriever, text_key="title")
    store = haystack.SparsevecDocumentStore(shop.url, model, text_key="title")

    asked, red = ROWS[7].tolist(), {"brand": "b1"}
    (among_red,) = retriever.search(ROWS[7], 5, where=red)
    documents = chain.similarity_search_by_vector(asked, k=5, filter=red)
    assert [(one.id, one.page_content) for one in documents] == [(id_, f"title {id_}") for id_ in among_red.ids]
    (all_,) = retriever.search(ROWS[7], 5)
    assert nodes.query(VectorStoreQuery(query_embedding=asked, similarity_top_k=5)).ids == list(all_.ids)
    assert [(one.id, one.score) for one in store.embedding_retrieval(asked, top_k=5)] == [(h.id, h.score) for h in all_]

    assert [one.page_content for one in chain.get_by_ids(["7", "150"])] == ["title 7", "title 150"]
    assert [node.get_content() for node in nodes.get_nodes(["9"])] == ["title 9"]
    before = shop.documents()
    store.delete_documents(["7"])
    assert store.count_documents() == 199
    assert shop.documents() == before  # our vector went, the document of others stays


async def no_threads(*_: object) -> None:
    raise AssertionError("asked in a thread")


@pytest.mark.elasticsearch
async def test_asynchronous_calls_ask_the_server_without_a_thread(
    shop: LuceneShop, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sv.retrofit(shop.url, dense_field="emb", model=model)
    encoder = sv.SparseEncoder.load(model)
    retriever = sv.Retriever(encoder, sv.connect(shop.url))
    store = haystack.SparsevecDocumentStore(shop.url, model, text_key="title")
    assert await store.count_documents_async() == 200  # connected, in a thread
    asked, red = ROWS[7].tolist(), {"field": "meta.brand", "operator": "==", "value": "b1"}
    (among_red,) = retriever.search(ROWS[7], 5, where={"brand": "b1"})
    async with sv.AsyncRetriever(encoder, await sv.aconnect(shop.url)) as asynchronous:
        chain = langchain.SparsevecVectorStore(
            Embedding(size=WIDTH), retriever, text_key="title", asynchronous=asynchronous
        )
        nodes = llama_index.SparsevecVectorStore(retriever, text_key="title", asynchronous=asynchronous)
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "to_thread", no_threads)
            found = await chain.asimilarity_search_by_vector(asked, k=5, filter={"brand": "b1"})
            assert [one.id for one in found] == list(among_red.ids)
            query = VectorStoreQuery(query_embedding=asked, similarity_top_k=5, filters=RED)
            assert (await nodes.aquery(query)).ids == list(among_red.ids)
            assert [one.id for one in await store.embedding_retrieval_async(asked, red, 5)] == list(among_red.ids)
            assert await store.count_documents_by_filter_async(red) == 67
            assert len(await store.filter_documents_async(red)) == len(await nodes.aget_nodes(filters=RED)) == 67
            assert [one.page_content for one in await chain.aget_by_ids(["7"])] == ["title 7"]
            assert len(await chain.amax_marginal_relevance_search_by_vector(asked, k=3)) == 3
        before = shop.documents()
        assert await store.delete_by_filter_async(red) == 67  # accounted for beside the loop
        await chain.adelete(["0"])
        await nodes.adelete_nodes(["2"])
        assert shop.documents() == before
        assert await asynchronous.adapter.count() == 131
        with pytest.raises(WriteFailed) as failed:  # a document of others is not made
            await chain.aadd_texts(["new"], ids=["new"])
        assert (failed.value.report.failed, failed.value.report.missing) == (1, 1)
    await store.close_async()
    store.close()


@pytest.mark.elasticsearch
def test_a_hybrid_query_of_llama_index_is_fused_with_the_engines_text(shop: LuceneShop, model: str) -> None:
    sv.retrofit(shop.url, dense_field="emb", model=model)
    retriever = sv.Retriever(sv.SparseEncoder.load(model), sv.connect(shop.url))
    nodes = llama_index.SparsevecVectorStore(retriever, text_key="title")
    query = VectorStoreQuery(query_embedding=ROWS[7].tolist(), similarity_top_k=3, mode="hybrid", query_str="title 150")
    fused = retriever.fuse(ROWS[7], 3, text={"title": "title 150"}, weights=[0.5, 0.5])
    assert nodes.query(query).ids == list(fused.ids)
