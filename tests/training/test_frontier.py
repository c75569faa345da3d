"""The search for a frontier, with real trainings on few rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import sparsevec as sv
from sparsevec.cli.app import app
from sparsevec.errors import CheckpointMismatch, InvalidInput
from sparsevec.planning.frontier import CostLimits, Frontier
from sparsevec.planning.halving import find_frontier
from sparsevec.planning.trials import Shape
from sparsevec.progress import Progress
from sparsevec.vectors import Float32s
from tests.conftest import brief_looks
from tests.training.conftest import INPUT, clustered

SHAPES = [Shape(dimension=d, nnz=nnz) for d, nnz in ((128, 4), (256, 4), (256, 8))]
N = 1600


@pytest.fixture(scope="module", autouse=True)
def brief() -> Iterator[None]:
    """What is asked is how runs are chosen, kept and spoken of."""
    with brief_looks():
        yield


@pytest.fixture(scope="module")
def rows() -> tuple[Float32s, Float32s]:
    return clustered(N, seed=1), clustered(160, seed=2, spread=0.6)


def looked(rows: tuple[Float32s, Float32s], folder: Path, **options: Any) -> Frontier:
    asked: dict[str, Any] = {"limits": CostLimits(flops=0.5), "seconds": 600, "shapes": SHAPES, "widths": (10,)}
    return find_frontier(*rows, folder=folder, **(asked | options))


@pytest.fixture(scope="module")
def found(rows: tuple[Float32s, Float32s], tmp_path_factory: pytest.TempPathFactory) -> tuple[Frontier, Path]:
    folder = tmp_path_factory.mktemp("frontier")
    return looked(rows, folder), folder


def test_all_shapes_run_small_and_those_of_the_best_two_dimensions_with_all_rows(found: tuple[Frontier, Path]) -> None:
    frontier, _ = found
    assert frontier.trials == 2 * len(SHAPES)
    assert {one.shape for one in frontier.configurations} == set(SHAPES)
    assert all(one.measured for one in frontier.configurations)
    assert frontier.best.measured
    assert frontier.unfinished is None
    assert frontier.best.flops <= 0.5
    assert "from 400 rows it would have predicted those of 1,600" in frontier.predicted


def test_what_it_says_of_the_best_is_what_a_fit_to_that_budget_gives(
    found: tuple[Frontier, Path], rows: tuple[Float32s, Float32s]
) -> None:
    best = found[0].take(CostLimits(bytes=35))  # no residual code
    encoder = sv.SparseEncoder(INPUT, best.shape.dimension).fit(*rows, budget=best.budget)
    asking = clustered(500, seed=3, spread=0.6)
    documents, queries = encoder.encode_document(rows[0]), encoder.encode_query(asking)
    again = encoder.figures.second_look_recall_10
    assert again == pytest.approx(best.recall, abs=0.08)
    assert sv.cost(queries, documents).flops == pytest.approx(best.flops, rel=0.25)
    assert sv.cost(queries, documents).active_dims == pytest.approx(best.shape.nnz, rel=0.1)


def test_other_limits_are_answered_from_the_runs_that_are_there(
    found: tuple[Frontier, Path], rows: tuple[Float32s, Float32s]
) -> None:
    frontier, folder = found
    again = looked(rows, folder, limits=CostLimits(bytes=35), seconds=1)
    assert (again.trials, again.seconds) == (frontier.trials, frontier.seconds)
    assert again.best.shape.nnz == 4
    assert again.best == frontier.take(CostLimits(bytes=35))


def test_after_a_kill_it_goes_on_with_the_run_that_was_cut_short(
    found: tuple[Frontier, Path], rows: tuple[Float32s, Float32s], tmp_path: Path
) -> None:
    def killed(event: Progress) -> None:
        if "256 dimensions, 8 weights" in event.text and "head 60/" in event.text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        looked(rows, tmp_path, on_step=killed)
    assert (tmp_path / "running" / "256-8-400" / "fit" / "head.checkpoint").exists()
    heard: list[Progress] = []
    again = looked(rows, tmp_path, on_step=heard.append)
    small = [event.text for event in heard if ", 400 rows" in event.text]
    assert not any("128 dimensions" in text for text in small)  # was kept
    assert not any("head 40/" in text for text in small)  # went on from its checkpoint
    assert not (tmp_path / "running").exists()
    assert [one.recall for one in again.configurations] == [one.recall for one in found[0].configurations]
    assert [event.fraction for event in heard] == sorted(event.fraction for event in heard)


def test_runs_of_other_rows_are_not_mixed_in(found: tuple[Frontier, Path], rows: tuple[Float32s, Float32s]) -> None:
    with pytest.raises(CheckpointMismatch, match=r"other rows or settings.*name another folder"):
        looked((rows[0][:-1], rows[1]), found[1])
    with pytest.raises(CheckpointMismatch, match="seed 0 not 1"):
        looked(rows, found[1], seed=1)


def test_a_file_that_it_did_not_write_is_refused(rows: tuple[Float32s, Float32s], tmp_path: Path) -> None:
    (tmp_path / "trials.json").write_text('{"something": "else"}')
    with pytest.raises(InvalidInput, match="not what a frontier writes"):
        looked(rows, tmp_path)


def test_little_time_gives_one_run_and_says_what_is_predicted_from_it() -> None:
    alone = clustered(N + 200, seed=1)  # a tenth of it asks
    frontier = find_frontier(alone, limits=CostLimits(flops=0.5), seconds=0.001, shapes=SHAPES, goal="candidates")
    assert frontier.trials == 1
    assert not frontier.best.measured
    assert (frontier.queries, frontier.documents) == (180, 1620)
    assert {one.residual_bytes for one in frontier.configurations} == {0}
    assert "runs of one size" in frontier.predicted
    assert "seconds in all the same search goes on" in str(frontier)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limits": CostLimits(flops=0.0001)}, "the nearest has flops"),
        ({"limits": CostLimits(bytes=10)}, "the fewest weights that compete take 32"),
        ({"limits": CostLimits(milliseconds=2)}, "latency model"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"widths": (2,)}, "8 to"),
        ({"shapes": [Shape(dimension=64, nnz=32)]}, "not sparse"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    found: tuple[Frontier, Path], rows: tuple[Float32s, Float32s], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        looked(rows, found[1], **options)


def test_too_few_rows_are_refused(rows: tuple[Float32s, Float32s], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at least 400 documents and 50 queries"):
        looked((rows[0][:300], rows[1]), tmp_path)


def test_the_command_ends_in_what_to_take_and_makes_a_page(
    found: tuple[Frontier, Path], rows: tuple[Float32s, Float32s], tmp_path: Path
) -> None:
    for name, array in zip(("documents", "queries"), rows, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    shapes = ["-d", "128", "-d", "256", "--nnz", "4", "--nnz", "8", "--residual-bytes", "10", "-o", str(found[1])]
    asked = ["frontier", f"{tmp_path}/documents.npy", "--queries", f"{tmp_path}/queries.npy", *shapes]
    said = CliRunner().invoke(app, [*asked, "--flops", "0.5", "--seconds", "1"], env={"COLUMNS": "300"})
    assert said.exit_code == 0, said.output
    assert f"take dimension {found[0].best.shape.dimension}, {found[0].best.budget!r}" in said.output
    assert "<svg" in (found[1] / "frontier.html").read_text()
    refused = CliRunner().invoke(app, [*asked, "--seconds", "1"])
    assert (refused.exit_code, "expected a limit" in refused.output) == (2, True)
