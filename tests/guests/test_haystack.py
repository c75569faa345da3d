"""The Haystack store: the framework's own standard suites, in a pipeline and its file, and what is ours."""

# mypy: disable-error-code="misc"
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.dataclasses import ByteStream
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.testing import document_store as theirs
from haystack.testing import document_store_async as theirs_async
from haystack.utils.filters import document_matches_filter

import sparsevec as sv
from sparsevec.errors import InvalidInput, InvalidVectors, WriteFailed
from sparsevec.integrations.haystack import AlreadyThere, FilterRefused, SparsevecDocumentStore, SparsevecRetriever
from sparsevec.vectors import Float32s

URLS = ["reference:", "qdrant+edge:{}/edge"]


@pytest.fixture(scope="session")
def of_768_columns() -> sv.SparseEncoder:
    return sv.SparseEncoder(768, 256).fit(np.random.default_rng(0).random((60, 768)), budget=sv.Budget(nnz=16))


@pytest.fixture(params=URLS)
def wide(request: pytest.FixtureRequest, of_768_columns: sv.SparseEncoder, tmp_path: Path) -> Iterator[sv.Retriever]:
    with sv.Retriever(of_768_columns, sv.connect(request.param.format(tmp_path))) as found:
        yield found


def rounded(document: Document) -> Document:
    row = document.embedding
    return document if row is None else replace(document, embedding=np.float32(row).tolist())


class TestTheStandardSuites(
    theirs.DocumentStoreBaseExtendedTests,
    theirs.CountDocumentsByFilterTest,
    theirs_async.CountDocumentsAsyncTest,
    theirs_async.CountDocumentsByFilterAsyncTest,
    theirs_async.DeleteAllAsyncTest,
    theirs_async.DeleteByFilterAsyncTest,
    theirs_async.DeleteDocumentsAsyncTest,
    theirs_async.FilterDocumentsAsyncTest,
    theirs_async.UpdateByFilterAsyncTest,
    theirs_async.WriteDocumentsAsyncTest,
):
    @pytest.fixture
    def document_store(self, wide: sv.Retriever) -> SparsevecDocumentStore:
        return SparsevecDocumentStore.of(wide, embedding_key="dense")

    def assert_documents_are_equal(self, received: list[Document], expected: list[Document]) -> None:
        """The same documents, in any order; dense rows as float32, for Qdrant Edge reads a float64 an ulp off."""
        by_id = [sorted(map(rounded, some), key=lambda document: document.id) for some in (received, expected)]
        assert by_id[0] == by_id[1]

    def test_write_documents(self, document_store: SparsevecDocumentStore) -> None:
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(AlreadyThere):
            document_store.write_documents([document])

    async def test_write_documents_async(self, document_store: SparsevecDocumentStore) -> None:
        assert await document_store.write_documents_async([Document(content="test doc")]) == 1


def documents(dense: Float32s, n: int = 40) -> list[Document]:
    return [
        Document(id=f"d{at}", content=f"text {at}", meta={"n": at, "even": at % 2 == 0}, embedding=dense[at].tolist())
        for at in range(n)
    ]


@pytest.fixture(params=URLS)
def retriever(request: pytest.FixtureRequest, encoder: sv.SparseEncoder, tmp_path: Path) -> Iterator[sv.Retriever]:
    with sv.Retriever(encoder, sv.connect(request.param.format(tmp_path))) as found:
        yield found


@pytest.fixture
def store(retriever: sv.Retriever, dense: Float32s) -> SparsevecDocumentStore:
    made = SparsevecDocumentStore.of(retriever)
    made.write_documents(documents(dense))
    return made


SOME = {"field": "meta.n", "operator": "<", "value": 30}


def test_answers_are_the_retrievers(store: SparsevecDocumentStore, retriever: sv.Retriever, dense: Float32s) -> None:
    (hits,) = retriever.search(dense[7], 5, where={"n": {"lt": 30}})
    found = SparsevecRetriever(store, filters=SOME, top_k=5).run(dense[7].tolist())["documents"]
    assert [(document.id, document.score) for document in found] == [(hit.id, hit.score) for hit in hits]
    assert (found[0].id, found[0].content, found[0].meta) == ("d7", "text 7", {"n": 7, "even": False})


