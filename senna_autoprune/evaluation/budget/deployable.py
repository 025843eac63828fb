"""What a setting is called in engines that can only prune once, before the decoder; methods that act inside it have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BEFORE_DECODER = ("dart", "divprune", "cdpruner", "fastervlm", "vispruner", "visionzip", "prune2drive", "random", "uniform")
BY_HAND = "by hand: one cut of the visual embeddings before the decoder"
NONE = "none: it prunes inside the decoder"


def deployable(method: str, share: float, options: Mapping[str, Any] | None = None) -> str:
    """The engine's own option and ratio for ``method`` at this share of tokens kept. options: of the method, as given.

    TensorRT-Edge-LLM prunes by DART on the embeddings (``--visualPrune``, its ratio is what is removed), OpenVINO GenAI by
    CDPruner (``GenerationConfig.pruning_ratio``, whole per cent removed). vLLM's ``--video-pruning-rate`` (EVS) drops what
    repeats between frames of a video: no method here does that.
    """
    if (options or {}).get("layer"):
        return NONE
    removed = 100 * (1 - share)
    if method == "dart":
        return f"TensorRT-Edge-LLM --visualPrune, reduction ratio {removed / 100:.2f}"
    if method == "cdpruner":
        return f"OpenVINO GenAI pruning_ratio={removed:.0f}"
    if method in BEFORE_DECODER:
        return BY_HAND
    return NONE
