"""Reads that follow a switch, for threads and for asyncio."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import sparsevec as sv
from sparsevec.errors import ModelBroken
from sparsevec.live.serving import forget_moved, keep_moved
from tests.live.conftest import DIMENSION
from tests.live.shops import WIDTH, dense_rows

ROWS = dense_rows(60)


@pytest.fixture
def places(model: Path, tmp_path: Path) -> dict[str, Path]:
    """The url of a field and the folder of its encoder, twice."""
    other = sv.SparseEncoder(WIDTH, 2 * DIMENSION, seed=5).fit(ROWS, budget=sv.Budget(nnz=8))
    other.save(tmp_path / "other")
    folders = {f"reference:{tmp_path / name}": tmp_path / folder for name, folder in (("a", "model"), ("b", "other"))}
    for url, folder in folders.items():
        with sv.connect(url) as adapter:
            sv.Retriever(sv.SparseEncoder.load(folder), adapter).add(range(60), ROWS)
    return folders


def test_a_search_of_asyncio_is_answered_by_what_serves_at_that_moment(places: dict[str, Path]) -> None:
    (first, model), (second, to) = places.items()

    async def three() -> list[list[sv.Hits]]:
        found = []
        async with sv.AsyncServing(first, model=model) as serving:
            found.append(await serving.search(ROWS[:3]))
            keep_moved(model, second, to, "emb")
            found += await asyncio.gather(serving.search(ROWS[:3]), serving.search(ROWS[:3]))
            now = await serving.now()
            assert (now.url, now.model, now.dense) == (second, to, "emb")
            assert repr(serving) == f"AsyncServing({second!r}, model={str(to)!r})"
            forget_moved(model)
            found.append(await serving.search(ROWS[:3]))
        return found

    expected = []
    for url, folder in places.items():
        with sv.connect(url) as adapter:
            expected.append(sv.Retriever(sv.SparseEncoder.load(folder), adapter).search(ROWS[:3]))
    assert expected[0] != expected[1]
    assert asyncio.run(three()) == [expected[0], expected[1], expected[1], expected[0]]


def test_a_folder_that_is_not_there_is_told_at_each_search_until_it_is(places: dict[str, Path], tmp_path: Path) -> None:
    (first, model), (second, to) = places.items()

    async def later() -> int:
        async with sv.AsyncServing(first, model=model) as serving:
            keep_moved(model, second, tmp_path / "nowhere", "emb")
            for _ in range(2):
                with pytest.raises(ModelBroken):
                    await serving.search(ROWS[:1])
            sv.SparseEncoder.load(to).save(tmp_path / "nowhere")
            return len((await serving.search(ROWS[:1]))[0])

    assert asyncio.run(later()) == 10
