"""tools/maintain/chaos.py: a short run of it, and that it sees what would be wrong."""

from __future__ import annotations

import json
import runpy
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from senna_autoprune.demo import LABEL
from senna_autoprune.evaluation.evaluate import evaluate
from tests.evaluation.conftest import counting_senna, make_place

CHAOS = Path(__file__).resolve().parents[2] / "tools" / "maintain" / "chaos.py"


def test_five_kills_change_nothing(tmp_path: Path) -> None:
    words = ["--kills", "5", "--limit", "3", "--seed", "7", "--out", str(tmp_path / "chaos")]
    ended = subprocess.run([sys.executable, str(CHAOS), *words], capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *lines, last = ended.stdout.splitlines()
    result = json.loads(last)
    assert (result["kills"], result["identical"], result["answers_a_run"]) == (5, True, 15)
    assert sum(result["kills_by_stage"].values()) == 5 == sum(": kill " in line for line in lines)
    assert result["runs"] == sum("identical" in line for line in lines) >= 1
    assert result["resumed"] == 5  # every killed process had one that went on
    assert lines[0].startswith(LABEL) and result["label"] == LABEL


@pytest.fixture(scope="module")
def chaos() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(CHAOS), run_name="chaos"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = make_place(tmp_path_factory.mktemp("place"), samples=2)
    return evaluate(place.config(out=str(place.folder / "unbroken"), controls=False), counting_senna().senna).directory


@pytest.fixture
def other(unbroken: Path, tmp_path: Path) -> Path:
    """Another run with the same answers."""
    return Path(shutil.copytree(unbroken, tmp_path / "other"))


def sql(statement: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        with sqlite3.connect(run / "answers.sqlite") as connection:
            connection.execute(statement)

    return change


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replace("answers.jsonl", '"ok"', '"failed"'), "answers.jsonl differs"),
        (replace("metrics.json", '"complete": 2', '"complete": 1'), "metrics.json differs"),
        (replace("config.yaml", "seed: 0", "seed: 1"), "config.yaml differs"),
        (lambda run: (run / ".metrics.json.x").touch(), "files"),
        (sql("UPDATE answers SET prefill_ms = 1 WHERE question = 0"), "asked again"),
    ],
)
def test_it_sees_a_difference(chaos: Any, unbroken: Path, other: Path, change: Callable[[Path], None], words: str) -> None:
    kept = chaos.committed(unbroken)
    assert len(kept) == chaos.count(unbroken) == 4
    chaos.compare(other, unbroken, kept)
    change(other)
    with pytest.raises(chaos.Differs, match=words):
        chaos.compare(other, unbroken, kept)


def test_times_alone_are_no_difference(chaos: Any, unbroken: Path, other: Path) -> None:
    metrics = json.loads((other / "metrics.json").read_text())
    cost = metrics["settings"]["autoprune"]["cost"]
    cost["prefill_ms"]["median"] += 1
    cost["prefill_speedup"] = 3.0
    (other / "metrics.json").write_text(json.dumps(metrics))
    sql("UPDATE answers SET prefill_ms = 1")(other)
    chaos.compare(other, unbroken, {})


def test_a_directory_with_nothing_in_it_has_no_answers(chaos: Any, tmp_path: Path) -> None:
    assert chaos.count(tmp_path) == 0
    (tmp_path / "answers.sqlite").touch()  # killed between its creation and its first table
    assert chaos.count(tmp_path) == 0
    assert (tmp_path / "answers.sqlite").stat().st_size == 0
    assert [path.name for path in tmp_path.iterdir()] == ["answers.sqlite"]


def test_a_failed_evaluation_ends_it_with_exit_code_1(
    chaos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert chaos.main(["--kills", "1", "--out", str(tmp_path / "out")]) == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["identical"], result["kills"]) == (False, 0)
    assert "unbroken: exit code 1" in result["difference"]
