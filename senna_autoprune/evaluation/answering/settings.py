"""A column of a run: a method with its budget and options, or none of it; and what a blind model sees."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from senna_autoprune.pruning.policy import Policy

BUDGET_WORDS = {
    "retention": "{:.3g} of the visual tokens",
    "flops": "{:.3g} of the prefill's FLOPs",
    "tokens": "{:.4g} visual tokens",
    "tokens_per_view": "{:.4g} visual tokens a view",
}


@dataclass(frozen=True)
class Setting:
    """A column of a run: a method with its budget and options, or none of it. ``blind``: visual tokens of even grey
    views.
    """

    name: str
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    blind: bool = False

    @property
    def words_alone(self) -> bool:
        """Whether the prompt's words alone decide what is said: blind, and no method with a seed of each question."""
        return self.blind and self.method is None

    def policy(self, seed: int) -> Policy | None:
        """The method's policy with this seed. SennaPruneError on an unknown method or option, or a bad budget."""
        if self.method is None:
            return None
        from senna_autoprune.pruning.methods.registry import build_policy

        return build_policy(self.method, **self.options, seed=seed)


def budget_words(setting: Setting) -> str:
    """The budget of a setting for a reader, and its mode where it has one."""
    for name, words in BUDGET_WORDS.items():
        if setting.options.get(name) is not None:
            more = {key: value for key, value in setting.options.items() if key not in BUDGET_WORDS}
            return ", ".join([words.format(setting.options[name]), *(f"{key} {value}" for key, value in more.items())])
    return "its own budget"


def question_seed(seed: int, question: int) -> int:
    """A seed of its own for every question, whatever the order in which they are asked."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{question}".encode()).digest()[:6], "big")


MEAN_GREY = (122, 116, 104)  # what Senna pads a view with: int(255 * CLIP's image mean)


def grey_view(side: int = 336) -> Image:
    """An RGB image all in ``MEAN_GREY``."""
    from PIL import Image

    return Image.new("RGB", (side, side), MEAN_GREY)
