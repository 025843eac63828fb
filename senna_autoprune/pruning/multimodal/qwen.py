"""Qwen2.5-VL: a visual token is two by two patches of a tower of windows, which has no [CLS]."""

from __future__ import annotations

from typing import Any

from senna_autoprune.pruning.multimodal.families import Family, NoCls


class Qwen(Family):
    """``Qwen2_5_VLForConditionalGeneration``. No keys either: its tower's are of quarters of a token, so embeddings are compared."""

    def tower(self, base: Any) -> Any:
        """Never."""
        raise NoCls("Qwen2.5-VL's vision tower has no [CLS] token")
