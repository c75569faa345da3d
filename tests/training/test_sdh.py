"""The loss of the SDH baseline against its definition, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.paper.sdh import k_hot, sdh_loss
from sparsevec.errors import InvalidInput

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])


def embeddings(seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(6, 12, generator=torch.Generator().manual_seed(seed)), dim=1)


def by_definition(rows: torch.Tensor, k: int, conflict: float, margin: float) -> float:
    means = np.array([rows[torch.eq(LABELS, label)].mean(dim=0).numpy() for label in range(3)])
    codes = k_hot(means, k, conflict=conflict)[LABELS.numpy()]
    far = [
        [float(((a - b).abs().numpy() * (i | j)).sum()) for b, j in zip(rows, codes, strict=True)]
        for a, i in zip(rows, codes, strict=True)
    ]
    hinges = []
    for i, j in [(i, j) for i in range(6) for j in range(6) if i != j and LABELS[i] == LABELS[j]]:
        negatives = [far[i][m] for m in range(6) if LABELS[m] != LABELS[i]]
        semi_hard = min((d for d in negatives if d > far[i][j]), default=max(negatives))
        hinges.append(max(0.0, margin + far[i][j] - semi_hard))
    return float(np.mean(hinges))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 3, 12])
def test_the_loss_is_the_semi_hard_triplet_loss_over_the_dimensions_of_either_code(seed: int, k: int) -> None:
    rows = embeddings(seed)
    assert float(sdh_loss(rows, LABELS, k, conflict=0.1, margin=0.5)) == pytest.approx(by_definition(rows, k, 0.1, 0.5))


def test_training_by_the_loss_alone_puts_classes_in_buckets_of_their_own() -> None:
    rows = embeddings(0).requires_grad_()
    optimizer = torch.optim.Adam([rows], lr=0.05)
    for _ in range(200):
        loss = sdh_loss(torch.nn.functional.normalize(rows, dim=1), LABELS, 2, margin=4)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    held = [set(row.topk(2).indices.tolist()) for row in rows]
    assert held[0] & held[1] & held[2]
    assert held[3] & held[4]
    assert not held[0] & held[3]


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0]])
def test_a_batch_without_a_triplet_is_refused(labels: list[int]) -> None:
    with pytest.raises(InvalidInput, match="two items of a class and two classes are due"):
        sdh_loss(embeddings(0), torch.tensor(labels), 2)