async def test_asynchronous_calls_give_the_same(store: SparsevecDocumentStore, dense: Float32s) -> None:
    asked = SparsevecRetriever(store, filters=SOME)
    assert await asked.run_async(dense[9].tolist(), top_k=3) == asked.run(dense[9].tolist(), top_k=3)


def test_filters_of_the_component_and_of_the_call_are_merged(store: SparsevecDocumentStore, dense: Float32s) -> None:
    even = {"field": "meta.even", "operator": "==", "value": True}
    merging = SparsevecRetriever(store, filters=SOME, filter_policy=FilterPolicy.MERGE, top_k=40)
    assert len(merging.run(dense[0].tolist(), filters=even)["documents"]) == 15
    replacing = SparsevecRetriever(store, filters=SOME, top_k=40)
    assert len(replacing.run(dense[0].tolist(), filters=even)["documents"]) == 20


def test_a_pipeline_goes_through_its_file(encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path) -> None:
    encoder.save(tmp_path / "model")
    store = SparsevecDocumentStore(f"reference:{tmp_path}/products.db", str(tmp_path / "model"))
    pipeline = Pipeline()
    pipeline.add_component("writer", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
    pipeline.add_component("retriever", SparsevecRetriever(store, filters=SOME, top_k=2))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["sparsevec.integrations.haystack"])
    for made in (pipeline, again):
        given = {"writer": {"documents": documents(dense)}}
        said = made.run({**given, "retriever": {"query_embedding": dense[7].tolist()}}, {"writer", "retriever"})
        assert said["writer"] == {"documents_written": 40}
    found = again.run({"writer": {"documents": []}, "retriever": {"query_embedding": dense[7].tolist()}})
    assert found["retriever"]["documents"][0].id == "d7"


def test_who_does_not_say_how_to_re_rank_gets_what_the_retriever_does(
    encoder: sv.SparseEncoder, dense: Float32s, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "model")
    store = SparsevecDocumentStore(f"reference:{tmp_path}/products.db", str(tmp_path / "model"))
    store.write_documents(documents(dense))
    assert repr(store.store.retriever) == repr(sv.Retriever(encoder, store.store.adapter))
    assert store.embedding_retrieval(dense[7].tolist(), top_k=1)[0].id == "d7"
    sparse = SparsevecDocumentStore(f"reference:{tmp_path}/products.db", str(tmp_path / "model"), rerank=None)
    assert "rerank=None" in repr(sparse.store.retriever)


def test_credentials_stay_names_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from haystack.utils import Secret

    secret = Secret.from_env_var("PRODUCTS_KEY")
    store = SparsevecDocumentStore("elasticsearch://localhost/x", "model/", credentials={"api_key": secret})
    said = store.to_dict()
    assert "PRODUCTS_KEY" in repr(said)
    assert SparsevecDocumentStore.from_dict(said).to_dict() == store.to_dict()


FILTERS: list[dict[str, Any]] = [
    {"field": "meta.n", "operator": "in", "value": []},
    {"field": "meta.n", "operator": "not in", "value": []},
    {"field": "meta.n", "operator": "in", "value": [1, None]},
    {"field": "meta.lacking", "operator": "not in", "value": [1]},
    {"field": "meta.lacking", "operator": "in", "value": [None]},
    {"field": "content", "operator": "==", "value": "text 3"},
    {"operator": "NOT", "conditions": [SOME, {"field": "meta.even", "operator": "!=", "value": True}]},
]


@pytest.mark.parametrize("filters", FILTERS, ids=repr)
def test_a_filter_leaves_what_their_own_function_leaves(
    store: SparsevecDocumentStore, dense: Float32s, filters: dict[str, Any]
) -> None:
    expected = {one.id for one in documents(dense) if document_matches_filter(filters, one)}
    assert {document.id for document in store.filter_documents(filters)} == expected
    assert store.count_documents_by_filter(filters) == len(expected)


