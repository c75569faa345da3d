"""What others do meanwhile, and what an operator misspells: nothing that was there is lost by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import sparsevec as sv
from sparsevec.cli.app import app
from sparsevec.contract.copies import Whole, marks_of
from sparsevec.errors import BackendDown, CollectionError, InvalidInput, JournalMismatch, StorageFailed
from sparsevec.live import copying
from sparsevec.live.comparing import Marked, compared
from sparsevec.live.migrating import field_beside
from sparsevec.live.serving import keep_moved, moved_from
from tests.live.conftest import DIMENSION, N
from tests.live.shops import LuceneShop, _http, dense_rows
from tests.live.test_copying import Aliased
from tests.live.test_one_document import filled

NOWHERE = "elasticsearch://localhost:1/products?field=sparse"


def held(adapter: sv.Adapter) -> int:
    """Documents with a weight of ours."""
    return sum(int((page.vectors.row_nnz > 0).sum()) for page in adapter.scan(vectors=True) if page.vectors is not None)


def made_here(payload: Any) -> Any:
    return payload["emb"]


# ---- where the dense rows are


def test_a_catch_up_from_another_field_than_the_retrofit_s_is_refused_and_no_code_goes(
    model: Path, tmp_path: Path
) -> None:
    with filled(tmp_path / "c") as adapter:
        sv.retrofit(adapter, model=model, dense_field="emb", check=False)
        before = held(adapter)
        with pytest.raises(InvalidInput, match=r"was filled from 'emb', this call names 'embb'; undo it first"):
            sv.catch_up(adapter, model=model, dense_field="embb")
        assert held(adapter) == before > 0


def test_rows_that_a_function_made_are_caught_up_with_by_that_function_alone(model: Path, tmp_path: Path) -> None:
    with filled(tmp_path / "c") as adapter:
        sv.retrofit(adapter, model=model, dense_field=made_here, check=False)
        before = held(adapter)
        for call in (sv.catch_up, sv.retrofit):
            with pytest.raises(InvalidInput, match=r"by the function 'made_here'; give it again as dense_field="):
                call(adapter, model=model)
        assert sv.catch_up(adapter, model=model, dense_field=made_here).look.right == before == held(adapter)


def test_a_field_that_was_filled_by_hand_keeps_its_codes_where_no_document_has_a_dense_row(
    model: Path, tmp_path: Path
) -> None:
    encoder = sv.SparseEncoder.load(model)
    with sv.connect(f"reference:{tmp_path / 'c'}") as adapter:
        adapter.create(DIMENSION, fingerprint=encoder.fingerprint)
        sv.ingest(adapter, range(20), encoder.encode_document(dense_rows(20)))
        with pytest.raises(InvalidInput, match="none of 20 documents has a dense row in 'embb'"):
            sv.catch_up(adapter, model=model, dense_field="embb")
        assert held(adapter) == 20


# ---- an alias that is copied and switched


@pytest.fixture
def aliased(lucene: LuceneShop, model: Path) -> Iterator[Aliased]:
    place = Aliased(lucene)
    sv.copy_beside(place.url, model=model, dense_field="emb", check=False)
    yield place
    place.through(f"{place.collection}-sparse").close()


def test_an_alias_that_others_moved_meanwhile_stays_where_they_moved_it(aliased: Aliased, model: Path) -> None:
    copy = f"{aliased.collection}-sparse"

    def move(to: str, old: str) -> None:
        actions = [{"remove": {"index": old, "alias": aliased.alias}}, {"add": {"index": to, "alias": aliased.alias}}]
        _http(aliased.shop.base, "POST", "/_aliases", {"actions": actions})

    aliased.shop.http("PUT", "/_alias/another")
    third = f"{aliased.collection}-third"
    _http(aliased.shop.base, "PUT", f"/{third}")
    for elsewhere in (third, copy):
        move(elsewhere, aliased.collection)
        for call in (sv.switch_copy, sv.copy_beside):
            with pytest.raises(
                CollectionError, match=rf"stands for '{elsewhere}' now, expected '{aliased.collection}'"
            ):
                call(aliased.url, model=model)
        assert aliased.stands_for() == elsewhere
        move(aliased.collection, elsewhere)
    _http(aliased.shop.base, "DELETE", f"/{third}")
    assert sv.switch_copy(aliased.url, model=model).settled
    assert aliased.stands_for() == copy


def test_what_is_written_after_a_switch_is_not_put_back_by_a_copy_of_somebody_else(
    aliased: Aliased, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*_: Any) -> Any:
        with pytest.raises(StorageFailed, match="another copy or switch works with"):
            sv.switch_copy(aliased.url, model=model)
        with pytest.raises(StorageFailed, match="another copy or switch works with"):
            sv.drop_copied(aliased.url, model=model)
        return []

    with monkeypatch.context() as patch:
        patch.setattr(copying, "compared", meanwhile)
        sv.copy_beside(aliased.url, model=model, dense_field="emb", check=False)
    sv.switch_copy(aliased.url, model=model)
    users = aliased.through(aliased.alias)
    users.put({N + 1: {"title": "new", "emb": dense_rows(1)[0].tolist()}})
    with pytest.raises(InvalidInput, match="which serves now; a catch-up does the rest"):
        sv.copy_beside(aliased.url, model=model)
    assert N + 1 in users.documents()


def test_a_copy_has_no_dry_run(model: Path) -> None:
    with pytest.raises(InvalidInput, match="expected no dry_run="):
        sv.copy_beside(NOWHERE, model=model, dry_run=True)


class _Page:
    """One document in the old collection; a new one that is down for as long as it is asked to take it."""

    def __init__(self, *ids: str) -> None:
        self._ids = ids

    def stands_for(self) -> str:
        return "old"

    def whole_pages(self) -> Iterator[Whole]:
        yield Whole(self._ids, marks_of(id_.encode() for id_ in self._ids), None)

    def take(self, *_: Any) -> Any:
        raise BackendDown("503, come back later")

    discard = take


@pytest.mark.parametrize(("old", "new"), [(_Page("a"), _Page()), (_Page(), _Page("a"))])
def test_a_backend_that_stays_down_ends_a_copy_with_what_it_said(old: _Page, new: _Page) -> None:
    with pytest.raises(BackendDown, match="come back later"):
        compared(old, new, deadline=0.0)


@pytest.mark.parametrize("left", [0, 100])
def test_marks_of_a_switch_that_are_cut_off_are_told(tmp_path: Path, left: int) -> None:
    marks = np.arange(9, dtype=np.uint64)
    Marked(marks, marks).keep(tmp_path / "marks")
    (tmp_path / "marks").write_bytes((tmp_path / "marks").read_bytes()[:left])
    with pytest.raises(JournalMismatch, match="without it nothing tells what came late"):
        Marked.read(tmp_path / "marks")


# ---- a migration


def test_a_way_back_that_is_refused_leaves_reads_where_they_are(lucene: LuceneShop, model: Path) -> None:
    other = model.with_name("other")
    sv.SparseEncoder.load(model).save(other)
    sv.retrofit(lucene.url, model=model, dense_field="emb", check=False)
    keep_moved(model, field_beside(lucene.url), other, "emb")
    with pytest.raises(InvalidInput, match="knows of no migration"):
        sv.switch_back(lucene.url, model=model, to=other)
    assert moved_from(model) is not None


# ---- exit codes


def test_an_undo_that_leaves_something_ends_with_1_whatever_the_file_says_of_catch_ups(
    lucene: LuceneShop, model: Path, tmp_path: Path
) -> None:
    lucene.http("PUT", "/_mapping", {"dynamic": False})
    lucene.edit(7, {"unmapped": 1})
    sv.retrofit(lucene.url, model=model, dense_field="emb", check=False)
    lucene.http("PUT", "/_mapping", {"dynamic": "strict"})
    file = tmp_path / "sparsevec.toml"
    file.write_text(f'[retrofit]\nurl = "{lucene.url}"\nmodel = "{model}"\nevery = 60\n')
    ended = CliRunner().invoke(app, ["retrofit", "--config", str(file), "--undo", "--json"])
    assert (ended.exit_code, json.loads(ended.stdout)["left"]) == (1, 1)
