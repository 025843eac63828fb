"""A question file over real image files, and a tiny random Senna that counts how often it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_autoprune.evaluation.config import EvalConfig
from senna_autoprune.senna import Senna
from tests.senna.tiny import tiny_model, tiny_processor, views

PLAN = "Your current speed is {speed} m/s, the navigation command is 'go straight', state your SPEED plan."
VRU = "Do you see any vulnerable road users within 20 meters ahead of you?"
LABELS = ("KEEP, STRAIGHT\n", "STOP, STRAIGHT\n", "KEEP, STRAIGHT\n", "DECELERATE, LEFT_TURN\n")
VIEWS = 3


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def record(token: str, images: list[str], text: str, label: str, **more: Any) -> dict[str, Any]:
    marks = "<image>\n" * len(images)
    turns = [{"from": "human", "value": marks + text}, {"from": "gpt", "value": label}]
    return {"token": token, "image": images[0], "images": images, "conversations": turns, **more}


def untimed(trace: dict[str, Any] | None) -> str:
    """A trace as text, without the one time in it."""
    return json.dumps(trace and {**trace, "pruner_ms": None})


@dataclass
class Asked:
    """A tiny Senna whose ``generate`` and vision calls are counted."""

    senna: Senna
    generated: int = 0
    looked: int = 0
    answers: list[Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=list)


def counting_senna(seed: int = 0) -> Asked:
    asked = Asked(Senna(tiny_model(seed), tiny_processor(), {"checkpoint": "tiny"}))
    model: Any = asked.senna.model
    generate, look = model.generate, model.get_image_features

    def counted_generate(*args: Any, **kwargs: Any) -> torch.Tensor:
        asked.generated += 1
        ids = generate(*args, **kwargs)
        return asked.answers.pop(0)(ids) if asked.answers else ids

    def counted_look(*args: Any, **kwargs: Any) -> Any:
        asked.looked += 1
        return look(*args, **kwargs)

    model.generate, model.get_image_features = counted_generate, counted_look
    return asked


@dataclass
class Place:
    """A folder with a question file and its images: 4 samples of 2 scenes, a plan and a road-user question each."""

    folder: Path
    questions: Path

    def config(self, **changes: Any) -> EvalConfig:
        values = {
            "questions": str(self.questions),
            "out": str(self.folder / "run"),
            "max_new_tokens": 3,
            "resamples": 100,
        }
        if not changes.keys() & {"retention", "tokens", "tokens_per_view"}:
            values["retention"] = 0.6  # three layers, and the first runs on everything
        return EvalConfig(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def make_place(folder: Path, samples: int = 4, speeds: str = "abcdefgh") -> Place:
    """speeds: one letter a sample, told to the model: plans of equal letters are equal prompts."""
    records = []
    for sample in range(samples):
        names = []
        for index, view in enumerate(views(VIEWS, seed=sample)):
            names.append(f"images/{sample}-{index}.png")
            (folder / "images").mkdir(exist_ok=True)
            view.save(folder / names[-1])
        scene = {"senna_prune": {"scene": f"scene-{sample // 2}"}}
        label = LABELS[sample % len(LABELS)]
        records.append(record(f"t{sample}", names, PLAN.format(speed=speeds[sample % len(speeds)]), label, **scene))
        records.append(record(f"t{sample}", names, VRU, "No, I don't see any.", **scene))
    path = folder / "qa.json"
    path.write_text(json.dumps(records))
    return Place(folder, path)
