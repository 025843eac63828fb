"""Evaluate a checkpoint on the planning questions of a nuScenes split, unpruned and pruned, without the command line.

    python tools/evaluate_split.py --model DIR --dataroot /data/nuscenes --version v1.0-trainval --split val --out runs/mine

The questions are written to OUT.questions.json, the answers to OUT as they come; started again, it continues.
Two such runs are compared by compare_runs.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from senna_autoprune import SennaPruneError, load_senna
from senna_autoprune.demo import label_of
from senna_autoprune.evaluation.config import EvalConfig
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.files.yaml_files import build
from senna_autoprune.nuscenes.questions import build_questions
from senna_autoprune.nuscenes.records import BuildSettings
from senna_autoprune.nuscenes.scenes import load_tables


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, or 3 if some samples failed. SennaPruneError: bad set-up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="checkpoint folder (original layout or ours) or hub id")
    parser.add_argument("--vision-tower", help="CLIP folder, where the checkpoint's is not here")
    parser.add_argument("--dataroot", required=True, help="folder that holds VERSION/*.json, samples/, can_bus/")
    parser.add_argument("--version", default="v1.0-trainval", help="table version (default: %(default)s)")
    parser.add_argument("--split", default="val", help="split by its devkit name, or all (default: %(default)s)")
    parser.add_argument("--method", default="autoprune", help="pruning method (default: %(default)s)")
    parser.add_argument("--retention", type=float, default=0.25, help="share of the visual tokens (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="only N questions, of all scenes in turn")
    parser.add_argument("--device", default="cpu", help="any torch device (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    options = parser.parse_args(arguments)

    questions = options.out.with_name(f"{options.out.name}.questions.json")
    questions.parent.mkdir(parents=True, exist_ok=True)
    taken = {name: getattr(options, name) for name in ("model", "vision_tower", "method", "retention", "limit", "device", "dtype")}
    config = build(EvalConfig, {**taken, "questions": str(questions), "out": str(options.out)}, "the command line")
    tables = load_tables(options.dataroot, options.version)
    built = build_questions(tables, questions, BuildSettings(types=("plan",), require_images=True), split=options.split)
    said = label_of(options.model, options.dataroot)
    print(f"{built['records']} questions in {questions}" + (f" ({said})" if said else ""))

    def on_row(row: AnswerRow, done: int, total: int) -> None:
        if done % 100 == 0 or done == total:
            print(f"{done} of {total} answers", flush=True)

    result = evaluate(config, load_senna(options.model, options.vision_tower, options.dtype, options.device), on_row=on_row)
    for name, setting in result.metrics["settings"].items():
        if "plan" in setting:
            print(f"{name:>16}: {setting['plan']['exact_accuracy']:.1%} exactly right of {setting['plan']['count']}")
    print(f"{options.out}" + (f", {result.failed} answers failed" if result.failed else ""))
    return 3 if result.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SennaPruneError as error:
        sys.exit(f"error: {error}")
