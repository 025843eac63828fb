"""The sweep's part by question type: by hand, the paper's ratio against its slow twin, and with free text beside."""

import numpy as np
import pytest

from senna_autoprune.evaluation.runs.rows import NO_IMAGE, UNPRUNED, AnswerRow, QuestionRow
from senna_autoprune.evaluation.sweep.by_type import by_type, mean_ratio
from senna_autoprune.evaluation.sweep.cells import cells_of
from senna_autoprune.evaluation.sweep.config import SweepConfig
from senna_autoprune.tables.by_type import type_grids
from tests.evaluation.twins import drawn_times

LABELS = {"plan": ("KEEP, STRAIGHT", "STOP, STRAIGHT"), "light": ("Red", "None"), "description": ("It is day.", "It is night.")}


def made(kinds=("plan", "light", "description"), lost=("plan", "description")):
    """40 questions of each kind in 10 scenes; FastV loses every fourth of ``lost``.

    Unpruned knows all plans, and every second light and description.
    """
    cells = cells_of(SweepConfig(questions="q", methods=("fastv",), retention=(0.25,)), None)
    questions, rows = [], []
    for kind in kinds:
        right, wrong = LABELS[kind]
        for number in range(40):
            index = len(questions)
            label = wrong if kind == "light" and number % 8 == 0 else right
            questions.append(QuestionRow(index, f"t{index}", kind, "?", label, (), f"s{number // 4}", True, {}))
            knows = kind == "plan" or number % 2  # of free text it does not matter whether unpruned says what the label says
            before = label if knows else "Green" if kind == "light" else "It rains."
            rows += [AnswerRow(index, UNPRUNED, "ok", before), AnswerRow(index, NO_IMAGE, "ok", wrong)]
            for cell in cells:
                after = wrong if cell.row.label == "fastv" and kind in lost and number % 4 == 0 else before
                rows.append(AnswerRow(index, cell.setting.name, "ok", after))
    return cells, questions, rows


def test_by_hand():
    found = by_type(*made(), resamples=200)
    assert found["types"] == {
        "plan": {"questions": 40, "closed": True},
        "light": {"questions": 40, "closed": True},
        "description": {"questions": 40, "closed": False},
    }
    plain = found["plain"]
    assert set(plain) == {"plan", "light"} and plain["plan"]["unpruned"]["value"] == 1 and plain["light"]["unpruned"]["value"] == 0.5
    assert plain["light"]["majority"]["answer"] == "Red" and plain["light"]["majority"]["value"] == 35 / 40
    assert plain["light"]["no-image"]["value"] == 5 / 40 and plain["plan"]["no-image"]["value"] == 0
    kept = next(cell for cell in found["cells"] if cell["row"] == "fastv")["retention"]
    assert kept["plan"]["value"] == 0.75 and kept["light"]["value"] == 1 and kept["description"]["value"] == 0.75
    assert kept["pooled"]["value"] == pytest.approx((30 + 20) / (40 + 20)) and kept["ratio"]["value"] == pytest.approx((0.75 + 1) / 2)
    assert kept["pooled"]["low"] < kept["pooled"]["value"] < kept["pooled"]["high"]


def test_the_best_constant_answer_is_not_the_most_frequent_label():
    """ "No." is the commonest of 40 labels, but every "yes", whatever it names, is right for the 24 others."""
    labels = ["No."] * 16 + ["Yes, I see a pedestrian."] * 12 + ["Yes, I see a bicycle."] * 12
    cells, questions, rows = made(kinds=("plan", "light"))
    for number, label in enumerate(labels):
        index = len(questions)
        questions.append(QuestionRow(index, f"t{index}", "vru", "?", label, (), f"s{number // 4}", True, {}))
        rows += [AnswerRow(index, name, "ok", label) for name in {row.setting for row in rows}]
    constant = by_type(cells, questions, rows, resamples=50)["plain"]["vru"]["majority"]
    assert constant["answer"].startswith("Yes") and constant["value"] == 24 / 40


def test_one_type_needs_no_such_table():
    assert by_type(*made(kinds=("plan",))) is None
    cells, questions, rows = made()
    assert by_type(cells, questions, [row for row in rows if row.setting != UNPRUNED]) is None


def test_only_questions_that_all_answered():
    cells, questions, rows = made()
    short = [row for row in rows if not (row.setting == "fastv@0.25" and row.question == 0)]
    assert by_type(cells, questions, short)["types"]["plan"]["questions"] == 39


def test_the_ratio_is_its_slow_twin():
    rng = np.random.default_rng(3)
    sizes, scenes = (24, 36), [f"s{i}" for i in rng.integers(6, size=60)]
    pairs = [tuple(list(rng.random(size) < share) for share in (0.8, 0.6)) for size in sizes]
    found = mean_ratio(pairs, scenes, 300, 5)
    assert found.value == pytest.approx(np.mean([sum(after) / sum(before) for before, after in pairs]))
    names = list(dict.fromkeys(scenes))
    draws = []
    for counts in drawn_times(len(names), 300, 5):
        weight, ratios, start = dict(zip(names, counts, strict=True)), [], 0
        for before, after in pairs:
            mine = [weight[scene] for scene in scenes[start : start + len(before)]]
            ratios.append(sum(w * a for w, a in zip(mine, after, strict=True)) / sum(w * b for w, b in zip(mine, before, strict=True)))
            start += len(before)
        draws.append(np.mean(ratios))
    assert [found.low, found.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]))


def test_grids_say_it():
    plain, kept = type_grids(by_type(*made(), resamples=100))
    assert [row[0] for row in plain.rows] == ["plan", "light"] and "light: Red" in plain.notes[0]
    assert kept.columns == ["method", "budget", "plan", "light", "description (same words)", "all closed questions", "ratio"]
    assert any(row[0] == "fastv" and row[2].startswith("75.0") and row[-1].startswith("87.5") for row in kept.rows)
    assert "description" in kept.notes[-1]
