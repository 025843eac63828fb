"""InternVL (its ``-hf`` checkpoints): an image is tiles, and a visual token is two by two patches of a tile, shuffled into channels."""

from __future__ import annotations

from typing import Any

from senna_autoprune.pruning.multimodal.families import Family, NoCls


class InternVL(Family):
    """``InternVLForConditionalGeneration``. The tiles of an image stand behind each other and are one view. Embeddings are compared."""

    pictures_are_runs = True  # the features come tile by tile, and a marker stands before and behind each picture

    def tower(self, base: Any) -> Any:
        """Never: the tower has a [CLS], but what it attends to are quarters of a token."""
        raise NoCls("InternVL makes one visual token of four patches, so none has a [CLS] score of its own")
