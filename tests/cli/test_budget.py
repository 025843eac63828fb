"""``senna-prune budget`` on a model by rule: what is printed, the exit code, and that the same command goes on."""

from __future__ import annotations

import io
import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from senna_autoprune.cli import cli
from senna_autoprune.cli.budget import show
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering import open as opening
from senna_autoprune.evaluation.answering.engine import ModelFacts, ModelPlace
from senna_autoprune.evaluation.answering.provenance import versions
from senna_autoprune.evaluation.answering.stamp import stamp_of
from senna_autoprune.evaluation.answering.stored_engine import facts_of_finished
from senna_autoprune.evaluation.runs.listing import run_line
from senna_autoprune.files.yaml_files import dump_yaml, read_yaml
from tests.evaluation.budget.fake import FakeEngine, Rule, question_file, safe_above, without_waiting


def run(monkeypatch: pytest.MonkeyPatch, questions: Path, rule: Rule, *more: str) -> tuple[Any, FakeEngine]:
    engine = FakeEngine(rule)
    monkeypatch.setattr(opening, "open_engine", lambda config, say, directory: nullcontext(engine))
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


def test_a_finished_budget_is_printed_again_without_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, questions, loaded = tmp_path / "model", question_file(tmp_path, 60, 3), []
    model.mkdir()
    (model / "config.json").write_text("{}")
    place = ModelPlace(str(model), None, "float32", "cpu", None)

    class Stamped(FakeEngine):
        def facts(self) -> ModelFacts:
            return replace(super().facts(), versions=versions(), files=stamp_of(place))

    def load(config: Any, where: Any, say: Any) -> Any:
        loaded.append(where)
        return nullcontext(Stamped(safe_above(0.25)))

    monkeypatch.setattr(opening, "_open", load)
    asked = ["budget", "--model", str(model), "--questions", str(questions), "--out", str(tmp_path / "run"), "--device", "cpu"]
    asked += ["--margin", "9", "--safety", "12", "--grid", "0.2,0.3,0.4", "--full"]
    with without_waiting():
        first = CliRunner().invoke(cli, asked)
        assert first.exit_code == 0 and len(loaded) == 1, first.output
        again = CliRunner().invoke(cli, asked)
        assert again.exit_code == 0 and len(loaded) == 1 and again.stdout == first.stdout
        assert "the model is not loaded" in again.stderr
        os.utime(model / "config.json", ns=(1, 1))  # perhaps another model
        assert CliRunner().invoke(cli, asked).exit_code == 0 and len(loaded) == 2
    line = run_line(tmp_path / "run")
    assert (line.state, line.method, line.budget) == ("finished", "budget", "autoprune") and str(line.verdict) in first.stdout
    assert facts_of_finished(tmp_path / "run", place) is not None
    described = read_yaml(tmp_path / "run" / "config.yaml")
    del described["budget"]  # as it was before the certificate
    (tmp_path / "run" / "config.yaml").write_text(dump_yaml(described))
    assert facts_of_finished(tmp_path / "run", place) is None
    line = run_line(tmp_path / "run")
    assert line.state == f"{line.answers} answers" and line.verdict is None


def test_the_time_is_estimated_as_a_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended, engine = run(monkeypatch, question_file(tmp_path, 60, 3), safe_above(0.25))
    first, second = 3 * 90 + 3 * 90, 2 * 90 + 3 * 90  # unpruned, no-image, noise, budgets; on the other half all but the noise
    assert f"for at most {first + second - 6} more answers, at " in ended.stderr and "less where a budget fails early" in ended.stderr
    assert f"{len(engine.asked)} of {len(engine.asked)} answers" in ended.stderr


def test_options_are_set_as_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    questions = question_file(tmp_path, 60, 3)
    ended, engine = run(monkeypatch, questions, safe_above(0.25), "--set", "mode=release")
    assert ended.exit_code == 0 and "autoprune:mode=release@0.3" in {setting for _, setting in engine.asked}
    ended, _ = run(monkeypatch, questions, safe_above(0.25), "--methods", "autoprune,dart", "--set", "fastv.layer=3")
    assert "fastv is not among --methods autoprune,dart" in str(ended.exception)


@pytest.mark.parametrize("more", [(), ("--each", "--methods", "autoprune,random,autoprune:mode=release")])
def test_what_is_printed_fits_80_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: tuple[str, ...]) -> None:
    ended, _ = run(monkeypatch, question_file(tmp_path, 60, 3), safe_above(0.25), *more)
    assert "all tables: --full" in ended.stdout
    screen = io.StringIO()
    show(json.loads((tmp_path / "run" / "budget.json").read_text()), Console(file=screen, width=80), full=False)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()[1:]]  # below the sentence
    heading = " ".join(lines[: next(index for index, line in enumerate(lines) if "───" in line)])
    assert all(words in heading for words in ("[at worst]", "[at most]", "dangerous", "points", "whole"))  # none is broken
    assert ("autoprune:mode=release" if more else "40.0 %") in screen.getvalue()
    assert max(map(len, lines)) <= 80 and len(lines) < 40


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
