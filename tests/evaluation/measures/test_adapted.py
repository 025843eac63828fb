"""What an adapter's answers are measured by: every figure by hand, over a reading of two labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.evaluation.measures.adapted import adapted_measures, judges, read_severity, right_or_same
from senna_autoprune.evaluation.runs.rows import QuestionRow


class Invalid(str):
    """As the adapters' own: known by the name of its class."""


class YesNo:
    """Yes, no or so, and anything else is invalid."""

    def __init__(self, kind: str = "label", plain: bool = False) -> None:
        self._kind, self._plain = kind, plain

    def kind(self, question_type: str) -> str:
        assert question_type in ("safe", "plan", "vru"), question_type
        return self._kind

    def plain(self, question_type: str) -> bool:
        return self._plain

    def answer(self, question_type: str, text: str, question: str = "") -> str:
        assert question_type == "safe" and question.endswith("?")
        said = text.strip().lower()
        return said if said in ("yes", "no", "so") else Invalid(text)

    def label(self, question_type: str, text: str, question: str = "") -> str | None:
        found = self.answer(question_type, text, question)
        return None if isinstance(found, Invalid) else found

    def same(self, one: str, other: str) -> bool:
        return one == other and not isinstance(one, Invalid)

    def measure(self, question_type: str, labels: Sequence[str], answers: Sequence[str], futures: Any = None) -> dict[str, Any]:
        assert question_type == "safe"
        return {"labels": list(labels), "answers": list(answers), "futures": futures and [future.path.tolist() for future in futures]}

    def agreement(self, answers: Sequence[str], reference: Sequence[str]) -> dict[str, Any]:
        return {"of": (list(answers), list(reference))}


def asked(number: int, label: str, scene: str = "", **more: Any) -> QuestionRow:
    return QuestionRow(number, f"t{number}", "safe", "safe?", label, (), scene or f"s{number}", True, {}, **more)


QUESTIONS = [asked(4, "yes"), asked(5, "no"), asked(6, "yes"), asked(7, " "), asked(8, "maybe")]
TEXTS = {
    "unpruned": {4: "Yes", 5: "no", 6: "yes", 7: "no", 8: "yes"},
    "half": {4: "yes", 5: "yes", 6: "eh", 7: "no", 8: "no"},
    "random": {4: "no", 5: "no", 6: "no", 7: "no", 8: "no"},
}


def test_measures_by_hand() -> None:
    """Three of five have a label; agreement needs none."""
    found = adapted_measures(QUESTIONS, TEXTS, YesNo(), 0)
    half, unpruned = found["half"], found["unpruned"]
    assert list(found) == list(TEXTS) and (half["kind"], half["count"], half["unlabelled"]) == ("label", 5, 2)
    assert half["measures"] == {"labels": ["yes", "no", "yes"], "answers": ["yes", "yes", "eh"], "futures": None}
    assert half["agreement"]["of"] == (["yes", "yes", "eh", "no", "no"], ["yes", "no", "yes", "no", "yes"])
    assert half["agreement"]["interval"]["value"] == pytest.approx(2 / 5) and half["agreement"]["interval"]["scenes"] == 5
    assert half["accuracy"]["value"] == pytest.approx(1 / 3) and half["accuracy"]["scenes"] == 3
    assert half["retention"]["accuracy"]["value"] == pytest.approx(1 / 3) and unpruned["accuracy"]["value"] == 1
    assert list(half["scene_test_against"]) == list(half["mcnemar_against"]) == ["unpruned", "random"]
    tests = half["scene_test_against"]
    assert (tests["unpruned"]["scenes_worse"], tests["random"]["scenes_worse"], tests["random"]["scenes_better"]) == (2, 1, 1)
    assert list(found["random"]["mcnemar_against"]) == ["unpruned"]
    lost = half["mcnemar_against"]["unpruned"]
    assert (lost["lost"], lost["gained"]) == (2, 0)


def test_without_the_unpruned_model_there_is_no_agreement_and_no_retention() -> None:
    found = adapted_measures(QUESTIONS, {"half": TEXTS["half"]}, YesNo(), 0)["half"]
    assert "agreement" not in found and "retention" not in found and found["scene_test_against"] == {}


def test_text_is_neither_right_nor_wrong_and_no_label_means_no_measure() -> None:
    open_ended = adapted_measures(QUESTIONS, TEXTS, YesNo("text"), 0)["half"]
    assert "measures" in open_ended and "accuracy" not in open_ended
    unlabelled = adapted_measures([asked(4, ""), asked(5, "")], TEXTS, YesNo(), 0)["half"]
    assert unlabelled["unlabelled"] == 2 and not {"measures", "accuracy"} & set(unlabelled) and "agreement" in unlabelled


