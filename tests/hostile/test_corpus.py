"""Every hostile input ends in one clear line and the right exit code, or in a recorded failure, and nothing else happens."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import senna_autoprune.senna
from senna_autoprune.cli import main
from senna_autoprune.errors import visible
from tests.hostile import corpus, guard
from tests.hostile.case import FAILED_SAMPLES, Case, Place
from tests.hostile.world import VERSION, World, eval_arguments, make_world

CASES = corpus.all_cases()
# other lines of stderr that are right
PROGRESS = re.compile(r"loading |run folder |scene |using the embedded |answers |. ━|finished before: |\d+ answers = |frames |\s*$")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The good inputs; their model is loaded once, every other by the real loader."""
    found = make_world(tmp_path_factory.mktemp("world"))
    load, kept = senna_autoprune.senna.load_senna, {}

    def load_once(path: Any, vision_tower: Any = None, dtype: Any = "float32", device: Any = "cpu") -> Any:
        if Path(path) != found.checkpoint or (vision_tower, dtype, device) != (None, "float32", "cpu"):
            return load(path, vision_tower, dtype, device)
        if not kept:
            kept[0] = load(path)
        return kept[0]

    platform.processor()  # asks a program the first time
    guard.install()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(senna_autoprune.senna, "load_senna", load_once)
        patch.chdir(found.folder)
        for argv in good_commands(found):  # they also warm every import up, which no case shall pay for
            assert _exit_code(argv) == 0, argv
        yield found


def good_commands(world: World) -> list[list[str]]:
    """What must work with nothing broken."""
    tables = ["--dataroot", str(world.tables), "--version", VERSION]
    model = ["--model", str(world.checkpoint)]
    again = [*model, "--images", str(world.questions.parent)]
    short = ["--retention", "0.6", "--resamples", "100", "--max-new-tokens", "2"]
    return [
        eval_arguments(world.questions, world.checkpoint, str(world.run)),
        eval_arguments(world.questions, world.original, str(world.folder / "run-original")),
        ["questions", "inspect", str(world.questions)],
        ["questions", "build", *tables, "--split", "all", "--types", "plan,vru,motion", "--out", str(world.folder / "built.json")],
        ["replay", *model, *tables, "--retention", "0.6", "--limit", "1", "--out", str(world.folder / "replay")],
        ["replay", "--run", str(world.run), "--scene", "scene-0", *again, "--out", str(world.folder / "replay-run")],
        ["sweep", *model, "--questions", str(world.questions), "--methods", "random", *short, "--out", str(world.folder / "sweep")],
    ]


def _exit_code(argv: list[str]) -> int | None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr("sys.argv", ["senna-prune", *argv])
        main()
    return left.value.code


def test_there_are_two_hundred_distinct_cases() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_hostile_input(case: Case, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, world)
    place.prepare()
    argv = case.make(place)
    monkeypatch.chdir(place.work)
    before = guard.listing(tmp_path, place.run)
    said = " ".join([case.line, *argv])  # the user names it, or a path that the user's file holds
    named = [path for path in (place.canary, Path("/etc/passwd"), tmp_path / "etc") if path.name.removesuffix(".txt") in said]
    found = guard.call(main, argv, tmp_path, place.run, (place.input, place.work, world.folder, *named))

    assert not found.offences
    assert guard.listing(tmp_path, place.run) in (before, {**before, str(place.run): before.get(str(place.run))})
    assert place.canary.read_text() == "precious\n"
    assert not place.pwned.exists()
    assert found.cpu_s < guard.CPU_S
    assert "Warning" not in found.err
    assert visible(found.out) == found.out and visible(found.err) == found.err
    assert found.code in case.codes, found.err[-800:]
    if found.code == FAILED_SAMPLES:
        assert re.search(case.line, " ".join((found.out + found.err).split()))
        _assert_recorded(place, argv)
    elif found.code:
        assert re.search(case.line, the_line(found.err))
    else:
        assert re.search(case.line, found.out)


def the_line(err: str) -> str:
    """The one line of an error; everything else on stderr is progress."""
    *others, last = err.rstrip("\n").split("\n")
    assert last.startswith(("senna-prune: error: ", "Error: ")), err
    if last.startswith("senna-prune"):
        assert all(PROGRESS.match(line) for line in others), err
    assert len(last) < 1500
    assert last.isprintable()
    return last


def _assert_recorded(place: Place, argv: list[str]) -> None:
    """A failed sample is in the measures of a run, by its token and reason."""
    if argv[0] == "eval":
        metrics = json.loads((place.run / "metrics.json").read_text())
        assert metrics["questions"]["failed"][0]["reason"]
    assert os.listdir(place.run)
