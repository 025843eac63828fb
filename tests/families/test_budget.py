"""budget on tiny checkpoints from disk and real frames: ten of DriveLM's choices by label, and paths without a label.

Ten scenes are the least; the frames at hand are of three, so each question here stands for a scene of its own.
"""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from senna_autoprune.cli import cli
from senna_autoprune.formats.convert import convert
from senna_autoprune.nuscenes.questions_file import read_questions
from tests.fixtures import shared

PATHS = "family: qwen2_5_vl\nviews: {min_pixels: 64, max_pixels: 512}\nparse: {kind: waypoints}\n"


@pytest.fixture(scope="module")
def ten(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ten")
    convert(shared("nuscenes", "drivelm", "challenge_questions.json"), frames, folder / "all.json")
    records = [dict(one) for one in read_questions(folder / "all.json").records if one.type == "choice"][:10]
    assert len(records) == 10
    for number, record in enumerate(records):
        record["senna_prune"] = {**record["senna_prune"], "scene": f"scene-{number:02}"}
    (folder / "qa.json").write_text(json.dumps(records))
    return folder / "qa.json"


@pytest.mark.parametrize(
    ("name", "measure"), [("internvl", "accuracy"), ("qwen3_vl", "accuracy"), ("llava_next", "accuracy"), ("qwen2_5_vl", "agreement")]
)
def test_budget(family, ten, frames, tmp_path, name, measure):
    model, options = family(name)
    if measure == "agreement":
        (tmp_path / "paths.yaml").write_text(PATHS)
        options = ["--adapter", str(tmp_path / "paths.yaml")]
    asked = ["--model", model, *options, "--questions", ten, "--images", frames, "--types", "choice", "--max-new-tokens", 1]
    rules = [
        "--margin",
        60,
        "--safety",
        60,
        "--grid",
        0.5,
        "--choose-share",
        0,
        "--looks",
        1,
        "--measure",
        measure,
        "--out",
        tmp_path / "run",
    ]
    done = CliRunner().invoke(cli, ["budget", *map(str, (*asked, *rules))], catch_exceptions=False)
    assert done.exit_code in (0, 4, 5), done.output
    found = json.loads((tmp_path / "run" / "budget.json").read_text())
    assert found["measure"] == measure and found["outcome"] in ("safe", "not shown", "cannot show harm")
    assert found["over"]["dangerous"] is None if measure == "accuracy" else "collision" in found["over"]["dangerous"]
    look = found["sequence"][0]["looks"][-1]
    assert look["scenes"] == look["questions"] == 10 and (tmp_path / "run" / "report.html").is_file()
    assert found["sentence"] in " ".join(done.output.split())
