"""Learning on a GPU. It adds in no fixed order, so what it learns is as good, and not the same bits."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsevec.encoder import Budget, Progress, SparseEncoder
from sparsevec.measure.recall import evaluate
from sparsevec.training import TrainStep
from sparsevec.vectors import Float32s, SparseVectors
from tests.training.conftest import FLOPS, INPUT, NNZ, OUTPUT, ranking_overlap, unit
from tests.training.test_adopting import another_model
from tests.training.test_learning import GOLDEN, measured
from tests.training.worker import STEPS, Task, rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

BUDGET = Budget(nnz=NNZ, flops=FLOPS)


class Stopped(Exception):
    pass


def test_it_learns_something_as_good(documents: Float32s, queries: Float32s, unseen_queries: Float32s) -> None:
    encoder = SparseEncoder(INPUT, OUTPUT, seed=0).fit(documents, queries, budget=BUDGET, device="cuda")
    head = measured(encoder, encoder.encode_document(documents), documents, unseen_queries)
    assert head == pytest.approx(GOLDEN["head"], abs=0.03)
    refined = measured(encoder, encoder.refine(documents, queries, device="cuda"), documents, unseen_queries)
    assert refined == pytest.approx(GOLDEN["refined"], abs=0.03)


@pytest.mark.parametrize("stage", ["head", "towers", "refine"])
def test_it_goes_on_from_its_checkpoint_after_a_stop(
    stage: str, documents: Float32s, queries: Float32s, unseen_queries: Float32s, tmp_path: Path
) -> None:
    steps: list[int] = []

    def stop(event: Progress) -> None:
        if event.stage == stage:
            steps.append(event.step)
            if len(steps) == 60:
                raise Stopped

    def learned(encoder: SparseEncoder, **settings: Any) -> SparseVectors:
        encoder.fit(documents, queries, budget=BUDGET, device="cuda", checkpoint=tmp_path, **settings)
        return encoder.refine(documents, queries, device="cuda", checkpoint=tmp_path, **settings)

    with pytest.raises(Stopped):
        learned(SparseEncoder(INPUT, OUTPUT, seed=0), on_step=stop)
    encoder = SparseEncoder(INPUT, OUTPUT, seed=0)
    codes = learned(encoder, on_step=lambda event: steps.append(event.step) if event.stage == stage else None)
    assert steps[60] == 51  # from where it was last kept
    assert measured(encoder, codes, documents, unseen_queries) == pytest.approx(GOLDEN["refined"], abs=0.03)


def test_documents_alone_and_more_than_are_searched_at_once_are_learned_from(
    documents: Float32s, unseen_queries: Float32s, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparsevec.encoder.learning.refining._SCORES", 2**14)
    encoder = SparseEncoder(INPUT, OUTPUT, seed=0).fit(documents, budget=BUDGET, device="cuda")
    codes = encoder.refine(documents, device="cuda")
    assert evaluate(documents, unseen_queries, codes, encoder.encode_query(unseen_queries)).recall_10 > 0.5


def test_what_was_learned_there_encodes_the_same_bits_where_there_is_none(
    documents: Float32s, queries: Float32s, tmp_path: Path
) -> None:
    encoder = SparseEncoder(INPUT, OUTPUT, seed=0).fit(documents, queries, budget=BUDGET, device="cuda")
    encoder.save(tmp_path / "model")
    again = SparseEncoder.load(tmp_path / "model")
    assert again.fingerprint == encoder.fingerprint
    assert again.encode_document(documents) == encoder.encode_document(documents)


def test_queries_of_another_model_are_adopted(
    encoder: SparseEncoder, documents: Float32s, queries: Float32s, unseen_queries: Float32s
) -> None:
    texts = np.concatenate([documents, queries])
    adopted = encoder.adopt(another_model(texts), texts, documents=documents, device="cuda")
    codes, dense = encoder.encode_document(documents), unit(unseen_queries) @ unit(documents).T
    theirs = ranking_overlap(adopted.encode_query(another_model(unseen_queries)), codes, dense)
    assert theirs > 0.6 * ranking_overlap(encoder.encode_query(unseen_queries), codes, dense)


# ---- `train`, end to end


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_tower_is_trained_as_on_a_processor(precision: str) -> None:
    there, here = (list(task.steps()) for task in (Task(precision=precision, device="cuda"), Task()))
    assert [len(there), len(here)] == [STEPS, STEPS]
    losses = [np.mean([step.loss for step in steps[-10:]]) for steps in (there, here)]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)  # dropout draws other numbers there
    assert losses[0] < 0.7 * there[0].loss
    assert there[-1].nnz == pytest.approx(here[-1].nnz, rel=0.3)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_tower_goes_on_from_its_checkpoint(precision: str, tmp_path: Path) -> None:
    whole: list[TrainStep] = list(Task(precision=precision, device="cuda").steps())
    list(islice(Task(precision=precision, device="cuda").steps(tmp_path / "kept", every=7), 40))
    rest = list(Task(precision=precision, device="cuda").steps(tmp_path / "kept", every=7))
    assert (rest[0].step, rest[-1].step) == (36, STEPS)
    assert rest[0].loss == pytest.approx(whole[35].loss, rel=0.02)  # the same batch, the same dropout
    assert rest[-1].loss == pytest.approx(whole[-1].loss, rel=0.1)


def test_a_tower_encodes_there_what_it_encodes_here() -> None:
    task = Task(device="cuda")
    list(task.steps())
    task.model.eval()
    some = rows(50, seed=5)[0]
    there = task.tower.encode([some])
    here = task.tower.cpu().encode([some])
    close = np.isclose(there.to_scipy().toarray(), here.to_scipy().toarray(), atol=2e-3)
    assert close.mean() > 0.999
    assert there.nnz > 0
