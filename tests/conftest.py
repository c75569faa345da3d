"""Settings that hold for every test."""

import os
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


@pytest.fixture
def brief_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look, two thirds of all steps, is learned in a few: for tests of what comes before it."""
    from sparsevec.encoder import recipe, stages

    monkeypatch.setattr(stages, "SecondLookRecipe", partial(recipe.SecondLookRecipe, steps=50))


@pytest.fixture
def brief(brief_look: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning takes a few of its steps: for tests that ask what is said, kept and refused, and not how good it is."""
    from sparsevec.encoder import recipe
    from sparsevec.encoder.learning import learn

    monkeypatch.setattr(learn, "head_recipe", lambda *sizes: replace(recipe.head_recipe(*sizes), steps=60))
    monkeypatch.setattr(
        learn, "refine_recipe", lambda *sizes: replace(recipe.refine_recipe(*sizes), epochs=1, least_steps=20)
    )
