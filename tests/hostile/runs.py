"""Run directories that somebody else sent: broken or hostile files where answers are continued, replayed and reported."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.hostile.case import Corpus, Place

CASES = Corpus("run directory")
DAMAGED = r"answers\.sqlite is damaged|cannot use .*answers\.sqlite|answers\.sqlite .*not written by senna-prune|not a run directory"


def _continued(place: Place) -> list[str]:
    return place.evaluate()


def _replayed(place: Place) -> list[str]:
    again = ["--model", str(place.world.checkpoint), "--images", str(place.world.questions.parent)]
    return ["replay", "--run", "run", *again, "--flips", "all", "--out", "run/replay"]


def _reported(place: Place) -> list[str]:
    return ["report", "run", "--no-replay"]


COMMANDS = {"continued": _continued, "replayed": _replayed, "reported": _reported}


def _run(name: str, change: Callable[[Path, Place], object], line: str, *commands: str) -> None:
    """A finished run after ``change``, through some commands (all by default)."""
    for how in commands or COMMANDS:

        def make(place: Place, command: Callable[[Place], list[str]] = COMMANDS[how]) -> list[str]:
            change(place.finished(), place)
            return command(place)

        CASES.add(f"{name} ({how})", make, line)


def _sql(*statements: str) -> Callable[[Path, Place], None]:
    def change(run: Path, _place: Place) -> None:
        connection = sqlite3.connect(run / "answers.sqlite")
        with connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return change


def _database(content: bytes) -> Callable[[Path, Place], object]:
    return lambda run, _: (run / "answers.sqlite").write_bytes(content)


def _config(content: str) -> Callable[[Path, Place], object]:
    return lambda run, _: (run / "config.yaml").write_text(content)


def _link(name: str) -> Callable[[Path, Place], object]:
    """The file is a link to the user's own file."""
    return lambda run, place: ((run / name).unlink(missing_ok=True), (run / name).symlink_to(place.canary))


# --- answers ----------------------------------------------------------------------------------------------------------

_run("answers of random bytes", _database(os.urandom(0) + bytes(range(256)) * 50), DAMAGED)
_run("answers cut off", lambda run, _: os.truncate(run / "answers.sqlite", 5000), DAMAGED)
_run("answers of text", _database(b"not a database\n" * 100), DAMAGED)
_run("answers are a folder", lambda run, _: ((run / "answers.sqlite").unlink(), (run / "answers.sqlite").mkdir()), DAMAGED)
_run(
    "answers are a view without an end",
    _sql(
        "DROP TABLE answers",
        "CREATE VIEW answers AS WITH RECURSIVE n(question) AS (SELECT 1 UNION ALL SELECT question + 1 FROM n) "
        "SELECT question, 'unpruned' AS setting, 'ok' AS status FROM n",
    ),
    DAMAGED,
)
_run("a trigger on answers", _sql("CREATE TRIGGER t AFTER INSERT ON answers BEGIN DELETE FROM questions; END"), DAMAGED)
_run("answers without columns", _sql("DROP TABLE answers", "CREATE TABLE answers (a)"), DAMAGED)
_run("no questions table", _sql("DROP TABLE questions"), DAMAGED)
_run("images are no JSON", _sql("UPDATE questions SET images = '['"), DAMAGED, "replayed", "reported")
_run("images are numbers", _sql("UPDATE questions SET images = '[1]'"), DAMAGED, "replayed", "reported")
_run("attributes are a list", _sql("UPDATE questions SET attributes = '[1]'"), DAMAGED, "replayed", "reported")
_run("a trace is no JSON", _sql("UPDATE answers SET trace = '{' WHERE setting = 'autoprune'"), DAMAGED, "continued", "reported")
_run("a trace is a list", _sql("UPDATE answers SET trace = '[1]' WHERE setting = 'autoprune'"), DAMAGED, "continued", "reported")
_run("a trace lacks everything", _sql("UPDATE answers SET trace = '{}' WHERE setting = 'autoprune'"), DAMAGED, "continued", "reported")
_run(
    "a trace nested beyond all depth",
    _sql(f"UPDATE answers SET trace = '{'[' * 50_000}' WHERE setting = 'autoprune'"),
    DAMAGED,
    "continued",
    "reported",
)
_run("times are texts", _sql("UPDATE answers SET prefill_ms = 'fast'"), DAMAGED)
_run("times are infinite", _sql("UPDATE answers SET prefill_ms = 9e999"), DAMAGED)
_run("a trace holds NaN", _sql("UPDATE answers SET trace = replace(trace, '1.0', 'NaN') WHERE trace IS NOT NULL"), DAMAGED, "reported")
_run("answers are bytes", _sql("UPDATE answers SET answer = x'ff00'"), DAMAGED)
_run(
    "question numbers are texts",
    _sql(
        "CREATE TABLE a AS SELECT * FROM answers",
        "DROP TABLE answers",
        "ALTER TABLE a RENAME TO answers",
        "UPDATE answers SET question = 'one'",
    ),
    DAMAGED,
)

