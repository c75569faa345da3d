"""The frontier without any training: what a law predicts, what a budget takes, and the page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import sparsevec as sv
from sparsevec.errors import InvalidInput
from sparsevec.measure.intervals import Interval
from sparsevec.planning import halving, trials
from sparsevec.planning.frontier import Configuration, CostLimits, Frontier, best_within, pareto
from sparsevec.planning.law import Law, Seen
from sparsevec.planning.picture import page, panel
from sparsevec.planning.trials import Point, Rows, Shape, Trial

# ---- the law

SHAPES = [(2048, 16), (2048, 32), (4096, 32), (8192, 16), (8192, 32), (8192, 64)]
LENGTHS = (16, 32, 64, 128)


def truth(d: int, k: int, f: float, n: int) -> float:
    return float(0.98 - 0.5 * d**-0.2 - 0.04 * f**-0.5 - 0.8 * n**-0.25 - 0.3 * k**-0.5)


def runs(sizes: tuple[int, ...], noise: float = 0.0, seed: int = 0) -> list[Seen]:
    rng = np.random.default_rng(seed)
    return [
        Seen(d, k, m, m * k / d, n, truth(d, k, m * k / d, n) + noise * rng.standard_normal())
        for n in sizes
        for d, k in SHAPES
        for m in LENGTHS
    ]


def off(law: Law, sizes: tuple[int, ...]) -> float:
    return max(abs(law.predict(one, one.documents)[0] - one.recall) for one in runs(sizes))


def test_a_law_predicts_four_times_the_rows() -> None:
    assert off(Law.fitted(runs((1250, 5000))), (20_000,)) < 0.015
    assert off(Law.fitted(runs((1250, 2500, 5000), noise=0.004)), (20_000,)) < 0.015


def test_what_it_would_have_been_off_is_known_from_the_largest_runs() -> None:
    law = Law.fitted(runs((1250, 5000), noise=0.003))
    smaller = Law.fitted(runs((1250,), noise=0.003))
    assert law.missed is not None
    assert law.missed < off(smaller, (5000,))  # the better of several laws, in the mean
    assert smaller.missed is None


def test_nine_of_ten_intervals_hold_what_was_predicted() -> None:
    held = []
    for seed in range(5):
        law = Law.fitted(runs((1250, 2500, 5000), noise=0.004, seed=seed))
        for one in runs((20_000,), noise=0.004, seed=100 + seed):
            low, high = law.predict(one, one.documents)[1]
            held.append(low <= one.recall <= high)
    assert np.mean(held) > 0.9


def test_the_further_the_wider() -> None:
    law = Law.fitted(runs((1250, 2500), noise=0.004))
    like = runs((2500,))[0]
    near, far = (law.predict(like, n)[1] for n in (5000, 40_000))
    assert far.high - far.low > near.high - near.low


def test_a_recall_stays_between_nothing_and_all() -> None:
    law = Law.fitted([Seen(4096, 32, 32, 0.25, n, recall) for n, recall in ((500, 0.97), (2000, 0.999))])
    recall, (low, high) = law.predict(Seen(4096, 32, 32, 0.25, 2000, 0.999), 10**7)
    assert 0 <= low <= recall <= high <= 1


# ---- what a budget takes


def made(nnz: int, query_nnz: int | None, recall: float, **costs: Any) -> Configuration:
    told = {"flops": 0.5, "bytes": 8.0 * nnz, "milliseconds": 2.0, "residual_bytes": 0, "measured": True, **costs}
    half = 0.01 if told["measured"] else 0.05
    return Configuration(
        shape=Shape(dimension=8192, nnz=nnz),
        query_nnz=query_nnz,
        lists=query_nnz or 100,
        recall=recall,
        interval=Interval(recall - half, recall + half),
        **told,
    )


SMALL = made(16, 32, 0.80, flops=0.1, milliseconds=1.0)
CODED = made(16, 64, 0.90, flops=0.2, milliseconds=3.0, bytes=188.0, residual_bytes=60)
LONG = made(32, None, 0.85, flops=0.64)
HOPED = made(64, 128, 0.93, flops=0.9, measured=False)
EVERY = (SMALL, CODED, LONG, HOPED)


@pytest.mark.parametrize(
    ("limits", "best"),
    [
        (CostLimits(flops=0.15), SMALL),
        (CostLimits(flops=1.0), CODED),  # what was measured, before what was only predicted a little higher
        (CostLimits(milliseconds=2.5), HOPED),
        (CostLimits(milliseconds=2.5, flops=0.7), LONG),
        (CostLimits(bytes=150), SMALL),
    ],
)
def test_a_budget_takes_the_best_that_can_be_counted_on(limits: CostLimits, best: Configuration) -> None:
    assert best_within(EVERY, limits) == best


def test_a_budget_that_nothing_meets_names_the_nearest() -> None:
    with pytest.raises(InvalidInput, match=r"F ≤ 0\.01; the nearest has flops 0\.1: .*16 weights.*32 weights a query"):
        best_within(EVERY, CostLimits(flops=0.01))


HUGE = pytest.param(10**5000, id="of more digits than Python writes")


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan, True, "much", 10**400, HUGE])
def test_a_limit_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="limit of bytes"):
        CostLimits(bytes=wrong)
    with pytest.raises(InvalidInput, match="seconds must be"):
        sv.find_frontier(np.eye(3), limits=CostLimits(bytes=100), seconds=wrong)


def test_no_limit_at_all_is_refused() -> None:
    with pytest.raises(InvalidInput, match="flops, bytes, milliseconds"):
        CostLimits()


def test_a_front_rises_with_its_cost() -> None:
    assert pareto(EVERY, "flops") == [SMALL, CODED, HOPED]
    assert pareto(EVERY, "milliseconds") == [SMALL, HOPED]


def test_a_configuration_says_the_budget_that_makes_it() -> None:
    assert CODED.budget == sv.Budget(nnz=16, flops=0.2, query_nnz=64, residual_bytes=60)
    assert made(32, None, 0.8, flops=0.6412).budget == sv.Budget(nnz=32, flops=0.65)


# ---- the search


def searched(monkeypatch: pytest.MonkeyPatch, n: int, costs: dict[Shape, float], **asked: Any) -> list[tuple[int, int]]:
    """(dimension, rows) of each run of a search in which F falls with rows, to what it `costs` a shape among all."""
    return found_by(monkeypatch, n, costs, **asked)[0]


def found_by(
    monkeypatch: pytest.MonkeyPatch, n: int, costs: dict[Shape, float], **asked: Any
) -> tuple[list[tuple[int, int]], Frontier]:
    """The same, and what was found."""
    made: list[tuple[int, int]] = []

    def tried(run: list[Shape], rows: Rows, **_: Any) -> list[Trial]:
        made.append((run[0].dimension, len(rows.documents)))
        return [trial(shape, len(rows.documents)) for shape in run]

    def trial(shape: Shape, size: int) -> Trial:
        recall, f = 0.8 + shape.dimension / 1e5, costs[shape] * (1 if size == n else 1.1)
        told: dict[str, Any] = dict.fromkeys(("answers", "candidates"), recall)
        told |= dict.fromkeys(("answers_interval", "candidates_interval"), Interval(recall, recall))
        costs_32 = {"query_nnz": 32, "residual_bytes": 0, "lists": 32, "touched": 0.3, "bytes": 256, "hits": 100}
        point = Point.model_validate(told | costs_32 | {"flops": f})
        return Trial(shape=shape, documents=size, queries=300, seconds=10, points=(point,))

    monkeypatch.setattr(halving, "tried", tried)
    rows = np.random.default_rng(0).standard_normal((n + 600, 4)).astype(np.float32)
    limits = CostLimits(flops=0.5)
    return made, halving.find_frontier(rows[:n], rows[n:], limits=limits, shapes=list(costs), widths=(), **asked)


def test_shapes_of_a_dimension_share_a_training() -> None:
    shapes = [Shape(dimension=d, nnz=nnz) for d, nnz in ((1024, 16), (2048, 16), (2048, 64), (2048, 32), (2048, 8))]
    learned = [[(shape.dimension, shape.nnz) for shape in run] for run in trials.runs(halving._middle_first(shapes))]
    assert learned == [[(1024, 16)], [(2048, 16), (2048, 8), (2048, 32), (2048, 64)]]
    best_first = [[shape.nnz for shape in run] for run in trials.runs(shapes[2:])]
    assert best_first == [[64, 32], [8]]  # an encoder of 64 is not taken with 8


def test_few_rows_are_learned_from_a_quarter_and_then_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {Shape(dimension=d, nnz=16): 0.3 for d in (1024, 2048, 4096)}
    made = searched(monkeypatch, 2000, costs, seconds=1e6)
    assert made == [(1024, 500), (2048, 500), (4096, 500), (4096, 2000), (2048, 2000)]


def test_many_rows_are_learned_from_a_sixteenth_first(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {Shape(dimension=d, nnz=16): 0.3 for d in (1024, 2048, 4096)}
    made = searched(monkeypatch, 80_000, costs, seconds=1e6)
    assert [rows for _, rows in made] == [5000, 5000, 5000, 20_000, 80_000]


def test_a_folder_of_earlier_runs_answers_with_a_shape_that_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    better, given = Shape(dimension=4096, nnz=16), Shape(dimension=1024, nnz=16)
    searched(monkeypatch, 2000, {better: 0.3}, seconds=1e6, folder=tmp_path)
    made, found = found_by(monkeypatch, 2000, {given: 0.3}, seconds=1e-6, folder=tmp_path)
    assert made == [(1024, 500)]  # at least one run, however long the earlier ones took
    assert {one.shape for one in (found.best, *found.configurations)} == {given}
    assert searched(monkeypatch, 2000, {given: 0.3}, seconds=1e6, folder=tmp_path) == [(1024, 2000)]


def test_what_few_rows_cost_a_little_too_much_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {Shape(dimension=d, nnz=16): f for d, f in ((1024, 0.3), (2048, 0.7), (4096, 0.48))}
    made = searched(monkeypatch, 2000, costs, seconds=1e6)  # 0.48 is 0.53 for few
    assert made[3:] == [(4096, 2000), (1024, 2000)]


def test_with_all_rows_the_best_two_dimensions_are_tried_whole_as_far_as_the_time_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = {Shape(dimension=d, nnz=nnz): 0.3 for d in (1024, 2048, 4096) for nnz in (16, 32)}
    made = searched(monkeypatch, 2000, costs, seconds=1e6)
    assert made == [(1024, 500), (2048, 500), (4096, 500), (4096, 2000), (2048, 2000)]
    one = 10 * (5000 + 2000) / (5000 + 500)  # of the six before, each of which says that it took ten seconds
    with_one_shape = searched(monkeypatch, 2000, costs, seconds=60 + 1.1 * one)
    assert with_one_shape == made[:4]


def test_a_run_of_all_rows_is_made_where_the_time_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {Shape(dimension=d, nnz=16): 0.3 for d in (1024, 2048)}
    expected = 10 * (5000 + 2000) / (5000 + 500)  # seconds of one: most of them are for any number of rows
    assert len(searched(monkeypatch, 2000, costs, seconds=20 + expected)) == 3
    assert len(searched(monkeypatch, 2000, costs, seconds=19 + expected)) == 2


# ---- the page


@pytest.fixture
def frontier() -> Frontier:
    return Frontier(
        documents=20_000,
        queries=300,
        goal="answers",
        engine="<engine>",
        configurations=EVERY,
        limits=CostLimits(flops=0.7, bytes=300),
        best=CODED,
        warning="F is <not> time",
        predicted="predicted by a law",
        trials=7,
        seconds=100.0,
    )


def test_a_frontier_answers_other_budgets(frontier: Frontier) -> None:
    assert frontier.take(CostLimits(flops=0.15)) == SMALL
    assert frontier.front("flops") == [SMALL, CODED]  # the others have more bytes than the limit
    assert Frontier.model_validate_json(frontier.model_dump_json()) == frontier


def test_the_last_line_says_what_to_take(frontier: Frontier) -> None:
    advice = str(frontier).split("\n")[-1]
    assert "F ≤ 0.7, ≤ 300 bytes a document" in advice
    assert "dimension 8192, Budget(nnz=16, flops=0.2, query_nnz=64, residual_bytes=60)" in advice


def test_the_table_marks_what_to_take_and_says_what_there_was_no_time_for(frontier: Frontier) -> None:
    marked = [line for line in str(frontier).split("\n") if line.endswith("<- take")]
    assert len(marked) == 1
    assert "0.900" in marked[0]
    assert "The time was spent" not in str(frontier)
    stopped = frontier.model_copy(update={"left": 50.0})
    assert "the next takes about 50 s. With 160 seconds in all" in str(stopped)
    assert "With 160 seconds in all" in page(stopped)


def test_a_panel_is_a_picture_with_a_mark_for_each_configuration(frontier: Frontier) -> None:
    for axis in ("flops", "bytes", "milliseconds"):
        svg = ElementTree.fromstring(panel(frontier, axis))
        circles = svg.findall("circle")
        assert len(circles) == len(EVERY) + 1
        width, height = map(float, svg.attrib["viewBox"].split()[2:])
        assert all(0 <= float(one.attrib["cx"]) <= width and 0 <= float(one.attrib["cy"]) <= height for one in circles)
        assert sum(one.attrib.get("fill") == "none" for one in circles) == 1  # predicted


def test_the_page_shows_text_of_others_as_text(frontier: Frontier) -> None:
    shown = page(frontier)
    assert "<not>" not in shown
    assert "F is &lt;not&gt; time" in shown
    assert "class=taken" in shown


def test_where_all_is_found_the_page_is_made_too(frontier: Frontier) -> None:
    every = tuple(one.model_copy(update={"recall": 1.0, "interval": Interval(1.0, 1.0)}) for one in EVERY)
    perfect = frontier.model_copy(update={"configurations": every, "best": every[1]})
    assert "recall of the answers, 1.000-1.000" in page(perfect)


def test_milliseconds_of_no_engine_are_not_said_to_be_too_many(frontier: Frontier) -> None:
    with pytest.raises(InvalidInput, match="no milliseconds are known: the search had no latency model"):
        frontier.model_copy(update={"engine": None}).take(CostLimits(milliseconds=3))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seed": "x"}, "seed must be a whole number of at least 0, found 'x'"),
        ({"seed": -1}, "seed must be a whole number of at least 0, found -1"),
        ({"seed": True}, "seed must be a whole number of at least 0, found True"),
        ({"on_step": 5}, "on_step must be a function of one argument, found 5"),
        ({"shapes": []}, "expected a shape that competes, such as Shape"),
        ({"shapes": halving.shapes_of([100], [32])}, "whose dimension is at least 16 times the weights"),
    ],
)
def test_a_search_that_cannot_begin_says_why(wrong: dict[str, Any], said: str) -> None:
    rows = np.random.default_rng(0).random((600, 8), np.float32)
    with pytest.raises(InvalidInput, match=said):
        sv.find_frontier(rows, limits=CostLimits(flops=1), seconds=1, **wrong)
