"""Survival over depth: which settings are drawn, a panel a class, and nothing where nothing was measured."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot

from senna_autoprune.report.survival_figure import MOST_LINES, draw, survival_by_layer
from senna_autoprune.survival.measure import ObjectSurvival, measures


def result(kept: dict[str, float], budgets: tuple[float, ...] = (0.1, 0.25, 0.4)) -> dict[str, Any]:
    """Methods by the share that they keep in both layers; "random" is the control."""
    rows, settings = [], {}
    for budget in budgets:
        for method, share in kept.items():
            name = f"{method}@{budget:g}"
            settings[name] = {"method": method, "kind": "control" if method == "random" else "method", "retention": budget}
            for kind in ("light", "pedestrian"):
                layers = np.array([1.0, share])
                rows.append(ObjectSurvival(name, 0, "scene", kind, "0-10 m", "front", layers, np.array([1.0, budget])))
    return {"settings": settings, "measures": measures(rows), "label": "said of the data"}


def test_the_middle_budget_is_drawn_with_a_panel_a_class_in_the_order_of_classes() -> None:
    figure = survival_by_layer(result({"random": 0.2, "fastv": 0.5, "dart": 0.75}))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["pedestrian (1)", "light (1)"] and figure.axes[0].get_ylabel() == "evidence still there at 25.0 %, %"
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[1].lines}
    assert lines == {"random *": [100.0, 20.0], "fastv": [100.0, 50.0], "dart": [100.0, 75.0]}
    pyplot.close(figure)


def test_of_many_methods_those_that_keep_most_are_drawn() -> None:
    kept = {"random": 0.99, **{f"m{number}": number / 100 for number in range(12)}}
    figure = survival_by_layer(result(kept, (0.25,)))
    drawn = {line.get_label() for line in figure.axes[0].lines}
    assert drawn == {"random *", *(f"m{number}" for number in range(12 - MOST_LINES, 12))}
    pyplot.close(figure)


def test_nothing_to_show_is_no_picture(tmp_path: Path) -> None:
    assert survival_by_layer(result({"random": 0.2})) is None and survival_by_layer(result({}, ())) is None
    assert draw(tmp_path, result({"random": 0.2})) == []
    assert draw(tmp_path, result({"random": 0.2, "dart": 0.3})) == ["figures/survival_by_layer.png"]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"survival_by_layer.png", "survival_by_layer.svg"}
