"""A sweep's figures where they would mislead: one budget, spent to a few hundredths of a token, is one place on the axis."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from senna_autoprune.report.sweep_figures import accuracy_by_time, retention_by_budget

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


@pytest.fixture
def table():
    whole = json.loads((RESULTS / "test_split" / "table.json").read_text())
    cells = [cell for cell in whole["cells"] if cell["budget"] == "0.25" and cell["status"] == "ok"]
    return {**whole, "cells": [cell for cell in cells if cell["row"] != "autoprune:mode=release"]}  # it spends more than its budget


@pytest.fixture(autouse=True)
def closed():
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


def test_one_budget_is_one_place(table) -> None:
    (axis,) = retention_by_budget(table).axes
    low, high = axis.get_xlim()
    spent = [cell["tokens_per_view"] for cell in table["cells"]]
    assert max(spent) - min(spent) < 0.1 and high - low == pytest.approx(0.2 * max(spent))
    drawn = [x for line in axis.lines for x in line.get_xdata() if line.get_marker() == "o"]
    assert all(abs(x - 32) < 0.6 for x in drawn) and len(set(drawn)) == len(drawn)  # beside each other, bars apart


def test_several_budgets_fill_the_axis(table) -> None:
    other = copy.deepcopy(table["cells"])
    for cell in other:
        cell["budget"], cell["tokens_per_view"] = "0.5", 2 * cell["tokens_per_view"]
    (axis,) = retention_by_budget({**table, "cells": [*table["cells"], *other]}).axes
    low, high = axis.get_xlim()
    assert 28 < low < 32 and 64 < high < 68


def test_unpruned_is_named_on_the_left_of_its_star(table) -> None:
    (axis,) = accuracy_by_time(table).axes
    (named,) = [text for text in axis.texts if text.get_text() == "unpruned"]
    assert named.get_ha() == "right" and named.xy[0] == 1
