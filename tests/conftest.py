"""What holds for every test: hypothesis tries the same examples every time, and never looks at the clock."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A deadline, or a health check of how fast examples come, would measure the machine and what else runs on it.
settings.register_profile(
    "pasdedeux", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("pasdedeux")
