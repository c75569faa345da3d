"""Queries of another dense model into codes that are there: learned from pairs, within the budget, or refused."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sparsevec.answers.retriever import Retriever
from sparsevec.cli.app import app
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import InvalidInput, InvalidVectors, NotFitted, WrongSpace
from sparsevec.exact.reference import Reference
from sparsevec.live.folder import Folder
from sparsevec.measure.cost import flops
from sparsevec.vectors import Float32s
from tests.training.conftest import FLOPS, INPUT, OUTPUT, clustered, ranking_overlap, unit

THEIRS = 24


def another_model(rows: Float32s) -> Float32s:
    """What a model of fewer columns makes of the same texts: turned, bent, and somewhat noisy."""
    turn = np.random.default_rng(11).standard_normal((INPUT, THEIRS)) / np.sqrt(INPUT)
    bent = np.tanh(unit(rows) @ turn * 3)
    noise = np.random.default_rng(len(rows)).standard_normal(bent.shape)
    return np.asarray(bent + 0.02 * noise, np.float32)


@pytest.fixture(scope="module")
def adopted(encoder: SparseEncoder, documents: Float32s, queries: Float32s) -> SparseEncoder:
    texts = np.concatenate([documents, queries])
    return encoder.adopt(another_model(texts), texts, documents=documents)


@pytest.fixture(scope="module")
def unseen() -> Float32s:
    return clustered(500, seed=4, spread=0.6)


def test_the_space_its_fingerprint_and_the_documents_stay_to_the_bit(
    adopted: SparseEncoder, encoder: SparseEncoder, documents: Float32s
) -> None:
    assert adopted.fingerprint == encoder.fingerprint
    assert adopted.encode_document(documents[:50]) == encoder.encode_document(documents[:50])
    assert (adopted.query_dim, adopted.input_dim, encoder.query_dim) == (THEIRS, INPUT, INPUT)
    assert f"queries of {THEIRS} columns" in repr(adopted)


def test_queries_of_the_other_model_find_what_their_own_model_has_never_seen(
    adopted: SparseEncoder, encoder: SparseEncoder, documents: Float32s, unseen: Float32s
) -> None:
    codes, dense = encoder.encode_document(documents), unit(unseen) @ unit(documents).T
    theirs = ranking_overlap(adopted.encode_query(another_model(unseen)), codes, dense)
    own = ranking_overlap(encoder.encode_query(unseen), codes, dense)
    assert theirs > 0.6 * own


def test_the_budget_holds_for_the_new_queries(adopted: SparseEncoder, documents: Float32s, unseen: Float32s) -> None:
    spent = flops(adopted.encode_query(another_model(unseen)), adopted.encode_document(documents))
    assert 0 < spent <= 1.05 * FLOPS


def test_figures_are_of_pairs_kept_back_beside_what_the_documents_own_model_finds(adopted: SparseEncoder) -> None:
    figures, kept = adopted.figures, adopted.config.adopted
    assert kept is not None
    assert (figures.asked, figures.queries, kept.columns, kept.pairs) == ("pairs", 262, THEIRS, 1838)
    assert 0.2 < figures.recall_10 < kept.own_recall_10 < 1
    assert kept.second_look_ndcg_10 is not None
    assert 0.2 < kept.second_look_ndcg_10 < kept.own_ndcg_10 < 1
    assert "pairs of the adopted model" in str(figures)


def test_it_is_saved_loaded_copied_and_encodes_the_same(
    adopted: SparseEncoder, unseen: Float32s, tmp_path: Path
) -> None:
    adopted.save(tmp_path / "model")
    theirs = another_model(unseen[:40])
    expected = adopted.encode_query(theirs)
    for again in (SparseEncoder.load(tmp_path / "model"), copy.deepcopy(adopted)):
        assert again.encode_query(theirs) == expected
        assert again.config.adopted == adopted.config.adopted
    assert f"(q, {THEIRS}), of the model that was adopted" in (tmp_path / "model/README.md").read_text()


def test_a_row_gives_the_same_bits_alone_or_among_many(adopted: SparseEncoder, unseen: Float32s) -> None:
    theirs = another_model(unseen)
    many, alone = adopted.encode_query(theirs), adopted.encode_query(theirs[7])
    assert many[7:8] == alone
    assert adopted.encode_second_look(theirs)[7:8] == adopted.encode_second_look(theirs[7])


def test_a_retriever_answers_it_by_every_way_of_re_ranking(
    adopted: SparseEncoder, documents: Float32s, unseen: Float32s
) -> None:
    theirs, dense = another_model(unseen[:20]), [{"row": row.tolist()} for row in documents]
    for rerank, field in ((None, None), ("second look", None), ("dense", "row")):
        with Retriever(adopted, Reference(), rerank=rerank, dense_field=field) as retriever:  # type: ignore[arg-type]
            retriever.add(range(len(documents)), documents, dense)
            assert all(len(hits.ids) == 10 for hits in retriever.search(theirs, k=10))
            assert retriever.verify(documents, theirs, payloads=dense).exact


def test_residual_codes_that_documents_have_re_rank_for_the_other_model_too(documents: Float32s) -> None:
    some = documents[:300]
    encoder = SparseEncoder(INPUT, 64).fit(some, budget=Budget(nnz=6, flops=0.6, residual_bytes=16))
    theirs, asking = another_model(some[:20]), encoder.adopt(another_model(some), some)
    assert asking.residual_bytes == 16
    with Retriever(asking, Reference(), rerank="residual") as retriever:
        retriever.add(range(300), some)
        found = [number in hits.ids for number, hits in enumerate(retriever.search(theirs, k=10))]
        assert np.mean(found) > 0.5
        assert retriever.verify(some, theirs).exact


def test_translated_rows_are_near_those_of_the_documents_model(adopted: SparseEncoder, unseen: Float32s) -> None:
    rows = adopted.translate(another_model(unseen))
    assert rows.shape == unseen.shape
    assert float((rows * unit(unseen)).sum(axis=1).mean()) > 0.7


def test_the_command_adopts_and_what_it_saves_encodes_the_same(
    encoder: SparseEncoder, adopted: SparseEncoder, documents: Float32s, queries: Float32s, tmp_path: Path
) -> None:
    texts = np.concatenate([documents, queries])
    encoder.save(tmp_path / "model")
    for name, rows in (("theirs", another_model(texts)), ("ours", texts), ("documents", documents)):
        np.save(tmp_path / f"{name}.npy", rows)
    files = [str(tmp_path / name) for name in ("model", "theirs.npy", "ours.npy")]
    more = ["--documents", str(tmp_path / "documents.npy"), "-o", str(tmp_path / "asking")]
    done = CliRunner().invoke(app, ["adopt", *files, *more])
    assert done.exit_code == 0, done.output
    assert "the documents' own model, for the same pairs" in done.output
    asked = another_model(queries[:20])
    assert SparseEncoder.load(tmp_path / "asking").encode_query(asked) == adopted.encode_query(asked)


def test_rows_of_other_texts_are_refused(encoder: SparseEncoder, documents: Float32s) -> None:
    some = documents[:400]
    others = np.random.default_rng(0).permutation(some)
    with pytest.raises(InvalidInput, match="these pairs tell nothing"):
        encoder.adopt(another_model(others), some)


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (200, 199, "found 200 rows of theirs and 199 of ours"),
        (99, 99, "at least 100 pairs"),
        (0, 0, "at least 100 pairs"),
    ],
)
def test_pairs_that_do_not_pair_are_refused(
    encoder: SparseEncoder, documents: Float32s, theirs: int, ours: int, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        encoder.adopt(another_model(documents)[:theirs], documents[:ours])


def test_documents_of_which_there_are_none_are_refused(encoder: SparseEncoder, documents: Float32s) -> None:
    with pytest.raises(InvalidInput, match="documents that queries search, found none"):
        encoder.adopt(another_model(documents), documents, documents=documents[:0])


def test_documents_so_few_that_all_are_among_the_nearest_of_every_pair_are_refused(
    encoder: SparseEncoder, documents: Float32s
) -> None:
    with pytest.raises(InvalidInput, match="at least 11 documents that queries search, found 10: pairs are told apart"):
        encoder.adopt(another_model(documents), documents, documents=documents[:10])


def test_rows_that_are_no_numbers_are_refused(encoder: SparseEncoder, documents: Float32s) -> None:
    theirs = another_model(documents)
    theirs[3, 4] = np.nan
    with pytest.raises(InvalidVectors, match=r"rows of the adopted model: .*row 3"):
        encoder.adopt(theirs, documents)
    with pytest.raises(InvalidVectors, match="rows of the documents' model must have 32 columns"):
        encoder.adopt(documents, theirs)


def test_vectors_that_are_not_the_documents_are_refused(encoder: SparseEncoder, documents: Float32s) -> None:
    codes = encoder.encode_document(documents)
    with pytest.raises(InvalidVectors, match="a vector for each of 1500"):
        encoder.adopt(another_model(documents), documents, vectors=codes[:10])
    with pytest.raises(InvalidVectors, match="as SparseVectors, found int"):
        encoder.adopt(another_model(documents), documents, vectors=3)  # type: ignore[arg-type]
    with pytest.raises(WrongSpace):
        encoder.adopt(another_model(documents), documents, vectors=codes.with_fingerprint("another"))
    with pytest.raises(NotFitted):
        SparseEncoder(INPUT, OUTPUT).adopt(another_model(documents), documents)


def test_rows_of_the_documents_model_are_refused_as_queries(adopted: SparseEncoder, documents: Float32s) -> None:
    with pytest.raises(InvalidVectors, match="queries of the adopted model must have 24 columns"):
        adopted.encode_query(documents)


def test_what_needs_queries_of_the_documents_own_model_is_refused(
    adopted: SparseEncoder, documents: Float32s, tmp_path: Path
) -> None:
    for refused in (
        lambda: adopted.refine(documents),
        lambda: adopted.adopt(another_model(documents), documents),
        lambda: adopted.head("query"),
        lambda: adopted.judge(documents, adopted.encode_document(documents)),
    ):
        with pytest.raises(InvalidInput, match="with the encoder that adopted it"):
            refused()
    adopted.save(tmp_path / "model")
    with pytest.raises(InvalidInput, match="takes queries of a model that was adopted"):
        Folder(tmp_path / "model").load()
