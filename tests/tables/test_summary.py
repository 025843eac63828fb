"""The summary of a run: one verdict, one table that fits 80 columns, what to type next."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from senna_autoprune.cli.eval_tables import show
from senna_autoprune.tables.summary import COLUMNS, next_commands, summary_grid, verdict_line
from tests.evaluation.measures.test_summary import KEEP, STOP, _question, _row, summarise

SETTINGS = ("unpruned", "autoprune", "random", "uniform", "no-image")


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    """12 scenes of a question each; autoprune misses the brake of one."""
    questions = [_question(i, STOP if i % 2 else KEEP, scene=f"s{i}") for i in range(12)]

    def answer(index: int, name: str) -> str:
        return KEEP if name == "no-image" or (name == "autoprune" and index == 1) else questions[index].label

    return summarise(questions, [_row(i, name, answer(i, name)) for i in range(12) for name in SETTINGS], "autoprune")


def printed(metrics: dict[str, Any], full: bool) -> str:
    screen = io.StringIO()
    show(metrics, Console(file=screen, width=COLUMNS), full)
    return screen.getvalue()


def test_the_verdict_comes_first_then_one_table_that_fits(metrics: dict[str, Any]) -> None:
    text = printed(metrics, full=False)
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines[0] == verdict_line(metrics)
    rows = {line.split()[0]: line for line in lines[1:] if line.split()[0] in (*SETTINGS, "majority", "random-answer")}
    assert set(rows) == {*SETTINGS, "majority", "random-answer"}  # every control, each on one line
    assert all(len(line) <= COLUMNS for line in lines[1:])
    kept = metrics["settings"]["autoprune"]["plan"]["retention"]["exact_accuracy"]
    assert f"{100 * kept['value']:.1f} [{100 * kept['low']:.1f}, {100 * kept['high']:.1f}]" in rows["autoprune"]
    upper = metrics["flips"]["autoprune"]["scenes"]["harmful_upper"]
    assert f"1 [{100 * upper:.0f}]" in rows["autoprune"] and upper > 1 / 12
    assert "0 [" in rows["random"] and "0 [0]" not in rows["random"]  # none seen is not none
    assert "Recall" not in text and "Recall" in printed(metrics, full=True)


@pytest.mark.parametrize(
    ("flips", "replayed"),
    [
        ({"flips": 3, "harmful": 1}, "next: senna-prune replay --run runs/x --flips worst"),
        ({"flips": 2, "harmful": 0}, "--flips all"),
        ({"flips": 0}, None),
    ],
)
def test_what_to_type_next_names_the_run_and_flips_that_there_are(flips: dict[str, int], replayed: str | None) -> None:
    others = {"random": {"flips": 9, "harmful": 9}}
    lines = next_commands("runs/x", {"method": "autoprune", "run": {}, "flips": {"autoprune": flips, **others}})
    assert "senna-prune report runs/x" in lines[0] and "senna-prune budget" in lines[-1]
    assert sum("replay" in line for line in lines) == (replayed is not None) and (replayed is None or replayed in lines[1])
    assert [line.startswith("next: ") for line in lines[1:]] == [True, False][: len(lines) - 1]


def test_without_plans_everything_is_printed() -> None:
    questions = [_question(i, "yes", kind="light") for i in range(2)]
    found = summarise(questions, [_row(i, "unpruned", "yes") for i in range(2)], "autoprune")
    assert summary_grid(found) is None and printed(found, full=False) == printed(found, full=True)
