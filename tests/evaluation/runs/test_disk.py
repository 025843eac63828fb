"""Run directories on real file systems that are full or read-only, and a wall clock that goes backwards."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.cli import main
from senna_autoprune.cli.progress import AnswersBar
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.runs import groups
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.evaluation.runs.store import RunStore
from tests.evaluation.conftest import Place, counting_senna
from tests.senna.tiny import tiny_model, tiny_processor


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own (tmpfs, 1 MB). Mounting is root's: where it is not permitted, the tests of a full disk
    in test_store.py, which need no file system, are what is left.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return filler


def answers(directory: Path) -> str:
    return (directory / "answers.jsonl").read_text()


def refusal(*arguments: Any, **more: Any) -> str:
    with pytest.raises(SennaPruneError) as caught:
        evaluate(*arguments, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("rows", [1, 7, 20])  # 20: all, only what is made of them does not fit
def test_a_disk_that_fills_up_loses_nothing(disk: Path, place: Place, rows: int) -> None:
    unbroken = evaluate(place.config(out=str(place.folder / "unbroken")), counting_senna().senna)
    config = place.config(out=str(disk / "run"))

    def on_row(row: AnswerRow, done: int, total: int) -> None:
        assert total == 20
        if done == rows:
            time.sleep(2 * groups.SECONDS)  # until its group is committed
            fill(disk)

    asked = counting_senna()
    assert f"the disk of {disk / 'run'} is full: answers so far are kept" in refusal(config, asked.senna, on_row=on_row)
    with RunStore.read(disk / "run") as store:  # also without room
        assert len(store.answers()) == rows
    refusal(config, counting_senna().senna)  # still full
    (disk / "filler").unlink()
    again = counting_senna()
    evaluate(config, again.senna)
    assert again.generated == 20 - rows
    assert answers(disk / "run") == answers(unbroken.directory)
    assert {path.name for path in (disk / "run").iterdir()} == {path.name for path in unbroken.directory.iterdir()}


def test_a_disk_full_from_the_start(disk: Path, place: Place) -> None:
    filler = fill(disk)
    assert "full" in refusal(place.config(out=str(disk / "run")), counting_senna().senna)
    filler.unlink()
    assert evaluate(place.config(out=str(disk / "run")), counting_senna().senna).failed == 0


def test_a_read_only_disk_refuses_work_and_can_be_read(disk: Path, place: Place) -> None:
    config = place.config(out=str(disk / "run"))
    done = evaluate(config, counting_senna().senna)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert "Read-only file system" in refusal(config, counting_senna().senna)
    assert "Read-only file system" in refusal(place.config(out=str(disk / "another")), counting_senna().senna)
    with RunStore.read(disk / "run") as store:
        assert len(store.answers()) == done.rows == 20


def test_full_and_read_only_for_a_user(
    disk: Path, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``senna-prune eval`` on a disk that is too small: one line and exit code 2; with more room the same command goes on."""
    checkpoint = place.folder / "checkpoint"
    tiny_model().save_pretrained(checkpoint)
    tiny_processor().save_pretrained(checkpoint)
    words = ["eval", "--model", checkpoint, "--questions", place.questions, "--out", disk / "run", "--retention", 0.6]
    words += ["--resamples", 100, "--max-new-tokens", 3, "--types", "plan,vru"]

    def code_and_error() -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["senna-prune", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, capsys.readouterr().err.splitlines()[-1]

    on_row = AnswersBar.on_row

    def filling(bar: AnswersBar, row: AnswerRow, done: int, total: int) -> None:
        on_row(bar, row, done, total)
        if done == 7:
            time.sleep(2 * groups.SECONDS)
            fill(disk)

    with monkeypatch.context() as patch:
        patch.setattr(AnswersBar, "on_row", filling)
        code, line = code_and_error()
    assert (code, line) == (2, f"senna-prune: error: the disk of {disk / 'run'} is full: answers so far are kept; "
                               "free some space and run the same command again")  # fmt: skip
    with RunStore.read(disk / "run") as store:
        before = len(store.answers())
    assert 7 <= before < 40
    (disk / "filler").unlink()
    assert code_and_error()[0] == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    code, line = code_and_error()
    assert code == 2 and line.startswith(f"senna-prune: error: cannot write to the run directory {disk / 'run'}: Read-only")


def test_a_clock_that_goes_backwards_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = evaluate(place.config(out=str(place.folder / "unbroken")), counting_senna().senna)
    now = [2e9]

    def earlier() -> float:
        now[0] -= 3600.0
        return now[0]

    monkeypatch.setattr(time, "time", earlier)
    monkeypatch.setattr(time, "time_ns", lambda: int(earlier() * 1e9))

    class Interrupted(Exception):
        pass

    def on_row(row: AnswerRow, done: int, total: int) -> None:
        if done == 7:
            raise Interrupted

    with pytest.raises(Interrupted):
        evaluate(place.config(), counting_senna().senna, on_row=on_row)
    asked = counting_senna()
    result = evaluate(place.config(), asked.senna)
    assert asked.generated == 20 - 7
    assert answers(result.directory) == answers(unbroken.directory)
    with RunStore.read(result.directory) as store:
        for row in store.answers():
            times = (row.vision_ms, row.prefill_ms, row.decode_ms, (row.trace or {}).get("pruner_ms", 0.0))
            assert all(value is not None and 0 <= value < 60_000 for value in times)
    assert result.speed is not None and 0 < result.speed.seconds < 60
