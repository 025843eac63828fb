"""The scripts of tools/ as a user starts them: each does what it says, and names a bad input in one line."""

from __future__ import annotations

import csv
import json
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner

import senna_autoprune.demo
from senna_autoprune.cli.compare import command as compare
from senna_autoprune.demo import LABEL
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.nuscenes.strings import question_type
from senna_autoprune.senna import load_senna
from tests.fixtures import shared
from tests.senna.tiny import tiny_model, tiny_processor

TOOLS = Path(__file__).resolve().parents[2] / "tools"
DATAROOT = Path(senna_autoprune.demo.__file__).parent / "data"
SCRIPTS = ("answers_to_csv", "compare_runs", "convert_checkpoint", "evaluate_split", "official_result")
PLAN = "state your SPEED plan and your PATH plan"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a script of tools/ as ``python tools/NAME.py ARGUMENTS`` would, in this process."""

    def run(name: str, *arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", [f"tools/{name}.py", *map(str, arguments)])
        code: Any = None
        try:
            runpy.run_path(str(TOOLS / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        if isinstance(code, str):  # what Python prints for it
            return Ended(1, out, f"{err}{code}\n")
        return Ended(code or 0, out, err)

    return run


def make_run(folder: Path, asked: Sequence[tuple[str, str, str, str]], answers: dict[str, Sequence[str | None]]) -> Path:
    """A run of (token, scene, question, label)s with the given answers of each setting; None: failed."""
    questions = [
        QuestionRow(i, token, question_type(text), text, label, (), scene, True, {}) for i, (token, scene, text, label) in enumerate(asked)
    ]
    with RunStore.start(folder, {"config": {}, "identity": {}, "settings": {}}, questions) as store:
        for name, texts in answers.items():
            for i, text in enumerate(texts):
                status, reason = ("failed", "broken image") if text is None else ("ok", None)
                store.add(AnswerRow(i, name, status, answer=text, reason=reason, new_tokens=4))
    return folder


ASKED = [
    ("t0", "a", PLAN, "KEEP, STRAIGHT\n"),
    ("t1", "a", PLAN, "STOP, STRAIGHT\n"),
    ("t2", "b", PLAN, "KEEP, LEFT_TURN\n"),
    ("t3", "b", PLAN, "KEEP, STRAIGHT\n"),
    ("t4", "b", "Do you see any vulnerable road users?", "No.\n"),
]
BASE = ["KEEP, STRAIGHT", "STOP, STRAIGHT", "KEEP, STRAIGHT", "KEEP, STRAIGHT", "No."]


# --- compare_runs -----------------------------------------------------------------------------------------------------


def test_two_runs_compared_by_hand(tmp_path: Path, start: Any) -> None:
    first = make_run(tmp_path / "a", ASKED, {"unpruned": BASE})
    # loses the brake of t1, repairs t2; t3 failed
    second = make_run(tmp_path / "b", ASKED, {"unpruned": ["KEEP, STRAIGHT", "KEEP, STRAIGHT", "KEEP, LEFT_TURN", None, "Yes"]})
    ended = start("compare_runs", first, second)
    assert ended.code == 0
    assert "3 questions of 2 scenes that both answered" in ended.out and ended.out.count("66.7") == 2
    assert "right only in A: 1, only in B: 1; scenes worse: 1, better: 1, p 1.000 by sign flips of whole scenes" in ended.out
    assert "Answers that differ: 2, of B's to the worse: 1" in ended.out
    assert "A braked, B does not" in ended.out and "pruned" not in ended.out.replace("unpruned", "")
    worst = next(line for line in ended.out.splitlines() if line.split()[:2] == ["missed_brake", "a"])
    assert worst.split() == ["missed_brake", "a", "1", "STOP,", "STRAIGHT", "STOP,", "STRAIGHT", "KEEP,", "STRAIGHT"]
    assert CliRunner().invoke(compare, [str(first), str(second), "--flips", "5"]).output == ended.out  # one command under two names


def test_two_settings_of_one_run_and_one_scene(tmp_path: Path, start: Any) -> None:
    run = make_run(tmp_path / "a", ASKED[:2], {"unpruned": BASE[:2], "autoprune": ["KEEP, STRAIGHT", "no plan \x1b[31m"]})
    ended = start("compare_runs", run, run, "--setting", "unpruned", "--setting-b", "autoprune", "--flips", 1)
    assert "no verdict, 1 scenes" in ended.out and "missed_brake" in ended.out and "no plan \\x1b[31m" in ended.out
    assert "\x1b" not in ended.out  # a model's output never reaches the terminal raw


def test_other_labels_are_other_questions(tmp_path: Path, start: Any) -> None:
    first = make_run(tmp_path / "a", ASKED[:1], {"unpruned": BASE[:1]})
    second = make_run(tmp_path / "b", [(*ASKED[0][:3], "STOP, STRAIGHT\n")], {"unpruned": BASE[:1]})
    ended = start("compare_runs", first, second)
    assert ended.code == 1 and "in common" in ended.err
    ended = start("compare_runs", first, second, "--setting", "x")
    assert ended.code == 1 and "it has unpruned" in ended.err


# --- answers_to_csv ---------------------------------------------------------------------------------------------------


def test_csv_holds_every_answer_as_data(tmp_path: Path, start: Any) -> None:
    texts = ["=1+1", "+SUM(A1)", "-2", "@x", "\t=cmd|' /C calc'!A0", "'quoted'", "KEEP, STRAIGHT"]
    texts += ["＝1", 'two\r\nlines, "q"', " =x", "", None]
    asked = [(f"=t{i}", "s", PLAN, "KEEP, STRAIGHT\n") for i in range(len(texts))]
    run = make_run(tmp_path / "run", asked, {"-odd": texts})
    ended = start("answers_to_csv", run, "--out", tmp_path / "answers.csv")
    assert ended.code == 0 and "12 answers in" in ended.out
    with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["answer"].removeprefix("'") for row in rows] == [text or "" for text in texts]
    for row in rows:
        assert not any(value.lstrip().startswith(tuple("=+-@＝")) for value in row.values()), row
    assert {row["setting"] for row in rows} == {"'-odd"}
    assert rows[0]["token"] == "'=t0"
    assert [row["right"] for row in rows] == ["0"] * 6 + ["1"] + ["0"] * 4 + [""]
    assert rows[-1]["reason"] == "broken image" and rows[-1]["status"] == "failed"
    assert rows[0]["label"] == "KEEP, STRAIGHT" and rows[0]["new_tokens"] == "4" and rows[0]["data"] == ""


def test_csv_of_one_setting_to_the_terminal(tmp_path: Path, start: Any) -> None:
    run = make_run(tmp_path / "run", ASKED, {"unpruned": BASE, "random": BASE})
    ended = start("answers_to_csv", run, "--setting", "random")
    assert len(ended.out.splitlines()) == 6 and ",unpruned," not in ended.out
    assert "has no answers of 'x'" in start("answers_to_csv", run, "--setting", "x").err
    assert "cannot write" in start("answers_to_csv", run, "--out", tmp_path / "none" / "x.csv").err


# --- official_result --------------------------------------------------------------------------------------------------


def test_official_results_are_the_recorded_ones(tmp_path: Path, start: Any) -> None:
    """The original script's own output and file, of every sixth recording of 1 to 60 questions that it got through."""
    recordings = json.loads(shared("fixtures", "senna-qa", "plan_metric.json").read_text())
    whole = [one for one in recordings if "exception" not in one and len(one["cases"]) <= 60][::6]
    assert len(whole) >= 5
    for number, recording in enumerate(whole):
        asked = [(f"t{i}", "s", case["question"], case["gt"]) for i, case in enumerate(recording["cases"])]
        run = make_run(tmp_path / str(number), asked, {"unpruned": [case["answer"] for case in recording["cases"]]})
        out = tmp_path / f"{number}.json"
        ended = start("official_result", run, "--out", out)
        assert ended.code == 0, ended.err
        assert json.loads(out.read_text()) == recording["saved"], recording["name"]
        assert ended.out == recording["stdout"].replace("TMP/o.json", str(out)), recording["name"]


