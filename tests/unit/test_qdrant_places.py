"""Reading on without a point in time: whatever is written or deleted between two requests, what stays comes once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparsevec_adapters.qdrant_core.places import Reading

from sparsevec.errors import InvalidInput

Found = tuple[int, float]
Edit = Mapping[int, float | None]


@dataclass
class Engine:
    """Points with their scores, best first, ties in another order each time. Before each request comes an edit: new
    scores of points, or None, which deletes."""

    scores: dict[int, float]
    edits: Iterator[Edit] = field(default_factory=lambda: iter(()))
    edited: set[int] = field(default_factory=set)
    offsets: list[int] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(0)

    def edit(self, changes: Edit) -> None:
        self.edited |= set(changes)
        changed: dict[int, float | None] = {**self.scores, **changes}
        self.scores = {point: score for point, score in changed.items() if score is not None}

    def ask(self, offset: int, limit: int) -> list[Found]:
        self.edit(next(self.edits, {}))
        self.offsets.append(offset)
        self.limits.append(limit)
        order = self._random.permutation(list(self.scores)).tolist()
        return sorted(((point, self.scores[point]) for point in order), key=lambda hit: -hit[1])[offset:][:limit]

    def page(self, after: str, k: int, keep: Callable[[list[Found]], list[Found]] = list) -> Reading[Found]:
        reading = Reading(after, k, rank, keep)
        while reading.goes_on(self.ask(reading.offset, reading.limit)):
            pass
        return reading

    def pages(self, sizes: Iterable[int], keep: Callable[[list[Found]], list[Found]] = list) -> Iterator[list[Found]]:
        after: str | None = ""
        for k in sizes:
            if after is None:
                return
            reading = self.page(after, k, keep)
            after = reading.after
            assert len(reading.hits) == k or after is None
            yield reading.hits


def rank(hit: Found) -> Found:
    return hit


_points, _scores = st.integers(0, 60), st.sampled_from([0.0, 1.0, float(np.float32(1.1)), 2.0, 7.5])
_edits = st.dictionaries(_points, st.one_of(st.none(), _scores), max_size=40)


@settings(max_examples=300)
@given(
    scores=st.dictionaries(_points, _scores, max_size=60),
    edits=st.lists(st.one_of(st.just({}), _edits), max_size=12),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=9),
    every=st.integers(1, 3),
)
def test_each_point_that_stays_comes_once_and_best_first(
    scores: dict[int, float], edits: list[dict[int, float | None]], sizes: list[int], every: int
) -> None:
    engine = Engine(scores, iter(edits))
    pages = engine.pages(chain(sizes, repeat(sizes[-1])), lambda hits: [hit for hit in hits if hit[0] % every == 0])
    hits = list(chain(*pages))
    staying = {p: score for p, score in scores.items() if p % every == 0 and p not in engine.edited}
    found = [hit for hit in hits if hit[0] in staying]
    assert sorted(found) == sorted(staying.items())
    assert [score for _, score in found] == sorted(staying.values(), reverse=True)


def test_where_nothing_changes_a_page_is_one_request() -> None:
    engine = Engine({point: float(100 - point) for point in range(100)})
    assert [len(page) for page in engine.pages(repeat(10))] == [10] * 10
    assert engine.offsets == [0, *range(8, 98, 10)]
    assert engine.limits == [11, *[13] * 9]  # one more, the last that was given, and the one before it


@pytest.mark.parametrize(("gone", "offsets"), [(1, [498, 497]), (3, [498, 497, 495]), (499, [498, 497, 495, 491])])
def test_where_many_above_are_gone_it_looks_twice_as_far_back_each_time(gone: int, offsets: list[int]) -> None:
    engine = Engine({point: float(1000 - point) for point in range(1000)})
    first = engine.page("", 500)
    engine.edit(dict.fromkeys(range(gone)))
    engine.offsets.clear()
    second = engine.page(first.after or "", 20)
    assert [point for point, _ in second.hits] == list(range(500, 520))
    assert engine.offsets[: len(offsets)] == offsets
    assert len(engine.offsets) <= 11


def test_where_many_are_written_above_it_passes_over_them() -> None:
    engine = Engine({point: float(100 - point) for point in range(100)})
    first = engine.page("", 10)
    engine.edit(dict.fromkeys(range(100, 5100), 200.0))
    second = engine.page(first.after or "", 10)
    assert [point for point, _ in second.hits] == list(range(10, 20))
    assert len(engine.offsets) < 20
    engine.page(second.after or "", 10)
    assert engine.offsets[-1] == 5018  # it knows where it is


@pytest.mark.parametrize(
    "after",
    [
        "[NaN, 0, []]",
        "[Infinity, 0, []]",
        "[1.0, -1, []]",
        "[1.0, true, []]",
        "[1, 0, []]",
        "[1.0, 0, [[]]]",
        f"[1.0, {2**63}, []]",
        "[" * 100_000,
    ],
    ids=range(8),
)
def test_a_place_that_no_hit_can_have_is_refused(after: str) -> None:
    with pytest.raises(InvalidInput, match="the `after` of earlier hits"):
        Reading(after, 1, rank, list)
