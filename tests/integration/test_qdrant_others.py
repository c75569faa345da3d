"""Other people's points: nothing of theirs is made, lost or changed, also while they write (C12 to C17)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from sparsevec_adapters.qdrant import QdrantAdapter
from sparsevec_adapters.qdrant_core.operations import QdrantOperations
from sparsevec_adapters.qdrant_core.requests import Request
from sparsevec_adapters.qdrant_core.wires import sync_wire

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.operations import SyncAdapter
from sparsevec.errors import BackendUnsupported, CollectionError, InvalidInput, WrongSpace
from sparsevec.testing.conformance.documents import ask, corpus, rows
from sparsevec.vectors import SparseVectors
from tests.integration.qdrant_grpc_shim import QdrantGrpcShim
from tests.integration.qdrant_shim import QdrantShim

pytestmark = pytest.mark.qdrant

HEX = [md5(f"text {i}".encode()).hexdigest() for i in range(3)]
Make = Callable[..., Adapter]


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[QdrantShim]:
    with QdrantShim(tmp_path) as shim:
        yield shim


@pytest.fixture(params=["memory", "rest", "grpc"])
def client(request: pytest.FixtureRequest, shim: QdrantShim) -> Iterator[QdrantClient]:
    """Of the application: a collection "kb" with dense points 0 to 9 and three hex UUIDs, and metadata of its own."""
    front = QdrantGrpcShim(shim)
    over: Any = {"prefer_grpc": True, "grpc_port": front.port} if request.param == "grpc" else {}
    options: dict[str, Any] = {"url": shim.url, "check_compatibility": False, **over}
    client = QdrantClient(":memory:") if request.param == "memory" else QdrantClient(**options)
    rest = client if request.param == "memory" else QdrantClient(url=shim.url, check_compatibility=False)
    rest.create_collection(
        "kb",
        vectors_config={"dense": models.VectorParams(size=2, distance=models.Distance.DOT)},
        metadata={"owner": {"team": "search"}},
    )
    ids = [*range(10), *HEX]
    points = [models.PointStruct(id=i, vector={"dense": [1.0, 2.0]}, payload={"title": f"t{i}"}) for i in ids]
    rest.upsert("kb", points, wait=True)
    yield client
    client.close()
    front.close()


def of(client: QdrantClient, collection: str = "kb", vector_name: str = "sparse") -> QdrantAdapter:
    return QdrantAdapter.from_client(client, collection=collection, vector_name=vector_name)


def held(client: QdrantClient) -> dict[Any, Any]:
    records, _ = client.scroll("kb", limit=100, with_payload=True, with_vectors=["dense"])
    return {record.id: (record.vector, record.payload) for record in records}


# ---- nothing is made


@pytest.mark.parametrize("missing", [None, "fail", "skip"])
def test_only_points_that_are_there_are_written_however_many_are_not(client: QdrantClient, missing: Any) -> None:
    before = held(client)
    adapter = of(client)
    adapter.create(1000)
    ids = [3, 77, "nobody", *HEX[:2], 78, 0, *range(100, 140)]
    written = adapter.upsert(ids, corpus(len(ids)), missing=missing)
    assert set(written.written) == {3, 0, *HEX[:2]}
    assert {*written.failed, *written.skipped} == {77, "nobody", 78, *range(100, 140)}
    assert {failure.kind for failure in written.failed.values()} == ({"missing"} if missing != "skip" else set())
    assert (held(client), adapter.count()) == (before, 4)


def test_told_to_create_it_makes_what_is_not_there_and_leaves_what_is(client: QdrantClient) -> None:
    before = held(client)
    adapter = of(client)
    adapter.create(1000)
    payloads = [{"n": 1}, {"n": 2}, {"n": None}]
    written = adapter.upsert([3, "new", 77], rows({1: 1.0}, {1: 2.0}, {}), payloads, missing="create")
    assert written.written == (3, "new", 77)
    assert adapter.fetch([3, "new", 77]).payloads == ({"title": "t3", "n": 1}, {"n": 2}, {})
    after = held(client)
    assert {id_: after[id_] for id_ in before if id_ != 3} == {id_: before[id_] for id_ in before if id_ != 3}
    assert after[3] == ({"dense": [1.0, 2.0]}, {"title": "t3", "n": 1})


def test_the_same_point_under_two_spellings_is_refused_before_anything_is_sent(client: QdrantClient) -> None:
    adapter = of(client)
    adapter.create(1000)
    with pytest.raises(InvalidInput, match="same point"):
        adapter.upsert([HEX[0], HEX[0].upper()], rows({1: 1.0}, {1: 2.0}))
    assert adapter.count() == 0


def test_hits_and_scans_give_others_ids_as_qdrant_spells_them(client: QdrantClient) -> None:
    adapter = of(client)
    adapter.create(1000)
    adapter.upsert(HEX, rows({1: 3.0}, {1: 2.0}, {1: 1.0}))
    spelled = [f"{i[:8]}-{i[8:12]}-{i[12:16]}-{i[16:20]}-{i[20:]}" for i in HEX]
    assert list(ask(adapter, {1: 1.0}).ids) == spelled
    assert adapter.fetch(HEX[::-1]).ids == tuple(HEX[::-1])
    assert set(spelled) <= {id_ for page in adapter.scan(size=4) for id_ in page.ids}


def test_below_1_17_nothing_is_made_in_others_collections_because_whole_points_would_be_written(
    shim: QdrantShim,
) -> None:
    client = QdrantClient(url=shim.url, check_compatibility=False)
    sparse = {"sparse": models.SparseVectorParams()}
    client.create_collection("old", vectors_config={}, sparse_vectors_config=sparse)
    shim.version = "1.16.3"
    adapter = of(client, "old")
    with pytest.raises(BackendUnsupported, match=r"1\.16\.3 .* 1\.17 is expected"):
        adapter.upsert([1], rows({1: 1.0}), missing="create")
    assert client.count("old").count == 0
    client.close()


def test_below_1_17_our_own_collections_are_written_after_a_look(shim: QdrantShim) -> None:
    shim.version = "1.16.3"
    client = QdrantClient(url=shim.url, check_compatibility=False)
    adapter = of(client, "ours")
    adapter.create(1000)
    adapter.upsert(["a", 2], rows({1: 1.0}, {}), [{"n": 1, "m": 1}, {}])
    adapter.upsert(["a", 2, 3], rows({}, {1: 2.0}, {1: 1.0}), [{"n": None}, {"x": [1]}, {}])
    assert (ask(adapter, {1: 1.0}).ids, adapter.count()) == ((2, 3), 3)
    assert adapter.fetch(["a", 2, 3]).payloads == ({"n": None, "m": 1}, {"x": [1]}, {})
    client.close()


# ---- while an application writes


class Meddled:
    """A wire that lets an application act before each write that passes."""

    def __init__(self, client: QdrantClient, application: Callable[[], object]) -> None:
        self._wire, self._application = sync_wire(client, owns_client=False), application

    def send(self, request: Request) -> Any:
        if request.call in ("batch_update_points", "retrieve"):
            self._application()
        return self._wire.send(request)

    def close(self) -> None:
        self._wire.close()


def meddled(client: QdrantClient, application: Callable[[], object]) -> SyncAdapter:
    return SyncAdapter(QdrantOperations("kb", "sparse"), Meddled(client, application), "kb")


def once(act: Callable[[], object]) -> Callable[[], object]:
    left = [act]
    return lambda: left.pop()() if left else None


def test_a_point_that_the_application_makes_meanwhile_keeps_all_that_it_has(client: QdrantClient) -> None:
    theirs = models.PointStruct(id=50, vector={"dense": [7.0, 8.0]}, payload={"title": "theirs", "n": 1})
    of(client).create(1000)
    adapter = meddled(client, once(lambda: client.upsert("kb", [theirs], wait=True)))
    assert adapter.upsert([50, 51], rows({1: 1.0}, {1: 2.0}), [{"n": 2}, {}], missing="create").written == (50, 51)
    assert held(client)[50] == ({"dense": [7.0, 8.0]}, {"title": "theirs", "n": 2})
    assert adapter.search(rows({1: 1.0}))[0].ids == (51, 50)


def test_points_that_the_application_deletes_meanwhile_stay_deleted(client: QdrantClient) -> None:
    of(client).create(1000)
    doomed = iter(range(5))
    adapter = meddled(client, lambda: client.delete("kb", [next(doomed, 99)], wait=True))
    written = adapter.upsert(range(10), corpus(10), [{"n": i} for i in range(10)])
    assert {*written.written, *written.failed} == set(range(10))
    assert not set(written.failed) & set(held(client))
    assert set(written.written) <= set(held(client)) | {0, 1, 2, 3, 4}  # those deleted after they were written
    assert client.count("kb").count == 13 - 5 + sum(1 for _ in doomed)


def test_a_field_that_the_application_sets_meanwhile_stays_set(client: QdrantClient) -> None:
    of(client).create(1000)
    adapter = meddled(client, once(lambda: client.set_payload("kb", {"views": 9}, points=[3], wait=True)))
    adapter.upsert([3], rows({1: 1.0}), [{"n": 1, "title": None}])
    assert held(client)[3] == ({"dense": [1.0, 2.0]}, {"views": 9, "n": 1})


def test_deleting_takes_our_vector_off_whatever_else_is_gone(client: QdrantClient) -> None:
    adapter = of(client)
    adapter.create(1000)
    adapter.upsert(range(10), corpus(10))
    before = held(client)
    gone = meddled(client, once(lambda: client.delete("kb", [2], wait=True)))
    gone.delete([1, 2, 3, 500, "nobody"])
    assert adapter.count() == 7
    assert held(client) == {id_: kept for id_, kept in before.items() if id_ != 2}


# ---- side by side


def test_two_vectors_of_ours_in_one_collection_never_touch_each_other(shim: QdrantShim) -> None:
    narrow = SparseVectors.from_rows([{1: 1.0}, {2: 2.0}], dimension=500)
    for client in (QdrantClient(":memory:"), QdrantClient(url=shim.url, check_compatibility=False)):
        first, second = of(client, "two", "v1"), of(client, "two", "v2")
        first.create(1000)
        second.create(500)
        first.upsert(["a", "b"], rows({1: 1.0}, {1: 2.0}), [{"title": "t"}, {}])
        second.upsert(["a", "c"], narrow, [{"n": 1}, {}])
        first.delete(["a"])
        assert (first.count(), second.count()) == (1, 2)
        assert second.fetch(["a"]).payloads == ({"title": "t", "n": 1},)
        of(client, "two", "v1").drop()
        assert (second.count(), second.info().dimension, second.info().ours) == (2, 500, True)
        with pytest.raises(CollectionError):
            first.count()
        assert client.count("two").count == 2  # "b" was in the first alone
        bare = models.PointStruct(id=9, vector={}, payload={"by": "the application"})
        client.upsert("two", [bare], wait=True)
        second.drop()
        assert [record.payload for record in client.scroll("two")[0]] == [{"by": "the application"}]
        assert (of(client, "two", "v2").info().exists, of(client, "two", "v2").info().ours) == (False, False)
        client.close()


def test_any_adapter_knows_what_create_made_and_takes_back_no_more_than_that(client: QdrantClient) -> None:
    of(client).create(1000, fingerprint="space-1")
    before = held(client)
    about = of(client).info()
    assert (about.exists, about.ours, about.dimension, about.fingerprint) == (True, False, 1000, "space-1")
    assert about.identity == of(client).info().identity is not None
    of(client).upsert([1], rows({1: 1.0}))
    of(client).drop()
    of(client).drop()
    assert held(client) == before
    info = client.get_collection("kb")
    assert info.config.metadata == {"owner": {"team": "search"}}
    assert not info.config.params.sparse_vectors


def test_two_creates_at_once_do_not_both_succeed(client: QdrantClient) -> None:
    class Rival:
        def __init__(self) -> None:
            self._wire, self.left = sync_wire(client, owns_client=False), [of(client)]

        def send(self, request: Request) -> Any:
            if request.call == "update_collection" and self.left:
                self.left.pop().create(64)
            return self._wire.send(request)

        def close(self) -> None: ...

    with pytest.raises(CollectionError, match="somebody else"):
        SyncAdapter(QdrantOperations("kb", "sparse"), Rival(), "kb").create(1000)
    assert of(client).info().dimension == 64


def test_a_collection_is_not_dropped_by_its_alias(shim: QdrantShim) -> None:
    client = QdrantClient(":memory:")
    of(client, "kb-v1").create(1000)
    alias = models.CreateAlias(collection_name="kb-v1", alias_name="kb")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    of(client, "kb").upsert([1], rows({1: 1.0}))
    with pytest.raises(CollectionError, match="alias of the collection kb-v1"):
        of(client, "kb").drop()
    assert of(client, "kb-v1").count() == 1
    client.close()


# ---- spaces


def test_vectors_and_queries_of_another_space_are_refused_by_every_adapter(client: QdrantClient) -> None:
    mine, other = (rows({1: 1.0}).with_fingerprint(name) for name in ("space-1", "space-2"))
    writer, earlier = of(client), of(client)
    writer.create(1000)
    assert earlier.info().fingerprint is None  # and remembers the collection as it was
    writer.upsert([1], mine)
    assert (writer.info().fingerprint, of(client).info().fingerprint) == ("space-1", "space-1")
    for adapter in (writer, earlier):
        with pytest.raises(WrongSpace, match=r"space-1.*space-2"):
            adapter.upsert([1], other)
        with pytest.raises(WrongSpace, match=r"space-1.*space-2"):
            adapter.search(other, 1)
        assert adapter.search(rows({1: 1.0}), 1)[0].ids == (1,)


def test_a_collection_of_foreign_vectors_takes_no_fingerprint_later(client: QdrantClient) -> None:
    adapter = of(client)
    adapter.create(1000)
    adapter.upsert([1], rows({1: 1.0}))
    adapter.upsert([2], rows({1: 1.0}).with_fingerprint("space-1"))
    assert adapter.info().fingerprint is None


# ---- scanning and looking


def test_a_dense_vector_of_theirs_is_called_what_it_is(client: QdrantClient) -> None:
    with pytest.raises(CollectionError, match="'dense' of collection kb is a dense vector; choose another"):
        of(client, vector_name="dense").search(rows({1: 1.0}), 3)


def test_a_scan_brings_their_dense_rows_and_says_who_has_our_vector(client: QdrantClient) -> None:
    adapter = of(client)
    before = list(adapter.scan(dense="dense", size=5))
    assert [len(page) for page in before] == [5, 5, 3]
    assert not any(page.holds.any() for page in before if page.holds is not None)
    adapter.create(1000)
    adapter.upsert([1, 7], rows({1: 1.0}, {2: 2.0}))
    pages = list(adapter.scan(vectors=True, payloads=True, dense="dense", size=5))
    ids = [id_ for page in pages for id_ in page.ids]
    assert len(set(ids)) == len(ids) == 13
    assert [id_ for page in pages for id_, has in zip(page.ids, page.holds, strict=True) if has] == [1, 7]
    assert [row.to_dict() for page in pages for row in page.vectors if len(row)] == [{1: 1.0}, {2: 2.0}]
    assert pages[0].payloads == tuple({"title": f"t{i}"} for i in range(5))
    assert {tuple(row.tolist()) for page in pages for row in page.dense or () if row is not None} == {(1.0, 2.0)}
    assert [page.ids for page in adapter.scan(after=pages[0].after, size=5)] == [page.ids for page in pages[1:]]
    assert np.asarray(next(adapter.scan(size=3)).holds).tolist() == [False, True, False]
    with pytest.raises(InvalidInput, match="after"):
        next(adapter.scan(after="behind"))


def test_check_touches_nothing_and_says_what_is_in_the_way(client: QdrantClient, shim: QdrantShim) -> None:
    before = client.get_collection("kb")
    found = {finding.subject: finding for finding in of(client).check()}
    assert found["collection"].found.startswith("kb, made by others")
    assert "not there yet" in found["vector"].found
    dense = {finding.subject: finding.level for finding in of(client, "kb", "dense").check()}
    assert dense["vector"] == "blocking"
    assert client.get_collection("kb") == before
    assert of(client, "nothing").check()[-1].level == "fine"


def test_check_names_versions_that_are_too_old_and_limits_of_strict_mode(shim: QdrantShim) -> None:
    client = QdrantClient(url=shim.url, check_compatibility=False)
    of(client).create(1000)
    shim.collections["kb"].strict, shim.collections["kb"].indexed = True, {"brand": "keyword"}
    levels = {}
    for shim.version in ("1.15.1", "1.16.2", "1.18.3", "1.19.2"):
        found = {finding.subject: finding for finding in of(client).check()}
        levels[shim.version] = found["version"].level
    assert levels == {"1.15.1": "blocking", "1.16.2": "warning", "1.18.3": "warning", "1.19.2": "fine"}
    assert found["payload indexes"].found == "brand"
    assert "unindexed_filtering_retrieve=False" in found["strict mode"].found
    client.close()


def test_check_names_indexed_fields_whose_filters_would_look_at_every_document_all_the_same(shim: QdrantShim) -> None:
    client = QdrantClient(url=shim.url, check_compatibility=False)
    of(client).create(1000)
    for indexed, half in [(["brand", "maker.name"], ["maker.name"]), (["brand", "maker.name", "maker[].name"], [])]:
        shim.collections["kb"].indexed = dict.fromkeys(indexed, "keyword")
        warned = [finding for finding in of(client).check() if finding.level == "warning"]
        assert [finding.found.split()[2] for finding in warned] == half
    client.close()
