"""An answer with what it cost, and a file that keeps answers as they are computed, so that a killed benchmark goes on where it was.

lmms-eval itself keeps nothing until a task's last answer is there (its response cache is written after the model returns).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError


@dataclass(frozen=True)
class Cost:
    """Of one question. visual_tokens: V of its prompt; average_visual_tokens: entering a layer, averaged over the decoder's layers.

    flops_full, flops_pruned: multiply-accumulates of the prefill (pruning/cost.py), as the trace of the run counted them; None
    where nothing pruned, so that the share is 1.
    """

    prompt_tokens: int
    new_tokens: int
    visual_tokens: int
    average_visual_tokens: float
    flops_full: float | None = None
    flops_pruned: float | None = None

    @property
    def flops_share(self) -> float:
        """Pruned over full prefill."""
        return self.flops_pruned / self.flops_full if self.flops_full and self.flops_pruned is not None else 1.0


@dataclass(frozen=True)
class Answer:
    """text: of a generation; loss and greedy: of a continuation that was scored instead."""

    text: str
    cost: Cost
    loss: float | None = None
    greedy: bool | None = None


def mean_cost(costs: Sequence[Cost]) -> dict[str, float]:
    """Averages over the questions that have images; {} if none has.

    ``flops_share`` is the sum of pruned over the sum of full prefills, as in `senna-prune eval`.
    """
    seen = [cost for cost in costs if cost.visual_tokens]
    if not seen:
        return {}
    full = sum(cost.flops_full for cost in seen if cost.flops_full is not None)
    pruned = sum(cost.flops_pruned for cost in seen if cost.flops_pruned is not None)
    return {
        "visual_tokens": sum(cost.average_visual_tokens for cost in seen) / len(seen),
        "visual_tokens_unpruned": sum(cost.visual_tokens for cost in seen) / len(seen),
        "flops_share": pruned / full if full else 1.0,
        "questions_with_images": float(len(seen)),
    }


class AnswerLog:
    """Answers of one model and setting on disk, one JSON line each. A line torn by a kill is computed again.

    Args:
        identity: what the answers depend on; a file of another one is refused.
    Raises:
        SennaPruneError: the file belongs to another model or setting, is not such a file, or cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._answers: dict[str, Answer] = {}
        head = json.dumps({"answers_of": dict(identity)}, sort_keys=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+", encoding="utf-8", errors="replace")
            self._file.seek(0)
            text = self._file.read()
            if not text or head.startswith(text):  # new, or killed while its first line was written
                self._file.truncate(0)
                self._write(head)
            else:
                self._read(text.splitlines(), head)
                if not text.endswith("\n"):
                    self._write("")
        except OSError as error:
            raise SennaPruneError(f"cannot use {path}: {error.strerror or error}") from error

    def get(self, key: str) -> Answer | None:
        """The answer of a question asked before."""
        return self._answers.get(key)

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer. SennaPruneError if the disk is full."""
        self._answers[key] = answer
        try:
            self._write(json.dumps({"key": key, **asdict(answer)}))
        except OSError as error:
            raise SennaPruneError(f"cannot write {self.path}: {error.strerror or error}; answers before are kept") from error

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()

    def _read(self, lines: list[str], head: str) -> None:
        if lines[0] != head:
            raise SennaPruneError(f"{self.path} holds answers of another model or setting ({lines[0][:200]}); give another file")
        for line in lines[1:]:
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                found = json.loads(line)
                key, cost = found.pop("key"), Cost(**found.pop("cost"))
                self._answers[key] = Answer(cost=cost, **found)


def stamp(checkpoint: str) -> str | None:
    """Changes when a file of a checkpoint folder does (names, sizes, times of change); None of a hub id."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        return None
    files = [(file.name, at.st_size, at.st_mtime_ns) for file in sorted(folder.iterdir()) if file.is_file() and (at := file.stat())]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:32]


def key_of(kind: str, task: str, split: str, doc: object, *asked: object) -> str:
    """A name for a request: the document it is about and the words and options with which it is asked."""
    return hashlib.sha256(json.dumps([kind, task, split, doc, *asked], sort_keys=True, default=str).encode()).hexdigest()[:32]
