"""The stage before the decoder: CLIP tower, projector and token adapter of Senna on a scene's views, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionModel

from senna_autoprune.bench.passes import Timing
from senna_autoprune.bench.shapes import build_filled
from senna_autoprune.device import Marks
from senna_autoprune.senna.configuration import SennaConfig
from senna_autoprune.senna.vision import TokenAdapter, build_projector, tower_features


def senna_config(hidden: int) -> SennaConfig:
    """Senna's own defaults (CLIP ViT-L/14-336) in front of a decoder of that width."""
    return SennaConfig(text_config={"model_type": "llama", "hidden_size": hidden})


class VisionStage(nn.Module):
    """Pixels (V, 3, H, W) -> visual tokens (V, T, d), by the same functions as the model."""

    def __init__(self, config: SennaConfig) -> None:
        super().__init__()
        vision: Any = config.vision_config
        text: Any = config.text_config
        self.layer = config.vision_feature_layer
        self.tower = CLIPVisionModel(vision)
        self.projector = build_projector(vision.hidden_size, text.hidden_size)
        self.adapter = TokenAdapter(config.num_patches, config.adapter_hidden_size, config.num_visual_tokens)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches, _ = tower_features(self.tower, pixels, self.layer)
        return self.adapter(self.projector(patches))


def time_vision(
    config: SennaConfig,
    views: int,
    dtype: torch.dtype,
    device: str,
    *,
    rounds: int = 3,
    seed: int = 0,
    clock: Callable[[], float] = perf_counter,
    on_round: Callable[[int], None] = lambda done: None,
) -> Timing:
    """Milliseconds by ``clock`` for all views of a scene in one batch, after one pass to warm up. The weights are gone afterwards."""
    stage = build_filled(lambda: VisionStage(config), dtype, device, seed)
    size = config.vision_config.image_size  # type: ignore[union-attr]
    pixels = torch.randn(views, 3, size, size, generator=torch.Generator().manual_seed(seed)).to(device=device, dtype=dtype)
    times = []
    with torch.inference_mode():
        for done in range(rounds + 1):
            marks = Marks(pixels.device, clock)
            begun = marks.mark()
            stage(pixels)
            times.append(marks.ms(begun, marks.mark()))
            on_round(done + 1)
    return Timing.of(times[1:])
