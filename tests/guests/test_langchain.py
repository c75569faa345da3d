"""The LangChain store: the framework's own standard suite, and what is ours."""

# mypy: disable-error-code="misc"
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import VectorStoreIntegrationTests

import sparsevec as sv
from sparsevec.errors import EmbedderFailed, InvalidInput, InvalidVectors, WriteFailed
from sparsevec.integrations.langchain import SparsevecVectorStore

EMBEDDING = DeterministicFakeEmbedding(size=6)
DOCUMENTS = [Document(id=str(n), page_content=f"text {n}", metadata={"n": n, "even": n % 2 == 0}) for n in range(40)]


@pytest.fixture(scope="session")
def of_six_columns() -> sv.SparseEncoder:
    rows = np.asarray(EMBEDDING.embed_documents([f"word {n}" for n in range(600)]), np.float32)
    return sv.SparseEncoder(6, 256).fit(rows, budget=sv.Budget(nnz=16))


@pytest.fixture(params=["reference:", "qdrant+edge:{}/edge"])
def retriever(request: pytest.FixtureRequest, of_six_columns: sv.SparseEncoder, tmp_path: Path) -> Iterator[Any]:
    with sv.Retriever(of_six_columns, sv.connect(request.param.format(tmp_path))) as found:
        yield found


class TestTheStandardSuite(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, retriever: sv.Retriever) -> SparsevecVectorStore:
        return SparsevecVectorStore(EMBEDDING, retriever)


@pytest.fixture
def store(retriever: sv.Retriever) -> SparsevecVectorStore:
    store = SparsevecVectorStore(EMBEDDING, retriever)
    store.add_documents(DOCUMENTS)
    return store


def test_a_filter_leaves_out_what_does_not_match(store: SparsevecVectorStore) -> None:
    found = store.similarity_search("text 3", k=40, filter={"even": True, "n": {"lt": 10}})
    assert {document.metadata["n"] for document in found} == {0, 2, 4, 6, 8}


def test_answers_are_the_retrievers(store: SparsevecVectorStore, retriever: sv.Retriever) -> None:
    (hits,) = retriever.search(np.asarray(EMBEDDING.embed_query("text 3"), np.float32), 5)
    found = store.similarity_search_with_score("text 3", k=5)
    assert [(document.id, score) for document, score in found] == [(hit.id, hit.score) for hit in hits]
    assert found[0][0] == DOCUMENTS[3]


def test_marginal_relevance_prefers_what_differs(store: SparsevecVectorStore) -> None:
    store.add_texts([f"text {3}"] * 5, [{"copy": True}] * 5)
    plain = store.similarity_search("text 3", k=4)
    apart = store.max_marginal_relevance_search("text 3", k=4, fetch_k=20, lambda_mult=0.1)
    assert len({document.page_content for document in plain}) < len({document.page_content for document in apart}) == 4


def test_an_existing_collection_is_opened_in_one_line(store: SparsevecVectorStore, retriever: sv.Retriever) -> None:
    again = SparsevecVectorStore(EMBEDDING, retriever)
    assert again.get_by_ids(["7"]) == [DOCUMENTS[7]]


