"""What the evaluator asks of a driving model, whichever family it is of.

    opened = model.open(asked)                   # a sample's pictures, decoded once; may be done in another thread (left out by some)
    seen = model.see(asked, needs, opened)       # as the model takes them; Senna's vision features with them
    prepared = model.prepare(asked, seen)        # the prompt as sent, and where its visual tokens are
    with policy(model.model) as trace:           # any pruning method, or none
        made = model.generate([prepared], max_new_tokens=64)
    text = model.answer(made.ids[0])             # what it said
    model.blind_key(prepared)                    # equal where blind prompts are, to the last number (left out by some)

Nothing here depends on a family: ``senna.py`` and ``stock.py`` are the two that are built in, and an entry point of the
group ``senna_prune.adapters`` may be another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from senna_autoprune.adapters.views import Asked, Picture

if TYPE_CHECKING:
    from torch import Tensor

    from senna_autoprune.adapters.schema import Adapter


@dataclass(frozen=True)
class Seen:
    """A sample's pictures as the model takes them. ``vision_ms``: None where the tower runs with each question."""

    pictures: tuple[Picture, ...]
    content: Any
    vision_ms: float | None = None


@dataclass(frozen=True)
class Prepared:
    """A question ready to be asked.

    Attributes:
        text: the prompt as it is sent, verbatim, image marks included.
        pictures: in the order in which the prompt shows them.
        visual_mask: (1, N) bool, the visual positions of the sequence that the decoder sees.
        view_sizes: visual tokens of each picture; they sum to the mask's.
        inputs: what ``generate`` needs of it.
        group: questions of equal groups may be asked in one batch.
    """

    asked: Asked
    text: str
    pictures: tuple[Picture, ...]
    visual_mask: Tensor
    view_sizes: tuple[int, ...]
    inputs: Any
    group: tuple[Any, ...] = ()
    vision_ms: float | None = None

    @property
    def missing_frames(self) -> int:
        """Pictures that stand for an earlier one that does not exist."""
        return sum(picture.missing for picture in self.pictures)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and one past the last of each picture's tokens, among the visual tokens."""
        spans, start = [], 0
        for size in self.view_sizes:
            spans.append((start, start + size))
            start += size
        return spans


@dataclass(frozen=True)
class Generated:
    """``ids`` (B, n): new tokens alone. ``vision_ms``: of the whole batch, None if no tower ran in this call."""

    ids: Tensor
    vision_ms: float | None = None


class DrivingModel(Protocol):
    """One loaded model with its adapter.

    Attributes:
        model: of transformers, in evaluation mode: what policies and stopwatches hook.
        processor: holds the ``tokenizer``.
        provenance: where it was loaded from, for the reader.
        vocabulary: ids that the tokenizer has; a generated id beyond it is a fault.
    """

    adapter: Adapter
    model: Any
    processor: Any
    provenance: dict[str, str]
    vocabulary: int

    def identity(self) -> dict[str, str]:
        """Hashes of what decides the prompts beyond weights, configuration and tokenizer; empty for Senna as released."""
        ...

    def see(self, asked: Asked, needs: frozenset[str] = frozenset(), opened: Any = None) -> Seen:
        """The pictures of a question; questions with equal pictures may share it.

        Args:
            needs: of "cls_scores" and "keys", what some method will ask for.
            opened: of ``open`` with this question; None: they are opened here. Never given to a model without ``open``.
        Raises:
            SennaPruneError: a picture that is missing or broken, or that the adapter wants and the question has not.
        """
        ...

    def prepare(self, asked: Asked, seen: Seen) -> Prepared:
        """SennaPruneError: the adapter's prompt needs what the question does not state; the prompt is too long."""
        ...

    def new_tokens(self, question_type: str) -> int | None:
        """The adapter's ``max_new_tokens``, or the family's default for a type; None: it has none."""
        ...

    def generate(
        self, batch: Sequence[Prepared], max_new_tokens: int, blind: bool = False, logits_processor: Sequence[Any] = ()
    ) -> Generated:
        """Greedy answers to questions of one group.

        Args:
            blind: show pictures of one even colour in place of the real ones, of as many visual tokens.
        """
        ...

    def answer(self, ids: Tensor) -> str:
        """(n,) new ids, or those up to an end mark, as text: stripped, cut at the adapter's stop strings."""
        ...


def _marks(generation_config: Any) -> list[int]:
    ends = generation_config.eos_token_id
    return [] if ends is None else ends if isinstance(ends, list) else [ends]


def ended(ids: Tensor, generation_config: Any) -> bool:
    """Whether new ids, cut by ``until_end``, have their end mark."""
    return len(ids) > 0 and int(ids[-1]) in _marks(generation_config)


def until_end(ids: Tensor, generation_config: Any) -> Tensor:
    """(n,) new ids up to the first end mark, with it; what follows only fills the batch."""
    marks = _marks(generation_config)
    found = next((place for place, token in enumerate(ids.tolist()) if token in marks), None)
    return ids if found is None else ids[: found + 1]


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def digest(value: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
