"""How many tokens an answer may take, where neither the user nor the adapter says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from senna_autoprune.evaluation.measures.parsing import PATHS, SPEEDS

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel

LEAST = 16  # of a plan
CLOSED = 64  # a letter or a yes, with the sentence that many models put round it
OPEN = 512  # what Senna's original allows for everything


def longest_answer(model: DrivingModel, question_type: str) -> int:
    """The adapter's own limit; else by what it reads: a plan takes what any of the 20 takes with this tokenizer."""
    own = model.new_tokens(question_type)
    if own is not None:
        return own
    kind = model.adapter.parse.of(question_type).kind
    if kind == "auto":
        kind = {"plan": "plan", "choice": "choice", "yes_no": "label"}.get(question_type, "text")  # type: ignore[assignment]
    if kind == "plan":
        tokenizer = model.processor.tokenizer
        return max(LEAST, 1 + max(len(tokenizer(f"{speed}, {path}\n")["input_ids"]) for speed in SPEEDS for path in PATHS))
    return CLOSED if kind in ("choice", "label") else OPEN
