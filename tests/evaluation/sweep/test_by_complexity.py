"""The sweep's part by complexity: made of answers with a known effect; absent where no complexity is known."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from senna_autoprune import demo
from senna_autoprune.adapters.reading import Reading
from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.evaluation.runs.rows import UNPRUNED, AnswerRow, QuestionRow
from senna_autoprune.evaluation.sweep.by_complexity import by_complexity
from senna_autoprune.evaluation.sweep.cells import cells_of
from senna_autoprune.evaluation.sweep.config import SweepConfig
from senna_autoprune.nuscenes.questions_file import read_questions
from senna_autoprune.tables.complexity import complexity_grids

LABEL, WRONG = "KEEP, STRAIGHT", "STOP, STRAIGHT"
METHODS = ("autoprune", "fastv", "autoprune:k0=0.5", "autoprune:k0=1.5")
CALIBRATED = "autoprune:gamma=calibrated"


@pytest.fixture(scope="module")
def made():
    """240 planning questions; FastV loses half of the complex ones, AutoPrune none; its MI rises with complexity."""
    rng = np.random.default_rng(0)
    cells = cells_of(SweepConfig(questions="q", methods=METHODS, retention=(0.25,)), None)
    questions, rows = [], []
    for number in range(240):
        complexity = float(number % 6)
        attributes = {"complexity": str(complexity)}
        questions.append(QuestionRow(number, f"t{number}", "plan", "?", LABEL, (), f"s{number // 4}", True, attributes))
        rows.append(AnswerRow(number, UNPRUNED, "ok", LABEL))
        for cell in cells:
            halves = {"autoprune:k0=0.5": number % 2 == 0, "autoprune:k0=1.5": number % 2 == 1}
            lost = halves.get(cell.row.label, cell.row.label == "fastv" and complexity >= 4 and rng.random() < 0.5)
            trace = {"mutual_information": complexity + rng.random() if cell.row.method == "autoprune" else None}
            rows.append(AnswerRow(number, cell.setting.name, "ok", WRONG if lost else LABEL, trace=trace))
    return cells, questions, rows


def test_what_was_put_in_is_found(made):
    found = by_complexity(*made, resamples=200)
    assert found["questions"] == {"simple": 80, "medium": 80, "complex": 80} and found["types"]["plan"] == 240
    by_row = {cell["row"]: cell["bands"] for cell in found["cells"]}
    assert by_row["fastv"]["simple"]["value"] == 1 and by_row["fastv"]["complex"]["value"] == pytest.approx(0.5, abs=0.15)
    claim = next(one for one in found["interactions"] if one["static"] == "fastv")
    assert claim["adaptive"] == "autoprune" and claim["low"] > 0.2
    assert not any(one["static"].startswith("autoprune") for one in found["interactions"])
    assert found["mutual_information"]["all"]["value"] > 0.9 and found["mutual_information"]["plan"]["count"] == 240
    assert found["oracle"][0]["variants"] == 3 and found["oracle"][0]["oracle"]["value"] == 1


def test_the_claim_is_tested_of_the_calibrated_method_too(made):
    """The same answers under its name give the same interactions, against what does not adapt alone."""
    cells, questions, rows = made
    again = [replace(cell, row=replace(cell.row, label=CALIBRATED)) for cell in cells if cell.row.label == "autoprune"]
    found = by_complexity([*cells, *again], questions, rows, resamples=100)["interactions"]
    plain, calibrated = ([one for one in found if one["adaptive"] == name] for name in ("autoprune", CALIBRATED))
    assert {one["static"] for one in found} == {"random", "uniform", "fastv"} and len(plain) == len(calibrated) == 3
    assert [{**one, "adaptive": CALIBRATED} for one in plain] == calibrated


def test_other_indicators_are_ranked_beside_it(made):
    """Attention falls with complexity; static measures nothing, and the released code's measure is another."""
    _, questions, rows = made
    methods = (
        "autoprune:mode=release",
        "autoprune:curve=tanh",
        "autoprune:indicator=attention",
        "autoprune:indicator=cosine:indicator_scale=-2.0",
        "autoprune:indicator=static",
    )
    cells = cells_of(SweepConfig(questions="q", methods=methods, retention=(0.1, 0.25)), None)
    complexity = {q.question: float(q.attributes["complexity"]) for q in questions}
    said = [row for row in rows if row.setting == UNPRUNED]
    for cell in cells:
        signs = {"curve=tanh": 1.0, "indicator=attention": -1.0, "indicator=cosine:indicator_scale=-2.0": 3.0, "mode=release": -5.0}
        sign = signs.get(cell.row.label.removeprefix("autoprune:"))
        for q in questions:
            trace = {"mutual_information": None if sign is None else sign * complexity[q.question]}
            said.append(AnswerRow(q.question, cell.setting.name, "ok", LABEL, trace=trace))
    found = by_complexity(cells, questions, said, resamples=100)
    assert found["mutual_information"]["plan"]["value"] == pytest.approx(1)  # of a row that is not called autoprune
    assert set(found["indicators"]) == {"attention", "cosine"}
    assert found["indicators"]["cosine"]["all"]["value"] == pytest.approx(-1)  # it fell, and was scaled by a factor below 0
    assert found["indicators"]["attention"]["all"]["value"] == pytest.approx(-1)
    grid = next(grid for grid in complexity_grids(found) if grid.title.startswith("Other indicators"))
    assert [row[:2] for row in grid.rows] == [[name, kind] for name in ("attention", "cosine") for kind in ("all", "plan")] and grid.rows[
        0
    ][2].startswith("-1.00")
    del found["indicators"]  # a table of 0.1
    assert not any(grid.title.startswith("Other") for grid in complexity_grids(found))


