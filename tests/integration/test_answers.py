"""Final answers on the engines' own rankings: dense rows re-ranked on the server, and fusion with text and knn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from sparsevec.answers.fusion import reciprocal_rank_fusion, weighted_sum
from sparsevec.answers.retriever import AsyncRetriever, Retriever
from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.connect import aconnect, connect
from sparsevec.errors import BackendUnsupported, InvalidInput, OutOfLimits
from sparsevec.exact.verify import verify
from sparsevec.testing.conformance.answering import COLUMNS, dense, unlearned
from sparsevec.testing.http import ask
from tests.integration.lucene import place_at

N, WORDS = 80, ("red", "green", "blue")
ROWS, QUERIES = dense(N, seed=21), dense(5, seed=22)
TEXTS = [" ".join(WORDS[: row % 3 + 1]) for row in range(N)]


def lucene(base: str, mapping: dict[str, Any]) -> str:
    """An index as an application makes it, with dense rows and a text; its url with a field of ours."""
    index = f"answers-{uuid4().hex[:8]}"
    host, _, port = base.rpartition("//")[2].partition(":")

    def put(method: str, path: str, body: Any = None) -> Any:
        return ask(host, int(port), f"/{index}{path}", body, method=method, timeout=60)

    put("PUT", "", {"mappings": {"properties": {"emb": mapping, "text": {"type": "text"}}}})
    for row, (numbers, text) in enumerate(zip(ROWS, TEXTS, strict=True)):
        put(
            "PUT", f"/_doc/{row}?refresh={'true' if row == N - 1 else 'false'}", {"emb": numbers.tolist(), "text": text}
        )
    return f"{base}/{index}?field=sparse"


def removed(url: str) -> None:
    """The index, which is not ours to `drop`."""
    place = url.partition("://")[2].partition("?")[0]
    host, _, port = place.partition("/")[0].partition(":")
    ask(host, int(port), f"/{place.partition('/')[2]}", method="DELETE", timeout=60)


def filled(adapter: Adapter) -> Adapter:
    vectors = unlearned().encode_document(ROWS)
    adapter.create(vectors.dimension, fingerprint=vectors.fingerprint)
    assert adapter.upsert([str(row) for row in range(N)], vectors).failed == {}
    return adapter


DENSE_VECTOR = {"type": "dense_vector", "dims": COLUMNS, "index": True, "similarity": "cosine"}


@pytest.fixture(params=["int8_hnsw", "hnsw"])
def elastic(request: pytest.FixtureRequest, engine_url: Any) -> Iterator[str]:
    mapping = {**DENSE_VECTOR, "index_options": {"type": request.param}}
    url = lucene(engine_url("elasticsearch9"), mapping)
    with connect(url) as adapter:
        yield url
        adapter.drop()
    removed(url)


@pytest.fixture
def opensearch(engine_url: Any) -> Iterator[str]:
    url = lucene(engine_url("opensearch3"), {"type": "float"})
    with connect(url) as adapter:
        yield url
        adapter.drop()
    removed(url)


@pytest.fixture
def qdrant(engine_url: Any) -> Iterator[str]:
    base, name = engine_url("qdrant"), f"answers-{uuid4().hex[:8]}"
    host, _, port = base.rpartition("//")[2].partition(":")

    def put(path: str, body: Any, method: str = "PUT") -> Any:
        return ask(host, int(port), f"/collections/{name}{path}", body, method=method, timeout=60)

    put("", {"vectors": {"emb": {"size": COLUMNS, "distance": "Cosine"}, "far": {"size": 3, "distance": "Euclid"}}})
    points = [{"id": row, "vector": {"emb": numbers.tolist()}, "payload": {}} for row, numbers in enumerate(ROWS)]
    put("/points?wait=true", {"points": points})
    yield f"{base}/{name}"
    put("", None, "DELETE")


@pytest.mark.elasticsearch
def test_elasticsearch_picks_the_nearest_candidates_and_the_answers_are_the_exact_ones(elastic: str) -> None:
    with connect(elastic) as adapter:
        retriever = Retriever(unlearned(), filled(adapter), rerank="dense", dense_field="emb", candidates=60)
        report = verify(retriever, ROWS, QUERIES, 5, ids=range(N))
        assert report.require_exact().queries == len(QUERIES)
        assert retriever._ranking.way.on_server  # type: ignore[union-attr]


@pytest.mark.elasticsearch
def test_text_and_dense_rankings_of_elasticsearch_are_fused_as_by_hand(elastic: str) -> None:
    with connect(elastic) as adapter:
        retriever = Retriever(unlearned(), filled(adapter), candidates=30)
        own: Any = adapter
        rankings = [
            *retriever.search(QUERIES[0], 30),
            *own.by_text(["blue"], 30, field="text"),
            *own.nearest(QUERIES[:1], 30, dense="emb"),
        ]
        assert len(rankings[1]) == N // 3
        found = retriever.fuse(QUERIES[0], 7, text={"text": "blue"}, dense="emb", depth=30)
        assert found == reciprocal_rank_fusion(rankings, 7)
        found = retriever.fuse(QUERIES[0], 7, text={"text": "blue"}, by="scores", weights=[1, 3], depth=30)
        assert found == weighted_sum(rankings[:2], 7, weights=[1, 3])
        with pytest.raises(InvalidInput, match="'txet' is not there"):
            retriever.fuse(QUERIES[0], 7, text={"txet": "blue"})
        with pytest.raises(InvalidInput, match="'emb' is of type dense_vector"):
            retriever.fuse(QUERIES[0], 7, text={"emb": "blue"})
        with pytest.raises(OutOfLimits, match="max_result_window"):
            retriever.fuse(QUERIES[0], 7, text={"text": "blue"}, depth=20_000)


@pytest.mark.elasticsearch
def test_words_in_nested_objects_are_refused_unless_they_are_the_documents_own_too(engine_url: Any) -> None:
    texts = {"properties": {"text": {"type": "text"}}, "type": "nested"}
    with place_at(engine_url("elasticsearch9")) as place:
        place.make({"apart": texts, "shared": {**texts, "include_in_root": True}})
        place.put({"0": {"apart": [{"text": "red"}], "shared": [{"text": "red"}]}})
        with place.connect() as adapter:
            adapter.create(unlearned().output_dim, fingerprint=unlearned().fingerprint)
            assert Retriever(unlearned(), adapter).add(["0"], ROWS[:1]).written == 1
            own: Any = adapter
            assert own.by_text(["red"], 5, field="shared.text")[0].ids == ("0",)
            with pytest.raises(InvalidInput, match=r"'apart\.text' lies in nested objects"):
                own.by_text(["red"], 5, field="apart.text")


@pytest.mark.elasticsearch
def test_dense_neighbours_behind_a_filter_that_the_server_does_not_decide_are_all_found(engine_url: Any) -> None:
    rows = dense(300, seed=23)
    farthest = [int(row) for row in np.argsort(rows @ QUERIES[0] / np.linalg.norm(rows, axis=1))[:5]]
    with place_at(engine_url("elasticsearch9")) as place, place.connect() as adapter:
        adapter.create(unlearned().output_dim, fingerprint=unlearned().fingerprint)
        place.http("PUT", "_mapping", {"properties": {"row": {**DENSE_VECTOR, "dims": COLUMNS}}})
        retriever = Retriever(unlearned(), adapter, rerank=None)
        payloads = [{"n": n, "row": row.tolist()} for n, row in enumerate(rows)]
        assert retriever.add(range(300), rows, payloads).written == 300
        own: Any = adapter
        where: Any = {"n": {"not": sorted(set(range(300)) - set(farthest))}}
        (found,) = own.nearest(QUERIES[:1], 5, dense="row", where=where)
        assert found.ids == tuple(reversed(farthest))
        assert len(retriever.fuse(QUERIES[0], 5, dense="row", where=where)) == 5


@pytest.mark.elasticsearch
@pytest.mark.parametrize(
    ("mapping", "said"),
    [({"dims": 3}, "3 columns, expected the 12"), ({"similarity": "l2_norm"}, "compared by l2_norm")],
)
def test_a_dense_field_that_ranks_otherwise_is_refused_before_the_search(
    engine_url: Any, mapping: dict[str, Any], said: str
) -> None:
    index = f"answers-{uuid4().hex[:8]}"
    base = engine_url("elasticsearch9")
    host, _, port = base.rpartition("//")[2].partition(":")
    body = {"mappings": {"properties": {"emb": {**DENSE_VECTOR, **mapping}}}}
    ask(host, int(port), f"/{index}", body, method="PUT", timeout=60)
    with connect(f"{base}/{index}?field=sparse") as adapter:
        adapter.create(unlearned().output_dim)
        with pytest.raises(InvalidInput, match=said):
            Retriever(unlearned(), adapter, rerank="dense", dense_field="emb").search(QUERIES)
        adapter.drop()
    removed(f"{base}/{index}")


@pytest.mark.opensearch
def test_where_the_engine_has_no_dense_index_rows_are_read_from_documents(opensearch: str) -> None:
    with connect(opensearch) as adapter:
        retriever = Retriever(unlearned(), filled(adapter), rerank="dense", dense_field="emb", candidates=60)
        verify(retriever, ROWS, QUERIES, 5, ids=range(N)).require_exact()
        assert len(retriever.fuse(QUERIES[0], 5, text={"text": "green"})) == 5
        with pytest.raises(BackendUnsupported, match="dense neighbours"):
            retriever.fuse(QUERIES[0], 5, dense="emb")


@pytest.mark.opensearch
def test_more_words_than_the_server_ranks_by_are_named_as_a_limit(opensearch: str) -> None:
    with connect(opensearch) as adapter:
        retriever = Retriever(unlearned(), filled(adapter))
        with pytest.raises(OutOfLimits, match="give fewer words"):
            retriever.fuse(QUERIES[0], 5, text={"text": "green " * 3000})


@pytest.mark.qdrant
def test_qdrant_picks_the_nearest_candidates_and_fuses_its_dense_ranking(qdrant: str) -> None:
    with connect(qdrant) as adapter:
        vectors = unlearned().encode_document(ROWS)
        adapter.create(vectors.dimension, fingerprint=vectors.fingerprint)
        adapter.upsert(range(N), vectors)
        retriever = Retriever(unlearned(), adapter, rerank="dense", dense_field="emb", candidates=60)
        verify(retriever, ROWS, QUERIES, 5, ids=range(N)).require_exact()
        own: Any = adapter
        by_hand = [*retriever.search(QUERIES[0], 60), *own.nearest(QUERIES[:1], 60, dense="emb")]
        assert retriever.fuse(QUERIES[0], 5, dense="emb", depth=60) == reciprocal_rank_fusion(by_hand, 5)
        with pytest.raises(BackendUnsupported, match="does not rank by it"):
            retriever.fuse(QUERIES[0], 5, text={"text": "green"})
        with pytest.raises(InvalidInput, match="3 columns"):
            Retriever(unlearned(), adapter, rerank="dense", dense_field="far").search(QUERIES)


@pytest.mark.qdrant
@pytest.mark.parametrize("distance", list(models.Distance))
def test_the_nearest_has_the_highest_score_whatever_qdrant_compares_by(distance: models.Distance) -> None:
    client = QdrantClient(":memory:")
    client.create_collection("answers", {"emb": models.VectorParams(size=COLUMNS, distance=distance)})
    client.upsert("answers", [models.PointStruct(id=row, vector={"emb": ROWS[row].tolist()}) for row in range(N)])
    difference, products = ROWS - QUERIES[0], ROWS @ QUERIES[0]
    lengths = np.linalg.norm(ROWS, axis=1) * np.linalg.norm(QUERIES[0])
    expected = {
        "Cosine": products / lengths,
        "Dot": products,
        "Euclid": -np.linalg.norm(difference, axis=1),
        "Manhattan": -np.abs(difference).sum(axis=1),
    }[distance.value]
    with connect(client, collection="answers", vector_name="sparse") as adapter:
        vectors = unlearned().encode_document(ROWS)
        adapter.create(vectors.dimension, fingerprint=vectors.fingerprint)
        adapter.upsert(range(N), vectors)
        own: Any = adapter
        (hits,) = own.nearest(QUERIES[:1], N, dense="emb")
        assert hits.scores == pytest.approx(expected[list(hits.ids)], abs=1e-5)
        assert hits.scores == pytest.approx(np.sort(expected)[::-1], abs=1e-5)
        fused = Retriever(unlearned(), adapter).fuse(QUERIES[0], 5, dense="emb", by="scores", weights=[0, 1], depth=N)
        assert fused.ids == hits.ids[:5]
    client.close()


@pytest.mark.qdrant
def test_rows_of_any_length_in_a_field_of_dot_products_are_ranked_by_the_cosine_of_the_encoder() -> None:
    client, lengths = QdrantClient(":memory:"), np.linspace(0.2, 5, N, dtype=np.float32)[:, None]
    client.create_collection("answers", {"emb": models.VectorParams(size=COLUMNS, distance=models.Distance.DOT)})
    longer = ROWS * lengths
    client.upsert("answers", [models.PointStruct(id=row, vector={"emb": longer[row].tolist()}) for row in range(N)])
    with connect(client, collection="answers", vector_name="sparse") as adapter:
        vectors = unlearned().encode_document(ROWS)
        adapter.create(vectors.dimension, fingerprint=vectors.fingerprint)
        adapter.upsert(range(N), vectors)
        retriever = Retriever(unlearned(), adapter, rerank="dense", dense_field="emb", candidates=N)
        found = retriever.search(QUERIES, 5)
        among = [hits.ids for hits in adapter.search(unlearned().encode_query(QUERIES), N)]
    client.close()
    cosines = QUERIES @ ROWS.T / np.linalg.norm(ROWS, axis=1)
    for hits, candidates, due in zip(found, among, cosines, strict=True):
        assert list(hits.ids) == sorted(candidates, key=lambda id_: -due[int(id_)])[:5]


@pytest.mark.elasticsearch
def test_asyncio_re_ranks_on_the_server_and_fuses_alike(elastic: str) -> None:
    with connect(elastic) as adapter:
        retriever = Retriever(unlearned(), filled(adapter), rerank="dense", dense_field="emb", candidates=60)
        expected = retriever.search(QUERIES, 5)
        fused = retriever.fuse(QUERIES[0], 5, text={"text": "blue"})

    async def search() -> tuple[list[Hits], Hits]:
        async with AsyncRetriever(
            unlearned(), await aconnect(elastic), rerank="dense", dense_field="emb", candidates=60
        ) as again:
            return await again.search(QUERIES, 5), await again.fuse(QUERIES[0], 5, text={"text": "blue"})

    assert asyncio.run(search()) == (expected, fused)


def test_a_fusion_without_another_ranking_is_refused_in_words() -> None:
    with connect("reference:") as adapter:
        retriever = Retriever(unlearned(), filled(adapter))
        with pytest.raises(BackendUnsupported, match="reciprocal_rank_fusion"):
            retriever.fuse(np.ones(COLUMNS), text={"text": "blue"})
        with pytest.raises(InvalidInput, match="expected text= or dense="):
            retriever.fuse(np.ones(COLUMNS))
