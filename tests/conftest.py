"""Settings that hold for every test."""

import os

from hypothesis import HealthCheck, settings

# Before torch is loaded: its threads sleep as they wait. Spinning ones take minutes on a machine that others use.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# No test asserts a time: a busy machine is not a bug. CI draws the same cases every time; elsewhere each run draws new.
settings.register_profile(
    "sparsevec", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("sparsevec")
