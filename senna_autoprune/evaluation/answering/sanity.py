"""Does this checkpoint answer at all? A wrong prompt template or tokenizer gives a calm table of nothing; this says so early."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.parsing import parse_plan
from senna_autoprune.evaluation.runs.rows import UNPRUNED, AnswerRow, QuestionRow

FIRST = 10  # unpruned planning answers that are looked at
SHOWN = 60  # characters of the sample answer


class Unreadable(SennaPruneError):
    """The first unpruned answers are all invalid; what was computed is kept."""


@dataclass
class FirstAnswers:
    """Watches the first unpruned answers of a run, those found on disk included.

    Args:
        questions: of the run; only planning questions are looked at, whose answers are one of twenty.
        reading: of the run's adapter; one that reads no plans from them (waypoints, say) is not judged here.
    """

    questions: Iterable[QuestionRow]
    reading: Reading = field(default_factory=lambda: Reading.of(None))
    _left: int = field(default=FIRST, init=False)
    _unread: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        plans = self.questions if self.reading.kind("plan") == "plan" else ()
        self._plans = {question.question: question.text for question in plans if question.type == "plan"}

    @property
    def settled(self) -> bool:
        """Whether no further row is looked at."""
        return not self._left or not self._plans

    def look(self, row: AnswerRow) -> None:
        """Take in a row. Unreadable: it was the tenth, and none of the ten can be read."""
        if not self._left or row.setting != UNPRUNED or row.question not in self._plans:
            return
        self._left -= 1
        if row.answer is not None and parse_plan(self.reading.written("plan", row.answer, self._plans[row.question])).valid:
            self._left = 0
            return
        self._unread.append(row.answer or row.reason or "")
        if not self._left:
            shown = next((" ".join(text.split())[:SHOWN] for text in self._unread if text.strip()), "")
            raise Unreadable(
                f"not one of the first {FIRST} unpruned answers is a plan like 'KEEP, STRAIGHT' (the first: {shown!r}): wrong "
                "--prompt-template, tokenizer, vision tower, adapter or --dtype? What was answered is kept; --force goes on all the same"
            )
