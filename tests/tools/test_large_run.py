"""tools/maintain/large_run.py: a small run of it ends in the figures it is for, by the commands that it measures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from senna_autoprune.demo import embedded
from tools.maintain import large_run

ANSWERS = 100


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The questions and a finished run."""
    if embedded() is None:
        pytest.skip("no embedded model in this checkout")
    folder = tmp_path_factory.mktemp("large")
    for name in ("questions.json", "asked.json"):
        large_run.write_questions(folder / name, ANSWERS // 5)
    assert large_run.make(folder).startswith(f"{ANSWERS} answers, ")
    return folder


def test_the_run_is_one_like_any_other(out: Path) -> None:
    assert large_run.end_of_run(out) == f"{ANSWERS} answers"
    metrics = json.loads((out / "run" / "metrics.json").read_text())
    assert metrics["questions"]["complete"] == ANSWERS // 5 and set(metrics["settings"]) >= {"unpruned", "autoprune", "random", "no-image"}
    assert len(metrics["settings"]["autoprune"]["cost"]["schedule"]) == large_run.LAYERS


def test_what_grows_is_measured_without_the_model(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["large_run"])
    assert re.fullmatch(r"report\.html \d+\.\d MB", large_run.RUNS["report"](out))
    assert re.fullmatch(r"\d+ frames chosen", large_run.RUNS["flips-alone"](out))


def test_commits_are_counted(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_run, "COMMITTED", 300)
    assert re.fullmatch(r"\d+ rows a second on the clock, \d+ a second of CPU", large_run.commits(out))
    assert not (out / "committed").exists()


def test_every_measure_is_there() -> None:
    assert set(large_run.MEASURES) == set(large_run.RUNS)
