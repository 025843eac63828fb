"""model_type -> family, lazily: a line here is all that a new vision-language model needs, if it has a [CLS] worth asking."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor

FAMILIES: dict[str, str] = {
    "llava": "senna_autoprune.pruning.multimodal.llava:Llava",
    "llava_next": "senna_autoprune.pruning.multimodal.llava_next:LlavaNext",
    "llava_onevision": "senna_autoprune.pruning.multimodal.llava:Llava",
    "internvl": "senna_autoprune.pruning.multimodal.internvl:InternVL",
    "qwen2_5_vl": "senna_autoprune.pruning.multimodal.qwen:Qwen",
    "qwen3_vl": "senna_autoprune.pruning.multimodal.qwen:Qwen3",
}


class Family:
    """How a family's vision tower and visual tokens belong together. ``base`` is the model without its language head.

    notes: what the user must know about the scores and keys.
    pictures_are_runs: a picture's features come in several parts, and its tokens are one contiguous run of the prompt.
    """

    notes: tuple[str, ...] = ()
    pictures_are_runs = False

    def tower(self, base: Any) -> Any:
        """The vision tower of layers with a [CLS] token in front.

        Raises:
            NoCls: there is none.
        """
        raise NotImplementedError

    def scores(self, base: Any, patches: Tensor, call: Mapping[str, Any]) -> list[Tensor]:
        """CLS scores (T, P) of T tiles of P patches -> (V,) of each image's visual tokens. Here: a tile is an image, a patch a token.

        Args:
            call: arguments of ``base.get_image_features``.
        """
        return list(patches)

    def keys(self, base: Any, patches: Tensor, call: Mapping[str, Any]) -> list[Tensor]:
        """The same for attention keys (T, P, c) -> (V, c')."""
        return list(patches)


class NoCls(Exception):
    """The vision tower has no [CLS] token; the message says whose, as the end of a sentence."""


def family_of(model: Any) -> Family | None:
    """The family of a model by its config's ``model_type``; None if nobody wrote one."""
    entry = FAMILIES.get(getattr(model.config, "model_type", ""))
    if entry is None:
        return None
    module, name = entry.split(":")
    return getattr(import_module(module), name)()
