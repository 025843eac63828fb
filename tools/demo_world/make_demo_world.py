"""Write the shipped evaluation split: nuScenes tables, images, CAN messages, and the question file made by ``questions build``.

    python tools/make_demo_world.py --out senna_autoprune/demo/data                    # the split demo_val
    python tools/make_demo_world.py --split demo_train --scenes 20 --out DIR           # scenes the model was trained on
    python tools/make_demo_world.py --split demo_test --keyframes 2000 --out DIR       # a larger test split, never looked at

Deterministic. Scenes of demo_val are taken from seeds below 1,000,000 (those of demo_train, which the trainer renders
straight into arrays, begin there): scenes of three to five keyframes. Which keyframes of a scene are asked about is the
simulation's choice (decision moments, see ``demo_world.world``); among the seeds the scenes are chosen so that
every answer occurs and none makes up more than a quarter or so (QUOTA below). The labels come from the tables alone.

All six types are asked; light, description and explanation are answered by the template teacher. Of the views, motion and description
take one a keyframe in turn, and of light as many that show none are asked as show one. The sidecar holds each question's complexity, and
``evidence.json`` where each body is seen, for ``senna-prune survival --evidence``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2

from demo_world.all_types import Known, build_all_types, counted, thinned
from demo_world.plan import plan
from demo_world.tables import TableWriter
from demo_world.world import Scene, generate

VERSION = "v1.0-demo"
EDITION = 2  # of the world: with the road users of ``actors``
FIRST_NUMBER = 9001  # scene numbers that nuScenes does not use
KEYFRAMES, LEAST, MOST = 206, (3, 2), 5  # in all; at least of a town scene and of a fast one; at most of a scene
FIRST_SEED, MOST_SEEDS = 5000, 12000
TEST_SEED, TEST_NUMBER, TEST_KEYFRAMES = 200_000, 20_001, 2000  # demo_test: from here, below demo_train
SLACK = 0.05  # of a quota: some answers are too rare to fill a large split with
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


def room_for(wanted: int) -> Counter[tuple[bool, str]]:
    """Keyframes that a split of ``wanted`` takes of each kind at most: its quota and two, or a twentieth more."""
    return Counter({answer: round(share * wanted) + max(2, round(SLACK * share * wanted)) for answer, share in QUOTA.items()})


def choose(wanted: int, least: tuple[int, int], most: int, first_seed: int = FIRST_SEED) -> list[tuple[int, list[int]]]:
    """(seed, keyframes) of the split: the first seeds of which ``least`` questions or more fit into the quotas, ``wanted`` in all."""
    most_seeds = MOST_SEEDS * max(1, round(wanted / KEYFRAMES))
    room = room_for(wanted)
    chosen: list[tuple[int, list[int]]] = []
    total = 0
    for seed in range(first_seed, first_seed + most_seeds):
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
    raise SystemExit(f"only {total} of {wanted} keyframes fit the quotas in {most_seeds} seeds")


def scenes_of(options: argparse.Namespace) -> Iterator[tuple[Scene, list[int]]]:
    """The split's scenes, and the keyframes of each that are asked about and have pictures."""
    if options.split != "demo_train":
        first, number = (FIRST_SEED, FIRST_NUMBER) if options.split == "demo_val" else (TEST_SEED, TEST_NUMBER)
        for place, (seed, keyframes) in enumerate(choose(options.keyframes, LEAST, MOST, first)):
            yield generate(seed, f"scene-{number + place:04d}", edition=EDITION), keyframes
        return
    for seed in range(TRAIN_SEED, TRAIN_SEED + options.scenes):
        scene = generate(seed, f"scene-{seed}", edition=EDITION)
        yield scene, [q.keyframe for q in scene.questions if plan(scene, q.keyframe) is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=("demo_val", "demo_train", "demo_test"), default="demo_val")
    parser.add_argument("--keyframes", type=int, help=f"of demo_val ({KEYFRAMES}) or demo_test ({TEST_KEYFRAMES})")
    parser.add_argument("--scenes", type=int, default=20, help="of demo_train")
    options = parser.parse_args()
    test = options.split == "demo_test"
    options.keyframes = options.keyframes or (TEST_KEYFRAMES if test else KEYFRAMES)
    cv2.setNumThreads(1)
    for name in ("samples", "can_bus", "maps", VERSION):
        shutil.rmtree(options.out / name, ignore_errors=True)
    writer, known = TableWriter(options.out, VERSION), Known()
    for scene, keyframes in scenes_of(options):
        writer.add(scene, keyframes, known.on_views)
    writer.write(options.split)
    file = options.out / "questions.json"
    build_all_types(options.out, file, options.split, known)
    relocate(file, options.out, known)


def relocate(file: Path, root: Path, known: Known) -> None:
    """Image paths relative to the question file, so that the folder can be anywhere; what ``known`` says of difficulty and evidence."""
    root = root.resolve()
    records = json.loads(file.read_text())
    for record in records:
        record["image"] = str(Path(record["image"]).resolve().relative_to(root))
        record["images"] = [str(Path(image).resolve().relative_to(root)) for image in record["images"]]
    records = thinned(records)
    file.write_text(json.dumps(records, indent=1) + "\n")
    sidecar = Path(f"{file}.meta.json")
    if sidecar.exists():
        meta = json.loads(sidecar.read_text())
        meta.pop("dataroot", None)
        meta["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        meta |= {"records": len(records), **counted(records), "complexity": known.complexity_of(records)}
        meta["notes"] = [
            *meta["notes"],
            "motion and description: one view a keyframe, in turn",
            "light: all that show one, and as many that show none",
        ]
        known.write_evidence(root / "evidence.json")
        sidecar.write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main()
