"""Qwen2.5-VL and Qwen3-VL: a visual token is two by two patches of a tower that has no [CLS]."""

from __future__ import annotations

from typing import Any

from senna_autoprune.pruning.multimodal.families import Family, NoCls


class Qwen(Family):
    """``Qwen2_5_VLForConditionalGeneration``. No keys either: its tower's are of quarters of a token, so embeddings are compared."""

    name = "Qwen2.5-VL"

    def tower(self, base: Any) -> Any:
        """Never."""
        raise NoCls(f"{self.name}'s vision tower has no [CLS] token")


class Qwen3(Qwen):
    """``Qwen3VLForConditionalGeneration``; its DeepStack features are cut in decoder/deepstack.py."""

    name = "Qwen3-VL"
