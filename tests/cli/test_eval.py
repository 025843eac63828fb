"""``senna-prune eval`` as a user types it: tables, exit codes, one line for every fault."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from senna_autoprune import demo
from senna_autoprune.cli import main, values
from senna_autoprune.cli.eval_tables import console_for, show
from senna_autoprune.evaluation.answering.local_engine import LocalEngine
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.tables.grid import interval, percent
from tests.evaluation.conftest import Place, make_place
from tests.fixtures import shared


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["senna-prune", "eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    code = caught.value.code
    return code if isinstance(code, int) else 0 if code is None else 1


def _arguments(place: Place, checkpoint: Path, *more: object) -> list[object]:
    base = ["--model", checkpoint, "--questions", place.questions, "--out", place.folder / "run"]
    return [*base, "--retention", "0.6", "--resamples", "100", "--max-new-tokens", "3", *more]


def test_tables_json_and_resume(
    place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, *_arguments(place, checkpoint, "--types", "plan,vru", "--json", "--full")) == 0
    first = capsys.readouterr()
    for name in ("unpruned", "autoprune", "random", "uniform", "no-image", "majority", "random-answer"):
        assert name in first.out
    for words in ("macro-F1", "retention of accuracy", "McNemar", "FLOPs", "Flips", "Vulnerable road users", "Cost"):
        assert words in first.out
    document = json.loads(first.out.splitlines()[-1])
    assert document["questions"]["complete"] == 8
    assert document["directory"] == str(place.folder / "run")
    assert document["settings"]["autoprune"]["cost"]["retention_tokens"] == pytest.approx(0.6, abs=0.03)
    assert "list" not in document["flips"]["autoprune"]
    assert document["settings"]["unpruned"]["unended"] == {"count": 8, "of": 8}
    assert "unpruned: 8 of 8 answers did not end and were cut: give more --max-new-tokens" in first.out
    assert "n/a (unpruned accuracy is 0" in first.out  # random weights say nothing that parses
    assert "40 answers = 8 questions x 5 settings" in first.err and "40 of 40 answers" in first.err
    speed = document.pop("speed")
    assert (speed["answers"], speed["settings"], speed["workers"]) == (40, 5, 1)
    assert f"speed: {speed['questions_per_second']:.3g} questions/s" in first.out
    lines = (place.folder / "run" / "answers.jsonl").read_text().splitlines()
    assert [(row["question"], row["setting"]) for row in map(json.loads, lines[:2])] == [(0, "autoprune"), (0, "no-image")]
    assert len(lines) == 40
    assert "_ms" not in lines[0]

    monkeypatch.setattr("senna_autoprune.evaluation.answering.answerer.Answerer._ask", None)  # nothing may be asked again
    assert _run(monkeypatch, *_arguments(place, checkpoint, "--types", "plan,vru", "--json")) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again.pop("speed") is None
    assert again == document


def test_a_finished_run_is_printed_again_without_its_model(
    place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = _arguments(place, checkpoint, "--no-controls")
    assert _run(monkeypatch, *asked) == 0
    first = capsys.readouterr().out
    loaded: list[Any] = []
    load = LocalEngine.load
    monkeypatch.setattr(LocalEngine, "load", lambda where: (loaded.append(where), load(where))[1])
    assert _run(monkeypatch, *asked) == 0
    again = capsys.readouterr()
    assert not loaded and "the model is not loaded" in again.err
    assert first.startswith(again.out.rstrip())  # but for the speed
    os.utime(checkpoint / "config.json")  # perhaps another model
    assert _run(monkeypatch, *asked) == 0
    assert len(loaded) == 1
    assert _run(monkeypatch, *asked, "--full", "--dtype", "float16") == 2 and len(loaded) == 2  # refused by the run folder


def test_a_failed_sample_ends_in_exit_code_3_with_the_rest_measured(
    place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "images" / "1-0.png").write_bytes(b"broken")
    assert _run(monkeypatch, *_arguments(place, checkpoint, "--no-controls", "--json")) == 3
    out = capsys.readouterr().out
    assert "1-0.png" in out
    assert json.loads(out.splitlines()[-1])["questions"]["complete"] == 3


def test_configuration_file_with_flags_on_top(place: Place, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = place.folder / "eval.yaml"
    config.write_text(f"model: {checkpoint}\nretention: 0.7\ncontrols: false\nmax_new_tokens: 2\nseed: 5\n")
    run = place.folder / "run"
    flags = ("--config", config, "--questions", place.questions, "--out", run, "--seed", 6, "--set", "gamma=0.1")
    assert _run(monkeypatch, *flags) == 0
    with RunStore.read(run) as store:
        stored = store.config["config"]
        assert (stored["retention"], stored["seed"], stored["options"]) == (0.7, 6, {"gamma": 0.1})
        assert {row.setting for row in store.answers()} == {"unpruned", "autoprune"}


def _truncated(place: Place) -> list[object]:
    place.questions.write_text(place.questions.read_text()[:-40])
    return []


def _no_images(place: Place) -> list[object]:
    return ["--images", place.folder / "elsewhere"]


def _other_settings(place: Place) -> list[object]:
    (place.folder / "run").mkdir()
    (place.folder / "run" / "config.yaml").write_text("config: {seed: 9}\n")
    return []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda place: ["--retention", "1.5"], "retention"),
        (lambda place: ["--tokens", "5"], "retention and tokens"),
        (lambda place: ["--method", "autoprum"], "did you mean 'autoprune'"),
        (lambda place: ["--set", "gama=1"], "did you mean 'gamma'"),
        (lambda place: ["--set", "gamma"], "NAME=VALUE"),
        (lambda place: ["--config", place.folder / "absent.yaml"], "absent.yaml"),
        (lambda place: ["--model", place.folder], "config.json"),
        (lambda place: ["--questions", place.folder / "no.json"], "no.json"),
        (lambda place: ["--out", place.questions / "run"], "cannot write to the run directory"),
        (lambda place: ["--device", "cuda:99"], "cuda:99"),
        (lambda place: ["--types", "vruu"], "did you mean 'vru'"),
        (_truncated, "cut off"),
        (_no_images, "--images"),
        (_other_settings, "other settings"),
    ],
)
def test_a_bad_set_up_is_one_line_and_exit_code_2(
    place: Place,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Any,
    words: str,
) -> None:
    arguments = _arguments(place, checkpoint)
    assert _run(monkeypatch, *arguments, *spoil(place)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("senna-prune: error: ")
    assert words in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_without_a_model_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "embedded", lambda: None)
    assert _run(monkeypatch) == 2
    assert "--model and --questions are missing" in capsys.readouterr().err
    assert _run(monkeypatch, "--model", "x") == 2
    assert "--questions is missing" in capsys.readouterr().err


def test_what_is_embedded_stands_in_for_what_is_missing(
    place: Place, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "embedded", lambda: demo.EmbeddedDemo(checkpoint, place.questions, place.folder))
    flags = ("--out", place.folder / "run", "--retention", 0.6, "--max-new-tokens", 2, "--no-controls")
    assert _run(monkeypatch, *flags) == 0
    assert "using the embedded model and questions" in capsys.readouterr().err
    kept = tmp_path / "eval.yaml"
    kept.write_text("batch_size: 3\n")
    for said, size in (
        ((), values.EMBEDDED_BATCH),
        (("--batch-size", 2), 2),
        (("--config", kept), 3),
        (("--config", kept, "--batch-size", 1), None),
    ):
        out = tmp_path / f"run-{size}"
        assert _run(monkeypatch, "--out", out, *flags[2:], *said) == 0
        assert yaml.safe_load((out / "config.yaml").read_text())["config"].get("batch_size") == size  # batches of one go unsaid


def test_all_embedded_questions_go_to_a_process_a_core_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "embedded", lambda: demo.EmbeddedDemo(tmp_path, tmp_path / "questions.json", tmp_path))
    monkeypatch.setattr(values, "has_gpu", lambda: False)
    monkeypatch.setattr(values, "cores", lambda: 16)

    def workers(*said: str, model: str | None = None) -> int | None:
        config = SimpleNamespace(model=model, questions=model, batch_size=1, workers=None)
        values.fill_in_embedded(config, Console(stderr=True), said)
        return config.workers

    assert workers() == workers("retention", "types", "batch_size") == 4
    assert workers(model="one") is None
    for said in ("workers", "engine", "device", "limit", "limit_scenes"):
        assert workers(said) is None
    monkeypatch.setattr(values, "cores", lambda: 2)
    assert workers() == 2
    monkeypatch.setattr(values, "cores", lambda: 1)
    assert workers() is None
    monkeypatch.setattr(values, "cores", lambda: 16)
    monkeypatch.setattr(values, "has_gpu", lambda: True)
    assert workers() is None


def test_help_loads_no_torch() -> None:
    import subprocess

    code = (
        "import sys; sys.argv = ['senna-prune', 'eval', '--help']\n"
        "from senna_autoprune.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_numbers_as_words() -> None:
    assert percent(None) == "n/a"
    assert percent(0.1234) == "12.3 %"
    assert interval({"value": 0.5, "low": 0.4, "high": 0.625}) == "50.0 % [40.0, 62.5]"
    assert interval({"value": 0.5, "low": None, "high": None}) == "50.0 %"
    assert interval(None) == interval({"value": None, "low": None, "high": None}) == "n/a"


def test_names_and_reasons_of_hostile_files_are_not_markup() -> None:
    from tests.evaluation.measures.test_summary import KEEP, _question, _row, summarise

    hostile = "[red]x[/nothing]"
    rows = [_row(0, "unpruned", KEEP), _row(0, hostile, KEEP), _row(1, hostile, None, reason=hostile)]
    rows.append(_row(1, "unpruned", KEEP))
    metrics = summarise([_question(0, KEEP), _question(1, KEEP, token=hostile)], rows, hostile)
    screen = io.StringIO()
    show(metrics, Console(file=screen, width=200))
    assert screen.getvalue().count(hostile) >= 4
    assert console_for(stderr=True).stderr


def test_real_frames_through_the_recorded_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From nuScenes tables to the table of measures: two keyframes, six views of 1600 x 900 each, the original layout
    on disk, AutoPrune at a quarter of the tokens.
    """
    tiny, data = shared("fixtures", "senna-tiny-a"), shared("nuscenes", "subset")
    questions = tmp_path / "qa.json"
    build = ["questions", "build", "--dataroot", str(data), "--version", "v1.0-mini", "--scenes", "scene-0103"]
    flags = ["--types", "plan", "--require-images", "--out", str(questions)]
    monkeypatch.setattr(sys, "argv", ["senna-prune", *build, *flags])
    with contextlib.suppress(SystemExit):
        main()
    tower = tiny / "openai" / "clip-vit-large-patch14-336"
    model = ["--model", tiny / "checkpoint", "--vision-tower", tower, "--questions", questions]
    assert _run(monkeypatch, *model, "--retention", "0.25", "--out", tmp_path / "run", "--json") == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["questions"]["complete"] == 2
    assert document["breakdown"]["location"][0]["value"] == "boston-seaport"
    scenes = document["scenes"]
    assert (scenes["count"], scenes["questions_without_scene"]) == (1, 0) and "too few" in scenes["warning"]
    for name in ("autoprune", "random", "uniform"):
        cost = document["settings"][name]["cost"]
        assert cost["tokens_per_view"] == pytest.approx(32, abs=0.1)
        assert cost["flops_ratio"] < 0.4
        assert cost["kv_ratio"]["median"] < 0.5
    assert document["settings"]["autoprune"]["cost"]["schedule"][0] == 768
    assert document["settings"]["unpruned"]["cost"]["tokens_per_view"] == 128
