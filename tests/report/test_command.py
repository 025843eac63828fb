"""``senna-prune report`` as a user types it: files, the links between them, one line for every fault."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_autoprune.cli import main
from senna_autoprune.evaluation.answering.engine import ModelPlace
from senna_autoprune.evaluation.config import EvalConfig
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.yaml_files import dump_yaml, read_yaml
from senna_autoprune.report import sweep_figures as figures
from senna_autoprune.report.sweep_figures import FIGURE_MEANINGS
from senna_autoprune.senna import load_senna
from tests.evaluation.conftest import make_place
from tests.replay.browser import ATTACKS, chromium, errors, resize
from tests.report.runs import made
from tests.senna.tiny import tiny_model, tiny_processor


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny random Senna, whose answers are nonsense and change under pruning."""
    folder = tmp_path_factory.mktemp("finished")
    checkpoint = folder / "checkpoint"
    tiny_model().save_pretrained(checkpoint)
    tiny_processor().save_pretrained(checkpoint)
    place = make_place(folder, speeds="a")
    config = EvalConfig(
        model=str(checkpoint), questions=str(place.questions), out=str(folder / "run"), retention=0.4, max_new_tokens=4, resamples=100
    )
    return evaluate(config, load_senna(str(checkpoint))).directory


@pytest.fixture(scope="module")
def named(finished: Path) -> tuple[object, ...]:
    """What the run points to, named again."""
    return "--model", finished.parent / "checkpoint", "--images", finished.parent


