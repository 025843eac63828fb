"""`senna-prune runs` over finished, started, foreign and broken folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from senna_autoprune.cli.runs import command
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.runs.listing import run_line, runs_in
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore

FACTS = attributes_of("?", None, None)
QUESTIONS = [QuestionRow(i, f"t{i}", "plan", "?", "KEEP, STRAIGHT", ("a.jpg",), "s", True, FACTS) for i in range(2)]


def make(directory: Path, answers: int, **more: object) -> Path:
    settings: dict[str, object] = {"unpruned": {}, "autoprune": {}}
    description = {"config": {"method": "autoprune", "retention": 0.25}, "identity": {}, "settings": settings, **more}
    with RunStore.start(directory, description, QUESTIONS) as store:
        for index in range(answers):
            store.add(AnswerRow(index // 2, ("unpruned", "autoprune")[index % 2], "ok", "KEEP, STRAIGHT"))
        if answers == 4:
            shares = {"unpruned": 1.0, "autoprune": 0.5}
            said = {"sentence": "25 % of tokens with autoprune: no loss"}
            store.write_metrics(
                {
                    "bootstrap": {"resamples": 100},
                    "verdict": said,
                    "settings": {name: {"plan": {"exact_accuracy": share}} for name, share in shares.items()},
                }
            )
    return directory


def test_finished_started_and_broken_runs_have_a_line_each(tmp_path: Path) -> None:
    make(tmp_path / "done", 4)
    make(tmp_path / "going", 3)
    make(tmp_path / "swept", 3, sweep={"methods": "all"})
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "answers.sqlite").write_text("no database")
    (tmp_path / "other").mkdir()
    said = CliRunner().invoke(command, [str(tmp_path), "--json"])
    lines = {Path(line["directory"]).name: line for line in map(json.loads, said.output.splitlines())}
    assert list(lines) == ["done", "foreign", "going", "swept"]
    done = lines["done"]
    assert (done["state"], done["method"], done["budget"]) == ("finished", "autoprune", "retention 0.25")
    assert (done["unpruned"], done["pruned"]) == (1.0, 0.5)
    assert done["verdict"] == "25 % of tokens with autoprune: no loss" and lines["going"]["verdict"] is None
    assert (lines["going"]["state"], lines["going"]["unpruned"]) == ("3 of 4 answers", None)
    assert lines["swept"]["method"] == "sweep"
    assert lines["foreign"]["state"].startswith("unreadable: ")
    table = CliRunner().invoke(command, [str(tmp_path)]).output
    assert (
        "4 runs in" in table
        and "50.0 %" in table
        and "senna-prune report" in table
        and "done: 25 % of tokens with autoprune: no loss" in table
    )


def test_a_run_itself_may_be_named_and_no_folder_is_one_line(tmp_path: Path) -> None:
    directory = make(tmp_path / "done", 4)
    assert [line.directory for line in runs_in(directory)] == [directory]
    (directory / "metrics.json").write_text('{"settings": []}')
    assert run_line(directory).unpruned is None
    with pytest.raises(SennaPruneError, match="no folder"):
        list(runs_in(tmp_path / "absent"))