def test_a_document_without_an_embedding_is_kept_and_never_found(
    store: SparsevecDocumentStore, dense: Float32s
) -> None:
    store.write_documents([Document(id="bare", content="text", meta={"n": 1})])
    (kept,) = store.filter_documents({"field": "content", "operator": "==", "value": "text"})
    assert (kept.id, kept.meta) == ("bare", {"n": 1})
    everything = store.embedding_retrieval(dense[0].tolist(), top_k=100)
    assert {document.id for document in everything} == {f"d{at}" for at in range(40)}


def test_a_document_is_replaced_with_all_of_its_fields(store: SparsevecDocumentStore, dense: Float32s) -> None:
    store.write_documents([Document(id="d0", content="new", embedding=dense[0].tolist())], DuplicatePolicy.OVERWRITE)
    (found,) = store.filter_documents({"field": "content", "operator": "==", "value": "new"})
    assert found.meta == {}


def test_duplicates_are_told_before_anything_is_written(store: SparsevecDocumentStore, dense: Float32s) -> None:
    late = Document(id="late", content="a", embedding=dense[50].tolist())
    for given in ([late, documents(dense)[3]], [late, late]):
        with pytest.raises(AlreadyThere):
            store.write_documents(given)
        assert store.count_documents() == 40
    assert store.write_documents([late, late, documents(dense)[3]], DuplicatePolicy.SKIP) == 1


def test_metadata_that_a_backend_cannot_hold_is_accounted(store: SparsevecDocumentStore, dense: Float32s) -> None:
    row = dense[0].tolist()
    given = [Document(id="fine", embedding=row), Document(id="wrong", meta={"at": float("nan")}, embedding=row)]
    with pytest.raises(WriteFailed, match="wrong") as failed:
        store.write_documents(given)
    assert (failed.value.report.written, failed.value.report.given) == (1, 2)


def test_an_embedder_that_went_wrong_is_told_before_anything_is_written(
    store: SparsevecDocumentStore, dense: Float32s
) -> None:
    for row in ([1.0, 2.0], [float("nan")] * 24):
        with pytest.raises(InvalidVectors, match="wrong") as failed:
            store.write_documents(
                [Document(id="fine", embedding=dense[0].tolist()), Document(id="wrong", embedding=row)]
            )
        assert (failed.value.report.given, failed.value.report.unreached) == (0, 2)
    assert store.count_documents() == 40


