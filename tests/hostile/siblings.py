"""Siblings of what an independent hand had tried: the same kinds of faults in other places, each thought of before it was tried."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.case import FAILED_SAMPLES, Corpus, Place
from tests.hostile.places import flipped, named
from tests.hostile.tables import build
from tests.hostile.world import VERSION

CASES = Corpus("sibling")
OWN = r"no plain file|second name|is a link|no regular file|cannot write|cannot use"


def _linked(path: Path, place: Place) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(place.canary)


def _named_twice(path: Path, place: Place) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(place.canary, path)


def _pipe(path: Path, _place: Place) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


PUTS = {"a link": _linked, "a second name": _named_twice, "a pipe": _pipe}

# --- a run folder in which a file of the user's, or nobody's, waits ----------------------------------------------------

REPORT, CONTINUED = ["report", "run", "--no-replay"], ["eval"]


def _waits(file: str, argv: list[str], line: str, *codes: int, ways: tuple[str, ...] = tuple(PUTS)) -> None:
    for way in ways:

        def make(place: Place, put: Callable[[Path, Place], None] = PUTS[way]) -> list[str]:
            put(flipped(place) / file, place)
            return place.evaluate() if argv == CONTINUED else argv

        CASES.add(f"{file} is {way} ({argv[0]})", make, line, *codes)


for ending in ("-wal", "-shm"):  # refused, or nobody's: the database asks for neither
    _waits(f"answers.sqlite{ending}", REPORT, rf"{OWN}|report\.html", 0, 2)
    _waits(f"answers.sqlite{ending}", CONTINUED, rf"{OWN}|autoprune", 0, 2)


@CASES.case("a database that asks for a log, which is the user's file", r"write-ahead log")
def _log(place: Place) -> list[str]:
    run = flipped(place)
    connection = sqlite3.connect(run / "answers.sqlite")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    _named_twice(run / "answers.sqlite-wal", place)
    return REPORT


_waits("answers.csv", ["report", "run", "--csv", "run/answers.csv"], r"answers in run/answers\.csv", 0)
_waits("figures/curves-0.6.png", ["curves", "run"], r"curves-0\.6\.png", 0)
_waits("page.html", ["compare", "run", "run", "--setting-b", "unpruned", "--out", "run/page.html"], r"written: run/page\.html", 0)
_waits("survival.json", REPORT, OWN)
_waits("flips.json", ["report", "run"], r"report\.html", 0)
_waits("flips.html", ["report", "run"], r"report\.html", 0)


@CASES.case("figures are a link (curves)", r"figures is a link")
def _figures(place: Place) -> list[str]:
    (flipped(place) / "figures").symlink_to(place.canary.parent)
    return ["curves", "run"]


def _folder(argv: list[str]) -> None:
    """What is written is to lie in a folder of the run's, which is a link to the user's."""

    def make(place: Place) -> list[str]:
        (flipped(place) / "new").symlink_to(place.canary.parent)
        return [*argv, *(["--flips", "all", *named(place)] if argv[0] == "replay" else [])]

    CASES.add(f"the folder of {argv[-1]} is a link ({argv[0]})", make, r"run/new is a link")


_folder(["replay", "--run", "run", "--out", "run/new"])
_folder(["replay", "--run", "run", "--out", "run/new/page.html"])
_folder(["report", "run", "--out", "run/new"])
_folder(["report", "run", "--csv", "run/new/answers.csv"])
_folder(["curves", "run", "--out", "run/new/curves.png"])
_folder(["compare", "run", "run", "--setting-b", "unpruned", "--out", "run/new/page.html"])

# --- small and costly -------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(*more: bytes, size: tuple[int, int] = (8, 8)) -> bytes:
    rows = b"".join(b"\0" + bytes(3 * size[0]) for _ in range(size[1]))
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _image(name: str, content: Callable[[], bytes], line: str, *codes: int) -> None:
    def make(place: Place) -> list[str]:
        questions = place.questions()
        (place.input / "images" / "1-0.png").write_bytes(content())
        return place.evaluate(questions)

    CASES.add(name, make, line, *codes)


BOMB = zlib.compress(bytes(200_000_000), 9)
BROKEN, GOOD = (r"broken image: .*1-0\.png", FAILED_SAMPLES), (r"autoprune", 0)
_image("PNG with a text of 200 MB", lambda: _png(_chunk(b"zTXt", b"Comment\0\0" + BOMB)), r"broken image: .*1-0\.png|autoprune", 0, 3)
_image("PNG with a colour profile of 200 MB", lambda: _png(_chunk(b"iCCP", b"p\0\0" + BOMB)), r"broken image: .*1-0\.png|autoprune", 0, 3)
_image("PNG of 100,000 chunks", lambda: _png(*[_chunk(b"tEXt", b"a\0b")] * 100_000), r"broken image: .*1-0\.png|autoprune", 0, 3)


def _answers(name: str, kind: str, text: str, adapter: dict[str, Any] | None, command: list[str], line: str) -> None:
    """A run whose questions are of a kind, whose labels and answers are a text, and whose adapter reads them in its own way."""

    def make(place: Place) -> list[str]:
        run = place.finished()
        connection = sqlite3.connect(run / "answers.sqlite")
        with connection:
            connection.execute("UPDATE questions SET type = ?, label = ?, text = ?", (kind, text, text))
            connection.execute("UPDATE answers SET answer = ?", (text + "x",))
        connection.close()
        if adapter is not None:
            path = run / "config.yaml"
            path.write_text(f"{path.read_text()}\nadapter: {json.dumps(adapter)}\n")
        return command

    CASES.add(name, make, line, 0)


WAYPOINTS = {"name": "mine", "parse": {"kind": "waypoints", "dt": 0.5, "axes": "forward-left"}}
CHOICE = {"name": "mine", "parse": {"kind": "choice"}}
DONE = r"report\.html"
_answers("answers of digits that could be parted anywhere", "plan", "1" * 40, WAYPOINTS, REPORT, DONE)
_answers("answers of a number of 99,000 digits", "plan", "[" + "1" * 99_000, WAYPOINTS, REPORT, DONE)
_answers("answers of 33,000 options", "choice", "A. " * 33_000, CHOICE, REPORT, DONE)
_answers("descriptions of 100,000 words", "description", "a car " * 50_000, None, REPORT, DONE)
_answers("descriptions of one word of 300,000 letters", "description", "y" * 300_000, None, REPORT, DONE)


@CASES.case("a question of 300,000 options", r"autoprune|options|characters", 0, 2, 3)
def _options(place: Place) -> list[str]:
    def change(records: list[dict[str, Any]]) -> None:
        for record in records:
            record["conversations"][0]["value"] += "A. go " * 150_000
            record["conversations"][1]["value"] = "A"

    return [*place.evaluate(place.records(change)), "--types", "all"]


@CASES.case("a label of a million spaces to be converted", r"questions|records|pairs", 0, 2)
def _spaces(place: Place) -> list[str]:
    place.run.mkdir()
    rows = [{"images": ["images/0-0.png"], "question": "Is it?", "answer": "no" + " " * 900_000 + "x"}]
    path = place.questions(json.dumps([{"id": "1", "image": r["images"][0], "conversations": [
        {"from": "human", "value": r["question"]}, {"from": "gpt", "value": r["answer"]}]} for r in rows]))  # fmt: skip
    return ["questions", "convert", str(path), "--images", str(place.input), "--out", "run/out.json"]


# --- pipes at further doors -------------------------------------------------------------------------------------------


def _checkpoint(file: str, line: str, *codes: int) -> None:
    def make(place: Place) -> list[str]:
        model = place.checkpoint()
        _pipe(model / file, place)
        return place.evaluate(model=model)

    CASES.add(f"{file} of a checkpoint is a pipe", make, line, *codes)


REFUSED = r"no regular file|no plain file|not a file"
for file in ("processor_config.json", "preprocessor_config.json", "special_tokens_map.json", "chat_template.jinja", "adapter_config.json",
             "model.safetensors.index.json", "added_tokens.json", "pytorch_model.bin"):  # fmt: skip
    _checkpoint(file, REFUSED)


@CASES.case("an image is a pipe", BROKEN[0] + r"|no regular file|not one of", 2, 3)
def _image_pipe(place: Place) -> list[str]:
    questions = place.questions()
    _pipe(place.input / "images" / "1-0.png", place)
    return place.evaluate(questions)


@CASES.case("messages of the CAN bus are a pipe", r"questions about", 0)
def _can(place: Place) -> list[str]:
    root = place.tables()
    (scene,) = json.loads((root / VERSION / "scene.json").read_text())
    _pipe(root / "can_bus" / f"{scene['name']}_pose.json", place)
    place.run.mkdir()
    return build(root)


@CASES.case("a file of categories is a pipe", REFUSED)
def _categories(place: Place) -> list[str]:
    root = place.tables()
    _pipe(place.input / "kinds.yaml", place)
    place.run.mkdir()
    return [*build(root), "--categories", str(place.input / "kinds.yaml")]


@CASES.case("evidence is a pipe", REFUSED)
def _evidence(place: Place) -> list[str]:
    _pipe(place.input / "evidence.json", place)
    asked = ["--model", str(place.world.checkpoint), "--questions", str(place.world.questions), "--methods", "random", "--retention", "0.6"]
    return ["survival", *asked, "--evidence", str(place.input / "evidence.json"), "--out", "run"]


# --- what steers a terminal -------------------------------------------------------------------------------------------

STEERS = "\x1b[2J\u202e\x07"


def _steering(name: str, change: Callable[[Path], object], command: list[str], line: str, *codes: int) -> None:
    def make(place: Place) -> list[str]:
        change(flipped(place))
        return command

    CASES.add(f"{name} steers ({command[0]})", make, line, *codes)


def _sql(statement: str, *values: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        connection = sqlite3.connect(run / "answers.sqlite")
        with connection:
            connection.execute(statement, values)
        connection.close()

    return change


def _yaml(pattern: str, new: str) -> Callable[[Path], object]:
    return lambda run: (run / "config.yaml").write_text(re.sub(pattern, lambda _: new, (run / "config.yaml").read_text()))


COMPARED = ["compare", "run", "run", "--setting-b", "unpruned"]
_steering(
    "a setting's name", _yaml("(?m)^  autoprune:$", f"  {json.dumps('auto' + STEERS)}:"), ["runs", "."], r"unreadable|autoprune|runs?", 0
)
_steering("an option's name", _yaml("retention: 0.6", f"{json.dumps(STEERS)}: 1"), ["runs", "."], r"unreadable|autoprune", 0)
_steering(
    "the model's place", _yaml("(?m)^  model: .*$", f"  model: {json.dumps(STEERS)}"), ["replay", "--run", "run"], r"config\.yaml|name"
)
_steering("an answer", _sql("UPDATE answers SET answer = ?", f"STOP, STRAIGHT {STEERS}"), COMPARED, r"verdict|autoprune|damaged", 0, 2)
_steering("a scene", _sql("UPDATE questions SET scene = ?", f"scene {STEERS}"), COMPARED, r"verdict|autoprune|damaged", 0, 2)
_steering("a label", _sql("UPDATE questions SET label = ?", f"KEEP, STRAIGHT {STEERS}"), REPORT, r"report\.html|damaged", 0, 2)


@CASES.case("a folder of runs whose name steers", r"1 run|unreadable", 0)
def _name(place: Place) -> list[str]:
    flipped(place).rename(place.work / "r")
    place.run.mkdir()
    (place.work / "r").rename(place.run / f"a{STEERS}")
    return ["runs", "run"]


# --- altered --------------------------------------------------------------------------------------------------------


def _altered(name: str, change: Callable[[Path], object], command: list[str], line: str, *codes: int) -> None:
    def make(place: Place) -> list[str]:
        change(flipped(place))
        return command

    CASES.add(f"{name} ({command[0]})", make, line, *codes)


ALTERED = r"was altered|not written by|is damaged|config\.yaml|no answers|no setting|settings"
_altered("an adapter of lists", lambda run: (run / "config.yaml").open("a").write("adapter: {parse: [1], views: []}\n"), REPORT, ALTERED)
_altered("an adapter of nobody's keys", lambda run: (run / "config.yaml").open("a").write("adapter: {hooks: os.system}\n"), REPORT, ALTERED)
_altered("a seed of 400 digits", _yaml("(?m)^  seed: 0$", f"  seed: {'9' * 400}"), REPORT, ALTERED)
for size in ("[eight]", "0", "x"):
    _altered(f"a batch size that is {size}", _yaml("(?m)^  seed: 0$", f"  seed: 0\n  batch_size: {size}"), REPORT, ALTERED)
_altered("a seed that is NaN", _yaml("(?m)^  seed: 0$", "  seed: .nan"), REPORT, ALTERED)
_altered("sizes of images that are texts", _sql("UPDATE seen SET size = 'large'"), REPORT, ALTERED)
_altered("hashes of images of 4 MB", _sql("UPDATE seen SET sha256 = hex(zeroblob(1900000))"), REPORT, rf"report\.html|{ALTERED}", 0, 2)
_altered("answers of no question", _sql("UPDATE answers SET question = question + 1000"), REPORT, rf"report\.html|{ALTERED}", 0, 2)
_altered("answers of no question", _sql("UPDATE answers SET question = question + 1000"), COMPARED, ALTERED + "|planning answers|question")
_altered("no setting that is unpruned", _yaml("(?m)^  unpruned:\n(    .*\n)+", ""), ["curves", "run"], r"curves-0\.6\.png|" + ALTERED, 0, 2)
_altered("no setting that is unpruned", _sql("DELETE FROM answers WHERE setting = 'unpruned'"), COMPARED, ALTERED + "|answers of")
_altered("attributes of numbers", _sql("UPDATE questions SET attributes = '{\"light\": 3}'"), REPORT, ALTERED)
for known in ({}, {"light": "day"}, {"weather": "rain", "more": "x"}):
    text = json.dumps(known)
    _altered(f"attributes without their keys: {text}", _sql("UPDATE questions SET attributes = ?", text), REPORT, r"report\.html", 0)
    _altered(f"attributes without their keys: {text}", _sql("UPDATE questions SET attributes = ?", text), COMPARED, r"verdict", 0)
for key in ("weight", "complexity"):
    for value in ("heavy", "nan", "1e999", "", "0x1"):
        attributes = json.dumps({"light": "day", key: value})
        _altered(f"a {key} that is {value!r}", _sql("UPDATE questions SET attributes = ?", attributes), REPORT, rf"attributes: {key} is")
_altered("a weight below nothing", _sql("UPDATE questions SET attributes = ?", '{"weight": "-1"}'), REPORT, r"attributes: weight is '-1'")
