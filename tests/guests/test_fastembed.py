"""fastembed's sparse embeddings, ingested, searched and verified; a dataset of Hugging Face, read by its columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from fastembed import SparseEmbedding

import sparsevec as sv
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.files import read_table
from sparsevec.integrations.fastembed import dimension_of, from_fastembed, to_fastembed
from sparsevec.vectors import Float32s


def embeddings(n: int) -> list[SparseEmbedding]:
    """As SPLADE gives them: indices in any order, float32."""
    rng = np.random.default_rng(0)
    chosen = [rng.choice(30522, 40, replace=False) for _ in range(n)]
    return [SparseEmbedding(values=rng.gamma(2, 0.3, 40).astype(np.float32), indices=some) for some in chosen]


def test_embeddings_are_ingested_searched_and_verified() -> None:
    dimension = dimension_of("prithivida/Splade_PP_en_v1")
    assert dimension == 30522
    documents = from_fastembed(embeddings(200), dimension=dimension)
    queries = from_fastembed(iter(embeddings(20)), dimension=dimension)
    adapter = sv.connect("reference:")
    adapter.create(dimension)
    report = sv.ingest(adapter, range(200), documents)
    assert (report.written, report.given) == (200, 200)
    assert adapter.search(from_fastembed(embeddings(1)[0], dimension=dimension), k=1)[0][0].id == 0
    sv.verify(adapter, documents, queries, k=10).require_exact()


def test_they_come_back_as_they_were_in_order_of_their_indices() -> None:
    given = embeddings(3)
    for one, back in zip(given, to_fastembed(from_fastembed(given, dimension=30522)), strict=True):
        order = np.argsort(one.indices)
        assert back.indices.tolist() == one.indices[order].tolist()
        assert back.values.tolist() == one.values[order].tolist()
        back.values[0] = 7  # in arrays of one's own


def test_our_codes_are_embeddings_of_theirs(encoder: sv.SparseEncoder, dense: Float32s) -> None:
    codes = encoder.encode_document(dense[:5])
    assert from_fastembed(to_fastembed(codes), dimension=codes.dimension) == codes


def test_models_that_hash_their_tokens_have_room_for_every_hash() -> None:
    assert dimension_of("Qdrant/bm25") == 2**31


def test_what_is_none_of_theirs_is_refused_by_row() -> None:
    with pytest.raises(InvalidInput, match="expected a sequence of embeddings, found None"):
        from_fastembed(None, dimension=3)  # type: ignore[arg-type]
    nan = SparseEmbedding(values=np.array([np.nan]), indices=np.array([3]))
    for wrong in ([embeddings(1)[0], {1: 2.0}], [nan], [SparseEmbedding(np.array([1.0]), np.array([99999]))]):
        with pytest.raises(InvalidVectors):
            from_fastembed(wrong, dimension=30522)
    with pytest.raises(InvalidInput, match="dimension="):
        dimension_of("somebody/unknown")


def test_a_dataset_is_read_by_its_columns(encoder: sv.SparseEncoder, dense: Float32s) -> None:
    columns = {"id": [f"d{at}" for at in range(50)], "embedding": dense[:50].tolist(), "n": list(range(50))}
    dataset = Dataset.from_dict(columns)
    for some in (dataset, dataset.select(range(10, 50)), dataset.with_format("numpy")):
        read = read_table(some)
        assert list(read.ids or []) == list(some["id"][:])
        assert np.array_equal(read.rows, np.asarray(some["embedding"][:], np.float32))
    assert list(read_table(dataset).payloads or [])[3] == {"n": 3}


def test_a_dataset_is_encoded_by_its_own_map(encoder: sv.SparseEncoder, dense: Float32s) -> None:
    def encode(batch: dict[str, list[list[float]]]) -> dict[str, list[Any]]:
        codes = encoder.encode_document(np.asarray(batch["embedding"], np.float32))
        return {"indices": [row.indices for row in codes], "weights": [row.values for row in codes]}

    coded = Dataset.from_dict({"embedding": dense[:50].tolist()}).map(encode, batched=True, batch_size=20)
    rows = [zip(one["indices"], one["weights"], strict=True) for one in coded]
    assert sv.SparseVectors.from_rows(rows, dimension=encoder.output_dim) == encoder.encode_document(dense[:50])
