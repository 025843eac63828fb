"""Right, labelled and alike: by Senna's parsers for Senna's own types, by the adapter for all others; and a run measured so."""

from __future__ import annotations

from typing import Any

import pytest

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.evaluation.measures.rightness import agree, closed, labelled, right
from senna_autoprune.evaluation.measures.summary import flips_between, summarise, texts_of
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from tests.evaluation.measures.test_adapted import YesNo

JSON_PLAN = Reading.of({"parse": {"by_type": {"plan": {"kind": "json", "path": "plan", "then": "plan"}}}})
KEEP, STOP = '{"plan": "KEEP, STRAIGHT"}', '{"plan": "STOP, STRAIGHT"}'


def asked(kind: str, label: str, number: int = 0, **more: Any) -> QuestionRow:
    values = {
        "text": f"{kind}?",
        "scene": f"s{number}",
        "attributes": dict.fromkeys(("light", "weather", "location", "speed_band", "command"), ""),
    }
    return QuestionRow(
        **{"question": number, "token": f"t{number}", "type": kind, "label": label, "images": (), "scene_known": True, **values, **more}
    )


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("plan", "KEEP, STRAIGHT", "on"),
        ("vru", "No.", "Perhaps"),
        ("light", "Red", "a lamp"),
        ("motion", "Object 1: KEEP, STRAIGHT", "none"),
    ],
)
def test_a_label_that_can_be_read(kind: str, good: str, bad: str) -> None:
    assert closed(kind) and labelled(asked(kind, good)) and not labelled(asked(kind, bad))
    assert right(asked(kind, good), good) and not right(asked(kind, good), bad) and agree(asked(kind, bad), good, f" {good}\n")


def test_free_text_is_neither() -> None:
    assert not closed("description") and not labelled(asked("description", "a road")) and not closed("safe")
    assert agree(asked("description", ""), "a road", "a road ") and not agree(asked("description", ""), "a road", "a street")
    assert agree(asked("vru", ""), "?", "?") and not agree(asked("vru", ""), "?", "!")  # the same words say the same, whatever they say


def test_the_adapters_own_types() -> None:
    reading = YesNo()
    assert closed("safe", reading) and not closed("safe", YesNo("text"))
    assert labelled(asked("safe", " yes"), reading)
    assert not labelled(asked("safe", " "), reading) and not labelled(asked("safe", "eh"), reading)
    assert not labelled(asked("safe", "yes"), YesNo("text"))
    assert right(asked("safe", "yes"), "Yes", reading) and not right(asked("safe", "yes"), "no", reading)
    assert not right(asked("safe", "eh"), "eh", reading)
    assert agree(asked("safe", ""), "Yes", "yes", reading) and not agree(asked("safe", ""), "Yes", "no", reading)


def test_an_adapter_that_reads_as_senna_does_leaves_sennas_types_to_senna() -> None:
    """To the adapter's own reading they are free text."""
    reading, question = Reading(), asked("vru", "Yes, I see a pedestrian located 3 meters ahead of me.")
    assert closed("vru", reading) and labelled(question, reading) and not labelled(asked("vru", "Perhaps"), reading)
    assert right(question, "Yes.", reading) and not right(question, "No.", reading)
    assert agree(question, "Yes, I see a bicycle located 9 meters ahead of me.", "Yes.", reading)
    assert closed("choice", reading) and not closed("explanation", reading)


def test_a_plan_in_json_is_sennas_plan() -> None:
    question = asked("plan", "KEEP, STRAIGHT")
    assert closed("plan", JSON_PLAN) and labelled(question, JSON_PLAN)
    assert right(question, KEEP, JSON_PLAN) and not right(question, STOP, JSON_PLAN) and not right(question, KEEP)
    assert agree(question, KEEP, '{"plan": "KEEP,STRAIGHT", "why": ""}', JSON_PLAN) and not agree(question, KEEP, STOP, JSON_PLAN)
    found = flips_between([question], {0: KEEP}, {0: STOP}, "half", JSON_PLAN)
    assert [(flip.severity, flip.unpruned, flip.pruned) for flip in found] == [("false_brake", KEEP, STOP)]
    rows = {"half": [AnswerRow(0, "half", "ok", KEEP), AnswerRow(1, "half", "ok", KEEP)]}
    said = texts_of([question, asked("explanation", "", 1)], rows, JSON_PLAN)["half"]
    assert said == {0: "KEEP, STRAIGHT\n", 1: KEEP}  # nothing but a plan is a plan
    assert texts_of([question], rows, None) == {"half": {0: KEEP, 1: KEEP}} == texts_of([question], rows, YesNo(plain=True))


def test_the_same_words_of_other_questions_may_mean_something_else() -> None:
    """A is what the first question calls Stop and the second Go."""
    questions = [asked("choice", "Stop", 0, text="?\nA. Stop. B. Go."), asked("choice", "Stop", 1, text="?\nA. Go. B. Stop.")]
    found = flips_between(questions, {0: "A", 1: "A"}, {0: "B", 1: "B"}, "half", Reading())
    assert [(flip.question, flip.severity) for flip in found] == [(0, "broken"), (1, "repaired")]


