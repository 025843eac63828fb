"""LLaVA-1.5: a visual token is a patch of a CLIP tower, and every image gives the same number of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from senna_autoprune.pruning.multimodal.families import NoCls


class Llava:
    """``LlavaForConditionalGeneration``."""

    notes: tuple[str, ...] = ()

    def tower(self, base: Any) -> Any:
        """CLIP; a tower without a class embedding (SigLIP, Pixtral) has nothing to offer."""
        tower = base.vision_tower
        if not hasattr(getattr(tower, "embeddings", None), "class_embedding"):
            raise NoCls(f"{type(tower).__name__} has no [CLS] token")
        return tower

    def scores(self, base: Any, patches: Tensor, call: Mapping[str, Any]) -> list[Tensor]:
        """One tile an image."""
        return list(patches)

    def keys(self, base: Any, patches: Tensor, call: Mapping[str, Any]) -> list[Tensor]:
        """One tile an image."""
        return list(patches)
