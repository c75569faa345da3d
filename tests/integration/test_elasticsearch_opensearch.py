"""What Elasticsearch 8, Elasticsearch 9 and OpenSearch have in common, on real nodes."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sparsevec_adapters.lucene import weights
from sparsevec_adapters.lucene.claims import Claim

import sparsevec
from sparsevec import SparseVectors, ingest, verify
from sparsevec.contract.adapter import Documents, UInt8s
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import BackendUnsupported, CollectionError, InvalidInput, OutOfLimits
from tests.integration.lucene import DIMENSION, Place, found, rows

DEBIAN = Path(sparsevec.__file__).parent / "demo/data/vectors.npz"
SPLADE = Path(__file__).parents[2].parent / "shared/data/splade_v3/vectors.npz"


# ---- scores


@pytest.fixture(scope="module")
def splade() -> tuple[SparseVectors, SparseVectors]:
    """Real SPLADE-v3 vectors, and queries, in the range that the model gives them."""
    if not SPLADE.exists():
        pytest.skip(f"{SPLADE} is not there")
    with np.load(SPLADE) as parts:
        dimension = int(parts["shape"][2])
        base, queries = (
            SparseVectors(
                parts[f"{kind}_indptr"], parts[f"{kind}_indices"], parts[f"{kind}_values"] / np.float32(100), dimension
            )
            for kind in ("base", "query")
        )
    return base[::3], queries[::30]


@pytest.fixture(scope="module")
def encoded() -> tuple[SparseVectors, SparseVectors]:
    """Packages of Debian, and queries for them, as an encoder of ours makes them."""
    with np.load(DEBIAN) as parts:
        documents, queries = (
            parts[f"{kind}_int8"][:n] * parts[f"{kind}_scale"][:n] for kind, n in (("documents", 1000), ("dev", 60))
        )
    encoder = SparseEncoder(input_dim=documents.shape[1], output_dim=1024)
    encoder.fit(documents, budget=Budget(nnz=32))
    return encoder.encode_document(documents), encoder.encode_query(queries)


def test_the_short_form_of_a_query_scores_as_its_clauses_to_the_bit(place: Place) -> None:
    """Weights over forty powers of two, so that the order of adding would show."""
    draw = np.random.default_rng(5)
    documents, queries = (
        SparseVectors.from_dense((draw.random((n, 60)) < share) * 2.0 ** draw.uniform(-20, 20, (n, 60)))
        for n, share in ((500, 0.3), (40, 0.5))
    )
    adapter: Any = place.connect("field=emb&shards=2&replicas=0")
    adapter.create(60)
    ingest(adapter, range(500), documents)
    short = adapter.search(queries, 100)
    adapter._operations._session.compact = False
    clauses = adapter.search(queries, 100)
    assert [len(hits) for hits in short] == [100] * 40
    for one, other in zip(short, clauses, strict=True):
        assert dict(zip(one.ids, one.scores, strict=True)) == dict(zip(other.ids, other.scores, strict=True))


@pytest.mark.parametrize("vectors", ["splade", pytest.param("encoded", marks=pytest.mark.slow)])
def test_every_score_of_real_vectors_is_predicted_to_the_bit(
    place: Place, vectors: str, request: pytest.FixtureRequest
) -> None:
    documents, queries = request.getfixturevalue(vectors)
    adapter = place.connect("field=emb&shards=3&replicas=0")
    adapter.create(documents.dimension)
    report = ingest(adapter, range(len(documents)), documents)
    answers = adapter.search(queries, 100)
    for query, hits in zip(queries, answers, strict=True):
        predicted = weights.scores(query, documents)
        np.testing.assert_array_equal(hits.scores.view(np.uint32), predicted[list(hits.ids)].view(np.uint32))
        assert hits.scores.tolist() == sorted(predicted[predicted > 0].tolist(), reverse=True)[:100]
    assert (report.written, report.failed) == (len(documents), 0)
    verify(adapter, documents, queries).require_exact()


def test_scores_of_weights_over_many_decades_are_at_most_one_unit_off(place: Place) -> None:
    rng = np.random.default_rng(0)
    documents, queries = (
        rows(*(dict(enumerate((10.0 ** rng.uniform(-15, 15, 30)).tolist())) for _ in range(n))) for n in (200, 20)
    )
    adapter = place.connect()
    adapter.create(DIMENSION)
    adapter.upsert(range(200), documents)
    for query, hits in zip(queries, adapter.search(queries, 200), strict=True):
        predicted = weights.scores(query, documents)[list(hits.ids)]
        assert np.abs(hits.scores.view(np.int32) - predicted.view(np.int32)).max() <= 1
    verify(adapter, documents, queries, k=50).require_exact()


def test_a_frequent_dimension_is_not_pruned_from_a_query(place: Place) -> None:
    adapter = place.connect()
    adapter.create(DIMENSION)
    adapter.upsert(range(301), rows(*({1: 1.0} for _ in range(300)), {2: 1.0}))
    assert len(found(adapter, {1: 0.1, 2: 2.0})) == 301


# ---- more than one request takes


def test_a_query_of_more_weights_than_the_server_takes_is_answered_exactly(place: Place) -> None:
    rng = np.random.default_rng(1)
    dimension, n = 20_000, 60
    dimensions = (rng.choice(dimension, 500, replace=False).tolist() for _ in range(n))
    documents = SparseVectors.from_rows(
        (dict(zip(row, rng.random(500).tolist(), strict=True)) for row in dimensions), dimension=dimension
    )
    queries = SparseVectors.from_rows(
        [dict(enumerate(rng.random(dimension).tolist())), {5: 1.0, 7: 2.0}], dimension=dimension
    )
    payloads = [{"shelf": i % 3} for i in range(n)]
    adapter = place.connect("field=emb&shards=2&replicas=0")
    adapter.create(dimension)
    adapter.upsert(range(n), documents, payloads)
    verify(adapter, documents, queries, k=n).require_exact()
    verify(adapter, documents, queries, k=5, where={"shelf": 1}, payloads=payloads).require_exact()
    (hits, _) = adapter.search(queries, 3, with_payloads=True)
    assert hits.payloads == tuple(payloads[int(id_)] for id_ in hits.ids)


def test_more_hits_than_one_answer_holds_come_page_by_page(place: Place) -> None:
    place.make({}, {"index.max_result_window": 20})
    documents = rows(*({1: 1.0 + i} for i in range(70)))
    payloads = [{"even": i % 2 == 0} for i in range(70)]
    adapter = place.connect()
    adapter.create(DIMENSION)
    adapter.upsert(range(70), documents, payloads, missing="create")
    assert found(adapter, {1: 1.0}) == tuple(str(i) for i in range(69, -1, -1))
    assert found(adapter, {1: 1.0}, k=30, where={"even": True}) == tuple(str(i) for i in range(68, 8, -2))
    assert adapter.fetch(range(70)).ids == tuple(map(str, range(70)))


# ---- indexes that others made

BOOKS = {
    "a": {"title": "The Hobbit", "year": 1937, "price": 9, "tags": ["fantasy"], "maker": {"name": "Tolkien"}},
    "b": {"title": "Emma", "year": 1815, "price": 7.5, "tags": ["classic", "novel"], "maker": {"name": "Austen"}},
    "c": {"title": "Dune", "year": 1965, "price": "8", "tags": [], "maker": {"name": "Herbert"}},
}


@pytest.fixture
def library(place: Place) -> Place:
    place.make({}, _meta={"team": "books"})  # mapped by its documents: text with a keyword, long and float
    place.put(BOOKS)
    return place


def test_a_sparse_field_is_added_to_an_index_of_others_and_taken_out_again(library: Place) -> None:
    adapter = library.connect()
    adapter.create(DIMENSION)
    new: list[dict[str, Any]] = [{"price": 10}, {}, {"year": 2026}]
    report = adapter.upsert(["a", "b", "new"], rows({1: 1.0}, {1: 2.0}, {1: 3.0}), new, missing="create")
    assert report.written == ("a", "b", "new")
    assert (adapter.info().dimension, adapter.count()) == (DIMENSION, 3)
    assert found(adapter, {1: 1.0}) == ("new", "b", "a")
    assert adapter.fetch(["a", "c"]).payloads == ({**BOOKS["a"], "price": 10},)
    with pytest.raises(CollectionError, match="already"):
        library.connect().create(DIMENSION)

    adapter.delete(["b", "nobody"])
    assert (adapter.count(), found(adapter, {1: 1.0})) == (2, ("new", "a"))
    adapter.drop()
    adapter.drop()
    assert adapter.info().dimension is None
    assert library.http("GET", "_mapping")[library.index]["mappings"]["_meta"]["team"] == "books"
    kept = {id_: {k: v for k, v in library.source(id_).items() if k in BOOKS["a"]} for id_ in "abc"}
    assert kept == {**BOOKS, "a": {**BOOKS["a"], "price": 10}}

    again = library.connect()
    again.create(DIMENSION + 1)
    assert (again.info().dimension, again.count()) == (DIMENSION + 1, 0)
    assert again.fetch(["a"]).ids == ()


FILTERS: list[tuple[Any, set[str]]] = [
    ({"title": "Emma"}, {"b"}),
    ({"title": "emma"}, set()),
    ({"year": 1937}, {"a"}),
    ({"year": "1937"}, set()),
    ({"year": {"gt": 1815, "lt": 1965.5}}, {"a", "c"}),
    ({"price": 7.5}, {"b"}),
    ({"price": 8}, set()),
    ({"price": "8"}, {"c"}),
    ({"price": {"gte": 7}}, {"a", "b"}),
    ({"tags": ["fantasy", "novel"]}, {"a", "b"}),
    ({"maker.name": "Herbert"}, {"c"}),
    ({"maker": "Herbert"}, set()),
]


def test_filters_mean_the_same_on_an_index_of_others(library: Place) -> None:
    adapter = library.connect()
    adapter.create(DIMENSION)
    adapter.upsert(list(BOOKS), rows({1: 1.0}, {1: 2.0}, {1: 3.0}))
    assert [(where, set(found(adapter, {1: 1.0}, where=where))) for where, _ in FILTERS] == FILTERS


def test_vectors_that_others_wrote_are_searched_with_nothing_but_the_index_and_the_field(place: Place) -> None:
    place.make({"emb": {"type": place.vector_type}})
    place.put({"p-1": {"emb": {"1": 0.5, "7": 2.0}, "n": 1}, "42": {"emb": {"7": 1.0}}, "none": {"n": 2}})
    adapter = place.connect()
    assert adapter.info().dimension is None
    (hits,) = adapter.search(rows({7: 2.0}), 10, with_payloads=True)
    assert (hits.ids, hits.scores.tolist(), hits.payloads) == (("p-1", "42"), [4.0, 2.0], ({"n": 1}, {}))
    adapter.upsert(["p-1"], rows({7: 0.5}))
    assert found(adapter, {1: 1.0}) == ()
    assert found(adapter, {7: 1.0}) == ("42", "p-1")
    documents = adapter.fetch(["p-1"])
    assert (documents.vectors[0].to_dict(), documents.payloads) == ({7: 0.5}, ({"n": 1},))
    with pytest.raises(CollectionError, match="made by others"):
        adapter.drop()


def test_an_alias_of_several_indices_is_read_and_not_written_to(place: Place) -> None:
    place.make({})
    place.put({"a": {"n": 1}})
    place.http("PUT", f"_alias/{place.index}-alias")
    alias = Place(place.engine_url, f"{place.index}-alias")
    adapter = alias.connect()
    adapter.create(DIMENSION)
    adapter.upsert(["a"], rows({1: 1.0}))
    assert found(place.connect(), {1: 1.0}) == ("a",)

    second = Place(place.engine_url, f"{place.index}-2")
    second.make({})
    second.put({"b": {"n": 2}})
    place.root("PUT", f"{second.index}/_alias/{alias.index}")
    with pytest.raises(CollectionError, match=f"{second.index}.* have no field"):
        alias.connect().count()
    of_second = second.connect()
    of_second.create(DIMENSION)
    of_second.upsert(["b"], rows({1: 2.0}))
    assert found(alias.connect(), {1: 1.0}) == ("b", "a")
    assert found(alias.connect(), {1: 1.0}, where={"n": {"lt": 2}}) == ("a",)
    with pytest.raises(CollectionError, match="write index"):
        alias.connect().upsert(["a"], rows({1: 3.0}))

    place.root(
        "POST",
        "_aliases",
        {"actions": [{"add": {"index": second.index, "alias": alias.index, "is_write_index": True}}]},
    )
    report = alias.connect().upsert(["a", "b"], rows({1: 3.0}, {1: 4.0}))
    assert (report.written, report.failed["a"].kind) == (("b",), "missing")
    with pytest.raises(CollectionError, match="twice"):
        alias.connect().upsert(["a"], rows({1: 3.0}), missing="create")


# ---- what is refused, and when


def test_a_strict_mapping_gets_the_field_and_refuses_unknown_payload_with_its_reason(place: Place) -> None:
    place.make({"n": {"type": "long"}}, dynamic="strict")
    adapter = place.connect()
    adapter.create(DIMENSION)
    payloads: list[dict[str, Any]] = [{"n": 1}, {"m": 1}, {"n": "many"}]
    report = adapter.upsert([1, 2, 3], rows({1: 1.0}, {1: 1.0}, {1: 1.0}), payloads, missing="create")
    assert report.written == (1,)
    assert "strict_dynamic_mapping_exception" in report.failed[2].reason
    assert "failed to parse field [n]" in report.failed[3].reason
    assert not any(failure.retryable for failure in report.failed.values())
    assert adapter.count() == 1


def test_a_refused_rewrite_leaves_the_document_as_it_was(place: Place) -> None:
    place.make({"n": {"type": "long"}})
    adapter = place.connect()
    adapter.create(DIMENSION)
    adapter.upsert([1], rows({1: 1.0}), [{"o": {"x": 1}, "n": 1}], missing="create")
    payloads: list[dict[str, Any]] = [{"o": {"y": 1}, "n": "many"}, {"o": {}}]
    report = adapter.upsert([1, 2], rows({2: 1.0}, {2: 1.0}), payloads, missing="create")
    assert (list(report.failed), report.written) == ([1], (2,))
    assert adapter.fetch([1, 2]).payloads == ({"o": {"x": 1}, "n": 1}, {"o": {}})
    assert found(adapter, {1: 1.0}) == ("1",)


def test_one_refused_document_among_many_is_reported_and_the_others_are_written(place: Place) -> None:
    adapter = place.connect()
    adapter.create(DIMENSION)
    documents = rows({1: 1.0}, {1: -1.0}, {1: 1e-40}, {2: 3e38}, {3: 1.2e-38})
    report = adapter.upsert(["fine", "negative", "subnormal", "largest", "int:7"], documents)
    assert report.written == ("fine", "largest")
    assert {id_: failure.retryable for id_, failure in report.failed.items()} == dict.fromkeys(
        ["negative", "subnormal", "int:7"], False
    )
    assert adapter.stored(adapter.fetch(["largest"]).vectors) == adapter.stored(documents[3:4])


@pytest.mark.parametrize("block", ["read_only_allow_delete", "read_only", "write"])
def test_a_read_only_index_says_so_before_anything_is_sent(place: Place, block: str) -> None:
    adapter = place.connect()
    adapter.create(DIMENSION)
    adapter.upsert([1], rows({1: 1.0}))
    place.http("PUT", "_settings", {f"index.blocks.{block}": True})
    with pytest.raises(CollectionError, match=block):
        adapter.upsert([2], rows({1: 1.0}))
    assert found(adapter, {1: 1.0}) == (1,)
    place.http("PUT", "_settings", {f"index.blocks.{block}": None})
    assert adapter.upsert([2], rows({1: 1.0})).written == (2,)


def test_an_index_without_source_is_searched_and_not_written(place: Place) -> None:
    place.make({"emb": {"type": place.vector_type}}, _source={"enabled": False})
    place.put({"a": {"emb": {"1": 2.0}}})
    adapter = place.connect()
    assert found(adapter, {1: 1.0}) == ("a",)
    with pytest.raises(BackendUnsupported, match="_source"):
        adapter.upsert([1], rows({1: 1.0}))
    with pytest.raises(BackendUnsupported, match="_source"):
        adapter.fetch(["a"])
    with pytest.raises(BackendUnsupported, match="_source"):
        found(adapter, {1: 1.0}, where={"n": 1})


def test_a_field_of_another_type_is_refused(place: Place) -> None:
    place.make({"emb": {"type": "keyword"}})
    with pytest.raises(BackendUnsupported, match="of type keyword"):
        place.connect().create(DIMENSION)
    with pytest.raises(BackendUnsupported, match="of type keyword"):
        found(place.connect(), {1: 1.0})


@pytest.mark.parametrize("index", ["", "a*", "a,b", "_all", "Upper", "-a", "a/b"])
def test_only_one_index_can_be_named(place: Place, index: str) -> None:
    with pytest.raises(InvalidInput, match="name one index"):
        Place(place.engine_url, index).connect()


@pytest.mark.parametrize("options", ["field=", "field=a.b", "field=_id", "shards=x", "fields=emb"])
def test_options_that_nobody_could_follow_are_refused(place: Place, options: str) -> None:
    with pytest.raises(InvalidInput):
        place.connect(options)


def test_negative_query_weights_are_refused(place: Place) -> None:
    adapter = place.connect()
    adapter.create(DIMENSION)
    with pytest.raises(OutOfLimits, match="negative"):
        adapter.search(rows({1: -1.0}), 1)


# ---- writers and readers side by side


def test_another_adapter_sees_what_was_reported_before_it_was_made(place: Place) -> None:
    place.make({}, {"index.refresh_interval": "-1"})
    adapter = place.connect()
    adapter.create(DIMENSION)
    adapter.upsert([1], rows({1: 1.0}), missing="create")
    assert found(place.connect(), {1: 1.0}) == ("1",)
    adapter.upsert([2], rows({1: 1.0}), missing="create")
    assert place.connect().count() == 2


def test_writers_that_meet_a_new_field_of_several_types_at_once_lose_nothing(place: Place) -> None:
    adapter = place.connect("field=emb&shards=5&replicas=0")
    adapter.create(DIMENSION)
    values: list[Any] = [1, "x", True, 2.5, {"deep": 1}, [1, "x"], {"deep": "x"}, None]

    def write(worker: int) -> dict[Any, Any]:
        ids = [f"{worker}-{i}" for i in range(8)]
        payloads = [{f"f{i}": values[(i + worker) % 8], "same": values[(i * worker) % 8]} for i in range(8)]
        return dict(adapter.upsert(ids, rows(*({1: 1.0} for _ in ids)), payloads).failed)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, range(8))) == [{}] * 8
    assert adapter.count() == 64


def test_payloads_come_back_as_they_went_in(place: Place) -> None:
    payloads: list[dict[str, Any]] = [
        {"o": {"x": {"y": [1, {"z": None}]}}, "l": [{"a": 1}, "b", [2]]},
        {"o": "scalar", "l": {"a": 1}, "long": "x" * 40_000},
        {"o": [{"x": 1}], "l": [], "n": 2**62, "empty": {}, "day": "2026-01-01", "text": "true"},
        {"o": {}, "n": -0.1, "day": 5, "emoji 🙂": ["🙂"]},
    ]
    adapter = place.connect()
    adapter.create(DIMENSION)
    for _ in range(2):
        assert adapter.upsert(range(4), rows(*({1: 1.0} for _ in payloads)), payloads).failed == {}
        documents: Documents = adapter.fetch(range(4))
        assert documents.payloads == tuple(payloads)
    assert found(adapter, {1: 1.0}, where={"long": "x" * 40_000}) == (1,)
    assert found(adapter, {1: 1.0}, where={"n": 2**62}) == (2,)
    assert found(adapter, {1: 1.0}, where={"n": 2**62 + 1}) == ()


# ---- residual codes, and the weights packed beside them

WIDTH = 7


def coded(place: Place, *documents: dict[int, float], options: str = "field=emb&replicas=0") -> Any:
    """A collection of these, and codes that tell them apart."""
    adapter = place.connect(options)
    adapter.create(DIMENSION, code_bytes=WIDTH)
    adapter.upsert(range(len(documents)), rows(*documents), codes=codes_of(range(len(documents))))
    return adapter


def codes_of(ids: Iterable[int]) -> UInt8s:
    return np.array([[id_] * WIDTH for id_ in ids], np.uint8)


def check_brought(adapter: Any, **documents: dict[int, float]) -> None:
    """That a search brings these documents, which all have dimension 1, with their weights and codes."""
    (hits,) = adapter.search(rows({1: 1.0, 2: 0.5}), k=10, with_vectors=True, with_codes=True)
    assert {f"_{id_}" for id_ in hits.ids} == documents.keys()
    assert hits.vectors == weights.stored(rows(*(documents[f"_{id_}"] for id_ in hits.ids)))
    assert np.array_equal(hits.codes, codes_of(hits.ids))


def test_weights_that_something_else_wrote_are_brought_as_they_are_now(place: Place) -> None:
    adapter = coded(place, {1: 0.5}, {1: 0.3, 2: 1.0})
    place.http("POST", "_update/int:0?refresh=true", {"doc": {"emb": [{"1": 2.0, "3": 1.0}]}})
    check_brought(adapter, _0={1: 2.0, 3: 1.0}, _1={1: 0.3, 2: 1.0})


def test_documents_that_are_longer_than_those_before_are_brought_whole(place: Place) -> None:
    long = {at: 1 + at / 100 for at in range(1, 90)}
    adapter = coded(place, {1: 0.5}, {1: 0.3, 2: 1.0})
    check_brought(adapter, _0={1: 0.5}, _1={1: 0.3, 2: 1.0})
    adapter.upsert([1], rows(long), codes=codes_of([1]))
    check_brought(adapter, _0={1: 0.5}, _1=long)
    adapter.upsert([1], rows({1: 0.7}), codes=codes_of([1]))
    check_brought(adapter, _0={1: 0.5}, _1={1: 0.7})


def test_writers_that_begin_a_collection_at_once_pack_alike(place: Place) -> None:
    place.connect().create(DIMENSION, code_bytes=WIDTH)
    documents = {f"_{id_}": {at: 1 + at / 100 for at in range(1, 3 + 5 * id_)} for id_ in range(4)}

    def write(id_: int) -> dict[Any, Any]:
        return dict(place.connect().upsert([id_], rows(documents[f"_{id_}"]), codes=codes_of([id_])).failed)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(4))) == [{}] * 4
    check_brought(place.connect(), **documents)


def test_a_collection_in_favour_of_bytes_packs_no_weights_and_answers_the_same(place: Place) -> None:
    documents = {1: 0.5}, {1: 0.3, 2: 1.0}
    adapter = coded(place, *documents, options="field=emb&replicas=0&favour=bytes")
    assert [name for name in place.http("GET", "_mapping")[place.index]["mappings"]["properties"] if "~" in name] == [
        "_sparsevec_emb~code"
    ]
    check_brought(adapter, _0=documents[0], _1=documents[1])
    another: Any = place.connect()  # what was chosen stands in the collection
    another.upsert([1], rows({1: 0.7}), codes=codes_of([1]))
    check_brought(another, _0=documents[0], _1={1: 0.7})
    (told,) = (finding for finding in another.check() if finding.subject == "codes")
    assert (told.level, "favour=bytes" in told.found) == ("warning", True)


def test_a_collection_of_an_earlier_version_is_read_written_and_told(place: Place) -> None:
    claim = Claim("emb", DIMENSION, "u", "index", None, "_sparsevec_emb", code_bytes=WIDTH)
    place.make({"emb": {"type": place.vector_type}, **claim.properties(vector_codes=False)})
    adapter: Any = place.connect()
    adapter.upsert([0, 1], rows({1: 0.5}, {1: 0.3, 2: 1.0}), codes=codes_of([0, 1]))
    check_brought(adapter, _0={1: 0.5}, _1={1: 0.3, 2: 1.0})
    (told,) = (finding for finding in adapter.check() if finding.subject == "codes")
    assert (told.level, "earlier sparsevec" in told.found) == ("warning", True)
    assert not any(finding.subject == "codes" for finding in place.connect("field=other&replicas=0").check())
