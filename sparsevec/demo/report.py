"""What `sparsevec demo` and `eval` show, as functions of values: tables, and one HTML page that needs nothing beside
itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sparsevec.demo.pictures import Curve, colours, quality_pictures, usage_picture
from sparsevec.errors import printable
from sparsevec.measure.recall import Evaluation
from sparsevec.pages import cards, filled, legend, text
from sparsevec.pages import table as html_table

__all__ = ["Curve", "Found", "Search", "Story", "page", "table"]

_OPEN = 6  # searches that show at once; the rest unfolds


@dataclass(frozen=True, slots=True)
class Reason:
    """One part of a score, and documents that use the dimension it comes from."""

    name: str
    score: float
    examples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """One hit as a person reads it."""

    id: int | str
    score: float
    text: str
    row: int = -1
    """of the document, so that others like it can be found; -1: unknown"""
    why: Sequence[Reason] = ()
    """what the score is the sum of"""


@dataclass(frozen=True, slots=True)
class Search:
    """A query in words, its best documents, and what the dense vectors find."""

    text: str
    found: Sequence[Found]
    dense: Sequence[Found] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """All that a page tells."""

    title: str
    good: bool
    """False where the title says what is poor"""
    corpus: str
    """what was learned from, in a sentence"""
    asked: str
    """who asked, in a sentence"""
    engine: str
    seconds: Mapping[str, float]
    """by stage"""
    written: str
    """the ingest report, in words"""
    verdict: str
    """the verify report, in words"""
    exact: bool
    answers: float
    """R10 of the final answers"""
    code_bytes: int
    """of a residual code; 0 where the second look re-ranks"""
    rows: Mapping[str, Evaluation]
    """the table, by method; the last row is ours"""
    curves: Sequence[Curve]
    """ours first"""
    usages: Mapping[str, npt.NDArray[np.float64]]
    """p_j of the documents, by method; ours first"""
    searches: Sequence[Search]
    likes: Mapping[int, Sequence[Found]] = field(default_factory=dict)
    """by row of a document, those most like it"""


# ---- tables


def table(rows: Mapping[str, Evaluation]) -> list[list[str]]:
    """A header and a line for each method, as text."""
    judged = any(row.ndcg_10 is not None for row in rows.values())
    header = ["", "recall@10", "@100", *(["nDCG@10"] if judged else []), "weights d/q", "F", "R_sub", "bytes"]
    return [header, *([name, *_line(row, judged)] for name, row in rows.items())]


def _line(row: Evaluation, judged: bool) -> list[str]:
    ndcg = [f"{row.ndcg_10:.3f}" if row.ndcg_10 is not None else "-"] if judged else []
    weights = f"{row.active_dims:.0f} / {row.query_active_dims:.0f}"
    quality = [f"{row.recall_10:.3f}", f"{row.recall_10_at_100:.3f}", *ndcg]
    return [*quality, weights, f"{row.flops:.3g}", f"{row.r_sub:.2f}", f"{row.bytes:,}"]


# ---- the page


def page(story: Story) -> str:
    """One HTML page with everything inlined, readable in light and dark and on a phone."""
    ours, dense = list(story.rows.values())[-1], next(iter(story.rows.values()))
    colour = colours(story.curves, story.usages)
    header, *lines = table(story.rows)
    return filled(
        "sparsevec.demo",
        "page.html",
        title=text(story.title),
        tone="good" if story.good else "poor",
        corpus=text(story.corpus),
        asked=text(story.asked),
        engine=text(story.engine),
        cards=cards(_cards(story, ours, dense)),
        searches="".join(map(_search, story.searches[:_OPEN])),
        more=_more(story.searches[_OPEN:]),
        exact="Every answer is exact" if story.exact else "Not every answer is exact",
        exact_tone="good" if story.exact else "poor",
        verdict=text(story.verdict),
        written=text(story.written),
        table=html_table(header, lines),
        legend=legend({curve.name: colour[curve.name] for curve in story.curves}),
        quality="".join(quality_pictures(story.curves, colour)),
        usage_legend=legend({name: colour[name] for name in story.usages}),
        usage=usage_picture(story.usages, colour),
        stages="".join(f"<li>{text(name)}: {took:.1f} s</li>" for name, took in story.seconds.items()),
        total=f"{sum(story.seconds.values()):.1f}",
        likes=_likes(story.likes),
    )


def _cards(story: Story, ours: Evaluation, dense: Evaluation) -> list[tuple[str, str]]:
    by = f"a residual code of {story.code_bytes} bytes" if story.code_bytes else "a second look at the same weights"
    return [
        (f"{story.answers:.1%}", f"of the dense top 10 are the final top 10: candidates re-ranked by {by}"),
        (f"{ours.recall_10_at_100:.1%}", "of the dense top 10 are in the sparse top 100"),
        (f"{ours.flops:.2f}", f"multiplications per pair, dense needs {dense.flops:.0f}"),
        (f"{ours.bytes + story.code_bytes:,}", f"bytes a document, dense {dense.bytes:,}"),
        (f"{ours.r_sub:.2f}", "× the cost of using all dimensions equally often (1 = perfectly even)"),
    ]


def _more(searches: Sequence[Search]) -> str:
    if not searches:
        return ""
    return f"<details><summary>More searches</summary>{''.join(map(_search, searches))}</details>"


def _search(search: Search) -> str:
    sparse, dense = {hit.id for hit in search.found}, {hit.id for hit in search.dense}
    sides = [_side("answers", search.found, dense)]
    if search.dense:
        sides.append(_side("dense, exact", search.dense, sparse))
    return f'<article><h3>{text(search.text)}</h3><div class="sides">{"".join(sides)}</div></article>'


def _side(name: str, hits: Sequence[Found], others: set[int | str]) -> str:
    if not hits:
        return f"<section><h4>{name}</h4><p>no document shares a dimension with it</p></section>"
    items = "".join(_hit(hit, both=hit.id in others) for hit in hits)
    return f"<section><h4>{name}</h4><ol>{items}</ol></section>"


def _hit(hit: Found, *, both: bool) -> str:
    also = ' <span class="both" title="found by both">both</span>' if both else ""
    chips = _why(hit) if hit.why else ""
    like = f'<button type="button" data-like="{hit.row}">more like this</button>' if hit.row >= 0 else ""
    name = text(printable(hit.id, 80))
    words = f"<br>{text(_beside(hit))}" if _beside(hit) else ""
    return f"<li><b>{name}</b> <small>{hit.score:.3f}</small>{also}{words}{chips}{like}</li>"


def _why(hit: Found) -> str:
    """The largest parts as chips; all of them, with documents that use a dimension, unfold."""
    shares: dict[str, float] = {}
    for one in hit.why[:3] if hit.score else ():
        shares[one.name] = shares.get(one.name, 0.0) + one.score / hit.score
    shown = "".join(f"<span>{text(name)} {share:.0%}</span>" for name, share in shares.items())
    parts = "".join(f"<li><b>{text(one.name)}</b> {one.score:+.3f}{_used_by(one)}</li>" for one in hit.why)
    return (
        f'<div class="matched">{shown}</div><details class="why"><summary>why {hit.score:.3f}</summary>'
        f"<ul>{parts}</ul></details>"
    )


def _used_by(reason: Reason) -> str:
    names = ", ".join(text(printable(name, 40)) for name in reason.examples)
    return f" <small>most in {names}</small>" if names else ""


def _likes(likes: Mapping[int, Sequence[Found]]) -> str:
    """As JSON for the page's script: row -> [[row, id, score, text], ...]; safe inside a script element."""
    found = {
        row: [[hit.row, printable(hit.id, 80), round(hit.score, 3), _beside(hit)] for hit in hits]
        for row, hits in likes.items()
    }
    return json.dumps(found).replace("<", "\\u003c")


def _beside(hit: Found) -> str:
    """The text, where it says more than the id."""
    return "" if hit.text == str(hit.id) else printable(hit.text)
