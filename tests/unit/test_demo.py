"""The corpus that ships, and the whole demo on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sparsevec
from sparsevec.demo.run import run, shipped
from sparsevec.dense import unit_rows as unit
from sparsevec.measure.recall import dense_top

DATA = Path(sparsevec.__file__).parent / "demo" / "data"


def test_the_shipped_corpus_is_whole_and_small() -> None:
    corpus = shipped()
    assert corpus.dense.shape == (8000, 384)
    assert len(set(corpus.ids)) == len(corpus.payloads) == 8000
    assert corpus.sample is not None
    assert (len(corpus.sample), len(corpus.asked), len(corpus.words)) == (2000, 500, len(corpus.word_vectors))
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 6e6


def test_the_shipped_vectors_find_what_a_person_asks_for() -> None:
    corpus = shipped()
    found = dense_top(unit(corpus.dense), unit(corpus.word_vectors), 3)
    texts = [" ".join(corpus.payloads[row]["text"] for row in rows) for rows in found]
    wanted = {"edit pdf files": "PDF", "play chess against the computer": "chess", "find duplicate files": "duplicate"}
    assert all(word in texts[corpus.words.index(query)] for query, word in wanted.items())


def test_the_answers_of_the_shipped_queries_are_usually_near_the_top() -> None:
    corpus = shipped()
    assert corpus.answers is not None
    found = dense_top(unit(corpus.dense), unit(corpus.asked), 10)
    assert np.mean([next(iter(corpus.answers[query])) in rows for query, rows in enumerate(found)]) > 0.85


@pytest.mark.slow
def test_the_demo_learns_the_shipped_corpus_and_every_answer_is_exact(tmp_path: Path) -> None:
    outcome = run(shipped(), tmp_path / "demo")
    assert outcome.verdict.exact, str(outcome.verdict)
    assert (outcome.written.written, outcome.written.failed) == (8000, 0)
    ours = outcome.story.rows["sparsevec"]
    assert ours.recall_10 > 0.65
    assert ours.recall_10_at_100 > 0.97
    assert ours.ndcg_10 is not None
    assert ours.dense_ndcg_10 is not None
    assert ours.ndcg_10 > 0.98 * ours.dense_ndcg_10
    (edit,) = [search for search in outcome.story.searches if search.text == "edit pdf files"]
    assert any("pdf" in str(hit.id) for hit in edit.found)