# --- config.yaml ------------------------------------------------------------------------------------------------------

BAD = r"config\.yaml|made with other settings"
_run("configuration with a tag", _config("config: !!python/object/apply:os.system ['touch pwned']"), BAD)
_run("configuration with aliases", _config("a: &a [1]\nb: *a"), r"aliases are not allowed")
_run("configuration nested beyond all depth", _config("[" * 5000), BAD)
_run("configuration is a list", _config("- 1"), r"a configuration is a mapping")
_run("configuration is empty", _config(""), BAD, "continued", "replayed")
_run("settings are a text", _config("places: {images_root: /}\nsettings: text\nconfig: {}"), BAD, "continued", "replayed")
_run(
    "settings are numbers",
    _config("places: {images_root: /, model: m}\nsettings: {autoprune: 7}\nconfig: {method: autoprune}"),
    BAD,
    "continued",
    "replayed",
)
_run("image root is a number", _config("places: {images_root: 7}\nsettings: {}\nconfig: {}"), BAD, "continued", "replayed")
_run("configuration missing", lambda run, _: (run / "config.yaml").unlink(), r"config\.yaml")

# --- links and other files --------------------------------------------------------------------------------------------

_run("answers are a link to the user's file", _link("answers.sqlite"), DAMAGED)
_run("lock is a link to the user's file", _link("run.lock"), r"cannot write to the run directory", "continued")
_run(
    "lock is a pipe",
    lambda run, _: ((run / "run.lock").unlink(missing_ok=True), os.mkfifo(run / "run.lock")),
    r"run\.lock|cannot",
    "continued",
)
_run(
    "lock is a folder",
    lambda run, _: ((run / "run.lock").unlink(missing_ok=True), (run / "run.lock").mkdir()),
    r"run directory",
    "continued",
)


def _hard_link(name: str) -> Callable[[Path, Place], object]:
    """The file has a second name: the user's own file."""
    return lambda run, place: ((run / name).unlink(missing_ok=True), os.link(place.canary, run / name))


def _pipe(name: str) -> Callable[[Path, Place], object]:
    return lambda run, _: ((run / name).unlink(missing_ok=True), os.mkfifo(run / name))


def _super_journal(run: Path, place: Place) -> None:
    """A hot journal that ends in the name of another file, which SQLite would delete (its file format, section 3)."""
    name = os.fsencode(place.canary)
    header = bytes.fromhex("d9d505f920a163d7") + b"\0" * 20
    ending = name + len(name).to_bytes(4, "big") + (sum(name) & 0xFFFFFFFF).to_bytes(4, "big") + bytes.fromhex("d9d505f920a163d7")
    (run / "answers.sqlite-journal").write_bytes(header.ljust(512, b"\0") + b"\0\0\0\0" + ending)


_run("lock has a second name", _hard_link("run.lock"), r"no plain file of its own", "continued")
_run("answers have a second name", _hard_link("answers.sqlite"), r"second name")
_run("configuration has a second name", _hard_link("config.yaml"), r"second name")
_run("configuration is a link", _link("config.yaml"), r"no plain file")
_run("configuration is a pipe", _pipe("config.yaml"), r"no plain file")
_run("the journal names another file", _super_journal, r"names another file")
_run("the journal is a link", _link("answers.sqlite-journal"), r"no plain file")
_run("figures are a link", lambda run, place: (run / "figures").symlink_to(place.canary.parent), r"figures is a link", "reported")
for name in ("report.html", "answers.html", "figures/report-accuracy.png", "figures/report-accuracy.svg"):
    for way, put in {"a link to": _link, "a second name of": _hard_link}.items():

        def make(place: Place, name: str = name, put: Callable[[str], Callable[[Path, Place], object]] = put) -> list[str]:
            """A page or picture of before leads to the user's file: it is replaced, and what it named stays."""
            run = place.finished()
            (run / name).parent.mkdir(exist_ok=True)
            put(name)(run, place)
            return _reported(place)

        CASES.add(f"{name} is {way} the user's file", make, r"report\.html", 0)


@CASES.case("report of a folder that is no run", r"not a run directory|no report|config\.yaml|no run")
def _no_run(place: Place) -> list[str]:
    place.run.mkdir()
    return _reported(place)


@CASES.case("replay of a file", r"not a run directory")
def _file(place: Place) -> list[str]:
    return ["replay", "--run", str(place.canary), "--out", "run"]


@CASES.case("measures of a sweep that are no table", r"table\.json|sweep")
def _sweep(place: Place) -> list[str]:
    run = place.finished()
    (run / "config.yaml").write_text("sweep: {}\n")
    (run / "table.json").write_text(json.dumps([1]))
    return _reported(place)
