"""What is trained: for each collection its school and its branches."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.paper.branches import Recipe, School

__all__ = ["Course", "course"]


@dataclass(frozen=True, slots=True)
class Course:
    school: School
    recipes: tuple[Recipe, ...]
    """the first is dense: what the others are compared with, and what the other methods search"""
    heads: tuple[int, ...] = (8, 32)
    """non-zeros of the heads that are learned from its rows: top-k autoencoder and CSR"""


def course(name: str, *, quick: bool) -> Course:
    return shortened(FULL[name]) if quick else FULL[name]


def swept(method: str, dimension: int, *weights: float) -> tuple[Recipe, ...]:
    return tuple(Recipe(method, dimension, weight) for weight in weights)


def steered(dimension: int, *nnz: int) -> tuple[Recipe, ...]:
    """FLOPs and L1 to the same number of non-zeros."""
    return tuple(Recipe(method, dimension, nnz=aim) for aim in nnz for method in ("FLOPs", "L1"))


def hashed(dimension: int, *active: int) -> tuple[Recipe, ...]:
    return tuple(Recipe("SDH", dimension, active=k) for k in active)


TEXTS = (
    Recipe("dense", 256),
    Recipe("ReLU", 1024),
    *swept("FLOPs", 1024, 1, 4, 16, 64),
    *swept("L1", 1024, 0.03, 0.1, 0.3),
    *steered(1024, 16, 32),
    *swept("FLOPs", 256, 4, 16),
    *swept("FLOPs", 4096, 16, 64),
    *hashed(128, 1, 2, 4),
)
PICTURES = (  # each costs a minute of the processor
    Recipe("dense", 256),
    *swept("FLOPs", 1024, 10, 30, 50, 100, 300, 1000),
    *swept("L1", 1024, 0.1, 0.3, 1),
    *steered(1024, 16),
    Recipe("FLOPs", 256, 100),
    Recipe("FLOPs", 4096, 300),
    *hashed(128, 1, 4),
)
OPEN_SET = (
    Recipe("dense", 256),
    *swept("FLOPs", 4096, 3, 10, 30, 100),
    *swept("L1", 4096, 0.03, 0.1, 0.3),
    *steered(4096, 32, 64),
    Recipe("FLOPs", 1024, 30),
    Recipe("FLOPs", 8192, 30),
    *hashed(128, 1, 4),
)
FULL = {
    "cifar100": Course(School(trunk_steps=2340, branch_steps=250, loss="pairs", each=2, rate=3e-3), PICTURES),
    "omniglot": Course(
        School(trunk_steps=1500, branch_steps=500, loss="teacher", each=2, rate=3e-3, batch=256, frozen=True),
        OPEN_SET,
    ),
    "clinc150": Course(School(trunk_steps=0, branch_steps=300, loss="pairs", each=2, rate=3e-3, batch=256), TEXTS),
}


def shortened(full: Course) -> Course:
    """The same kinds of branches, small, for a few steps."""
    school = replace(full.school, trunk_steps=min(20, full.school.trunk_steps), branch_steps=40, batch=32, rate=3e-3)
    recipes = (
        Recipe("dense", 64),
        *swept("FLOPs", 256, 5, 50),
        *swept("L1", 256, 0.1, 0.5),
        Recipe("FLOPs", 256, nnz=16),
        *hashed(64, 2),
    )
    return Course(school, recipes, heads=(16,))
