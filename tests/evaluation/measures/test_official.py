"""The original planning metric against its recordings, and the quirks one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from senna_autoprune.evaluation.measures.official import is_right, planning_metric, planning_score
from tests.fixtures import shared

QUESTION = "... Please answer your SPEED plan and your PATH plan. ..."


def _record(token: str, gt: str, answer: str, question: str = QUESTION) -> dict[str, str]:
    return {"token": token, "question": question, "gt": gt, "answer": answer}


def test_every_recording_agrees_to_the_last_character() -> None:
    recordings: list[dict[str, Any]] = json.loads(shared("fixtures", "senna-qa", "plan_metric.json").read_text())
    assert len(recordings) >= 40
    for recording in recordings:
        printed: list[str] = []
        records = [_record(f"t{i}", case["gt"], case["answer"], case["question"]) for i, case in enumerate(recording["cases"])]
        exception = None
        saved = None
        try:
            saved = planning_metric(records, "TMP/o.json", printed.append).saved
        except (ValueError, ZeroDivisionError) as error:
            exception = f"{type(error).__name__}: {error}"
        assert exception == recording.get("exception"), recording["name"]
        assert "".join(line + "\n" for line in printed) == recording["stdout"], recording["name"]
        # as text: 0 is not 0.0, and the order of the keys counts
        assert json.dumps(saved) == json.dumps(recording.get("saved")), recording["name"]


def test_an_answer_of_all_words_is_a_true_positive_of_every_key() -> None:
    score = planning_metric([_record("a", "STOP, STRAIGHT\n", "KEEP STOP STRAIGHT ACCELERATE DECELERATE")])
    assert score.accuracy == 1.0
    assert [score.f1_score[key] for key in ("KEEP", "ACCELERATE", "DECELERATE", "STOP", "STRAIGHT")] == [1.0] * 5
    assert score.saved.keys() == {"summary", "f1_score"}


def test_lane_changes_count_for_the_accuracy_but_have_no_f1() -> None:
    score = planning_metric([_record("a", "KEEP, LEFT_CHANGE\n", "KEEP, LEFT_CHANGE")])
    assert score.accuracy == 1.0
    assert set(score.f1_score) == {"KEEP", "ACCELERATE", "DECELERATE", "STOP", "RIGHT_TURN", "LEFT_TURN", "STRAIGHT"}
    assert score.f1_score["STRAIGHT"] == 0


def test_failures_are_kept_by_token_and_the_last_of_one_token_stays() -> None:
    score = planning_metric([_record("a", "KEEP, STRAIGHT\n", "keep, straight"), _record("a", "STOP, STRAIGHT\n", "GO")])
    assert score.total == 2
    assert score.correct == [False, False]
    assert score.saved["a"] == {"gt": "STOP, STRAIGHT\n", "pred": "GO"}


@pytest.mark.parametrize(("gt", "error"), [("KEEP,STRAIGHT\n", ValueError), ("A, B, C\n", ValueError), ("FLY, STRAIGHT\n", KeyError)])
def test_labels_that_stop_the_original_stop_us(gt: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        planning_metric([_record("a", gt, "KEEP, STRAIGHT")])


def test_nothing_to_count_is_the_originals_division_by_zero() -> None:
    with pytest.raises(ZeroDivisionError):
        planning_metric([_record("a", "KEEP, STRAIGHT\n", "KEEP, STRAIGHT", "What colour is the light?")])


def test_is_right_is_the_metrics_own_rule() -> None:
    assert is_right("KEEP, LEFT_TURN\n", "I KEEP going, LEFT_TURN or RIGHT_TURN")
    assert not is_right("KEEP, LEFT_TURN\n", "keep, left_turn")
    assert not is_right("KEEP, LEFT_TURN now\n", "KEEP, LEFT_TURN")  # a label's path is its whole line


def test_a_label_for_every_answer() -> None:
    with pytest.raises(ValueError):
        planning_score(["KEEP, STRAIGHT\n", "KEEP, STRAIGHT\n"], ["KEEP, STRAIGHT"])
