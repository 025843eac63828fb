"""Suites, cells and tables of `senna-prune benchmarks`, on results that the real lmms-eval wrote (results/) and a stand-in that
writes them again. The real one is run by tests/lmms."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from senna_autoprune.cli import cli
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.paper import llava15_at
from senna_autoprune.files.lock import RunLock
from senna_autoprune.lmms import cells as benchmarks
from senna_autoprune.lmms.cells import Place, TaskCell, UselessResult, cells_of, place_of, read_result, require_lmms_eval, run_cells
from senna_autoprune.lmms.suites import SUITES, load_suite, rows
from senna_autoprune.lmms.table import grid, tabulate, to_csv, write_files

RECORDED = Path(__file__).with_name("results")
MODEL = "/tmp/lmms/t/ck"  # of the recordings
SUITE = """
title: Local pictures
visual_tokens: 16
tokens: [4]
methods: [autoprune]
tasks:
  - {name: local_colours, column: Colours, metrics: [exact_match], scale: 100}
  - {name: local_choice, column: Choice, metrics: [acc], scale: 100}
"""
STAND_IN = """
import json, os, pathlib, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out, task, arguments = pathlib.Path(given["--output_path"]), given["--tasks"], given["--model_args"]
with open(os.environ["STAND_IN_CALLS"], "a") as calls:
    calls.write(f"{out.parent.name} {task}\\n")
trouble = json.loads(os.environ.get("STAND_IN_TROUBLE", "{}")).get(out.parent.name)
if trouble:
    print(f"\\x1b[31mError during evaluation: {trouble}. Please set `--verbosity=DEBUG` to get more information.\\x1b[0m")
    sys.exit(0)  # as the real one does
source = pathlib.Path(os.environ["STAND_IN_RESULTS"]) / f"{out.parent.name}.{task}.json"
data = json.loads(source.read_text())
data["config"].update(model_args=arguments, limit=float(given["--limit"]) if "--limit" in given else None)
folder = out / "t__ck"
folder.mkdir(parents=True, exist_ok=True)
(folder / "20261123_000000_results.json").write_text(json.dumps(data))
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(model=MODEL, out=tmp_path / "out")


