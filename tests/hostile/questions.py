"""Question files that are no question files, and those that look like one: refused with the record's number."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from tests.hostile.case import FAILED_SAMPLES, Corpus, Place
from tests.hostile.world import good_records

CASES = Corpus("questions")
GOOD = json.dumps(good_records())
DEEP = 100_000


def _content(name: str, content: Callable[[], bytes | str], line: str) -> None:
    """A file with other content."""
    CASES.add(name, lambda place: place.evaluate(place.questions(content())), line)


def _record(name: str, change: Callable[[dict[str, Any]], Any], line: str, *codes: int) -> None:
    """The good file with its second record changed (in place, or by what ``change`` returns)."""

    def make(place: Place) -> list[str]:
        def edit(records: list[Any]) -> None:
            changed = change(records[1])
            records[1] = records[1] if changed is None else changed

        return place.evaluate(place.records(edit))

    CASES.add(name, make, line, *codes)


def _turn(index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record["conversations"][index].update(changes)


# --- no list of questions ---------------------------------------------------------------------------------------------

NO_LIST = r"qa\.json: not a JSON list of questions"
BROKEN = r"qa\.json: record 1 is broken or cut off"
CUT_OFF = r"qa\.json: the file is cut off after 1 records"
_content("empty file", lambda: "", NO_LIST)
_content("white space", lambda: " \n\t" * 1000, NO_LIST)
_content("byte order mark alone", lambda: "\ufeff", NO_LIST)
_content("zeros", lambda: bytes(1000), NO_LIST)
_content("object", lambda: json.dumps({"records": good_records()}), NO_LIST)
_content("string", lambda: '"questions"', NO_LIST)
_content("NaN", lambda: "NaN", NO_LIST)
_content("UTF-16", lambda: GOOD.encode("utf-16"), NO_LIST)
_content("Latin-1", lambda: GOOD.replace("STOP", "caf\u00e9").encode("latin-1"), r"cannot read the question file \(.*utf-8")
_content("JSON lines", lambda: "\n".join(map(json.dumps, good_records())), NO_LIST)
_content("empty list", lambda: "[]", r"has no question of type plan \(it has nothing\)")
_content("list of numbers", lambda: "[1, 2]", r"record 0 is not an object")
_content("list of lists", lambda: "[[], []]", r"record 0: not an object but list")
_content("list of null", lambda: "[null]", r"record 0 is not an object")
_content("cut off in a record", lambda: GOOD[:-40], CUT_OFF)
_content("cut off after a record", lambda: GOOD[:-1], r"cut off after 2 records")
_content("no comma between records", lambda: GOOD.replace('}, {"token"', '} {"token"'), BROKEN)
_content("comma after the last record", lambda: GOOD[:-1] + ",]", r"record 2 is broken or cut off")
_content("two lists", lambda: GOOD + GOOD, r"text after the end of the list")
_content("single quotes", lambda: GOOD.replace('"', "'"), r"record 0 is broken or cut off")
_content("nested beyond all depth", lambda: "[" * DEEP, r"nested too deeply")
_content("record nested beyond all depth", lambda: GOOD[:-1] + "," + '{"a": ' * DEEP, r"nested too deeply")
_content(
    "nesting inside a good record",
    lambda: GOOD.replace('"senna_prune"', f'"x": {"[" * DEEP}{"]" * DEEP}, "senna_prune"'),
    r"nested too deeply",
)
_content("integer of 10,000 digits", lambda: GOOD.replace('"senna_prune"', f'"x": {"9" * 10_000}, "senna_prune"'), r"record 0 .*digits")
_content("string of 100 MB", lambda: GOOD.replace("STOP", "S" * 100_000_000), r"record 1 .*longer than")
_content("string of 100 MB that never ends", lambda: GOOD[: GOOD.index("STOP")] + "S" * 100_000_000, r"record 1 .*longer than")
_content("100 MB of white space", lambda: " " * 100_000_000 + GOOD[:-1], r"cut off after 2 records")
_content("100 MB of opening brackets", lambda: "[" * 100_000_000, r"nested too deeply")
_content("control character in a string", lambda: GOOD.replace("STOP", "ST\x01P"), BROKEN)
_content("invalid escape", lambda: GOOD.replace("STOP", "\\x53TOP"), BROKEN)


# --- records of the wrong shape ---------------------------------------------------------------------------------------

AGAIN = r"qa\.json: record 1: "
_record("no token", lambda r: r.pop("token") and None, AGAIN + "no sample 'token'")
_record("empty token", lambda r: r.update(token=""), AGAIN + "no sample 'token'")
_record("token is a number", lambda r: r.update(token=7), AGAIN + "no sample 'token'")
_record("token is NaN", lambda r: r.update(token=float("nan")), AGAIN + "no sample 'token'")
_record("token is a list", lambda r: r.update(token=["t1"]), AGAIN + "no sample 'token'")
_record("no conversations", lambda r: r.pop("conversations") and None, AGAIN + "'conversations' must be a list")
_record("conversations is an object", lambda r: r.update(conversations={}), AGAIN + "'conversations' must be a list")
_record("one turn", lambda r: r.update(conversations=r["conversations"][:1]), AGAIN + "'conversations' must be a list")
_record(
    "turns the other way round",
    lambda r: r.update(conversations=r["conversations"][::-1]),
    AGAIN + r"'conversations' must hold \{from: human",
)
_record("turns are strings", lambda r: r.update(conversations=["a", "b"]), AGAIN + r"'conversations' must hold \{from: human")
_record("question is null", _turn(0, value=None), AGAIN + r"'conversations' must hold \{from: human")
_record("label is a number", _turn(1, value=1e999), AGAIN + r"'conversations' must hold \{from: gpt")
_record("label from a stranger", _turn(1, **{"from": "system"}), AGAIN + r"'conversations' must hold \{from: gpt")
_record("no images", lambda r: r.update(images=[]), AGAIN + "'images' must be a list")
_record("images is a string", lambda r: r.update(images="images/1-0.png"), AGAIN + "'images' must be a list")
_record("images are numbers", lambda r: r.update(images=[1, 2]), AGAIN + "'images' must be a list")
_record("an empty path", lambda r: r.update(images=["", "images/1-1.png"]), AGAIN + "'images' must be a list")
_record(
    "more images than marks", lambda r: r.update(images=["images/1-0.png"] * 9), AGAIN + "the question has 2 image marks, 'images' lists 9"
)
_record("more marks than images", _turn(0, value="<image>" * 5000 + "SPEED plan"), AGAIN + "the question has 5000 image marks")
_record("our key is a list", lambda r: r.update(senna_prune=["scene-1"]), AGAIN + "'senna_prune' must be an object")
_record("scene is a list", lambda r: r.update(senna_prune={"scene": ["scene-1"]}), AGAIN + "the scene must be a text")
_record("scene is an object", lambda r: r.update(senna_prune={}, scene_token={"a": 1}), AGAIN + "the scene must be a text")
_record("scene is a huge number", lambda r: r.update(senna_prune={}, scene_token=10**400), AGAIN + "the scene must be a text")
_record("question twice", lambda r: good_records()[0], r"record 1 asks the same as record 0")
_record("question twice with another answer", lambda r: _relabelled(), r"record 1 asks the same as record 0")
for where, change in {
    "token": lambda r: r.update(token="t\ud800"),
    "question": lambda r: _turn(0, value=r["conversations"][0]["value"] + "\udc00")(r),
    "label": _turn(1, value="\udfff"),
    "path": lambda r: r.update(images=["images/1-0.png", "\ud83d.png"]),
    "unknown key": lambda r: r.update({"\udead": {"x": ["\udead"]}}),
}.items():
    _record(f"lone surrogate in the {where}", change, r"record 1 .*not text: a string holds the code U\+D")


def _relabelled() -> dict[str, Any]:
    record = good_records()[0]
    record["conversations"][1]["value"] = "STOP, LEFT_TURN\n"
    return record


# --- hostile paths: an image is read wherever it is, nothing is ever written ------------------------------------------


def _image(name: str, path: Callable[[Place], str], line: str) -> None:
    """The good file whose second sample names another image file; that sample fails."""

    def make(place: Place) -> list[str]:
        return place.evaluate(place.records(lambda records: records[1]["images"].__setitem__(0, path(place))))

    CASES.add(name, make, line, FAILED_SAMPLES)


_image("absolute path to the user's file", lambda place: str(place.canary), r"broken image: .*canary\.txt")
_image("`..` to the user's file", lambda place: "../home/canary.txt", r"broken image: .*canary\.txt")
_image("`..` to nowhere", lambda place: "../" * 200 + "etc/no-such-file", r"image not found")
_image("/etc/passwd", lambda place: "/etc/passwd", r"broken image: /etc/passwd")
_image("/dev/zero", lambda place: "/dev/zero", r"broken image: /dev/zero \(not a file\)")
_image("standard input", lambda place: "/dev/stdin", r"broken image: /dev/stdin|image not found: /dev/stdin")
_image("the question file itself", lambda place: "qa.json", r"broken image: .*qa\.json")
_image("a path of 100,000 characters", lambda place: "a/" * 50_000, r"image not found|broken image")
_image("a name of 5,000 characters", lambda place: "a" * 5_000, r"image not found|broken image")
_image("a URL", lambda place: "https://example.invalid/a.png", r"image not found")
_image("line breaks", lambda place: "a\n\r\nb.png", r"image not found")


for what, path in {
    "a zero byte": "1-0.png\0.txt",
    "codes that clear a terminal": "a\x1b[2J.png",
    "an 8-bit control code": "a\x9b2J.png",
}.items():
    _record(
        f"path with {what}", lambda r, path=path: r.update(images=["images/1-0.png", path]), r"record 1 .*not text: a string holds the code"
    )


@CASES.case("every path is too long", r"not one of 2 samples has all its images")
def _long(place: Place) -> list[str]:
    return place.evaluate(place.records(lambda records: [r.update(images=["a" * 5000] * 2) for r in records] and None))


# --- long prompts, odd labels, the file itself ------------------------------------------------------------------------

_record(
    "question of 300,000 characters",
    lambda r: _turn(0, value=r["conversations"][0]["value"] + "go " * 100_000)(r),
    r"the prompt takes \d+ positions",
    FAILED_SAMPLES,
)


@CASES.case("question file is a folder", r"is a folder: name a question file")
def _folder(place: Place) -> list[str]:
    return place.evaluate(place.input)


@CASES.case("question file is missing", r"cannot read the question file \(No such file")
def _missing(place: Place) -> list[str]:
    return place.evaluate(place.input / "none.json")


@CASES.case("question file is a link to itself", r"cannot read the question file \(Too many levels")
def _loop(place: Place) -> list[str]:
    (place.input / "qa.json").symlink_to("qa.json")
    return place.evaluate(place.input / "qa.json")


@CASES.case("question file is an endless device", r"is no regular file")
def _device(place: Place) -> list[str]:
    (place.input / "qa.json").symlink_to("/dev/zero")
    return place.evaluate(place.input / "qa.json")


@CASES.case("sparse question file of 100 GB", NO_LIST)
def _sparse(place: Place) -> list[str]:
    path = place.input / "qa.json"
    path.touch()
    os.truncate(path, 100 << 30)
    return place.evaluate(path)


# --- the sidecar ------------------------------------------------------------------------------------------------------


def _sidecar(name: str, content: str | bytes, line: str, command: str = "eval") -> None:
    def make(place: Place) -> list[str]:
        questions = place.questions()
        data = content if isinstance(content, bytes) else content.encode()
        (place.input / "qa.json.meta.json").write_bytes(data)
        return place.evaluate(questions) if command == "eval" else ["questions", "inspect", str(questions)]

    CASES.add(f"{name} ({command})", make, line)


for command in ("eval", "inspect"):
    _sidecar("sidecar cut off", '{"format": ', r"broken JSON in .*meta\.json", command)
    _sidecar("sidecar is a list", "[1]", r"meta\.json: not a JSON object", command)
    _sidecar("sidecar of another file", '{"sha256": "0"}', r"describes another content", command)
    _sidecar("sidecar nested beyond all depth", "[" * DEEP, r"broken JSON in .*meta\.json", command)
    _sidecar("sidecar with an integer of 10,000 digits", '{"a": ' + "9" * 10_000 + "}", r"broken JSON in .*meta\.json", command)
    _sidecar("sidecar's data root is a list", '{"dataroot": ["/"]}', r"meta\.json: 'dataroot': Input should", command)
    _sidecar("sidecar's variant is a text", '{"variant": "fixed"}', r"meta\.json: 'variant': Input should", command)
    _sidecar("sidecar's data are numbers", '{"variant": {}, "data": 7}', r"meta\.json: 'data': Input should", command)
    _sidecar("sidecar with a lone surrogate", '{"dataroot": "\\ud800"}', r"broken JSON in .*not text", command)


@CASES.case("sidecar of 100 MB", r"meta\.json is larger than")
def _large_sidecar(place: Place) -> list[str]:
    questions = place.questions()
    path = place.input / "qa.json.meta.json"
    path.touch()
    os.truncate(path, 100_000_000)
    return place.evaluate(questions)


# --- the same files through the other commands ------------------------------------------------------------------------


@CASES.case("inspect a cut off file", CUT_OFF)
def _inspect(place: Place) -> list[str]:
    return ["questions", "inspect", str(place.questions(GOOD[:-40]))]


@CASES.case("draw a sample of a file without tables", r"has no sidecar that names its tables: give --dataroot")
def _draw(place: Place) -> list[str]:
    return ["questions", "inspect", str(place.questions()), "--image", "t0", "run/x.png"]


@CASES.case("calibrate on a cut off file", CUT_OFF)
def _calibrate(place: Place) -> list[str]:
    return ["calibrate", "--model", str(place.world.checkpoint), "--questions", str(place.questions(GOOD[:-40]))]


@CASES.case("sweep over a cut off file", CUT_OFF)
def _sweep(place: Place) -> list[str]:
    model = ["--model", str(place.world.checkpoint), "--methods", "random", "--retention", "0.6", "--out", "run"]
    return ["sweep", *model, "--questions", str(place.questions(GOOD[:-40]))]
