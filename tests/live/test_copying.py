"""Where no vector or field can be added to what serves: copied to a new collection, and the alias moved over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

import sparsevec as sv
from sparsevec.cli.app import app
from sparsevec.errors import BackendUnsupported, CollectionError, InvalidInput
from sparsevec.live import copying
from tests.live.conftest import SERVERS, N, opened, stocked
from tests.live.shops import WIDTH, LuceneShop, QdrantShop, _http, dense_rows
from tests.live.test_retrofit import wrong


class Aliased:
    """A shop whose readers and writers go by an alias."""

    def __init__(self, shop: Any) -> None:
        self.shop, self.lucene = shop, isinstance(shop, LuceneShop)
        self.collection = shop.index if self.lucene else shop.collection
        self.alias = f"{self.collection}-alias"
        self.url = shop.url.replace(f"/{self.collection}?", f"/{self.alias}?")
        if self.lucene:
            shop.http("PUT", f"/_alias/{self.alias}")
        else:
            action = {"create_alias": {"alias_name": self.alias, "collection_name": self.collection}}
            _http(shop.base, "POST", "/collections/aliases", {"actions": [action]})

    def stands_for(self) -> str:
        if self.lucene:
            (name,) = _http(self.shop.base, "GET", f"/{self.alias}/_alias")
            return str(name)
        aliases = _http(self.shop.base, "GET", "/aliases")["result"]["aliases"]
        return str(next(one["collection_name"] for one in aliases if one["alias_name"] == self.alias))

    def through(self, name: str) -> Any:
        """The shop by another name: what is done there is done to what the name stands for."""
        other = object.__new__(type(self.shop))
        other.__dict__.update(self.shop.__dict__)
        setattr(other, "index" if self.lucene else "collection", name)
        other.url = self.shop.url.replace(f"/{self.collection}?", f"/{name}?")
        return other

    def about(self, name: str) -> Any:
        """Mapping or configuration, without what is ours and what is of one collection alone."""
        if self.lucene:
            found = _http(self.shop.base, "GET", f"/{name}/_mapping")[name]["mappings"]
            ours = [key for key in found["properties"] if key.startswith(("sparse", "_sparsevec"))]
            return {**found, "properties": {k: v for k, v in found["properties"].items() if k not in ours}}
        found = _http(self.shop.base, "GET", f"/collections/{name}")["result"]
        params = {**found["config"]["params"]}
        params.pop("sparse_vectors", None)
        schema = {field: about["data_type"] for field, about in found["payload_schema"].items()}
        return [{**found["config"], "params": params, "metadata": None}, schema]


@pytest.fixture(params=SERVERS)
def aliased(engine_url: Callable[[str], str], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Aliased]:
    shop: Any = stocked(opened(request.param, engine_url, tmp_path))
    place = Aliased(shop)
    yield place
    for name in {place.collection, place.stands_for(), f"{place.collection}-sparse"}:
        try:
            place.through(name).close()
        except OSError:
            continue  # it was never made, or is gone


def test_a_copy_holds_everything_and_is_filled_and_nobody_reads_it_yet(aliased: Aliased, model: Path) -> None:
    before = aliased.shop.documents()
    report = sv.copy_beside(aliased.url, model=model, dense_field="emb")
    assert (report.old, report.new) == (aliased.collection, f"{aliased.collection}-sparse")
    assert (report.looks[0].copied, report.looks[-1].same, report.settled, report.complete) == (N, N, True, True)
    assert report.filled is not None
    assert (report.filled.written, report.filled.verified is not None) == (N, True)
    copy = aliased.through(report.new)
    assert (copy.documents(), wrong(copy, model)) == (before, {})
    assert aliased.about(report.new) == aliased.about(report.old)
    assert (aliased.stands_for(), aliased.shop.documents()) == (aliased.collection, before)


def test_a_switch_brings_what_was_written_meanwhile_and_keeps_the_old_one_until_told(
    aliased: Aliased, model: Path
) -> None:
    sv.copy_beside(aliased.url, model=model, dense_field="emb", check=False)
    rows = dense_rows(3, seed=9)
    users = aliased.through(aliased.alias)
    users.put({N + 1: {"title": "new", "emb": rows[0].tolist()}, 3: {"title": "whole", "emb": rows[1].tolist()}})
    users.edit(5, {"title": "only the title"})
    users.remove(7)
    before = aliased.shop.documents()
    report = sv.switch_copy(aliased.url, model=model)
    assert (report.looks[0].copied, report.looks[0].removed, report.switched) == (3, 1, True)
    assert aliased.stands_for() == report.new
    assert (users.documents(), aliased.shop.documents()) == (before, before)
    assert wrong(users, model) == {}
    assert sv.catch_up(aliased.url, model=model).look.written == 0
    assert sv.drop_copied(aliased.url, model=model) == aliased.collection
    assert (users.documents(), wrong(users, model)) == (before, {})
    with sv.connect(aliased.url) as adapter:
        assert adapter.count() == N


def test_what_is_written_in_the_moment_of_the_switch_is_kept_whoever_it_reaches(
    aliased: Aliased, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By writes between the last comparison, the move of the alias and the look after it."""
    sv.copy_beside(aliased.url, model=model, dense_field="emb", check=False)
    rows = [row.tolist() for row in dense_rows(6, seed=9)]
    users = aliased.through(aliased.alias)
    kind = type(sv.connect(aliased.url))
    move = kind.move_names  # type: ignore[attr-defined]

    def moved(adapter: Any, to: str) -> None:
        users.put({1: {"title": "late", "emb": rows[0]}, 2: {"title": "late", "emb": rows[1]}})
        users.put({N + 1: {"title": "late and new", "emb": rows[2]}, N + 2: {"title": "late and new", "emb": rows[3]}})
        users.remove(4)
        users.remove(5)
        move(adapter, to)
        users.put({2: {"title": "later", "emb": rows[4]}, 5: {"title": "made again", "emb": rows[5]}})
        users.put({N + 3: {"title": "after", "emb": rows[5]}})
        users.remove(6)

    monkeypatch.setattr(kind, "move_names", moved)
    report = sv.switch_copy(aliased.url, model=model)
    there = users.documents()
    titles = {number: there[number]["title"] for number in (1, 2, 5, N + 1, N + 2, N + 3)}
    late = {1: "late", N + 1: "late and new", N + 2: "late and new"}
    assert titles == {**late, 2: "later", 5: "made again", N + 3: "after"}
    assert not {4, 6} & there.keys()
    assert (report.looks[-1].copied, report.looks[-1].removed, report.looks[-1].left) == (3, 1, 1)
    assert wrong(users, model) == {}


