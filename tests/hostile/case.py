"""One hostile input: what is broken, how it is made, and how it must end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.world import World, eval_arguments, good_records

SET_UP, FAILED_SAMPLES = 2, 3  # exit codes


@dataclass(frozen=True)
class Place:
    """Where a case is made. The command runs in ``work``; only ``run`` may change.

    ``input`` holds what the attacker sent, ``canary`` is a file of the user's that nobody may touch, and ``pwned`` a
    file that only code of the attacker would make.
    """

    folder: Path
    world: World

    @property
    def input(self) -> Path:
        return self.folder / "input"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def run(self) -> Path:
        return self.work / "run"

    @property
    def canary(self) -> Path:
        return self.folder / "home" / "canary.txt"

    @property
    def pwned(self) -> Path:
        return self.folder / "home" / "pwned"

    def prepare(self) -> None:
        for path in (self.input, self.work, self.canary.parent):
            path.mkdir(parents=True)
        self.canary.write_text("precious\n")

    # --- copies of the good world, to be broken ---------------------------------------------------------------------

    def questions(self, content: bytes | str | None = None) -> Path:
        """The good question file with its images, or with other content."""
        path = self.input / "qa.json"
        if not path.exists():
            shutil.copytree(self.world.questions.parent, self.input, dirs_exist_ok=True)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def records(self, change: Callable[[list[dict[str, Any]]], Any]) -> Path:
        """The good question file after ``change`` of its records (in place, or returning other content)."""
        records = good_records()
        return self.questions(json.dumps(change(records) or records))

    def checkpoint(self, original: bool = False) -> Path:
        """A copy of a good checkpoint."""
        source = self.world.original if original else self.world.checkpoint
        return Path(shutil.copytree(source, self.input / "model"))

    def tables(self) -> Path:
        """A copy of the good data root; images and maps are hard links."""
        return Path(shutil.copytree(self.world.tables, self.input / "nusc", copy_function=_link_unless_json))

    def finished(self) -> Path:
        """A copy of the good finished run, in the place where a run may be written."""
        return Path(shutil.copytree(self.world.run, self.run))

    def evaluate(self, questions: Path | None = None, model: Path | None = None) -> list[str]:
        """The command line of an evaluation of broken questions, or a broken model."""
        return eval_arguments(questions or self.world.questions, model or self.world.checkpoint)


def _link_unless_json(source: str, target: str) -> str:
    return shutil.copy(source, target) if source.endswith(".json") else os.link(source, target) or target


@dataclass(frozen=True)
class Case:
    """``make`` prepares a place and returns the command's arguments.

    codes: the exit codes that are right. line: what the one line says (a regular expression).
    """

    name: str
    kind: str
    make: Callable[[Place], list[str]]
    line: str
    codes: tuple[int, ...] = (SET_UP,)

    @property
    def id(self) -> str:
        return f"{self.kind}: {self.name}"


class Corpus(list[Case]):
    """The cases of one kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, make: Callable[[Place], list[str]], line: str, *codes: int) -> None:
        """One case; without codes it is a bad set-up."""
        self.append(Case(name, self.kind, make, line, codes or (SET_UP,)))

    def case(self, name: str, line: str, *codes: int) -> Callable[[Callable[[Place], list[str]]], Callable[[Place], list[str]]]:
        """``add`` as a decorator."""

        def keep(make: Callable[[Place], list[str]]) -> Callable[[Place], list[str]]:
            self.add(name, make, line, *codes)
            return make

        return keep
