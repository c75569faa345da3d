"""Other people's data (C1, C9 to C18): what a sparse field beside it does to an index that others made and write to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.error import HTTPError

import pytest

from sparsevec import SparseVectors
from sparsevec.contract.adapter import Adapter, Page
from sparsevec.contract.filters import EngineFilter
from sparsevec.errors import (
    AdapterClosed,
    BackendDown,
    BackendUnsupported,
    CollectionError,
    InvalidInput,
    PlaceForgotten,
    WrongSpace,
)
from tests.faults.proxy import Answer, Exchange, Fault, Proxy
from tests.integration.lucene import DIMENSION, Place, found, place_at, rows

ONE = {1: 1.0}


@pytest.fixture
def shop(place: Place) -> Place:
    """An index of three shards with four documents, one of which has a routing."""
    place.make({"title": {"type": "keyword"}}, {"number_of_shards": 3})
    place.put({str(i): {"title": f"t{i}", "n": i} for i in range(3)})
    place.http("PUT", "_doc/routed?routing=tenant-5&refresh=true", {"title": "routed"})
    return place


def created(place: Place, **options: Any) -> Adapter:
    adapter = place.connect(**options)
    adapter.create(DIMENSION)
    return adapter


def total(place: Place) -> int:
    place.http("POST", "_refresh")
    return int(place.http("GET", "_count")["count"])


def mapping(place: Place) -> Any:
    return place.http("GET", "_mapping")[place.index]["mappings"]


# ---- C1: create


@pytest.mark.parametrize("there", [True, False])
def test_of_two_that_create_one_field_at_once_one_wins(place: Place, there: bool) -> None:
    (place.make if there else lambda _: None)({})

    def create(dimension: int) -> str | int:
        try:
            place.connect().create(dimension)
        except CollectionError:
            return "refused"
        return dimension

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(create, range(10, 16)))
    (winner,) = (outcome for outcome in outcomes if outcome != "refused")
    assert place.connect().info().dimension == winner


def test_eight_fields_that_are_created_at_once_are_all_ours(place: Place) -> None:
    place.make({}, _meta={"team": "books"})
    options = [f"field=f{i}" for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: place.connect(each).create(DIMENSION), options))
    infos = [place.connect(each).info() for each in options]
    assert [(info.exists, info.dimension, info.ours) for info in infos] == [(True, DIMENSION, False)] * 8
    assert len({info.identity for info in infos}) == 8
    assert mapping(place)["_meta"] == {"team": "books"}


# ---- C10, C17: documents of others


def test_a_write_reaches_documents_by_their_ids_and_routing_and_makes_none(shop: Place) -> None:
    adapter = created(shop)
    report = adapter.upsert([0, 1, "routed", "nobody"], rows(ONE, ONE, {1: 2.0}, ONE))
    assert report.written == (0, 1, "routed")
    assert report.failed["nobody"].kind == "missing"
    assert (total(shop), adapter.count()) == (4, 3)
    assert found(adapter, ONE)[0] == "routed"
    assert set(found(adapter, ONE)) == {"0", "1", "routed"}
    assert shop.http("GET", "_doc/routed?routing=tenant-5")["_routing"] == "tenant-5"
    assert adapter.fetch([1, "routed"]).payloads == ({"title": "t1", "n": 1}, {"title": "routed"})


def test_documents_that_must_have_a_routing_are_written_and_removed_by_an_alias(place: Place) -> None:
    place.make({}, {"number_of_shards": 3}, _routing={"required": True})
    for i in range(6):
        place.http("PUT", f"_doc/{i}?routing=tenant-{i}&refresh=true", {"n": i})
    alias = replace(place, index=f"{place.index}-alias")
    place.http("PUT", f"_alias/{alias.index}")
    adapter = created(alias)
    report = adapter.upsert([*range(6), "nobody"], rows(*[ONE] * 7))
    assert report.written == tuple(range(6))
    assert report.failed["nobody"].kind == "missing"
    adapter.delete([3, "nobody"])
    assert (set(found(adapter, ONE)), total(place)) == (set("01245"), 6)


def test_a_document_that_was_deleted_in_the_meantime_does_not_come_back(shop: Place) -> None:
    adapter = created(shop)
    shop.http("DELETE", "_doc/1")
    assert adapter.upsert([0, 1], rows(ONE, ONE)).written == (0,)
    assert dict(adapter.upsert([1], rows(ONE), missing="skip").skipped) == {1: "it is not there"}
    assert total(shop) == 3
    assert adapter.upsert([1], rows(ONE), missing="create").written == (1,)
    assert shop.source("1")["emb"] if shop.vector_type == "rank_features" else found(adapter, ONE)
    assert total(shop) == 4


@pytest.mark.parametrize("make", [lambda _: None, lambda place: place.make({})], ids=["ours", "theirs"])
def test_what_is_made_or_written_again_passes_by_a_default_pipeline(
    place: Place, make: Callable[[Place], None]
) -> None:
    make(place)
    created(place)
    place.http("PUT", "_settings", {"index.default_pipeline": "not-there"})
    adapter = place.connect()
    for first in (0, 1, 2):
        ids = range(first, first + 4)  # made first, then there but for one
        assert adapter.upsert(ids, rows(*[ONE] * 4), [{"n": 1}] * 4, missing="create").failed == {}
    assert adapter.count() == 6


def test_an_object_is_replaced_while_readers_see_it_whole_at_every_moment(shop: Place) -> None:
    adapter = created(shop)
    adapter.upsert(["1", "routed"], rows(ONE, ONE), [{"maker": {"name": "a", "old": 1}}] * 2)
    seen: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [adapter.upsert(["1"], rows(ONE), [{"maker": {"name": n}}]) for n in "bcdefg"])
        while not writing.done():
            seen.append(shop.http("GET", "_doc/1")["_source"]["maker"])
    assert all(isinstance(maker, dict) and "name" in maker for maker in seen)
    adapter.upsert(["routed"], rows(ONE), [{"maker": {"name": "g"}}])
    assert shop.http("GET", "_doc/1")["_source"]["maker"] == {"name": "g"}
    assert shop.http("GET", "_doc/routed?routing=tenant-5")["_source"]["maker"] == {"name": "g"}
    assert shop.http("GET", "_doc/routed?routing=tenant-5")["_source"]["title"] == "routed"


def test_writing_the_same_again_changes_no_document_of_ours(place: Place) -> None:
    adapter = created(place)
    for _ in range(3):
        adapter.upsert(["a", "b"], rows({1: 0.123456, 7: 2.0}, ONE), [{"maker": {"name": "x", "at": [1.5]}}, {"n": 1}])
    assert [place.http("GET", f"_doc/{key}")["_version"] for key in "ab"] == [1, 1]


def test_an_index_that_demands_a_routing_gets_what_it_demands(place: Place) -> None:
    place.make({}, {"number_of_shards": 3}, _routing={"required": True})
    place.http("PUT", "_doc/a?routing=x&refresh=true", {"n": 1})
    adapter = created(place)
    report = adapter.upsert(["a", "b"], rows(ONE, ONE))
    assert (report.written, report.failed["b"].kind) == (("a",), "missing")
    assert "routing=" in adapter.upsert(["b"], rows(ONE), missing="create").failed["b"].reason
    assert adapter.upsert(["b"], rows(ONE), missing="create", routing=["y"]).written == ("b",)
    adapter.delete(["a", "b"])
    assert (adapter.count(), total(place)) == (0, 2)


def test_a_document_that_changed_since_it_was_read_is_left_alone_and_reported(shop: Place) -> None:
    adapter = created(shop)
    (page,) = adapter.scan()
    at = {id_: (version, route) for id_, version, route in zip(page.ids, page.versions, page.routing, strict=True)}  # type: ignore[arg-type]
    shop.http("POST", "_update/1", {"doc": {"title": "edited"}})
    ids = list(at)
    report = adapter.upsert(
        ids, rows(*(ONE for _ in ids)), versions=[at[id_][0] for id_ in ids], routing=[at[id_][1] for id_ in ids]
    )
    assert set(report.written) == {"0", "2", "routed"}
    assert (report.failed["1"].kind, report.failed["1"].retryable) == ("stale", False)
    with pytest.raises(InvalidInput, match="as scan gives them"):
        adapter.upsert([0], rows(ONE), versions=["x"])


def test_an_index_that_would_lose_fields_is_refused_before_it_is_touched(place: Place) -> None:
    place.make({"manual": {"type": "text"}}, _source={"excludes": ["manual"]})
    before = mapping(place)
    (blocking,) = (finding for finding in place.connect().check() if finding.level == "blocking")
    with pytest.raises(BackendUnsupported) as refused:
        place.connect().create(DIMENSION)
    assert blocking.found in str(refused.value)
    assert mapping(place) == before


def test_check_tells_versions_that_others_count(shop: Place) -> None:
    def levels() -> dict[str, str]:
        return {finding.subject: finding.level for finding in shop.connect().check()}

    assert (levels()["versions"], levels()["routing"]) == ("fine", "warning")
    shop.http("PUT", "_doc/row?version=1700000000&version_type=external&refresh=true", {})
    assert levels()["versions"] == "warning"


def test_an_index_that_is_not_there_has_nothing_in_the_way(place: Place) -> None:
    assert {finding.level for finding in place.connect().check()} == {"fine"}


# ---- C12, C13: taking back


def test_drop_leaves_nothing_of_ours_in_the_documents(shop: Place) -> None:
    before = {id_: shop.source(id_) for id_ in "012"}
    adapter = created(shop)
    adapter.upsert([0, 1, "routed"], rows(ONE, ONE, ONE))
    adapter.delete([0])
    assert shop.source("0") == before["0"]
    adapter.drop()
    adapter.drop()
    assert {id_: shop.source(id_) for id_ in "012"} == before
    assert shop.http("GET", "_doc/routed?routing=tenant-5")["_source"] == {"title": "routed"}
    assert not shop.connect().info().exists

    again = shop.connect()
    again.create(DIMENSION + 1, fingerprint="space")
    assert (again.info().dimension, again.info().fingerprint, again.count()) == (DIMENSION + 1, "space", 0)


def test_two_fields_of_ours_in_an_index_of_ours_do_not_touch_each_other(place: Place) -> None:
    first, second = created(place, options="field=v1"), created(place, options="field=v2")
    for adapter in (first, second):
        adapter.upsert([1, "b"], rows(ONE, ONE), [{"n": 1}, {"n": 2}])
        assert adapter.info().ours
    assert second.fetch([1]).payloads == ({"n": 1},)
    first.delete([1])
    assert (first.count(), second.count()) == (1, 2)
    first.drop()
    assert (first.info().exists, second.count(), total(place)) == (False, 2, 2)
    assert found(second, ONE) in ((1, "b"), ("b", 1))
    second.drop()
    with pytest.raises(HTTPError):
        place.http("GET", "_count")


# ---- C16: scan


def scanned(pages: Iterator[Page]) -> list[Any]:
    return [id_ for page in pages for id_ in page.ids]


def test_a_scan_yields_each_document_once_while_we_write(shop: Place) -> None:
    shop.put({f"d{i}": {"i": i, "dense": [float(i), 0.5]} for i in range(20)})
    adapter = created(shop)
    adapter.upsert(["d0"], rows(ONE))
    seen: list[Any] = []
    for page in adapter.scan(size=5, dense="dense", payloads=True, vectors=True):
        seen += page.ids
        adapter.upsert(page.ids, rows(*(ONE for _ in page.ids)), routing=page.routing)
        assert page.payloads is not None
        assert page.holds is not None
        assert page.vectors is not None
        assert page.dense is not None
        assert [id_ for id_, holds in zip(page.ids, page.holds, strict=True) if holds] == (
            ["d0"] if "d0" in page.ids else []
        )
        assert page.vectors.row_nnz.tolist() == [int(id_ == "d0") for id_ in page.ids]
        assert all("emb" not in payload for payload in page.payloads)
        given = {id_: row.tolist() for id_, row in zip(page.ids, page.dense, strict=True) if row is not None}
        assert given == {id_: [float(id_[1:]), 0.5] for id_ in map(str, page.ids) if id_.startswith("d")}
    assert sorted(seen) == sorted(["0", "1", "2", "routed", *(f"d{i}" for i in range(20))])
    assert adapter.count() == 24


def test_a_scan_goes_on_in_another_adapter_and_says_when_it_cannot(shop: Place) -> None:
    first = next(shop.connect().scan(size=2))
    rest = scanned(shop.connect().scan(size=2, after=first.after))
    assert sorted([*first.ids, *rest]) == ["0", "1", "2", "routed"]
    with pytest.raises(InvalidInput, match="from the start"):
        next(shop.connect().scan(size=2, after=first.after))


def test_dense_vectors_come_back_where_the_engine_hides_them(engine_url: Callable[[str], str]) -> None:
    with place_at(engine_url("elasticsearch9")) as place:
        place.make({"dense": {"type": "dense_vector", "dims": 2, "similarity": "l2_norm"}})
        place.put({"a": {"dense": [0.25, 0.5]}, "b": {"n": 1}})
        adapter = created(place)
        adapter.upsert(["a"], rows(ONE))
        adapter.drop()  # which writes documents anew
        (page,) = place.connect().scan(dense="dense")
        assert page.dense is not None
        assert {id_: None if row is None else row.tolist() for id_, row in zip(page.ids, page.dense, strict=True)} == {
            "a": [0.25, 0.5],
            "b": None,
        }


# ---- C18: spaces


def of(fingerprint: str | None, *documents: dict[int, float]) -> SparseVectors:
    return rows(*documents).with_fingerprint(fingerprint)


def test_the_first_vectors_give_a_collection_its_space(place: Place) -> None:
    adapter = created(place)
    reader = place.connect()
    assert reader.search(of("blue", ONE), 1)[0].ids == ()
    adapter.upsert([1], of("red", ONE))
    assert adapter.info().fingerprint == "red"
    with pytest.raises(WrongSpace, match=r"red.*blue"):
        adapter.upsert([2], of("blue", ONE))
    with pytest.raises(WrongSpace, match=r"red.*blue"):
        reader.search(of("blue", ONE), 1)
    assert adapter.upsert([2], of(None, ONE)).written == (2,)
    assert adapter.search(of("red", ONE), 1)[0].ids


def test_foreign_vectors_make_a_foreign_collection(place: Place) -> None:
    adapter = created(place)
    adapter.upsert([1], of(None, ONE))
    adapter.upsert([2], of("red", ONE))
    assert adapter.info().fingerprint is None


def test_a_writer_who_is_overtaken_between_two_requests_sees_whose_collection_it_is(place: Place) -> None:
    created(place)
    engine, _, address = place.engine_url.partition("://")

    def overtaken(exchange: Exchange) -> None:
        place.connect().upsert(["blue"], of("blue", ONE))
        place.http("POST", "_refresh")
        exchange.answer(exchange.forward())

    with Proxy(f"http://{address}") as proxy:
        late = Place(proxy.url.replace("http", engine), place.index).connect()
        proxy.script = lambda exchange: overtaken if "_count" in exchange.path else None
        with pytest.raises(WrongSpace, match=r"blue.*red"):
            late.upsert(["red"], of("red", ONE))
    assert proxy.injected.total() == 1
    assert place.connect().count() == 1


def test_a_writer_who_is_refused_before_the_mapping_shows_why_looks_again(place: Place) -> None:
    """A master answers the refused ones of a batch of changes before it publishes what came of the others."""
    created(place)
    engine, _, address = place.engine_url.partition("://")
    looks: list[Answer] = []
    refused: list[Answer] = []

    def look(exchange: Exchange) -> None:
        looks.append(exchange.forward())
        exchange.answer(looks[-2] if len(refused) == 1 else looks[-1])

    def overtaken(exchange: Exchange) -> None:
        place.connect().upsert(["blue"], of("blue", ONE))
        refused.append(exchange.forward())
        exchange.answer(refused[-1])

    def script(exchange: Exchange) -> Fault | None:
        if exchange.command == "GET":
            return look
        return overtaken if exchange.command == "PUT" else None

    with Proxy(f"http://{address}") as proxy:
        late = Place(proxy.url.replace("http", engine), place.index).connect()
        proxy.script = script
        with pytest.raises(WrongSpace, match=r"blue.*red"):
            late.upsert(["red"], of("red", ONE))
    assert [answer.status for answer in refused] == [400, 400]
    assert place.connect().count() == 1


# ---- C11, C15, C19


def test_a_filter_of_the_engine_is_handed_through_and_one_of_another_is_refused(shop: Place) -> None:
    adapter = created(shop)
    adapter.upsert([0, 1, 2], rows(ONE, ONE, ONE))
    engine = shop.engine_url.partition(":")[0]
    assert found(adapter, ONE, where=EngineFilter(engine, {"prefix": {"title": "t1"}})) == ("1",)
    with pytest.raises(InvalidInput, match="filter of qdrant"):
        found(adapter, ONE, where=EngineFilter("qdrant", {}))


def test_dates_negations_and_alternatives_mean_what_they_say(place: Place) -> None:
    place.make({"day": {"type": "date"}, "tag": {"type": "keyword"}})
    days = ["2024-05-01", "2024-05-01T12:00:00+02:00", "20240501", 1714521600000, None]
    place.put({str(i): {"day": day, "tag": ["red", "blue", "1", "green", "red"][i]} for i, day in enumerate(days)})
    adapter = created(place)
    adapter.upsert(range(5), rows(*(ONE for _ in days)))
    filters: list[tuple[Any, set[str]]] = [
        ({"day": {"gte": "2024-05-01", "lt": "2024-05-01T10:00"}}, {"0", "2"}),
        ({"day": {"gte": "2024-05-01T10:00", "lte": "2024-05-01T10:00"}}, {"1"}),
        ({"day": {"exists": False}}, {"4"}),
        ({"tag": {"not": ["red", "1"]}}, {"1", "3"}),
        ({"$any": [{"tag": "blue"}, {"day": {"gt": 1}}]}, {"1", "3"}),
        ({"$not": {"tag": "red", "day": {"exists": True}}}, {"1", "2", "3", "4"}),
    ]
    assert [(where, set(found(adapter, ONE, where=where))) for where, _ in filters] == filters


def test_an_alias_that_moves_under_a_running_service_is_noticed(place: Place) -> None:
    place.make({})
    place.put({"x": {}})
    place.http("PUT", f"_alias/{place.index}-alias")
    service = Place(place.engine_url, f"{place.index}-alias").connect()
    service.create(DIMENSION)
    service.upsert(["x"], rows(ONE))
    assert found(service, ONE) == ("x",)
    second = Place(place.engine_url, f"{place.index}-2")
    second.make({})
    second.put({"y": {}})
    moves = [
        {verb: {"index": on.index, "alias": f"{place.index}-alias"}}
        for verb, on in (("remove", place), ("add", second))
    ]
    place.root("POST", "_aliases", {"actions": moves})
    with pytest.raises(CollectionError, match="has no field"):
        found(service, ONE)
    created(second).upsert(["y"], rows(ONE))
    second.http("POST", "_refresh")  # what another adapter writes is seen when the index shows it
    assert found(service, ONE) == ("y",)


def test_eight_threads_share_one_adapter(place: Place) -> None:
    adapter = created(place)

    def work(worker: int) -> tuple[Any, ...]:
        for i in range(5):
            adapter.upsert([f"{worker}-{i}"], rows({worker: 1.0 + i}), [{"worker": worker}])
            assert found(adapter, {worker: 1.0}, where={"worker": worker})[0] == f"{worker}-{i}"
        return found(adapter, {worker: 1.0})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    assert answers == [tuple(f"{worker}-{i}" for i in reversed(range(5))) for worker in range(8)]
    assert adapter.count() == 40


def test_a_forked_child_is_told_to_connect_anew(place: Place) -> None:
    adapter = created(place)
    child = os.fork()
    if child == 0:
        try:
            adapter.count()
        except AdapterClosed:
            os._exit(42)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_a_refresh_is_left_to_the_index_when_told(place: Place) -> None:
    place.make({}, {"index.refresh_interval": "-1"})
    place.put({"a": {}})
    adapter = created(place, options="field=emb&refresh=index")
    adapter.upsert(["a"], rows(ONE))
    assert found(adapter, ONE) == ()
    place.http("POST", "_refresh")
    assert found(adapter, ONE) == ("a",)


# ---- what a filter finds, whoever ranks


def test_a_text_ranking_is_filtered_as_a_search_is(place: Place) -> None:
    place.make({"title": {"type": "text"}, "maker": {"properties": {"name": {"type": "keyword"}}}})
    place.put({"dotted": {"title": "red", "maker.name": "acme"}, "other": {"title": "red"}})
    adapter: Any = created(place)
    adapter.upsert(["dotted", "other"], rows(ONE, ONE))
    adapter.count()
    place.connect().upsert(["other"], rows(ONE), [{"size": "xl"}])  # a field that the adapter has not read of yet
    place.http("POST", "_refresh")
    for where, wanted in (({"maker.name": "acme"}, "dotted"), ({"size": "xl"}, "other")):
        assert adapter.by_text(["red"], 5, field="title", where=where)[0].ids == (wanted,)
        assert found(adapter, ONE, where=where) == (wanted,)


def test_a_place_that_no_page_gave_is_forgotten_and_no_fault_of_the_server(place: Place) -> None:
    place.make({})
    with pytest.raises(PlaceForgotten):
        next(iter(created(place).scan(after='["garbage", [1]]')))


def test_a_place_of_another_index_brings_none_of_its_documents(place: Place) -> None:
    """It names a point in time, which a server reads whatever index it is of."""
    place.make({})
    other = Place(place.engine_url, f"{place.index}-secret")
    mine, theirs = created(place), created(other, options="field=emb")
    for adapter in (mine, theirs):
        adapter.upsert(["1", "2", "3"], rows(ONE, ONE, ONE), missing="create")
        adapter.count()
    (hits,) = theirs.search(rows(ONE), 1, after="")
    with pytest.raises(PlaceForgotten, match="of another index"):
        mine.search(rows(ONE), 1, after=hits.after)
    with pytest.raises(PlaceForgotten, match="of another index"):
        next(iter(mine.scan(size=1, after=next(iter(theirs.scan(size=1))).after)))


def test_a_reading_begins_anew_where_the_alias_was_moved_and_finds_the_new_index_at_once(place: Place) -> None:
    indices = [Place(place.engine_url, f"{place.index}-{version}") for version in ("v1", "v2")]
    for index in indices:
        index.make({"n": {"type": "long"}})
        created(index).upsert([f"{index.index}-{n}" for n in range(3)], rows(ONE, ONE, ONE), missing="create")
        index.http("POST", "_refresh")
    old, new = (index.index for index in indices)
    place.root("PUT", f"{old}/_alias/{place.index}")
    adapter = place.connect()
    (first,) = adapter.search(rows(ONE), 2, after="")
    moves = [{"remove": {"index": old, "alias": place.index}}, {"add": {"index": new, "alias": place.index}}]
    place.root("POST", "_aliases", {"actions": moves})
    (again,) = adapter.search(rows(ONE), 3, after="")
    assert {*again.ids} == {f"{new}-{n}" for n in range(3)}
    with pytest.raises(PlaceForgotten, match="begin again"):
        adapter.search(rows(ONE), 2, after=first.after)


def test_an_alias_that_is_moved_in_the_middle_of_a_write_leaves_the_other_index_as_it_is(place: Place) -> None:
    for version in ("v1", "v2"):
        other = Place(place.engine_url, f"{place.index}-{version}")
        other.make({"title": {"type": "keyword"}})
        other.put({"1": {"title": "a"}, "2": {"title": "b"}})
    place.root("PUT", f"{place.index}-v1/_alias/{place.index}")
    adapter = place.connect()
    adapter.create(DIMENSION)
    assert adapter.upsert([1], rows({1: 1.0})).written == (1,)  # it has just looked
    actions = [
        {"remove": {"index": f"{place.index}-v1", "alias": place.index}},
        {"add": {"index": f"{place.index}-v2", "alias": place.index}},
    ]
    place.root("POST", "_aliases", {"actions": actions})
    with pytest.raises(BackendDown, match="was moved"):
        adapter.upsert([1, 2], rows({1: 1.0}, {2: 1.0}))
    mapping = place.root("GET", f"{place.index}-v2/_mapping")[f"{place.index}-v2"]["mappings"]
    assert set(mapping["properties"]) == {"title"}
    assert place.source("1") == {"title": "a"}
    with pytest.raises(CollectionError, match="no field 'emb' of ours"):
        adapter.upsert([1], rows({1: 1.0}))


def test_what_is_written_to_an_index_that_another_has_just_dropped_is_not_reported_as_written(place: Place) -> None:
    adapter, other = place.connect(), place.connect()
    adapter.create(DIMENSION)
    assert adapter.upsert(["a"], rows({1: 1.0})).written == ("a",)  # it has just looked
    other.drop()
    with pytest.raises(CollectionError, match="was removed while it was written to, and the server has made another"):
        adapter.upsert(["b"], rows({1: 1.0}))


@pytest.mark.parametrize("routing", [{"routing": "1"}, {"index_routing": "1"}, {"search_routing": "1"}])
def test_an_alias_with_a_routing_is_refused_before_a_document_gets_it_or_is_made_twice(
    place: Place, routing: dict[str, str]
) -> None:
    other = Place(place.engine_url, f"{place.index}-v1")
    other.make({"title": {"type": "keyword"}}, {"number_of_shards": 3})
    other.put({str(i): {"title": "a"} for i in range(8)})
    place.root("PUT", f"{place.index}-v1/_alias/{place.index}", routing)
    adapter = place.connect()
    assert [one.subject for one in adapter.check() if one.level == "blocking"] == ["alias"]
    with pytest.raises(CollectionError, match="an alias with a routing"):
        adapter.create(DIMENSION)
    assert "emb" not in place.root("GET", f"{place.index}-v1/_mapping")[f"{place.index}-v1"]["mappings"]["properties"]


@pytest.mark.parametrize(
    ("option", "wrong", "says"),
    [
        *(("versions", wrong, "versions as scan gives them") for wrong in ("9" * 30 + ".1", f"{2**63}.1", "17.0")),
        *(("versions", wrong, "versions as scan gives them") for wrong in ("17", "x.1", 17)),
        *(("routing", wrong, "routing as scan gives it") for wrong in ("\ud800", "", 5)),
    ],
)
def test_a_version_or_routing_that_no_scan_gives_is_refused_before_anything_is_sent(
    place: Place, option: str, wrong: Any, says: str
) -> None:
    adapter = place.connect()
    adapter.create(DIMENSION)
    given: Any = {option: [None, wrong]}
    with pytest.raises(InvalidInput, match=f"expected {says}"):
        adapter.upsert(["a", "b"], rows({1: 1.0}, {2: 1.0}), **given)
    assert adapter.count() == 0