def test_what_cannot_be_held_or_said_is_refused_by_name(store: SparsevecDocumentStore) -> None:
    blob = Document(blob=ByteStream(b"a"))
    for wrong, said in (
        (lambda: store.write_documents([blob]), "blob"),
        (lambda: store.write_documents([Document(content="a", meta={"content": 1})]), "text_key"),
        (lambda: store.filter_documents({"field": "n", "operator": "==", "value": [1]}), "=="),
        (lambda: store.filter_documents({"operator": "XOR", "conditions": [SOME]}), "XOR"),
        (lambda: store.filter_documents({"field": "id", "operator": "==", "value": "d0"}), "a document's id"),
        (lambda: store.filter_documents({"field": "n", "operator": ["=="], "value": 1}), "as strings"),
        (lambda: store.filter_documents({"operator": "AND", "conditions": [3]}), "missing in 3"),
        (lambda: store.filter_documents({"field": None, "operator": "==", "value": 1}), "as strings"),
        (lambda: store.update_by_filter(SOME, {"content": "another"}), "text_key"),
        (lambda: store.update_by_filter(SOME, None), "metadata as a dict"),  # type: ignore[arg-type]
        (lambda: store.delete_documents("d1"), "a sequence of ids"),  # type: ignore[arg-type]
        (lambda: store.write_documents([Document(id=["d1"])]), "ids as strings"),
        (lambda: store.to_dict(), "url"),
        (lambda: SparsevecRetriever(None), "SparsevecDocumentStore"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidInput, match=said):
            wrong()
    assert issubclass(FilterRefused, FilterError)
    for value in (float("nan"), {"x": 1}, object()):
        with pytest.raises(FilterRefused, match="'n'"):
            store.count_documents_by_filter({"field": "meta.n", "operator": "==", "value": value})
    assert store.count_documents() == 40


def test_the_text_is_filtered_by_wherever_it_lies(retriever: sv.Retriever, dense: Float32s) -> None:
    store = SparsevecDocumentStore.of(retriever, text_key="body")
    given = [Document(id="a", content="text", embedding=dense[0].tolist(), meta={"content": "other", "id": "b"})]
    store.write_documents(given)
    for field, value in (("content", "text"), ("meta.content", "other"), ("meta.id", "b")):
        (found,) = store.filter_documents({"field": field, "operator": "==", "value": value})
        assert (found.id, found.content) == ("a", "text")


def test_documents_without_a_text_are_found(retriever: sv.Retriever, dense: Float32s) -> None:
    store = SparsevecDocumentStore.of(retriever)
    store.write_documents([Document(id=f"d{at}", embedding=dense[at].tolist()) for at in range(8)])
    found = store.embedding_retrieval(dense[3].tolist(), top_k=8)
    assert {document.id for document in found} == {f"d{at}" for at in range(8)}


def test_a_field_where_the_embedding_goes_is_told(retriever: sv.Retriever, dense: Float32s) -> None:
    store = SparsevecDocumentStore.of(retriever, embedding_key="emb")
    for row in (dense[0].tolist(), None):
        with pytest.raises(InvalidInput, match="choose another embedding_key"):
            store.write_documents([Document(id="a", content="b", meta={"emb": "mine"}, embedding=row)])
    with pytest.raises(InvalidInput, match="choose another embedding_key"):
        SparsevecDocumentStore.of(retriever, embedding_key="content").write_documents(documents(dense))


def test_policies_have_names_and_others_are_refused(store: SparsevecDocumentStore, dense: Float32s) -> None:
    even = {"field": "meta.even", "operator": "==", "value": True}
    merging = SparsevecRetriever(store, filters=SOME, filter_policy="merge", top_k=40)
    assert len(merging.run(dense[0].tolist(), filters=even)["documents"]) == 15
    assert store.write_documents(documents(dense), "overwrite") == 40
    with pytest.raises(InvalidInput, match=r"filter_policy must be one of \['replace', 'merge'\], found 'perhaps'"):
        SparsevecRetriever(store, filter_policy="perhaps")
    with pytest.raises(InvalidInput, match=r"policy must be one of .*, found 'perhaps'"):
        store.write_documents(documents(dense), "perhaps")


def test_a_file_is_read_twice_and_needs_no_more_than_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    from haystack.utils import Secret

    monkeypatch.setenv("PRODUCTS_KEY", "secret")
    store = SparsevecDocumentStore(
        "elasticsearch://localhost/x", "model/", credentials={"api_key": Secret.from_env_var("PRODUCTS_KEY")}
    )
    whole = SparsevecRetriever(store).to_dict()
    brief = {"type": whole["type"], "init_parameters": {"document_store": store.to_dict()}}
    for said in (whole, whole, brief, brief):
        assert SparsevecRetriever.from_dict(said).to_dict() == whole


def test_credentials_that_are_no_secrets_are_refused_and_not_shown() -> None:
    for wrong in ({"api_key": "hunter2"}, "hunter2"):
        with pytest.raises(InvalidInput, match="to Secrets") as refused:
            SparsevecDocumentStore("elasticsearch://localhost/x", "model/", credentials=wrong)  # type: ignore[arg-type]
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("option", ["failed", "journal"])
def test_a_file_of_one_run_is_not_given_to_documents_with_an_embedding_and_without(
    store: SparsevecDocumentStore, dense: Float32s, tmp_path: Path, option: str
) -> None:
    two = [Document(id="with", embedding=dense[0].tolist()), Document(id="without")]
    with pytest.raises(InvalidInput, match=f"{option}= names the file of one run"):
        store.write_documents(two, **{option: tmp_path / "file"})
    assert store.count_documents() == 40
    for one in two:
        assert store.write_documents([one], **{option: tmp_path / one.id}) == 1


def test_of_a_document_that_is_given_twice_the_last_stays_with_its_own_fields(
    store: SparsevecDocumentStore, dense: Float32s
) -> None:
    one, two = (Document(id="twice", content=name, meta={name: 1}, embedding=dense[0].tolist()) for name in "ab")
    store.write_documents([one, two], DuplicatePolicy.OVERWRITE)
    (found,) = store.filter_documents({"field": "content", "operator": "in", "value": ["a", "b"]})
    assert (found.content, found.meta) == ("b", {"b": 1})
