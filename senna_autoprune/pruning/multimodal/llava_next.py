"""LLaVA-NeXT: a small image of the whole, then tiles put together row by row, unpadded, with a newline token behind each row.

The packing is the model's own ``pack_image_features``, given scores or keys in place of features, so it cannot drift from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from senna_autoprune.pruning.multimodal.llava import Llava


class LlavaNext(Llava):
    """``LlavaNextForConditionalGeneration``."""

    notes: tuple[str, ...] = (
        "LLaVA-NeXT: a newline token stands for no patch; its CLS score is 0 and its key like other newlines' only (ours)",
    )

    def scores(self, base: Any, patches: Tensor, call: Mapping[str, Any]) -> list[Tensor]:
        """0 at newline tokens."""
        packed = pack(base, patches[..., None], patches.new_zeros(1), call["image_sizes"])
        return [image[:, 0] for image in packed]

    def keys(self, base: Any, patches: Tensor, call: Mapping[str, Any]) -> list[Tensor]:
        """One channel more, in which only newline tokens are not 0: alike among themselves, at a right angle to every patch."""
        newline = torch.zeros(patches.shape[-1] + 1, dtype=patches.dtype, device=patches.device)
        newline[-1] = 1
        return pack(base, nn.functional.pad(patches, (0, 1)), newline, call["image_sizes"])


def pack(base: Any, values: Tensor, newline: Tensor, image_sizes: Any) -> list[Tensor]:
    """values (T, P, c) of all tiles -> (V, c) of each image."""
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    config = base.config
    tiles = [image_size_to_num_patches(size, config.image_grid_pinpoints, config.vision_config.image_size) for size in image_sizes]
    split = torch.split(values, tiles)
    packed, _ = base.pack_image_features(split, image_sizes, config.vision_feature_select_strategy, image_newline=newline)
    return packed