def row(number: int, setting: str, answer: str, **more: Any) -> AnswerRow:
    return AnswerRow(number, setting, "ok", answer, None, 1.0, 1.0, 1.0, 4, 10, **more)


def test_a_runs_measures_read_plans_as_its_adapter_does() -> None:
    questions = [asked("plan", "KEEP, STRAIGHT", i) for i in range(4)] + [asked("plan", "", 4)]
    rows = [row(i, "unpruned", KEEP) for i in range(5)] + [row(i, "half", STOP if i == 1 else KEEP) for i in range(5)]
    found = summarise(questions, rows, "half", resamples=50, reading=JSON_PLAN)
    entry = found["settings"]["half"]
    assert entry["plan"]["exact_accuracy"] == 3 / 4 == entry["measures"]["plan"]["accuracy"]["value"]
    assert (entry["plan"]["agreement"], entry["measures"]["plan"]["unlabelled"]) == (3 / 4, 1)
    assert found["unlabelled"] == {"plan": 1} and found["flips"]["half"]["list"][0]["severity"] == "false_brake"
    assert found["bootstrap"] == {"resamples": 50, "seed": 0, "level": 0.95, "unit": "scene"}
    assert {name: one["kind"] for name, one in found["settings"].items()} == {
        "unpruned": "model", "half": "model", "majority": "answer", "random-answer": "answer",
    }  # fmt: skip


def test_labels_that_nobody_reads_are_counted_by_type() -> None:
    """A driven path is a label, whatever the words are; Senna's types are read as Senna's where the adapter reads them plainly."""
    driven = {"path": [[0.0, 1.0 + step] for step in range(6)], "boxes": [[]] * 6}
    questions = [asked("safe", "", 0), asked("safe", "yes", 1), asked("vru", "Hm", 2), asked("vru", "No.", 3), asked("plan", "on", 4)]
    rows = [row(i, "unpruned", "yes") for i in range(6)]
    for reading in (Reading(), None):
        assert summarise(questions, rows, "half", reading=reading)["unlabelled"].items() >= {"vru": 1, "plan": 1}.items()
    assert summarise(questions, rows, "half", reading=Reading())["unlabelled"] == {"safe": 1, "vru": 1, "plan": 1}
    paths = Reading.of({"parse": {"kind": "waypoints"}})
    found = summarise([asked("safe", "", 0, future=driven), asked("safe", "", 1)], rows, "half", reading=paths)
    assert found["unlabelled"] == {"safe": 1}


def test_weights_are_of_what_the_adapter_reads() -> None:
    questions = [asked("plan", "KEEP, STRAIGHT", i, attributes={**asked("plan", "").attributes, "weight": str(0.5 + i)}) for i in range(2)]
    rows = [row(0, "unpruned", KEEP), row(1, "unpruned", KEEP), row(0, "half", '{"plan": "KEEP,STRAIGHT"}'), row(1, "half", STOP)]
    found = summarise(questions, rows, "half", resamples=20, reading=JSON_PLAN)["weighted"]["plan"]["settings"]["half"]
    assert [found[name]["value"] for name in ("accuracy", "retention", "agreement")] == [0.25] * 3


def test_a_runs_measures_of_the_adapters_own_types() -> None:
    """No table of plans where the adapter's plans are none; weights and missing pictures are said."""
    labels = ["yes", "no", "yes", " ", "eh"]
    questions = [asked("safe", label, i, attributes={"weight": str(1.5 - (i % 2))}) for i, label in enumerate(labels)]
    rows = [row(i, "unpruned", ["yes", "no", "yes", "no", "no"][i], missing_frames=i) for i in range(5)]
    rows += [row(i, "half", "yes") for i in range(5)]
    found = summarise(questions, rows, "half", resamples=50, reading=YesNo())
    assert "plan" not in found["settings"]["half"] and "majority" not in found["settings"]
    entry = found["settings"]["half"]["measures"]["safe"]
    assert (entry["accuracy"]["value"], entry["unlabelled"]) == (pytest.approx(2 / 3), 2)
    assert entry["agreement"]["interval"]["value"] == pytest.approx(2 / 5)
    assert found["unlabelled"] == {"safe": 2}
    assert found["missing_frames"] == {"pictures": 10, "questions": 4, "of": 5}
    assert found["weighted"]["safe"]["settings"]["half"]["accuracy"]["value"] == pytest.approx(3 / 3.5)
    assert [flip["severity"] for flip in found["flips"]["half"]["list"]] == ["broken"] * 3
    assert not closed("plan", YesNo("text")) and "weighted" not in summarise([asked("safe", "yes")], [row(0, "unpruned", "yes")], "half")