def test_a_run_that_was_killed_goes_on(aliased: Aliased, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """Nothing of ours catches it."""

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    before = aliased.shop.documents()
    for at in ("_made", "compared", "retrofit"):
        with monkeypatch.context() as patch:
            patch.setattr(copying, at, killed)
            with pytest.raises(Killed):
                sv.copy_beside(aliased.url, model=model, dense_field="emb", check=False)
    assert sv.copy_beside(aliased.url, model=model, dense_field="emb", check=False).settled
    for at in ("late", "catch_up"):
        with monkeypatch.context() as patch:
            patch.setattr(copying, at, killed)
            with pytest.raises(Killed):
                sv.switch_copy(aliased.url, model=model)
    users = aliased.through(aliased.alias)
    assert sv.switch_copy(aliased.url, model=model).switched
    assert (users.documents(), wrong(users, model)) == (before, {})


# ---- what Qdrant's collections hold beside one dense vector


@pytest.mark.qdrant
def test_every_vector_payload_index_and_setting_of_a_collection_is_copied(
    engine_url: Callable[[str], str], model: Path
) -> None:
    name = f"live-{uuid4().hex[:8]}"
    shop = QdrantShop(f"http://{engine_url('qdrant').partition('://')[2]}", name)
    shop.http("DELETE", "")
    made = {
        "vectors": {
            "emb": {"size": WIDTH, "distance": "Cosine", "on_disk": True},
            "many": {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
            "bytes": {"size": 3, "distance": "Euclid", "datatype": "uint8"},
        },
        "sparse_vectors": {"words": {"modifier": "idf"}},
        "hnsw_config": {"m": 8},
        "quantization_config": {"scalar": {"type": "int8"}},
        "on_disk_payload": False,
    }
    shop.http("PUT", "", made)
    shop.http("PUT", "/index?wait=true", {"field_name": "brand", "field_schema": "keyword"})
    text = {"type": "text", "tokenizer": "word", "min_token_len": 3}
    shop.http("PUT", "/index?wait=true", {"field_name": "title", "field_schema": text})
    rows = dense_rows(40)
    points = [
        {
            "id": i if i % 2 else str(uuid4()),
            "vector": {
                "emb": (7 * rows[i]).tolist(),
                "many": rows[i, :8].reshape(2, 4).tolist(),
                "bytes": [i, 2, 3],
                "words": {"indices": [i, 99], "values": [0.1, 1.0 / 3]},
            },
            "payload": {"brand": f"b{i % 3}", "nested": {"deep": [i, None, 1.5]}, "big": 2**60 + i},
        }
        for i in range(40)
    ]
    shop.http("PUT", "/points?wait=true", {"points": points})
    place = Aliased(shop)
    try:
        report = sv.copy_beside(place.url, model=model, dense_field="emb")
        assert (report.settled, report.complete, report.looks[-1].same) == (True, True, 40)
        assert place.about(report.new) == place.about(name)
        asked = {"limit": 100, "with_payload": True, "with_vector": ["emb", "many", "bytes", "words"]}
        old, new = (place.through(one).http("POST", "/points/scroll", asked)["result"] for one in (name, report.new))
        assert new == old
    finally:
        shop.close()
        place.through(f"{name}-sparse").close()


# ---- indices that take no updates


@pytest.mark.parametrize(
    ("engine", "settings", "properties"),
    [
        pytest.param(
            "elasticsearch9",
            {"index.mode": "time_series", "index.routing_path": ["host"]},
            {"host": {"type": "keyword", "time_series_dimension": True}},
            marks=pytest.mark.elasticsearch,
        ),
        pytest.param(
            "elasticsearch8",
            {"index.mode": "time_series", "index.routing_path": ["host"]},
            {"host": {"type": "keyword", "time_series_dimension": True}},
            marks=pytest.mark.elasticsearch,
        ),
        pytest.param("opensearch3", {"index.append_only.enabled": True}, {}, marks=pytest.mark.opensearch),
        pytest.param("opensearch3", {"index.derived_source.enabled": True}, {}, marks=pytest.mark.opensearch),
    ],
)
def test_an_index_that_takes_no_updates_is_copied_to_one_that_does(
    engine_url: Callable[[str], str], engine: str, settings: Any, properties: Any, model: Path
) -> None:
    name, base = f"live-{uuid4().hex[:8]}", f"http://{engine_url(engine).partition('://')[2]}"
    emb: Any = {"type": "float"} if engine == "opensearch3" else {"type": "dense_vector", "dims": WIDTH}
    known = {"emb": emb, "@timestamp": {"type": "date"}, "host": {"type": "keyword"}, **properties}
    given = {"number_of_shards": 1, "number_of_replicas": 0, **settings}
    _http(base, "PUT", f"/{name}", {"settings": given, "mappings": {"properties": known}, "aliases": {f"{name}-a": {}}})
    rows = dense_rows(60)
    lines: list[Any] = []
    for i in range(60):
        lines.append({"create" if "index.mode" in settings else "index": {}})
        when = f"2026-11-26T00:00:{i:02}.000Z"
        lines.append({"@timestamp": when, "host": f"h{i % 4}", "emb": [float(x) for x in rows[i]]})
    body = ("\n".join(map(json.dumps, lines)) + "\n").encode()
    assert not _http(base, "POST", f"/{name}/_bulk?refresh=true", body, "x-ndjson")["errors"]
    url = f"{engine_url(engine)}/{name}-a?field=sparse"
    try:
        with pytest.raises(BackendUnsupported, match=r"retrofit --copy"):
            sv.retrofit(url, model=model, dense_field="emb")
        report = sv.copy_beside(url, model=model, dense_field="emb")
        assert (report.looks[-1].same, report.settled, report.complete) == (60, True, True)
        assert sv.switch_copy(url, model=model).complete
        with sv.connect(url) as adapter:
            assert (adapter.count(), adapter.info().exists) == (60, True)
        assert sv.catch_up(url, model=model).look.written == 0
    finally:
        _http(base, "DELETE", f"/{name},{name}-sparse?ignore_unavailable=true")


@pytest.mark.parametrize("rules", [{"excludes": ["secret"]}, {"includes": ["emb"]}, {"enabled": False}])
def test_an_index_that_cannot_be_read_back_is_not_copied(
    engine_url: Callable[[str], str], rules: Any, model: Path
) -> None:
    name, base = f"live-{uuid4().hex[:8]}", f"http://{engine_url('elasticsearch9').partition('://')[2]}"
    mappings = {"_source": rules, "properties": {"emb": {"type": "dense_vector", "dims": WIDTH}}}
    _http(base, "PUT", f"/{name}", {"mappings": mappings, "aliases": {f"{name}-a": {}}})
    _http(base, "PUT", f"/{name}/_doc/1?refresh=true", {"emb": dense_rows(1)[0].tolist(), "secret": "s"})
    try:
        with pytest.raises(BackendUnsupported, match=r"_source"):
            sv.copy_beside(f"{engine_url('elasticsearch9')}/{name}-a?field=sparse", model=model, dense_field="emb")
        assert list(_http(base, "GET", f"/{name}*")) == [name]
    finally:
        _http(base, "DELETE", f"/{name}")


# ---- index templates and ingest pipelines


@pytest.fixture
def template(lucene: LuceneShop) -> Iterator[Callable[[Any], None]]:
    """Gives indices that are made from now on, whose names begin with the shop's, what it is called with."""
    yield lambda given: _http(
        lucene.base,
        "PUT",
        f"/_index_template/{lucene.index}",
        {"index_patterns": [f"{lucene.index}-*"], "priority": 500, "template": given},
    )
    _http(lucene.base, "DELETE", f"/_index_template/{lucene.index}")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_copy_that_a_template_would_let_readers_find_at_once_is_not_made_and_another_name_is_taken(
    lucene: LuceneShop, template: Callable[[Any], None], model: Path, legacy: bool
) -> None:
    place = Aliased(lucene)
    template({} if legacy else {"aliases": {place.alias: {}}})
    if legacy:
        _http(lucene.base, "DELETE", f"/_index_template/{lucene.index}")
        about = {"index_patterns": [f"{lucene.index}-*"], "aliases": {place.alias: {}}}
        _http(lucene.base, "PUT", f"/_template/{lucene.index}", about)
    try:
        with pytest.raises(CollectionError, match=r"an index template gives index .*-sparse' the aliases"):
            sv.copy_beside(place.url, model=model, dense_field="emb")
        assert list(_http(lucene.base, "GET", f"/{lucene.index}*")) == [lucene.index]
        report = sv.copy_beside(place.url, model=model, dense_field="emb", name=f"other-{lucene.index}", check=False)
        assert (report.new, report.settled, place.stands_for()) == (f"other-{lucene.index}", True, lucene.index)
        _http(lucene.base, "DELETE", f"/{report.new}")
    finally:
        if legacy:
            _http(lucene.base, "DELETE", f"/_template/{lucene.index}")
            template({})


@pytest.mark.parametrize("by_template", [False, True])
def test_no_document_of_a_copy_goes_through_a_pipeline_again(
    lucene: LuceneShop,
    template: Callable[[Any], None],
    model: Path,
    by_template: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pipeline that is not there refuses every document that it is to change."""
    pipeline = {"index.default_pipeline": "not-there"}
    template({"settings": {**pipeline, "index.final_pipeline": "not-there"} if by_template else {}})
    lucene.http("PUT", "/_settings", pipeline)
    place = Aliased(lucene)
    report = sv.copy_beside(place.url, model=model, dense_field="emb", check=False)
    assert report.looks[0].copied == N
    kind = type(sv.connect(place.url))
    move = kind.move_names  # type: ignore[attr-defined]

    def moved(adapter: Any, to: str) -> None:
        move(adapter, to)
        late = {"title": "late", "emb": dense_rows(1, seed=9)[0].tolist()}
        lucene.http("PUT", f"/_doc/{N}?pipeline=_none", late)

    monkeypatch.setattr(kind, "move_names", moved)
    switched = sv.switch_copy(place.url, model=model)
    assert (switched.looks[-1].copied, switched.looks[-1].refused) == (1, {})
    users = place.through(report.new)
    assert users.http("GET", "/_settings?flat_settings=true")[report.new]["settings"].items() >= pipeline.items()
    assert wrong(users, model) == {}
    users.close()


def test_what_the_copy_refused_in_the_switch_comes_with_the_next_call_and_the_old_index_is_kept_for_it(
    lucene: LuceneShop, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Aliased(lucene)
    sv.copy_beside(place.url, model=model, dense_field="emb", check=False)
    users, copy = place.through(place.alias), place.through(f"{lucene.index}-sparse")
    rows = [row.tolist() for row in dense_rows(5, seed=9)]
    kind = type(sv.connect(place.url))
    move = kind.move_names  # type: ignore[attr-defined]

    def moved(adapter: Any, to: str) -> None:
        lucene.http("PUT", "/_mapping", {"dynamic": "false"})
        copy.http("PUT", "/_mapping", {"dynamic": "strict"})
        move(adapter, to)
        lucene.put({N: {"title": "late", "emb": rows[0]}, N + 1: {"title": "late", "emb": rows[1], "odd": 1}})
        lucene.put({number: {"title": "late", "emb": rows[2], "odd": 1} for number in (1, 2, 3)})

    with monkeypatch.context() as patch:
        patch.setattr(kind, "move_names", moved)
        report = sv.switch_copy(place.url, model=model)
    assert (report.looks[-1].copied, report.complete) == (1, False)
    assert report.looks[-1].refused.keys() == {"1", "2", "3", str(N + 1)}
    with pytest.raises(CollectionError, match="alone holds 4 documents"):
        sv.drop_copied(place.url, model=model)
    users.remove(N)  # came late, and is not to come again
    users.remove(2)
    users.put({3: {"title": "later", "emb": rows[3]}})
    copy.http("PUT", "/_mapping", {"dynamic": "false"})
    report = sv.switch_copy(place.url, model=model)
    assert (report.looks[-1].copied, sorted(report.looks[-1].left_named), report.complete) == (2, ["2", "3"], True)
    there = users.documents()
    assert [there[number]["title"] for number in (1, 3, N + 1)] == ["late", "later", "late"]
    assert not {2, N} & there.keys()
    assert wrong(users, model) == {}
    assert (sv.switch_copy(place.url, model=model).looks, sv.drop_copied(place.url, model=model)) == ((), lucene.index)
    assert users.documents() == there
    lucene.index = copy.index  # for the end of the test


def test_of_several_documents_of_one_id_with_a_routing_each_a_switch_brings_the_one_that_changed(
    lucene: LuceneShop, model: Path
) -> None:
    def twins(index: str) -> dict[str, str]:
        _http(lucene.base, "POST", f"/{index}/_refresh")
        body = {"query": {"ids": {"values": ["3"]}}, "_source": ["title"]}
        hits = _http(lucene.base, "POST", f"/{index}/_search", body)["hits"]["hits"]
        return {hit["_routing"]: hit["_source"]["title"] for hit in hits}

    emb = dense_rows(1, seed=9)[0].tolist()
    for routing in "abcdefgh":  # the last of each of two shards stays
        lucene.http("PUT", f"/_doc/3?routing={routing}&refresh=true", {"title": routing, "emb": emb})
    place = Aliased(lucene)
    report = sv.copy_beside(place.url, model=model, dense_field="emb", check=False)
    first, second = before = twins(lucene.index)
    assert (twins(report.new), report.settled) == (before, True)
    lucene.http("PUT", f"/_doc/3?routing={first}&refresh=true", {"title": "changed", "emb": emb})
    lucene.http("DELETE", f"/_doc/3?routing={second}&refresh=true")
    report = sv.switch_copy(place.url, model=model)
    assert (report.looks[0].copied, report.looks[0].removed, report.settled) == (1, 1, True)
    assert twins(report.new) == {first: "changed"}
    place.through(report.new).close()


def test_an_index_that_answers_with_few_hits_at_once_is_filled_and_copied(lucene: LuceneShop, model: Path) -> None:
    lucene.http("PUT", "/_settings", {"index.max_result_window": 7})
    place = Aliased(lucene)
    report = sv.copy_beside(place.url, model=model, dense_field="emb", check=False)
    assert (report.looks[-1].same, report.complete) == (N, True)
    place.through(report.new).close()


# ---- what is refused


def test_a_collection_that_is_read_by_its_own_name_is_refused(aliased: Aliased, model: Path) -> None:
    with pytest.raises(InvalidInput, match="is the collection itself, and nothing can be moved"):
        sv.copy_beside(aliased.shop.url, model=model, dense_field="emb")


def test_orders_out_of_turn_are_refused(aliased: Aliased, model: Path) -> None:
    with pytest.raises(InvalidInput, match="knows of no copy of"):
        sv.switch_copy(aliased.url, model=model)
    with pytest.raises(CollectionError, match="is there already, and this folder did not make it"):
        sv.copy_beside(aliased.url, model=model, dense_field="emb", name=aliased.collection)
    sv.copy_beside(aliased.url, model=model, dense_field="emb", check=False)
    with pytest.raises(InvalidInput, match="serves still; switch first"):
        sv.drop_copied(aliased.url, model=model)


def test_a_folder_on_this_machine_has_no_aliases(model: Path) -> None:
    with pytest.raises(BackendUnsupported, match="cannot be copied and switched: it has no aliases"):
        sv.copy_beside("reference:", model=model)


@pytest.mark.qdrant
def test_the_same_from_a_shell(engine_url: Callable[[str], str], tmp_path: Path, model: Path) -> None:
    aliased = Aliased(stocked(opened("qdrant", engine_url, tmp_path)))

    def told(*options: str) -> Any:
        ended = CliRunner().invoke(app, ["retrofit", aliased.url, "--model", str(model), "--json", "--copy", *options])
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    try:
        assert told("--dense-field", "emb")["looks"][-1]["same"] == N
        assert told("--switch")["switched"] is True
        assert told("--drop-old")["dropped"] == aliased.collection
        assert len(aliased.through(aliased.alias).documents()) == N
    finally:
        aliased.through(aliased.stands_for()).close()


@pytest.mark.parametrize("options", [["--switch"], ["--copy", "--switch", "--drop-old"], ["--copy", "--undo"]])
def test_orders_that_do_not_go_together_are_refused(options: list[str], model: Path) -> None:
    ended = CliRunner().invoke(app, ["retrofit", "qdrant://h/x", "--model", str(model), *options])
    assert ended.exit_code == 2
