"""Weights of a sample: by hand, against sampling itself, and in a run's measures and tables."""

from __future__ import annotations

import numpy as np
import pytest

from senna_autoprune import SennaPruneError
from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.measures.summary import summarise
from senna_autoprune.evaluation.measures.weighted import effective_size, weighted_measures, weights_of
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.formats.select import sample_questions
from senna_autoprune.nuscenes.questions_file import read_questions
from senna_autoprune.tables.run import grids
from tests.evaluation.budget.fake import KEEP, LABELS, STOP, question_file


def row(number: int, label: str, weight: float | None, scene: str = "a") -> QuestionRow:
    attributes = attributes_of("?", None, None) | ({} if weight is None else {"weight": repr(weight)})
    return QuestionRow(number, f"t{number}", "plan", "?", label, (), scene, True, attributes)


def test_by_hand() -> None:
    """Two KEEP that stand for eight, two STOP that stand for two: pruned misses one of each."""
    questions = [row(0, KEEP, 1.6), row(1, KEEP, 1.6, "b"), row(2, STOP, 0.4), row(3, STOP, 0.4, "b")]
    texts = {"unpruned": {0: KEEP, 1: KEEP, 2: STOP, 3: KEEP}, "autoprune": {0: KEEP, 1: STOP, 2: STOP, 3: STOP}}
    found = weighted_measures(questions, texts, None, 0, 100)
    unpruned, pruned = found["settings"]["unpruned"], found["settings"]["autoprune"]
    assert unpruned["accuracy"]["value"] == pytest.approx(3.6 / 4) and pruned["accuracy"]["value"] == pytest.approx(2.4 / 4)
    assert pruned["retention"]["value"] == pytest.approx(2.4 / 3.6) and pruned["agreement"]["value"] == pytest.approx(2.0 / 4)
    assert pruned["accuracy"]["low"] < pruned["accuracy"]["value"] and "retention" not in unpruned
    assert pruned["retention"]["resamples"] == pruned["accuracy"]["resamples"] == pruned["agreement"]["resamples"] == 100
    alone = weighted_measures(questions, {"autoprune": texts["autoprune"]}, None, 0, 100)
    assert alone["settings"]["autoprune"] == {"accuracy": pruned["accuracy"]}
    assert found["effective"] == pytest.approx(16 / (2 * 1.6**2 + 2 * 0.4**2)) and (found["count"], found["labelled"]) == (4, 4)


def test_the_seed_decides_every_interval() -> None:
    questions = [row(i, KEEP, 0.5 + i / 20, f"s{i}") for i in range(40)]
    texts = {"unpruned": {i: KEEP if i % 7 else STOP for i in range(40)}, "half": {i: KEEP if i % 3 else STOP for i in range(40)}}
    once, again, other = (weighted_measures(questions, texts, None, seed, 100)["settings"]["half"] for seed in (0, 0, 1))
    assert once == again and all(once[name] != other[name] for name in ("accuracy", "retention", "agreement"))


def test_even_weights_are_none() -> None:
    assert weights_of([row(0, KEEP, None), row(1, KEEP, None)]) is None and weights_of([]) is None
    assert weights_of([row(0, KEEP, 1.25), row(1, KEEP, None)]).tolist() == [1.25, 1.0]  # of some that are drawn beside the others
    assert weights_of([row(0, KEEP, 1.25), row(1, KEEP, 1.25)]) is None and effective_size(np.full(7, 1.25)) == pytest.approx(7)
    assert weighted_measures([row(0, KEEP, 1.0)], {"unpruned": {0: KEEP}}, None, 0, 100) is None


def test_a_balanced_sample_weighted_is_the_file(tmp_path) -> None:
    """Over many draws: the plain share of a balanced sample is off by far, the weighted one is not."""
    import json

    path = question_file(tmp_path, 60, 3)
    records = json.loads(path.read_text())
    for index, record in enumerate(records):  # eight of nine KEEP
        record["conversations"][1]["value"] = STOP if index % 9 == 1 else KEEP
    path.write_text(json.dumps(records))
    plain, weighted = [], []
    for seed in range(30):
        out = tmp_path / f"sample{seed}.json"
        sample_questions(path, out, 30, seed=seed)
        questions, _ = load_questions(AskConfig(questions=str(out)))
        said = {q.question: KEEP for q in questions}
        found = weighted_measures(questions, {"unpruned": said}, None, 0, 100)
        weighted.append(found["settings"]["unpruned"]["accuracy"]["value"])
        plain.append(np.mean([q.label == KEEP for q in questions]))
    assert np.mean(plain) == pytest.approx(0.5, abs=0.01) and np.mean(weighted) == pytest.approx(8 / 9, abs=1e-6)


def test_a_runs_measures_hold_both(tmp_path) -> None:
    questions = [row(i, LABELS[i % 3], (0.5, 1.0, 1.5)[i % 3], f"s{i // 3}") for i in range(36)]
    rows = [
        AnswerRow(q.question, name, "ok", KEEP if name == "autoprune" else q.label) for q in questions for name in ("unpruned", "autoprune")
    ]
    for one in rows:
        object.__setattr__(one, "prefill_ms", 1.0)
    found = summarise(questions, rows, "autoprune", resamples=100)
    assert found["settings"]["autoprune"]["plan"]["exact_accuracy"] == pytest.approx(1 / 3)
    assert found["weighted"]["plan"]["settings"]["autoprune"]["accuracy"]["value"] == pytest.approx(1 / 6)
    assert found["weighted"]["plan"]["settings"]["majority"]["accuracy"]["value"] is not None
    (grid,) = [grid for grid in grids(found) if grid.title.startswith("Weighted back")]
    assert [line[0] for line in grid.rows][:2] == ["unpruned", "autoprune"] and grid.rows[1][1].startswith("16.7 %")
    assert "weighted" not in summarise([row(q.question, q.label, None, q.scene) for q in questions], rows, "autoprune", resamples=100)


@pytest.mark.parametrize("weight", [0, -1, "2", True, float("nan")])
def test_a_weight_is_a_number_above_0(weight, tmp_path) -> None:
    import json

    path = question_file(tmp_path, 1, 3)
    records = json.loads(path.read_text())
    records[1]["senna_prune"]["weight"] = weight
    path.write_text(json.dumps(records))
    assert len(read_questions(path).records) == 3 or weight != weight
    with pytest.raises(SennaPruneError, match=r"weight|NaN"):
        load_questions(AskConfig(questions=str(path)))
