"""Sweeps: what is asked once, what resumes, what cannot be, and the table against one made by hand."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.questions import samples_of
from senna_autoprune.evaluation.paper import paper, table3_at
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.evaluation.sweep.cells import cells_of
from senna_autoprune.evaluation.sweep.config import SweepConfig, specs
from senna_autoprune.evaluation.sweep.sweep import SweepResult, in_turns, sweep
from senna_autoprune.evaluation.sweep.table import best_rival, marks, right_answers
from senna_autoprune.files.yaml_files import build, load_config
from senna_autoprune.pruning.methods.registry import METHODS
from senna_autoprune.report.sweep_figures import draw_all, pareto_front, view_names
from senna_autoprune.tables.sweep import to_csv, to_markdown, write_files
from tests.evaluation.conftest import LABELS, Asked, Place, counting_senna, untimed
from tests.evaluation.sweeps import sweep_config, talking
from tests.fixtures import shared


def _counts(directory: Path) -> Counter[str]:
    with RunStore.read(directory) as store:
        return Counter(row.setting for row in store.answers())


def _answers(directory: Path) -> dict[tuple[int, str], Any]:
    with RunStore.read(directory) as store:
        return {(r.question, r.setting): (r.status, r.answer, r.reason, untimed(r.trace)) for r in store.answers()}


SETTINGS = 2 + 2 * 5  # unpruned and no-image; random, uniform and three methods at two budgets


def test_everything_is_asked_once_and_vision_features_serve_all_cells(place: Place) -> None:
    asked = talking()
    result = sweep(sweep_config(place), asked.senna)
    assert result.rows == 4 * SETTINGS
    assert asked.generated == 4 * (SETTINGS - 1) + 1  # fastv cannot reach 0.5 here: tried once
    assert asked.looked == 4 + 1  # once a sample, and once for the grey views
    assert set(_counts(result.directory).values()) == {4}
    again = talking()
    second = sweep(sweep_config(place), again.senna)
    assert again.generated == again.looked == 0
    assert second.table == result.table
    assert (result.failed, second.failed) == (0, 0)


class _Interrupted(Exception):
    pass


def test_interrupted_anywhere_all_cells_are_as_far_and_nothing_is_asked_twice(place: Place) -> None:
    unbroken = sweep(sweep_config(place, out=str(place.folder / "unbroken")), talking().senna)
    total = 0
    for stop in (5, 1, 13, 17, 200):
        asked = talking()

        def on_row(row: AnswerRow, done: int, in_all: int, asked: Asked = asked, stop: int = stop) -> None:
            if asked.generated >= stop:
                raise _Interrupted

        try:
            sweep(sweep_config(place), asked.senna, on_row)
        except _Interrupted:
            counts = _counts(place.folder / "sweep")
            assert max(counts.values()) - min(counts[name] for name in _counts(unbroken.directory)) <= 1
        total += asked.generated
    assert total == 4 * (SETTINGS - 1) + 1
    assert _answers(place.folder / "sweep") == _answers(unbroken.directory)


def _sweep_until_killed(place: Place, rows: int) -> None:
    def die(row: AnswerRow, done: int, in_all: int) -> None:
        if done >= rows:
            os.kill(os.getpid(), signal.SIGKILL)

    sweep(sweep_config(place), talking().senna, die)


def test_killed_by_the_system_it_continues(place: Place) -> None:
    unbroken = sweep(sweep_config(place, out=str(place.folder / "unbroken")), talking().senna)
    worker = get_context("fork").Process(target=_sweep_until_killed, args=(place, 17))
    worker.start()
    worker.join(300)
    assert worker.exitcode == -signal.SIGKILL
    held = _answers(place.folder / "sweep")
    assert 0 < len(held) <= 17  # the group that was not committed yet may be lost
    asked = talking()
    result = sweep(sweep_config(place), asked.senna)
    impossible = sum(status == "n/a" for status, *_ in held.values())
    assert asked.generated == 4 * (SETTINGS - 1) + 1 - (len(held) - impossible) - min(impossible, 1)
    assert _answers(result.directory) == _answers(unbroken.directory)


def test_more_methods_and_budgets_extend_a_sweep(place: Place) -> None:
    sweep(sweep_config(place, methods=("autoprune",), retention=(0.8,)), talking().senna)
    asked = talking()
    result = sweep(sweep_config(place, methods=("autoprune", "divprune"), retention=(0.8, 0.9)), asked.senna)
    assert asked.generated == 4 * (1 + 4)  # divprune at 0.8, and four rows at 0.9
    assert {(cell["row"], cell["budget"]) for cell in result.table["cells"]} == {
        (row, budget) for row in ("random", "uniform", "autoprune", "divprune") for budget in ("0.8", "0.9")
    }
    with RunStore.read(result.directory) as store:
        assert {"autoprune@0.8", "divprune@0.9"} <= set(store.config["settings"])
        assert store.config["sweep"]["retention"] == [0.8, 0.9]
    fewer = talking()
    assert {cell["row"] for cell in sweep(sweep_config(place, methods=("fastv",), retention=(0.8,)), fewer.senna).table["cells"]} == {
        "random", "uniform", "fastv",
    }  # fmt: skip
    assert fewer.generated == 4
    with pytest.raises(SennaPruneError, match="seed: 0 there, 1 now"):
        sweep(sweep_config(place, seed=1), fewer.senna)


def test_what_cannot_be_is_a_cell_with_its_reason_and_no_failure(place: Place) -> None:
    result = sweep(sweep_config(place), talking().senna)
    cells = {(cell["row"], cell["budget"]): cell for cell in result.table["cells"]}
    assert cells["fastv", "0.5"]["status"] == "n/a"
    assert "nearest possible is 0.6" in cells["fastv", "0.5"]["reason"]
    assert cells["fastv", "0.8"]["status"] == cells["autoprune", "0.5"]["status"] == "ok"
    markdown = to_markdown(result.table)
    assert "n/a fastv at 0.5: budget: retention" in markdown
    assert result.table["facts"]["questions"] == 4  # the others are measured on all questions


def test_a_batched_sweep_gives_the_same_answers(place: Place) -> None:
    one = sweep(sweep_config(place, out=str(place.folder / "one")), talking().senna)
    asked = talking()
    four = sweep(sweep_config(place, batch_size=4), asked.senna)
    assert asked.generated < 4 * SETTINGS / 2
    single, batched = _answers(one.directory), _answers(four.directory)
    assert {key: row[:3] for key, row in single.items()} == {key: row[:3] for key, row in batched.items()}
    assert four.table["facts"]["batch_size"] == 4
    assert "batches of up to 4" in to_markdown(four.table)


# --- rows and configuration -------------------------------------------------------------------------------------------


def test_rows_of_all_methods_of_variants_and_of_ablations(place: Place) -> None:
    rivals = [name for name in METHODS if name not in ("random", "uniform")]
    assert [row.label for row in specs(sweep_config(place, methods=None))] == ["random", "uniform", *rivals]
    rows = specs(sweep_config(place, methods="autoprune, autoprune:mode=release", options={"autoprune": {"k0": 0.3}}))
    assert [row.label for row in rows] == ["random", "uniform", "autoprune", "autoprune:mode=release"]
    assert dict(rows[-1].options) == {"k0": 0.3, "mode": "release"}
    ablated = specs(sweep_config(place, methods=None, ablation="indicators,curves"))
    assert [row.label for row in ablated][2:] == [
        "indicator=static", "indicator=cosine", "indicator=attention", "indicator=mutual_information",
        "curve=linear", "curve=tanh", "curve=exponential", "curve=logistic",
    ]  # fmt: skip


def test_cells_with_the_same_options_share_a_setting(place: Place) -> None:
    config = sweep_config(place, methods=("autoprune",), ablation=("indicators", "curves"), retention=(0.8,))
    names = {cell.row.label: cell.setting.name for cell in cells_of(config, {"indicator_scale": {"cosine": 2.5}})}
    assert names["autoprune"] == names["indicator=mutual_information"] == names["curve=logistic"] == "autoprune@0.8"
    assert names["indicator=cosine"] == "autoprune:indicator=cosine,indicator_scale=2.5@0.8"
    assert len(set(names.values())) == len(names) - 2
    per_view = sweep_config(place, methods=("autoprune",), retention=None, tokens_per_view="4,5")
    assert [cell.setting.name for cell in cells_of(per_view, None)][-2:] == ["autoprune@4/view", "autoprune@5/view"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": "autoprun"}, "did you mean 'autoprune'"),
        ({"methods": "autoprune:mode"}, "NAME=VALUE"),
        ({"options": {"fastvv": {"k": 3}}}, "did you mean 'fastv'"),
        ({"retention": "0.4:0.2:0.1"}, "start:stop:step"),
        ({"retention": [0.5, 1.5]}, "shares lie in"),
        ({"retention": 0.5, "tokens_per_view": 26}, "both state"),
        ({"ablation": "indicator"}, "indicators"),
        ({"types": "vru"}, "must hold plan"),
        ({"methodss": "all"}, "did you mean 'methods'"),
        ({"calibration": 1}, "calibration"),
    ],
)
def test_a_bad_configuration_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SennaPruneError, match=message):
        build(SweepConfig, values, "here")


def test_bad_options_of_a_method_are_seen_before_a_model_is_loaded(place: Place) -> None:
    with pytest.raises(SennaPruneError, match="did you mean 'gamma'"):
        cells_of(sweep_config(place, methods="autoprune:gama=1"), None)


@pytest.mark.parametrize("name", ["table3", "table4", "complexity"])
def test_committed_configurations_are_valid(name: str) -> None:
    config = load_config(SweepConfig, f"configs/{name}.yaml")
    cells = cells_of(config, None)
    if name == "table3":
        assert config.retention == (0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
        assert {cell.row.label for cell in cells} >= set(METHODS)
    elif name == "complexity":
        fixed = [cell for cell in cells if cell.budget[1] == 0.25 and cell.row.options.get("indicator") == "static"]
        assert len({cell.row.options.get("k0") for cell in fixed}) == len(fixed) == 5  # the oracle's grid
        assert {cell.row.label for cell in cells} > {"autoprune", "autoprune:gamma=calibrated", "random", "uniform"}
    else:
        assert len({cell.row.label for cell in cells}) == 2 + 8


# --- order ----------------------------------------------------------------------------------------------------------


def _question(number: int, scene: str) -> QuestionRow:
    return QuestionRow(number, f"t{number}", "plan", "SPEED plan", LABELS[0], (f"{number}.jpg",), scene, True, {})


def test_scenes_take_turns() -> None:
    samples = samples_of([_question(n, scene) for n, scene in enumerate("aaabbc")])
    assert [sample[0].question for sample in in_turns(samples)] == [0, 3, 5, 1, 4, 2]


# --- the table --------------------------------------------------------------------------------------------------------


def _by_hand(result: SweepResult, setting: str) -> dict[str, Any]:
    """Counts with loops, straight from the rows."""
    labels = {q.question: q.label.strip() for q in result.questions}
    said = {(r.question, r.setting): r.answer for r in result.answers}
    right = {name: [said[q, name] == labels[q] for q in labels] for name in {name for _, name in said}}
    budget = setting.split("@")[1]
    random = f"random@{budget}"
    lost = sum(a and not b for a, b in zip(right[random], right[setting], strict=True))
    gained = sum(b and not a for a, b in zip(right[random], right[setting], strict=True))
    traces = [r.trace for r in result.answers if r.setting == setting and r.trace]
    unpruned = sum(right["unpruned"])
    return {
        "accuracy": sum(right[setting]) / len(labels),
        "retention": sum(right[setting]) / unpruned if unpruned else None,
        "random": (lost, gained),
        "flops": sum(t["flops_pruned"] for t in traces) / sum(t["flops_full"] for t in traces),
        "flips": sum(said[q, setting] != said[q, "unpruned"] for q in labels),
    }


def test_the_table_is_what_counting_by_hand_gives(place: Place) -> None:
    result = sweep(sweep_config(place), talking().senna)
    checked = 0
    for cell in result.table["cells"]:
        if cell["status"] != "ok":
            continue
        expected = _by_hand(result, cell["setting"])
        assert cell["accuracy"]["value"] == pytest.approx(expected["accuracy"])
        assert (cell["retention"] or {}).get("value") == pytest.approx(expected["retention"])
        assert cell["flops_ratio"] == pytest.approx(expected["flops"])
        assert cell["flips"]["all"] == expected["flips"]
        if cell["row"] != "random":
            assert (cell["against_random"]["lost"], cell["against_random"]["gained"]) == expected["random"]
        checked += 1
    assert checked == 9
    assert any(cell["retention"]["value"] for cell in result.table["cells"] if cell["status"] == "ok")
    assert set(result.table["plain"]) == {"unpruned", "no-image", "majority"}


def test_marks_need_a_separation_and_tell_its_direction() -> None:
    def against(lost: int, gained: int, p_value: float) -> dict[str, Any]:
        return {"lost": lost, "gained": gained, "p_value": 0.0, "by_scene": {"p_holm": p_value}}

    assert marks({"against_random": against(0, 9, 0.004), "against_rival": against(8, 0, 0.008)}) == ["R+", "B-"]
    assert marks({"against_random": against(0, 3, 0.25)}) == []
    hits = {"a": [True, False, True], "b": [True, True, True], "c": [True, True, True]}
    assert best_rival("a", ["a", "b", "c"], hits) == "b"
    assert best_rival("b", ["a", "b", "c"], hits) == "c"
    assert best_rival("a", ["a"], hits) is None


def test_only_questions_that_every_setting_answered_count() -> None:
    questions = [_question(0, "a"), _question(1, "a")]
    rows = [AnswerRow(0, "x", "ok", LABELS[0]), AnswerRow(1, "x", "ok", "STOP, STRAIGHT"), AnswerRow(0, "y", "ok", "no")]
    assert right_answers(questions, rows) == ({"x": [True], "y": [False]}, ["a"])
    assert right_answers(questions, [*rows, AnswerRow(1, "y", "failed", None)])[0] == {"x": [True], "y": [False]}


def test_the_papers_figures_stand_at_their_budgets_and_are_the_specifications() -> None:
    rows = table3_at([0.2, 0.25, 0.3, 0.35, 0.4])
    assert rows["AutoPrune"] == [96.63, 111.23, 106.75, 105.06, 104.51]
    assert table3_at([26 / 128, 0.5])["FasterVLM"] == [55.05, None]
    assert table3_at([0.5]) == {}
    text = (shared("spec") / "methods.md").read_text(encoding="utf-8").split("## Table 3")[1]
    for name, values in paper()["table3"]["rows"].items():
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert [float(cell) for cell in line.split("|")[2:-1]] == values
    assert "MI 57.1/57.4, 57.7/59.9" in text
    assert paper()["table4"]["indicators"]["mutual_information"] == [57.1, 57.4, 57.7, 59.9]


def test_files_keep_ours_and_the_papers_apart(place: Place) -> None:
    result = sweep(sweep_config(place, methods="autoprune,tome", retention="0.35,0.8"), talking().senna)
    figures = draw_all(result.directory, result.table, result.answers, result.questions)
    assert len(figures) == 5
    for figure in figures:
        path = result.directory / figure
        assert path.stat().st_size > 5000
        assert path.with_suffix(".svg").read_text().startswith("<?xml")
    written = write_files(result.directory, result.table, figures, "senna-prune sweep")
    lines = list(csv.DictReader(io.StringIO(written[0].read_text())))
    assert {line["source"] for line in lines} == {"ours"}
    assert "paper" not in written[0].read_text()
    assert len(lines) == 3 + 4 * 2
    table = json.loads(written[1].read_text())
    assert table["paper"]["rows"]["AutoPrune"] == [105.06, None]
    markdown = written[2].read_text()
    assert "| AutoPrune (paper, Senna-7B, nuScenes) | 105.06 |  |" in markdown
    for name in ("random (control)", "uniform (control)", "no-image (control)", "majority (control)", "unpruned accuracy"):
        assert name in markdown
    assert "![retention by budget](figures/retention_by_budget.png)" in markdown
    assert to_csv(result.table) == written[0].read_text()


def test_clamped_curves_are_warned_of(place: Place) -> None:
    result = sweep(sweep_config(place, methods="autoprune:gamma=50", retention=(0.8,)), talking().senna)
    assert any("clamped at 0" in warning for warning in result.table["warnings"])
    assert "clamped at 0" in to_markdown(result.table)


def test_a_broken_image_leaves_the_table_to_the_other_samples(place: Place) -> None:
    (place.folder / "images" / "1-0.png").write_bytes(b"broken")
    result = sweep(sweep_config(place, retention=(0.5, 0.8)), talking().senna)
    assert result.failed == SETTINGS - 1  # not those of the cell that cannot be
    assert result.table["facts"]["questions"] == 3
    assert {cell["status"] for cell in result.table["cells"] if cell["row"] != "fastv"} == {"ok"}


def test_no_answers_no_crash(place: Place) -> None:
    """A model that never says a plan has nothing to retain; the table says so."""
    result = sweep(sweep_config(place, retention=(0.8,), methods="autoprune"), counting_senna().senna)
    assert all(cell["retention"]["value"] is None for cell in result.table["cells"])
    assert "there is nothing to retain" in to_markdown(result.table)
    assert len(draw_all(result.directory, result.table, result.answers, result.questions)) == 3


def test_pareto_front_and_view_names() -> None:
    assert pareto_front([(3, 9), (1, 5), (2, 4), (2, 7), (4, 9)]) == [(1, 5), (2, 7), (3, 9)]
    images = ("samples/CAM_FRONT/a__CAM_FRONT__1.jpg", "samples/CAM_FRONT_LEFT/b.jpg")
    question = QuestionRow(0, "t", "plan", "", "", images, "s", True, {})
    assert view_names([question], 2) == ["front", "front left"]
    assert view_names([question], 3) == ["view 1", "view 2", "view 3"]
    assert view_names([question, _question(1, "a")], 1) == ["view 1"]
