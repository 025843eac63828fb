"""Blind prompts that read alike are asked once; their rows say the same, and have no times of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from senna_autoprune.adapters.answers import Choice
from senna_autoprune.adapters.model import Prepared
from senna_autoprune.adapters.views import Asked
from senna_autoprune.evaluation.answering.answerer import Answerer
from senna_autoprune.evaluation.answering.faults import NoRoom
from senna_autoprune.evaluation.answering.models import driving_model
from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from tests.evaluation.answering.test_keyframes import Closed
from tests.evaluation.conftest import Place, counting_senna

BLIND = [Setting("no-image", blind=True)]


def ask(answerer: Answerer, questions: list[QuestionRow]) -> list[AnswerRow]:
    return list(answerer.answer(questions, {(question.question, "no-image") for question in questions}))


def said(rows: list[AnswerRow]) -> list[Any]:
    """Everything but the times, and the bytes of a batch that is padded."""
    return sorted((row.question, row.status, row.answer, row.reason, row.sent, row.new_tokens, row.missing_frames) for row in rows)


def asked_in_two_types(place: Place) -> tuple[list[QuestionRow], Any]:
    questions, root = load_questions(place.config(types=["plan", "vru"]))
    return questions, root


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_equal_prompts_are_asked_once(place: Place, batch_size: int) -> None:
    questions, root = asked_in_two_types(place)
    words = {question.text for question in questions}
    assert 1 < len(words) < len(questions)
    asked = counting_senna()
    rows = ask(Answerer(asked.senna, BLIND, root, max_new_tokens=4, batch_size=batch_size), questions)
    assert asked.generated <= len(words)
    twin = counting_senna()
    model: Any = Closed(driving_model(twin.senna))  # without blind_key
    every = ask(Answerer(model, BLIND, root, max_new_tokens=4), questions)
    assert twin.generated == len(questions) and said(rows) == said(every)
    timed = [row for row in rows if row.prefill_ms is not None]
    assert len(timed) == len(words) and all(row.decode_ms for row in timed)
    assert all(row.decode_ms is None and row.vision_ms is not None and row.images_ms is not None for row in rows if row not in timed)
    again = ask(Answerer(asked.senna, BLIND, root, max_new_tokens=4), questions[:2])
    assert all(row.prefill_ms is not None for row in again)  # another worker knows nothing of it


def test_of_many_prompts_the_first_are_forgotten(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senna_autoprune.evaluation.answering.blind.KEPT", 2)
    questions, root = load_questions(place.config())
    assert len({question.text for question in questions}) == 4
    asked = counting_senna()
    answerer = Answerer(asked.senna, BLIND, root, max_new_tokens=2)
    ask(answerer, questions)
    assert len(answerer._blind._said) == 2 and asked.generated == 4
    ask(answerer, questions[2:])
    assert asked.generated == 4
    ask(answerer, questions[:2])
    assert asked.generated == 6


def test_what_may_be_said_at_most_is_part_of_it(place: Place) -> None:
    questions, root = asked_in_two_types(place)
    alike = [replace(questions[0], type="plan"), replace(questions[0], question=99, type="description")]
    asked = counting_senna()
    rows = ask(Answerer(asked.senna, BLIND, root), alike)
    assert asked.generated == 2 and all(row.prefill_ms is not None for row in rows)


def test_what_sees_is_asked_every_time(place: Place) -> None:
    questions, root = asked_in_two_types(place)
    asked = counting_senna()
    pruned = Setting("no-image", "random", {"retention": 0.6}, blind=True)  # nothing but a method changes a blind prompt
    for setting in (Setting("no-image"), pruned):
        before = asked.generated
        ask(Answerer(asked.senna, [setting], root, max_new_tokens=2), questions)
        assert asked.generated == before + len(questions)


def test_a_call_that_failed_says_nothing_of_the_prompt(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    questions, root = load_questions(place.config(types=["vru"]))
    assert len({question.text for question in questions}) == 1
    answerer = Answerer(counting_senna().senna, BLIND, root, max_new_tokens=2)
    generate, failing = answerer.driving.generate, [True, False]

    def once(*args: Any, **kwargs: Any) -> Any:
        if failing and failing.pop(0):
            raise NoRoom
        return generate(*args, **kwargs)

    monkeypatch.setattr(answerer.driving, "generate", once)
    rows = ask(answerer, questions)
    assert [row.status for row in rows] == ["failed", "ok", "ok", "ok"]
    assert [row.prefill_ms is not None for row in rows] == [False, True, False, False]


def test_an_adapters_reading_is_of_each_question(place: Place) -> None:
    questions, root = load_questions(place.config(types=["vru"]))
    answerer = Answerer(counting_senna().senna, BLIND, root, max_new_tokens=2)
    reads: Any = lambda answer, kind, text: Choice(f"{answer}|{kind}|{text[-9:]}")  # noqa: E731
    answerer.driving.parse = answerer._blind._parse = reads  # type: ignore[attr-defined]
    rows = ask(answerer, questions)
    assert len(rows) == 4 and all(row.said == f"{row.answer}|vru|{questions[0].text[-9:]}" for row in rows)


def test_more_views_are_another_blind_prompt(place: Place) -> None:
    questions, root = load_questions(place.config(types=["vru"]))
    model = driving_model(counting_senna().senna)
    asked = Asked(questions[0].text, "vru", tuple(str(root / image) for image in questions[0].images), "here")
    one = model.prepare(asked, model.see(asked))
    assert model.blind_key(one) != model.blind_key(replace(one, pictures=one.pictures[:1]))  # type: ignore[attr-defined]
    assert isinstance(one, Prepared)
