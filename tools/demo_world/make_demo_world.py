"""Write the shipped evaluation split: nuScenes tables, images, CAN messages, and the question file made by ``questions
build``.

    python tools/make_demo_world.py --out senna_autoprune/demo/data                    # the split demo_val
    python tools/make_demo_world.py --split demo_train --scenes 20 --out DIR           # scenes the model was trained on

Deterministic. Scenes of demo_val are taken from seeds below 1,000,000 (those of demo_train, which the trainer renders
straight into arrays, begin there): scenes of three to five keyframes. Which keyframes of a scene are asked about is the
simulation's choice (decision moments, see ``demo_world.world``); among the seeds the scenes are chosen so that
every answer occurs and none makes up more than a quarter or so (QUOTA below). The labels come from the tables alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2

from demo_world.plan import plan
from demo_world.tables import TableWriter
from demo_world.world import Scene, generate

VERSION = "v1.0-demo"
FIRST_NUMBER = 9001  # scene numbers that nuScenes does not use
KEYFRAMES, LEAST, MOST = 206, (3, 2), 5  # in all; at least of a town scene and of a fast one; at most of a scene
FIRST_SEED, MOST_SEEDS = 5000, 12000
TRAIN_SEED = 1_000_000  # demo_train: this one and those after it (tools/make_training_data.py)
QUOTA = {  # (on the fast road?, answer): share
    (True, "KEEP, STRAIGHT"): 0.07,
    (True, "DECELERATE, STRAIGHT"): 0.08,
    (True, "KEEP, LEFT_CHANGE"): 0.08,
    (True, "KEEP, RIGHT_CHANGE"): 0.08,
    (False, "KEEP, STRAIGHT"): 0.18,
    (False, "DECELERATE, STRAIGHT"): 0.18,
    (False, "ACCELERATE, STRAIGHT"): 0.13,
    (False, "STOP, STRAIGHT"): 0.10,
    (False, "KEEP, LEFT_TURN"): 0.03,
    (False, "KEEP, RIGHT_TURN"): 0.03,
    (False, "DECELERATE, LEFT_TURN"): 0.03,
    (False, "DECELERATE, RIGHT_TURN"): 0.03,
}


def choose(wanted: int, least: tuple[int, int], most: int) -> list[tuple[int, list[int]]]:
    """(seed, keyframes) of the split: the first seeds of which ``least`` questions or more fit into the quotas, ``wanted`` in all."""
    room = Counter({answer: round(share * wanted) + 2 for answer, share in QUOTA.items()})
    chosen: list[tuple[int, list[int]]] = []
    total = 0
    for seed in range(FIRST_SEED, FIRST_SEED + MOST_SEEDS):
        scene = generate(seed, "choice")
        left = Counter(room)
        keyframes = []
        for question in scene.questions:
            known = plan(scene, question.keyframe)
            about = (scene.kind == "fast", known["answer"]) if known else None
            if left[about] > 0 and len(keyframes) < most:
                left[about] -= 1
                keyframes.append(question.keyframe)
        if len(keyframes) >= least[scene.kind == "fast"]:
            room = left
            chosen.append((seed, keyframes))
            total += len(keyframes)
        if total >= wanted:
            return chosen
    raise SystemExit(f"only {total} of {wanted} keyframes fit the quotas in {MOST_SEEDS} seeds")


def scenes_of(options: argparse.Namespace) -> Iterator[tuple[Scene, list[int]]]:
    """The split's scenes, and the keyframes of each that are asked about and have pictures."""
    if options.split == "demo_val":
        for number, (seed, keyframes) in enumerate(choose(options.keyframes, LEAST, MOST)):
            yield generate(seed, f"scene-{FIRST_NUMBER + number:04d}"), keyframes
        return
    for seed in range(TRAIN_SEED, TRAIN_SEED + options.scenes):
        scene = generate(seed, f"scene-{seed}")
        yield scene, [q.keyframe for q in scene.questions if plan(scene, q.keyframe) is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=("demo_val", "demo_train"), default="demo_val")
    parser.add_argument("--keyframes", type=int, default=KEYFRAMES, help="of demo_val")
    parser.add_argument("--scenes", type=int, default=20, help="of demo_train")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for name in ("samples", "can_bus", "maps", VERSION):
        shutil.rmtree(options.out / name, ignore_errors=True)
    writer = TableWriter(options.out, VERSION)
    for scene, keyframes in scenes_of(options):
        writer.add(scene, keyframes)
    writer.write(options.split)
    file = options.out / "questions.json"
    command = [sys.executable, "-m", "senna_autoprune", "questions", "build", "--dataroot", str(options.out), "--version", VERSION]
    subprocess.run([*command, "--split", options.split, "--types", "plan", "--require-images", "--out", str(file)], check=True)
    relocate(file, options.out)


def relocate(file: Path, root: Path) -> None:
    """Image paths relative to the question file, so that the folder can be anywhere."""
    root = root.resolve()
    records = json.loads(file.read_text())
    for record in records:
        record["image"] = str(Path(record["image"]).resolve().relative_to(root))
        record["images"] = [str(Path(image).resolve().relative_to(root)) for image in record["images"]]
    file.write_text(json.dumps(records, indent=1) + "\n")
    sidecar = Path(f"{file}.meta.json")
    if sidecar.exists():
        meta = json.loads(sidecar.read_text())
        meta.pop("dataroot", None)
        meta["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        sidecar.write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main()
