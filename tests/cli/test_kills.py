"""SIGKILL in the middle of ``questions build --teacher``, ``replay``, ``report``, ``budget`` and ``calibrate``: nothing half under a final
name, the same bytes after.

Each command runs in a forked child, which kills itself at its n-th change of the folder (``calibrate``, which changes none: at its n-th
look into it): real kills at chosen moments, without another start of Python. ``eval`` and ``sweep`` have tools/maintain/chaos.py; a
teacher's build is killed between its answers, too, in tests/nuscenes/test_teacher_faults.py.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.cli import cli
from senna_autoprune.demo import embedded
from senna_autoprune.evaluation.answering import open as opening
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.runs.identity import CONFIG, read_description
from senna_autoprune.nuscenes.questions_file import SIDECAR_SUFFIX, iter_questions
from senna_autoprune.nuscenes.scenes import load_tables
from tests.evaluation.budget.fake import FakeEngine, question_file, safe_above, without_waiting
from tests.evaluation.conftest import counting_senna, make_place
from tests.nuscenes.test_teacher import kept_in, server  # noqa: F401
from tests.senna.tiny import tiny_model, tiny_processor

OWN = ("answers.sqlite", "answers.sqlite-journal", "run.lock")  # written in place, by design: SQLite's transactions, the lock
LATE, NOON = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d( UTC)?"), rb"noon"  # pages say when they were made
DRAWN, ID = re.compile(rb"\b[0-9a-f]{32}\b"), rb"id"  # of a database, drawn when it is made
TIME = re.compile(rb'"?(\w+_ms|seconds)"?: ?[\d.e+-]+')
BUILT = re.compile(rb'"made": "[^"]*"|"(?:asked|cached)": \d+')  # of a sidecar: when, and which answers were there already
Change = tuple[str, str, str]  # event, path, path it is moved to


class _Clock:
    """The same times in every child."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def changes(argv: list[str], folder: Path, note: Path, kill_at: int | None = None, looks: bool = False) -> tuple[int, list[Change]]:
    """Run a command in a child that kills itself before its ``kill_at``-th change in ``folder``: its wait status, its changes.

    looks: files that it opens to read count as well. What it prints is beside ``note``, with the suffix .out.
    """
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = _watched(argv, folder, note, kill_at, looks)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return status, [tuple(json.loads(line)) for line in note.read_text().splitlines()]


def _watched(argv: list[str], folder: Path, note: Path, kill_at: int | None, looks: bool) -> int:
    seen = 0
    log = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open" and isinstance(args[0], str | bytes) and (looks or (args[2] or 0) & (os.O_WRONLY | os.O_RDWR)):
            paths = [args[0]]
        elif event in ("os.rename", "os.remove"):
            paths = list(args[:2] if event == "os.rename" else args[:1])
        else:
            return
        names = [os.path.abspath(os.fsdecode(path)) for path in paths]
        if not any(Path(name).is_relative_to(folder) for name in names):
            return
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1
        os.write(log, (json.dumps([event, *names, ""][:3]) + "\n").encode())

    with note.with_suffix(".out").open("w", encoding="utf-8") as sys.stdout:
        sys.stderr = io.StringIO()
        sys.addaudithook(hook)
        return cli.main(argv, standalone_mode=False) or 0


