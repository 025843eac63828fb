"""A run that version 0.1 made, killed and finished itself (four embedded questions, five settings) still opens, measures, goes on.

Its layout has no table of prompts or truths and no adapter. Made by commit 815b028 with the embedded model and scenes of that time.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from senna_autoprune.cli import cli
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.engine import Asking, ModelFacts, Unit, Verdicts
from senna_autoprune.evaluation.config import EvalConfig
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.measures.summary import summarise
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.evaluation.runs.store import RunStore

OLD = Path(__file__).parent / "v0_1"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "run"))


def test_it_opens_and_measures_as_it_did(run: Path) -> None:
    with RunStore.read(run) as store:
        questions, answers = store.questions(), store.answers()
        assert store.sent() == {} and store.config["identity"]["versions"]["torch"]
    assert len(questions) == 4 and len(answers) == 20
    assert all(row.said is None and row.missing_frames is None for row in answers)
    assert not any(question.facts or question.earlier or question.future for question in questions)
    now, then = summarise(questions, answers, "autoprune", resamples=100), json.loads((run / "metrics.json").read_text())
    assert now["questions"] == then["questions"] and set(now["settings"]) == set(then["settings"])
    for name, entry in then["settings"].items():
        for key in ("exact_accuracy", "macro_f1", "invalid", "official"):
            assert now["settings"][name]["plan"][key] == entry["plan"][key], (name, key)
    assert [flip["severity"] for flip in now["flips"]["autoprune"]["list"]] == [
        flip["severity"] for flip in then["flips"]["autoprune"]["list"]
    ]


def test_commands_that_read_runs_read_it(run: Path) -> None:
    for command in (["report", str(run), "--no-replay"], ["runs", str(run.parent)], ["compare", str(run), str(run)]):
        done = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert "Planning" in (run / "report.html").read_text()


class Remembering:
    """Gives the answers that the run once had, to what is asked."""

    at_work, since, start_up_s = 1, 0.0, None

    def __init__(self, stored: dict, known: Sequence[AnswerRow]) -> None:
        self.identity = {key: value for key, value in stored["identity"].items() if key not in ("questions_sha256", "versions")}
        self.stored, self.known, self.asked = stored, {(row.question, row.setting): row for row in known}, []

    def facts(self) -> ModelFacts:
        return ModelFacts(self.identity, self.stored["identity"]["versions"], {}, {"device": "cpu"})

    def answer(self, asking: Asking, units: Sequence[Unit], verdicts: Verdicts) -> Iterator[AnswerRow]:
        for unit in units:
            for pair in sorted(unit.todo):
                self.asked.append(pair)
                yield self.known[pair]


def test_it_goes_on_where_it_was_killed(run: Path, tmp_path: Path) -> None:
    with RunStore.read(run) as store:
        stored, known, questions = store.config, store.answers(), store.questions()
    last = questions[-1].question
    with sqlite3.connect(run / "answers.sqlite") as database:
        database.execute("DELETE FROM answers WHERE question = ?", (last,))
    database.close()
    (run / "answers.jsonl").unlink()
    for image in (image for question in questions for image in question.images):
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / image).touch()
    given = {"model": "model", "questions": str(run / "qa.json"), "images": str(tmp_path), "out": str(run), "resamples": 100}
    engine = Remembering(stored, known)
    evaluate(EvalConfig(**stored["config"], **given), engine)
    assert {question for question, _ in engine.asked} == {last} and len(engine.asked) == 5
    assert (run / "answers.jsonl").read_bytes() == (OLD / "answers.jsonl").read_bytes()
    with pytest.raises(SennaPruneError, match=r"made with other settings \(seed: 0 there, 1 now\)"):
        evaluate(EvalConfig(**{**stored["config"], "seed": 1}, **given), engine)
