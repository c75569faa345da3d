"""`check` finds each prepared trap, and nothing where all is well."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

import sparsevec as sv
from tests.live.conftest import opened, stocked
from tests.live.shops import WIDTH
from tests.live.traps import LUCENE, QDRANT, QdrantTrap, Trap, table

ENGINES = ("elasticsearch9", "elasticsearch8", "opensearch3")
CASES = [
    pytest.param(engine, trap, id=f"{engine}-{trap.name}", marks=getattr(pytest.mark, engine.rstrip("0123456789")))
    for trap in LUCENE
    for engine in trap.engines
]


def asking(engine_url: str) -> Callable[..., Any]:
    base = f"http://{engine_url.partition('://')[2]}"

    def ask(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(base + path, data, {"content-type": "application/json"}, method=method)) as answer:
            return json.load(answer)

    return ask


@pytest.mark.parametrize(("engine", "trap"), CASES)
def test_a_trap_is_found(engine_url: Callable[[str], str], engine: str, trap: Trap) -> None:
    url, index = engine_url(engine), f"live-{uuid4().hex[:8]}"
    ask = asking(url)
    dense: Any = {"type": "float", "index": False}
    if engine != "opensearch3":
        dense = {"type": "dense_vector", "dims": WIDTH}
    properties = {"emb": dense, "title": {"type": "text"}, **trap.properties}
    settings = {"index.number_of_replicas": 0, "index.number_of_shards": 1, **trap.settings}
    ask("PUT", f"/{index}", {"settings": settings, "mappings": {**trap.mappings, "properties": properties}})
    try:
        for id_, document in trap.documents.items():
            ask("PUT", f"/{index}/_doc/{id_}?refresh=true", document)
        name = (trap.after(ask, index) if trap.after else None) or index
        with sv.connect(f"{url}/{name}?field=sparse") as adapter:
            found = {(one.level, one.subject) for one in sv.check(adapter, dense_field=trap.dense_field)}
        assert (trap.level, trap.subject) in found
    finally:
        for block in ("read_only", "read_only_allow_delete"):  # one at a time: only its own lifting passes a block
            with suppress(HTTPError):
                ask("PUT", f"/{index}/_settings", {f"index.blocks.{block}": None})
        ask("DELETE", f"/{index}*")


@pytest.mark.qdrant
@pytest.mark.parametrize("trap", QDRANT, ids=lambda trap: trap.name)
def test_a_trap_of_qdrant_is_found(engine_url: Callable[[str], str], trap: QdrantTrap) -> None:
    url, name = engine_url("qdrant"), f"live-{uuid4().hex[:8]}"
    ask = asking(url)
    ask("PUT", f"/collections/{name}", trap.collection)
    try:
        with sv.connect(f"{url}/{name}?vector_name=sparse") as adapter:
            found = {(one.level, one.subject) for one in sv.check(adapter)}
        assert (trap.level, trap.subject) in found
    finally:
        ask("DELETE", f"/collections/{name}")


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dense_field", ["emb", None])
@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_found_where_all_is_well(
    engine_url: Callable[[str], str], engine: str, dense_field: str | None, shards: int, tmp_path: Path
) -> None:
    shop: Any = stocked(opened(engine, engine_url, tmp_path))
    try:
        with sv.connect(shop.url) as adapter:
            assert [one for one in sv.check(adapter, dense_field=dense_field) if one.level != "fine"] == []
    finally:
        shop.close()


def test_the_page_of_traps_is_made_from_them() -> None:
    assert (Path(__file__).parents[2] / "docs" / "traps.md").read_text() == table()
