"""A model by rule: what each setting answers is written down here, so that the truth of a certificate is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from senna_autoprune.evaluation.answering.engine import Asking, ModelFacts, Unit, Verdicts
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore

KEEP, STOP, TURN = "KEEP, STRAIGHT\n", "STOP, STRAIGHT\n", "KEEP, LEFT_TURN\n"
LABELS = (KEEP, STOP, TURN)
TEXT = "<image>\nYour current speed is {speed} m/s, the navigation command is 'go straight', state your SPEED plan."
Rule = Callable[[QuestionRow, str], str | None]  # question, setting -> answer; None: it fails


def share_of(setting: str) -> float:
    """``autoprune@0.25`` -> 0.25; 1 for what is not pruned."""
    return float(setting.rpartition("@")[2]) if "@" in setting else 1.0


def safe_above(limit: float, grade: str = KEEP) -> Rule:
    """Right unless pruned below ``limit``: then a third of the answers is ``grade``. No-image always says STOP."""

    def rule(question: QuestionRow, setting: str) -> str:
        if setting == "no-image":
            return STOP
        return grade if share_of(setting) < limit and question.question % 3 == 1 else question.label

    return rule


@contextmanager
def without_waiting() -> Iterator[None]:
    """Runs whose commits are not carried to the disk: thousands of them, and no power cut to survive."""
    prepare = RunStore._prepare

    def quick(self: RunStore, questions: Any) -> None:
        prepare(self, questions)
        self._connection.execute("PRAGMA synchronous = OFF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunStore, "_prepare", quick)
        yield


@dataclass
class FakeEngine:
    """Counts what it is asked."""

    rule: Rule
    asked: list[tuple[int, str]] = field(default_factory=list)
    at_work: int = 1
    since: float = 0.0
    start_up_s: float | None = None

    def facts(self) -> ModelFacts:
        return ModelFacts({"weights": "fake"}, {"python": "3"}, {"checkpoint": "fake"}, {"device": "cpu"})

    def calibrate(self, questions: Sequence[QuestionRow], root: Path, prompt_template: str) -> dict[str, Any]:
        return {"gamma": {"gamma": 0.1}}

    def answer(self, asking: Asking, units: Sequence[Unit], verdicts: Verdicts) -> Iterator[AnswerRow]:
        for unit in units:
            for question in (question for sample in unit.samples for question in sample):
                for setting in asking.settings:
                    if (question.question, setting.name) in unit.todo:
                        self.asked.append((question.question, setting.name))
                        said = self.rule(question, setting.name)
                        fell = {"status": "failed", "reason": "fell"} if said is None else {"status": "ok"}
                        yield AnswerRow(question.question, setting.name, answer=said, prefill_ms=1.0, **fell)


def question_file(folder: Path, scenes: int, each: int = 6, owner: Callable[[int], int] | None = None) -> Path:
    """A question file of ``scenes`` scenes, each with every label in turn. owner: question -> number of its scene, if sizes differ."""
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    records = []
    for index in range(scenes * each):
        turns = [{"from": "human", "value": TEXT.format(speed=index % 9)}, {"from": "gpt", "value": LABELS[index % 3]}]
        scene = index // each if owner is None else owner(index)
        facts = {"scene": f"scene-{scene:03}", "description": "Night" if scene % 3 == 0 else "Sunny"}
        records.append({"token": f"t{index}", "image": "a.png", "images": ["a.png"], "conversations": turns, "senna_prune": facts})
    path = folder / "qa.json"
    path.write_text(json.dumps(records))
    return path