def test_two_stores_that_are_opened_at_once_share_the_collection(
    of_six_columns: sv.SparseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"reference:{tmp_path}/ours"
    with sv.connect(url) as adapter, sv.connect(url) as faster:
        create = adapter.create

        def overtaken(*given: Any, **named: Any) -> None:
            faster.create(*given, **named)
            create(*given, **named)

        monkeypatch.setattr(adapter, "create", overtaken)
        store = SparsevecVectorStore(EMBEDDING, sv.Retriever(of_six_columns, adapter))
        store.add_documents(DOCUMENTS[:1])
        assert faster.count() == 1


async def test_asynchronous_calls_give_the_same(store: SparsevecVectorStore) -> None:
    assert await store.asimilarity_search("text 9", k=3) == store.similarity_search("text 9", k=3)


async def test_asynchronous_writes_are_embedded_and_accounted_as_others_are(retriever: sv.Retriever) -> None:
    store = SparsevecVectorStore(Tiring(size=6), retriever)
    texts = [f"text {n}" for n in range(300)]
    with pytest.raises(EmbedderFailed) as failed:
        await store.aadd_texts([*texts, "raise"], ids=[f"t{n}" for n in range(301)])
    assert (failed.value.report.written, failed.value.report.unreached) == (256, 45)
    assert await store.aadd_texts(texts, ids=[f"t{n}" for n in range(300)]) == [f"t{n}" for n in range(300)]
    assert retriever.adapter.count() == 300
    assert [one.page_content for one in await store.aget_by_ids(["t7"])] == ["text 7"]
    with pytest.raises(EmbedderFailed):
        await store.asimilarity_search("raise")
    assert await store.adelete(["t7"])
    assert retriever.adapter.count() == 299


def test_documents_are_deleted_by_a_filter(store: SparsevecVectorStore, retriever: sv.Retriever) -> None:
    assert store.delete(where={"n": {"lt": 10}, "even": True})
    assert retriever.adapter.count() == 35


def test_new_documents_are_written_without_a_look(retriever: sv.Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SparsevecVectorStore(EMBEDDING, retriever)
    looks: list[Any] = []
    fetch = retriever.adapter.fetch

    def looking(ids: Any, **named: Any) -> Any:
        looks.append(ids)
        return fetch(ids, **named)

    monkeypatch.setattr(retriever.adapter, "fetch", looking)
    store.add_texts(["a", "b"])
    assert looks == []
    store.add_texts(["a"], ids=["mine"])
    assert looks == [["mine"]]


def test_a_write_that_is_not_whole_reaches_the_caller_with_its_report(store: SparsevecVectorStore) -> None:
    with pytest.raises(WriteFailed) as failed:
        store.add_texts(["fine", "not fine"], [{"at": 1}, {"at": float("nan")}], ids=["fine", "wrong"])
    assert failed.value.report.written == 1
    assert store.get_by_ids(["fine"])[0].page_content == "fine"


class Tiring(DeterministicFakeEmbedding):
    """Embeds as the other does until a text says otherwise."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        rows = super().embed_documents(texts)
        if "raise" in texts:
            raise TimeoutError("no more tokens")
        return [[float("nan")] * 6 if text == "nan" else row[: 5 if "narrow" in texts else 6]
                for text, row in zip(texts, rows, strict=True)]  # fmt: skip

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


@pytest.mark.parametrize(
    ("word", "kind"), [("raise", EmbedderFailed), ("nan", InvalidVectors), ("narrow", InvalidVectors)]
)
def test_an_embedder_that_goes_wrong_in_the_middle_is_accounted(
    retriever: sv.Retriever, word: str, kind: type[Exception]
) -> None:
    store = SparsevecVectorStore(Tiring(size=6), retriever)
    texts = [f"text {n}" for n in range(600)]
    beside = [{"n": float("nan")} if n == 7 else {"n": n} for n in range(600)]
    ids = [f"t{n}" for n in range(600)]
    with pytest.raises(kind) as failed:
        store.add_texts([*texts[:300], word, *texts[301:]], beside, ids=ids)
    report = failed.value.report  # type: ignore[attr-defined]
    assert (report.given, report.written, report.failed, report.unreached) == (256, 255, 1, 344)
    assert report.failures[0].id == "t7"
    assert retriever.adapter.count() == 255
    with pytest.raises(WriteFailed) as whole:
        store.add_texts(texts, beside, ids=ids)
    assert (whole.value.report.written, whole.value.report.failed, whole.value.report.unreached) == (599, 1, 0)


def test_an_embedder_that_fails_for_a_query_is_typed(store: SparsevecVectorStore, retriever: sv.Retriever) -> None:
    tiring = SparsevecVectorStore(Tiring(size=6), retriever)
    with pytest.raises(EmbedderFailed, match="TimeoutError"):
        tiring.similarity_search("raise")
    with pytest.raises(InvalidVectors, match="NaN"):
        tiring.max_marginal_relevance_search("nan")


def test_wrong_uses_are_refused_in_words(store: SparsevecVectorStore) -> None:
    for wrong, said in (
        (lambda: store.add_texts(["a"], [{"text": "b"}]), "text_key"),
        (lambda: store.add_texts(["a", "b"], [{}]), "as many"),
        (lambda: store.delete(), "expected ids"),
        (lambda: store.add_texts("hello"), "expected a sequence of texts, found 'hello'"),
        (lambda: store.add_texts(["a"], ids="7"), "expected a sequence of ids, found '7'"),
        (lambda: store.add_texts(["a"], ids=[0]), "expected ids as strings, found 0"),  # type: ignore[list-item]
        (lambda: store.add_texts(["a"], ids=[["7"]]), "expected ids as strings, found"),  # type: ignore[list-item]
        (lambda: store.get_by_ids([["7"]]), "expected ids as strings, found"),  # type: ignore[list-item]
        (lambda: store.add_texts(["a"], 3), "expected a sequence of metadatas, found 3"),  # type: ignore[arg-type]
        (lambda: SparsevecVectorStore(len, store._store.retriever), "expected an Embeddings"),
        (lambda: store.add_texts(["a"], [None]), "metadata as a dict, {} for none, found None"),  # type: ignore[list-item]
        (lambda: store.delete("7"), "expected a sequence of ids, found '7'"),  # type: ignore[arg-type]
        (lambda: store.get_by_ids("7"), "expected a sequence of ids, found '7'"),
        (lambda: store.similarity_search_with_relevance_scores("a"), "similarity_search_with_score"),
        (lambda: SparsevecVectorStore.from_texts(["a"], EMBEDDING), "retriever="),
        (lambda: store.similarity_search("a", filter={"n": {"around": 3}}), "around"),
    ):
        with pytest.raises(InvalidInput, match=said):
            wrong()
    rows: list[tuple[Any, str]] = [
        ([1.0, 2.0], r"the query has shape \(2,\), expected \(6,\)"),
        (["a"] * 6, "the query is not made of real numbers"),
        (["1"] * 6, "the query is not made of real numbers"),
        (np.ma.masked_equal(np.arange(6.0), 0), "the query must not be a masked array"),
        ([[1.0] * 6] * 2, r"the query has shape \(2, 6\)"),
        ([1e300] * 6, "the query holds NaN or infinity"),
    ]
    for row, said in rows:
        for ask in (store.similarity_search_by_vector, store.max_marginal_relevance_search_by_vector):
            with pytest.raises(InvalidVectors, match=said):
                ask(row)
    assert store.get_by_ids(["7"])


def test_a_filter_that_leaves_all_finds_as_many_as_none(store: SparsevecVectorStore) -> None:
    assert store.similarity_search("text 3", k=40, filter={}) == store.similarity_search("text 3", k=40)
    assert len(store.similarity_search("text 3", k=40, filter={})) == 40


def test_a_mark_of_the_store_is_no_field_of_metadata(store: SparsevecVectorStore) -> None:
    with pytest.raises(InvalidInput, match="metadata has a field '_without_embedding'"):
        store.add_texts(["marked"], [{"_without_embedding": True}])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"k": 0}, "k must be an int of at least 1, found 0"),
        ({"k": "2"}, "k must be an int of at least 1"),
        ({"fetch_k": 0}, "fetch_k must be an int of at least 1"),
        ({"lambda_mult": float("nan")}, r"lambda_mult must be a number in \[0, 1\], found nan"),
        ({"lambda_mult": 2}, "lambda_mult must be a number"),
        ({"lambda_mult": None}, "lambda_mult must be a number"),
    ],
)
def test_what_marginal_relevance_cannot_weigh_is_refused(
    store: SparsevecVectorStore, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        store.max_marginal_relevance_search("text 3", **wrong)


def test_of_an_id_that_is_given_twice_the_last_document_stays_with_its_own_fields(store: SparsevecVectorStore) -> None:
    assert store.add_texts(["one", "two"], [{"first": 1}, {"second": 2}], ids=["twice", "twice"]) == ["twice"] * 2
    (found,) = store.get_by_ids(["twice"])
    assert (found.page_content, found.metadata) == ("two", {"second": 2})
