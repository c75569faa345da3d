"""Residual codes: the same bits however they are made, a score that is defined, and better answers for their bytes."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevec.answers.retriever import Retriever
from sparsevec.contract.adapter import Hits
from sparsevec.dense import nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.learning.residual import learned_codewords
from sparsevec.encoder.recipe import ResidualRecipe
from sparsevec.errors import InvalidInput, InvalidVectors, ModelBroken, NotFitted, WrongSpace
from sparsevec.exact.reference import Reference
from sparsevec.measure.recall import sparse_top
from sparsevec.vectors import Float32s, SparseVectors
from tests.training.conftest import FLOPS, INPUT, NNZ, OUTPUT, clustered

WIDTH = 18


@pytest.fixture(scope="module")
def coder(documents: Float32s, queries: Float32s) -> SparseEncoder:
    """An encoder with residual codes; tests must not refine it."""
    budget = Budget(nnz=NNZ, flops=FLOPS, residual_bytes=WIDTH)
    return SparseEncoder(INPUT, OUTPUT).fit(documents, queries, budget=budget)


@pytest.fixture(scope="module")
def refined_coder(
    coder: SparseEncoder, documents: Float32s, queries: Float32s, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SparseEncoder, SparseVectors]:
    folder = tmp_path_factory.mktemp("coder") / "head"
    coder.save(folder)
    again = SparseEncoder.load(folder)
    return again, again.refine(documents, queries)


def candidates(encoder: SparseEncoder, dense: Float32s, query: Float32s, k: int = 40) -> Hits:
    """The sparse top k of one query among encoded rows, with all that a residual score needs."""
    vectors = encoder.encode_document(dense)
    rows = sparse_top(vectors, encoder.encode_query(query), k)[0]
    codes = encoder.residual_codes(dense, vectors)
    return Hits(tuple(rows.tolist()), np.zeros(len(rows), np.float32), vectors=vectors[rows], codes=codes[rows])


def overlap(encoder: SparseEncoder, dense: Float32s, vectors: SparseVectors, asking: Float32s, k: int = 100) -> float:
    """Of the exact dense top 10, after re-ranking the sparse top k by residual codes."""
    due = nearest(unit_rows(dense), unit_rows(asking), 10).rows
    codes, shares = encoder.residual_codes(dense, vectors), []
    for number, rows in enumerate(sparse_top(vectors, encoder.encode_query(asking), k)):
        hits = Hits(tuple(rows.tolist()), np.zeros(len(rows), "f4"), vectors=vectors[rows], codes=codes[rows])
        best = rows[np.argsort(-encoder.residual_scores(asking[number], hits), kind="stable")[:10]]
        shares.append(np.isin(best, due[number]).mean())
    return float(np.mean(shares))


# ---- the bits


def test_a_code_has_the_bytes_that_the_budget_says(coder: SparseEncoder, documents: Float32s) -> None:
    codes = coder.residual_codes(documents, coder.encode_document(documents))
    assert codes.shape == (len(documents), WIDTH)
    assert codes.dtype == np.uint8
    assert coder.residual_bytes == WIDTH


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 299), min_size=1, max_size=40))
def test_a_row_alone_gives_the_code_it_gives_among_others_in_any_order(coder: SparseEncoder, rows: list[int]) -> None:
    dense = clustered(300, seed=11)
    vectors = coder.encode_document(dense)
    everything = coder.residual_codes(dense, vectors)
    assert np.array_equal(coder.residual_codes(dense[rows], vectors[np.array(rows)]), everything[rows])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=40, unique=True))
def test_a_candidate_scores_the_same_bits_beside_any_others(coder: SparseEncoder, rows: list[int]) -> None:
    dense, query = clustered(300, seed=11), clustered(1, seed=12)[0]
    hits = candidates(coder, dense, query)
    everything = coder.residual_scores(query, hits)
    assert np.array_equal(coder.residual_scores(query, hits.rows(np.array(rows))), everything[rows])


SCRIPT = """
import sys, numpy as np
sys.modules["torch"] = None
from sparsevec.encoder import SparseEncoder
encoder, dense = SparseEncoder.load(sys.argv[1]), np.load(sys.argv[2])
sys.stdout.buffer.write(encoder.residual_codes(dense, encoder.encode_document(dense)).tobytes())
"""


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_number_of_threads_changes_nothing_and_torch_is_not_needed(
    coder: SparseEncoder, tmp_path: Path, threads: str
) -> None:
    dense = clustered(700, seed=11)
    coder.save(tmp_path / "model")
    np.save(tmp_path / "dense.npy", dense)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "model"), str(tmp_path / "dense.npy")]
    made = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert made == coder.residual_codes(dense, coder.encode_document(dense)).tobytes()


def test_saved_loaded_and_pickled_it_makes_the_same_codes_and_scores(coder: SparseEncoder, tmp_path: Path) -> None:
    dense, query = clustered(300, seed=11), clustered(1, seed=12)[0]
    hits = candidates(coder, dense, query)
    coder.save(tmp_path / "model")
    for same in (SparseEncoder.load(tmp_path / "model"), pickle.loads(pickle.dumps(coder))):
        assert np.array_equal(candidates(same, dense, query).codes, hits.codes)  # type: ignore[arg-type]
        assert np.array_equal(same.residual_scores(query, hits), coder.residual_scores(query, hits))


# ---- what they are worth


def test_the_score_is_near_the_cosine(coder: SparseEncoder) -> None:
    dense, query = clustered(300, seed=11), clustered(1, seed=12)
    hits = candidates(coder, dense, query[0])
    cosines = unit_rows(dense)[list(map(int, hits.ids))] @ unit_rows(query)[0]
    assert np.abs(coder.residual_scores(query[0], hits) - cosines).max() < 0.1


def test_the_parts_of_a_score_add_up_to_it(coder: SparseEncoder) -> None:
    dense, query = clustered(300, seed=11), clustered(1, seed=12)
    hits = candidates(coder, dense, query[0])[:1]
    assert hits.vectors is not None
    assert hits.codes is not None
    constant, asked, left = coder._residuals().parts(query, hits.vectors, hits.codes)
    by_weights = (asked.to_scipy() @ hits.vectors.to_scipy().T).toarray()[0, 0]
    assert constant + by_weights + left == pytest.approx(coder.residual_scores(query[0], hits)[0], abs=1e-6)


def test_codes_are_taken_against_what_the_backend_keeps(coder: SparseEncoder) -> None:
    dense, query = clustered(300, seed=11), clustered(1, seed=12)[0]
    hits = candidates(coder, dense, query)
    assert hits.vectors is not None
    rows = list(map(int, hits.ids))
    halved = SparseVectors(hits.vectors.indptr, hits.vectors.indices, hits.vectors.values / 2, hits.vectors.dimension)
    kept = replace(hits, vectors=halved, codes=coder.residual_codes(dense[rows], halved))
    cosines = unit_rows(dense)[rows] @ unit_rows(query[None])[0]
    errors = [
        np.abs(coder.residual_scores(query, some) - cosines).mean() for some in (kept, replace(kept, codes=hits.codes))
    ]
    assert errors[0] < errors[1] / 2


def test_they_lift_what_is_found_to_this(
    refined_coder: tuple[SparseEncoder, SparseVectors], documents: Float32s, unseen_queries: Float32s
) -> None:
    encoder, vectors = refined_coder
    assert overlap(encoder, documents, vectors, unseen_queries[:300]) == pytest.approx(
        0.951, abs=0.006
    )  # by the processor


def test_documents_that_come_later_lose_little(coder: SparseEncoder, unseen_queries: Float32s) -> None:
    later = clustered(1500, seed=21)
    assert overlap(coder, later, coder.encode_document(later), unseen_queries[:300]) == pytest.approx(0.935, abs=0.004)


def test_the_card_and_the_figures_say_what_they_give(coder: SparseEncoder, tmp_path: Path) -> None:
    coder.save(tmp_path / "model")
    figure = coder.figures.residual_recall_10
    assert figure is not None
    assert figure > coder.figures.recall_10
    assert f"residual codes of {WIDTH} bytes |  | {figure:.3f}" in (tmp_path / "model" / "README.md").read_text()
    assert f"{figure:.3f} by residual codes" in str(coder.figures)


def test_a_crowd_of_weak_components_shares_a_byte() -> None:
    rows = np.random.default_rng(0).standard_normal((2500, 48)) * np.linspace(1, 0.01, 48)
    codewords = learned_codewords(rows, ResidualRecipe())
    assert codewords.shape == (48, 256)
    left = np.square(rows[:, :, None] - codewords).sum(axis=1).min(axis=1).mean()
    assert left < 0.95 * np.square(rows).sum(axis=1).mean()  # eight bits among so many are worth little, not nothing


def test_the_same_seed_makes_the_same_codes(coder: SparseEncoder, documents: Float32s, queries: Float32s) -> None:
    budget = Budget(nnz=NNZ, flops=FLOPS, residual_bytes=WIDTH)
    again = SparseEncoder(INPUT, OUTPUT).fit(documents, queries, budget=budget)
    assert again.config.residual == coder.config.residual


def test_without_them_a_model_is_what_it_was(encoder: SparseEncoder, coder: SparseEncoder) -> None:
    assert encoder.residual_bytes is None
    assert encoder.fingerprint == coder.fingerprint
    assert encoder.figures.recall_10 == coder.figures.recall_10


# ---- wrong uses


@pytest.mark.parametrize("width", [0, 7, True, 100.0, "100"])
def test_a_budget_of_no_bytes_is_refused(width: object) -> None:
    with pytest.raises(InvalidInput, match="residual_bytes must be a whole number of at least 8"):
        Budget(nnz=NNZ, residual_bytes=width)  # type: ignore[arg-type]


def test_more_bytes_than_components_are_refused_before_anything_is_learned(documents: Float32s) -> None:
    with pytest.raises(InvalidInput, match=f"expected at most {INPUT + 2}; lower it"):
        SparseEncoder(INPUT, OUTPUT).fit(documents, budget=Budget(nnz=NNZ, residual_bytes=INPUT + 3))


def test_a_model_without_codes_says_how_to_get_them(encoder: SparseEncoder, documents: Float32s) -> None:
    with pytest.raises(InvalidInput, match="residual_bytes=100"):
        encoder.residual_codes(documents, encoder.encode_document(documents))
    with pytest.raises(InvalidInput, match="residual_bytes=100"):
        encoder.residual_scores(documents[0], Hits((), np.zeros(0, np.float32)))


def test_an_encoder_that_has_learned_nothing_says_so(documents: Float32s) -> None:
    with pytest.raises(NotFitted):
        SparseEncoder(INPUT, OUTPUT).residual_codes(documents, SparseVectors([0], [], [], OUTPUT))


def test_vectors_that_do_not_belong_to_the_rows_are_refused(coder: SparseEncoder, documents: Float32s) -> None:
    vectors = coder.encode_document(documents)
    with pytest.raises(InvalidVectors, match="as many vectors as dense rows, 1500, found 3"):
        coder.residual_codes(documents, vectors[:3])
    with pytest.raises(InvalidVectors, match="dimension 9"):
        coder.residual_codes(documents[:1], SparseVectors([0, 1], [0], [1], 9))
    with pytest.raises(InvalidVectors, match="row 0 is far from what this encoder makes"):
        coder.residual_codes(documents[:1], SparseVectors([0, 1], [0], [1e6], OUTPUT))
    with pytest.raises(WrongSpace, match="space another"):
        coder.residual_codes(documents, vectors.with_fingerprint("another"))


@pytest.mark.parametrize("row", [-1, 3])
def test_faults_that_are_no_rows_are_refused(coder: SparseEncoder, row: int) -> None:
    vectors = coder.encode_document(clustered(3, seed=5))
    with pytest.raises(InvalidInput, match=f"rows of the 3 documents, found row {row}"):
        coder.residual_codes(clustered(3, seed=5), vectors, faults={row})


def test_hits_without_what_a_score_needs_are_refused(coder: SparseEncoder) -> None:
    dense, query = clustered(300, seed=11), clustered(2, seed=12)
    hits = candidates(coder, dense, query[0])
    with pytest.raises(InvalidInput, match="the hits have no codes; search with"):
        coder.residual_scores(query[0], replace(hits, codes=None))
    with pytest.raises(InvalidInput, match="the hits have no vectors; search with"):
        coder.residual_scores(query[0], replace(hits, vectors=None))
    with pytest.raises(InvalidInput, match="found 2 queries"):
        coder.residual_scores(query, hits)


def test_codes_of_another_width_or_model_are_found_out(
    coder: SparseEncoder, refined_coder: tuple[SparseEncoder, SparseVectors]
) -> None:
    dense, query = clustered(300, seed=11), clustered(1, seed=12)[0]
    hits = candidates(coder, dense, query)
    assert hits.codes is not None
    with pytest.raises(InvalidInput, match=f"{WIDTH} bytes a document, found uint8 of shape"):
        coder.residual_scores(query, replace(hits, codes=hits.codes[:, 1:]))
    with pytest.raises(InvalidInput, match=f"of document {hits.ids[0]} was made by another model"):
        refined_coder[0].residual_scores(query, hits)


def test_codes_of_a_refined_model_are_not_written_beside_those_of_the_head(
    coder: SparseEncoder, refined_coder: tuple[SparseEncoder, SparseVectors]
) -> None:
    dense = clustered(300, seed=11)
    with Reference() as adapter:
        Retriever(coder, adapter, rerank="residual").add(range(300), dense)
        later = Retriever(refined_coder[0], adapter, rerank="residual")
        with pytest.raises(InvalidInput, match=r"made by another model.*until all are replaced"):
            later.add([300], dense[:1])
        assert adapter.count() == 300
        with pytest.raises(InvalidInput, match="made by another model"):
            later.search(dense[0])


def test_what_makes_codes_refuses_rows_that_are_not_sparse(coder: SparseEncoder) -> None:
    dense = clustered(3, seed=11)
    with pytest.raises(InvalidVectors, match="expected vectors as SparseVectors"):
        coder.residual_codes(dense, dense)  # type: ignore[arg-type]


def test_a_score_by_codes_is_not_explained_in_a_collection_without_any(coder: SparseEncoder) -> None:
    dense = clustered(30, seed=11)
    with Reference() as adapter:
        Retriever(coder, adapter).add(range(30), dense)
        with pytest.raises(InvalidInput, match="the collection keeps no residual codes"):
            Retriever(coder, adapter, rerank="residual").explain(dense[0], 1)


def test_no_candidates_have_no_scores(coder: SparseEncoder) -> None:
    hits = candidates(coder, clustered(300, seed=11), clustered(1, seed=12)[0])[:0]
    assert coder.residual_scores(clustered(1, seed=12)[0], hits).shape == (0,)


def test_a_model_whose_codewords_were_changed_is_broken(coder: SparseEncoder, tmp_path: Path) -> None:
    coder.save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    name = coder.config.residual.name if coder.config.residual else ""
    said = json.loads(config.read_text().replace(name, "0123456789abcdef"))
    config.write_text(json.dumps(said | {"config_sha256": ""}))
    with pytest.raises(ModelBroken, match="residual codes are not those of 0123456789abcdef"):
        SparseEncoder.load(tmp_path / "model")


def test_a_document_without_weights_among_few_that_a_filter_leaves_is_no_answer(
    coder: SparseEncoder, documents: Float32s
) -> None:
    with Retriever(coder, Reference(), rerank="residual") as retriever:
        retriever.add(range(20), documents[:20], [{"few": row < 3} for row in range(20)])
        bare = SparseVectors([0, 0], [], [], coder.output_dim).with_fingerprint(coder.fingerprint)
        retriever.adapter.upsert([20], bare, [{"few": True}], codes=np.zeros((1, coder.residual_bytes or 0), np.uint8))
        [answers] = retriever.search(documents[:1], k=10, where={"few": True})
    assert sorted(map(int, answers.ids)) == [0, 1, 2]


def test_a_document_without_weights_has_no_score_by_codes_to_explain(coder: SparseEncoder, documents: Float32s) -> None:
    with Retriever(coder, Reference(), rerank="residual") as retriever:
        retriever.add(range(3), documents[:3])
        retriever.adapter.upsert([3], SparseVectors([0, 0], [], [], coder.output_dim))
        with pytest.raises(InvalidInput, match="id 3 has no weights, so no residual code"):
            retriever.explain(documents[0], 3)
