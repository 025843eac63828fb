"""``senna-prune questions`` from the outside: what it prints, where it exits, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from senna_autoprune.cli.questions import command
from senna_autoprune.errors import SennaPruneError
from tests.fixtures import shared
from tests.nuscenes.test_teacher import Server, completion

CLI = (sys.executable, "-c", "from senna_autoprune.cli import main; main()")


def run(*arguments: str):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def subset_root() -> str:
    return str(shared("nuscenes", "subset"))


@pytest.fixture(scope="module")
def file(subset_root, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "q.json"
    result = run("build", "--dataroot", subset_root, "--version", "v1.0-mini", "--split", "all", "--out", out)
    assert result.exit_code == 0
    return out, result.output


def test_build_says_what_it_counted(file):
    out, printed = file
    assert f"596 questions about 182 of 200 samples -> {out}" in printed
    assert "v1.0-mini all, navigation fixed, views fixed" in printed
    assert "132  77.6 %  KEEP, STRAIGHT" in printed
    assert "ego speed: CAN bus for 79 samples, fallback to displacement for 121" in printed
    assert "no pose messages: scene-0368, scene-0578, scene-0523" in printed
    assert "images: 1152 files missing" in printed
    assert "not asked: 121 vru questions, no boxes in the scene" in printed
    assert printed.count("left out, they need --teacher: light, description, explanation") == 1
    assert len(json.loads(out.read_text())) == 596


def test_build_options(subset_root, tmp_path):
    out = tmp_path / "q.json"
    result = run(
        *("build", "--dataroot", subset_root, "--version", "v1.0-mini", "--scenes", "scene-0103,scene-0061"),
        *(
            "--types",
            "plan, vru",
            "--navigation",
            "reference",
            "--views",
            "reference",
            "--require-images",
            "--out",
            out,
        ),
    )
    assert "6 questions about 3 of 79 samples" in result.output
    assert "v1.0-mini scene-0103, scene-0061, navigation reference, views reference" in result.output
    assert "--teacher" not in result.output  # nothing was left out
    assert "note: the navigation command takes x (right) for forward" in result.output
    assert "note: five of six images stand under another view's name" in result.output


def test_absent_scenes_are_reported(subset_root, tmp_path):
    arguments = ("build", "--dataroot", subset_root, "--version", "v1.0-mini", "--split", "val")
    result = run(*arguments, "--types", "plan", "--out", tmp_path / "q.json")
    assert result.exit_code == 0
    assert "not in the tables: scene-0003, scene-0012, scene-0013, scene-0014, scene-0015 and 143 more" in result.output


def test_inspect(file):
    result = run("inspect", file[0])
    assert result.exit_code == 0
    assert "plan            170 questions" in result.output
    assert "always saying 'KEEP, STRAIGHT' is right for 77.6 %" in result.output
    assert "182 samples, 1092 images, 1044 of them missing; 174 samples lack at least one" in result.output
    assert "what is your plan for the next three seconds?" in result.output


def test_inspect_a_file_of_the_original_code(file, tmp_path):
    records = [{k: v for k, v in r.items() if k not in ("id", "senna_prune")} for r in json.loads(file[0].read_text())]
    original = tmp_path / "original.json"
    original.write_text(json.dumps(records))
    result = run("inspect", original)
    assert "no sidecar" in result.output and "plan            170 questions" in result.output
    with pytest.raises(SennaPruneError, match="give --dataroot and --version"):
        run("inspect", original, "--image", records[0]["token"], tmp_path / "x.png")


def test_inspect_image(file, tmp_path):
    out = tmp_path / "x.png"
    result = run("inspect", file[0], "--image", "3e8750f331d7499e9b5123e9eb70f2e2", out)
    assert result.exit_code == 0 and out.stat().st_size > 100_000
    assert "plan question about sample 3e8750f331d7499e9b5123e9eb70f2e2" in result.output


def test_split_or_scenes_are_needed(subset_root, tmp_path):
    with pytest.raises(SennaPruneError, match="--split"):
        run("build", "--dataroot", subset_root, "--version", "v1.0-mini", "--out", tmp_path / "q.json")


def test_teacher_from_the_command_line(subset_root, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = Server()
    arguments = ("build", "--dataroot", subset_root, "--version", "v1.0-mini", "--scenes", "scene-0061")
    arguments += (
        "--types",
        "light,explanation",
        "--teacher-concurrency",
        "1",
        "--out",
        str(tmp_path / "q.json"),
        "--teacher",
        f"openai:{server.url}#tiny",
    )
    try:
        server.script = lambda number, body: completion("Red") if number == 1 else (400, {}, "too long")
        result = run(*arguments)
        assert result.exit_code == 3  # finished, with a failed question
        assert "teacher tiny: 1 answers asked, 0 from the cache, 1 failed" in result.output
        assert "not asked: 1 explanation questions, teacher gave no answer" in result.output
        server.script = lambda number, body: completion("Because.")
        result = run(*arguments)
        assert result.exit_code == 0
        assert "teacher tiny: 1 answers asked, 1 from the cache, 0 failed" in result.output
        assert (tmp_path / "teacher-cache").is_dir()
    finally:
        server.close()


def test_a_user_error_is_one_line_and_exit_code_2(tmp_path):
    done = subprocess.run(
        [*CLI, "questions", "inspect", tmp_path / "none.json"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("senna-prune: error: ") and done.stderr.count("\n") == 1
    assert "none.json" in done.stderr


def test_an_interrupted_build_ends_at_once_though_the_teacher_hangs(subset_root, tmp_path):
    server = Server()
    release = threading.Event()
    server.script = lambda number, body: completion("late") if release.wait(600) else completion("never")
    out = tmp_path / "q.json"
    words = ("questions", "build", "--dataroot", subset_root, "--version", "v1.0-mini", "--scenes", "scene-0061")
    # A shell's background job hands down SIGINT as ignored, and Python leaves it so: then ^C would reach nobody.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from senna_autoprune.cli import main; main()"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as such a job would
    try:
        build = subprocess.Popen(
            [sys.executable, "-c", listening, *words, "--out", out, "--teacher", f"openai:{server.url}#tiny"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        while not server.requests:
            assert build.poll() is None
            time.sleep(0.05)
        build.send_signal(signal.SIGINT)
        assert build.wait(timeout=120) != 0
    finally:
        build.kill()
        release.set()
        server.close()
    assert not any(path.is_file() for path in tmp_path.iterdir())


def test_inspect_finds_images_beside_the_question_file(tmp_path, monkeypatch):
    """A file that moves with its data names no folder; its own is the last place to look."""
    from senna_autoprune.nuscenes.inspection import inspect_questions

    (tmp_path / "data" / "samples").mkdir(parents=True)
    (tmp_path / "data" / "samples" / "a.jpg").write_bytes(b"x")
    record = {
        "id": "q",
        "token": "t",
        "image": "samples/a.jpg",
        "images": ["samples/a.jpg", "samples/b.jpg"],
        "conversations": [{"from": "human", "value": "<image><image>SPEED plan"}, {"from": "gpt", "value": "KEEP, STRAIGHT\n"}],
    }
    (tmp_path / "data" / "questions.json").write_text(json.dumps([record]))
    monkeypatch.chdir(tmp_path)
    assert inspect_questions(Path("data/questions.json")).missing_images == 1
