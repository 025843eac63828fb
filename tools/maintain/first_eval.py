"""What ``make eval`` runs: the embedded model if the package has one, else the tiny recorded checkpoint on real frames.

The tiny checkpoint under ../shared has random weights: its answers are nonsense, the table only shows that everything runs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from senna_autoprune.demo import embedded

SHARED = Path(__file__).resolve().parents[3] / "shared"
CHECKPOINT = SHARED / "fixtures" / "senna-tiny-a" / "checkpoint"
FRAMES = SHARED / "nuscenes" / "subset"
QUESTIONS = Path("runs") / "subset-plan.json"


def senna_prune(*arguments: str) -> int:
    """Run one command, print it first."""
    print("$ senna-prune", *arguments, flush=True)
    return subprocess.run([sys.executable, "-m", "senna_autoprune", *arguments]).returncode


def main() -> int:
    """Exit code of the evaluation; 2 when there is nothing to evaluate."""
    if embedded() is not None:
        return senna_prune("eval", *sys.argv[1:])
    if not CHECKPOINT.exists() or not FRAMES.exists():
        print(
            "no embedded model yet, and no ../shared with the recorded checkpoint: "
            "run senna-prune eval --model DIR --questions QA.json --retention 0.25 on your own",
            file=sys.stderr,
        )
        return 2
    print("random weights on eight real nuScenes frames: shows that everything runs, says nothing about Senna", flush=True)
    QUESTIONS.parent.mkdir(exist_ok=True)
    data = ("--dataroot", str(FRAMES), "--version", "v1.0-mini", "--split", "all", "--require-images", "--types", "plan")
    code = senna_prune("questions", "build", *data, "--out", str(QUESTIONS))
    return code or senna_prune("eval", "--model", str(CHECKPOINT), "--questions", str(QUESTIONS), *sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
