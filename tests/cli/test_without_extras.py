"""Every command works after a plain ``pip install .``; what an extra would add is left out, or refused, in one line that names it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from senna_autoprune.cli import COMMANDS
from tests.docs.pages import DOCS, PAGES, ROOT, blocks, commands

# One process for all commands. A finder in front of all others stands for packages that are not installed.
DRIVER = """
import contextlib, importlib.util, io, json, sys
blocked, commands = json.load(sys.stdin)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in blocked else find_spec(name, package)
from senna_autoprune.cli import main

for arguments in commands:
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["senna-prune", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
"""


def distribution(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement.strip())[0].lower().replace("_", "-")


def needed(names: set[str]) -> set[str]:
    """These distributions and all that they require themselves, without extras."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            asked = requires(name) or []
        except ModuleNotFoundError:
            continue
        waiting |= {distribution(one) for one in asked if "extra ==" not in one} - found
    return found


def absent_modules() -> list[str]:
    """Top-level modules of the extras that a plain installation does not bring along anyway."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    plain = needed({distribution(line) for line in setup["options"]["install_requires"].split("\n") if line.strip()})
    extras = {distribution(line) for lines in setup["options.extras_require"].values() for line in lines.split("\n") if line.strip()}
    named = {name.replace("-", "_") for name in extras - plain}
    owners = {module: {name.lower().replace("_", "-") for name in names} for module, names in packages_distributions().items()}
    return sorted(named | {module for module, names in owners.items() if names & (extras - plain)})


SHOWN = {  # commands as pages show them; what is added to make them small or to give them a place stands in ``told``
    "methods": "senna-prune methods",
    "methods one": "senna-prune methods autoprune",
    "eval": "senna-prune eval --retention 0.25",
    "report": "senna-prune report runs/RUN",
    "curves": "senna-prune curves runs/RUN",
    "replay": "senna-prune replay --scene scene-9003 --retention 0.25",
    "attention": "senna-prune attention --question 40 --out attention.png",
    "eval toy": "senna-prune eval --method mymethods:ToyMethod --retention 0.25",
    "bench": "senna-prune bench",
}
BENCH = "--layers 2 --hidden 16 --heads 2 --views 1 --rounds 1 --warmup 0 --retention 0.8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plain")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, tuple[int, str, str]]:
    """What each command did: exit code, standard output, standard error."""
    data = ROOT / "senna_autoprune" / "demo" / "data"
    (toy,) = [block for block in blocks(DOCS / "add_a_method.md", "python") if "class ToyMethod" in block]
    (folder / "mymethods.py").write_text(toy.split("\n\n\nmodel = ")[0])
    small = ("--limit", "1", "--resamples", "100")
    questions = ("--dataroot", str(data), "--version", "v1.0-demo", "--scenes", "scene-9001", "--types", "plan")
    shown = {name: words.split()[1:] for name, words in SHOWN.items()}
    commands = {
        "methods": shown["methods"],
        "methods one": shown["methods one"],
        "eval": [*shown["eval"], *small, "--out", "runs/RUN"],
        "report": [*shown["report"], "--no-replay", "--out", "report"],
        "curves": shown["curves"],
        "replay": [*shown["replay"], "--limit", "1", "--out", "replay"],
        "replay mp4": ["replay", "--limit", "1", "--out", "one.mp4"],
        "attention": [*shown["attention"], "--layers", "0,1"],
        "eval toy": [*shown["eval toy"], *small, "--no-controls", "--out", "runs/toy"],
        "calibrate": ["calibrate", "--model", str(data.parent / "model"), "--questions", str(data / "questions.json"), "--count", "2"],
        "sweep": ["sweep", "--retention", "0.5", *small, "--methods", "divprune", "--out", "runs/sweep", "--no-figures"],
        "questions": ["questions", "build", *questions, "--out", "q.json"],
        "questions inspect": ["questions", "inspect", str(data / "questions.json")],
        "bench": [*shown["bench"], *BENCH.split()],
        "benchmarks": ["benchmarks", "--suite", "table1", "--model", "llava-hf/llava-1.5-7b-hf", "--out", "benchmarks"],
        "runs": ["runs"],
        "compare": ["compare", "runs/RUN", "runs/RUN", "--setting", "unpruned"],
        "ask": ["ask"],
        "doctor": ["doctor"],
        "survival": ["survival", "--limit", "1", "--methods", "divprune", "--out", "survival"],
        "budget": ["budget", "--limit", "2", "--out", "runs/budget"],
        "parquet": ["eval", "--limit", "1", "--parquet", "answers.parquet"],
        "ray": ["eval", "--retention", "0.5", *small, "--engine", "ray", "--out", "runs/ray"],
    }
    tried = {words[0] for words in commands.values()}
    assert tried == set(COMMANDS)
    absent = absent_modules()
    assert {"av", "pyarrow", "ray", "mcap", "lmms_eval", "pytest"} <= set(absent) and not {"torch", "numpy", "rich", "scipy"} & set(absent)
    asked = json.dumps([absent, list(commands.values())])
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", DRIVER], input=asked, capture_output=True, text=True, cwd=folder, env=place)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(commands, map(json.loads, done.stdout.splitlines()), strict=True))


def test_they_are_the_pages_commands() -> None:
    shown = {" ".join(words) for page in PAGES for words in commands(page)}
    assert set(SHOWN.values()) <= shown, set(SHOWN.values()) - shown


SAID = {"budget": (2,)}  # two questions are too few scenes, which is said in a line
EXTRAS = ("benchmarks", "ray", "replay mp4", "parquet")  # what needs one


def test_every_command_is_tried(told: dict[str, tuple[int, str, str]]) -> None:
    assert set(COMMANDS) <= set(told)


def test_commands_need_no_extra(told: dict[str, tuple[int, str, str]]) -> None:
    for name, (code, out, err) in told.items():
        assert "Traceback" not in out + err, name
        assert name in EXTRAS or code in (0, *SAID.get(name, ())), (name, code, out, err)


def test_a_replay_goes_without_its_film(told: dict[str, tuple[int, str, str]], folder: Path) -> None:
    _, out, _ = told["replay"]
    assert [line for line in out.splitlines() if "replay.mp4" in line and "pip install 'senna_autoprune[video]'" in line]
    assert "replay.html (" in out and "replay.mcap (" in out
    assert sorted(path.name for path in (folder / "replay").iterdir()) == ["foxglove-layout.json", "replay.html", "replay.mcap"]


@pytest.mark.parametrize(("name", "extra"), [("benchmarks", "lmms"), ("ray", "ray"), ("replay mp4", "video"), ("parquet", "parquet")])
def test_what_needs_an_extra_names_it(told: dict[str, tuple[int, str, str]], name: str, extra: str) -> None:
    code, _, err = told[name]
    lines = [line for line in err.splitlines() if line.startswith("senna-prune: error: ")]
    assert code == 2 and len(lines) == 1 and f"[{extra}]" in lines[0], err
