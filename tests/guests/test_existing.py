"""A collection of others, with dense vectors in a field, opened by each framework: sparse search in three lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from llama_index.core.vector_stores import VectorStoreQuery

import sparsevec as sv
from sparsevec.integrations import haystack, langchain, llama_index
from tests.live.shops import WIDTH, LuceneShop, dense_rows

ROWS = dense_rows(200)


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
    chain = langchain.SparsevecVectorStore(DeterministicFakeEmbedding(size=WIDTH), retriever, text_key="title")
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


@pytest.mark.elasticsearch
def test_a_hybrid_query_of_llama_index_is_fused_with_the_engines_text(shop: LuceneShop, model: str) -> None:
    sv.retrofit(shop.url, dense_field="emb", model=model)
    retriever = sv.Retriever(sv.SparseEncoder.load(model), sv.connect(shop.url))
    nodes = llama_index.SparsevecVectorStore(retriever, text_key="title")
    query = VectorStoreQuery(query_embedding=ROWS[7].tolist(), similarity_top_k=3, mode="hybrid", query_str="title 150")
    fused = retriever.fuse(ROWS[7], 3, text={"title": "title 150"}, weights=[0.5, 0.5])
    assert nodes.query(query).ids == list(fused.ids)