def files(folder: Path) -> dict[str, bytes]:
    """Final names and what they hold, times of day and of measuring and drawn names left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and path.name not in OWN and not path.name.startswith(".") and path.suffix != ".part":
            found[name] = DRAWN.sub(ID, TIME.sub(rb"\1", LATE.sub(NOON, path.read_bytes())))
            if name.endswith(SIDECAR_SUFFIX):
                found[name] = BUILT.sub(b"", found[name])
    return found


def survives(argv: Callable[[Path], list[str]], make: Callable[[Path], Any], tmp_path: Path, kills: int) -> dict[str, bytes]:
    """Killed at ``kills`` moments spread over its changes; what an unbroken command writes."""
    tmp_path, note = tmp_path.resolve(), tmp_path / "note"
    unbroken = tmp_path / "unbroken" / "x"
    make(unbroken)
    status, all_changes = changes(argv(unbroken), unbroken, note)
    assert os.waitstatus_to_exitcode(status) == 0
    whole = files(unbroken)
    moved = {after for event, _, after in all_changes if event == "os.rename"}
    opened = {path for event, path, _ in all_changes if event == "open" and Path(path).name not in OWN}
    assert not opened & {str(unbroken / name) for name in whole}, "written under its final name"
    made = {str(unbroken / name) for name in whole if str(unbroken / name) in moved}
    assert made
    for turn in range(kills):
        folder = tmp_path / f"killed-{turn}" / "x"
        make(folder)
        before = files(folder)
        moment = len(all_changes) * (2 * turn + 1) // (2 * kills)
        status, _ = changes(argv(folder), folder, note, moment)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        for name, content in files(folder).items():
            if name == CONFIG:  # written anew while the run goes on
                assert read_description(folder).keys() <= read_description(unbroken).keys()
            else:
                assert content in (before.get(name), told(whole[name], unbroken, folder)), name
        status, _ = changes(argv(folder), folder, note)
        assert os.waitstatus_to_exitcode(status) == 0
        assert files(folder) == {name: told(content, unbroken, folder) for name, content in whole.items()}
    return whole


def told(content: bytes, there: Path, here: Path) -> bytes:
    """The same content where the folder is named otherwise."""
    return content.replace(str(there.parent).encode(), str(here.parent).encode())


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are the same in every child."""
    clock = _Clock()
    for module in ("evaluation.answering.answerer", "evaluation.answering.stopwatch", "pruning.decoder.timing"):
        monkeypatch.setattr(f"senna_autoprune.{module}.perf_counter", clock)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A finished run and the checkpoint that answered."""
    folder = tmp_path_factory.mktemp("place")
    place = make_place(folder, samples=2)
    checkpoint = folder / "checkpoint"
    tiny_model().save_pretrained(checkpoint)
    tiny_processor().save_pretrained(checkpoint)

    evaluate(place.config(out=str(folder / "run"), controls=False), counting_senna().senna)

    def make(out: Path) -> None:
        shutil.copytree(folder / "run", out)

    yield place, checkpoint, make


def test_report(finished: Any, tmp_path: Path) -> None:
    whole = survives(lambda folder: ["report", str(folder), "--no-replay"], finished[2], tmp_path, kills=2)
    assert {"report.html", "metrics.json"} < whole.keys() and any(name.startswith("figures/") for name in whole)


def test_replay(finished: Any, tmp_path: Path, clocks: None) -> None:
    place, checkpoint, make = finished
    run = tmp_path / "run"
    make(run)

    def argv(folder: Path) -> list[str]:
        named = ["--model", str(checkpoint), "--images", str(place.questions.parent)]
        return ["replay", "--run", str(run), "--scene", "scene-0", *named, "--out", str(folder)]

    whole = survives(argv, lambda folder: folder.mkdir(parents=True), tmp_path, kills=2)
    assert {"replay.html", "replay.mcap"} <= whole.keys()


def test_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "open_engine", lambda *asked: nullcontext(FakeEngine(safe_above(0.25))))

    def argv(folder: Path) -> list[str]:
        asked = ["budget", "--model", "fake", "--questions", str(folder.parent / "qa.json"), "--margin", "9", "--safety", "12"]
        return [*asked, "--grid", "0.3,0.4", "--out", str(folder)]

    def make(folder: Path) -> None:
        folder.parent.mkdir()
        question_file(folder.parent, 60, 3)

    with without_waiting():
        whole = survives(argv, make, tmp_path, kills=2)
    assert {"budget.json", "report.html", "figures/staircase.png"} <= whole.keys()


def test_questions_build_with_a_teacher(server: Any, tmp_path: Path) -> None:  # noqa: F811
    found = embedded()
    assert found is not None
    scene = next(iter_questions(found.questions_file)).scene
    load_tables(found.dataroot, "v1.0-demo")  # what it imports is there for every child
    words = ["questions", "build", "--dataroot", str(found.dataroot), "--version", "v1.0-demo", "--scenes", str(scene)]
    words += ["--types", "plan,light,description", "--teacher", f"openai:{server.url}#tiny"]
    whole = survives(lambda folder: [*words, "--out", str(folder / "q.json")], lambda folder: folder.mkdir(parents=True), tmp_path, kills=3)
    assert {"q.json", "q.json.meta.json"} == whole.keys()
    said = [kept_in(folder / "x" / "teacher-cache") for folder in (tmp_path / "unbroken", *sorted(tmp_path.glob("killed-*")))]
    assert len(said) == 4 and len(said[0]) > 1 and all(one.keys() == said[0].keys() for one in said)


def test_calibrate(finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes no file; what it prints is whole lines, its one JSON document in the last of them."""
    place, checkpoint, _ = finished
    monkeypatch.chdir(tmp_path)
    note, out, there = tmp_path / "note", tmp_path / "note.out", files(place.folder)
    argv = ["calibrate", "--model", str(checkpoint), "--questions", str(place.questions), "--count", "2", "--json"]
    assert changes(argv, place.folder, note) == (0, []), "it changes nothing"
    whole = out.read_bytes()
    assert json.loads(whole.splitlines()[-1])["questions"] == 2
    _, looks = changes(argv, place.folder, note, looks=True)
    for moment in (0, len(looks) // 2, len(looks) - 1):  # before the questions, the weights, the last picture
        status, _ = changes(argv, place.folder, note, moment, looks=True)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert whole.startswith(out.read_bytes()) and out.read_bytes()[-1:] in (b"", b"\n") and out.read_bytes() != whole
        assert files(place.folder) == there and {path.name for path in tmp_path.iterdir()} == {"note", "note.out"}
        assert os.waitstatus_to_exitcode(changes(argv, place.folder, note)[0]) == 0
        assert out.read_bytes() == whole
