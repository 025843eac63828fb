"""What the labels of a whole split look like, from ego positions alone: why every table has a majority row.

    python tools/maintain/label_statistics.py ego_trajectories_val.json

Input: ``ego_trajectories_*.json`` (positions and times of every keyframe of v1.0-trainval, no rotations). Headings are
the path's tangent there; question files take them from the pose. So a few labels at the borders of the rules may
differ.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.rules import navigation_command, plan_label
from senna_autoprune.nuscenes.scenes import FUTURE_STEPS, NAVIGATION_STEPS

STANDING_MPS = 0.1  # below this the tangent is noise: the last one seen is held


@dataclass(frozen=True)
class LabelTable:
    """Counts over all plan questions of a file: keyframes with six keyframes ahead."""

    split: str
    keyframes: int
    questions: int
    labels: dict[str, int]  # "KEEP, STRAIGHT" -> count, most frequent first
    commands: dict[str, dict[str, int]]  # navigation variant -> command -> count

    def share(self, label: str) -> float:
        """Share of a label, 0..1."""
        return self.labels.get(label, 0) / self.questions

    def command_share(self, variant: str, command: str) -> float:
        """Share of a command under a navigation variant, 0..1."""
        return self.commands[variant].get(command, 0) / self.questions

    def rows(self) -> list[tuple[str, str, int, float]]:
        """(what, which, count, share) for every label and every command of both variants."""
        rows = [("label", label, count, count / self.questions) for label, count in self.labels.items()]
        for variant, counts in self.commands.items():
            rows += [(f"command, {variant}", name, count, count / self.questions) for name, count in counts.items()]
        return rows

    def to_markdown(self) -> str:
        """The table for a README."""
        lines = [f"| {self.split}: {self.questions} plan questions | | count | share |", "|---|---|---|---|"]
        lines += [f"| {what} | {which} | {count} | {100 * share:.1f} % |" for what, which, count, share in self.rows()]
        return "\n".join(lines) + "\n"


def label_table(path: str | os.PathLike[str]) -> LabelTable:
    """Labels and commands of every keyframe of an ego-trajectory file.

    Raises:
        SennaPruneError: the file is missing or has another shape.
    """
    keyframes = 0
    labels: Counter[str] = Counter()
    commands: dict[str, Counter[str]] = {"reference": Counter(), "fixed": Counter()}
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        for scene in (scene for scenes in data["scenes"].values() for scene in scenes):
            positions = np.array(scene["trajectory"], dtype=np.float64)[:, :2]  # (N, 2)
            times_s = np.array(scene["timestamps"], dtype=np.int64) / 1e6  # (N,)
            keyframes += len(positions)
            for ahead in _seen_from_each(positions, tangent_headings(positions, times_s)):
                labels[", ".join(plan_label(ahead[1 : FUTURE_STEPS + 1].astype(np.float32)))] += 1
                for variant, counts in commands.items():
                    counts[navigation_command(ahead[-1], variant)] += 1  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise SennaPruneError(f"{os.fspath(path)}: not an ego-trajectory file ({type(error).__name__}: {error})") from error
    return LabelTable(
        split=str(data.get("split", "?")),
        keyframes=keyframes,
        questions=labels.total(),
        labels=dict(labels.most_common()),
        commands={variant: dict(counts.most_common()) for variant, counts in commands.items()},
    )


def tangent_headings(positions: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Heading (N,) in radians of a path (N, 2) with times (N,): its tangent, held through standstill.

    The tangent is the second-order central difference for uneven steps. Before the first movement it is the first
    one's.
    """
    velocity = np.gradient(positions, times_s, axis=0)  # (N, 2)
    moving = np.linalg.norm(velocity, axis=1) >= STANDING_MPS
    if not moving.any():
        return np.zeros(len(positions))
    latest = np.maximum.accumulate(np.where(moving, np.arange(len(positions)), -1))
    latest[latest < 0] = int(np.argmax(moving))
    return np.arctan2(velocity[latest, 1], velocity[latest, 0])


def _seen_from_each(positions: np.ndarray, headings: np.ndarray) -> Iterator[np.ndarray]:
    """For each keyframe with six ahead: the path from it on, 12 keyframes at most, (<= 13, 2), x right, y forward."""
    for i in range(len(positions) - FUTURE_STEPS):
        away = positions[i : i + NAVIGATION_STEPS + 1] - positions[i]  # (<= 13, 2)
        forward = np.array([np.cos(headings[i]), np.sin(headings[i])])
        right = np.array([forward[1], -forward[0]])
        yield np.stack([away @ right, away @ forward], axis=1)


if __name__ == "__main__":
    print("".join(label_table(path).to_markdown() for path in sys.argv[1:]), end="")
