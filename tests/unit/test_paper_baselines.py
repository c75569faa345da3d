"""The paper's baselines against brute force, on rows small enough for it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.paper import baselines
from benchmarks.paper.baselines import Found
from benchmarks.paper.sdh import HashTable, k_hot
from benchmarks.paper.timing import seconds_a_query
from sparsevec.dense import unit_rows as unit
from sparsevec.errors import InvalidInput
from sparsevec.vectors import Float32s, SparseVectors

N, D, K = 400, 20, 10  # D is no multiple of 8
GALLERY = unit(np.random.default_rng(0).standard_normal((N, D)))
QUERIES = unit(np.random.default_rng(1).standard_normal((30, D)))


@pytest.fixture(autouse=True)
def _few_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "TIMED", 2)


def best(scores: Float32s) -> list[list[int]]:
    rows: list[list[int]] = np.argsort(-scores, axis=1, kind="stable")[:, :K].tolist()
    return rows


def recall(found: Found) -> float:
    return float(
        np.mean([np.isin(due, rows).mean() for due, rows in zip(best(QUERIES @ GALLERY.T), found.rows, strict=True)])
    )


def test_exhaustive_search_finds_the_truth() -> None:
    found = baselines.exhaustive(GALLERY, QUERIES, K)
    assert found.rows.tolist() == best(QUERIES @ GALLERY.T)
    assert (found.multiplications, found.bytes) == (D, 4 * D)


def test_all_principal_components_find_what_centred_cosines_find() -> None:
    mean = GALLERY.mean(axis=0)
    found = baselines.pca(GALLERY, QUERIES, K, components=D)
    assert found.rows.tolist() == best((QUERIES - mean) @ unit(GALLERY - mean).T)


def test_principal_components_are_the_directions_of_most_variance() -> None:
    stretched = unit(GALLERY * np.array([9, 9] + [1] * (D - 2)))
    asked = unit(QUERIES * np.array([9, 9] + [1] * (D - 2)))
    found, mean = baselines.pca(stretched, asked, K, components=2), stretched.mean(axis=0)[:2]
    due = best((asked[:, :2] - mean) @ unit(stretched[:, :2] - mean).T)
    assert np.mean([np.isin(rows, wanted).mean() for rows, wanted in zip(found.rows, due, strict=True)]) > 0.7


def test_binary_codes_are_compared_by_their_signs() -> None:
    asked, answering = (np.signbit(GALLERY.mean(axis=0) - rows) for rows in (QUERIES, GALLERY))
    distances = (asked[:, None] != answering).sum(axis=2)
    found = baselines.binary(GALLERY, QUERIES, K)
    assert np.take_along_axis(distances, found.rows, axis=1).tolist() == np.sort(distances, axis=1)[:, :K].tolist()


def test_asymmetric_binary_search_adds_the_signed_query() -> None:
    signs = np.where(GALLERY.mean(axis=0) < GALLERY, 1, -1)
    found = baselines.binary_asymmetric(GALLERY, QUERIES, K)
    assert found.rows.tolist() == best(QUERIES @ signs.T)
    assert (found.lookups, found.bytes) == (3, D / 8)


def test_more_random_hyperplanes_find_more() -> None:
    few, many = (recall(baselines.lsh(GALLERY, QUERIES, K, bits=bits, seed=0)) for bits in (16, 1024))
    assert few < 0.6 < many


def test_product_quantisation_finds_more_with_more_bytes() -> None:
    few, many = (baselines.pq(GALLERY, QUERIES, K, code_bytes=size) for size in (2, 20))
    assert recall(few) < recall(many)
    assert recall(many) > 0.9
    assert (few.lookups, many.lookups, many.bytes) == (2, 20, 20)


def test_inverted_lists_cost_the_share_that_is_probed() -> None:
    some, everything = baselines.ivf_pq(GALLERY, QUERIES, K, code_bytes=10, lists=8, probes=(2, 8))
    assert everything.lookups == 10
    assert 0 < some.lookups < 6
    assert recall(some) < recall(everything)


def test_product_quantisation_says_what_it_needs() -> None:
    with pytest.raises(InvalidInput, match="found 400 rows of 20"):
        baselines.pq(GALLERY, QUERIES, K, code_bytes=3)
    with pytest.raises(InvalidInput, match="at least 256 rows"):
        next(baselines.ivf_pq(GALLERY[:99], QUERIES, K, code_bytes=2, lists=2, probes=(1,)))


def test_a_wider_beam_evaluates_more_and_finds_more() -> None:
    narrow, wide = baselines.hnsw(GALLERY, QUERIES, K, links=4, efforts=(10, 400))
    assert recall(narrow) < recall(wide)
    assert recall(wide) > 0.95
    assert 0 < narrow.multiplications < wide.multiplications <= 1.5 * D
    assert narrow.bytes > 4 * D


def test_an_inverted_index_counts_shared_dimensions_and_pads_short_rankings() -> None:
    documents = SparseVectors.from_rows([{0: 1.0}, {0: 2.0}, {1: 1.0}, {}], dimension=2)
    queries = SparseVectors.from_rows([{0: 1.0}, {}], dimension=2)
    found = baselines.inverted_index("FLOPs", "", documents, queries, 3)
    assert found.rows.tolist() == [[1, 0, -1], [-1, -1, -1]]
    assert [ranking.tolist() for ranking in found.rankings] == [[1, 0], []]
    assert (found.multiplications, found.bytes) == (2 / 8, 6)


def test_a_re_ranking_of_everything_is_the_truth() -> None:
    found = baselines.reranked(baselines.lsh(GALLERY, QUERIES, N, bits=16, seed=0), GALLERY, QUERIES, K)
    assert found.rows.tolist() == best(QUERIES @ GALLERY.T)
    assert (found.multiplications, found.lookups) == (D, 0.25)


def test_a_hash_table_ranks_the_rows_that_share_a_bucket() -> None:
    rng = np.random.default_rng(2)
    gallery_hash, query_hash = rng.random((N, 16), np.float32), rng.random((30, 16), np.float32)
    buckets, opened = (np.argsort(-hashes, axis=1)[:, :2] for hashes in (gallery_hash, query_hash))
    shared = (opened[:, None, :, None] == buckets[None, :, None, :]).sum(axis=(2, 3))
    found = baselines.hash_table(GALLERY, QUERIES, gallery_hash, query_hash, K, active=2)
    assert found.rows.tolist() == best(np.where(shared > 0, QUERIES @ GALLERY.T, -9).astype(np.float32))
    assert found.multiplications == pytest.approx(D * (shared > 0).mean())
    assert found.lookups == pytest.approx(shared.mean())


def test_a_query_opens_further_buckets_while_it_has_too_few_candidates() -> None:
    table = HashTable(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 1)
    strengths = np.array([0.5, 0.1, 0.9], np.float32)
    assert [table.candidates(strengths, k)[0].tolist() for k in (1, 2, 3, 4)] == [[2], [0, 2], [0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("seed", range(40))
def test_k_hot_codes_are_the_best_of_all_assignments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, dimension = rng.integers(1, 4), rng.integers(2, 5)
    k, conflict = int(rng.integers(1, dimension + 1)), float(rng.choice([0, 0.1, 0.5, 5]))
    strengths = rng.choice([-1, 0, 0.5, 1], (classes, dimension)) + rng.choice([0, 1]) * rng.random(
        (classes, dimension)
    )
    rows = [np.isin(np.arange(dimension), held) for held in itertools.combinations(range(dimension), k)]
    codes = k_hot(strengths, k, conflict=conflict)
    due = max(worth(strengths, np.array(choice), conflict) for choice in itertools.product(rows, repeat=int(classes)))
    assert (codes.sum(axis=1) == k).all()
    assert worth(strengths, codes, conflict) == pytest.approx(due)


def worth(strengths: np.ndarray, codes: np.ndarray, conflict: float) -> float:
    holders = codes.sum(axis=0)
    return float((strengths * codes).sum() - conflict * (holders * (holders - 1) / 2).sum())


@pytest.mark.parametrize(("k", "conflict"), [(0, 0.1), (3, 0.1), (1, -0.1)])
def test_codes_that_cannot_be_are_refused(k: int, conflict: float) -> None:
    with pytest.raises(InvalidInput, match=r"k within \[1, 2\] and a conflict >= 0"):
        k_hot(np.eye(2), k, conflict=conflict)


def test_time_is_taken_of_warm_single_queries() -> None:
    asked: list[int] = []
    assert seconds_a_query(asked.append, [1, 2], repeats=3) >= 0
    assert asked == [1, 2] * 4
