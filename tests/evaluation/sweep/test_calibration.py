"""Indicators and gamma scaled on a few questions before a sweep: once, and kept with it."""

from __future__ import annotations

import numpy as np
import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.calibration import calibrated_gamma, measure_indicators, scale_to_information
from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.evaluation.sweep.sweep import sweep
from senna_autoprune.pruning.parts.curves import CurveParameters
from tests.evaluation.conftest import Place
from tests.evaluation.sweeps import sweep_config, talking


def test_indicators_are_scaled_to_the_mean_of_mutual_information_once(place: Place) -> None:
    config = sweep_config(place, methods=None, ablation="indicators", retention=(0.8,), calibration=4)
    asked = talking()
    result = sweep(config, asked.senna)
    assert asked.looked == 4 + 4 + 1  # calibration, answers, grey
    questions, root = load_questions(config)
    values = measure_indicators(talking().senna, questions, root)
    for name in ("cosine", "attention"):
        factor = scale_to_information(values, name)
        assert np.mean(values[name]) * factor == pytest.approx(np.mean(values["mutual_information"]), rel=1e-4)
        assert result.table["calibration"]["indicator_scale"][name] == pytest.approx(factor, rel=1e-5)
    scaled: dict[str, list[float]] = {}
    for row in result.answers:
        if row.trace and row.trace["mutual_information"] is not None:
            scaled.setdefault(row.setting.split("@")[0].split(",")[0], []).append(row.trace["mutual_information"])
    assert len(scaled) == 3
    for found in scaled.values():
        assert np.mean(found) == pytest.approx(np.mean(values["mutual_information"]), rel=1e-3)
    again = talking()
    assert sweep(config, again.senna).table == result.table
    assert again.looked == again.generated == 0
    with RunStore.read(result.directory) as store:
        assert store.config["calibration"]["asked"] == 4


def test_calibrated_gamma_spans_k() -> None:
    information = np.random.default_rng(0).uniform(0.7, 1.9, 500)
    found = calibrated_gamma(information.tolist(), 32)
    curve = CurveParameters.for_depth(32, **found)
    low, high = np.quantile(information, [0.05, 0.95])
    assert curve.steepness(low) == pytest.approx(0.4, rel=1e-4)
    assert curve.steepness(high) == pytest.approx(0.04, rel=1e-3)
    assert curve.inflexion(low) == pytest.approx(14.9 + 0.4, rel=1e-4)
    with pytest.raises(SennaPruneError, match="nothing can adapt"):
        calibrated_gamma([1.0, 1.0, 1.0], 32)


def test_a_calibrated_row_stands_beside_the_default(place: Place) -> None:
    config = sweep_config(place, methods="autoprune,autoprune:gamma=calibrated", retention=(0.8,), calibration=4)
    result = sweep(config, talking().senna)
    rows = {cell["row"]: cell["setting"] for cell in result.table["cells"]}
    gamma = result.table["calibration"]["gamma"]
    assert rows["autoprune:gamma=calibrated"] == f"autoprune:gamma={gamma['gamma']:g},k0={gamma['k0']:g}@0.8"
