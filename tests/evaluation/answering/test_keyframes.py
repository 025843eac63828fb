"""A keyframe's pictures are opened and looked at once for all its questions, and each answers as it would alone."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from senna_autoprune.cli.eval_tables import show
from senna_autoprune.evaluation.answering.answerer import Answerer
from senna_autoprune.evaluation.answering.models import driving_model
from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from tests.evaluation.conftest import Asked, Place, counting_senna, untimed

SETTINGS = [Setting("unpruned"), Setting("autoprune", "autoprune", {"retention": 0.6}), Setting("no-image", blind=True)]


def count_opened(asked: Asked) -> list[int]:
    """Grows by the number of pictures whenever some are opened."""
    images: Any = asked.senna.processor.image_processor
    opened: list[int] = []
    plain = images.preprocess

    def preprocess(pictures: Any, **kwargs: Any) -> Any:
        opened.append(len(pictures))
        return plain(pictures, **kwargs)

    images.preprocess = preprocess
    return opened


def rows_of(answerer: Answerer, questions: list[QuestionRow]) -> list[AnswerRow]:
    answerer.learn((), {})
    return list(answerer.answer(questions, {(q.question, s.name) for q in questions for s in SETTINGS}))


def told(rows: list[AnswerRow]) -> dict[tuple[int, str], Any]:
    """Everything but the times."""
    return {(r.question, r.setting): (r.status, r.answer, r.reason, r.sent, r.kv_bytes, untimed(r.trace)) for r in rows}  # type: ignore[arg-type]


def test_questions_of_all_types_share_a_keyframe_and_answer_as_alone(place: Place) -> None:
    questions, root = load_questions(place.config(types=["plan", "vru"]))
    assert len({question.type for question in questions}) == 2 and len(questions) == 8
    asked = counting_senna()
    opened = count_opened(asked)
    shared = rows_of(Answerer(asked.senna, SETTINGS, root, max_new_tokens=4), questions)
    assert opened == [3, 3, 3, 3, 1] and asked.looked == 4 + 1  # four keyframes, and one grey picture for the blind
    alone: list[AnswerRow] = []
    for question in questions:
        alone += rows_of(Answerer(counting_senna().senna, SETTINGS, root, max_new_tokens=4), [question])
    assert told(shared) == told(alone)
    assert {row.status for row in shared} == {"ok"}
    of_first = {(row.vision_ms, row.images_ms) for row in shared if row.question in (0, 1)}
    assert len(of_first) == 1 and all(ms is not None and ms > 0 for pair in of_first for ms in pair)


class Closed:
    """A model of somebody else: it opens pictures only as it looks at them."""

    def __init__(self, inner: Any) -> None:
        for name in ("adapter", "model", "processor", "vocabulary", "prepare", "new_tokens", "generate", "answer"):
            setattr(self, name, getattr(inner, name))
        self.see = lambda asked, needs: inner.see(asked, needs)


def test_a_model_that_opens_as_it_looks_is_asked_as_before(place: Place) -> None:
    questions, root = load_questions(place.config())
    rows = rows_of(Answerer(Closed(driving_model(counting_senna().senna)), SETTINGS, root, max_new_tokens=4), questions)  # type: ignore[arg-type]
    assert told(rows) == told(rows_of(Answerer(counting_senna().senna, SETTINGS, root, max_new_tokens=4), questions))
    assert {row.images_ms for row in rows} == {None}


def test_the_wait_for_images_is_a_stage_of_its_own(place: Place) -> None:
    result = evaluate(place.config(), counting_senna().senna)
    with RunStore.read(result.directory) as store:
        waits = {row.question: row.images_ms for row in store.answers()}
        assert len(waits) == 4 and all(ms is not None and ms > 0 for ms in waits.values())
    cost = result.metrics["settings"]["unpruned"]["cost"]
    assert min(waits.values()) <= cost["images_ms"] <= max(waits.values())  # type: ignore[type-var]
    with Console(width=240, record=True) as console:
        show(result.metrics, console)
    assert "wait for" in console.export_text()
