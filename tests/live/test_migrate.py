"""Another encoder later: its field beside the first, filled, verified, reads switched to it, the first one dropped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import sparsevec as sv
from sparsevec.cli.app import app
from sparsevec.errors import CollectionError, InvalidInput, JournalMismatch
from sparsevec.live.migrating import field_beside
from sparsevec.progress import Progress
from tests.conftest import brief_trainings
from tests.live.conftest import SERVERS, N, opened, stocked
from tests.live.shops import WIDTH, LuceneShop, Shop, dense_rows
from tests.live.test_retrofit import wrong

Lives = tuple[Any, Path, Path]


@pytest.fixture(scope="session")
def fitted_later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("later") / "model"
    encoder = sv.SparseEncoder(WIDTH, 128, seed=1)
    with brief_trainings():
        encoder.fit(dense_rows(600, seed=1), budget=sv.Budget(nnz=5, flops=0.6))
    encoder.save(folder)
    return folder


@pytest.fixture
def to(fitted_later: Path, tmp_path: Path) -> Path:
    sv.SparseEncoder.load(fitted_later).save(tmp_path / "model-2")
    return tmp_path / "model-2"


@pytest.fixture(params=SERVERS)
def live(
    engine_url: Callable[[str], str], request: pytest.FixtureRequest, tmp_path: Path, model: Path
) -> Iterator[Any]:
    """A shop that has sparse vectors already, of the encoder in `model`."""
    shop = stocked(opened(request.param, engine_url, tmp_path))
    sv.retrofit(shop.url, model=model, dense_field="emb", check=False)
    yield shop
    shop.close()  # type: ignore[attr-defined]


class Second:
    """The second field of a shop."""

    def __init__(self, shop: Shop) -> None:
        self.url = field_beside(shop.url)


def vectors(url: str) -> dict[Any, sv.SparseVector]:
    with sv.connect(url) as adapter:
        pages = list(adapter.scan(vectors=True))
    return {id_: vector for page in pages for id_, vector in zip(page.ids, page.vectors or (), strict=True)}


def test_a_second_field_is_filled_beside_the_first_and_nothing_else_changes(live: Any, model: Path, to: Path) -> None:
    before, first = live.documents(), vectors(live.url)
    report = sv.migrate(live.url, model=model, to=to)
    assert (report.written, report.dense, report.settled, report.complete) == (N, "emb", True, True)
    assert report.verified is not None
    assert wrong(Second(live), to, 128) == {}  # type: ignore[arg-type]
    assert (live.documents(), vectors(live.url)) == (before, first)
    assert sv.migrate(live.url, model=model, to=to).written == 0


def test_edits_are_caught_up_with_in_both_fields_by_one_call(live: Any, model: Path, to: Path) -> None:
    sv.migrate(live.url, model=model, to=to, check=False)
    rows = dense_rows(3, seed=9)
    live.put({N + 1: {"title": "new", "emb": rows[0].tolist()}, 3: {"title": "whole", "emb": rows[1].tolist()}})
    live.edit(5, {"emb": rows[2].tolist()})
    live.remove(7)
    before = live.documents()
    report = sv.catch_up_both(live.url, model=model, to=to)
    assert [one.look.written for one in report.reports if isinstance(one, sv.CatchUpReport)] == [3, 3]
    assert (wrong(live, model), wrong(Second(live), to, 128)) == ({}, {})  # type: ignore[arg-type]
    assert live.documents() == before


def test_a_field_of_a_collection_that_is_written_to_all_the_time_can_be_switched_to(
    live: Any, model: Path, to: Path
) -> None:
    rows = iter(dense_rows(100, seed=9))

    def edit(_: Any) -> None:
        """In each look, so that the next one finds something to do."""
        live.edit(3, {"emb": next(rows).tolist()})

    assert not sv.migrate(live.url, model=model, to=to, check=False, on_progress=edit).settled
    report = sv.switch(live.url, model=model, to=to)
    assert (report.new, wrong(Second(live), to, 128)) == (N, {})  # type: ignore[arg-type]


def test_a_service_follows_a_switch_and_the_way_back_between_two_searches(live: Any, model: Path, to: Path) -> None:
    sv.migrate(live.url, model=model, to=to, check=False)
    queries = dense_rows(5, seed=4)
    with sv.connect(live.url) as old, sv.connect(field_beside(live.url)) as new:
        expected = sv.Retriever(sv.SparseEncoder.load(model), old).search(queries)
        later = sv.Retriever(sv.SparseEncoder.load(to), new).search(queries)
    with sv.Serving(live.url, model=model) as serving:
        assert serving.search(queries) == expected
        switched = sv.switch(live.url, model=model, to=to)
        assert (switched.old, switched.new, switched.verified is not None) == (N, N, True)
        assert serving.search(queries) == later
        assert (serving.now().model, serving.now().dense) == (to, "emb")
        sv.switch_back(live.url, model=model, to=to)
        assert serving.search(queries) == expected


def test_the_old_field_is_dropped_when_told_and_nothing_else(live: Any, model: Path, to: Path) -> None:
    before = live.documents()
    sv.migrate(live.url, model=model, to=to, check=False)
    with pytest.raises(InvalidInput, match=r"reads go to .* still; switch first"):
        sv.drop_old(live.url, model=model, to=to)
    sv.switch(live.url, model=model, to=to, check=False)
    with pytest.raises(InvalidInput, match=r"reads were switched to .*; switch them back first, or drop the old field"):
        sv.undo_retrofit(field_beside(live.url), model=to)
    report = sv.drop_old(live.url, model=model, to=to)
    assert (report.taken, report.left) == (N, 0)
    assert wrong(Second(live), to, 128) == {}  # type: ignore[arg-type]
    assert live.documents() == before
    with pytest.raises(CollectionError, match="was dropped, so that no reads can go back"):
        sv.switch_back(live.url, model=model, to=to)
    caught = sv.catch_up_both(live.url, model=model, to=to)
    assert [one.place for one in caught.reports] == [sv.catch_up(field_beside(live.url), model=to).place]
    with sv.Serving(live.url, model=model) as serving:
        assert len(serving.search(dense_rows(1))[0]) == 10


def test_undo_of_the_second_leaves_the_first(live: Any, model: Path, to: Path) -> None:
    before, first = live.documents(), vectors(live.url)
    sv.migrate(live.url, model=model, to=to, check=False)
    assert sv.undo_retrofit(field_beside(live.url), model=to).taken == N
    assert (live.documents(), vectors(live.url)) == (before, first)


def test_check_finds_nothing_new_beside_two_fields(live: Any, model: Path, to: Path) -> None:
    def found(url: str) -> list[sv.Finding]:
        return [one for one in sv.check(url, dense_field="emb") if one.level != "fine"]

    before = found(live.url)
    sv.migrate(live.url, model=model, to=to, check=False)
    assert (found(live.url), found(field_beside(live.url))) == (before, before)


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_a_migration_that_was_killed_goes_on(
    engine_url: Callable[[str], str], tmp_path: Path, model: Path, to: Path
) -> None:
    """By kill -9, with a third of the documents written."""
    shop: Any = stocked(opened("elasticsearch9", engine_url, tmp_path), 3000)
    try:
        sv.retrofit(shop.url, model=model, dense_field="emb", check=False)
        before, first = shop.documents(), vectors(shop.url)
        call = "import sys, sparsevec as sv; sv.migrate(sys.argv[1], model=sys.argv[2], to=sys.argv[3], rate=100)"
        running = subprocess.Popen([sys.executable, "-c", call, shop.url, str(model), str(to)])
        while running.poll() is None and not (to / "status.json").exists():
            time.sleep(0.05)
        while running.poll() is None and json.loads((to / "status.json").read_text()).get("written", 0) < 1000:
            time.sleep(0.05)
        running.kill()
        assert running.wait() == -signal.SIGKILL
        report = sv.migrate(shop.url, model=model, to=to)
        assert (report.settled, report.complete, wrong(Second(shop), to, 128)) == (True, True, {})  # type: ignore[arg-type]
        assert (shop.documents(), vectors(shop.url)) == (before, first)
        assert sv.switch(shop.url, model=model, to=to).new == 3000
    finally:
        shop.close()


# ---- the embedding model changes


@pytest.mark.usefixtures("brief")
def test_the_second_may_be_made_from_the_dense_rows_of_another_embedding_model(
    lucene: LuceneShop, model: Path, tmp_path: Path
) -> None:
    sv.retrofit(lucene.url, model=model, dense_field="emb", check=False)
    rows = np.ascontiguousarray(dense_rows(N)[:, :12] + 0.1, np.float32)
    lucene.http("PUT", "/_mapping", {"properties": {"other": {"type": "float", "index": False}}})
    dense = dense_rows(N)
    lucene.put({i: {"emb": dense[i].tolist(), "other": rows[i].tolist()} for i in range(N)})
    encoder = sv.SparseEncoder(12, 64)
    encoder.fit(rows, budget=sv.Budget(nnz=5, flops=0.9))
    encoder.save(tmp_path / "other")
    sv.catch_up(lucene.url, model=model)  # the documents were indexed anew
    assert sv.migrate(lucene.url, model=model, to=tmp_path / "other", dense_field="other").written == N
    with sv.Serving(lucene.url, model=model, dense_field="emb") as serving:
        embed = {"emb": dense[:2], "other": rows[:2]}  # what a service makes of a text, by model
        before = serving.now()
        sv.switch(lucene.url, model=model, to=tmp_path / "other")
        after = serving.now()
        assert (before.dense, after.dense) == ("emb", "other")
        found = [now.retriever.search(embed[now.dense or ""]) for now in (before, after)]
        assert [[len(hits) for hits in answers] for answers in found] == [[10, 10]] * 2


def test_reads_stay_where_documents_would_not_be_found_any_more(lucene: LuceneShop, model: Path, to: Path) -> None:
    sv.retrofit(lucene.url, model=model, dense_field="emb", check=False)
    lucene.put({1: {"emb": dense_rows(1)[0].tolist()}, 2: {"emb": dense_rows(1)[0].tolist(), "title": "title 2"}})
    sv.catch_up(lucene.url, model=model)

    def row(document: Any) -> Any:
        return dense_rows(1)[0] if document.get("title") else None

    sv.migrate(lucene.url, model=model, to=to, dense_field=row, check=False)
    with pytest.raises(CollectionError, match="first field holds vectors of 300 documents and the second of 299, so"):
        sv.switch(lucene.url, model=model, to=to, dense_field=row, check=False)
    with sv.Serving(lucene.url, model=model) as serving:
        assert serving.now().model == model


# ---- what is refused


def test_a_field_that_is_not_filled_is_not_switched_to(lucene: LuceneShop, model: Path, to: Path) -> None:
    sv.retrofit(lucene.url, model=model, dense_field="emb", check=False)
    with pytest.raises(InvalidInput, match="knows of no migration to"):
        sv.switch(lucene.url, model=model, to=to)

    class Stopped(Exception):
        """As a kill between two pages would."""

    def stop(told: Progress) -> None:
        if told.stage == "backfill":
            raise Stopped

    with pytest.raises(Stopped):
        sv.migrate(lucene.url, model=model, to=to, check=False, on_progress=stop)
    with pytest.raises(InvalidInput, match="is not filled to its end yet; migrate again"):
        sv.switch(lucene.url, model=model, to=to)
    assert sv.migrate(lucene.url, model=model, to=to, check=False).settled
    assert sv.switch(lucene.url, model=model, to=to, check=False).new == N


def test_both_fields_in_one_folder_are_refused(model: Path) -> None:
    with pytest.raises(InvalidInput, match="each field has a folder of its own"):
        sv.migrate("elasticsearch://localhost:1/x?field=a", model=model, to=model.parent / "." / model.name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("qdrant://h/x?vector_name=sparse", "qdrant://h/x?vector_name=sparse_2"),
        ("elasticsearch://h/x?field=s_9", "elasticsearch://h/x?field=s_10"),
    ],
)
def test_the_second_field_has_the_next_number(first: str, second: str) -> None:
    assert field_beside(first) == second


@pytest.mark.parametrize(
    ("url", "into", "said"),
    [
        ("qdrant://h/x", None, "the url names no field or vector"),
        ("qdrant+edge:here", None, "the url names no field or vector"),
        ("qdrant://h/x?vector_name=a", "qdrant://h/x?vector_name=a", "another one than the first"),
    ],
)
def test_a_field_that_has_no_second_is_refused(url: str, into: str | None, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        field_beside(url, into)


def test_files_of_a_switch_that_lead_in_a_circle_are_refused(model: Path, to: Path) -> None:
    for folder, other in ((model, "../model-2"), (to, "../model")):
        (folder / "serving.json").write_text(json.dumps({"url": "reference:", "model": other, "dense": "emb"}))
    with pytest.raises(JournalMismatch, match="the switches go in a circle"):
        sv.Serving("reference:", model=model)
    (model / "serving.json").write_text('{"url": 3')
    with pytest.raises(JournalMismatch, match="is not what a switch writes"):
        sv.Serving("reference:", model=model)


# ---- from a shell


def test_the_same_from_a_shell(lucene: LuceneShop, model: Path, to: Path) -> None:
    sv.retrofit(lucene.url, model=model, dense_field="emb", check=False)

    def told(*options: str) -> Any:
        ended = CliRunner().invoke(
            app, ["migrate", lucene.url, "--model", str(model), "--to", str(to), "--json", *options]
        )
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    assert sum(look["written"] for look in told()["looks"]) == N
    assert [one["look"]["written"] for one in told("--catch-up")["reports"]] == [0, 0]
    assert told("--switch")["reads"] == field_beside(lucene.url)
    assert told("--back")["reads"] == lucene.url
    assert told("--switch")["new"] == N
    assert told("--drop-old")["taken"] == N


def test_two_orders_at_once_are_refused(model: Path, to: Path) -> None:
    words = ["migrate", "qdrant://h/x?vector_name=a", "--model", str(model), "--to", str(to), "--switch", "--back"]
    ended = CliRunner().invoke(app, words)
    assert (ended.exit_code, "one of --switch, --back, --drop-old, --catch-up" in ended.output) == (2, True)
