"""Fuzzing is deterministic: the same examples on every machine, no data base of earlier ones, no clock."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("fuzz", derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
