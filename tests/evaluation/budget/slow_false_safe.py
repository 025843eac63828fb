"""False certificates of the whole procedure, over 10,000 simulated models: ``make test-slow``, about a minute of one idle core.

Not collected by ``make test`` (its name does not begin with test); a small part of it is ``test_sequence.py``.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from tools.maintain.simulate import TRUTHS, Models, Truth, one_by_one, outcomes, whole_procedure

MODELS = 10_000


@pytest.mark.parametrize("questions", [10, 34])
@pytest.mark.parametrize("truth", TRUTHS[:3], ids=lambda truth: truth.name)
def test_a_wrong_certificate_has_a_chance_of_five_per_cent_at_most(truth: Truth, questions: int) -> None:
    wrong = (outcomes(11, truth, questions, MODELS).safe > truth.unsafe).mean()
    assert wrong <= 0.05 + 2 * sqrt(0.05 * 0.95 / MODELS)


def test_safe_budgets_are_found_and_a_cliff_is_left_early() -> None:
    found = outcomes(12, TRUTHS[4], 34, MODELS)
    assert (found.safe == 2).mean() > 0.8
    assert 1 - found.asked.sum() / found.whole.sum() > 0.15


def test_all_models_at_once_are_the_package_model_by_model() -> None:
    for truth in TRUTHS:
        models = Models(np.random.default_rng(13), truth, 10, 500)
        fast, slow = whole_procedure(models), one_by_one(models)
        for name in ("safe", "asked", "whole"):
            np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name))
