"""False certificates of the whole procedure, over 10,000 simulated models: ``make test-slow``, about three minutes of one idle core.

Not collected by ``make test`` (its name does not begin with test); a small part of it is ``test_sequence.py``.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from tools.maintain.simulate import TRUTHS, Truth, whole_procedure

MODELS = 10_000


@pytest.mark.parametrize("truth", TRUTHS[:3], ids=lambda truth: truth.name)
def test_a_wrong_certificate_has_a_chance_of_five_per_cent_at_most(truth: Truth) -> None:
    rng = np.random.default_rng(11)
    wrong = sum(whole_procedure(rng, truth, 10).safe > truth.unsafe for _ in range(MODELS)) / MODELS
    assert wrong <= 0.05 + 2 * sqrt(0.05 * 0.95 / MODELS)


def test_safe_budgets_are_found_and_a_cliff_is_left_early() -> None:
    rng = np.random.default_rng(12)
    found = [whole_procedure(rng, TRUTHS[4], 34) for _ in range(500)]
    assert sum(one.safe == 2 for one in found) / 500 > 0.6
    assert 1 - sum(one.asked for one in found) / sum(one.whole for one in found) > 0.15
