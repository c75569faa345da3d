"""What the reproduction says rests on this arithmetic, and on a killed run going on where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.paper.branches import Branch, Recipe, School, Watcher, branch, features, frozen
from benchmarks.paper.claims import answers, at_equal_nnz, curve, exponent, height
from benchmarks.paper.data import Augment, Epochs, Part, Task, flipped_and_cropped, noisy, turned, warped
from benchmarks.paper.measure import Row, Yardstick
from benchmarks.paper.tables import cells, columns, markdown
from sparsevec.training import TrainStep

CLASSES = 8


def task(each: int = 20) -> Task:
    """Unit vectors around eight directions; the gallery is searched by itself."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, 16, generator=generator)
    labels = np.repeat(np.arange(CLASSES), each)
    parts = []
    for _ in range(2):
        rows = centres[torch.from_numpy(labels)] + 1.2 * torch.randn(len(labels), 16, generator=generator)
        parts.append(Part(nn.functional.normalize(rows, dim=1), labels))
    return Task("made", parts[0], parts[1], parts[1], noisy, (1, 4))


def row(method: str, nnz: float, r_sub: float, precision: float, dimension: int = 1024) -> Row:
    """A sparse row whose F follows from its nnz and its spread."""
    f = r_sub * nnz**2 / dimension
    return Row(
        method=method,
        setting="",
        precision={"1": precision},
        multiplications=f,
        operations=f,
        microseconds=1,
        bytes=8 * nnz,
        dimension=dimension,
        nnz=nnz,
        query_nnz=nnz,
        r_sub=r_sub,
    )


SCHOOL = School(trunk_steps=0, branch_steps=30, loss="pairs", each=2, rate=1e-2, batch=16)


def silent(_: TrainStep) -> None:
    pass


class Killed(Exception):
    pass


def killed_at(step: int) -> Watcher:
    def watch(seen: TrainStep) -> None:
        if seen.step == step:
            raise Killed

    return watch


# ---- claims


def test_f_falls_with_the_square_of_nnz_when_the_spread_stays_the_same() -> None:
    rows = [row("FLOPs", nnz, 1.3, 0.5) for nnz in (4, 9, 30, 64)]
    assert exponent(rows, "FLOPs", 1024) == pytest.approx(2)


def test_at_equal_nnz_the_costs_are_those_between_the_measured_rows() -> None:
    rows = [row("FLOPs", 8, 1.2, 0.5), row("FLOPs", 32, 1.2, 0.5), row("L1", 16, 6, 0.5), row("L1", 64, 6, 0.5)]
    found = at_equal_nnz(rows, 1024)
    assert [pair[0] for pair in found] == pytest.approx([16, 32])
    assert [pair[2] / pair[1] for pair in found] == pytest.approx([5, 5])
    assert [pair[3:] for pair in found] == [pytest.approx((1.2, 6))] * 2


def test_where_the_two_were_not_measured_at_a_common_nnz_nothing_is_claimed() -> None:
    rows = [row("FLOPs", 8, 1, 0.5), row("FLOPs", 9, 1, 0.5), row("L1", 30, 1, 0.5), row("L1", 31, 1, 0.5)]
    assert [answer.holds for answer in answers(rows, "1", 100)][:2] == [None, None]


def test_a_curve_leaves_out_what_costs_more_and_finds_less() -> None:
    rows = [row("L1", 8, 1, 0.5), row("L1", 16, 1, 0.4), row("L1", 32, 1, 0.7)]
    assert [point.nnz for point in curve(rows, "L1", "1")] == [8, 32]


def test_between_two_points_a_curve_rises_along_the_logarithm_of_the_price() -> None:
    points = curve([row("L1", 8, 1, 0.5), row("L1", 32, 1, 0.7)], "L1", "1")
    assert height(points, points[0].operations * 4, "1") == pytest.approx(0.6)


def test_a_curve_that_is_beaten_once_does_not_lie_above() -> None:
    rows = [row("FLOPs", 8, 1, 0.5), row("FLOPs", 32, 1, 0.7), row("L1", 16, 1, 0.65), row("L1", 32, 1, 0.6)]
    assert {answer.claim: answer.holds for answer in answers(rows, "1", 100)}[
        "The FLOPs curve lies above that of L1 (P@1)"
    ] is False


# ---- data


def test_a_batch_of_pairs_has_two_different_rows_of_each_of_its_classes() -> None:
    made = task()
    torch.manual_seed(0)
    for inputs, labels in Epochs(made.train, lambda rows: rows, 16, each=2):
        first, second = labels.chunk(2)
        assert first.equal(second)
        assert len(first.unique()) == CLASSES  # type: ignore[no-untyped-call]
        assert not (inputs[:CLASSES] == inputs[CLASSES:]).all(dim=1).any()


def test_an_epoch_has_every_row_once() -> None:
    part = Part(torch.arange(48.0)[:, None], np.arange(48))
    torch.manual_seed(0)
    seen = torch.cat([labels for _, labels in Epochs(part, lambda rows: rows, 16)])
    assert sorted(seen.tolist()) == list(range(48))


