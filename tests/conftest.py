"""For all tests: what a busy machine must not turn into a failure."""

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# On top of hypothesis' own profile (in CI a derandomised one): examples take as long as they take.
settings.register_profile("unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Captured text travels between processes as UTF-8, which has no lone surrogates; tests of hostile text print some."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
