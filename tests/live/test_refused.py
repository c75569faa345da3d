"""Everything that a retrofit may be given wrongly: refused with the reason before anything is changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import sparsevec as sv
from sparsevec.errors import (
    BackendUnsupported,
    InvalidInput,
    SparsevecError,
    StorageFailed,
)
from sparsevec.live.folder import Folder
from tests.live.conftest import opened
from tests.live.shops import WIDTH, LuceneShop, QdrantShop, dense_rows

M = 20
Prepare = Callable[[Any], str | None]


@dataclass(frozen=True)
class Wrong:
    name: str
    error: type[SparsevecError]
    said: str
    prepare: Prepare = lambda _shop: None
    """makes it wrong; gives the name in the url, where that is another one"""
    dense_field: str | None = "emb"
    busy: bool = False
    """another retrofit works with the folder"""


def _put(**fields: Any) -> Prepare:
    def apply(shop: Any) -> None:
        shop.put({number: {"title": "t", **fields} for number in range(M)})

    return apply


def _widths(shop: Any) -> None:
    shop.put({number: {"rows": [1.0] * (3 + number % 2)} for number in range(M)})


def _remade(properties: Any, rules: Any = None, **fields: Any) -> Prepare:
    """The index again, with that mapping."""

    def apply(shop: LuceneShop) -> None:
        shop.http("DELETE", "")
        source = {} if rules is None else {"_source": rules}
        settings = {"number_of_replicas": 0, "max_result_window": 100_000}
        shop.http("PUT", "", {"settings": settings, "mappings": {"properties": properties, **source}})
        shop.put({number: {"title": "t", **fields} for number in range(M)})

    return apply


def _another_retrofit(shop: Any) -> None:
    encoder = sv.SparseEncoder(WIDTH, 64, seed=3)
    encoder.fit(dense_rows(200, seed=2), budget=sv.Budget(nnz=4, flops=0.9))
    with sv.connect(shop.url) as adapter:
        adapter.create(64, fingerprint=encoder.fingerprint)


def _viewed(condition: Any) -> Callable[[LuceneShop], str]:
    def apply(shop: LuceneShop) -> str:
        shop.http("PUT", f"/_alias/{shop.index}-view", {"filter": condition})
        return f"{shop.index}-view"

    return apply


def _dense(**about: Any) -> dict[str, Any]:
    return {"type": "dense_vector", "dims": WIDTH, "similarity": "cosine", **about}


def _vectors(vectors: Any) -> Prepare:
    def apply(shop: QdrantShop) -> None:
        shop.http("DELETE", "")
        shop.http("PUT", "", {"vectors": vectors})

    return apply


_V = {"size": WIDTH, "distance": "Dot"}
ROW = dense_rows(1)[0].tolist()
HIDES = "is an alias with a filter"
BOTH = (
    Wrong(
        "no document has a dense row there", InvalidInput, "none of 20 documents has a dense row in", dense_field="no"
    ),
    Wrong(
        "rows are of another width than the encoder's",
        InvalidInput,
        "takes rows of 24 numbers",
        _put(rows=[1.0, 2.0]),
        "rows",
    ),
    Wrong("rows are of two widths", InvalidInput, "differ in width", _widths, "rows"),
    Wrong(
        "every row is zero", InvalidInput, "all 20 dense rows are zero or not finite", _put(rows=[0.0] * WIDTH), "rows"
    ),
    Wrong(
        "another retrofit works with the folder", StorageFailed, "another retrofit or catch-up works with", busy=True
    ),
    Wrong("the field is another encoder's", SparsevecError, "vectors of the encoder", _another_retrofit),
)
ES = (
    Wrong(
        "no field is declared to hold dense rows",
        InvalidInput,
        "declares no field or vector with dense rows",
        _remade({}),
        None,
    ),
    Wrong(
        "several fields hold dense rows",
        InvalidInput,
        r"has dense rows in \['emb', 'other'\]",
        _remade({"emb": _dense(), "other": _dense()}, emb=ROW, other=ROW),
        None,
    ),
    Wrong(
        "rows are bits",
        InvalidInput,
        "declared to hold 192",
        _remade({"emb": _dense(dims=192, element_type="bit", similarity="l2_norm")}, emb=[1] * WIDTH),
    ),
)
LUCENES = (
    Wrong(
        "the rows are left out of `_source`",
        BackendUnsupported,
        "leaves fields out of _source",
        _remade({}, {"excludes": ["emb"]}, emb=ROW),
    ),
    Wrong("the index is a view", BackendUnsupported, HIDES, _viewed({"term": {"title": "t"}})),
    Wrong("the view shows nothing", BackendUnsupported, HIDES, _viewed({"term": {"title": "none"}})),
)
QDRANT = (
    Wrong("no vector is declared", InvalidInput, "declares no field or vector with dense rows", _vectors({}), None),
    Wrong(
        "several vectors hold dense rows",
        InvalidInput,
        r"has dense rows in \['a', 'b'\]",
        _vectors({"a": _V, "b": _V}),
        None,
    ),
)
SERVERS = {
    "qdrant": (*BOTH, *QDRANT),
    "opensearch3": (*BOTH, *LUCENES),
    "elasticsearch9": (*BOTH, *LUCENES, *ES),
    "elasticsearch8": (*BOTH, *LUCENES, *ES),
}
CASES = [
    pytest.param(engine, wrong, id=f"{engine}-{wrong.name}", marks=getattr(pytest.mark, engine.rstrip("0123456789")))
    for engine, cases in SERVERS.items()
    for wrong in cases
]


def state(shop: Any) -> Any:
    """What there is, ours too."""
    if isinstance(shop, LuceneShop):
        return shop.http("GET", "/_mapping"), shop.documents()
    scrolled = shop.http("POST", "/points/scroll", {"limit": 1000, "with_vector": True})
    return shop.http("GET", "")["result"]["config"], scrolled["result"]


@pytest.mark.parametrize(("engine", "wrong"), CASES)
def test_it_is_refused_with_the_reason_before_anything_is_changed(
    engine_url: Callable[[str], str], engine: str, wrong: Wrong, tmp_path: Path, model: Path
) -> None:
    shop: Any = opened(engine, engine_url, tmp_path)
    try:
        shop.put({number: {"title": "t", "emb": ROW} for number in range(M)})
        name = wrong.prepare(shop)
        here = shop.index if isinstance(shop, LuceneShop) else shop.collection
        url, before = shop.url.replace(f"/{here}?", f"/{name or here}?"), state(shop)
        with Folder(model).locked() if wrong.busy else nullcontext(), pytest.raises(wrong.error, match=wrong.said):
            sv.retrofit(url, model=model, dense_field=wrong.dense_field)
        assert state(shop) == before
    finally:
        shop.close()


@pytest.mark.parametrize("kind", ["int8_hnsw", "int4_flat", "bbq_hnsw"])
@pytest.mark.elasticsearch
def test_rows_that_the_engine_quantises_are_read_as_they_were_given(
    engine_url: Callable[[str], str], kind: str, tmp_path: Path, model: Path
) -> None:
    shop: Any = opened("elasticsearch9", engine_url, tmp_path)
    wide = [*ROW, *([0.0] * 40)]  # bbq takes 64 numbers at least
    encoder = sv.SparseEncoder(len(wide), 64)
    encoder.fit(
        [[*row, *([0.01] * 40)] for row in dense_rows(200).tolist()],
        budget=sv.Budget(nnz=4, flops=0.9),
    )
    encoder.save(tmp_path / "wide")
    try:
        about = _dense(dims=len(wide), index_options={"type": kind})
        _remade({"emb": about}, emb=wide)(shop)
        report = sv.retrofit(shop.url, model=tmp_path / "wide")
        assert (report.written, report.looks[0].faulty, report.complete) == (M, 0, True)
    finally:
        shop.close()


@pytest.mark.qdrant
def test_rows_that_qdrant_keeps_rounded_are_told_of_and_taken(engine_url: Callable[[str], str], model: Path) -> None:
    shop = QdrantShop(f"http://{engine_url('qdrant').partition('://')[2]}", f"live-{uuid4().hex[:8]}")
    try:
        shop.http("DELETE", "")
        shop.http("PUT", "", {"vectors": {"emb": {"size": WIDTH, "distance": "Dot", "datatype": "float16"}}})
        shop.put({number: {"title": "t", "emb": ROW} for number in range(M)})
        found = [(one.level, one.subject) for one in sv.check(shop.url, dense_field="emb") if one.level != "fine"]
        assert ("warning", "dense rows") in found
        assert sv.retrofit(shop.url, model=model).written == M
    finally:
        shop.close()
