"""The training split of the demo world, as ``tools/make_training_data.py`` writes it: pictures and facts of keyframes."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from demo_model.mini import IMAGE_SIZE
from demo_world.asks import Asked
from senna_autoprune.nuscenes import builders
from senna_autoprune.nuscenes.strings import strings


class KeyframeData:
    """The arrays that ``tools/make_training_data.py`` wrote, all parts as one list."""

    def __init__(self, folder: Path, parts: int | None = None) -> None:
        self._parts = []
        self.rows: list[dict] = []
        for records in sorted(folder.glob("part*.jsonl"))[:parts]:
            lines = [line for line in records.read_text().split("\n") if line.endswith("}")]
            base = str(records.with_suffix(""))
            arrays = [np.load(f"{base}.{kind}.npy", mmap_mode="r") for kind in ("images", "classes", "relations")]
            self._parts.append((len(self.rows), arrays))
            self.rows += [json.loads(line) for line in lines]
        if not self.rows:
            raise FileNotFoundError(f"no part*.jsonl in {folder}: run tools/make_training_data.py first")

    def asked(self, row: int) -> list[Asked]:
        """The questions of a keyframe, of all six types."""
        return [Asked(kind, question or _question(kind, view), answer, view) for kind, view, answer, question in self.rows[row]["asked"]]

    def count(self) -> int:
        return len(self.rows)

    def _get(self, row: int, kind: int) -> np.ndarray:
        first, arrays = next(part for part in reversed(self._parts) if row >= part[0])
        return arrays[kind][row - first]

    def images(self, row: int) -> np.ndarray:
        """(6, 126, 224, 3) uint8 RGB in the prompt's order."""
        return self._get(row, 0)

    def classes(self, row: int) -> np.ndarray:
        """(6, 128) uint8, index into ``CLASSES``."""
        return self._get(row, 1)

    def relations(self, row: int) -> np.ndarray:
        """(6, 128) uint8, index into ``RELATIONS``."""
        return self._get(row, 2)


@lru_cache
def _question(kind: str, view: str | None) -> str:
    """A question that follows from its kind and view."""
    if kind == "light":
        return builders.light_question()
    if kind == "vru":
        return strings()["vru"]["question"].format(distance=int(strings()["vru"]["distance_m"]))
    assert kind == "description" and view is not None
    return builders.description_question(view)


def normalise(images: np.ndarray) -> Tensor:
    """(B, 126, 224, 3) uint8 -> (B, 3, 224, 224): square padding and CLIP normalisation, as the processor does."""
    mean, std = np.array(OPENAI_CLIP_MEAN, np.float32), np.array(OPENAI_CLIP_STD, np.float32)
    square = np.empty((len(images), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    square[:] = (255 * mean).astype(np.uint8)
    top = (IMAGE_SIZE - images.shape[1]) // 2
    square[:, top : top + images.shape[1]] = images
    pixels = torch.from_numpy(square).permute(0, 3, 1, 2).float()
    return (pixels - torch.from_numpy(mean * 255)[:, None, None]) / torch.from_numpy(std * 255)[:, None, None]
