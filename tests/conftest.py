"""Settings that hold for every test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, settings

# Before torch is loaded: its threads sleep as they wait. Spinning ones take minutes on a machine that others use.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# No test asserts a time: a busy machine is not a bug. CI draws the same cases every time; elsewhere each run draws new.
settings.register_profile(
    "sparsevec", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("sparsevec")


@contextmanager
def brief_looks() -> Iterator[None]:
    """The second look, two thirds of all steps, is learned in a few."""
    from sparsevec.encoder import recipe, stages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "SecondLookRecipe", partial(recipe.SecondLookRecipe, steps=50))
        yield


@contextmanager
def brief_trainings() -> Iterator[None]:
    """All learning takes a few of its steps."""
    from sparsevec.encoder import recipe
    from sparsevec.encoder.learning import learn

    with brief_looks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "head_recipe", lambda *sizes: replace(recipe.head_recipe(*sizes), steps=60))
        patch.setattr(
            learn, "refine_recipe", lambda *sizes: replace(recipe.refine_recipe(*sizes), epochs=1, least_steps=20)
        )
        yield


@pytest.fixture
def brief_look() -> Iterator[None]:
    """For tests of what comes before the second look."""
    with brief_looks():
        yield


@pytest.fixture
def brief() -> Iterator[None]:
    """For tests that ask what is said, kept and refused, and not how good it is."""
    with brief_trainings():
        yield