@pytest.mark.parametrize(("alter", "shape"), [(flipped_and_cropped, (5, 3, 32, 32)), (warped, (5, 1, 35, 35))])
def test_an_altered_picture_keeps_its_shape_and_is_another(alter: Augment, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    pictures = torch.randn(shape)
    altered = alter(pictures)
    assert altered.shape == pictures.shape
    assert not altered.allclose(pictures)


def test_a_drawing_turned_is_another_class() -> None:
    drawings = Part(torch.arange(9.0).reshape(1, 1, 3, 3).repeat(2, 1, 1, 1), np.array([0, 1]))
    four = turned(drawings)
    assert four.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert four.inputs[2, 0].equal(torch.rot90(drawings.inputs[0, 0]))


# ---- branches


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("dense", 8),
        Recipe("FLOPs", 64, 5.0),
        Recipe("L1", 64, 0.1),
        Recipe("FLOPs", 64, nnz=6),
        Recipe("SDH", 16, active=2),
    ],
    ids=lambda recipe: recipe.file,
)
def test_a_killed_branch_ends_in_the_same_codes(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.paper.branches.CHECKPOINT", 10)
    made, network = task(), nn.Identity()
    whole = branch(made, SCHOOL, recipe, network, tmp_path / "whole", silent)
    with pytest.raises(Killed):
        branch(made, SCHOOL, recipe, network, tmp_path / "killed", killed_at(25))
    resumed = branch(made, SCHOOL, recipe, network, tmp_path / "killed", silent)
    assert resumed.gallery == whole.gallery
    assert resumed.queries == whole.queries


def test_a_branch_taught_by_the_inputs_themselves_needs_no_labels_and_keeps_their_order(tmp_path: Path) -> None:
    made, school = task(), replace(SCHOOL, loss="teacher", branch_steps=200)
    unlabelled = replace(made, train=Part(made.train.inputs, np.zeros_like(made.train.labels)))
    school = replace(school, each=1)
    codes = branch(unlabelled, school, Recipe("FLOPs", 64, 0.1), nn.Identity(), tmp_path, silent).gallery.to_dense()
    similar = np.corrcoef((codes @ codes.T).ravel(), (made.gallery.inputs @ made.gallery.inputs.T).numpy().ravel())
    assert similar[0, 1] > 0.8


def test_another_school_teaches_the_branch_again(tmp_path: Path) -> None:
    made, network, recipe = task(), nn.Identity(), Recipe("FLOPs", 64, 5.0)
    branch(made, SCHOOL, recipe, network, tmp_path, silent)
    with pytest.raises(Killed):
        branch(made, replace(SCHOOL, rate=1e-3), recipe, network, tmp_path, killed_at(1))


def test_a_frozen_collection_is_what_the_backbone_sees_centred_and_at_unit_length() -> None:
    made, network = task(), nn.Sequential(nn.Linear(16, 5), nn.ReLU())
    seen = frozen(made, network, seed=0)
    raw = nn.functional.normalize(network(made.train.inputs).detach(), dim=1)
    assert seen.leave_one_out
    assert seen.train.inputs.shape == (len(made.train), 5)
    assert seen.gallery.inputs.norm(dim=1).numpy() == pytest.approx(np.ones(len(made.gallery)))
    assert seen.train.inputs.mean(dim=0).norm() < raw.mean(dim=0).norm() / 2


def test_a_finished_branch_is_not_trained_again(tmp_path: Path) -> None:
    made, network, recipe = task(), nn.Identity(), Recipe("FLOPs", 64, 5.0)
    first = branch(made, SCHOOL, recipe, network, tmp_path, silent)
    again = branch(made, SCHOOL, recipe, network, tmp_path, killed_at(1))
    assert again == first


def test_no_two_recipes_share_their_files() -> None:
    recipes = [Recipe("FLOPs", 64), Recipe("FLOPs", 64, 5), Recipe("FLOPs", 64, nnz=5), Recipe("SDH", 64, active=5)]
    assert len({recipe.file for recipe in recipes}) == len(recipes)


# ---- measuring


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    made, network, cache = task(each=40), nn.Identity(), tmp_path_factory.mktemp("branches")
    yardstick = Yardstick(made, features(made, network))
    recipes = (Recipe("dense", 16), Recipe("FLOPs", 64, 10.0), Recipe("SDH", 16, active=2))
    branches: list[Branch] = [features(made, network)]
    branches += [branch(made, replace(SCHOOL, branch_steps=200), recipe, network, cache, silent) for recipe in recipes]
    return [yardstick.branch(one) for one in branches]


def test_leave_one_out_never_counts_the_query_itself(rows: list[Row]) -> None:
    found = rows[0].precision["1"]
    inputs, labels = task(each=40).gallery.inputs, torch.from_numpy(task(each=40).gallery.labels)
    nearest = (inputs @ inputs.T).fill_diagonal_(-1).argmax(dim=1)
    assert found == pytest.approx((labels[nearest] == labels).double().mean().item(), abs=1e-9)


def test_a_learned_code_finds_its_class_for_a_fraction_of_the_dense_arithmetic(rows: list[Row]) -> None:
    dense, sparse = rows[1], rows[2]
    assert sparse.multiplications < dense.multiplications / 4
    assert sparse.precision["1"] > dense.precision["1"] - 0.1


def test_every_row_fits_the_table(rows: list[Row]) -> None:
    ks = list(rows[0].precision)
    assert {len(cells(row)) for row in rows} == {len(columns(ks))}
    page = markdown("made", "about", rows, 320, "machine")
    assert all(row.setting in page for row in rows)