def test_grids_say_it(made):
    grids = complexity_grids(by_complexity(*made, resamples=100))
    titles = " ".join(grid.title for grid in grids)
    assert len(grids) == 4 and "80 complex" in titles and "Spearman" in titles and "Oracle" in titles


def test_nothing_without_complexity(made):
    cells, questions, rows = made
    bare = [replace(q, attributes={}) for q in questions]
    assert by_complexity(cells, bare, rows) is None
    assert by_complexity(cells, questions[:20], rows) is None


def test_an_adapters_answers_are_read_by_the_adapter(made):
    """The same answers as choices in JSON: what is found is the same but for the type."""
    cells, questions, rows = made
    reading = Reading.of({"parse": {"kind": "json", "path": "pick", "then": "choice"}})
    asked = [replace(q, type="choice", text="? A. Keep. B. Stop.", label="A") for q in questions]
    said = [replace(row, answer=json.dumps({"pick": "A" if row.answer == LABEL else "B"})) for row in rows]
    plain, read = by_complexity(*made, resamples=100), by_complexity(cells, asked, said, resamples=100, reading=reading)
    assert read["cells"] == plain["cells"] and read["oracle"] == plain["oracle"] and read["types"]["choice"] == 240
    assert read["mutual_information"]["choice"] == plain["mutual_information"]["plan"]
    assert by_complexity(cells, asked, said, resamples=100) is None  # nobody reads them otherwise


def test_the_sidecar_gives_each_question_its_complexity(tmp_path: Path):
    found = demo.embedded()
    file = tmp_path / "questions.json"
    shutil.copy(found.questions_file, file)
    sidecar = json.loads(Path(f"{found.questions_file}.meta.json").read_text())
    ids = [record.id for record in read_questions(file).records if record.type == "plan"]
    sidecar["complexity"] = {ids[0]: {"complexity": 2.5}, ids[1]: {"complexity": "hard"}, ids[2]: {"complexity": float("nan")}, ids[3]: 3}
    Path(f"{file}.meta.json").write_text(json.dumps(sidecar))
    rows, _ = load_questions(AskConfig(questions=str(file), images=str(found.dataroot)))
    assert rows[0].attributes["complexity"] == "2.5" and not any("complexity" in row.attributes for row in rows[1:])
