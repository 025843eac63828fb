"""Question files: the original's LLaVA-format JSON list, read and written record by record, and the sidecar beside it.

A file is one JSON list of records ``{id, token, image, images, ..., conversations: [{from: human, value}, {from: gpt,
value}]}``; keys we do not know are kept. The sidecar ``FILE.meta.json`` holds where the questions come from and what
their labels are; a file of the original code has none. Files are data: nothing in them is executed or trusted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.atomic import open_new
from senna_autoprune.files.json_files import LONGEST_NAME, LONGEST_TEXT, read_json, text_fault
from senna_autoprune.files.json_stream import iter_elements
from senna_autoprune.files.regular import open_regular
from senna_autoprune.nuscenes.strings import question_type, question_view

IMAGE_MARKS = ("<image>", "<image-placeholder>")
SIDECAR_SUFFIX = ".meta.json"
STATED_TYPES = ("choice", "yes_no")  # types that no words tell: a multiple choice with its letter, a question of yes or no
_REMEDY = "build it again with `questions build`"


class _Data(TypedDict, total=False):
    version: str
    split: str | None
    scenes_asked: list[str]
    channels: dict[str, str]
    categories: dict[str, str]
    resample: bool


class _Variant(TypedDict, total=False):
    navigation: str
    views: str


class _Sidecar(TypedDict, total=False):
    """What readers of a sidecar rely on; it holds more."""

    sha256: str
    dataroot: str
    data: _Data
    variant: _Variant
    scenes: dict[str, Any]


class Question(dict[str, Any]):
    """One record as it stands in the file, with names for what it holds. Valid once it came through this module."""

    @property
    def token(self) -> str:
        """The sample token."""
        return self["token"]

    @property
    def text(self) -> str:
        """The question as it is given to the model, image marks included."""
        return self["conversations"][0]["value"]

    @property
    def answer(self) -> str:
        """The label, as written (a plan's ends in a newline)."""
        return self["conversations"][1]["value"]

    @property
    def images(self) -> list[str]:
        """Image paths in the order in which they are fed to the model, with forward slashes."""
        images = self["images"] if "images" in self else [self["image"]]
        return [path.replace("\\", "/") for path in images]  # as a file made on Windows writes them

    @property
    def type(self) -> str:
        """plan, vru, motion, light, description or explanation by the text alone; another text is of the type its record
        states (choice, yes_no: of converted files), else other.
        """
        known = question_type(self.text)
        if known != "other":
            return known
        stated = self.get("senna_prune", {}).get("type")
        return stated if isinstance(stated, str) and stated in STATED_TYPES else known

    @property
    def view(self) -> str | None:
        """The view a motion or description question asks about."""
        return question_view(self.text)

    @property
    def id(self) -> str:
        """The record's id, or one made of token, type and view: files of the original code have none."""
        return str(self["id"]) if "id" in self else question_id(self.token, self.type, self.view)

    @property
    def scene(self) -> str | None:
        """The scene's name if we wrote the record, else its token, else None."""
        return self.get("senna_prune", {}).get("scene") or self.get("scene_token")


@dataclass(frozen=True)
class QuestionFile:
    """What ``read_questions`` returns. ``sidecar`` is empty for a file without one."""

    path: Path
    records: list[Question]
    sidecar: dict[str, Any]


def question_id(token: str, kind: str, view: str | None = None) -> str:
    """The id we write: sample token, question type and, where the type asks of each view, the view."""
    return f"{token}-{kind}" + (f"-{view.replace(' ', '_')}" if view else "")


def read_questions(path: str | os.PathLike[str], types: Collection[str] | None = None) -> QuestionFile:
    """A question file, all of it or the questions of some types.

    Raises:
        SennaPruneError: the file is missing, cut off, no JSON list of questions, or does not belong to its sidecar.
    """
    records = [record for record in iter_questions(path) if types is None or record.type in types]
    return QuestionFile(Path(path), records, read_sidecar(path))


def iter_questions(path: str | os.PathLike[str]) -> Iterator[Question]:
    """The questions of a file one by one; memory does not grow with the file.

    A record of several question-answer pairs is as many questions: each is asked of the same images, without those before it.

    Raises:
        SennaPruneError: as ``read_questions``, when the fault is reached.
    """
    for number, value in enumerate(iter_json_list(Path(path))):
        yield from _checked(value, f"{path}: record {number}")


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Where the sidecar of a question file is: ``FILE.meta.json``."""
    return Path(f"{os.fspath(path)}{SIDECAR_SUFFIX}")


def read_sidecar(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The sidecar of a question file, ``{}`` if there is none.

    Raises:
        SennaPruneError: it is no JSON object, one of its values is of the wrong kind, or it names another content than
        the file has (its hash differs).
    """
    side = sidecar_path(path)
    if not side.exists():
        return {}
    sidecar = read_json(side)
    if not isinstance(sidecar, dict):
        raise SennaPruneError(f"{side}: not a JSON object: build {path} again, or delete it")
    try:
        TypeAdapter(_Sidecar).validate_python(sidecar, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SennaPruneError(f"{side}: '{name}': {first['msg']}: build {path} again, or delete it") from error
    if "sha256" in sidecar and sidecar["sha256"] != file_sha256(path):
        raise SennaPruneError(f"{side} describes another content than {path} has: build again, or delete the sidecar")
    return sidecar


def write_sidecar(path: str | os.PathLike[str], sidecar: dict[str, Any]) -> None:
    """Write the sidecar of a question file at once (rename)."""
    side = sidecar_path(path)
    part = Path(f"{side}.part")
    with open_new(part) as file:
        file.write((json.dumps(sidecar, indent=1, ensure_ascii=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
    part.replace(side)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hex digest of a file's content; of one that was not written to since it was last asked for, from memory."""
    found = os.stat(path)
    return _sha256_of(os.fspath(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=16)
def _sha256_of(path: str, *_written: int) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class QuestionWriter:
    """Writes a question file record by record; it takes its final name only when all went well.

    A context manager. Until then the records are in ``FILE.part``; after an error or an interrupt that is removed, and
    a question file already there stays as it was.

    Args:
        describe: makes the sidecar once all records are written. It takes its final name first: killed between the two, a file is
            never there without the sidecar that describes it, and readers refuse a sidecar of another content.
    Raises:
        SennaPruneError: the folder is missing or not writable.
    """

    def __init__(self, path: str | os.PathLike[str], describe: Callable[[QuestionWriter], dict[str, Any]] | None = None) -> None:
        self.path = Path(path)
        self.count = 0
        self.sidecar: dict[str, Any] = {}
        self._describe = describe
        self._part = Path(f"{os.fspath(path)}.part")
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()

    def __enter__(self) -> QuestionWriter:
        if self.path.is_dir():
            raise SennaPruneError(f"{self.path} is a folder: name a file for the questions")
        try:
            self._file = open_new(self._part)
        except OSError as error:
            raise SennaPruneError(f"cannot write {self._part} ({error.strerror}): choose another --out") from error
        return self

    def write(self, record: dict[str, Any]) -> None:
        """Append one record (one line of the file)."""
        self._append(("[\n" if self.count == 0 else ",\n") + json.dumps(record))
        self.count += 1

    @property
    def sha256(self) -> str:
        """Hex digest of what is written so far; after the with block, of the file."""
        return self._hash.hexdigest()

    def _append(self, text: str) -> None:
        assert self._file is not None, "write() outside the with block"
        data = text.encode()
        self._hash.update(data)
        self._file.write(data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._file is not None
        try:
            if kind is None:
                self._append("[]\n" if self.count == 0 else "\n]\n")
                self._file.flush()
                os.fsync(self._file.fileno())
                if self._describe:
                    self.sidecar = self._describe(self)
                    write_sidecar(self.path, self.sidecar)
        except BaseException as fault:
            kind = type(fault)
            raise
        finally:
            self._file.close()
            if kind is not None:
                self._part.unlink(missing_ok=True)
        if kind is None:
            self._part.replace(self.path)


def iter_json_list(path: Path) -> Iterator[Any]:
    """The records of a question file, decoded one at a time. SennaPruneError at the first fault, text that is none among them."""
    return iter_elements(path, "question file", "questions", "record", _REMEDY, text=True)


def checked_line(line: bytes, where: str) -> list[Question]:
    """The questions of one record that stands on a line of its own (a comma may follow). SennaPruneError as ``read_questions``."""
    try:
        value = json.loads(line.rstrip(b",\n"))
    except (ValueError, RecursionError) as error:
        raise SennaPruneError(f"{where} is broken or cut off ({error}): {_REMEDY}") from error
    fault = text_fault(value)
    if fault:
        raise SennaPruneError(f"{where} is broken or cut off ({fault}): {_REMEDY}")
    return list(_checked(value, where))


def _checked(value: Any, where: str) -> Iterator[Question]:
    """The record's questions, or a SennaPruneError that says what is wrong with it and where."""

    def wrong(what: str) -> SennaPruneError:
        return SennaPruneError(f"{where}: {what}: build the file again with `questions build`")

    if not isinstance(value, dict):
        raise wrong(f"not an object but {type(value).__name__}")
    if not isinstance(value.get("token"), str) or not value["token"]:
        raise wrong("no sample 'token'")
    if len(value["token"]) > LONGEST_NAME:
        raise wrong(f"a sample token of {len(value['token'])} characters")
    turns = value.get("conversations")
    if not isinstance(turns, list) or len(turns) < 2:
        raise wrong("'conversations' must be a list of a human and a gpt turn")
    if len(turns) % 2:
        raise wrong(f"'conversations' has {len(turns)} turns: the last one has no answer")
    for number, turn in enumerate(turns):
        speaker = ("human", "gpt")[number % 2]
        if not isinstance(turn, dict) or turn.get("from") != speaker or not isinstance(turn.get("value"), str):
            raise wrong(f"'conversations' must hold {{from: {speaker}, value: text}}")
        if len(turn["value"]) > LONGEST_TEXT:
            raise wrong(f"'conversations' holds a text of {len(turn['value'])} characters, more than {LONGEST_TEXT}")
    images = value.get("images", [value["image"]] if "image" in value else None)
    if not isinstance(images, list) or not images or not all(isinstance(path, str) and path for path in images):
        raise wrong("'images' must be a list of file paths")
    if not isinstance(value.get("senna_prune", {}), dict):
        raise wrong("'senna_prune' must be an object")
    for question in _pairs(value):
        marks = sum(question.text.count(mark) for mark in IMAGE_MARKS)
        if marks != len(images):
            raise wrong(f"the question has {marks} image marks, 'images' lists {len(images)} files")
        if not isinstance(question.scene, str | None):
            raise wrong("the scene must be a text")
        if question.scene and len(question.scene) > LONGEST_NAME:
            raise wrong(f"a scene's name of {len(question.scene)} characters")
        yield question


def _pairs(record: dict[str, Any]) -> list[Question]:
    """A record of one pair as it is; one of several taken apart. Later pairs show the images as the first one does."""
    turns = record["conversations"]
    if len(turns) == 2:
        return [Question(record)]
    first = turns[0]["value"]
    end = max(first.rfind(mark) + len(mark) for mark in IMAGE_MARKS if mark in first) if any(m in first for m in IMAGE_MARKS) else 0
    shown = first[:end] + ("\n" if end else "")
    pairs = []
    for number in range(0, len(turns), 2):
        asked, answer = turns[number : number + 2]
        if not any(mark in asked["value"] for mark in IMAGE_MARKS):
            asked = {**asked, "value": shown + asked["value"]}
        own = {"id": f"{record['id']}-{number // 2 + 1}"} if number and "id" in record else {}
        pairs.append(Question({**record, **own, "conversations": [asked, answer]}))
    return pairs
