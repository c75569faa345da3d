"""Our encoder among the modules of sentence-transformers, and our budget among its losses; the real package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers import SparseEncoder as TheirSparseEncoder
from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator
from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss
from sentence_transformers.util import semantic_search

import sparsevec as sv
from sparsevec.errors import InvalidInput, NotFitted
from sparsevec.integrations.sentence_transformers import BudgetLoss, SparseHead, embedder, sparse_encoder
from sparsevec.vectors import Float32s
from tests.guests.conftest import TEXTS


@pytest.fixture(scope="module")
def dense(dense_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(dense_model), device="cpu")


@pytest.fixture(scope="module")
def rows(dense: SentenceTransformer) -> Float32s:
    return np.asarray(dense.encode(TEXTS, show_progress_bar=False), np.float32)


@pytest.fixture(scope="module")
def ours(rows: Float32s) -> sv.SparseEncoder:
    return sv.SparseEncoder(rows.shape[1], 256).fit(rows, budget=sv.Budget(nnz=8))


@pytest.fixture(scope="module")
def model(dense: SentenceTransformer, ours: sv.SparseEncoder) -> TheirSparseEncoder:
    return sparse_encoder(dense, ours)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no sentence-transformers model"):
        embedder(str(tmp_path / "nowhere"))
    with pytest.raises(InvalidInput, match="name a model"):
        embedder()


def test_texts_become_our_codes_to_the_last_bit(
    model: TheirSparseEncoder, ours: sv.SparseEncoder, rows: Float32s
) -> None:
    documents = model.encode_document(TEXTS, show_progress_bar=False)
    queries = model.encode_query(TEXTS, show_progress_bar=False)
    assert sv.SparseVectors.from_torch(documents) == _foreign(ours.encode_document(rows))
    assert sv.SparseVectors.from_torch(queries) == _foreign(ours.encode_query(rows))
    assert documents.is_sparse


def _foreign(vectors: sv.SparseVectors) -> sv.SparseVectors:
    return vectors.with_fingerprint(None)


def test_fewer_weights_can_be_asked_for(model: TheirSparseEncoder) -> None:
    codes = sv.SparseVectors.from_torch(model.encode_document(TEXTS, max_active_dims=3, show_progress_bar=False))
    assert codes.row_nnz.max() <= 3


def test_it_is_saved_and_loaded_as_they_do(model: TheirSparseEncoder, tmp_path: Path) -> None:
    model.save(str(tmp_path / "model"))
    again = TheirSparseEncoder(str(tmp_path / "model"), device="cpu", trust_remote_code=True)
    asked = [one.encode_query(TEXTS[:20], show_progress_bar=False).to_dense() for one in (model, again)]
    assert torch.equal(*asked)
    assert sv.SparseEncoder.load(next((tmp_path / "model").rglob("sparsevec"))).output_dim == 256


def test_their_evaluator_and_search_take_it(model: TheirSparseEncoder) -> None:
    corpus = {str(number): text for number, text in enumerate(TEXTS)}
    queries = {name: corpus[name] for name in ("0", "1", "2", "3")}
    judge = SparseInformationRetrievalEvaluator(
        queries, corpus, {name: {name} for name in queries}, mrr_at_k=[10], ndcg_at_k=[10], accuracy_at_k=[10],
        precision_recall_at_k=[10], map_at_k=[10], show_progress_bar=False,
    )  # fmt: skip
    assert judge(model)["dot_accuracy@10"] == 1.0
    found = semantic_search(
        model.encode_query(TEXTS[:2], show_progress_bar=False).to_dense(),
        model.encode_document(TEXTS, show_progress_bar=False).to_dense(),
        top_k=3,
    )
    assert [len(hits) for hits in found] == [3, 3]


def test_what_their_model_returns_is_ingested_and_verified(model: TheirSparseEncoder) -> None:
    codes = model.encode_document(TEXTS, show_progress_bar=False)
    with sv.Reference() as engine:
        engine.create(256)
        vectors = sv.SparseVectors.from_torch(codes)
        assert sv.ingest(engine, range(len(TEXTS)), vectors).written == len(TEXTS)
        sv.verify(engine, vectors, vectors[:5]).require_exact()


def test_what_does_not_fit_is_refused(dense: SentenceTransformer) -> None:
    with pytest.raises(NotFitted):
        SparseHead(sv.SparseEncoder(16, 64))
    with pytest.raises(InvalidInput, match="columns"):
        sparse_encoder(dense, sv.SparseEncoder(99, 64))


class Coded(torch.nn.Module):
    """Rows of numbers to codes: stands where a SparseEncoder of theirs stands in a loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(16, 128)

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": torch.relu(self.layer(features["rows"]))}


def test_a_loss_of_theirs_trains_to_our_budget() -> None:
    torch.manual_seed(1)
    model = Coded()
    loss = BudgetLoss(model, SparseMultipleNegativesRankingLoss(model), sv.Budget(nnz=12), steps=150)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    active = []
    for _ in range(450):
        rows = torch.randn(64, 16)
        found = loss([{"rows": rows}, {"rows": rows + 0.1 * torch.randn(64, 16)}])
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
        with torch.no_grad():
            active.append(float((model({"rows": rows})["sentence_embedding"] > 0).sum(1).float().mean()))
    assert active[0] > 50
    assert np.mean(active[-50:]) == pytest.approx(12, rel=0.1)


def test_a_loss_that_takes_no_embeddings_is_refused() -> None:
    with pytest.raises(InvalidInput, match="takes no embeddings"):
        BudgetLoss(Coded(), torch.nn.MSELoss(), sv.Budget(nnz=8), steps=10)