def test_an_adapters_measures_are_of_the_labelled_questions_alone() -> None:
    reading = Reading.of({"parse": {"kind": "label", "labels": ["yes", "no"]}})
    found = adapted_measures(QUESTIONS, TEXTS, reading, 0)["half"]
    assert (found["unlabelled"], found["measures"]["count"], found["measures"]["invalid"]) == (2, 3, 1)
    assert found["measures"]["accuracy"] == pytest.approx(1 / 3)


def test_a_driven_path_is_a_label() -> None:
    """Where any question has one, those without are unlabelled, whatever their label says."""
    path = {"path": [[0.0, 1.0 + i] for i in range(3)], "boxes": [[]] * 3}
    found = adapted_measures([asked(4, "", future=path), asked(5, "no")], TEXTS, YesNo("waypoints"), 0)["half"]
    assert found["unlabelled"] == 1 and found["measures"]["answers"] == ["yes"]
    assert found["measures"]["futures"] == [path["path"]]


def test_right_or_same() -> None:
    hits, over = right_or_same(QUESTIONS, TEXTS, YesNo())
    assert [q.question for q in over] == [4, 5, 6]
    assert hits == {"unpruned": [True, True, True], "half": [True, False, False], "random": [False, True, False]}
    wrong = {**TEXTS, "unpruned": {**TEXTS["unpruned"], 5: "yes"}}  # where there are labels, they say what is right
    assert right_or_same(QUESTIONS, wrong, YesNo())[0] == {**hits, "unpruned": [True, False, True]}
    fewer = {**TEXTS, "half": {4: "yes", 7: "no"}}  # answered by all: 4 and 7
    assert right_or_same(QUESTIONS, fewer, YesNo()) == ({name: [name != "random"] for name in TEXTS}, QUESTIONS[:1])
    hits, over = right_or_same(QUESTIONS, TEXTS, YesNo("text"))  # no labels of text: as the unpruned model says
    assert len(over) == 5 and hits["half"] == [True, False, False, True, False] and hits["unpruned"] == [True] * 5
    assert right_or_same(QUESTIONS, {"half": TEXTS["half"]}, YesNo("text")) == ({"half": []}, [])
    assert right_or_same([], TEXTS, YesNo()) == ({name: [] for name in TEXTS}, [])


@pytest.mark.parametrize(
    ("label", "unpruned", "pruned", "severity"),
    [
        ("yes", "yes", " Yes", "wording"),
        ("yes", "no", "yes", "repaired"),
        ("yes", "eh", "yes", "repaired"),
        ("yes", "yes", "no", "broken"),
        ("yes", "yes", "eh", "no_answer"),
        ("yes", "no", "eh", "no_answer"),
        ("no", "eh", "yes", "both_wrong"),
        ("yes", "no", "so", "both_wrong"),
        ("no", "eh", "hm", "both_wrong"),
        ("", "yes", "no", "broken"),  # without a label unpruned is right if it could be read
        ("", "eh", "no", "both_wrong"),
        ("", "yes", "eh", "no_answer"),
    ],
)
def test_severity(label: str, unpruned: str, pruned: str, severity: str) -> None:
    assert read_severity(asked(4, label), unpruned, pruned, YesNo()) == severity


def test_an_empty_label_is_none_though_a_reading_would_read_it() -> None:
    """Any text is a label of text, but for one that is not there."""
    reading = Reading.of({"parse": {"kind": "text"}})
    assert read_severity(asked(4, " "), "a", "b", reading) == "broken" and read_severity(asked(4, "c"), "a", "b", reading) == "both_wrong"
    found = adapted_measures([asked(4, " "), asked(5, "a")], {"unpruned": {4: "a", 5: "a"}}, reading, 0)["unpruned"]
    assert (found["unlabelled"], found["measures"]["count"]) == (1, 1)


def test_who_judges() -> None:
    """The table of Senna's types judges them where they are read as Senna's; the adapter judges all else."""
    own = ("plan", "vru", "light", "motion", "description", "explanation")
    assert not any(judges(name, None) for name in (*own, "safe")) and not any(judges(name, Reading()) for name in own)
    assert judges("safe", Reading()) and all(judges(name, YesNo()) for name in own)
    assert not judges("plan", YesNo("plan")) and judges("vru", YesNo("plan"))
