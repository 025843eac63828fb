"""``senna-prune sweep`` as a user types it: flags and YAML keys, table, files, exit codes, resuming."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from senna_autoprune.cli import main
from senna_autoprune.cli.eval import command as eval_command
from senna_autoprune.cli.sweep import command
from senna_autoprune.evaluation.config import EvalConfig
from senna_autoprune.evaluation.sweep.config import SweepConfig
from tests.evaluation.conftest import Place, make_place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path, samples=2)


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["senna-prune", "sweep", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    code = caught.value.code
    return code if isinstance(code, int) else 0 if code is None else 1


def _arguments(place: Place, checkpoint: Path, *more: object) -> list[object]:
    base = ["--model", checkpoint, "--questions", place.questions, "--out", place.folder / "run"]
    return [*base, "--resamples", "100", "--max-new-tokens", "2", *more]


@pytest.mark.parametrize(("made", "config"), [(command, SweepConfig), (eval_command, EvalConfig)])
def test_every_flag_has_its_key_and_every_key_its_flag(made: Any, config: Any) -> None:
    own = {"config_file", "retry_failed", "force", "full", "as_json", "csv_file", "parquet_file"}  # of one start, not of the settings
    flags = {parameter.name for parameter in made.params} - own
    keys = {field.name for field in dataclasses.fields(config)}
    assert flags - {"option_values"} == keys - {"options"}
    assert "option_values" in flags  # --set fills options


def test_flags_and_yaml_say_the_same(
    place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--methods", "autoprune,fastv", "--retention", "0.5:0.8:0.3", "--set", "autoprune.scope=view", "--json", "--full")
    assert _run(monkeypatch, *_arguments(place, checkpoint, *flags)) == 0
    first = capsys.readouterr()
    for words in ("random (control)", "majority (control)", "no-image (control)", "n/a fastv at 0.5", "Flips", "FLOPs ratio"):
        assert words in first.out
    assert "written:" in first.out and "figures" in first.out
    document = json.loads(first.out.splitlines()[-1])
    assert document.pop("speed")["answers"] == 20
    assert len((place.folder / "run" / "answers.jsonl").read_text().splitlines()) == 20
    assert {cell["setting"] for cell in document["cells"] if cell["row"] == "autoprune"} == {
        "autoprune:scope=view@0.5",
        "autoprune:scope=view@0.8",
    }
    for name in ("table.csv", "table.json", "table.md", "config.yaml", "answers.sqlite", "metrics.json"):
        assert (place.folder / "run" / name).stat().st_size > 0
    assert (place.folder / "run" / "figures" / "share_of_views.svg").is_file()
    assert "senna-prune sweep --model" in (place.folder / "run" / "table.md").read_text()

    monkeypatch.setattr("senna_autoprune.evaluation.answering.answerer.Answerer._generate", None)  # nothing may be asked again
    written = place.folder / "sweep.yaml"
    values = {
        "model": str(checkpoint), "questions": str(place.questions), "out": str(place.folder / "run"), "resamples": 100,
        "max_new_tokens": 2, "methods": ["autoprune", "fastv"], "retention": [0.5, 0.8],
        "options": {"autoprune": {"scope": "view"}}, "figures": False,
    }  # fmt: skip
    written.write_text(yaml.safe_dump(values))
    assert _run(monkeypatch, "--config", written, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {**document, "speed": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methodz: all", "unknown key 'methodz' (did you mean 'methods'?)"),
        ("methods: [fastvv]", "did you mean 'fastv'"),
        ("retention: 0.2:0.4", "start:stop:step"),
        ("ablation: curve", "ablation"),
        ("figures: maybe", "figures"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(
    text: str, message: str, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place.folder / "bad.yaml"
    path.write_text(text)
    assert _run(monkeypatch, "--config", path) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "bad.yaml" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("text", ["gamma=0.1", "autoprune.gamma", ".gamma=1", "autoprune.gamma=["])
def test_a_bad_option_is_one_line(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "--set", text) == 2
    assert capsys.readouterr().err.startswith("senna-prune: error: --set")


def test_the_screen_shows_what_fits_and_says_what_cannot_be(
    place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--methods", "fastv", "--retention", "50%,0.8", "--no-figures", "--csv", place.folder / "answers.csv")
    assert _run(monkeypatch, *_arguments(place, checkpoint, *flags)) == 0
    found = capsys.readouterr()
    lines = found.out.splitlines()
    assert "no verdict, 1 scene (at least 10 are needed)" in lines[0]
    assert any(line.split()[:1] == ["fastv"] and line.split()[1] == "n/a" for line in lines)
    assert any(line.startswith("n/a: fastv at 0.5: ") for line in lines) and "Flips" not in found.out
    assert "8 answers = 2 questions x 4 settings" not in found.err and "answers = 2 questions x " in found.err
    assert (place.folder / "answers.csv").read_text().startswith("question,token")


def test_a_failed_sample_ends_in_exit_code_3_with_the_table(
    place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "images" / "1-0.png").write_bytes(b"broken")
    arguments = _arguments(place, checkpoint, "--methods", "autoprune", "--retention", "0.8", "--no-figures")
    assert _run(monkeypatch, *arguments) == 3
    found = capsys.readouterr()
    assert "1-0.png" in found.err
    assert "1 question, 1 scene" in found.out


def test_the_ablations_and_their_calibration_through_the_command(
    place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--ablation", "indicators", "--tokens-per-view", "4", "--calibration", "2", "--no-figures", "--batch-size", "2", "--full")
    assert _run(monkeypatch, *_arguments(place, checkpoint, *flags)) == 0
    out = capsys.readouterr().out
    assert "indicator=cosine" in out and "paper, LLaVA-1.5-7B" in out
    table = json.loads((place.folder / "run" / "table.json").read_text())
    assert table["calibration"]["questions"] == 2
    kept = yaml.safe_load((place.folder / "run" / "config.yaml").read_text())
    assert kept["calibration"]["indicator_scale"]["cosine"] == table["calibration"]["indicator_scale"]["cosine"]