def report(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["senna-prune", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_pictures_open_the_replay_at_their_frame(
    finished: Path, named: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert report(monkeypatch, finished, "--flips", 3, "--replay", *named) == 0
    said = capsys.readouterr()
    for name in ("report.html", "flips.html", "figures/report-accuracy.png", "figures/report-tokens.png"):
        assert (finished / name).is_file() and str(finished / name) in said.out
    assert (finished / "figures" / "report-accuracy.svg").is_file() and "note" not in said.err
    page = (finished / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'<a class="shot" href="([^"]*)"><img src="data:[^"]*" alt="3 camera views of sample (\w+),', page)
    assert [link for link, _ in links] == [f"flips.html#frame={number}" for number in (1, 2, 3)]
    with RunStore.read(finished) as store:
        tokens = {row.token for row in store.questions()}
    assert {token for _, token in links} <= tokens and len({token for _, token in links}) == 3
    moved = tmp_path / "elsewhere"  # links are relative: the folder may be sent on
    shutil.copytree(finished, moved)
    with chromium(tmp_path / "profile") as driver:
        resize(driver, 1280, 900)
        for index, (_, token) in enumerate(links):
            driver.get((moved / "report.html").as_uri())
            driver.execute_script(f"document.querySelectorAll('a.shot')[{index}].click()")
            assert driver.execute_script("return document.getElementById('frame-text').textContent").startswith(f"{index + 1} of ")
            assert token in driver.execute_script("return document.getElementById('numbers').textContent")
        assert errors(driver) == []


def test_without_its_model_it_is_written_without_a_replay(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.html"))
    described = read_yaml(run / "config.yaml")
    (run / "config.yaml").write_text(dump_yaml({**described, "places": {**described["places"], "model": "/moved/away"}}))
    assert report(monkeypatch, run, "--replay") == 0
    said = capsys.readouterr()
    assert "note: no replay of the flips: " in said.err and "/moved/away" in said.err
    assert not (run / "flips.html").exists() and "no replay of the flips" in (run / "report.html").read_text()
    assert report(monkeypatch, run, "--no-replay", "--out", tmp_path / "other") == 0
    assert (tmp_path / "other" / "report.html").is_file() and not (tmp_path / "other" / "flips.html").exists()


def test_a_model_is_loaded_only_where_a_replay_is_asked_for(
    finished: Path, named: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    loaded: list[ModelPlace] = []
    load = ModelPlace.load
    monkeypatch.setattr(ModelPlace, "load", lambda place: (loaded.append(place), load(place))[1])
    run, links = tmp_path / "run", 'class="shot" href="flips.html#frame='
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.html", "flips.json"))
    assert report(monkeypatch, run, "--flips", 2) == 0
    page = (run / "report.html").read_text()
    assert not loaded and not (run / "flips.html").exists() and links not in page and f"senna-prune report {run} --replay" in page
    assert report(monkeypatch, run, "--flips", 2, "--replay", *named) == 0 and len(loaded) == 1
    page = (run / "report.html").read_text()
    assert page.count(links) == 2
    assert report(monkeypatch, run, "--flips", 2) == 0 and len(loaded) == 1  # the replay made before is opened
    assert (run / "report.html").read_text().count(links) == 2 and "note" not in capsys.readouterr().err
    assert report(monkeypatch, run, "--no-replay") == 0 and len(loaded) == 1 and links not in (run / "report.html").read_text()
    frames = json.loads((run / "flips.json").read_text())
    for spoiled in ({**frames, "run": "another's"}, {"frames": frames["frames"]}, {**frames, "frames": 3}, []):
        (run / "flips.json").write_text(json.dumps(spoiled))
        assert report(monkeypatch, run) == 0 and links not in (run / "report.html").read_text()
    assert report(monkeypatch, run, "--flips", 1, "--device", "cpu", *named) == 0 and len(loaded) == 2


def test_a_replay_asks_what_the_run_points_to_only_if_it_is_named_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The note says what to add; the commands that the page shows have it, and work."""
    run, place = tmp_path / "run", finished.parent
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.html", "flips.json"))
    assert report(monkeypatch, run, "--replay") == 0
    again = f"--model {place / 'checkpoint'} --images {place}"
    line = f"{run} was answered with {place / 'checkpoint'}, the images in {place}: name them again to open them: {again}"
    assert f"note: no replay of the flips: {line}\n" in capsys.readouterr().err and not (run / "flips.html").exists()
    assert report(monkeypatch, run, "--replay", "--method", "fastv") == 0
    assert "--method fastv: the report is of autoprune" in capsys.readouterr().err
    page = html.unescape((run / "report.html").read_text())
    _, *words = shlex.split(page.split("<code>senna-prune report", 1)[1].split("</code>")[0])
    assert " ".join(words) == f"--replay {again}" and report(monkeypatch, run, *words) == 0 and (run / "flips.html").is_file()
    assert f"senna-prune replay --run {run} --flips all {again}</code>" in page


def test_a_run_of_before_or_of_others_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = made(tmp_path).write()
    assert report(monkeypatch, run, "--no-replay", "--flips", 0) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Further flips, in words" in page and 'class="shot"' not in page


def _sweep(folder: Path, table: object) -> Path:
    described = {"config": {"types": ["plan"]}, "settings": {}, "sweep": {"methods": ["all"], "retention": [0.5]}, "places": {}}
    with RunStore.start(folder / "sweep", described, []) as store:
        directory = store.directory
    if table is not None:
        (directory / "table.json").write_text(json.dumps(table))
    return directory


def _table() -> dict[str, Any]:
    text = "".join(ATTACKS).replace("\x00", "")  # a table that holds a NUL is refused
    accuracy = {"value": 0.5, "low": 0.4, "high": 0.6}
    cell = {"row": text, "kind": "method", "budget": "0.5", "setting": text, "status": "n/a", "reason": text}
    facts = {
        "questions": 4,
        "scenes": {"count": 2},
        "majority_answer": text,
        "bootstrap": {"resamples": 100, "seed": 0},
        "tests": 0,
        "level": 0.05,
        "batch_size": 1,
        "machine": {"device": text},
    }
    return {
        "columns": [{"budget": "0.5", "tokens_per_view": 64, "share": 0.5}],
        "plain": {"unpruned": {"accuracy": accuracy, "official_accuracy": 0.5, "prefill_ms": {"median": 1.0}}},
        "cells": [cell],
        "paper": {"rows": {}, "label": "paper", "source": text},
        "paper_ablations": None,
        "facts": facts,
        "warnings": [text],
    }


def test_a_sweep_is_reported_with_its_table_and_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PIL import Image

    directory = _sweep(tmp_path, _table())
    (directory / "figures").mkdir()
    Image.new("RGB", (8, 8)).save(directory / "figures" / "accuracy_by_time.png")
    assert report(monkeypatch, directory) == 0
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert "Retention of planning accuracy" in page and "unpruned accuracy 50.0 % [40.0, 60.0]" in page
    assert page.count("<img") == 1 and FIGURE_MEANINGS["accuracy_by_time"] in page and "data:image/png;base64," in page
    assert "<script" not in page and "&lt;script&gt;" in page
    assert report(monkeypatch, directory, "--out", tmp_path / "new" / "folder") == 0
    assert (tmp_path / "new" / "folder" / "report.html").is_file()


def test_every_figure_of_a_sweep_has_its_meaning() -> None:
    assert all(callable(getattr(figures, name)) for name in FIGURE_MEANINGS)


@pytest.mark.parametrize(
    ("table", "words"), [(None, "has no table.json yet"), ({"cells": 3}, "is not a table"), ([], "is not a table"), ("x", "is not a table")]
)
def test_a_sweep_without_its_table_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, table: object, words: str
) -> None:
    assert report(monkeypatch, _sweep(tmp_path, table)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("senna-prune: error: ") and words in lines[0]


def test_faults_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = made(tmp_path).write()
    (tmp_path / "file").write_text("")
    for arguments, words in (
        ((tmp_path / "nowhere",), "is not a run directory"),
        ((run, "--no-replay", "--out", tmp_path / "file" / "folder"), "cannot write"),
    ):
        assert report(monkeypatch, *arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("senna-prune: error: ") and words in lines[-1]
