"""Every command that a page shows exists as it is written: program, command, options, and the values of choices."""

from __future__ import annotations

import re
import subprocess
from importlib import import_module
from pathlib import Path

import click
import pytest

from senna_autoprune.cli import COMMANDS
from tests.docs.pages import PAGES, ROOT, commands, name_of


def parsed(command: click.Command, words: list[str], path: str) -> None:
    """Go through a command line as click would, without asking whether files exist. AssertionError names what is not there."""
    options = [option for option in command.params if isinstance(option, click.Option)]
    known = {name: option for option in options for name in (*option.opts, *option.secondary_opts)}
    free = [argument for argument in command.params if isinstance(argument, click.Argument)]
    named, words = not words, list(words)  # a command that is only named may leave its arguments out
    several: list[click.Argument] = []
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            if isinstance(command, click.Group):
                inner = command.get_command(click.Context(command), word)
                assert inner is not None, f"{path} {word}"
                return parsed(inner, words, f"{path} {word}")
            assert free, f"{path}: {word} is one argument too many"
            if free[0].nargs == -1:
                several.append(free[0])
            else:
                free.pop(0)
            continue
        if word in ("--help", "-h"):
            continue
        name, given, value = word.partition("=")
        assert name in known, f"{path} has no option {name}"
        option = known[name]
        if option.is_flag:
            assert not given, f"{path} {name} takes no value"
            continue
        values = [value] if given else [words.pop(0) for _ in range(option.nargs)]
        kinds = option.type.types if isinstance(option.type, click.Tuple) else [option.type] * len(values)
        for kind, one in zip(kinds, values, strict=True):
            if not isinstance(kind, (click.Path, click.File)) and not re.fullmatch(r"[A-Z]+", one):  # CAPITALS stand for a value
                kind.convert(one, option, None)  # BadParameter
    assert named or not [argument for argument in free if argument.required and argument not in several], f"{path}: an argument is missing"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for words in commands(page):
        if words[0] == "make":
            asked = [word for word in words[1:] if "=" not in word]
            assert asked and set(asked) <= targets, words
        elif words[0] == "python":
            script = ROOT / words[1]
            assert script.is_file(), words
            flags = [word for word in words[2:] if word.startswith("--")]
            called = (ROOT / "tools").glob(f"*/{script.name}")  # what a script of two lines calls
            text = "".join(one.read_text(encoding="utf-8") for one in (script, *called))
            assert all(f'"{flag}"' in text for flag in flags), words
        else:
            name = next((word for word in words[1:] if not word.startswith("-")), None)
            if name is None:
                continue
            assert name in COMMANDS, words
            parsed(import_module(COMMANDS[name][0]).command, words[words.index(name) + 1 :], f"senna-prune {name}")


@pytest.mark.parametrize(
    "wrong",
    ["eval --retentoin 0.25", "replay --views front", "questions biuld", "bench --rounds many", "report --flips 3", "curves a b"],
)
def test_a_wrong_command_would_be_seen(wrong: str) -> None:
    name, *words = wrong.split()
    with pytest.raises((AssertionError, click.BadParameter)):
        parsed(import_module(COMMANDS[name][0]).command, words, name)


def test_every_command_is_shown_somewhere() -> None:
    shown = {words[1] for page in PAGES for words in commands(page) if words[0].endswith("senna-prune") and len(words) > 1}
    assert set(COMMANDS) <= shown, set(COMMANDS) - shown


def test_make_targets_of_the_front_page_are_what_they_say() -> None:
    made = subprocess.run(["make", "--dry-run", "--always-make", "eval"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "first_eval.py" in made and "pip install" in made
