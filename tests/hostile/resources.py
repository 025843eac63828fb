"""Inputs that are small and cost much: computed columns, comments without an end, texts that grow, patterns that search for ever."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.hostile.case import FAILED_SAMPLES, Corpus, Place
from tests.hostile.tables import build
from tests.hostile.world import VERSION, jpeg

CASES = Corpus("resources")

# --- images -----------------------------------------------------------------------------------------------------------


def _image(name: str, content: Callable[[], bytes], line: str) -> None:
    """The second sample has an image with this content."""

    def make(place: Place) -> list[str]:
        questions = place.questions()
        (place.input / "images" / "1-0.png").write_bytes(content())
        return place.evaluate(questions)

    CASES.add(name, make, line, FAILED_SAMPLES)


def _progressive(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: each costs a walk over the whole picture."""
    file = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


BROKEN = r"broken image: .*1-0\.png"
_image("PPM with a comment of 5 MB", lambda: b"P6\n#" + b"x" * 5_000_000 + b"\n8 8\n255\n" + bytes(192), BROKEN)
_image("PPM with a comment of 5 MB before its range", lambda: b"P6\n8 8\n#" + b"x" * 5_000_000 + b"\n255\n" + bytes(192), BROKEN)
_image("PPM of text with a million comments", lambda: b"P3\n600 600\n255\n" + b"#x\n" * 1_000_000 + b"1 " * 1_080_000, BROKEN)
_image("PPM whose width has 5,000 digits", lambda: b"P6\n" + b"1" * 5000 + b" 8\n255\n", BROKEN)
_image("JPEG of 1,000 scans", lambda: _progressive(1000), BROKEN)

# --- databases --------------------------------------------------------------------------------------------------------

DAMAGED = r"answers\.sqlite is damaged|answers\.sqlite .*not written by senna-prune"
REPORT = ["report", "run", "--no-replay"]


def _database(name: str, change: Callable[[sqlite3.Connection], object], *argv: str) -> None:
    def make(place: Place) -> list[str]:
        connection = sqlite3.connect(place.finished() / "answers.sqlite")
        with connection:
            change(connection)
        connection.close()
        return list(argv or REPORT)

    CASES.add(name, make, DAMAGED)


def _remade(table: str, change: Callable[[str], str], *statements: str) -> Callable[[sqlite3.Connection], None]:
    """The table made anew with another schema, its rows in it."""

    def alter(connection: sqlite3.Connection) -> None:
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        names = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        connection.execute(f"ALTER TABLE {table} RENAME TO old")
        connection.execute(change(sql))
        hidden = {name for _, name, _, _, _, _, kind in connection.execute(f"PRAGMA table_xinfo({table})") if kind}
        kept = ", ".join(name for name in names if name not in hidden)
        connection.execute(f"INSERT INTO {table} ({kept}) SELECT {kept} FROM old")
        connection.execute("DROP TABLE old")
        for statement in statements:
            connection.execute(statement)

    return alter


def _sql(*statements: str) -> Callable[[sqlite3.Connection], None]:
    return lambda connection: [connection.execute(statement) for statement in statements] and None


GROWS = "hex(zeroblob(4000000))"
_database(
    "a computed column", _remade("answers", lambda sql: sql.replace("reason TEXT", f"reason TEXT GENERATED ALWAYS AS ({GROWS}) VIRTUAL"))
)
_database("a check that counts", _remade("answers", lambda sql: sql.replace("reason TEXT", "reason TEXT CHECK (reason > 0)")))
_database("a default that grows", _remade("answers", lambda sql: sql.replace("reason TEXT", f"reason TEXT DEFAULT ({GROWS})")))
_database("one column more", _sql("ALTER TABLE questions ADD COLUMN more TEXT"))
_database(
    "columns in another order",
    _remade("questions", lambda sql: sql.replace("text TEXT NOT NULL, label TEXT", "label TEXT NOT NULL, text TEXT")),
)
_database("an answer of 5 MB", _sql("UPDATE answers SET answer = hex(zeroblob(2500000)) WHERE question = 0"))
_database(
    "a trace of 5 MB", _sql("UPDATE answers SET trace = hex(zeroblob(2500000)) WHERE question = 0"), "curves", "run", "--out", "run/c.png"
)
_database("a token of 3 MB", _sql("UPDATE questions SET token = hex(zeroblob(1500000))"))
_database("a place of 3 MB", _sql("UPDATE questions SET attributes = '{\"location\": \"' || hex(zeroblob(1500000)) || '\"}'"))
_database("an attribute that steers", _sql('UPDATE questions SET attributes = \'{"location": "\\u001b[2J"}\''))
_database("a trigger under a name of SQLite's own", _sql(
    "CREATE TRIGGER t AFTER INSERT ON answers BEGIN DELETE FROM questions; END",
    "PRAGMA writable_schema = ON",
    "UPDATE sqlite_master SET name = 'sqlite_t' WHERE name = 't'",
))  # fmt: skip

