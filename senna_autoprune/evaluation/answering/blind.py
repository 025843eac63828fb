"""A model that sees nothing says the same to the same words: prompts that read alike are asked once.

The control without images would else take as long as the unpruned model, for a handful of answers: on Senna's questions the prompt of a
type is one of a few. Rows that repeat an answer have no times of their own: nothing was measured for them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from senna_autoprune.adapters.reading import text_of
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel, Prepared

    Ready = tuple[QuestionRow, Prepared, float | None]  # as answerer.py has it


KEPT = 4096  # prompts; of half a million that all differ the first are forgotten


class BlindAnswers:
    """What one model, blind, said to each prompt. Knows nothing of a model without ``blind_key`` (adapters/model.py)."""

    def __init__(self, driving: DrivingModel) -> None:
        self._key: Any = getattr(driving, "blind_key", None)
        self._parse: Any = getattr(driving, "parse", None)  # of a Python adapter
        self._said: dict[Hashable, tuple[AnswerRow, str]] = {}

    def apart(self, batch: Sequence[Ready], limit: int) -> tuple[list[Ready], list[Ready]]:
        """Questions that must be asked, and those whose prompt was asked before or is the same as one of these. limit: of new tokens."""
        if self._key is None:
            return list(batch), []
        fresh: dict[Hashable, Ready] = {}
        again = []
        for one in batch:
            key = (self._key(one[1]), limit)
            if key in self._said or fresh.setdefault(key, one) is not one:
                again.append(one)
        return list(fresh.values()), again

    def keep(self, prepared: Prepared, row: AnswerRow, answer: str, limit: int) -> None:
        """Remember what was answered, whole. Not a row of a call that failed: it says nothing of the prompt."""
        if self._key is not None:
            self._said[self._key(prepared), limit] = row, answer
            if len(self._said) > KEPT:
                del self._said[next(iter(self._said))]

    def repeat(self, one: Ready, limit: int) -> AnswerRow | None:
        """The row of a question whose prompt was answered before; None: it was not."""
        question, prepared, images_ms = one
        found = self._said.get((self._key(prepared), limit))
        if found is None:
            return None
        row, answer = found
        return replace(
            row,
            question=question.question,
            vision_ms=prepared.vision_ms,
            prefill_ms=None,
            decode_ms=None,
            said=None if self._parse is None else text_of(self._parse(answer, question.type, question.text)),
            missing_frames=prepared.missing_frames,
            images_ms=images_ms,
        )