def test_official_result_says_what_is_missing(tmp_path: Path, start: Any) -> None:
    run = make_run(tmp_path / "run", ASKED, {"unpruned": [BASE[0], None, *BASE[2:]]})
    ended = start("official_result", run, "--out", tmp_path / "o.json")
    assert "1 of 4 questions have no answer" in ended.out
    assert json.loads((tmp_path / "o.json").read_text())["summary"].startswith("Total Number: 3\nCorrect Number: 2")
    assert "it has unpruned" in start("official_result", run, "--setting", "x", "--out", tmp_path / "x.json").err
    odd = make_run(tmp_path / "odd", [("t", "s", PLAN, "WAIT, STRAIGHT\n")], {"unpruned": BASE[:1]})
    ended = start("official_result", odd, "--out", tmp_path / "x.json")
    assert ended.code == 1 and "no meta-action" in ended.err and not (tmp_path / "x.json").exists()


# --- convert_checkpoint -----------------------------------------------------------------------------------------------


def test_a_converted_checkpoint_is_the_original(tmp_path: Path, start: Any) -> None:
    original = shared("fixtures", "senna-tiny-a", "checkpoint")
    ended = start("convert_checkpoint", original, tmp_path / "deep" / "copy")
    assert ended.code == 0 and "read back identical" in ended.out, ended.err
    before, after = load_senna(original), load_senna(tmp_path / "deep" / "copy")
    assert (before.provenance["layout"], after.provenance["layout"]) == ("original", "senna-prune")
    weights = after.model.state_dict()
    assert weights.keys() == before.model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in before.model.state_dict().items())
    sample = Path(shared("fixtures", "senna-samples"))
    images = sorted(str(path) for path in sample.rglob("*.jpg"))[:6]
    marks = "<image>\n" * 6 + "What is your SPEED plan? </s> Café"
    inputs = [one.processor(text=marks, images=images) for one in (before, after)]
    assert all(torch.equal(inputs[0][key], inputs[1][key]) for key in inputs[0])
    answers = [one.model.generate(**batch, max_new_tokens=4) for one, batch in zip((before, after), inputs, strict=True)]
    assert torch.equal(*answers)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["copy"]  # nothing half-made is left


