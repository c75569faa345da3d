"""A small encoder for all guests, texts, and a small dense model that reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import sparsevec as sv
from sparsevec.vectors import Float32s
from tests.integration.qdrant_shim import QdrantShim

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # nothing is sent from tests

WORDS = [f"{first}{second}" for first in ("ba", "do", "ki", "lu", "me") for second in ("na", "ro", "ti", "su")]
TEXTS = [" ".join(np.random.default_rng(seed).choice(WORDS, 6)) for seed in range(300)]


@pytest.fixture(scope="session")
def dense_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 16 columns, as sentence-transformers keeps one."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("dense")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(shape).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    SentenceTransformer(modules=[Transformer(str(folder / "bert")), Pooling(16)]).save(str(folder / "whole"))
    return folder / "whole"


@pytest.fixture(scope="session")
def dense() -> Float32s:
    """(600, 24) around 20 centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 24))
    return (centres[rng.integers(20, size=600)] + 0.4 * rng.normal(size=(600, 24))).astype(np.float32)


@pytest.fixture(scope="session")
def encoder(dense: Float32s) -> sv.SparseEncoder:
    return sv.SparseEncoder(24, 256).fit(dense, budget=sv.Budget(nnz=8))


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A collection behind the real client over loopback, for processes to share."""
    with QdrantShim(tmp_path) as shim:
        yield f"qdrant://127.0.0.1:{shim.port}/products"


@pytest.fixture
def ours(url: str, encoder: sv.SparseEncoder) -> str:
    with sv.connect(url) as adapter:
        adapter.create(encoder.output_dim, fingerprint=encoder.fingerprint)
    return url
