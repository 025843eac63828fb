"""A few hostile inputs through real processes: the installed entry point, its exit code, its one line, nothing run."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import corpus, guard
from tests.hostile.case import Place
from tests.hostile.world import World, make_world

CPU_S = 60  # of a whole process, most of it imports; an endless loop ends here
MEMORY = 12 << 30  # bytes of address space: torch alone maps several
CHOSEN = (
    "checkpoint: pickle that runs a command",
    "configuration: tag !!python/object/apply:os.system",
    "questions: inspect a cut off file",
    "tables: the last sample leads to the first",
    "run directory: answers are a view without an end (replayed)",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The good inputs, with a run of which only what a case breaks is there."""
    found = make_world(tmp_path_factory.mktemp("world"))
    found.run.mkdir()
    (found.run / "config.yaml").write_text("config: {}\n")
    with sqlite3.connect(found.run / "answers.sqlite") as connection:
        connection.execute("CREATE TABLE answers (a)")
    return found


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


@pytest.mark.parametrize("name", CHOSEN)
def test_hostile_input_in_a_process_of_its_own(name: str, world: World, tmp_path: Path) -> None:
    case = next(case for case in corpus.all_cases() if case.id == name)
    place = Place(tmp_path, world)
    place.prepare()
    argv = case.make(place)
    before = guard.listing(tmp_path, place.run)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "senna_autoprune", *argv],
        cwd=place.work,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=_limit,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode in case.codes, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(case.line, done.stderr.rstrip("\n").split("\n")[-1])
    after = guard.listing(tmp_path, place.run)
    assert after in (before, {**before, str(place.run): before.get(str(place.run))})
    assert not place.pwned.exists()
    assert place.canary.read_text() == "precious\n"
