"""How long and how hard to train, chosen from the sizes alone; and what a listener hears of each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["HeadRecipe", "Listener", "RefineRecipe", "Step", "head_recipe", "refine_recipe", "towers_recipe"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of training, as `on_step` hears it."""

    stage: str
    """head, towers or refine"""
    step: int
    """1 .. steps"""
    steps: int
    loss: float
    nnz: float
    """mean weights of a document in the batch"""
    flops: float
    """F of the batch's queries against its documents, smoothed over steps"""
    spread: float
    """R_sub of the same: 1 is even"""
    penalty: float
    """weight of the regulariser, as the controller has set it"""


Listener = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class HeadRecipe:
    """Stages 1 and 2: a linear head for documents and queries, then one for each."""

    stage: str
    steps: int
    spread: float  # R_sub that the controller steers for
    documents: int = 64  # anchors a step
    queries: int = 256
    noisy: float = 0.67  # share of the queries that are moved, so that a small sample is not learned by heart
    positives: int = 3  # neighbours drawn for each anchor
    temperature: float = 0.05  # of the teacher: dense cosines over this
    query_share: float = 0.7  # of the matching loss; documents have the rest
    reconstruction: float = 30.0
    rate: float = 3e-3
    warm_up: int = 50
    clip: float = 5.0


@dataclass(frozen=True, slots=True)
class RefineRecipe:
    """Stage 3: document weights free on fixed dimensions, and the queries' tower with them."""

    epochs: int
    spare: int  # dimensions a document starts with beyond its budget; the weakest go
    copies: int = 2  # of every query, an epoch, moved towards one like it, each with its own nearest documents
    batch: int = 256
    least_steps: int = 200
    random: int = 100  # candidates a query is judged on, beside its nearest
    drawn: int = 2048  # random documents a batch, of which each query gets its own
    temperature: float = 0.05
    price: float = 0.0015  # of a query's weight at a dimension that as many documents use as on average
    document_rate: float = 4e-3
    query_rate: float = 1e-3
    scale_rate: float = 1e-2


def head_recipe(n: int, output_dim: int, nnz: int) -> HeadRecipe:
    """Steps fall with the width (wider heads overfit sooner) and with few rows; long codes spread more evenly."""
    by_width = 600 * 8192 / output_dim
    by_rows = 30 * n / 450  # a step sees about 450 documents
    steps = round(max(150.0, min(by_width, by_rows, 1000)))
    return HeadRecipe("head", steps, spread=1 + math.sqrt(output_dim / nnz) / 16)


def towers_recipe(head: HeadRecipe) -> HeadRecipe:
    """Half as long and more gently. Two sides that may differ meet more evenly: a quarter of the head's excess."""
    return replace(head, stage="towers", steps=head.steps // 2, rate=1e-3, spread=1 + (head.spread - 1) / 4)


def refine_recipe(output_dim: int, nnz: int) -> RefineRecipe:
    """Wide codes need fewer epochs, as the head; longer rows have more weights that reach zero on the way."""
    return RefineRecipe(epochs=max(2, round(6 * min(1.0, math.sqrt(8192 / output_dim)))), spare=max(1, nnz // 5))
