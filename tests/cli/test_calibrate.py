"""``senna-prune calibrate``: what it prints can be given to eval, and k then adapts."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from senna_autoprune.cli import cli
from tests.evaluation.conftest import make_place
from tests.senna.tiny import tiny_model, tiny_processor


def test_its_gamma_makes_k_span_its_range(tmp_path: Path) -> None:
    place = make_place(tmp_path, samples=4)
    checkpoint = tmp_path / "checkpoint"
    tiny_model().save_pretrained(checkpoint)
    tiny_processor().save_pretrained(checkpoint)
    base = ["--model", str(checkpoint), "--questions", str(place.questions)]
    result = CliRunner().invoke(cli, ["calibrate", *base, "--count", "4", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output.splitlines()[-1])
    assert found["questions"] == 4
    line = next(line for line in result.output.splitlines() if line.startswith("use it with: "))
    out = tmp_path / "run"
    flags = ["--retention", "0.8", "--max-new-tokens", "2", "--no-controls", "--resamples", "100", "--out", str(out)]
    assert CliRunner().invoke(cli, ["eval", *base, *line.removeprefix("use it with: ").split(), *flags]).exit_code == 0
    cost = json.loads((out / "metrics.json").read_text())["settings"]["autoprune"]["cost"]
    steepest = 0.4 * 32 / 3  # the paper's k0 at this model's three layers
    assert 0.1 * steepest < cost["k"]["median"] < steepest
    assert cost["clamped"] < 0.5


def test_a_keyframes_questions_take_turns() -> None:
    """Of 12 questions of two types about as many keyframes, both types are measured."""
    result = CliRunner().invoke(cli, ["calibrate", "--by-layer", "--types", "plan,vru", "--count", "12", "--json"])
    assert result.exit_code == 0, result.output
    said = {line.split(",")[0] for line in result.output.splitlines() if ", mutual_information: " in line}
    assert said == {"all", "plan", "vru"}, result.output
