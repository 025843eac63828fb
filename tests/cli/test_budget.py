"""``senna-prune budget`` on a model by rule: what is printed, the exit code, and that the same command goes on."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from senna_autoprune.cli import cli
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering import open as opening
from tests.evaluation.budget.fake import FakeEngine, Rule, question_file, safe_above, without_waiting


def run(monkeypatch: pytest.MonkeyPatch, questions: Path, rule: Rule, *more: str) -> tuple[Any, FakeEngine]:
    engine = FakeEngine(rule)
    monkeypatch.setattr(opening, "open_engine", lambda config, say: nullcontext(engine))
    asked = ["budget", "--model", "fake", "--questions", str(questions), "--margin", "9", "--safety", "12", "--grid", "0.2,0.3,0.4", *more]
    with without_waiting():
        return CliRunner().invoke(cli, [*asked, "--out", str(questions.parent / "run")]), engine


def test_sentence_tables_page_and_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    questions = question_file(tmp_path, 60, 3)
    ended, engine = run(monkeypatch, questions, safe_above(0.25), "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["sentence"].startswith("30 % of tokens with autoprune: not worse by more than 9.0 points")
    assert ended.stdout.startswith(found["sentence"]) and "Certificate: margin 9.0 points" in ended.stdout
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "run" / "figures" / "staircase.svg").is_file()
    assert len(engine.asked) > 300
    report = CliRunner().invoke(cli, ["report", str(tmp_path / "run")])
    assert report.exit_code == 0 and "report.html" in report.output
    again, later = run(monkeypatch, questions, safe_above(0.25), "--json")
    assert again.exit_code == 0 and later.asked == [] and json.loads(again.stdout.splitlines()[-1]) == found


def test_nothing_safe_is_4_and_nothing_shown_is_5(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, rule, code in (("a", safe_above(1.0), 4), ("b", lambda question, setting: question.label, 5)):
        (tmp_path / name).mkdir()
        ended, _ = run(monkeypatch, question_file(tmp_path / name, 60, 3), rule)
        assert ended.exit_code == code, ended.output


def test_unreadable_answers_stop_it_unless_forced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    questions = question_file(tmp_path, 60, 3)
    ended, _ = run(monkeypatch, questions, lambda question, setting: "rubbish")
    assert isinstance(ended.exception, SennaPruneError) and "--force goes on" in str(ended.exception)
    ended, _ = run(monkeypatch, questions, lambda question, setting: "rubbish", "--force")
    assert "not one of the first" not in str(ended.exception)
