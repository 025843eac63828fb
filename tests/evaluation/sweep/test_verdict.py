"""The sentence of a sweep: from the largest budget down, stopping at the first that is not shown; few scenes get none."""

from __future__ import annotations

from typing import Any

from senna_autoprune.evaluation.sweep.verdict import sweep_verdict


def cell(row: str, share: float, lower: float | None, kept: float = 1.0, kind: str = "method") -> dict[str, Any]:
    measured = {"lower": lower, "retention_tokens": share, "accuracy": {"value": 0.9 * kept}, "retention": {"value": kept}}
    return {"row": row, "kind": kind, "budget": f"{share:g}", "status": "ok", **measured}


def test_down_to_the_first_budget_that_is_not_shown() -> None:
    cells = [cell("a", 0.1, -0.01), cell("a", 0.2, -0.5), cell("a", 0.4, -0.01), cell("b", 0.1, -0.9, 0.4), cell("b", 0.4, 0.0)]
    cells += [cell("random", 0.1, 0.3, kind="control")]
    found = sweep_verdict(cells, 67)
    assert found is not None and found["reached"] == {"a": "0.4", "b": "0.4"}  # the 0.1 of a is luck after a failure at 0.2
    assert found["sentence"].startswith("not worse by more than 2.0 points: a down to 40 %, b down to 40 % of tokens (95 %, 67 scenes")
    assert found["sentence"].endswith("at 10 % the most is kept by a, 100.0 % of the accuracy")


def test_nothing_shown_names_the_closest() -> None:
    found = sweep_verdict([cell("a", 0.1, -0.3), cell("b", 0.25, -0.024), cell("c", 0.25, None)], 67)
    assert found is not None and found["reached"] == {}
    assert "no method is shown to lose at most 2.0 points" in found["sentence"]
    assert "closest: b at 25 %, not worse by more than 2.4 points" in found["sentence"]


def test_what_is_left_is_said_of_the_smallest_budget() -> None:
    """Everything is kept at 40 %; at 10 % the most are the 0.7 of b, though it is right less often than a at 20 %."""
    cells = [cell("a", 0.1, -0.9, 0.4), cell("b", 0.1, -0.9, 0.7), cell("a", 0.2, -0.5, 0.8), cell("a", 0.4, -0.01), cell("b", 0.4, -0.01)]
    found = sweep_verdict(cells, 67)
    assert found is not None and found["sentence"].endswith("; at 10 % the most is kept by b, 70.0 % of the accuracy")


def test_few_scenes_and_no_methods() -> None:
    assert sweep_verdict([cell("random", 0.1, 0.0, kind="control")], 67) is None
    found = sweep_verdict([cell("a", 0.1, 0.0)], 3)
    assert found is not None and found["sentence"] == "no verdict, 3 scenes (at least 10 are needed)" and found["reached"] == {}
