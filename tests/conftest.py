"""For all tests: what a busy machine must not turn into a failure."""

from hypothesis import HealthCheck, settings

# On top of hypothesis' own profile (in CI a derandomised one): examples take as long as they take.
settings.register_profile("unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
