"""By how much Qdrant's uint8 index may move a weight: half a step, and the float32 arithmetic of finding it."""

from __future__ import annotations

import numpy as np
from sparsevec_adapters.qdrant_core.rounding import slack

from sparsevec import connect
from sparsevec.vectors import Float32s, SparseVectors


def kept(weights: Float32s) -> Float32s:
    """What an index of one list of postings gives back, in float32 as the engine computes it."""
    least, greatest = weights.min(), weights.max()
    step = (greatest - least) / np.float32(255)
    back: Float32s = least + np.round((weights - least) / step) * step
    return back


def test_the_slack_of_uint8_covers_what_float32_adds_to_half_a_step() -> None:
    """Weights a few thousand units in the last place apart, where half a step is no more than two of them."""
    generator = np.random.default_rng(0)
    weights = (1 + generator.integers(0, 1000, 2000) * 2.0**-23).astype(np.float32)
    column = SparseVectors.from_dense(weights[:, None])
    moved = np.abs(kept(weights).astype(np.float64) - weights)
    half_a_step = float(np.ptp(weights.astype(np.float64))) / 510
    assert (moved > half_a_step).any()  # without its arithmetic term the slack would be too small
    assert (moved <= slack(column, "uint8")).all()


def test_the_slack_of_uint8_covers_weights_of_every_size() -> None:
    generator = np.random.default_rng(1)
    for size in 10.0 ** np.arange(-6, 7):
        weights = (size * generator.lognormal(0, 2, 500)).astype(np.float32)
        moved = np.abs(kept(weights).astype(np.float64) - weights)
        assert (moved <= slack(SparseVectors.from_dense(weights[:, None]), "uint8")).all()


def test_local_mode_adds_up_the_float32s_that_were_given() -> None:
    """Not their shortest decimals, which are other numbers: it computes in double."""
    generator = np.random.default_rng(0)
    query = SparseVectors([0, 1], [5], [4.555825], 10)
    weights = generator.uniform(1, 10, 200).astype(np.float32)
    documents = SparseVectors(np.arange(201), np.full(200, 5), weights, 10)
    with connect("qdrant+memory:") as adapter:
        adapter.create(10)
        adapter.upsert(range(200), documents)
        (hits,) = adapter.search(query, 200)
    due = (np.float64(query.values[0]) * weights).astype(np.float32)
    assert dict(zip(hits.ids, hits.scores.tolist(), strict=True)) == dict(enumerate(due.tolist()))
