"""What goes wrong with one question: the reason in its failed row, and whether a smaller batch would have had room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

LONGEST_ANSWER = 4000  # characters; a longer answer is a failure and is cut here
LONGEST_REASON = 500
# Words of allocators whose errors have no class of their own (the CPU's, MPS's), and of libraries that ask one for room.
_NO_ROOM = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class NoRoom(Exception):
    """The device, or the host, has too little memory for what it was given."""

    def __init__(self) -> None:
        super().__init__("out of memory on the device")


@contextmanager
def room() -> Iterator[None]:
    """Every allocator's error as NoRoom. Any other passes."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise NoRoom from error
    except RuntimeError as error:
        if any(words in str(error) for words in _NO_ROOM):
            raise NoRoom from error
        raise


def reason_of(error: Exception) -> str:
    """The reason of a failed row, on one line."""
    return " ".join(str(error).split())[:LONGEST_REASON]


def answer_fault(answer: str, sane: bool, unknown: Sequence[int] = ()) -> str | None:
    """Why an answer is a failure of the model, or None. It still counts as given (and wrong) in the measures.

    Args:
        sane: all its logits were finite.
        unknown: generated ids that the tokenizer does not have.
    """
    if not sane:
        return "the model's logits are not finite"
    if unknown:
        return f"the model generated id {unknown[0]}, which its tokenizer does not have"
    if not answer:
        return "the model generated no text"
    if len(answer) > LONGEST_ANSWER:
        return f"the answer has {len(answer)} characters"
    return None
