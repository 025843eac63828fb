"""A checkpoint that answers rubbish is told so after ten questions."""

from __future__ import annotations

import pytest

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.evaluation.answering.sanity import FIRST, FirstAnswers, Unreadable
from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow

QUESTIONS = [
    QuestionRow(i, f"t{i}", "vru" if i == 3 else "plan", "?", "KEEP, STRAIGHT", ("a.jpg",), "s", True, attributes_of("?", None, None))
    for i in range(FIRST + 5)
]


def rows(*answers: str | None, setting: str = "unpruned") -> list[AnswerRow]:
    plans = [question.question for question in QUESTIONS if question.type == "plan"]
    return [AnswerRow(plans[i], setting, "ok", answer) for i, answer in enumerate(answers)]


def feed(found: list[AnswerRow], watch: FirstAnswers | None = None) -> None:
    watch = watch or FirstAnswers(QUESTIONS)
    for row in found:
        watch.look(row)


def test_ten_unreadable_answers_stop_with_a_sample_and_causes() -> None:
    feed(rows(*["<unk>"] * (FIRST - 1)))
    with pytest.raises(Unreadable, match=r"<unk>.*--prompt-template.*--force"):
        feed(rows("", *["<unk> words"] * (FIRST - 1)))
    with pytest.raises(Unreadable):
        feed(rows(*[None] * FIRST))  # failed rows are no answers either


def test_one_readable_answer_is_enough_and_later_ones_are_not_looked_at() -> None:
    feed(rows(*["?"] * (FIRST - 1), "KEEP, STRAIGHT"))
    feed(rows("KEEP, STRAIGHT", *["?"] * (FIRST + 2)))


def test_pruned_answers_and_other_questions_do_not_count() -> None:
    feed(rows(*["?"] * FIRST, setting="random"))
    feed([AnswerRow(3, "unpruned", "ok", "?")] * 20)


def test_an_adapters_answers_are_read_as_it_reads_them() -> None:
    json_plan = Reading.of({"parse": {"kind": "json", "path": "plan", "then": "plan"}})
    feed(rows(*['{"plan": "KEEP, STRAIGHT"}'] * FIRST), FirstAnswers(QUESTIONS, json_plan))
    with pytest.raises(Unreadable):
        feed(rows(*['{"plan": "?"}'] * FIRST), FirstAnswers(QUESTIONS, json_plan))
    feed(rows(*["no points"] * FIRST), FirstAnswers(QUESTIONS, Reading.of({"parse": {"kind": "waypoints"}})))
