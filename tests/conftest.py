"""Settings of all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Machines that run the tests may be busy: time says nothing about whether a property holds.
settings.register_profile(
    "house", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")
