"""Questions about the real frames of the subset, and a tiny random checkpoint of each family, made once a session."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_autoprune.formats.convert import convert
from senna_autoprune.nuscenes.questions import build_questions
from senna_autoprune.nuscenes.questions_file import read_questions
from senna_autoprune.nuscenes.records import BuildSettings
from senna_autoprune.nuscenes.scenes import load_tables
from tests.adapters import tiny
from tests.fixtures import shared

# Qwen's tiny tower has small patches: with the built-in budgets a camera would be thousands of tokens
SMALL = {"qwen2_5_vl": 1024, "qwen3_vl": 1024}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def frames() -> Path:
    """The data root with real images."""
    return shared("nuscenes", "subset")


@pytest.fixture(scope="session")
def questions(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """senna: two of Senna's planning questions, of two scenes; drivelm: two of DriveLM's multiple choices."""
    folder = tmp_path_factory.mktemp("questions")
    settings = BuildSettings(types=("plan",), require_images=True)
    build_questions(load_tables(frames, "v1.0-mini"), folder / "all.json", settings, split="all")
    convert(shared("nuscenes", "drivelm", "challenge_questions.json"), frames, folder / "drivelm_all.json")
    found = {}
    for name, source, kind in (("senna", "all.json", "plan"), ("drivelm", "drivelm_all.json", "choice")):
        records = {record.token: record for record in read_questions(folder / source).records if record.type == kind}
        chosen = [dict(record) for record in records.values()][:2]
        assert len(chosen) == 2
        found[name] = folder / f"{name}.json"
        found[name].write_text(json.dumps(chosen))
    return found


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[str]]]:
    """family -> a checkpoint's folder, and the options of a command that asks it."""
    folder = tmp_path_factory.mktemp("families")

    def made(name: str) -> tuple[Path, list[str]]:
        place, adapter = folder / name, folder / f"{name}.yaml"
        if not place.exists():
            tiny.save(name, place)
            if name in SMALL:
                adapter.write_text(f"family: {name}\nviews: {{min_pixels: 64, max_pixels: {SMALL[name]}}}\n")
        return place, ["--adapter", str(adapter)] if name in SMALL else []

    return made
