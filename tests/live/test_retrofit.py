"""Sparse vectors beside what a cluster holds already, on every engine: filled, caught up with, verified, taken away."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams
from sparsevec_adapters.qdrant import QdrantAdapter
from typer.testing import CliRunner

import sparsevec as sv
from sparsevec.cli.app import app
from sparsevec.errors import CollectionError, InvalidInput, StorageFailed
from sparsevec.live.folder import Folder
from sparsevec.planning import scratch
from sparsevec.progress import Progress
from tests.live.conftest import DIMENSION, SERVERS, N, opened, stocked
from tests.live.shops import WIDTH, EdgeShop, LuceneShop, Shop, dense_rows


def wrong(shop: Shop, model: Path, dimension: int = DIMENSION) -> dict[int, str]:
    """Documents that do not hold the code of their present dense row, by number."""
    encoder = sv.SparseEncoder.load(model)
    found = {}
    with sv.connect(shop.url) as adapter:
        for page in adapter.scan(vectors=True, dense="emb"):
            assert page.dense is not None
            assert page.vectors is not None
            for id_, row, vector in zip(page.ids, page.dense, page.vectors, strict=True):
                expected = None if row is None else adapter.stored(encoder.encode_document(row[None]))[0]
                if (expected is not None and expected != adapter_stored(adapter, vector, dimension)) or (
                    expected is None and len(vector)
                ):
                    found[int(id_)] = "another code" if len(vector) else "no code"
    return found


def adapter_stored(adapter: sv.Adapter, vector: sv.SparseVector, dimension: int) -> sv.SparseVector:
    one = sv.SparseVectors([0, len(vector)], vector.indices, vector.values, dimension)
    return adapter.stored(one)[0]


def test_every_document_gets_the_code_of_its_dense_row_and_keeps_the_rest(shop: Shop, model: Path) -> None:
    before = shop.documents()
    report = sv.retrofit(shop.url, model=model, dense_field="emb")
    assert (report.written, report.looked_again, report.settled, report.complete) == (N, 0, True, True)
    assert report.verified is not None
    assert (report.verified.exact, report.verified.documents) == (True, N)
    assert wrong(shop, model) == {}
    assert shop.documents() == before


def test_undo_leaves_the_collection_as_it_was(shop: Shop, model: Path) -> None:
    before = shop.documents()
    sv.retrofit(shop.url, model=model, dense_field="emb")
    report = sv.undo_retrofit(shop.url, model=model)
    assert (report.taken, report.left) == (N, 0)
    assert shop.documents() == before
    again = sv.retrofit(shop.url, model=model, dense_field="emb")
    assert (again.written, again.settled) == (N, True)


def test_a_catch_up_that_reads_every_document_says_so_before_and_undo_how_far_it_is(
    lucene: LuceneShop, model: Path
) -> None:
    told: list[Progress] = []
    sv.retrofit(lucene.url, model=model, dense_field="emb")
    note = Folder(model).path / "retrofit.json"
    note.write_text(re.sub(r'"checkpoint": ".*"', '"checkpoint": null', note.read_text()))
    sv.catch_up(lucene.url, model=model, on_progress=told.append)
    assert told[0].stage == "before"
    why = "every document is read: there was no whole look before that anything could have changed since"
    assert told[0].text.startswith(f"{why}; {N} have a vector of ours, and dense rows of ")
    told.clear()
    sv.undo_retrofit(lucene.url, model=model, on_progress=told.append)
    assert [(one.stage, one.step, one.steps) for one in told] == [("undo", N, N)]


def test_documents_that_share_an_id_and_differ_by_their_routing_each_get_a_code_and_lose_it(
    lucene: LuceneShop, model: Path
) -> None:
    def sources() -> dict[str | None, set[str]]:
        lucene.http("POST", "/_refresh")
        found = lucene.http("POST", "/_search", {"query": {"ids": {"values": ["3"]}}, **lucene._whole})
        return {hit.get("_routing"): set(hit["_source"]) for hit in found["hits"]["hits"]}

    for routing in "abcd":  # at least one of these is on the other shard
        document = {"title": routing, "emb": dense_rows(4, seed=9)["abcd".index(routing)].tolist()}
        lucene.http("PUT", f"/_doc/3?routing={routing}&refresh=true", document)
    before = sources()
    assert len(before) == 2
    report = sv.retrofit(lucene.url, model=model, dense_field="emb")
    assert (report.written, report.settled, report.complete) == (sum(look.missing for look in report.looks), True, True)
    with sv.connect(lucene.url) as adapter:
        assert adapter.count() == report.written >= N
    assert sv.undo_retrofit(lucene.url, model=model).left == 0
    assert sources() == before


def test_an_undo_writes_what_json_can_say_and_python_s_readers_cannot_as_it_was(
    lucene: LuceneShop, model: Path
) -> None:
    lucene.http("PUT", "/_mapping", {"properties": {"raw": {"type": "object", "enabled": False}}})
    large, half = 10**30 + 1, "half \ud800"
    lucene.put({3: {"title": "t", "raw": {"large": large, "half": half}, "emb": dense_rows(1)[0].tolist()}})
    before = lucene.documents()
    assert sv.retrofit(lucene.url, model=model, dense_field="emb", check=False).complete
    assert sv.undo_retrofit(lucene.url, model=model).left == 0
    assert lucene.documents() == before
    assert before[3]["raw"] == {"large": large, "half": half}


def test_a_document_that_refuses_is_named_by_undo_and_keeps_no_other_from_it(lucene: LuceneShop, model: Path) -> None:
    lucene.http("PUT", "/_mapping", {"dynamic": False})
    lucene.edit(7, {"unmapped": 1})
    before = lucene.documents()
    sv.retrofit(lucene.url, model=model, dense_field="emb")
    lucene.http("PUT", "/_mapping", {"dynamic": "strict"})
    report = sv.undo_retrofit(lucene.url, model=model)
    assert (report.taken, report.left, report.complete) == (N - 1, 1, False)
    assert [one.id for one in report.failures] == ["7"]
    assert "[unmapped] within [_doc] is not allowed" in str(report)
    assert wrong(lucene, model).keys() == before.keys() - {7}
    lucene.http("PUT", "/_mapping", {"dynamic": False})
    again = sv.undo_retrofit(lucene.url, model=model)
    assert (again.taken, again.left, again.complete) == (1, 0, True)
    assert lucene.documents() == before


def test_the_same_call_again_writes_nothing(shop: Shop, model: Path) -> None:
    sv.retrofit(shop.url, model=model, dense_field="emb")
    again = sv.retrofit(shop.url, model=model, dense_field="emb")
    assert (again.written, len(again.looks), again.looks[0].right) == (0, 1, N)


def test_a_catch_up_finds_what_is_new_missing_and_stale_and_writes_only_that(shop: Shop, model: Path) -> None:
    sv.retrofit(shop.url, model=model, dense_field="emb")
    rows = dense_rows(10, seed=9)
    shop.put({N + 1: {"title": "new", "emb": rows[0].tolist()}, 3: {"title": "whole", "emb": rows[1].tolist()}})
    shop.edit(5, {"emb": rows[2].tolist()})
    shop.edit(6, {"title": "only the title"})
    shop.remove(7)
    before = shop.documents()
    assert set(wrong(shop, model)) == {3, 5, N + 1}
    report = sv.catch_up(shop.url, model=model)
    assert (report.look.missing + report.look.stale, report.look.written) == (3, 3)
    assert wrong(shop, model) == {}
    assert shop.documents() == before
    assert sv.catch_up(shop.url, model=model).look.written == 0


def test_where_the_engine_says_what_changed_only_that_is_read(lucene: LuceneShop, model: Path) -> None:
    sv.retrofit(lucene.url, model=model, dense_field="emb")
    sv.catch_up(lucene.url, model=model)
    lucene.edit(5, {"emb": dense_rows(1, seed=9)[0].tolist()})
    lucene.edit(6, {"title": "only the title"})
    report = sv.catch_up(lucene.url, model=model)
    assert (report.look.whole, report.look.looked, report.look.written) == (False, 2, 1)


def test_a_document_that_was_refused_is_looked_at_again_by_every_catch_up_until_it_is_taken(
    lucene: LuceneShop, model: Path
) -> None:
    sv.retrofit(lucene.url, model=model, dense_field="emb", check=False)
    lucene.http("PUT", "/_mapping", {"dynamic": False})
    lucene.put({N: {"title": "with a field that is not mapped", "extra": 1, "emb": dense_rows(1, seed=9)[0].tolist()}})
    lucene.http("PUT", "/_mapping", {"dynamic": "strict"})  # so that the server refuses any update of it
    refused = [sv.catch_up(lucene.url, model=model) for _ in range(2)]
    assert [(one.complete, one.look.failed) for one in refused] == [(False, 1), (False, 1)]
    lucene.http("PUT", "/_mapping", {"dynamic": False})
    mended = sv.catch_up(lucene.url, model=model)
    assert (mended.look.written, mended.look.whole, mended.complete) == (1, False, True)
    assert sv.catch_up(lucene.url, model=model).look.looked <= 1
    assert wrong(lucene, model) == {}


def test_a_document_that_loses_its_dense_row_loses_its_code(lucene: LuceneShop, model: Path) -> None:
    sv.retrofit(lucene.url, model=model, dense_field="emb")
    lucene.edit(4, {"emb": None})
    report = sv.catch_up(lucene.url, model=model)
    assert (report.look.cleared, wrong(lucene, model)) == (1, {})
    assert lucene.documents()[4].get("emb") is None
    assert lucene.documents()[4]["title"] == "title 4"


# ---- what is refused, before anything is changed


def mapping(shop: LuceneShop) -> Any:
    return shop.http("GET", "/_mapping")


@pytest.mark.parametrize(
    ("name", "said"),
    [("nothing", "none of 300 documents has a dense row in 'nothing'"), (5, "dense_field must be a name")],
)
def test_a_field_without_dense_rows_is_refused(lucene: LuceneShop, model: Path, name: Any, said: str) -> None:
    before = mapping(lucene)
    with pytest.raises(InvalidInput, match=said):
        sv.retrofit(lucene.url, model=model, dense_field=name)
    assert mapping(lucene) == before


@pytest.mark.opensearch
def test_rows_of_two_widths_are_refused_with_a_document_of_each(lucene: LuceneShop, model: Path) -> None:
    lucene.put({i: {"rows": [1.0] * (3 + i % 2)} for i in range(4)})
    with pytest.raises(InvalidInput, match=r"differ in width: 2 of \d numbers \(such as '\d'\), 2 of \d numbers"):
        sv.retrofit(lucene.url, model=model, dense_field="rows")


def test_an_encoder_of_another_width_is_refused(lucene: LuceneShop, model: Path) -> None:
    lucene.put({i: {"rows": [1.0, 2.0, 0.5]} for i in range(4)})
    with pytest.raises(InvalidInput, match=r"takes rows of 24 numbers, and those in 'rows' have 3"):
        sv.retrofit(lucene.url, model=model, dense_field="rows")


@pytest.mark.parametrize("learned", [True, False])
def test_an_encoder_of_another_order_than_the_field_ranks_by_is_refused(
    tmp_path: Path, model: Path, learned: bool
) -> None:
    """The rows are of many lengths: by the distance, which the field declares, others are near than by the cosine."""
    folder = model if learned else tmp_path / "none yet"
    rows = dense_rows(40) * np.linspace(1, 3, 40, dtype=np.float32)[:, None]
    client = QdrantClient(":memory:")
    client.create_collection("shop", {"emb": VectorParams(size=WIDTH, distance=Distance.EUCLID)})
    client.upsert("shop", [PointStruct(id=i, vector={"emb": row.tolist()}) for i, row in enumerate(rows)])
    adapter = QdrantAdapter.from_client(client, collection="shop")
    with pytest.raises(InvalidInput, match=r"ranks by 'Euclid', .* similarity='cosine', .*similarity='l2'"):
        sv.retrofit(adapter, model=folder, dense_field="emb")
    assert not adapter.info().exists
    with pytest.raises(InvalidInput, match=r"ranks by 'Euclid', .* similarity='cosine', .*similarity='l2'"):
        sv.preview(adapter, dense_field="emb", model=model if learned else None)


def test_documents_without_a_row_or_with_a_zero_one_are_reported_one_by_one(shop: Shop, model: Path) -> None:
    shop.put({0: {"title": "none"}, 1: {"title": "zero", "more": [0.0] * WIDTH}})

    def row(document: Any) -> Any:
        return document.get("more") or (None if document["title"] == "none" else dense_rows(1)[0])

    report = sv.retrofit(shop.url, model=model, dense_field=row)
    (look, last) = report.looks
    assert (look.without, look.faulty, look.written, last.right) == (1, 1, N - 2, N - 2)
    assert [str(one.id) for one in look.failures] == ["1"]
    assert "zero and has no direction" in look.failures[0].reason


def test_two_at_once_are_refused(shop: Shop, model: Path) -> None:
    with Folder(model).locked(), pytest.raises(StorageFailed, match="another retrofit or catch-up works with"):
        sv.retrofit(shop.url, model=model, dense_field="emb")


def test_a_field_that_another_folder_filled_is_refused(lucene: LuceneShop, model: Path, tmp_path: Path) -> None:
    sv.retrofit(lucene.url, model=model, dense_field="emb")
    sv.SparseEncoder.load(model).save(tmp_path / "other")
    with pytest.raises(CollectionError, match="the field is there already, with vectors of an encoder"):
        sv.retrofit(lucene.url, model=tmp_path / "other", dense_field="emb")
    with pytest.raises(InvalidInput, match="knows of no retrofit of"):
        sv.undo_retrofit(lucene.url, model=tmp_path / "other")
    assert wrong(lucene, model) == {}


def test_a_collection_that_is_not_there_is_refused(lucene: LuceneShop, model: Path) -> None:
    with pytest.raises(CollectionError, match="is not there"):
        sv.retrofit(lucene.url.replace("?", "-not?"), model=model, dense_field="emb")


@pytest.mark.parametrize("rate", [0, -1, True, "fast"])
def test_a_rate_that_is_none_is_refused(rate: Any, model: Path) -> None:
    with pytest.raises(InvalidInput, match="rate must be a positive number"):
        sv.retrofit("reference:", model=model, rate=rate)


def test_a_dry_run_changes_nothing_and_says_what_would_be_written(lucene: LuceneShop, model: Path) -> None:
    before = mapping(lucene)
    report = sv.retrofit(lucene.url, model=model, dense_field="emb", dry_run=True)
    assert (report.looks[0].missing, report.written, mapping(lucene)) == (N, 0, before)


@pytest.mark.usefixtures("brief")
def test_an_encoder_is_learned_from_a_sample_where_the_folder_has_none(lucene: LuceneShop, tmp_path: Path) -> None:
    report = sv.retrofit(
        lucene.url,
        model=tmp_path / "new",
        dense_field="emb",
        budget=sv.Budget(nnz=6, flops=0.5),
        output_dim=DIMENSION,
        sample=200,
    )
    assert (report.fitted, report.sample, report.sample_of, report.written) == (True, 200, N, N)
    assert sv.SparseEncoder.load(tmp_path / "new").fingerprint == report.fingerprint


def test_the_same_from_a_shell_ends_in_reports_that_a_machine_reads(lucene: LuceneShop, model: Path) -> None:
    def told(*options: str) -> Any:
        ended = CliRunner().invoke(app, ["retrofit", lucene.url, "--model", str(model), "--json", *options])
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    assert sum(look["written"] for look in told("--dense-field", "emb")["looks"]) == N
    assert told("--catch-up")["look"]["written"] == 0
    assert json.loads((model / "status.json").read_text())["stage"] == "caught up"
    assert told("--undo")["taken"] == N


# ---- before anything is written


def test_a_preview_says_what_it_would_cost_and_find_and_writes_nothing(shop: Shop, model: Path) -> None:
    before = shop.documents()
    seen = sv.preview(shop.url, dense_field="emb", model=model)
    codes = sv.SparseEncoder.load(model).encode_document(dense_rows(N))
    assert (seen.documents, seen.whole, seen.sample + seen.asked) == (N, True, N)
    assert seen.bytes == pytest.approx(8 * codes.nnz, rel=0.05)
    assert seen.postings == pytest.approx(seen.flops * N)
    assert (seen.quality.documents, seen.quality_of_a_fourth.documents) == (270, 68)
    low, high = seen.quality.recall_10_interval or (1, 0)
    assert low <= seen.quality.recall_10 <= high
    assert shop.documents() == before


def test_a_preview_says_milliseconds_by_a_model_of_the_engine(lucene: LuceneShop, model: Path) -> None:
    figures: dict[str, Any] = {"per_posting": 0, "per_touched": 0, "per_hit": 0, "error_median": 0, "error_95": 0}
    engine = sv.LatencyModel(engine="busy", documents=5000, base=1.0, per_list=0.1, probes=81, **figures)
    seen = sv.preview(lucene.url, dense_field="emb", model=model, latency=engine)
    assert seen.milliseconds == pytest.approx(1.0 + 0.1 * seen.clauses, abs=0.01)
    assert f"on busy with {N} documents F is 0%" in str(seen)


def names(url: str) -> list[str]:
    with sv.connect(url) as adapter:
        found: list[str] = adapter.names("live-*")  # type: ignore[attr-defined]
    return found


@pytest.fixture(params=SERVERS)
def server(engine_url: Callable[[str], str], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    place = stocked(opened(request.param, engine_url, tmp_path))
    yield place
    place.close()  # type: ignore[attr-defined]


def scratches(shop: Any) -> list[str]:
    name = shop.index if isinstance(shop, LuceneShop) else shop.collection
    return [one for one in names(shop.url) if one.startswith(f"{name}-")]


def test_a_preview_probes_a_temporary_collection_and_removes_it(server: Any, model: Path) -> None:
    before = server.documents()
    seen = sv.preview(server.url, dense_field="emb", model=model, scratch=True)
    assert seen.probed is not None
    assert (seen.probed.documents, seen.milliseconds is not None) == (seen.sample, True)
    assert "probed in a temporary collection of 270" in str(seen)
    assert (scratches(server), server.documents()) == ([], before)


def test_a_temporary_collection_goes_whatever_ends_the_run_and_a_killed_one_s_with_the_next(
    server: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    url = server.url.replace("?", "-sparsevec-scratch-{}?")
    for made in (1, int((time.time() - 60) * 1000)):  # of 1970, and of a run that goes on
        with sv.connect(url.format(made)) as adapter:
            adapter.create(DIMENSION)
    monkeypatch.setattr(scratch, "latency_model", stopped)
    with pytest.raises(KeyboardInterrupt):
        sv.preview(server.url, dense_field="emb", model=model, scratch=True)
    (running,) = scratches(server)
    assert running.endswith(str(made))
    with sv.connect(url.format(made)) as adapter:
        adapter.drop()


def test_a_temporary_collection_needs_a_server(tmp_path: Path, model: Path) -> None:
    shop = stocked(EdgeShop(str(tmp_path / "edge"), DIMENSION))
    with pytest.raises(InvalidInput, match="is made on a server that a url names"):
        sv.preview(shop.url, dense_field="emb", model=model, scratch=True)


@pytest.mark.usefixtures("brief")
def test_a_preview_that_learns_keeps_no_encoder(lucene: LuceneShop) -> None:
    seen = sv.preview(lucene.url, dense_field="emb", budget=sv.Budget(nnz=6, flops=0.5), output_dim=DIMENSION)
    assert (seen.fitted, mapping(lucene)[lucene.index]["mappings"]["properties"].keys()) == (
        True,
        {"emb", "title", "brand"},
    )
