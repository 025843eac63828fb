"""Rows -> measures: every setting on the same questions, beside its controls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.measures.controls import random_answers
from senna_autoprune.evaluation.measures.official import planning_metric
from senna_autoprune.evaluation.measures.summary import SCHEMA, flips_between, official_records, summarise
from senna_autoprune.evaluation.runs.rows import CUT, AnswerRow, QuestionRow

TEXT = "Your current speed is 6 m/s, the navigation command is 'go straight', state your SPEED plan."
KEEP, STOP, LEFT = "KEEP, STRAIGHT", "STOP, STRAIGHT", "KEEP, LEFT_TURN"
YES = "Yes, I see a bicycle located 3 meters ahead of me."


def _question(index: int, label: str, kind: str = "plan", scene: str | None = None, **changes: Any) -> QuestionRow:
    text = TEXT if kind == "plan" else "?"
    known = scene is not None
    facts = attributes_of(text, "Night, rain" if index % 2 else "Sunny", "boston")
    values = {"text": text, "images": ("a",), "scene": scene or f"t{index}", "scene_known": known, "attributes": facts}
    return QuestionRow(**{"question": index, "token": f"t{index}", "type": kind, "label": label, **values, **changes})


def _trace(tokens: float, k: float | None = 0.2) -> dict[str, Any]:
    return {
        "mutual_information": 1.0,
        "k": k,
        "x0": 2.0,
        "visual_tokens": 12,
        "text_tokens": 9,
        "tokens_per_layer": [12, int(2 * tokens - 12)],
        "average_tokens": tokens,
        "retention_tokens": tokens / 12,
        "per_view": [tokens / 2, tokens / 2],
        "flops_full": 100.0,
        "flops_pruned": 100.0 * tokens / 12,
        "kv_bytes": 10,
        "notes": ["a note"],
    }


def _row(question: int, setting: str, answer: str | None, ms: float = 10.0, **changes: Any) -> AnswerRow:
    status = "ok" if answer is not None else "failed"
    values = {"vision_ms": 5.0, "prefill_ms": ms, "decode_ms": 3.0, "new_tokens": 4, "kv_bytes": int(ms * 100)}
    return AnswerRow(question, setting, status, answer, **{**values, **changes})


LABELS = [KEEP, KEEP, STOP, LEFT, KEEP, STOP]
UNPRUNED = [KEEP, KEEP, STOP, LEFT, STOP, ""]
PRUNED = [KEEP, STOP, KEEP, LEFT, KEEP, "I think STOP, STRAIGHT"]


@pytest.fixture
def summary() -> dict[str, Any]:
    questions = [_question(i, f"{label}\n", scene=f"scene-{i // 2}") for i, label in enumerate(LABELS)]
    rows = [_row(i, "unpruned", text, 20.0 + i) for i, text in enumerate(UNPRUNED)]
    rows += [_row(i, "autoprune", text, 10.0 + i / 2, trace=_trace(8.0)) for i, text in enumerate(PRUNED)]
    return summarise(questions, rows, "autoprune", seed=3, resamples=200)


def test_measures_of_the_settings_by_hand(summary: dict[str, Any]) -> None:
    unpruned, pruned = (summary["settings"][name]["plan"] for name in ("unpruned", "autoprune"))
    assert unpruned["exact_accuracy"] == pytest.approx(4 / 6)
    assert pruned["exact_accuracy"] == pytest.approx(3 / 6)
    assert pruned["official"]["accuracy"] == pytest.approx(4 / 6)  # it reads words anywhere
    assert (unpruned["invalid"], pruned["invalid"]) == (1, 1)
    assert pruned["agreement"] == pytest.approx(2 / 6)
    assert pruned["retention"]["exact_accuracy"]["value"] == pytest.approx(3 / 4)
    assert pruned["retention"]["official_accuracy"]["value"] == pytest.approx(1.0)
    assert pruned["mcnemar_against"]["unpruned"] == {"lost": 2, "gained": 1, "p_value": 1.0}
    assert unpruned["retention"]["exact_accuracy"]["value"] == 1.0
    assert (summary["scenes"]["count"], summary["scenes"]["questions_without_scene"]) == (3, 0)


def test_the_seed_decides_the_bootstrap(summary: dict[str, Any]) -> None:
    questions = [_question(i, LABELS[i % 6], scene=f"s{i}") for i in range(30)]
    rows = [_row(i, name, said[i % 6]) for i in range(30) for name, said in (("unpruned", UNPRUNED), ("autoprune", PRUNED))]

    def interval(seed: int) -> Any:
        return summarise(questions, rows, "autoprune", seed, 100)["settings"]["autoprune"]["plan"]["retention"]["macro_f1"]

    assert interval(3) == interval(3) != interval(4) and interval(3)["resamples"] == 100


def test_what_a_summary_says_of_its_questions(summary: dict[str, Any]) -> None:
    assert summary["questions"]["label_counts"] == {KEEP: 3, STOP: 2, LEFT: 1} and summary["questions"]["by_type"] == {"plan": 6}
    assert list(summary["questions"]["label_counts"]) == [KEEP, STOP, LEFT] and "note" not in summary["scenes"]
    pruned = summary["settings"]["autoprune"]["plan"]
    assert (
        pruned["official"]["f1_score"]["STOP"]
        == planning_metric(
            {"token": "", "question": TEXT, "gt": f"{label}\n", "answer": said} for label, said in zip(LABELS, PRUNED, strict=True)
        ).f1_score["STOP"]
    )
    assert sum(group["count"] * group["agreement"] for group in summary["breakdown"]["light"]) == pytest.approx(2)
    assert pruned["official"]["correct"] == 4 and pruned["exact_accuracy_interval"]["value"] == 3 / 6
    drawn = random_answers([f"{label}\n" for label in LABELS], 3)
    assert (
        summary["settings"]["random-answer"]["plan"]["exact_accuracy"] == sum(a == f"{b}\n" for a, b in zip(drawn, LABELS, strict=True)) / 6
    )
    assert {summary["settings"][name]["kind"] for name in ("majority", "random-answer")} == {"answer"}
    assert list(summary["flips"]) == ["autoprune"] and summary["flips"]["autoprune"]["list"][0] == {
        "question": 2, "token": "t2", "scene": "scene-1", "type": "plan", "setting": "autoprune", "severity": "missed_brake",
        "label": f"{STOP}\n", "unpruned": STOP, "pruned": KEEP,
    }  # fmt: skip
    assert summary["verdict"]["evidence"]["tokens"] == pytest.approx(8 / 12) and summary["verdict"]["blind"][0]["tokens"] is None
    unknown = summarise([_question(0, KEEP), _question(1, KEEP, scene="s")], [_row(i, "unpruned", KEEP) for i in range(2)], "autoprune")
    assert unknown["scenes"]["note"].startswith(
        "the scene of 1 of 2 questions is unknown: each such sample counts as a scene of its own, so"
    )


def test_statistics_by_scene_stand_beside(summary: dict[str, Any]) -> None:
    pruned = summary["settings"]["autoprune"]["plan"]
    kept = pruned["retention"]["exact_accuracy"]
    assert kept["kind"] == "score" and kept["low"] < 3 / 4 < kept["high"]
    assert pruned["scene_test_against"]["unpruned"]["p_holm"] >= pruned["scene_test_against"]["unpruned"]["p_value"]
    assert (pruned["scene_test_against"]["unpruned"]["lost"], pruned["scene_test_against"]["unpruned"]["gained"]) == (2, 1)
    counted = summary["flips"]["autoprune"]["scenes"]
    assert (counted["compared"], counted["dangerous"], counted["harmful"]) == (3, 1, 2)
    assert (counted["dangerous_upper"], counted["harmful_upper"]) == (pytest.approx(0.865, abs=1e-3), pytest.approx(0.983, abs=1e-3))
    assert "too few for a verdict" in summary["scenes"]["warning"]
    assert summary["verdict"]["outcome"] == "too few scenes"
    assert summary["verdict"]["evidence"]["dangerous"] == 1
    assert {one["setting"] for one in summary["verdict"]["blind"]} == {"majority"}


def test_controls_without_a_model_are_on_the_same_questions(summary: dict[str, Any]) -> None:
    majority, drawn = (summary["settings"][name] for name in ("majority", "random-answer"))
    assert majority["answer"] == KEEP
    assert majority["plan"]["exact_accuracy"] == pytest.approx(3 / 6)
    assert majority["plan"]["official"]["accuracy"] == pytest.approx(3 / 6)
    assert majority["plan"]["retention"]["exact_accuracy"]["value"] == pytest.approx(3 / 4)
    assert drawn["plan"]["count"] == 6
    assert drawn["expected_accuracy"] == pytest.approx((3 / 6) ** 2 + (2 / 6) ** 2 + (1 / 6) ** 2)
    assert "cost" not in majority


def test_costs_are_paired_with_the_unpruned_rows(summary: dict[str, Any]) -> None:
    cost = summary["settings"]["autoprune"]["cost"]
    assert cost["prefill_ratio"]["median"] == pytest.approx(0.5)
    assert cost["kv_ratio"]["median"] == pytest.approx(0.5)
    assert cost["flops_ratio"] == pytest.approx(8 / 12)
    assert cost["prefill_speedup"] == pytest.approx(2.0)
    assert cost["flops_bound"] == pytest.approx(12 / 8)
    assert cost["reached"] == pytest.approx(2.0 * 8 / 12)
    assert cost["total_ms"]["median"] == pytest.approx(5 + 11.25 + 3)
    assert cost["total_ratio"]["median"] == pytest.approx((19 / 30 + 19.5 / 31) / 2)
    assert cost["pruner_ms"]["median"] is None  # traces of older runs do not say
    assert (cost["tokens_per_layer"], cost["tokens_per_view"]) == (8.0, 4.0)
    assert cost["schedule"] == [12.0, 4.0]
    assert cost["clamped"] == 0.0
    assert cost["notes"] == {"a note": 6}
    full = summary["settings"]["unpruned"]["cost"]
    assert (full["tokens_per_layer"], full["tokens_per_view"], full["flops_ratio"]) == (12.0, 6.0, 1.0)


def test_the_pruners_own_time_comes_from_the_traces() -> None:
    rows = [_row(0, "unpruned", KEEP), _row(0, "autoprune", KEEP, trace={**_trace(8.0), "pruner_ms": 2.5})]
    settings = summarise([_question(0, KEEP)], rows, "autoprune")["settings"]
    assert settings["autoprune"]["cost"]["pruner_ms"]["median"] == 2.5 and "pruner_ms" not in settings["unpruned"]["cost"]


def test_clamped_curves_are_counted() -> None:
    rows = [_row(0, "unpruned", KEEP), _row(0, "autoprune", KEEP, trace=_trace(8.0, k=0.0))]
    assert summarise([_question(0, KEEP)], rows, "autoprune")["settings"]["autoprune"]["cost"]["clamped"] == 1.0


def test_flips_are_listed_worst_first_with_tokens(summary: dict[str, Any]) -> None:
    flips = summary["flips"]["autoprune"]
    assert [(flip["token"], flip["severity"]) for flip in flips["list"]] == [
        ("t2", "missed_brake"),
        ("t1", "false_brake"),
        ("t5", "both_wrong"),
        ("t4", "repaired"),
    ]
    assert (flips["flips"], flips["harmful"], flips["compared"]) == (4, 2, 6)


def test_breakdown_adds_up(summary: dict[str, Any]) -> None:
    for groups in summary["breakdown"].values():
        assert sum(group["count"] for group in groups) == 6
    light = {group["value"]: group for group in summary["breakdown"]["light"]}
    assert light["day"]["count"] == light["night"]["count"] == 3
    assert summary["breakdown"]["command"][0]["value"] == "go straight"


def test_a_summary_is_json_without_nan(summary: dict[str, Any]) -> None:
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_only_questions_with_all_answers_count_and_failures_are_listed() -> None:
    questions = [_question(i, KEEP) for i in range(3)]
    rows = [_row(i, "unpruned", KEEP) for i in range(3)]
    rows += [_row(0, "autoprune", KEEP), _row(1, "autoprune", None, reason="out of memory on the device")]
    result = summarise(questions, rows, "autoprune")  # question 2 is not answered yet
    assert result["questions"]["asked"] == 3
    assert (result["questions"]["complete"], result["questions"]["failed_rows"], result["questions"]["failed_samples"]) == (1, 1, 1)
    assert result["schema"] == SCHEMA
    assert result["questions"]["failed"] == [
        {"question": 1, "token": "t1", "setting": "autoprune", "reason": "out of memory on the device"}
    ]
    assert result["settings"]["unpruned"]["plan"]["count"] == 1


def test_nothing_at_all_is_still_a_summary() -> None:
    result = summarise([_question(0, KEEP)], [_row(0, "unpruned", None, reason="x")], "autoprune")
    assert result["questions"]["complete"] == 0
    assert "plan" not in result["settings"]["unpruned"]
    assert summarise([], [], "autoprune")["settings"] == {}


def test_retention_without_a_right_unpruned_answer_is_none() -> None:
    rows = [_row(0, "unpruned", "?"), _row(0, "autoprune", KEEP)]
    retained = summarise([_question(0, KEEP)], rows, "autoprune")["settings"]["autoprune"]["plan"]["retention"]
    assert retained["exact_accuracy"]["value"] is None


def test_a_label_that_stops_the_original_is_reported_not_raised() -> None:
    rows = [_row(0, "unpruned", KEEP), _row(0, "autoprune", KEEP)]
    entry = summarise([_question(0, "KEEP,STRAIGHT\n")], rows, "autoprune")["settings"]["autoprune"]["plan"]
    assert entry["exact_accuracy"] == 1.0
    assert entry["official"]["accuracy"] is None
    assert entry["official"]["error"].startswith("ValueError")
    assert "official_accuracy" not in entry["retention"]


def test_labels_nobody_can_read_are_left_out_and_counted() -> None:
    questions = [_question(0, KEEP), _question(1, "go on"), _question(2, "Hm", "vru"), _question(3, "", "light")]
    rows = [_row(i, name, KEEP) for i in range(4) for name in ("unpruned", "autoprune")]
    result = summarise(questions, rows, "autoprune")
    assert result["unlabelled"] == {"plan": 1, "vru": 1, "light": 1}
    assert result["settings"]["autoprune"]["plan"]["count"] == 1
    assert result["settings"]["autoprune"]["vru"]["count"] == 0


def test_other_question_types_have_their_own_measures() -> None:
    motion = "Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT\n"
    labels = {"vru": YES, "motion": motion, "light": "Red", "description": "a wide road"}
    questions = [_question(i, label, kind) for i, (kind, label) in enumerate(labels.items())]
    rows = [_row(i, "unpruned", label) for i, label in enumerate(labels.values())]
    pruned = ["No.", "Object 1: KEEP, STRAIGHT", "Green", "a wide road"]
    rows += [_row(i, "autoprune", answer) for i, answer in enumerate(pruned)]
    result = summarise(questions, rows, "autoprune")
    before, after = result["settings"]["unpruned"], result["settings"]["autoprune"]
    assert (before["vru"]["recall"], after["vru"]["recall"]) == (1.0, 0.0)
    assert (before["motion"]["exact_accuracy"], after["motion"]["exact_accuracy"]) == (1.0, 0.5)
    assert (before["light"]["accuracy"], after["light"]["accuracy"]) == (1.0, 0.0)
    assert after["description"]["rouge_l"] == pytest.approx(1.0)
    assert "majority" not in result["settings"]
    assert [flip["severity"] for flip in result["flips"]["autoprune"]["list"]] == [
        "missed_road_user",
        "broken",
        "broken",
    ]


def test_official_records_feed_the_original_metric() -> None:
    questions = [_question(i, f"{label}\n") for i, label in enumerate(LABELS)]
    score = planning_metric(official_records(questions, dict(enumerate(UNPRUNED))))
    assert score.total == 6
    assert set(score.saved) == {"t4", "t5", "summary", "f1_score"}


def test_flips_need_both_answers() -> None:
    questions = [_question(0, KEEP), _question(1, KEEP)]
    flips = flips_between(questions, {0: KEEP, 1: KEEP}, {0: STOP}, "random")
    assert [(flip.question, flip.severity, flip.setting) for flip in flips] == [(0, "false_brake", "random")]


def test_answers_that_did_not_end_are_counted():
    rows = [_row(0, "unpruned", KEEP), _row(0, "autoprune", KEEP, reason=f"{CUT} 4 tokens")]
    settings = summarise([_question(0, KEEP)], rows, "autoprune")["settings"]
    assert (settings["unpruned"]["unended"], settings["autoprune"]["unended"]) == ({"count": 0, "of": 1}, {"count": 1, "of": 1})
    failed = AnswerRow(0, "autoprune", "failed", reason=f"{CUT} 4 tokens")
    assert not failed.cut
