"""``--limit`` and ``--limit-scenes``: a few of a file's questions, drawn by the seed and spread over its scenes.

Scenes have a rank by a hash of seed and name, a scene's questions one by a hash of seed and number. Of the first ``limit_scenes`` scenes
one question each is taken in turn until there are ``limit``: half as many are a part of them, another seed draws others. A file as
``questions build`` writes it, a record a line, is not decoded but for what is asked; any other is read twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from senna_autoprune.files.json_stream import LONGEST
from senna_autoprune.files.regular import open_regular
from senna_autoprune.nuscenes.questions_file import Question, checked_line, iter_questions

Asked = tuple[int, Question]  # its number in the file
_SCENE = re.compile(rb'"senna_prune": \{[^{}]*?"scene": ("(?:[^"\\]|\\.)*")')
_TURN = b'"from": "human"'


def drawn(path: Path, types: Collection[str], limit: int | None, limit_scenes: int | None, seed: int) -> tuple[list[Asked], set[str]]:
    """The questions asked for in file order, and all types met on the way.

    Raises:
        SennaPruneError: a record that is read is broken.
    """
    lines = _Lines.of(path)
    if lines is not None:
        try:
            numbers = _draw(lines.scenes, lambda number: lines.question(number).type in types, limit, limit_scenes, seed)
            return [(number, lines.question(number)) for number in numbers], lines.types
        except _Unlike:
            pass
    held: set[str] = set()
    found: dict[str, dict[int, str]] = {}  # scene -> number -> type
    for number, question in enumerate(iter_questions(path)):
        found.setdefault(question.scene or question.token, {})[number] = question.type
        held.add(question.type)
    scenes = {scene: list(numbers) for scene, numbers in found.items()}
    known = {number: kind for numbers in found.values() for number, kind in numbers.items()}
    chosen = set(_draw(scenes, lambda number: known[number] in types, limit, limit_scenes, seed))
    return [(number, question) for number, question in enumerate(iter_questions(path)) if number in chosen], held


def _draw(scenes: dict[str, list[int]], asked: Callable[[int], bool], limit: int | None, limit_scenes: int | None, seed: int) -> list[int]:
    """Numbers of questions, ascending. asked: whether a question is of a type that is asked for; called of no more than needed."""
    turns: list[Iterator[int]] = []
    firsts: list[int] = []
    for scene in sorted(scenes, key=lambda name: _rank(seed, name)):
        turn: Iterator[int] = filter(asked, sorted(scenes[scene], key=lambda number: _rank(seed, number)))
        first = next(turn, None)
        if first is not None:
            firsts.append(first)
            turns.append(turn)
        if len(firsts) in (limit, limit_scenes):
            break
    chosen = firsts
    while turns and (limit is None or len(chosen) < limit):
        still: list[Iterator[int]] = []
        for turn in turns:
            number = next(turn, None)
            if number is None:
                continue
            chosen.append(number)
            still.append(turn)
            if len(chosen) == limit:
                break
        turns = still
    return sorted(chosen)


def _rank(seed: int, name: str | int) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


class _Unlike(Exception):
    """A line that is not as it looked."""


class _Lines:
    """A file of a record a line, each of one question in a named scene: where the lines begin, and which scene each is about."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scenes: dict[str, list[int]] = {}
        self.types: set[str] = set()
        self._starts: list[int] = []
        self._scene_of: list[str] = []
        self._read: dict[int, Question] = {}

    @classmethod
    def of(cls, path: Path) -> _Lines | None:
        """None: the file is laid out in another way."""
        lines = cls(path)
        try:
            opened = open_regular(path)
        except OSError:
            return None  # the careful way says what is wrong
        with opened as file:
            if file.readline() != b"[\n":
                return None
            at, last = 2, False
            for number, line in enumerate(iter(lambda: file.readline(LONGEST), b"")):
                if line.startswith(b"]"):
                    return lines if last and line.strip() == b"]" and not file.read(1) else None
                found = _SCENE.search(line)
                if last or found is None or not line.startswith(b"{") or line.count(_TURN) != 1:
                    return None
                last = line.endswith(b"}\n")
                if not last and not line.endswith(b"},\n"):
                    return None
                scene = json.loads(found[1])
                lines.scenes.setdefault(scene, []).append(number)
                lines._starts.append(at)
                lines._scene_of.append(scene)
                at += len(line)
        return None

    def question(self, number: int) -> Question:
        """The question of a line. _Unlike: it is of another scene than it seemed, or several."""
        if number not in self._read:
            with open_regular(self.path) as file:
                file.seek(self._starts[number])
                questions = checked_line(file.readline(), f"{self.path}: record {number}")
            if len(questions) != 1 or questions[0].scene != self._scene_of[number]:
                raise _Unlike
            self.types.add(questions[0].type)
            self._read[number] = questions[0]
        return self._read[number]
