"""What is Qdrant's own: collections of others, versions, limits, rounding. Over loopback, and on a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from sparsevec_adapters.qdrant import QdrantAdapter

import sparsevec as sv
from benchmarks import backfill
from sparsevec.contract.adapter import Adapter
from sparsevec.errors import (
    AdapterNotFound,
    BackendDown,
    BackendUnsupported,
    CollectionError,
    InvalidInput,
    OutOfLimits,
)
from sparsevec.exact.reference import Reference
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.documents import ask, corpus, fill, rows
from sparsevec.vectors import SparseVectors
from tests.integration.qdrant_shim import QdrantShim

UUID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


@dataclass
class Server:
    """`optimise` returns when the indexes are as they will be."""

    url: str
    client: QdrantClient
    collection: str
    optimise: Callable[[], None]

    def connect(self) -> Adapter:
        return sv.connect(f"{self.url}/{self.collection}")


def wait_until_green(client: QdrantClient, collection: str) -> None:
    deadline = time.monotonic() + 60
    while client.get_collection(collection).status != models.CollectionStatus.GREEN:
        assert time.monotonic() < deadline, "the optimizer did not finish"
        time.sleep(0.1)


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[QdrantShim]:
    with QdrantShim(tmp_path) as shim:
        yield shim


@pytest.fixture(params=["loopback", "server"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    collection = f"sparsevec-{uuid4().hex[:8]}"
    if request.param == "loopback":
        shim: QdrantShim = request.getfixturevalue("shim")
        url = f"qdrant://127.0.0.1:{shim.port}"
        optimise: Callable[[], Any] = lambda: shim.collections[collection].shard.optimize()  # noqa: E731
    else:
        url = request.getfixturevalue("qdrant_url")
        optimise = lambda: wait_until_green(client, collection)  # noqa: E731
    client = QdrantClient(url=url.replace("qdrant", "http", 1), check_compatibility=False, timeout=30)
    yield Server(url, client, collection, optimise)
    client.delete_collection(collection)
    client.close()


def others_made(server: Server, **sparse: models.SparseVectorParams) -> None:
    """A collection with two dense points, one under an int and one under a UUID."""
    server.client.create_collection(
        server.collection,
        vectors_config={"dense": models.VectorParams(size=2, distance=models.Distance.DOT)},
        sparse_vectors_config=sparse or None,
    )
    points = [
        models.PointStruct(id=1, vector={"dense": [1.0, 2.0]}, payload={"title": "one"}),
        models.PointStruct(id=UUID, vector={"dense": [3.0, 4.0]}, payload={"title": "two", "tags": ["x"]}),
    ]
    server.client.upsert(server.collection, points, wait=True)


def dense_of(server: Server) -> dict[Any, Any]:
    found = server.client.retrieve(server.collection, [1, UUID], with_payload=True, with_vectors=["dense"])
    return {record.id: (record.vector, record.payload) for record in found}


# ---- collections of others


def test_a_vector_is_added_beside_what_others_made_and_taken_off_again(server: Server) -> None:
    others_made(server)
    before = dense_of(server)
    adapter = server.connect()
    assert (adapter.info().exists, adapter.info().ours, adapter.info().dimension) == (False, False, None)
    adapter.create(1000)
    assert adapter.count() == 0
    report = adapter.upsert([1, UUID, "new"], rows({1: 1.0}, {1: 2.0}, {1: 3.0}), [{}, {"extra": True}, {}])
    assert (report.written, report.failed["new"].kind) == ((1, UUID), "missing")
    assert ask(adapter, {1: 1.0}).ids == (UUID, 1)
    assert adapter.fetch([UUID]).payloads == ({"title": "two", "tags": ["x"], "extra": True},)
    adapter.delete([1, "nobody"])
    assert (adapter.count(), ask(adapter, {1: 1.0}).ids) == (1, (UUID,))
    adapter.close()
    another = server.connect()
    another.drop()
    another.close()
    after = dense_of(server)
    assert after[1] == before[1]
    assert after[UUID][0] == before[UUID][0]
    assert "sparse" not in (server.client.get_collection(server.collection).config.params.sparse_vectors or {})
    assert server.client.count(server.collection).count == 2


def test_a_vector_that_others_made_is_searched_and_written_and_never_dropped(server: Server) -> None:
    others_made(server, sparse=models.SparseVectorParams())
    adapter = server.connect()
    adapter.upsert([1, "mine"], rows({1: 1.0}, {1: 2.0}), missing="create")
    assert ask(adapter, {1: 1.0}).ids == ("mine", 1)
    with pytest.raises(CollectionError, match="already"):
        adapter.create(1000)
    with pytest.raises(CollectionError, match="were not made here"):
        adapter.drop()
    adapter.close()
    assert dense_of(server)[1] == ({"dense": [1.0, 2.0]}, {"title": "one"})


@pytest.mark.parametrize(
    ("server", "name"), [("loopback", "dense"), ("server", "dense"), ("server", "")], indirect=["server"]
)
def test_a_document_that_loses_its_weights_keeps_all_that_others_gave_it(server: Server, name: str) -> None:
    """Over REST a server refuses to update a vector to an empty one; nothing else of the point is sent again for it."""
    dense = models.VectorParams(size=2, distance=models.Distance.DOT)
    server.client.create_collection(
        server.collection,
        vectors_config={name: dense} if name else dense,
        sparse_vectors_config={"sparse": models.SparseVectorParams()},
    )
    theirs: Any = {name: [0.5, 0.25]} if name else [0.5, 0.25]
    points = [models.PointStruct(id=i, vector=theirs, payload={"title": "theirs"}) for i in (1, 2)]
    server.client.upsert(server.collection, points, wait=True)
    adapter = server.connect()
    adapter.upsert([1], rows({1: 1.0}))
    adapter.upsert([1, 2], rows({}, {}), [{}, {"extra": True}])
    assert (ask(adapter, {1: 1.0}).ids, adapter.count()) == ((), 2)
    adapter.close()
    kept = server.client.retrieve(server.collection, [1, 2], with_payload=True, with_vectors=[name])
    assert [record.vector for record in kept] == [theirs, theirs]
    assert [record.payload for record in kept] == [{"title": "theirs"}, {"title": "theirs", "extra": True}]


def test_dropping_from_a_collection_without_our_vector_leaves_it_alone(server: Server) -> None:
    others_made(server)
    before = dense_of(server)
    adapter = server.connect()
    adapter.drop()
    adapter.close()
    assert dense_of(server) == before


def test_a_collection_of_ours_is_known_as_ours_by_another_process(server: Server) -> None:
    first = server.connect()
    first.create(77)
    first.close()
    second = server.connect()
    assert second.info().dimension == 77
    second.drop()
    second.close()
    assert not server.client.collection_exists(server.collection)


def test_a_vector_whose_scores_are_multiplied_by_idf_is_refused(server: Server) -> None:
    others_made(server, sparse=models.SparseVectorParams(modifier=models.Modifier.IDF))
    adapter = server.connect()
    with pytest.raises(BackendUnsupported, match="modifier 'idf'"):
        adapter.search(rows({1: 1.0}), 1)
    adapter.close()


def test_the_name_of_a_dense_vector_is_taken(server: Server) -> None:
    others_made(server)
    adapter = sv.connect(f"{server.url}/{server.collection}?vector_name=dense")
    with pytest.raises(CollectionError, match="already"):
        adapter.create(1000)
    adapter.close()


def test_a_collection_dropped_by_somebody_else_is_missed_and_can_be_made_again(server: Server) -> None:
    adapter = server.connect()
    adapter.create(1000)
    server.client.delete_collection(server.collection)
    with pytest.raises(CollectionError):
        adapter.upsert([1], rows({1: 1.0}))
    adapter.create(1000)
    assert adapter.upsert([1], rows({1: 1.0})).written == (1,)
    adapter.close()


# ---- rounding


@pytest.mark.parametrize(
    ("datatype", "rounds"),
    [(models.Datatype.FLOAT32, False), (models.Datatype.FLOAT16, True), (models.Datatype.UINT8, True)],
)
def test_an_index_is_exact_within_the_rounding_it_states(server: Server, datatype: Any, rounds: bool) -> None:
    params = models.SparseVectorParams(index=models.SparseIndexParams(datatype=datatype))
    server.client.create_collection(
        server.collection,
        vectors_config={},
        sparse_vectors_config={"sparse": params},
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1),
    )
    documents, queries = corpus(3000, nnz=40), corpus(50, seed=1, nnz=20)
    judge = Reference()
    fill(judge, range(3000), documents)
    adapter = server.connect()
    adapter.upsert(range(3000), documents, missing="create")
    verify(adapter, documents, queries).require_exact()
    server.optimise()
    verify(adapter, documents, queries).require_exact()
    best = [hits.scores[0] for hits in adapter.search(queries, 1)]
    exact = [hits.scores[0] for hits in judge.search(queries, 1)]
    assert np.allclose(best, exact, rtol=1e-6) != rounds  # the rounding did take place
    adapter.close()


def test_float16_and_uint8_slack_is_what_half_and_255_steps_make_of_a_weight(shim: QdrantShim) -> None:
    vectors = SparseVectors.from_rows([{0: 0.5, 1: 1.0}, {0: 0.1, 1: 1.0}, {0: 1000.0}], dimension=2)
    slack = {}
    for datatype in (models.Datatype.FLOAT16, models.Datatype.UINT8):
        client = QdrantClient(url=shim.url, check_compatibility=False)
        params = models.SparseVectorParams(index=models.SparseIndexParams(datatype=datatype))
        client.create_collection(datatype.value, vectors_config={}, sparse_vectors_config={"sparse": params})
        slack[datatype.value] = QdrantAdapter.from_client(client, collection=datatype.value).slack(vectors)
        client.close()
    half = abs(np.float32(0.1) - np.float32(np.float16(0.1)))
    assert slack["float16"].tolist() == [0, 0, half, 0, 0]
    assert slack["uint8"][[1, 3]].tolist() == [0, 0]
    assert slack["uint8"][[0, 2, 4]] == pytest.approx((1000 - 0.1) / 510, rel=1e-3)


def test_a_weight_that_float16_cannot_hold_is_reported_and_the_others_are_written(server: Server) -> None:
    params = models.SparseVectorParams(index=models.SparseIndexParams(datatype=models.Datatype.FLOAT16))
    server.client.create_collection(server.collection, vectors_config={}, sparse_vectors_config={"sparse": params})
    adapter = server.connect()
    report = adapter.upsert([1, 2], rows({1: 1.0}, {1: 70000.0}), missing="create")
    assert report.written == (1,)
    assert "65504" in report.failed[2].reason
    assert adapter.count() == 1
    adapter.close()


# ---- limits


def test_a_request_over_the_limit_is_never_sent_and_a_document_over_it_is_reported(server: Server) -> None:
    adapter = QdrantAdapter.from_client(server.client, collection=server.collection)
    adapter.create(1000)
    narrow = QdrantAdapter(server.client, collection=server.collection, max_request_bytes=20_000)
    with pytest.raises(OutOfLimits) as refused:
        narrow.upsert(range(100), corpus(100, nnz=50))
    assert refused.value.splittable
    assert adapter.count() == 0
    report = narrow.upsert([1, "long"], rows({1: 1.0}, dict.fromkeys(range(900), 1.0)))
    assert (report.written, list(report.failed)) == ((1,), ["long"])


def test_a_k_beyond_what_there_is_asks_for_no_more_than_that(server: Server) -> None:
    adapter = server.connect()
    adapter.create(1000)
    adapter.upsert([1, 2], rows({1: 1.0}, {1: 2.0}))
    assert ask(adapter, {1: 1.0}, k=2**40).ids == (2, 1)
    adapter.close()


def test_many_queries_are_answered_in_order(server: Server) -> None:
    adapter = server.connect()
    adapter.create(1000)
    adapter.upsert(range(300), rows(*({i: 1.0} for i in range(300))))
    queries = rows(*({} if i % 7 == 0 else {299 - i: 1.0} for i in range(300)))
    answers = [hits.ids for hits in adapter.search(queries, 1)]
    assert answers == [() if i % 7 == 0 else (299 - i,) for i in range(300)]
    adapter.close()


def test_a_filter_that_float64_cannot_decide_is_refused(server: Server) -> None:
    adapter = server.connect()
    adapter.create(1000)
    with pytest.raises(OutOfLimits, match="exact below"):
        ask(adapter, {1: 1.0}, where={"n": {"gte": 2**53 + 1}})
    adapter.close()


# ---- versions


def test_before_1_18_the_advice_is_a_new_collection_and_an_alias(shim: QdrantShim) -> None:
    shim.version = "1.17.1"
    client = QdrantClient(url=shim.url, check_compatibility=False)
    dense = models.VectorParams(size=2, distance=models.Distance.DOT)
    client.create_collection("theirs", vectors_config={"dense": dense})
    with pytest.raises(BackendUnsupported, match=r"Qdrant 1\.17\.1 .* 1\.18 .* alias"):
        QdrantAdapter.from_client(client, collection="theirs").create(1000)
    client.close()


def test_before_1_16_no_collection_is_made(shim: QdrantShim) -> None:
    shim.version = "1.15.5"
    adapter = sv.connect(f"qdrant://127.0.0.1:{shim.port}/new")
    with pytest.raises(BackendUnsupported, match=r"1\.15\.5"):
        adapter.create(1000)
    adapter.close()
    assert not shim.collections


def test_the_name_tells_the_servers_version(shim: QdrantShim) -> None:
    shim.version = "1.18.3"
    adapter = sv.connect(f"qdrant://127.0.0.1:{shim.port}/new")
    assert adapter.info().backend == "qdrant 1.18.3"
    adapter.close()


# ---- connecting


def test_a_client_of_the_callers_stays_open(server: Server) -> None:
    adapter = sv.connect(server.client, collection=server.collection)
    adapter.create(10)
    adapter.close()
    assert server.client.collection_exists(server.collection)


@pytest.mark.parametrize(
    "url",
    ["qdrant://localhost:6333", "qdrant:", "qdrant://:6333/x", "qdrant+ftp://localhost/x", "qdrant://localhost/x?k=1"],
)
def test_a_url_that_says_too_little_or_too_much_is_refused(url: str) -> None:
    with pytest.raises((InvalidInput, AdapterNotFound)):
        sv.connect(url)


def test_a_benchmark_of_backfills_drops_what_a_killed_one_left(shim: QdrantShim) -> None:
    dense = backfill.dense_rows(100)
    encoder = sv.SparseEncoder(backfill.WIDTH, backfill.DIMENSION).fit(dense[:99], budget=sv.Budget(nnz=8))
    place = backfill.Qdrant(f"qdrant://127.0.0.1:{shim.port}", dense)
    place.make()
    found = backfill.round_of(place, encoder, encoder.encode_document(dense), 0)
    assert {backfill.OURS, backfill.READY, backfill.READY_4} <= set(found)


def test_an_unknown_keyword_argument_is_refused_without_its_value() -> None:
    with pytest.raises(InvalidInput) as refused:
        sv.connect("qdrant://localhost:6333/x", apikey="hush")
    assert "hush" not in str(refused.value)


def test_nobody_listening_is_a_backend_that_is_down() -> None:
    adapter = sv.connect("qdrant://127.0.0.1:1/x", timeout=1)
    with pytest.raises(BackendDown, match="no answer"):
        adapter.count()
    adapter.close()


def test_a_key_is_never_shown(shim: QdrantShim) -> None:
    with pytest.warns(UserWarning, match="insecure"):
        adapter = sv.connect(f"qdrant://127.0.0.1:{shim.port}/x", api_key="hush-hush")
    with pytest.raises(CollectionError) as refused:
        adapter.count()
    assert "hush-hush" not in f"{adapter!r} {refused.value!r} {refused.value.__cause__!r}"
    adapter.close()
