"""The page holds everything it shows, and says what the values say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from sparsevec.demo.pictures import colours, quality_pictures, usage_picture
from sparsevec.demo.report import Curve, Found, Reason, Search, Story, page, table
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
    good=True,
    corpus="100 documents & more",
    asked="10 queries asked",
    engine="engine 1.0",
    seconds={"learn": 12.3, "write": 0.7},
    written="100 documents: 100 written",
    verdict="all hits exact",
    exact=True,
    answers=0.975,
    code_bytes=100,
    rows={"dense": evaluation(384), "sparsevec": evaluation(0.65)},
    curves=[Curve("sparsevec", [evaluation(0.3), evaluation(0.65)]), Curve("dense", [evaluation(384)])],
    usages={"sparsevec": np.array([0.2, 0.1, 0.0]), "other": np.array([0.9, 0.1, 0.0])},
    searches=[
        Search(
            "edit <pdf> files",
            [Found("pdftk", 0.5, "a & b", 7, [Reason("pdf", 0.3, ["xpdf"]), Reason("residual code", 0.2)])],
            [Found("pdftk", 0.9, "a & b", 7), Found("xpdf", 0.8, "c", 8)],
        )
    ],
    likes={7: [Found("xpdf</script>", 0.4, "\x1b[31mred", 8)], 8: []},
)
COLOURS = colours(STORY.curves, STORY.usages)


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
    wrong = replace(STORY, exact=False)
    assert "Every answer is exact" not in page(wrong)
    assert "Not every answer is exact" in page(wrong)


def test_a_poor_result_is_no_green_headline() -> None:
    assert '<h1 class="good">' in page(STORY)
    assert '<h1 class="poor">Not good on these' in page(replace(STORY, good=False, title="Not good on these vectors"))


def test_the_page_says_who_asked() -> None:
    assert "10 queries asked" in page(STORY)


def test_sparse_and_dense_answers_stand_side_by_side_with_what_matched() -> None:
    text = page(STORY)
    assert "<h4>answers</h4>" in text
    assert "<h4>dense, exact</h4>" in text
    assert "pdf 60%" in text
    assert text.count('title="found by both"') == 2


def test_the_parts_of_a_score_unfold_with_documents_that_use_the_dimension() -> None:
    text = page(STORY)
    assert "why 0.500" in text
    assert "<b>pdf</b> +0.300 <small>most in xpdf</small>" in text
    assert "<b>residual code</b> +0.200</li>" in text


def test_the_page_ends_in_answers_and_says_what_they_cost() -> None:
    assert "97.5%" in page(STORY)
    assert "a residual code of 100 bytes" in page(STORY)
    assert "a second look" in page(replace(STORY, code_bytes=0))


def test_others_like_a_hit_are_in_the_page_and_cannot_break_out_of_its_script() -> None:
    (data,) = re.findall(r'<script type="application/json" id="likes">(.*?)</script>', page(STORY), re.DOTALL)
    assert json.loads(data) == {"7": [[8, "xpdf</script>", 0.4, "\\x1b[31mred"]], "8": []}
    assert 'data-like="7"' in page(STORY)


def test_what_others_wrote_moves_no_terminal_and_no_line() -> None:
    assert "\u202e" not in page(replace(STORY, written="reason \u202egnp"))


def test_every_picture_has_a_title() -> None:
    pictures = re.findall(r"<svg.*?</svg>", page(STORY), re.DOTALL)
    assert len(pictures) == 3
    assert all(re.match(r'<svg [^>]*role="img"[^>]*><title id="[\w-]+">\w', picture) for picture in pictures)


def test_a_method_has_one_colour_in_all_pictures_and_legends() -> None:
    usages = {"dense": np.array([0.3, 0.2]), "sparsevec": np.array([0.2, 0.1])}
    text = page(replace(STORY, usages=usages))
    dense = COLOURS["dense"]
    assert colours(STORY.curves, {**usages, "other": usages["dense"]}) == COLOURS
    assert text.count(f'background:{dense}"></i>dense') == 2
    assert len([svg for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL) if dense in svg]) == 3


def test_a_cell_knows_its_column_so_that_a_phone_can_show_it() -> None:
    assert '<td data-label="recall@10">0.712</td>' in page(STORY)


def test_the_pictures_take_the_text_colour_of_the_page() -> None:
    picture = "".join(quality_pictures(STORY.curves, COLOURS))
    assert "currentColor" in picture
    assert "#012345" not in picture


def test_the_same_values_draw_the_same_picture() -> None:
    assert usage_picture(STORY.usages, COLOURS) == usage_picture(STORY.usages, COLOURS)


def test_two_pictures_on_one_page_do_not_use_each_others_parts() -> None:
    pictures = [*quality_pictures(STORY.curves, COLOURS), usage_picture(STORY.usages, COLOURS)]
    used = [set(re.findall(r'(?:url\(|href=")#(\w+)', picture)) for picture in pictures]
    assert all(used)
    assert not used[0] & used[1] | used[0] & used[2] | used[1] & used[2]


def test_a_table_has_ndcg_only_where_it_is_known() -> None:
    assert table({"a": evaluation(1)})[0] == ["", "recall@10", "@100", "weights d/q", "F", "R_sub", "bytes"]
    judged = table({"a": evaluation(1), "b": evaluation(0.65, ndcg=0.5)})
    assert [line[3] for line in judged] == ["nDCG@10", "-", "0.500"]
    assert judged[2][4:] == ["32 / 64", "0.65", "1.30", "256"]


@pytest.mark.parametrize("number", [1e-9, 1.0])
def test_a_perfectly_even_usage_can_be_drawn(number: float) -> None:
    usages = {"sparsevec": np.full(5, number)}
    assert "<svg" in usage_picture(usages, colours([], usages))
