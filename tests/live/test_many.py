"""Several collections at once: by a pattern or an alias, with one encoder and one report."""

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
from sparsevec.errors import CollectionError, InvalidInput
from sparsevec.live.many import collections
from tests.live.conftest import DIMENSION, LUCENE, N
from tests.live.shops import LuceneShop, QdrantShop, dense_rows

M = 80


def filled(shop: Any, seed: int) -> Any:
    rows = dense_rows(M, seed)
    shop.put({i: {"title": f"title {i}", "emb": rows[i].tolist()} for i in range(M)})
    return shop


@pytest.fixture(params=[*LUCENE, pytest.param("qdrant", marks=pytest.mark.qdrant)])
def chain(engine_url: Callable[[str], str], request: pytest.FixtureRequest) -> Iterator[tuple[str, list[Any]]]:
    """A url with the pattern of two shops, and these."""
    name, at = f"live-{uuid4().hex[:8]}", engine_url(request.param)
    if request.param == "qdrant":
        shops: list[Any] = [QdrantShop(f"http://{at.partition('://')[2]}", f"{name}-{month}") for month in (1, 2)]
        url = f"{at}/{name}-*?vector_name=sparse"
    else:
        nine = request.param == "elasticsearch9"
        shops = [LuceneShop(at, f"{name}-{month}", nine=nine) for month in (1, 2)]
        url = f"{at}/{name}-*?field=sparse"
    yield url, [filled(shop, seed) for seed, shop in enumerate(shops)]
    for shop in shops:
        shop.close()


def test_each_collection_of_a_pattern_is_filled_caught_up_with_and_taken_back(
    chain: tuple[str, list[Any]], model: Path
) -> None:
    url, shops = chain
    before = [shop.documents() for shop in shops]
    report = sv.retrofit_each(url, model=model, dense_field="emb")
    assert [one.written for one in report.reports if isinstance(one, sv.RetrofitReport)] == [M, M]
    assert report.complete
    shops[1].edit(3, {"emb": dense_rows(1, seed=9)[0].tolist()})
    caught = sv.catch_up_each(url, model=model)
    assert [one.look.written for one in caught.reports if isinstance(one, sv.CatchUpReport)] == [0, 1]
    undone = sv.undo_each(url, model=model)
    assert [(one.taken, one.left) for one in undone.reports if isinstance(one, sv.UndoReport)] == [(M, 0)] * 2
    shops[1].edit(3, {"emb": before[1][3]["emb"]})
    assert [shop.documents() for shop in shops] == before


def test_two_fields_of_one_index_are_both_done(lucene: LuceneShop, model: Path) -> None:
    urls = [lucene.url, lucene.url.replace("field=sparse", "field=another")]
    report = sv.retrofit_each(urls, model=model, dense_field="emb", check=False)
    assert [one.written for one in report.reports if isinstance(one, sv.RetrofitReport)] == [N, N]
    assert [one.complete for one in sv.catch_up_each(urls, model=model).reports] == [True, True]
    assert [one.left for one in sv.undo_each(urls, model=model).reports if isinstance(one, sv.UndoReport)] == [0, 0]


@pytest.mark.usefixtures("brief")
def test_an_encoder_for_all_is_learned_from_all_of_them(chain: tuple[str, list[Any]], tmp_path: Path) -> None:
    url, _ = chain
    report = sv.retrofit_each(
        url, model=tmp_path / "new", dense_field="emb", budget=sv.Budget(nnz=6), output_dim=DIMENSION, sample=100
    )
    (fingerprint,) = {one.fingerprint for one in report.reports if isinstance(one, sv.RetrofitReport)}
    assert sv.SparseEncoder.load(tmp_path / "new").fingerprint == fingerprint


def test_a_collection_that_cannot_be_done_is_refused_and_the_others_are_done(
    chain: tuple[str, list[Any]], model: Path
) -> None:
    url, shops = chain
    for number in range(M):
        shops[0].remove(number)
    report = sv.retrofit_each(url, model=model, dense_field="emb")
    assert not report.complete
    assert [one.written for one in report.reports if isinstance(one, sv.RetrofitReport)] == [M]
    ((name, reason),) = report.refused.items()
    assert (name[-2:], "holds no documents" in reason) == ("-1", True)


def test_a_pattern_of_nothing_is_refused(chain: tuple[str, list[Any]], model: Path) -> None:
    url, _ = chain
    with pytest.raises(CollectionError, match="stands for no collection there"):
        sv.retrofit_each(url.replace("-*", "-not*"), model=model)


@pytest.fixture(params=LUCENE)
def aliased(engine_url: Callable[[str], str], request: pytest.FixtureRequest) -> Iterator[tuple[str, list[LuceneShop]]]:
    name, at = f"live-{uuid4().hex[:8]}", engine_url(request.param)
    shops = [LuceneShop(at, f"{name}-{month}", nine=request.param == "elasticsearch9") for month in (1, 2)]
    for seed, shop in enumerate(shops):
        filled(shop, seed).http("PUT", f"/_alias/{name}")
    yield f"{at}/{name}?field=sparse", shops
    for shop in shops:
        shop.close()


def test_an_alias_stands_for_all_of_its_indices_and_a_new_one_is_found_later(
    aliased: tuple[str, list[LuceneShop]], model: Path
) -> None:
    url, (_, second) = aliased
    second.http("DELETE", f"/_alias/{second.index[:-2]}")
    assert len(sv.retrofit_each(url, model=model, dense_field="emb").reports) == 1
    second.http("PUT", f"/_alias/{second.index[:-2]}")
    before = second.documents()
    first, new = sv.catch_up_each(url, model=model, dense_field="emb").reports
    assert isinstance(first, sv.CatchUpReport)
    assert isinstance(new, sv.RetrofitReport)
    assert (first.look.written, new.written) == (0, M)
    assert second.documents() == before


def test_rows_of_two_widths_have_no_encoder_in_common(aliased: tuple[str, list[LuceneShop]], tmp_path: Path) -> None:
    url, (first, second) = aliased
    first.put({i: {"rows": [1.0, 2.0, 0.5]} for i in range(20)})
    second.put({i: {"rows": [1.0, 2.0]} for i in range(20)})
    with pytest.raises(InvalidInput, match=r"dense rows differ in width: 3 in live-.*-1, 2 in live-.*-2"):
        sv.retrofit_each(url, model=tmp_path / "new", dense_field="rows")


def test_a_shell_takes_a_pattern(aliased: tuple[str, list[LuceneShop]], model: Path) -> None:
    url, _ = aliased

    def told(*options: str) -> Any:
        ended = CliRunner().invoke(app, ["retrofit", url, "--model", str(model), "--json", *options])
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    assert len(told("--dense-field", "emb", "--dry-run")["reports"]) == 2
    assert [sum(look["written"] for look in one["looks"]) for one in told("--dense-field", "emb")["reports"]] == [M, M]
    assert [one["look"]["written"] for one in told("--catch-up")["reports"]] == [0, 0]
    assert [one["taken"] for one in told("--undo")["reports"]] == [M, M]


def test_a_folder_stands_for_itself() -> None:
    assert collections("reference:") == ["reference:"]