# --- texts and numbers ------------------------------------------------------------------------------------------------


@CASES.case("a place of 5 MB in the tables", r"location of .* is .*not a text to be shown")
def _place(place: Place) -> list[str]:
    root = place.tables()
    path = root / VERSION / "log.json"
    rows = json.loads(path.read_text())
    rows[0]["location"] = "x" * 5_000_000
    path.write_text(json.dumps(rows))
    place.run.mkdir()
    return build(root)


@CASES.case("a place of 5 MB beside a question", r"location of the scene .* 5000000 characters")
def _own_place(place: Place) -> list[str]:
    return place.evaluate(place.records(lambda records: records[0]["senna_prune"].update(location="x" * 5_000_000)))


@CASES.case("a token of 5 MB", r"a sample token of 5000000 characters")
def _token(place: Place) -> list[str]:
    return place.evaluate(place.records(lambda records: records[0].update(token="x" * 5_000_000)))


@CASES.case("a question of 10 MB", r"a text of \d+ characters")
def _question(place: Place) -> list[str]:
    def change(records: list[dict[str, Any]]) -> None:
        records[0]["conversations"][0]["value"] += "why " * 2_500_000

    return place.evaluate(place.records(change))


@CASES.case("a million resamples", r"resamples: .*100000")
def _resamples(place: Place) -> list[str]:
    return [*place.evaluate(), "--resamples", "1000000"]


# --- tokenizers -------------------------------------------------------------------------------------------------------


def _tokenizer(name: str, change: Callable[[dict[str, Any]], object], line: str) -> None:
    def make(place: Place) -> list[str]:
        model = place.checkpoint()
        path = model / "tokenizer.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))
        return place.evaluate(model=model)

    CASES.add(name, make, line)


def _replace(content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


PAGE = _replace("x" * 1_000_000, String="e")
_tokenizer("a normaliser that makes a page of a letter", lambda v: v.update(normalizer=PAGE), "times as long")
_tokenizer(
    "normalisers that double, twenty times over",
    lambda v: v.update(normalizer={"type": "Sequence", "normalizers": [_replace("ee", String="e")] * 20}),
    "times as long",
)
_tokenizer("a decoder that makes a page of a letter", lambda v: v.update(decoder=PAGE), "times as long")
_tokenizer("a pattern that searches for ever", lambda v: v.update(normalizer=_replace("", Regex="(.+)+\\x00")), "search without an end")
_tokenizer(
    "a splitter that searches for ever",
    lambda v: v.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(?:[a-z]*)*\\d"}, "behavior": "Isolated", "invert": False}),
    "search without an end",
)
_tokenizer(
    "ten thousand normalisers",
    lambda v: v.update(normalizer={"type": "Sequence", "normalizers": [_replace("e", String="e")] * 10_000}),
    "10000 steps",
)

# --- YAML -------------------------------------------------------------------------------------------------------------


def _laughs() -> str:
    lines = ["a0: &a0 [x]"]
    return "\n".join([*lines, *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))])


def _adapter(name: str, content: Callable[[], str], line: str) -> None:
    def make(place: Place) -> list[str]:
        path = place.input / "adapter.yaml"
        path.write_text(content())
        return [*place.evaluate(), "--adapter", str(path)]

    CASES.add(name, make, line)


_adapter("an adapter of a billion laughs", _laughs, "aliases are not allowed")
_adapter("an adapter of 5 MB", lambda: "prompt: " + "x" * 5_000_000, "larger than")
_adapter("an adapter nested beyond all depth", lambda: "[" * 5000, r"adapter\.yaml")
_adapter("an adapter with an integer of 5,000 digits", lambda: f"views: {'9' * 5000}", r"adapter\.yaml")


@CASES.case("a picture in a good file's place", r"done|autoprune", 0)
def _good(place: Place) -> list[str]:
    """What the limits must let pass: a progressive JPEG, a PPM with a comment, a real place's name."""
    questions = place.records(lambda records: records[0]["senna_prune"].update(location="singapore-onenorth"))
    (place.input / "images" / "1-0.png").write_bytes(jpeg(progressive=True))
    (place.input / "images" / "1-1.png").write_bytes(b"P6\n# made by hand\n8 8\n255\n" + bytes(192))
    return place.evaluate(Path(questions))
