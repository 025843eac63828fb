"""LLaVA-1.5: a visual token is a patch of a CLIP tower, and every image gives the same number of them.

LLaVA-OneVision is found like it: its SigLIP tower has no [CLS], so nothing of its tiles is asked.
"""

from __future__ import annotations

from typing import Any

from senna_autoprune.pruning.multimodal.families import Family, NoCls


class Llava(Family):
    """``LlavaForConditionalGeneration``, ``LlavaOnevisionForConditionalGeneration``."""

    def tower(self, base: Any) -> Any:
        """CLIP; a tower without a class embedding (SigLIP, Pixtral) has nothing to offer."""
        tower = base.vision_tower
        if not hasattr(getattr(tower, "embeddings", None), "class_embedding"):
            raise NoCls(f"{type(tower).__name__} has no [CLS] token")
        return tower
