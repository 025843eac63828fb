"""An answer with what it cost, kept as it is computed (``files.kept``), so that a killed benchmark goes on where it was.

lmms-eval itself keeps nothing until a task's last answer is there (its response cache is written after the model returns).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from senna_autoprune.files.kept import KeptAnswers


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


def kept_answer(log: KeptAnswers | None, key: str) -> Answer | None:
    """The answer of a question asked before; None, too, of what is no such answer: it is then computed again."""
    found = log.get(key) if log is not None else None
    if found is None:
        return None
    try:
        return Answer(cost=Cost(**found.pop("cost")), **found)
    except (TypeError, KeyError):
        return None


def keep(log: KeptAnswers | None, key: str, answer: Answer) -> None:
    """Raises SennaPruneError if the disk is full."""
    if log is not None:
        log.add(key, asdict(answer))


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
