"""Small data with structure: documents in clusters, queries near documents, and one encoder learned from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.vectors import Float32s, SparseVectors

torch.set_num_threads(1)  # the same bits everywhere; and small matrices are slower on several threads that others use

INPUT, OUTPUT, NNZ, FLOPS = 32, 256, 8, 0.6


def clustered(n: int, seed: int, *, clusters: int = 60, spread: float = 0.5) -> Float32s:
    """(n, INPUT) rows around `clusters` directions that are the same for every seed."""
    directions = np.random.default_rng(7).standard_normal((clusters, INPUT))
    generator = np.random.default_rng(seed)
    rows = directions[generator.integers(clusters, size=n)] + spread * generator.standard_normal((n, INPUT))
    return rows.astype(np.float32)


def ranking_overlap(queries: SparseVectors, documents: SparseVectors, dense: npt.NDArray[np.float32]) -> float:
    """Mean overlap of the sparse with the dense top 10; dense (q, n) similarities."""
    sparse = (queries.to_scipy() @ documents.to_scipy().T).toarray()
    pairs = zip(np.argsort(-sparse, axis=1)[:, :10], np.argsort(-dense, axis=1)[:, :10], strict=True)
    return float(np.mean([np.isin(found, due).mean() for found, due in pairs]))


def unit(rows: Float32s) -> Float32s:
    units: Float32s = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


@pytest.fixture(scope="session")
def documents() -> Float32s:
    return clustered(1500, seed=1)


@pytest.fixture(scope="session")
def queries() -> Float32s:
    return clustered(600, seed=2, spread=0.6)


@pytest.fixture(scope="session")
def unseen_queries() -> Float32s:
    return clustered(2000, seed=3, spread=0.6)


@pytest.fixture(scope="session")
def encoder(documents: Float32s, queries: Float32s) -> SparseEncoder:
    """Only fitted; tests must not refine it."""
    return SparseEncoder(INPUT, OUTPUT).fit(documents, queries, budget=Budget(nnz=NNZ, flops=FLOPS))


@pytest.fixture(scope="session")
def refined(
    encoder: SparseEncoder, documents: Float32s, queries: Float32s, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SparseEncoder, SparseVectors]:
    """The same head, refined, and the corpus that came out."""
    folder = tmp_path_factory.mktemp("models") / "head"
    encoder.save(folder)
    again = SparseEncoder.load(folder)
    return again, again.refine(documents, queries)
