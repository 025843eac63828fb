"""A sweep's table from answers made by hand: who counts as a rival, and when a budget was overspent."""

from __future__ import annotations

import csv
import io
from types import SimpleNamespace
from typing import Any

import pytest

from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.measures.summary import summarise
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.sweep.table import tabulate
from senna_autoprune.tables.sweep import to_csv
from tests.evaluation.measures.test_cost import trace

RIGHT, WRONG = "KEEP, STRAIGHT", "STOP, STRAIGHT"
QUESTIONS = 12
TEXT = "Your current speed is 6 m/s, the navigation command is 'go straight', state your SPEED plan."
FULL = 60  # visual tokens of a prompt of two views


def table(settings: dict[str, tuple[str, int, float | None]], budget: tuple[str, float] = ("retention", 0.25)) -> dict[str, Any]:
    """settings: name -> (kind, how many of the questions it gets right, its average tokens a layer; None: nothing pruned)."""
    facts = attributes_of(TEXT, "", "")
    labels = [RIGHT if i % 4 else WRONG for i in range(QUESTIONS)]
    questions = [QuestionRow(i, f"t{i}", "plan", TEXT, label, ("a",), f"s{i}", True, facts) for i, label in enumerate(labels)]
    rows = []
    for name, (_, hits, average) in {"unpruned": ("", QUESTIONS, None), **settings}.items():
        for question in questions:
            right = question.question < hits
            answer = question.label if right else {RIGHT: WRONG, WRONG: RIGHT}[question.label]
            what = trace(100, 25, average=average) | {"visual_tokens": FULL} if average is not None else None
            rows.append(AnswerRow(question.question, name, "ok", answer, None, 1.0, 1.0, 1.0, 4, 10, what))
    metrics = summarise(questions, rows, next(iter(settings)), resamples=50) | {"run": {"config": {}, "machine": {}}}
    cells = [
        SimpleNamespace(setting=SimpleNamespace(name=name), row=SimpleNamespace(label=name, kind=kind), budget=budget)
        for name, (kind, _, _) in settings.items()
    ]
    return tabulate(cells, [budget], questions, rows, metrics, {})  # type: ignore[arg-type]


def by_row(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cell["row"]: cell for cell in found["cells"]}


def test_a_control_is_never_a_rival() -> None:
    """Uniform is right most often here, and yet the best rival of a method is another method."""
    cells = by_row(
        table(
            {
                "autoprune": ("method", 4, 15.0),
                "fastv": ("method", 6, 15.0),
                "variant": ("variant", 5, 15.0),
                "random": ("control", 2, 15.0),
                "uniform": ("control", 11, 15.0),
            }
        )
    )
    assert cells["autoprune"]["against_rival"]["rival"] == "fastv"
    assert cells["fastv"]["against_rival"]["rival"] == "variant"
    assert (cells["autoprune"]["against_rival"]["gained"], cells["autoprune"]["against_rival"]["lost"]) == (0, 2)
    assert "against_rival" not in cells["random"] and "against_rival" not in cells["uniform"]
    assert "against_random" not in cells["random"]
    assert (cells["uniform"]["against_random"]["gained"], cells["uniform"]["against_random"]["lost"]) == (9, 0)
    assert cells["uniform"]["marks"] == ["R+"]


def test_every_figure_of_the_csv_is_the_tables() -> None:
    """By name, from the nested cell: a column that takes its neighbour's figure is another result."""
    settings = {"a": ("method", 4, 15.0), "b": ("method", 9, 15.0), "random": ("control", 2, 15.0)}
    found = table(settings)
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(to_csv(found)))}
    assert list(lines) == ["unpruned", "majority", *settings]
    for row, cell in by_row(found).items():
        nested = {
            **{name: cell[name]["value"] for name in ("accuracy", "retention")},
            **{f"{name}_{end}": cell[name][end] for name in ("accuracy", "retention") for end in ("low", "high")},
            **{name: cell[name] for name in ("official_accuracy", "macro_f1", "agreement", "invalid", "tokens_per_view", "flops_ratio")},
            **{name: cell[name] for name in ("retention_tokens", "kv_ratio", "clamped")},
            **{name: cell[name]["median"] for name in ("prefill_ms", "prefill_ratio")},
            **{f"flips_{name}": cell["flips"][name] for name in ("harmful", "missed_brake", "false_brake", "repaired")},
            "flips": cell["flips"]["all"],
        }
        for side in ("random", "rival") if "against_rival" in cell else ():
            test = cell[f"against_{side}"]
            nested |= {f"p_against_{side}": test["p_value"], f"p_scenes_{side}": test["by_scene"]["p_value"]}
            nested |= {f"p_holm_{side}": test["by_scene"]["p_holm"]}
        assert {name: float(lines[row][name]) for name in nested} == pytest.approx(nested), row
        assert (lines[row]["kind"], lines[row]["budget"], lines[row]["marks"]) == (cell["kind"], cell["budget"], " ".join(cell["marks"]))
    assert lines["a"]["rival"] == "b" and lines["a"]["accuracy_low"] < lines["a"]["accuracy"] < lines["a"]["accuracy_high"]
    assert lines["unpruned"]["accuracy"] == "1.0" and lines["unpruned"]["budget"] == ""


def test_tests_are_counted() -> None:
    """3 against random, 2 against a rival: what the note about chance multiplies."""
    found = table({"a": ("method", 4, 15.0), "b": ("method", 6, 15.0), "random": ("control", 2, 15.0), "uniform": ("control", 3, 15.0)})
    assert found["facts"]["tests"] == 5


@pytest.mark.parametrize(("average", "warned"), [(60.0, False), (61.1, False), (61.3, True), (66.0, True), (40.0, False)])
def test_overspending_is_warned_of_above_two_percent(average: float, warned: bool) -> None:
    """The column allows 30 tokens a view, 60 in all: 2 % of it are 1.2."""
    found = table({"a": ("method", 4, average), "b": ("method", 4, 60.0)}, ("tokens_per_view", 30.0))
    said = [warning for warning in found["warnings"] if "more visual tokens than the column's budget" in warning]
    assert bool(said) == warned
    assert not warned or (f"a at {found['cells'][0]['budget']} ({average / 2:.1f} a view)" in said[0] and "b at" not in said[0])


@pytest.mark.parametrize(("average", "warned"), [(4.4, False), (4.6, True)])
def test_half_a_token_a_layer_is_rounding(average: float, warned: bool) -> None:
    """Schedules are whole numbers: 2 a view = 4 in all may come out as 4.5, though that is 12 % more."""
    found = table({"a": ("method", 4, average)}, ("tokens_per_view", 2.0))
    assert any("more visual tokens" in warning for warning in found["warnings"]) == warned
