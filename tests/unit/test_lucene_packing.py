"""Packed weights: what is unpacked is what FeatureField keeps, to the bit; what does not fit is said."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sparsevec_adapters.lucene.answers import read_packed
from sparsevec_adapters.lucene.claims import Claim
from sparsevec_adapters.lucene.index import Field
from sparsevec_adapters.lucene.packing import Packing
from sparsevec_adapters.lucene.text import LOOPS
from sparsevec_adapters.lucene.weights import scores, stored

from sparsevec.vectors import SparseVectors
from tests.strategies import signed_weights, vectors


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    LOOPS.load(wait=True)


def corpus(n: int, nnz: int, dimension: int = 8192) -> SparseVectors:
    generator = np.random.default_rng(0)
    indices = np.concatenate([np.sort(generator.choice(dimension, nnz, False)) for _ in range(n)])
    values = generator.uniform(0.05, 1, n * nnz).astype(np.float32)
    return SparseVectors(np.arange(0, n * nnz + 1, nnz), indices, values, dimension)


def by_numpy(packing: Packing, records: np.ndarray) -> SparseVectors | None:
    with pytest.MonkeyPatch.context() as without:
        without.setattr(LOOPS, "_module", None)
        read: SparseVectors | None = packing.unpacked(records)
    return read


@given(vectors())
def test_what_is_unpacked_is_what_the_engine_keeps(given: SparseVectors) -> None:
    packing = Packing.fitting(given)
    records, held = packing.packed(given)
    assert held.all()
    assert packing.unpacked(records) == by_numpy(packing, records) == stored(given)


def test_bytes_that_something_else_wrote_are_no_vectors() -> None:
    packing = Packing(8192, 32, 11)
    assert packing.unpacked(np.full((2, packing.width), 255, np.uint8)) is None  # more weights than there may be
    assert packing.unpacked(np.arange(packing.width, dtype=np.uint8)[None]) is None  # not one above the other


@given(vectors(), st.data())
def test_any_bytes_are_vectors_or_none(given: SparseVectors, data: st.DataObject) -> None:
    packing = Packing.fitting(given)
    records, _ = packing.packed(given)
    noise = data.draw(arrays(np.uint8, records.shape))
    records ^= noise & data.draw(st.sampled_from([0x00, 0x01, 0x11, 0xFF]))
    read = packing.unpacked(records)
    assert read is None or len(read) == len(given)
    assert read == by_numpy(packing, records)


@given(st.integers(1, 5), st.integers(0, 300), st.integers(1, 16), st.data())
def test_the_loop_and_numpy_read_the_same_of_any_bytes(weights: int, more: int, bits: int, data: st.DataObject) -> None:
    packing = Packing(weights + more, weights, bits)
    records = data.draw(arrays(np.uint8, (3, packing.width)))
    assert packing.unpacked(records) == by_numpy(packing, records)


@given(vectors(dimension=64), vectors(dimension=64))
def test_the_loop_scores_to_the_bit_as_numpy_does(asked: SparseVectors, documents: SparseVectors) -> None:
    for query in asked:
        looped = scores(query, documents)
        with pytest.MonkeyPatch.context() as without:
            without.setattr(LOOPS, "_module", None)
            assert looped.tobytes() == scores(query, documents).tobytes()


def test_dimensions_beyond_31_bits_are_unpacked() -> None:
    given = SparseVectors([0, 3], [5, 2**31, 2**32 - 1], [0.5, 0.25, 1.0], 2**32)
    packing = Packing.fitting(given)
    records, _ = packing.packed(given)
    assert packing.unpacked(records) == by_numpy(packing, records) == given


@given(vectors(weights=signed_weights, dimension=64), st.integers(1, 4), st.integers(1, 16))
def test_what_does_not_fit_is_said_and_the_rest_is_kept(given: SparseVectors, weights: int, bits: int) -> None:
    records, held = Packing(64, weights, bits).packed(given)
    kept = (np.abs(given.values).view(np.uint32) >> 15).astype(int)
    rows = [slice(*given.indptr[row : row + 2]) for row in range(len(given))]
    fits = [
        len(kept[row]) <= weights
        and bool((given.values[row] > 0).all())
        and np.ptp([*kept[row][:1], *kept[row]]) < 1 << bits
        if len(kept[row])
        else True
        for row in rows
    ]
    assert held.tolist() == fits
    at = np.flatnonzero(held)
    assert Packing(64, weights, bits).unpacked(records[at]) == stored(given[at])


def test_32_weights_of_8192_dimensions_take_86_bytes() -> None:
    given = corpus(100, 32)
    packing = Packing.fitting(given)
    assert packing == Packing(8192, 32, 11)
    assert packing.width == 86


def test_a_collection_that_begins_with_few_documents_leaves_room() -> None:
    packing = Packing.fitting(corpus(3, 20))
    assert packing.weights == 30
    assert packing.packed(corpus(50, 30))[1].all()
    assert not packing.packed(corpus(50, 31))[1].any()


@pytest.mark.parametrize("padded", [True, False])
def test_records_are_read_padded_or_not(padded: bool) -> None:
    """OpenSearch does not pad."""
    given = corpus(100, 31)
    packing = Packing.fitting(given)
    claim = Claim("emb", 8192, "u", "index", None, "_sparsevec_emb", code_bytes=5, packed=True)
    field = Field("emb", "sparse_vector", "term", "emb", claim, packing=packing)
    records, _ = packing.packed(given)
    codes = np.random.default_rng(0).integers(0, 256, (100, 5), np.uint8)

    def text(row: np.ndarray) -> list[str]:
        encoded = base64.b64encode(row.tobytes()).decode()
        return [encoded if padded else encoded.rstrip("=")]

    hits = [
        {"fields": {"_sparsevec_emb~weights": text(record), "_sparsevec_emb~code": text(code)}}
        for record, code in zip(records, codes, strict=True)
    ]
    read = read_packed(hits, field, codes=True)
    assert read is not None
    assert read[0] == stored(given)
    assert read[1] is not None
    assert np.array_equal(read[1], codes)
    assert read_packed([*hits, {"fields": {"_sparsevec_emb~code": text(codes[0])}}], field, codes=True) is None
    assert read_packed([*hits, {}], field, codes=False) is None
