"""For all tests: what a busy machine must not fail."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How fast examples are made says how busy the machine is, and nothing about what they found.
settings.register_profile("wardgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wardgate")
