"""The corpus that ships, and the whole demo on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sparsevec
from sparsevec.demo import from_folder, shipped
from sparsevec.demo import run as demo
from sparsevec.demo.compare import UNTRAINED, Side, _pca, projected, random_directions, shortcoming
from sparsevec.demo.meanings import Meanings
from sparsevec.demo.run import run
from sparsevec.demo.stages import Stages
from sparsevec.dense import Reals
from sparsevec.dense import unit_rows as unit
from sparsevec.errors import CollectionError, InvalidInput, InvalidVectors, SparsevecError
from sparsevec.measure.recall import Evaluation, Judged, dense_top
from sparsevec.vectors import SparseVectors

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


def test_a_baseline_of_few_dimensions_keeps_them_all() -> None:
    rows = np.random.default_rng(0).standard_normal((5, 8), np.float32)
    documents, queries = projected(rows, rows[:2], random_directions(8, 4), [6])[6]
    assert (len(documents), len(queries), documents.dimension) == (5, 2, 4)


@pytest.mark.slow
def test_the_demo_learns_the_shipped_corpus_and_every_answer_is_exact(tmp_path: Path) -> None:
    outcome = run(shipped, tmp_path / "demo")
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


# ---- a folder of one's own


def folder_of(path: Path, n: int = 64, queries: int | None = None, width: int = 8) -> Path:
    np.save(path / "documents.npy", rows(n, 8, seed=0))
    if queries is not None:
        np.save(path / "queries.npy", rows(queries, width, seed=1))
    return path


def rows(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_without_queries_documents_are_set_aside_and_it_is_said(tmp_path: Path) -> None:
    corpus = from_folder(folder_of(tmp_path))
    assert (len(corpus.dense), len(corpus.asked), len(corpus.ids)) == (56, 8, 56)
    assert "8 documents were set aside" in corpus.asking
    assert not {tuple(row) for row in corpus.dense.tolist()} & {tuple(row) for row in corpus.asked.tolist()}


def test_of_many_queries_nobody_learns_from_those_that_are_asked(tmp_path: Path) -> None:
    corpus = from_folder(folder_of(tmp_path, queries=300))
    assert corpus.sample is not None
    assert not {tuple(row) for row in corpus.sample.tolist()} & {tuple(row) for row in corpus.asked.tolist()}
    assert "150 queries that nobody learned from" in corpus.asking


def test_queries_of_another_width_are_noticed_before_anything_is_learned(tmp_path: Path) -> None:
    with pytest.raises(InvalidVectors, match=r"queries\.npy must have 8 columns.*found 9"):
        from_folder(folder_of(tmp_path, queries=20, width=9))


def test_every_field_of_a_document_but_its_id_is_kept(tmp_path: Path) -> None:
    folder_of(tmp_path, n=8, queries=3)
    lines = [{"id": f"d{n}", "text": "words", "brand": "acme", "price": n} for n in range(8)]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    corpus = from_folder(tmp_path)
    assert corpus.ids[3] == "d3"
    assert corpus.payloads[3] == {"text": "words", "brand": "acme", "price": 3}


def test_a_payload_that_no_backend_holds_is_named_before_anything_is_learned(tmp_path: Path) -> None:
    folder_of(tmp_path, n=2, queries=3)
    (tmp_path / "documents.jsonl").write_text('{"id": 1}\n{"id": 2, "a.b": 1}\n')
    with pytest.raises(InvalidInput, match=r"document 1, line 2: a field must be"):
        from_folder(tmp_path)


@pytest.mark.parametrize(
    ("n", "queries", "says"),
    [
        (7, None, r"documents\.npy must hold at least 8 documents, or queries beside it .*found 7"),
        (1, 3, r"documents\.npy must hold at least 2 documents, found 1"),
        (64, 0, r"queries\.npy holds no query"),
    ],
)
def test_too_few_to_ask_or_to_be_asked_is_noticed_before_anything_is_learned(
    n: int, queries: int | None, says: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=says):
        from_folder(folder_of(tmp_path, n=n, queries=queries))


@pytest.mark.parametrize("dense", [np.repeat(np.eye(1, 8), 20, axis=0), np.resize([1.0, -1.0], (20, 1))])
def test_equal_rows_and_rows_of_one_column_have_principal_components_too(dense: Reals, tmp_path: Path) -> None:
    np.save(tmp_path / "documents.npy", dense)
    assert _pca(from_folder(tmp_path))


def test_a_folder_without_documents_is_named_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "vectors.parquet").write_text("")
    with pytest.raises(InvalidInput, match=r"documents\.npy cannot be read.*holds vectors\.parquet"):
        from_folder(tmp_path)


def test_a_table_brings_its_ids_and_payloads_along(tmp_path: Path) -> None:
    lines = ["id,emb,text,brand"] + [f'd{n},"[{n}.0, 1.0]",words,acme' for n in range(16)]
    (tmp_path / "documents.csv").write_text("\n".join(lines) + "\n")
    corpus = from_folder(tmp_path)
    assert len(corpus.dense) == 14
    assert corpus.ids[0] == "d0"
    assert corpus.payloads[0] == {"text": "words", "brand": "acme"}


# ---- whether the result is good


def found(recall_10: float, at_100: float, *, spread: float = 0.1) -> Side:
    """Of 400 queries, half of which have so much more, and half so much less."""
    evaluation = Evaluation(
        documents=1000, queries=400, recall_10=recall_10, recall_10_at_100=at_100, active_dims=32, query_active_dims=40,
        sparsity_ratio=0.9, flops=0.6, r_sub=1.1, dead_dims=0, max_document_frequency=0.1, bytes=256, dense_bytes=1536,
    )  # fmt: skip
    either = np.tile([spread, -spread], 200)
    return Side(evaluation, Judged(recall_10 + either, at_100 + either))


def test_worse_than_what_needs_no_learning_is_said_first() -> None:
    told = str(shortcoming(found(0.779, 0.99), found(0.3, 0.8), found(0.216, 0.6)))
    assert told.startswith(f"it finds less than the untrained baseline ({UNTRAINED})")
    assert "recall@10 0.216 against 0.779" in told


def test_worse_than_the_head_is_said_too() -> None:
    told = shortcoming(found(0.2, 0.7), found(0.5, 0.96), found(0.4, 0.95))
    assert "worse than the head alone" in str(told)


def test_too_little_for_a_re_ranking_is_poor() -> None:
    told = shortcoming(found(0.2, 0.5), found(0.5, 0.8), found(0.5, 0.8))
    assert "only 80% of the dense top 10" in str(told)


def test_a_difference_within_chance_of_these_queries_is_none() -> None:
    assert shortcoming(found(0.4, 0.9), found(0.6, 0.98), found(0.59, 0.97, spread=-0.1)) is None
    assert "worse than the head" in str(shortcoming(found(0.4, 0.9), found(0.6, 0.98), found(0.59, 0.97)))


def test_what_can_hardly_be_found_gets_no_green_page(tmp_path: Path) -> None:
    np.save(tmp_path / "documents.npy", rows(400, 64, seed=0))
    outcome = run(lambda: from_folder(tmp_path), tmp_path / "out", dimension=256, nnz=2, engine="reference")
    assert (outcome.story.good, outcome.verdict.exact) == (False, True)
    assert outcome.story.title.startswith("Not good on these vectors: ")
    assert '<h1 class="poor">' in outcome.page.read_text()


def test_a_query_that_finds_nothing_and_a_folder_of_any_name_are_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "compared", reached)  # what comes after takes long
    np.save(tmp_path / "documents.npy", rows(30, 1, seed=0))  # of one column: some are found by none of the others
    with pytest.raises(KeyboardInterrupt):
        run(lambda: from_folder(tmp_path), tmp_path / "a? 100%41@", dimension=64, nnz=4, engine="reference")
    assert [path.name for path in (tmp_path / "a? 100%41@").iterdir()] == ["collection"]


@pytest.mark.parametrize(
    ("inside", "error", "said"),
    [
        ("model/mine", InvalidInput, "something that is not a model of ours"),
        ("collection", CollectionError, "collection"),
    ],
)
def test_what_stands_in_the_way_of_a_demo_is_told_before_anything_is_learned(
    inside: str, error: type[SparsevecError], said: str, tmp_path: Path
) -> None:
    (path := tmp_path / inside).parent.mkdir(exist_ok=True)
    path.write_text("mine" * 1000)
    heard: list[str] = []
    with pytest.raises(error, match=said):
        run(
            lambda: from_folder(folder_of(tmp_path)),
            tmp_path,
            engine="local",
            watch=lambda name, *_: heard.append(name),
        )
    assert "learn an encoder" not in heard
    assert path.read_text() == "mine" * 1000


def test_a_folder_whose_name_is_no_unicode_is_refused_before_anything_is_learned(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"out\\udcff is not valid unicode"):
        run(lambda: from_folder(folder_of(tmp_path)), tmp_path / "out\udcff", engine="reference")


# ---- stages and meanings


def test_the_times_of_the_stages_add_up_to_the_whole() -> None:
    ticks: Iterator[float] = iter([10.0, 12.5, 20.0])
    stages = Stages(lambda *_: None, clock=lambda: next(ticks))
    with stages.stage("learn"):
        pass
    with stages.stage("write"):
        pass
    assert stages.seconds == {"learn": 2.5, "write": 7.5}


def test_a_dimension_is_named_by_the_word_its_documents_have_in_common() -> None:
    documents = SparseVectors.from_rows([{0: 1.0, 1: 0.5}, {0: 2.0}, {1: 1.0}, {2: 1.0}], dimension=3)
    meanings = Meanings(documents, ["edit pdf files", "read pdf pages", "play chess now", "send mail"])
    assert (meanings(0), meanings(2)) == ("pdf", "dimension 2")
