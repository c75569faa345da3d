"""Settings that hold for every test."""

from hypothesis import HealthCheck, settings

# No test asserts a time: a busy machine is not a bug.
settings.register_profile("sparsevec", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sparsevec")
