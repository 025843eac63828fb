"""Whether an answer is right, and whether two say the same: of any question type, as the run's adapter reads it.

Senna's own types have Senna's parsers (a plan may stand in an adapter's JSON); all others are the adapter's.
"""

from __future__ import annotations

from senna_autoprune.evaluation.measures.adapted import CLOSED as CLOSED_KINDS
from senna_autoprune.evaluation.measures.adapted import Reading, judges
from senna_autoprune.evaluation.measures.complexity import CLOSED as SENNA_CLOSED
from senna_autoprune.evaluation.measures.complexity import is_right
from senna_autoprune.evaluation.measures.flips import severity
from senna_autoprune.evaluation.measures.parsing import INVALID, parse_light, parse_motion, parse_plan, parse_road_users, plan_meaning
from senna_autoprune.evaluation.runs.rows import QuestionRow


def closed(question_type: str, reading: Reading | None = None) -> bool:
    """Whether answers to such questions are right or wrong at all: not free text, not trajectories."""
    if reading is not None and judges(question_type, reading):
        return reading.kind(question_type) in CLOSED_KINDS
    return question_type in SENNA_CLOSED


def labelled(question: QuestionRow, reading: Reading | None = None) -> bool:
    """Whether the question has a label that answers can be held against."""
    if not closed(question.type, reading):
        return False
    if reading is not None and judges(question.type, reading):
        return bool(question.label.strip()) and reading.label(question.type, question.label, question.text) is not None
    return senna_label_is_readable(question)


def senna_label_is_readable(question: QuestionRow) -> bool:
    """Of Senna's closed types; True of all others."""
    if question.type == "plan":
        return parse_plan(question.label).valid
    if question.type == "vru":
        return parse_road_users(question.label).valid
    if question.type == "light":
        return parse_light(question.label) != INVALID
    return bool(parse_motion(question.label)) if question.type == "motion" else True


def right(question: QuestionRow, text: str, reading: Reading | None = None) -> bool:
    """Whether an answer says what the label of a ``labelled`` question says."""
    if reading is not None and judges(question.type, reading):
        label = reading.label(question.type, question.label, question.text)
        return label is not None and reading.same(reading.answer(question.type, text, question.text), label)
    return bool(is_right(question.type, question.label, _senna(question, text, reading)))


def agree(question: QuestionRow, one: str, other: str, reading: Reading | None = None) -> bool:
    """Whether two answers to a question say the same. Needs no label."""
    if reading is not None and judges(question.type, reading):
        return reading.same(*(reading.answer(question.type, text, question.text) for text in (one, other)))
    one, other = _senna(question, one, reading), _senna(question, other, reading)
    if question.type == "plan":
        return plan_meaning(one) == plan_meaning(other)
    return one == other or severity(question.type, "", one, other) == "wording"


def _senna(question: QuestionRow, text: str, reading: Reading | None) -> str:
    """A planning answer in Senna's words, whatever form the adapter reads it from."""
    return reading.written("plan", text, question.text) if reading is not None and question.type == "plan" else text
