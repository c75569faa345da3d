"""The same shop on every engine, and one small encoder for its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

import sparsevec as sv
from tests.conftest import brief_trainings
from tests.live.shops import WIDTH, EdgeShop, LuceneShop, QdrantShop, Shop, dense_rows

DIMENSION = 256
LUCENE = [
    pytest.param("elasticsearch9", marks=pytest.mark.elasticsearch),
    pytest.param("elasticsearch8", marks=pytest.mark.elasticsearch),
    pytest.param("opensearch3", marks=pytest.mark.opensearch),
]
SHOPS = [
    *LUCENE,
    pytest.param("qdrant", marks=pytest.mark.qdrant),
    pytest.param("qdrant+edge", marks=pytest.mark.qdrant),
]
SERVERS = [  # the two that differ most in every run, the others in that of slow tests
    pytest.param("elasticsearch9", marks=pytest.mark.elasticsearch),
    pytest.param("elasticsearch8", marks=[pytest.mark.elasticsearch, pytest.mark.slow]),
    pytest.param("opensearch3", marks=[pytest.mark.opensearch, pytest.mark.slow]),
    pytest.param("qdrant", marks=pytest.mark.qdrant),
]
N = 300


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small encoder of such rows."""
    folder = tmp_path_factory.mktemp("live") / "model"
    encoder = sv.SparseEncoder(WIDTH, DIMENSION)
    with brief_trainings():
        encoder.fit(dense_rows(600, seed=1), budget=sv.Budget(nnz=6, flops=0.5))
    encoder.save(folder)
    return folder


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test to note in."""
    sv.SparseEncoder.load(fitted).save(tmp_path / "model")
    return tmp_path / "model"


def opened(name: str, engine_url: Callable[[str], str], tmp_path: Path) -> Shop:
    index = f"live-{uuid4().hex[:8]}"
    if name == "qdrant+edge":
        return EdgeShop(str(tmp_path / "edge"), DIMENSION)
    if name == "qdrant":
        return QdrantShop(f"http://{engine_url('qdrant').partition('://')[2]}", index)
    return LuceneShop(engine_url(name), index, nine=name == "elasticsearch9")


def stocked(shop: Shop, n: int = N) -> Shop:
    rows = dense_rows(n)
    shop.put({i: {"title": f"title {i}", "brand": f"b{i % 3}", "emb": rows[i].tolist()} for i in range(n)})
    return shop


@pytest.fixture(params=SHOPS)
def shop(engine_url: Callable[[str], str], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Holds documents 0 to N - 1, each with a dense row."""
    place = stocked(opened(request.param, engine_url, tmp_path))
    yield place
    place.close()  # type: ignore[attr-defined]


@pytest.fixture(params=LUCENE)
def lucene(engine_url: Callable[[str], str], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LuceneShop]:
    place = stocked(opened(request.param, engine_url, tmp_path))
    assert isinstance(place, LuceneShop)
    yield place
    place.close()