@pytest.fixture
def recorded(suite_file: Path, place: Place) -> list[TaskCell]:
    """A folder that holds what the real lmms-eval left of a run; autoprune's second cell is missing."""
    cells = cells_of(load_suite(str(suite_file)), place)
    for cell in cells:
        source = RECORDED / f"{cell.row.name}.{cell.task.name}.json"
        if source.exists():
            folder = cell.directory / "t__ck"
            folder.mkdir(parents=True)
            shutil.copy(source, folder / "20261123_000000_results.json")
    return cells


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``python -m lmms_eval`` writes the recorded results; returns the file in which its calls are counted."""
    package = tmp_path / "stand_in" / "lmms_eval"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    results = tmp_path / "results"
    shutil.copytree(RECORDED, results)
    shutil.copy(results / "uniform@4.local_choice.json", results / "autoprune@4.local_choice.json")  # nobody recorded that one
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("STAND_IN_RESULTS", str(results))
    monkeypatch.setenv("STAND_IN_CALLS", str(tmp_path / "calls.txt"))
    (tmp_path / "calls.txt").touch()
    return tmp_path / "calls.txt"


def test_shipped_suites_hold_the_budgets_and_controls_of_the_tables() -> None:
    budgets = {"table1": (192, 128, 64), "table2": (640, 320, 160)}
    for name in SUITES:
        suite = load_suite(name)
        assert suite.tokens == budgets[name]
        assert {task.column for task in suite.tasks} == {"MME", "MMBench", "ScienceQA", "GQA", "TextVQA", "VQAv2", "POPE"}
        found = rows(suite)
        assert [row.name for row in found[:2]] == ["unpruned", "no-image"]
        for tokens in suite.tokens:
            labels = [row.label for row in found if row.tokens == tokens]
            assert labels[:3] == ["random", "uniform", "autoprune"]
            assert len(set(labels)) == len(labels) == 15
        link = Path(__file__).parents[2] / "configs" / SUITES[name]
        assert load_suite(str(link)) == suite


def test_flags_narrow_a_suite() -> None:
    suite = load_suite("table1", methods="fastv,autoprune:mode=paper", tasks="MME,gqa", tokens="64")
    assert [task.name for task in suite.tasks] == ["mme", "gqa"]
    assert [row.name for row in rows(suite)] == [
        "unpruned", "no-image", "random@64", "uniform@64", "fastv@64", "autoprune:mode=paper@64",
    ]  # fmt: skip
    assert rows(suite)[-1].arguments == {"method": "autoprune", "tokens": 64, "mode": "paper"}
    suite = load_suite("table1", methods="fastv,autoprune:mode=paper", tokens="64", options={"autoprune": {"gamma": 0.1}})
    assert rows(suite)[-1].name == "autoprune:mode=paper:gamma=0.1@64" and rows(suite)[-1].arguments["gamma"] == 0.1
    every = load_suite("table1", tokens="64", options={"fastv": {"k": 3}})
    assert [row.label for row in rows(every) if "=" in row.label] == ["fastv:k=3"] and "divprune" in {row.label for row in rows(every)}
    with pytest.raises(SennaPruneError, match=r"no row is of fasttv .did you mean 'fastv'"):
        load_suite("table1", options={"fasttv": {"k": 3}})


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("tabel1", {}, "did you mean 'table1'"),
        ("table1", {"methods": "fastvv"}, "did you mean 'fastv'"),
        ("table1", {"methods": "autoprune:moed=paper"}, "did you mean 'mode'"),
        ("table1", {"tasks": "mmee"}, "did you mean 'mme'"),
        ("table1", {"tokens": "64,many"}, "whole numbers"),
        ("table1", {"tokens": "577"}, "between 1 and the 576"),
        ("nowhere.yaml", {}, "cannot read"),
    ],
)
def test_a_bad_suite_is_one_line(name: str, flags: dict[str, str], said: str) -> None:
    with pytest.raises(SennaPruneError, match=said) as caught:
        load_suite(name, **flags)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", ["--tasks", "a b", "../a", "a,b", "a=b"])
def test_a_task_cannot_smuggle_flags_or_paths(task: str, suite_file: Path) -> None:
    suite_file.write_text(SUITE.replace("local_choice", json.dumps(task)))
    with pytest.raises(SennaPruneError, match="one word"):
        load_suite(str(suite_file))


def test_the_command_line_of_a_cell(suite_file: Path, tmp_path: Path) -> None:
    (tmp_path / "ck").mkdir()
    place = place_of(str(tmp_path / "ck"), tmp_path / "out", limit=5, device="cpu", dtype="bfloat16", batch_size=4)
    cell = cells_of(load_suite(str(suite_file)), place)[-1]
    answers = tmp_path / "out" / "cells" / "autoprune@4" / "local_choice" / "answers.sqlite"
    assert cell.command[1:] == [
        "-m", "lmms_eval", "--model", "senna_prune_llava",
        "--model_args", f"pretrained={tmp_path / 'ck'},method=autoprune,tokens=4,dtype=bfloat16,answers={answers}",
        "--tasks", "local_choice", "--batch_size", "4", "--output_path", str(answers.parent), "--limit", "5", "--device", "cpu",
    ]  # fmt: skip
    blind = next(cell for cell in cells_of(load_suite(str(suite_file)), place) if cell.row.name == "no-image")
    assert ",method=none,no_image=true," in blind.model_args


@pytest.mark.parametrize("model", ["a/b,trust_remote_code=true", "..", "../x", "no_such_folder", "a/b/c", "--model/x", "a/b\nc", ""])
def test_hostile_models_are_refused(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if model == "..":  # a folder: taken as it is, under its real name
        assert place_of(model, "out").model == str(tmp_path.parent.resolve())
        return
    with pytest.raises(SennaPruneError, match="--model"):
        place_of(model, "out")


@pytest.mark.parametrize("name", ["a,trust_remote_code=true", "a=b", "it's", "{}", "a\nb"])
def test_folders_that_lmms_eval_would_misread_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    for model, out in ((str(tmp_path / name), tmp_path / "out"), ("a/b", tmp_path / name)):
        with pytest.raises(SennaPruneError, match="cannot carry"):
            place_of(model, out)


def test_recorded_results_make_the_table(recorded: list[TaskCell], suite_file: Path, place: Place) -> None:
    suite = load_suite(str(suite_file))
    outcomes = [benchmarks.Outcome(cell, result) for cell in recorded if (result := read_result(cell)) is not None]
    table = tabulate(suite, place, outcomes, "0.7.3")
    by_row = {(row["row"], row["tokens"]): row for row in table["rows"]}
    choice = {name: row["cells"]["local_choice"] for name, row in by_row.items()}
    assert {name: cell.get("score") for name, cell in choice.items()} == {
        ("unpruned", None): 50.0, ("no-image", None): 25.0, ("random", 4): 50.0, ("uniform", 4): 100.0, ("autoprune", 4): None,
    }  # fmt: skip
    assert choice["no-image", None]["relative"] == 0.5
    assert choice["random", 4]["stderr"] == pytest.approx(28.8675, abs=1e-3)
    colours = by_row["autoprune", 4]["cells"]["local_colours"]
    assert (colours["visual_tokens"], colours["visual_tokens_unpruned"], colours["questions"]) == (4.0, 16.0, 5)
    assert colours["flops_share"] == pytest.approx(0.5333, abs=1e-4)
    assert colours["relative"] is None, "an unpruned score of 0 leaves nothing to retain"
    assert by_row["unpruned", None]["flops_share"] == 1.0
    assert by_row["autoprune", 4]["visual_tokens"] is None, "a mean over some of the tasks would look like one over all"
    assert table["facts"]["cells"] == {"ok": 9, "impossible": 0, "failed": 0, "not run": 1}

    shown = grid(table)
    assert shown.columns[:4] == ["budget", "method", "Colours", "Choice"]
    assert shown.rows[1][:4] == ["", "no-image (control)", "0.0", "25.0"]
    assert shown.rows[2][:2] == ["4 (25.0 %)", "random (control)"]
    assert shown.rows[-1][:4] == ["", "autoprune", "0.0", ""]
    notes = " ".join(shown.notes)
    assert "1 cells are not run yet" in notes and "majority" in notes and "Tables 1 and 2 themselves" in notes
    assert len(to_csv(table).splitlines()) == 1 + 10
    written = write_files(place.out, table, "senna-prune benchmarks <x>")
    assert json.loads(written[1].read_text()) == table
    assert "| 4 (25.0 %) | random (control) | 0.0 | 50.0 |" in written[2].read_text()


def test_the_papers_figures_stand_where_they_are_known_and_are_labelled(place: Place) -> None:
    suite = load_suite("table1", methods="autoprune", tasks="gqa,textvqa_val,mme")
    table = tabulate(suite, place, [], None)
    lines = [row for row in grid(table).rows if "paper" in row[1]]
    assert [row[1] for row in lines] == ["autoprune (paper, LLaVA-1.5-7B, Table 4)"] * 2
    assert [row[2:5] for row in lines] == [["59.9", "57.4", ""], ["57.7", "57.1", ""]]  # at 128 and at 64; none is known at 192
    assert llava15_at(64) == {"TextVQA": 57.1, "GQA": 57.7} and llava15_at(192) == {}
    assert not [row for row in grid(tabulate(load_suite("table2"), place, [], None)).rows if "paper" in row[1]]


def test_results_of_other_arguments_are_refused_and_a_moved_folder_is_not(recorded: list[TaskCell], tmp_path: Path) -> None:
    cell = recorded[0]
    for other in (replace(cell.place, limit=3), replace(cell.place, model="other/model"), replace(cell.place, dtype="float16")):
        with pytest.raises(SennaPruneError, match="made with other arguments"):
            read_result(replace(cell, place=other))
    shutil.move(cell.place.out, tmp_path / "elsewhere")
    assert read_result(replace(cell, place=replace(cell.place, out=tmp_path / "elsewhere"))) is not None


def test_torn_and_hostile_results_are_not_believed(recorded: list[TaskCell]) -> None:
    cell = next(cell for cell in recorded if cell.row.name == "random@4" and cell.task.column == "Choice")
    (path,) = cell.directory.glob("*/*_results.json")
    whole = path.read_text()
    for text in (whole[: len(whole) // 2], "", "[]", "[" * 100_000, "\x00"):
        path.write_text(text)
        assert read_result(cell) is None
    data = json.loads(whole)
    for value in (None, "50", float("nan"), True, {"a": 1}):
        data["results"]["local_choice"]["acc,none"] = value
        path.write_text(json.dumps(data))
        with pytest.raises(UselessResult, match="no number for acc"):
            read_result(cell)
    data["results"] = {"local_choice": 3}
    path.write_text(json.dumps(data))
    with pytest.raises(UselessResult):
        read_result(cell)


def test_the_newest_results_count_and_a_tasks_own_files_do_not(recorded: list[TaskCell]) -> None:
    cell = next(cell for cell in recorded if cell.row.name == "random@4" and cell.task.column == "Choice")
    (path,) = cell.directory.glob("*/*_results.json")
    data = json.loads(path.read_text())
    data["results"]["local_choice"]["acc,none"] = 0.75
    path.with_name("20261124_000000_results.json").write_text(json.dumps(data))
    (cell.directory / "submissions").mkdir()
    (cell.directory / "submissions" / "mmbench_en_dev_static_results.json").write_text('{"overall_acc": 0.5}')  # as MMBench's code does
    result = read_result(cell)
    assert result is not None and result.score == 75.0


def test_metrics_that_a_limit_left_empty_are_named(recorded: list[TaskCell]) -> None:
    cell = recorded[0]
    (path,) = cell.directory.glob("*/*_results.json")
    data = json.loads(path.read_text())
    data["config"]["limit"] = 4.0
    path.write_text(json.dumps(data))
    task = cell.task.__class__(name=cell.task.name, column="Sum", metrics=("exact_match", "mme_cognition_score"))
    limited = replace(cell, task=task, place=replace(cell.place, limit=4))
    result = read_result(limited)
    assert result is not None and result.missing == ("mme_cognition_score",) and result.stderr is None


def test_only_what_is_missing_is_run(recorded: list[TaskCell], stand_in: Path) -> None:
    outcomes = list(run_cells(recorded))
    assert all(outcome.result is not None for outcome in outcomes)
    assert stand_in.read_text().splitlines() == ["autoprune@4 local_choice"]
    assert list(run_cells(recorded)) == outcomes
    assert len(stand_in.read_text().splitlines()) == 1


def test_a_failed_cell_is_said_and_tried_again(recorded: list[TaskCell], stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_TROUBLE", json.dumps({"autoprune@4": "CUDA out of memory"}))
    *_, last = run_cells(recorded)
    assert (last.result, last.reason, last.impossible) == (None, "CUDA out of memory", False)
    monkeypatch.delenv("STAND_IN_TROUBLE")
    *_, last = run_cells(recorded)
    assert last.result is not None and len(stand_in.read_text().splitlines()) == 2


def test_an_impossible_budget_is_found_once_a_row(suite_file: Path, place: Place, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_TROUBLE", json.dumps({"autoprune@4": "budget: 4 visual tokens a layer asked of a prompt that has 3"}))
    suite = load_suite(str(suite_file))
    outcomes = list(run_cells(cells_of(suite, place)))
    assert [outcome.impossible for outcome in outcomes] == [False] * 8 + [True] * 2
    assert stand_in.read_text().splitlines()[8:] == ["autoprune@4 local_colours"]
    notes = grid(tabulate(suite, place, outcomes, "0.7.3")).notes
    assert any(note.startswith("n/a, impossible: autoprune at 4: budget: 4 visual tokens") for note in notes)


def test_lmms_eval_that_dies_without_a_word_is_a_failed_cell(
    recorded: list[TaskCell], stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_RESULTS", "/nowhere")
    *_, last = run_cells(recorded)
    assert last.reason is not None and "exit code 1" in last.reason and "FileNotFoundError" in last.reason


def test_two_processes_and_changed_checkpoints_are_refused(recorded: list[TaskCell], stand_in: Path, tmp_path: Path) -> None:
    out = recorded[0].place.out
    with RunLock(out), pytest.raises(SennaPruneError, match="in use by process"):
        list(run_cells(recorded))
    (tmp_path / "ck").mkdir()
    place = replace(recorded[0].place, model=str(tmp_path / "ck"), out=tmp_path / "other")
    cells = [replace(cell, place=place) for cell in recorded]
    list(run_cells(cells[:1]))
    (tmp_path / "ck" / "model.safetensors").write_bytes(b"new weights")
    with pytest.raises(SennaPruneError, match="another checkpoint, or its files changed"):
        list(run_cells(cells[:1]))


def test_without_lmms_eval_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmarks, "find_spec", lambda name: None)
    with pytest.raises(SennaPruneError, match=r"lmms-eval is not installed .* pip install 'senna_autoprune\[lmms\]'"):
        require_lmms_eval()
    flags = ["benchmarks", "--suite", "table1", "--model", "a/b", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, flags)
    assert isinstance(result.exception, SennaPruneError) and not (tmp_path / "out").exists()


def test_dry_run_prints_every_command_line_and_runs_none(suite_file: Path, tmp_path: Path, stand_in: Path) -> None:
    flags = ["benchmarks", "--suite", str(suite_file), "--model", "a/b", "--out", str(tmp_path / "out"), "--limit", "5", "--dry-run"]
    result = CliRunner().invoke(cli, flags)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 10 and all(" -m lmms_eval --model senna_prune_llava " in line and line.endswith("--limit 5") for line in lines)
    assert "10 cells, 0 of them finished" in result.stderr
    assert not (tmp_path / "out").exists() and not stand_in.read_text()


def test_the_command_prints_its_command_lines_and_the_table(
    suite_file: Path, tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "require_lmms_eval", lambda: None)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.7.3")
    flags = ["benchmarks", "--suite", str(suite_file), "--model", "a/b", "--out", str(tmp_path / "out"), "--json"]
    monkeypatch.setenv("STAND_IN_TROUBLE", json.dumps({"autoprune@4": "CUDA out of memory"}))
    result = CliRunner().invoke(cli, flags, standalone_mode=False)
    assert result.return_value == 3 or result.exit_code == 3, result.output
    monkeypatch.delenv("STAND_IN_TROUBLE")
    result = CliRunner().invoke(cli, flags, standalone_mode=False)
    assert result.exit_code == 0 and not result.return_value, result.output
    assert result.stderr.count("$ ") == 2, "eight cells were finished before"
    assert "[1/10] unpruned, Colours: 0.0 (16.0 visual tokens, 100.0 % of the FLOPs), found" in result.stderr
    assert "uniform (control)" in result.stdout
    table = json.loads(result.stdout.splitlines()[-1])
    assert table["facts"]["cells"]["ok"] == 10
    assert (tmp_path / "out" / "table.md").read_text().startswith("```")
