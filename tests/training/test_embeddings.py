"""Whatever embeddings people bring: budgets hold, the order is that of their own dense search, few rows are served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevec.dense import nearest, unit_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.encoder.budget import resolved
from sparsevec.encoder.calibration import document_cut, query_purse
from sparsevec.encoder.head import Projection, encoded
from sparsevec.encoder.model import Model
from sparsevec.encoder.untrained import random_directions
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.measure.cost import cost, usage
from sparsevec.measure.recall import evaluate, recalls, sparse_top
from sparsevec.similarity import COLUMNS, Near, Similarity, misfit
from sparsevec.vectors import Float32s, SparseVectors
from tests.training.conftest import FLOPS, INPUT, NNZ, OUTPUT, clustered


def corpus(n: int, seed: int, columns: int = INPUT, **trouble: Any) -> Float32s:
    """Rows of one distribution for every seed: `copies` near copies of each, `equal` a share of one row, a `mean` that
    all share, `clusters` that are tight, `lengths` that vary."""
    shape, generator = np.random.default_rng(7), np.random.default_rng(seed)
    directions = shape.standard_normal((int(trouble.get("clusters", 60)), columns))
    distinct = -(-n // (1 + int(trouble.get("copies", 0))))
    rows = directions[generator.integers(len(directions), size=distinct)]
    rows = rows + (0.1 if "clusters" in trouble else 0.5) * generator.standard_normal((distinct, columns))
    rows = np.resize(rows, (n, columns)) + 0.01 * generator.standard_normal((n, columns))
    rows[generator.random(n) < trouble.get("equal", 0)] = directions[0]
    rows = rows + trouble.get("mean", 0) * shape.standard_normal(columns)
    rows *= np.exp(trouble.get("lengths", 0) * generator.standard_normal((n, 1)))
    found: Float32s = rows.astype(np.float32)
    return found


TROUBLE: list[tuple[dict[str, Any], float]] = [  # and the share of F that must be spent
    ({"copies": 3}, 0.95),
    ({"equal": 0.3}, 0.8),  # a row that a third are equal to asks with one dear weight, and has few others
    ({"clusters": 12}, 0.95),
    ({"mean": 3}, 0.95),
    ({"mean": 3, "copies": 3, "lengths": 1}, 0.95),
]


# ---- the budget


@settings(max_examples=25)
@given(
    st.fixed_dictionaries(
        {
            "copies": st.integers(0, 4),
            "equal": st.sampled_from([0, 0.1, 0.3, 0.5]),
            "mean": st.sampled_from([0, 1, 4]),
            "lengths": st.sampled_from([0, 1, 3]),
        },
        optional={"clusters": st.integers(4, 40)},
    ),
    st.integers(2, 96),
    st.sampled_from([2, 4, 8, 16, 32]),
    st.integers(0, 2**31),
)
def test_no_kind_of_queries_spends_more_than_the_budget(
    trouble: dict[str, Any], columns: int, nnz: int, seed: int
) -> None:
    """Directions that nobody learned stand for any head: what makes a budget true comes after learning."""
    limits = resolved(Budget(nnz=nnz, flops=max(0.5, 2 * nnz**2 / 256)), 256)
    documents = corpus(1500, 1, columns, **trouble)
    tensors = random_directions(unit_rows(documents[:200]), 256, seed % 5)
    projection = Projection(tensors["weights"], tensors["bias"], tensors["mean"])
    cut = document_cut(documents[200:700], projection, nnz, 14)
    codes = encoded(documents, projection, cut)
    bought = query_purse([documents[200:700]], projection, usage(codes), limits.flops, 12)
    kinds: dict[str, Any] = {
        "like them": corpus(500, 2, columns, **trouble),
        "of another kind": corpus(500, 3, columns),
        "anything": np.random.default_rng(seed).standard_normal((500, columns)),
    }
    spent = {name: cost(encoded(rows, projection, *bought), codes) for name, rows in kinds.items()}
    assert max(each.flops for each in spent.values()) <= 1.05 * limits.flops
    assert encoded(corpus(1000, 4, columns, **trouble), projection, cut).nnz / 1000 == pytest.approx(nnz, rel=0.01)


@pytest.mark.usefixtures("brief_look")
@pytest.mark.parametrize(("trouble", "least"), TROUBLE)
def test_a_budget_holds_on_rows_that_are_trouble(trouble: dict[str, Any], least: float) -> None:
    documents, unseen = corpus(1200, 1, **trouble), corpus(800, 2, **trouble)
    strangers = clustered(500, seed=5)
    encoder = SparseEncoder(INPUT, 256).fit(documents, budget=Budget(nnz=8, flops=0.6))
    for stored in (encoder.encode_document(documents), encoder.refine(documents)):
        spent = cost(encoder.encode_query(unseen), stored)
        assert spent.active_dims == pytest.approx(8, rel=0.01)
        assert least * 0.6 <= spent.flops <= 1.05 * 0.6
        assert cost(encoder.encode_query(strangers), stored).flops <= 1.05 * 0.6
    assert encoder.encode_document(unseen).nnz / len(unseen) == pytest.approx(8, rel=0.01)
    assert [kind.kind for kind in encoder.figures.kinds] == ["documents", "off-topic"]
    assert max(kind.flops for kind in encoder.figures.kinds) <= 1.05 * 0.6


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    ("nnz", "output_dim", "least"),
    [  # at 256 a query has no more activations above 0 to buy
        (2, 1024, 0.95),
        pytest.param(64, 256, 0.95, marks=pytest.mark.slow),
        pytest.param(256, 1024, 0.7, marks=pytest.mark.slow),
    ],
)
def test_from_two_weights_to_many_the_budget_holds(nnz: int, output_dim: int, least: float) -> None:
    documents, unseen = clustered(400, seed=1), clustered(800, seed=2)
    encoder = SparseEncoder(INPUT, output_dim).fit(documents, budget=Budget(nnz=nnz))
    due = encoder.config.flops
    for stored in (encoder.encode_document(documents), encoder.refine(documents)):
        spent = cost(encoder.encode_query(unseen), stored)
        assert spent.active_dims == pytest.approx(nnz, rel=0.01)
        assert least * due <= spent.flops <= 1.05 * due


def test_no_single_query_spends_more_than_its_purse(encoder: SparseEncoder, documents: Float32s) -> None:
    prices = usage(encoder.encode_document(documents))
    spent = [float(prices[query.indices].sum()) for query in encoder.encode_query(clustered(500, seed=9))]
    assert encoder.config.queries.spend is not None
    assert max(spent) <= encoder.config.queries.spend * (1 + 1e-6)


@pytest.mark.usefixtures("brief")
def test_weights_of_a_query_are_a_limit_of_their_own(documents: Float32s, queries: Float32s, tmp_path: Path) -> None:
    budget = Budget(nnz=8, flops=0.6, query_nnz=10)
    encoder = SparseEncoder(INPUT, 256).fit(documents, queries, budget=budget)
    stored = encoder.refine(documents, queries)
    asked = encoder.encode_query(clustered(500, seed=9, spread=0.6))
    assert asked.row_nnz.max() == 10
    assert cost(asked, stored).flops <= 0.6
    assert encoder.config.query_nnz == 10
    encoder.save(tmp_path / "model")
    assert SparseEncoder.load(tmp_path / "model").encode_query(queries) == encoder.encode_query(queries)


def test_weights_that_cannot_be_met_are_refused_with_what_can_be() -> None:
    silent = Projection(np.eye(4, dtype=np.float32), np.full(4, -0.5, np.float32), np.zeros(4, np.float32))
    with pytest.raises(InvalidInput, match=r"nnz=3 cannot be met: only 1\.0 .* lower it to 1"):
        document_cut(np.eye(4), silent, 3, 16)


def test_a_budget_that_equal_rows_make_impossible_is_refused_with_what_they_cost() -> None:
    rows = corpus(400, 1, equal=0.5)
    with pytest.raises(InvalidInput, match=r"flops=0\.1 cannot be met: .* costs 0\.[23]"):
        SparseEncoder(INPUT, 256).fit(rows, budget=Budget(nnz=4, flops=0.1))


# ---- the similarity


def ranked(near: Near, documents: Float32s, queries: Float32s) -> Any:
    """(q, n) as a dense search would score them."""
    wide, asked = documents.astype(np.float64), queries.astype(np.float64)
    if near == "cosine":
        return unit_rows(queries).astype(np.float64) @ unit_rows(documents).T.astype(np.float64)
    if near == "dot":
        return asked @ wide.T
    return -((asked[:, None] - wide[None]) ** 2).sum(axis=2)


@settings(max_examples=20)
@given(st.sampled_from(["cosine", "dot", "l2"]), st.integers(2, 40), st.integers(0, 2**31), st.floats(-5, 5))
def test_a_similarity_ranks_as_the_dense_search_does(near: Near, columns: int, seed: int, scale: float) -> None:
    documents = np.float32(10**scale) * corpus(200, seed, columns, lengths=0.4, mean=1)
    queries = np.float32(10**scale) * corpus(20, seed + 1, columns, lengths=0.4, mean=1)
    similarity = Similarity.of(near, documents).rounded()
    reduced = similarity.documents(documents), similarity.queries(queries)
    assert {rows.shape[1] for rows in reduced} == {columns + COLUMNS[near]}
    found = unit_rows(reduced[1]).astype(np.float64) @ unit_rows(reduced[0]).T.astype(np.float64)
    due = ranked(near, documents, queries)
    for ours, theirs in zip(found, due, strict=True):
        order = np.argsort(-theirs)
        falling = ours[order]
        assert (np.diff(falling) <= 1e-5).all()  # float32 rows: neighbours in rank may be equal


@pytest.mark.usefixtures("brief_look")
@pytest.mark.parametrize("near", ["dot", "l2"])
def test_an_encoder_learns_the_order_it_is_asked_for(near: Near, tmp_path: Path) -> None:
    documents = corpus(800, 1, lengths=0.3, mean=1)
    queries, unseen = corpus(300, 2, lengths=0.3, mean=1), corpus(200, 3, lengths=0.3, mean=1)
    truth, other = ranked(near, documents, unseen), ranked("cosine", documents, unseen)
    encoder = SparseEncoder(INPUT, 256, similarity=near).fit(documents, queries, budget=Budget(nnz=8, flops=0.6))
    stored = encoder.refine(documents, queries)
    encoder.save(tmp_path / "model")
    asked = SparseEncoder.load(tmp_path / "model").encode_query(unseen)
    found = sparse_top(stored, asked, 10)
    overlaps = [
        np.mean([np.isin(rows, np.argsort(-scores)[:10]).mean() for rows, scores in zip(found, due, strict=True)])
        for due in (truth, other)
    ]
    assert overlaps[0] > 0.4
    assert overlaps[0] > overlaps[1] + 0.05
    assert overlaps[0] == pytest.approx(encoder.figures.recall_10, abs=0.06)


def test_a_zero_row_is_a_document_of_dot_and_l2_and_no_query_of_dot() -> None:
    rows = clustered(200, seed=1)
    rows[3] = 0
    for near in ("dot", "l2"):
        encoder = SparseEncoder(INPUT, 64, similarity=near).fit(rows[:50], budget=Budget(nnz=4))
        assert encoder.encode_document(rows[3:4]).row_nnz.min() >= 1
    encoder.encode_query(rows[3])
    with pytest.raises(InvalidVectors, match="row 0 is zero"):
        SparseEncoder(INPUT, 64, similarity="dot").fit(rows[:50], budget=Budget(nnz=4)).encode_query(rows[3])


def test_a_document_longer_than_any_that_was_learned_from_is_named() -> None:
    rows = clustered(50, seed=1)
    encoder = SparseEncoder(INPUT, 64, similarity="dot").fit(rows, budget=Budget(nnz=4))
    rows[7] *= 100
    with pytest.raises(InvalidVectors, match=r"row 7 is .* times as long .* fit again"):
        encoder.encode_document(rows)


@pytest.mark.parametrize("near", ["dot", "l2"])
def test_rows_too_long_to_square_are_refused_without_a_warning(near: Near) -> None:
    rows = clustered(50, seed=1).astype(np.float64)
    encoder = SparseEncoder(INPUT, 64, similarity=near).fit(rows, budget=Budget(nnz=4))
    rows[7] *= 1e300
    with pytest.raises(InvalidVectors, match="row 7 is inf times as long"):
        encoder.encode_document(rows)
    assert list(encoder.document_faults(rows)) == [7]
    with pytest.raises(InvalidVectors, match="needs lengths that float64 can square"):
        SparseEncoder(INPUT, 64, similarity=near).fit(rows, budget=Budget(nnz=4))


@pytest.mark.parametrize("near", ["euclid", None, 3])
def test_another_similarity_is_refused(near: Any) -> None:
    with pytest.raises(InvalidInput, match="similarity must be 'cosine', 'dot', 'l2'"):
        SparseEncoder(INPUT, 64, similarity=near)


# ---- too little to learn from


@pytest.mark.parametrize("n", [0, 1, 2, 40, 99])
def test_few_documents_are_served_by_codes_that_need_no_learning(n: int, tmp_path: Path) -> None:
    documents = clustered(99, seed=1)[:n]
    encoder = SparseEncoder(INPUT, 256).fit(documents, budget=Budget(nnz=8))
    assert encoder.config.stage == "untrained"
    assert f"{n} documents are too few to learn from" in str(encoder.figures)
    later = clustered(20, seed=2)
    assert encoder.encode_document(later).row_nnz.tolist() == [8] * 20
    assert encoder.refine(documents) == encoder.encode_document(documents)
    encoder.save(tmp_path / "model")
    again = SparseEncoder.load(tmp_path / "model")
    assert again.encode_query(later) == encoder.encode_query(later)
    assert again.encode_second_look(later) == encoder.encode_second_look(later)


def test_few_documents_are_found_nearly_as_by_their_dense_rows() -> None:
    documents, queries = unit_rows(clustered(82, seed=1)), unit_rows(clustered(200, seed=2))
    encoder = SparseEncoder(INPUT, 1024).fit(documents, budget=Budget(nnz=8, flops=0.6))
    asked = encoder.encode_query(queries)
    found = recalls(
        documents, queries, sparse_top(encoder.encode_document(documents), asked, 20), nearest(documents, queries, 10)
    )
    assert found.mean() > 0.95
    assert cost(asked, encoder.encode_document(documents)).flops <= 1.05 * 0.6


def test_few_queries_are_a_sample_for_few_documents() -> None:
    encoder = SparseEncoder(INPUT, 256).fit(clustered(82, seed=1), clustered(9, seed=2), budget=Budget(nnz=8))
    assert (encoder.figures.asked, encoder.figures.queries) == ("sample", 9)


# ---- drift


@pytest.mark.usefixtures("brief_look")
def test_a_corpus_that_stayed_is_judged_as_it_was(
    refined: tuple[SparseEncoder, SparseVectors], documents: Float32s
) -> None:
    encoder, stored = refined
    found = encoder.judge(documents, stored)
    assert (found.newcomers, found.refine_again, found.found_newcomers) == (0, False, None)
    assert found.active_dims == pytest.approx(8, rel=0.01)


def test_what_few_documents_found_when_a_head_was_learned_is_no_more_certain_than_they_are_many(
    encoder: SparseEncoder, documents: Float32s
) -> None:
    stored, model = encoder.encode_document(documents), encoder._fitted()
    now = encoder.judge(documents, stored)

    def judged(queries: int) -> bool:
        figures, recall = model.config.figures, now.recall_10_interval.high + 0.01
        kinds = tuple(kind.model_copy(update={"queries": queries, "recall_10": recall}) for kind in figures.kinds)
        config = model.config.model_copy(update={"figures": figures.model_copy(update={"kinds": kinds})})
        return SparseEncoder._of(Model(config, model.tensors)).judge(documents, stored).refine_again

    assert (now.refine_again, judged(30), judged(30_000)) == (False, False, True)


def test_a_corpus_that_moved_on_is_to_be_refined_again(refined: tuple[SparseEncoder, SparseVectors]) -> None:
    encoder, _ = refined
    others = np.random.default_rng(3).standard_normal((1500, INPUT)).astype(np.float32)
    found = encoder.judge(others, encoder.encode_document(others))
    assert found.newcomers == 1500
    assert found.refine_again
    assert "of their dense top 10" in found.reasons[-1]


@pytest.mark.parametrize(("rows", "codes", "says"), [(20, 19, "for each of 20"), (10, 10, "at least 11 documents")])
def test_codes_that_do_not_fit_are_not_judged(encoder: SparseEncoder, rows: int, codes: int, says: str) -> None:
    documents = clustered(20, seed=1)
    with pytest.raises(InvalidInput, match=says):
        encoder.judge(documents[:rows], encoder.encode_document(documents[:codes]))


def test_codes_in_another_order_than_their_rows_are_not_judged(
    refined: tuple[SparseEncoder, SparseVectors], documents: Float32s
) -> None:
    encoder, stored = refined
    with pytest.raises(InvalidInput, match="in another order; expected the code of each row"):
        encoder.judge(documents, stored[np.random.default_rng(0).permutation(len(stored))])


@pytest.mark.parametrize(
    ("near", "similarity", "fits"),
    [
        ("cosine", "cosine", True),
        ("cosine", "Dot", False),
        ("cosine", "max_inner_product", False),
        ("dot", "dot_product", True),
        ("dot", "Euclid", False),
        ("l2", "l2_norm", True),
        ("l2", "cosinesimil", False),
        ("l2", "Manhattan", True),
        ("dot", "", True),
    ],
)
def test_a_similarity_must_be_the_fields_unless_the_rows_have_one_length(
    near: Near, similarity: str, fits: bool
) -> None:
    """What a field does not declare, or none of ours is, cannot be compared."""
    rows = clustered(50, seed=1) * np.linspace(1, 2, 50, dtype=np.float32)[:, None]
    fault = misfit(near, similarity, rows)
    assert (fault is None) == fits
    assert misfit(near, similarity, unit_rows(rows)) is None
    assert misfit(near, similarity, rows[:0]) is None


def test_a_misfit_says_what_was_found_and_what_to_do() -> None:
    rows = np.array([[3, 4], [0, 1], [4, 3], [1, 0]], np.float32)
    assert misfit("cosine", "l2_norm", rows) == (
        "the field ranks by 'l2_norm', the encoder was learned for similarity='cosine', and the rows' lengths (1 to 5) "
        "make these two orders, whose top tens share 0.75; learn it with SparseEncoder(..., similarity='l2'), or scale "
        "all rows to one length"
    )


def test_a_little_of_length_makes_another_order_where_all_rows_are_near_each_other() -> None:
    rng = np.random.default_rng(0)
    near = unit_rows(rng.standard_normal((1000, 48)) + 3) * rng.normal(1, 0.0097, (1000, 1)).astype(np.float32)
    far = unit_rows(rng.standard_normal((1000, 48))) * rng.normal(1, 0.002, (1000, 1)).astype(np.float32)
    assert misfit("cosine", "dot_product", near) is not None
    assert misfit("cosine", "dot_product", far) is None


@pytest.mark.usefixtures("brief_look")
def test_the_budget_of_an_encoder_fitted_to_nothing_holds_for_all_that_come_and_once_they_are_refined() -> None:
    encoder = SparseEncoder(INPUT, OUTPUT).fit(np.empty((0, INPUT), np.float32), budget=Budget(nnz=NNZ, flops=FLOPS))
    rows, asked = np.split(np.random.default_rng(0).standard_normal((800, INPUT)).astype(np.float32), [600])
    codes = encoder.encode_document(rows)  # of any direction, which is all that can be expected of rows to come
    assert cost(encoder.encode_query(asked), codes).flops <= 1.05 * FLOPS
    refined = encoder.refine(rows)
    assert cost(encoder.encode_query(asked), refined).flops <= 1.05 * FLOPS
    assert (encoder.figures.too_few, encoder.figures.documents) == (False, 600)


@pytest.mark.parametrize("near", ["cosine", "dot", "l2"])
def test_one_document_is_enough_to_begin_with(near: Near) -> None:
    rows = clustered(20, seed=1)
    encoder = SparseEncoder(INPUT, OUTPUT, similarity=near).fit(rows[:1], budget=Budget(nnz=NNZ))
    assert encoder.encode_document(rows[:1]).nnz
    assert encoder.encode_query(rows[1]).nnz


@pytest.mark.parametrize("near", ["cosine", "dot", "l2"])
def test_a_few_documents_that_are_equal_are_enough_to_begin_with(near: Near) -> None:
    rows = np.repeat(clustered(1, seed=1), 5, axis=0)
    encoder = SparseEncoder(INPUT, OUTPUT, similarity=near).fit(rows, budget=Budget(nnz=NNZ))
    assert encoder.figures.recall_10 == 1


@pytest.mark.usefixtures("brief_look")
def test_what_codes_without_learning_say_of_themselves_is_what_rows_that_nobody_knew_find() -> None:
    rows, asked = np.split(np.random.default_rng(0).standard_normal((900, INPUT)).astype(np.float32), [600])
    encoder = SparseEncoder(INPUT, OUTPUT).fit(rows, budget=Budget(nnz=NNZ))
    assert encoder.config.stage == "untrained"
    found = evaluate(rows, asked, encoder.encode_document(rows), encoder.encode_query(asked))
    between = encoder.figures.recall_10_interval
    assert between is not None
    assert between.low - 0.03 <= found.recall_10 <= between.high + 0.03
    encoder.refine(rows)
    assert "directions of their own" in str(encoder.figures)
