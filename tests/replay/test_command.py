"""``senna-prune replay`` as a user types it: scenes, runs, one line for every fault."""

from __future__ import annotations

import io
import shlex
import shutil
import sqlite3
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.cli import main
from senna_autoprune.evaluation.runs.identity import ANSWERS
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.replay import setup
from tests.fixtures import shared
from tests.replay.conftest import DATAROOT
from tests.replay.test_mcap import read
from tests.replay.test_page import embedded_json


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["senna-prune", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    code = caught.value.code
    return code if isinstance(code, int) else 0 if code is None else 1


def fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of an error."""
    assert command(monkeypatch, "replay", *arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("senna-prune: error: "), lines
    return lines[0]


def test_a_scene_to_a_folder(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--model", checkpoint, "--dataroot", DATAROOT, "--out", tmp_path / "out")
    assert command(monkeypatch, "replay", *place, "--retention", "0.6", "--limit", "2") == 0
    shown = capsys.readouterr()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "foxglove-layout.json",
        "replay.html",
        "replay.mcap",
        "replay.mp4",
    ]
    assert ": 2 frames" in shown.out and "0.6 of the visual tokens" in shown.out and "scene-" in shown.err
    data = embedded_json((tmp_path / "out" / "replay.html").read_text())
    assert len(data["frames"]) == 2
    assert len(read(tmp_path / "out" / "replay.mcap")["/pruning"]) == 2


def test_one_file_of_a_method_of_choice(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ("--model", checkpoint, "--dataroot", DATAROOT, "--version", "v1.0-demo", "--limit", "1")
    out = tmp_path / "deep" / "er" / "one.html"
    assert command(monkeypatch, "replay", *place, "--method", "uniform", "--tokens-per-view", "3", "--out", out) == 0
    assert [path.name for path in out.parent.iterdir()] == ["one.html"]
    trace = embedded_json(out.read_text())["frames"][0]["trace"]
    assert trace["average_tokens"] == 18 and trace["k"] is None


@pytest.fixture(scope="module")
def run(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four embedded questions whose stored answers are set by hand: a wrong speed, a missed brake, none."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        base = ("--model", checkpoint, "--questions", DATAROOT / "questions.json", "--out", folder, "--limit", "4")
        more = ("--no-controls", "--retention", "0.6", "--max-new-tokens", "3", "--resamples", "100")
        with redirect_stdout(io.StringIO()) as printed:
            assert command(patch, "eval", *base, *more) in (0, 3)
    (folder.parent / "printed.txt").write_text(printed.getvalue())
    answers = (
        ("KEEP, STRAIGHT", "ACCELERATE, STRAIGHT", "KEEP, STRAIGHT"),
        ("STOP, STRAIGHT", "KEEP, STRAIGHT", "STOP, STRAIGHT"),
        ("KEEP, STRAIGHT", "KEEP, STRAIGHT", "KEEP, STRAIGHT"),
        ("nonsense", "KEEP, STRAIGHT", "KEEP, STRAIGHT"),
    )
    with sqlite3.connect(folder / ANSWERS) as connection:
        numbers = [number for (number,) in connection.execute("SELECT question FROM questions ORDER BY question")]
        for number, (before, after, label) in zip(numbers, answers, strict=True):
            for setting, text in (("unpruned", before), ("autoprune", after)):
                values = (text, number, setting)
                connection.execute("UPDATE answers SET answer = ? WHERE question = ? AND setting = ?", values)
            connection.execute("UPDATE questions SET label = ? WHERE question = ?", (f"{label}\n", number))
    return folder


def frames_of(page: Path) -> list[Any]:
    return embedded_json(page.read_text())["frames"]


def test_the_worst_flips_of_a_run(
    run: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunStore.read(run) as store:
        questions = store.questions()
    out = tmp_path / "worst.html"
    code = command(monkeypatch, "replay", "--run", run, "--model", checkpoint, "--flips", "worst", "--out", out)
    shown = capsys.readouterr().out
    frames = frames_of(out)
    assert code in (0, 3) and [frame["token"] for frame in frames] == [questions[1].token, questions[0].token]
    assert frames[0]["label"] == "STOP, STRAIGHT"
    assert frames[0]["trace"]["average_tokens"] == pytest.approx(18, abs=1)  # the run's own budget: 0.6 of 30
    assert "answers differ from those the run stored" in shown  # they were set by hand
    out = tmp_path / "all.html"
    assert command(monkeypatch, "replay", "--run", run, "--model", checkpoint, "--flips", "all", "--out", out) in (0, 3)
    assert [frame["token"] for frame in frames_of(out)] == [questions[i].token for i in (1, 0, 3)]
    scene = questions[0].scene
    out = tmp_path / "scene.html"
    assert command(monkeypatch, "replay", "--run", run, "--model", checkpoint, "--scene", scene, "--out", out, "--limit", "1") in (0, 3)
    assert [frame["token"] for frame in frames_of(out)] == [questions[0].token]


def test_a_replayed_run_answers_as_it_did(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeds, lengths and budget are the run's: random pruning drops the same tokens again."""
    base = (
        "--model",
        checkpoint,
        "--questions",
        DATAROOT / "questions.json",
        "--out",
        tmp_path / "run",
        "--limit",
        "3",
    )
    more = ("--no-controls", "--method", "random", "--retention", "0.5", "--max-new-tokens", "4", "--seed", "7")
    assert command(monkeypatch, "eval", *base, *more, "--resamples", "100") in (0, 3)
    with RunStore.read(tmp_path / "run") as store:
        stored = {row.question: row.answer for row in store.answers("random")}
        scene = store.questions()[0].scene
    out = tmp_path / "run.html"
    assert command(monkeypatch, "replay", "--run", tmp_path / "run", "--model", checkpoint, "--scene", scene, "--out", out) in (0, 3)
    assert "differ from those the run stored" not in capsys.readouterr().out
    frames = frames_of(out)
    assert frames and [frame["pruned"]["text"] for frame in frames] == list(stored.values())[: len(frames)]


def test_the_replay_that_eval_proposes_works_as_it_is_printed(run: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hint,) = [line for line in (run.parent / "printed.txt").read_text().splitlines() if line.startswith("next: ")]
    _, _, *words = shlex.split(hint)
    assert words == ["replay", "--run", str(run), "--flips", "all", "--model", str(checkpoint)]  # the images are the package's
    monkeypatch.chdir(run.parent)  # none of the flips of this untrained model was harmful; three were set by hand since
    assert command(monkeypatch, *words) in (0, 3) and len(frames_of(run.parent / "replays/run-all-autoprune-0.6/replay.html")) == 3


def test_what_a_run_points_to_is_named_again(
    run: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way of a run that a colleague sends: each refusal shows the options that are missing, and no others."""
    sent, pictures, out = tmp_path / "sent", tmp_path / "pictures", tmp_path / "page.html"
    shutil.copytree(run, sent)
    shutil.copytree(DATAROOT / "samples", pictures / "samples")
    config = (sent / "config.yaml").read_text()
    (sent / "config.yaml").write_text(config.replace(f"images_root: {DATAROOT}", f"images_root: {pictures}"))
    asked, error = ("--run", sent, "--flips", "worst", "--out", out), f"senna-prune: error: {sent} was answered with"
    missing = f"{error} {checkpoint}, the images in {pictures}: name them again to open them: --model {checkpoint} --images {pictures}"
    assert fault(monkeypatch, capsys, *asked) == missing
    missing = f"{error} the images in {pictures}: name it again to open it: --images {pictures}"
    assert fault(monkeypatch, capsys, *asked, "--model", checkpoint) == missing
    named = (*asked, "--model", checkpoint, "--images", pictures)
    with sqlite3.connect(sent / ANSWERS) as connection:
        connection.execute("DELETE FROM seen")  # a run of before: nothing is noted, and the folder that was named is believed
    assert command(monkeypatch, "replay", *named) in (0, 3) and len(frames_of(out)) == 2
    outside = tmp_path / "secret.jpg"
    shutil.copy(next(pictures.rglob("*.jpg")), outside)
    with sqlite3.connect(sent / ANSWERS) as connection:
        connection.execute("UPDATE questions SET images = json_set(images, '$[0]', ?)", (str(outside),))
    capsys.readouterr()
    said = fault(monkeypatch, capsys, *named)
    assert said.endswith(f"names the picture {outside}, which is not under {pictures}: name a folder that holds it with --images")


def test_faults_are_one_line(
    run: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--model", checkpoint, "--dataroot", DATAROOT)
    assert "--run DIR" in fault(monkeypatch, capsys, *place, "--flips", "worst")
    assert "--images belongs to a finished run" in fault(monkeypatch, capsys, *place, "--images", tmp_path)
    assert "no scene or sample 'scene-1'" in fault(monkeypatch, capsys, *place, "--scene", "scene-1")
    assert "retention" in fault(monkeypatch, capsys, *place, "--retention", "1.5")
    assert "unknown" in fault(monkeypatch, capsys, *place, "--method", "autoprun")
    assert ".html" in fault(monkeypatch, capsys, *place, "--out", tmp_path / "x.gif")
    (tmp_path / "file").write_text("")
    assert "is not a folder" in fault(monkeypatch, capsys, *place, "--out", tmp_path / "file" / "x.html")
    assert "cannot load nuScenes" in fault(monkeypatch, capsys, *place, "--version", "v9")
    assert "--version" in fault(monkeypatch, capsys, "--model", checkpoint, "--dataroot", tmp_path)
    assert "not a run directory" in fault(monkeypatch, capsys, "--run", tmp_path)
    assert "--retention" in fault(monkeypatch, capsys, "--run", run, "--retention", "0.2")
    assert "no question about scene" in fault(monkeypatch, capsys, "--run", run, "--model", checkpoint, "--scene", "scene-x")
    assert "autoprune" in fault(monkeypatch, capsys, "--run", run, "--method", "random")


def test_without_embedded_data_it_says_what_to_give(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("senna_autoprune.demo.embedded", lambda: None)
    assert "--model and --dataroot missing" in fault(monkeypatch, capsys)


def test_embedded_model_and_scenes_are_the_default(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from senna_autoprune.demo import LABEL, EmbeddedDemo

    found = EmbeddedDemo(checkpoint, DATAROOT / "questions.json", DATAROOT)
    monkeypatch.setattr("senna_autoprune.demo.embedded", lambda: found)
    job = setup.prepare()
    assert job.model == str(checkpoint) and LABEL in job.source.description
    assert job.said[0] == f"using the embedded model and dataroot (none given): {LABEL}"
    assert job.out.parts[0] == "replays" and job.source.title in job.out.name


def test_real_frames_by_the_recorded_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five single keyframes of scene-0368, 128 tokens a view, all three files."""
    model, data = shared("fixtures", "senna-tiny-a", "checkpoint"), shared("nuscenes", "subset")
    place = ("--model", model, "--dataroot", data, "--version", "v1.0-mini", "--scene", "scene-0368")
    code = command(monkeypatch, "replay", *place, "--retention", "0.25", "--limit", "2", "--out", tmp_path / "real")
    assert code in (0, 3)
    frame = frames_of(tmp_path / "real" / "replay.html")[0]
    assert frame["trace"]["visual_tokens"] == 768 and frame["trace"]["average_tokens"] == pytest.approx(192, abs=0.1)
    assert len(read(tmp_path / "real" / "replay.mcap")["/CAM_BACK_LEFT/image"]) == 2
    assert (tmp_path / "real" / "replay.mp4").stat().st_size > 10_000
