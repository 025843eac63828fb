"""The original planning metric, bit for bit (hustvl/Senna, recorded with its quirks): for comparison with published
figures only.

It tests substrings, so it is kinder than a parse: an answer that names every word is "right" and a true positive of
every class it names. Its F1 covers four speeds and three paths; lane changes count for the accuracy alone. Where the
original stops with an
exception, so does this: a label that is not ``SPEED, PATH`` is a ValueError, one of unknown words a KeyError, a file
    without planning
questions a ZeroDivisionError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SPEED_KEYS = ("KEEP", "ACCELERATE", "DECELERATE", "STOP")
PATH_KEYS = ("RIGHT_TURN", "LEFT_TURN", "STRAIGHT")  # the original's F1 knows no lane changes
CLASS_PATHS = ("RIGHT_TURN", "RIGHT_CHANGE", "LEFT_TURN", "LEFT_CHANGE", "STRAIGHT")
PLAN_MARK = "SPEED plan"  # only questions that hold this are counted

Echo = Callable[[str], None]


@dataclass
class _Counts:
    """True positives, false positives and false negatives of one class."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def add(self, key: str, truth: str, answer: str, times: int) -> None:
        """The original's rule: a key found in the answer is a TP if the *true* label is anywhere in it, whatever the
        key.
        """
        if key in answer:
            if truth in answer:
                self.tp += times
            else:
                self.fp += times
        elif key in truth:
            self.fn += times

    def f1(self) -> float:
        precision = self.tp / (self.tp + self.fp) if self.tp + self.fp else 0
        recall = self.tp / (self.tp + self.fn) if self.tp + self.fn else 0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0


@dataclass
class OfficialScore:
    """Result of the original metric.

    ``saved`` is the JSON object the original writes (failures by token, then ``summary`` and ``f1_score``);
    ``correct[i]`` says whether planning question i (in order, others left out) counted as right.
    """

    total: int
    correct_count: int
    f1_score: dict[str, float]
    saved: dict[str, Any] = field(repr=False)
    correct: list[bool] = field(repr=False)

    @property
    def accuracy(self) -> float:
        return self.correct_count / self.total


def split_label(label: str) -> tuple[str, str]:
    """(speed, path) of a label ``SPEED, PATH\\n`` as the original reads it. ValueError unless it holds ", " exactly
    once.
    """
    speed, path = label.split(", ")
    return speed, path.split("\n")[0]


def is_right(label: str, answer: str) -> bool:
    """Both words of the label are somewhere in the answer. ValueError as in ``split_label``."""
    speed, path = split_label(label)
    return speed in answer and path in answer


def planning_metric(records: Iterable[Mapping[str, str]], saved_to: str = "", echo: Echo = lambda _: None) -> OfficialScore:
    """The original metric over ``records`` with keys ``token``, ``question``, ``gt``, ``answer``.

    Args:
        saved_to: the path named in the closing line of the original's output.
        echo: receives every line that the original prints (without its newline).
    Raises:
        ValueError: a planning question's label is not ``SPEED, PATH``.
        KeyError: a label's words are not among the 4 x 5 classes (the key is ``SPEED_PATH``).
        ZeroDivisionError: no planning question at all (after the F1 block has been echoed, as in the original).
    """
    asked = [record for record in records if PLAN_MARK in record["question"]]
    score = planning_score([record["gt"] for record in asked], [record["answer"] for record in asked], saved_to, echo)
    failed = (record for record, right in zip(asked, score.correct, strict=True) if not right)
    score.saved = {record["token"]: {"gt": record["gt"], "pred": record["answer"]} for record in failed} | score.saved
    return score


def planning_score(labels: Sequence[str], answers: Sequence[str], saved_to: str = "", echo: Echo = lambda _: None) -> OfficialScore:
    """``planning_metric`` of planning questions' labels and answers; ``saved`` without failures, for nothing has a token."""
    speeds = {key: _Counts() for key in SPEED_KEYS}
    paths = {key: _Counts() for key in PATH_KEYS}
    classes = {f"{speed}_{path}": [0, 0] for speed in SPEED_KEYS for path in CLASS_PATHS}  # [number, number right]
    seen: dict[tuple[str, str], list[Any]] = {}  # (label, answer) -> right or wrong, how often: few pairs make up many questions
    for label, answer in zip(labels, answers, strict=True):
        pair = seen.get((label, answer))
        if pair is None:
            speed, path = split_label(label)
            classes[f"{speed}_{path}"]  # the original's KeyError is raised here
            pair = seen[label, answer] = [speed in answer and path in answer, 0]
        pair[1] += 1
    outcomes = [seen[pair][0] for pair in zip(labels, answers, strict=True)]
    for (label, answer), (right, times) in seen.items():
        speed, path = split_label(label)
        for key, counts in speeds.items():
            counts.add(key, speed, answer, times)
        for key, counts in paths.items():
            counts.add(key, path, answer, times)
        tally = classes[f"{speed}_{path}"]
        tally[0] += times
        tally[1] += right * times

    f1_score = {key: counts.f1() for key, counts in {**speeds, **paths}.items()}
    total, right_count = len(outcomes), sum(outcomes)
    echo("\n\n=========== F1 Score ===========\n\n")
    for key, value in f1_score.items():
        echo(f"{key}: {value}")
    echo("\n\n================================\n\n")
    echo(f"\nTotal Number: {total}\n\n")
    echo(f"Correct Number: {right_count}\n\n")
    echo("------------------------------\n\n")
    summary = [
        f"Total Number: {total}",
        f"Correct Number: {right_count}",
        f"Planning Accuracy: {right_count / total * 100:.2f}%",  # the original's ZeroDivisionError is raised here
    ]
    echo(f"{summary[-1]}\n\n")
    echo("------------------------------\n")
    for name, (number, right_number) in classes.items():
        if number:
            summary.append(f"{name}: num: {number}, correct num: {right_number}, {100 * right_number / number:.2f}%")
            echo(summary[-1])
    echo(f"\nEval results saved to {saved_to}\n")
    saved = {"summary": "\n".join(summary), "f1_score": f1_score}
    return OfficialScore(total, right_count, f1_score, saved, outcomes)