def test_nothing_is_overwritten_and_no_false_copy_appears(tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").mkdir()
    assert "exists" in start("convert_checkpoint", tmp_path, tmp_path / "taken").err
    tiny_model().save_pretrained(tmp_path / "tiny")
    tiny_processor().save_pretrained(tmp_path / "tiny")
    numbers = iter(range(9))
    fingerprint = "senna_autoprune.evaluation.answering.provenance.model_fingerprint"
    monkeypatch.setattr(fingerprint, lambda senna: {"weights_sha256": str(next(numbers))})
    ended = start("convert_checkpoint", tmp_path / "tiny", tmp_path / "copy")
    assert ended.code == 1 and "differs" in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "tiny"]


# --- evaluate_split ---------------------------------------------------------------------------------------------------


def test_a_split_evaluated_and_continued(tmp_path: Path, start: Any) -> None:
    tiny_model().save_pretrained(tmp_path / "tiny")
    tiny_processor().save_pretrained(tmp_path / "tiny")
    place = ("--model", tmp_path / "tiny", "--dataroot", DATAROOT, "--version", "v1.0-demo", "--split", "all", "--limit", 2)
    ended = start("evaluate_split", *place, "--retention", 0.6, "--out", tmp_path / "runs" / "mine")
    assert ended.code in (0, 3), ended.err
    assert LABEL in ended.out and "10 of 10 answers" in ended.out and "unpruned: 0.0% exactly right of 2" in ended.out
    with RunStore.read(tmp_path / "runs" / "mine") as store:
        answers = store.answers()
    again = start("evaluate_split", *place, "--retention", 0.6, "--out", tmp_path / "runs" / "mine")
    assert again.code == ended.code and "answers" not in again.out.splitlines()[1]  # nothing was asked again
    with RunStore.read(tmp_path / "runs" / "mine") as store:
        assert store.answers() == answers
    assert "retention" in start("evaluate_split", *place, "--retention", 7, "--out", tmp_path / "x").err


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_short_helpful_and_clear(name: str, tmp_path: Path, start: Any) -> None:
    source = (TOOLS / f"{name}.py").read_text()
    assert len(source.splitlines()) <= 80
    assert "._" not in source and "import _" not in source  # public functions only
    shown = start(name, "--help")
    assert shown.code == 0 and "python tools/" in shown.out
    assert start(name).code == 2  # argparse
    nowhere = tmp_path / "nowhere"
    bad = {
        "compare_runs": (nowhere, nowhere),
        "convert_checkpoint": (nowhere, tmp_path / "out"),
        "evaluate_split": ("--model", nowhere, "--dataroot", nowhere, "--out", tmp_path / "out"),
        "official_result": (nowhere, "--out", tmp_path / "out.json"),
    }.get(name, (nowhere,))
    ended = start(name, *bad)
    lines = ended.err.splitlines()
    assert ended.code == 1 and len(lines) == 1 and lines[0].startswith("error: ") and str(nowhere) in lines[0], ended


def test_embedded_runs_are_called_so_by_a_script_of_its_own(tmp_path: Path) -> None:
    """In a process of its own: what it prints, and its exit code."""
    run = make_run(tmp_path / "run", ASKED, {"unpruned": BASE})
    with (run / "config.yaml").open("a") as file:
        file.write(f"places: {{questions: '{DATAROOT / 'questions.json'}'}}\n")
    command = [sys.executable, str(TOOLS / "compare_runs.py"), str(run), str(run)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0 and LABEL in ended.stdout, ended.stderr
    assert subprocess.run([*command[:3], str(tmp_path)], capture_output=True).returncode == 1
