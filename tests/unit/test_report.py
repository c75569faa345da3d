"""The page holds everything it shows, and says what the values say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sparsevec.demo.report import Curve, Found, Search, Story, page, quality_picture, table, usage_picture
from sparsevec.measure.recall import Evaluation


def evaluation(flops: float, *, ndcg: float | None = None) -> Evaluation:
    return Evaluation(
        documents=100,
        queries=10,
        recall_10=0.7123,
        recall_10_at_100=0.98,
        ndcg_10=ndcg,
        active_dims=32,
        query_active_dims=64.4,
        sparsity_ratio=0.99,
        flops=flops,
        r_sub=1.3,
        dead_dims=0,
        max_document_frequency=0.1,
        bytes=256,
        dense_bytes=1536,
    )


STORY = Story(
    title="Title <b>",
    corpus="100 documents & more",
    engine="engine 1.0",
    seconds={"learn": 12.3, "write": 0.7},
    written="100 documents: 100 written",
    verdict="all hits exact",
    exact=True,
    rows={"dense": evaluation(384), "sparsevec": evaluation(0.65)},
    curves=[Curve("sparsevec", [evaluation(0.3), evaluation(0.65)]), Curve("dense", [evaluation(384)])],
    usages={"sparsevec": np.array([0.2, 0.1, 0.0]), "other": np.array([0.9, 0.1, 0.0])},
    searches=[Search("edit <pdf> files", [Found("pdftk", 0.5, "a & b")])],
)


class Links(HTMLParser):
    """Collects what a page would load, and checks that its tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [str(values[name]) for name in ("src", "href", "xlink:href") if name in values]
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open.pop() != tag:
            pass


def test_the_page_loads_nothing_from_elsewhere() -> None:
    links = Links()
    links.feed(page(STORY))
    assert [link for link in links.loads if not link.startswith("#")] == []
    assert not re.search(r"url\((?!#)|@import", page(STORY))
    assert not links.open


def test_the_page_shows_the_searches_the_verdict_and_the_figures_escaped() -> None:
    text = page(STORY)
    assert "edit &lt;pdf&gt; files" in text
    assert "a &amp; b" in text
    assert "all hits exact" in text
    assert "Every answer is exact" in text
    assert "0.712" in text


def test_the_page_says_so_when_an_answer_was_not_exact() -> None:
    wrong = Story(**{field: getattr(STORY, field) for field in STORY.__slots__} | {"exact": False})
    assert "Every answer is not exact" not in page(wrong)
    assert "Not every answer is exact" in page(wrong)


def test_the_pictures_take_the_text_colour_of_the_page() -> None:
    picture = quality_picture(STORY.curves)
    assert "currentColor" in picture
    assert "#012345" not in picture


def test_the_same_values_draw_the_same_picture() -> None:
    assert usage_picture(STORY.usages) == usage_picture(STORY.usages)


def test_two_pictures_on_one_page_do_not_use_each_others_parts() -> None:
    pictures = quality_picture(STORY.curves), usage_picture(STORY.usages)
    used = [set(re.findall(r'(?:url\(|href=")#(\w+)', picture)) for picture in pictures]
    assert used[0]
    assert not used[0] & used[1]


def test_a_table_has_ndcg_only_where_it_is_known() -> None:
    assert table({"a": evaluation(1)})[0] == ["", "recall@10", "@100", "weights d/q", "F", "R_sub", "bytes"]
    judged = table({"a": evaluation(1), "b": evaluation(0.65, ndcg=0.5)})
    assert [line[3] for line in judged] == ["nDCG@10", "-", "0.500"]
    assert judged[2][4:] == ["32 / 64", "0.65", "1.30", "256"]


@pytest.mark.parametrize("number", [1e-9, 1.0])
def test_a_perfectly_even_usage_can_be_drawn(number: float) -> None:
    assert "<svg" in usage_picture({"sparsevec": np.full(5, number)})
