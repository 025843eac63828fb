"""Render the training split of the demo world into memory-mapped arrays (about 0.5 MB a keyframe; kept outside the package).

    python tools/make_training_data.py --out DIR --first-seed 1000000 --keyframes 1000 --part 0

Run one process a core with different seeds and parts; a part that is there and whole is left alone. Seeds of the shipped split are below
1,000,000 and never used here. A row of ``partN.jsonl`` holds the facts of a keyframe and its questions of all six types.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from demo_world.asks import Asked, geometric, taught
from demo_world.facts import PROMPT_INDEX, facts, patch_labels
from demo_world.plan import plan
from demo_world.render import Renderer
from demo_world.shown import body_pixels
from demo_world.world import JPEG_QUALITY, generate

MODEL_WIDTH, MODEL_HEIGHT = 224, 126
TRAIN_SEED = 1_000_000
EDITION = 2
SAID_BY_KIND = ("vru", "light", "description")  # kinds whose question follows from kind and view: not written a thousand times


def shrink(image: np.ndarray) -> np.ndarray:
    """BGR picture -> what the processor makes of its JPEG: RGB (126, 224, 3), same quality, same bicubic filter."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(picture.resize((MODEL_WIDTH, MODEL_HEIGHT), Image.Resampling.BICUBIC))


def whole(base: Path, keyframes: int) -> bool:
    """Is a part there, and complete?"""
    records = Path(f"{base}.jsonl")
    return records.exists() and sum(1 for _ in records.open()) == keyframes


def compact(asked: list[Asked]) -> list[list[str | None]]:
    """[kind, view, answer, question or None] of each question."""
    return [[a.kind, a.view, a.answer, None if a.kind in SAID_BY_KIND else a.question] for a in asked]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-seed", type=int, default=TRAIN_SEED)
    parser.add_argument("--keyframes", type=int, default=1000)
    parser.add_argument("--part", type=int, default=0)
    options = parser.parse_args()
    if options.first_seed < TRAIN_SEED:
        parser.error(f"--first-seed must be >= {TRAIN_SEED}: lower seeds belong to the shipped split")
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    n = options.keyframes
    base = options.out / f"part{options.part:03d}"
    if whole(base, n):
        return
    images = np.lib.format.open_memmap(f"{base}.images.npy", "w+", np.uint8, (n, 6, MODEL_HEIGHT, MODEL_WIDTH, 3))
    classes = np.lib.format.open_memmap(f"{base}.classes.npy", "w+", np.uint8, (n, 6, 128))
    relations = np.lib.format.open_memmap(f"{base}.relations.npy", "w+", np.uint8, (n, 6, 128))
    start, at, seed = time.time(), 0, options.first_seed
    with open(f"{base}.jsonl.new", "w") as records:
        while at < n:
            scene = generate(seed, f"train-{seed}", edition=EDITION)
            seed += 1
            renderer = None
            for question in scene.questions:
                known = plan(scene, question.keyframe)
                if known is None or at >= n:
                    continue
                renderer = renderer or Renderer(scene)
                views = renderer.render(question.keyframe, labels=True)
                shown, related = patch_labels(scene, question, views)
                for i, view in enumerate(PROMPT_INDEX):
                    images[at, i] = shrink(views.images[view])
                classes[at], relations[at] = shown[PROMPT_INDEX], related[PROMPT_INDEX]
                asked = geometric(scene, question) + taught(scene, question, body_pixels(views, len(scene.bodies)))
                row = {"seed": scene.seed, "keyframe": question.keyframe, "family": question.family, "cause": question.cause}
                row |= {**known, **vars(facts(scene, question)), "asked": compact(asked)}
                records.write(json.dumps(row) + "\n")
                at += 1
    for array in (images, classes, relations):
        array.flush()
    Path(f"{base}.jsonl.new").replace(f"{base}.jsonl")  # only now the part counts as there
    print(f"part {options.part}: {n} keyframes, {time.time() - start:.0f} s, seeds up to {seed}", flush=True)


if __name__ == "__main__":
    main()
