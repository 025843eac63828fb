"""Qwen2.5-VL: a visual token is two by two patches of a tower of windows, which has no [CLS]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from senna_autoprune.pruning.multimodal.families import NoCls


class Qwen:
    """``Qwen2_5_VLForConditionalGeneration``. No keys either: its tower's are of quarters of a token, so embeddings are compared."""

    notes: tuple[str, ...] = ()

    def tower(self, base: Any) -> Any:
        """Never."""
        raise NoCls("Qwen2.5-VL's vision tower has no [CLS] token")

    def scores(self, base: Any, patches: Tensor, call: Mapping[str, Any]) -> list[Tensor]:
        """Never asked."""
        raise NotImplementedError

    def keys(self, base: Any, patches: Tensor, call: Mapping[str, Any]) -> list[Tensor]:
        """Never asked."""
        raise NotImplementedError
