"""Render the training split of the demo world into memory-mapped arrays (about 0.5 MB a keyframe; kept outside the package).

    python tools/make_training_data.py --out DIR --first-seed 1000000 --keyframes 12000 --part 0

Run one process a core with different seeds and parts. Seeds of the shipped split are below 1,000,000 and never used here.
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

from demo_world.facts import PROMPT_INDEX, facts, patch_labels
from demo_world.plan import plan
from demo_world.render import Renderer
from demo_world.world import JPEG_QUALITY, generate

MODEL_WIDTH, MODEL_HEIGHT = 224, 126
TRAIN_SEED = 1_000_000


def shrink(image: np.ndarray) -> np.ndarray:
    """BGR picture -> what the processor makes of its JPEG: RGB (126, 224, 3), same quality, same bicubic filter."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(picture.resize((MODEL_WIDTH, MODEL_HEIGHT), Image.Resampling.BICUBIC))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-seed", type=int, default=TRAIN_SEED)
    parser.add_argument("--keyframes", type=int, default=12000)
    parser.add_argument("--part", type=int, default=0)
    options = parser.parse_args()
    if options.first_seed < TRAIN_SEED:
        parser.error(f"--first-seed must be >= {TRAIN_SEED}: lower seeds belong to the shipped split")
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    n = options.keyframes
    base = options.out / f"part{options.part}"
    images = np.lib.format.open_memmap(f"{base}.images.npy", "w+", np.uint8, (n, 6, MODEL_HEIGHT, MODEL_WIDTH, 3))
    classes = np.lib.format.open_memmap(f"{base}.classes.npy", "w+", np.uint8, (n, 6, 128))
    relations = np.lib.format.open_memmap(f"{base}.relations.npy", "w+", np.uint8, (n, 6, 128))
    start, at, seed = time.time(), 0, options.first_seed
    with open(f"{base}.jsonl", "w") as records:
        while at < n:
            scene = generate(seed, f"train-{seed}")
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
                row = {"seed": scene.seed, "family": question.family, "cause": question.cause, **known, **vars(facts(scene, question))}
                records.write(json.dumps(row) + "\n")
                at += 1
                if at % 500 == 0:
                    records.flush()
                    print(f"{at} keyframes, {time.time() - start:.0f} s, seed {seed}", flush=True)


if __name__ == "__main__":
    main()
