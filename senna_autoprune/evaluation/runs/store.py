"""A run directory: what was asked, every answer as soon as it exists, and the measures at the end.

    config.yaml     settings, and what they met: hashes of model and questions, versions (written once)
    answers.sqlite  one row a (question, setting), committed as it is computed, and the prompt it answers; the questions
                    themselves, so that a run can be measured, reported and replayed without its question file
    answers.jsonl   the answers as text once a run is finished, without times: the same for equal answers
    metrics.json    written atomically when a run is summarised
    run.lock        held while a process works here (lock.py)

SQLite's rollback journal survives a killed process at any moment, and works where write-ahead logs do not (network file
systems).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.check import attributes_of, check_layout, images_of, require_plain, trace_of, truths_of
from senna_autoprune.evaluation.runs.description import check_description
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.files.atomic import disk_errors, full_disk, remove_parts, replace_file, write_atomically
from senna_autoprune.files.lock import RunLock
from senna_autoprune.files.regular import require_own
from senna_autoprune.files.yaml_files import dump_yaml, read_yaml

CONFIG, ANSWERS, METRICS = "config.yaml", "answers.sqlite", "metrics.json"
CONFIG_BYTES = 4_000_000  # of config.yaml: a sweep writes down some hundred bytes a setting
ANSWER_LINES = "answers.jsonl"
COMPARED = ("config", "identity")  # sections of config.yaml that must be the same to continue
SCHEMA_VERSION = 1
CODE = "adapter_code"  # how the names of hashes of a Python adapter's code begin (``adapters.code``)
BUSY_S = 60.0  # how long a commit waits for readers of a run under way

_SCHEMA = """
CREATE TABLE IF NOT EXISTS questions (
    question INTEGER PRIMARY KEY, token TEXT NOT NULL, type TEXT NOT NULL, text TEXT NOT NULL, label TEXT NOT NULL,
    images TEXT NOT NULL, scene TEXT NOT NULL, scene_known INTEGER NOT NULL, attributes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    question INTEGER NOT NULL, setting TEXT NOT NULL, status TEXT NOT NULL, answer TEXT, reason TEXT,
    vision_ms REAL, prefill_ms REAL, decode_ms REAL, new_tokens INTEGER, kv_bytes INTEGER, trace TEXT,
    PRIMARY KEY (question, setting));
CREATE TABLE IF NOT EXISTS prompts (prompt INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS sent (
    question INTEGER NOT NULL, setting TEXT NOT NULL, prompt INTEGER, missing_frames INTEGER, said TEXT,
    PRIMARY KEY (question, setting));
CREATE TABLE IF NOT EXISTS truths (question INTEGER PRIMARY KEY, facts TEXT NOT NULL, earlier TEXT NOT NULL, future TEXT NOT NULL);
"""
_ANSWER = [field.name for field in fields(AnswerRow) if field.name not in ("trace", "said", "sent", "missing_frames")]


class RunStore:
    """Opened by ``RunStore.start`` (to work in it, locked) or ``RunStore.read`` (to look). A context manager."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, lock: RunLock | None) -> None:
        self.directory = directory
        self._connection = connection
        self._lock = lock

    @classmethod
    def start(cls, directory: str | Path, description: dict[str, Any], questions: Iterable[QuestionRow]) -> RunStore:
        """Create a run directory, or continue one that was made with the same settings.

        Args:
            description: sections of plain data; those in ``COMPARED`` must equal the ones on disk.
            questions: written when the run is new.
        Raises:
            SennaPruneError: held by another process; made with other settings (lists them); unwritable, full or
            damaged.
        """
        directory = Path(directory)
        with _run_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        lock = RunLock(directory)
        lock.__enter__()
        try:
            with _run_errors(directory):
                remove_parts(directory)
                _match_or_write(directory, description)
                require_plain(directory / ANSWERS)
                connection = sqlite3.connect(directory / ANSWERS, timeout=BUSY_S)
                check_layout(connection, directory / ANSWERS)
                store = cls(directory, connection, lock)
                store._prepare(questions)
                return store
        except BaseException:
            lock.__exit__(None, None, None)
            raise

    @classmethod
    def read(cls, directory: str | Path) -> RunStore:
        """Open a run to read its answers. SennaPruneError if there is none, or it is damaged."""
        directory = Path(directory)
        path = directory / ANSWERS
        if not path.is_file():
            raise SennaPruneError(f"{directory} is not a run directory: it has no {ANSWERS}")
        require_plain(path)
        with _run_errors(directory):
            try:
                connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)
                check_layout(connection, path)  # the first look: a journal left by a kill is rolled back here
            except sqlite3.OperationalError:
                connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
                check_layout(connection, path)
        return cls(directory, connection, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
        if self._lock is not None:
            self._lock.__exit__(None, None, None)

    def _prepare(self, questions: Iterable[QuestionRow]) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise SennaPruneError(f"{self.directory / ANSWERS} was written by another version of senna-prune")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")  # all tables or none, whenever it is killed
        if version == 0:
            with self._connection:
                rows = list(questions)
                self._connection.execute("DELETE FROM questions")
                self._connection.execute("DELETE FROM truths")
                self._connection.executemany("INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_pack_question, rows))
                self._connection.executemany("INSERT INTO truths VALUES (?, ?, ?, ?)", filter(None, map(_pack_truths, rows)))
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")  # last, in the same transaction

    # --- what is there ----------------------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """config.yaml as plain data. SennaPruneError: altered, so that it is not what a run writes."""
        return read_description(self.directory)

    def finished(self) -> set[tuple[int, str]]:
        """(question, setting) of every row, failed ones included."""
        return set(self._connection.execute("SELECT question, setting FROM answers"))

    def counts(self) -> tuple[int, int]:
        """Answers so far, failed ones included, and questions."""
        with _run_errors(self.directory):
            return tuple(self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("answers", "questions"))  # type: ignore[return-value]

    def proven(self) -> set[str]:
        """Settings that have answered at least once."""
        rows = self._connection.execute("SELECT DISTINCT setting FROM answers WHERE status = 'ok'")
        return {setting for (setting,) in rows}

    def questions(self) -> list[QuestionRow]:
        """All questions of the run, in the order of the question file."""
        path = self.directory / ANSWERS
        with _run_errors(self.directory):
            known = self._rows_of("truths", "SELECT * FROM truths")
            truths = {q: truths_of(facts, earlier, future, path) for q, facts, earlier, future in known}
            return [
                QuestionRow(
                    q,
                    token,
                    kind,
                    text,
                    label,
                    images_of(images, path),
                    scene,
                    bool(known),
                    attributes_of(attributes, path),
                    **truths.get(q, {}),
                )
                for q, token, kind, text, label, images, scene, known, attributes in self._connection.execute(
                    "SELECT * FROM questions ORDER BY question"
                )
            ]

    def answers(self, setting: str | None = None) -> list[AnswerRow]:
        """Rows so far, ordered by question, of one setting or of all."""
        where, values = ("WHERE setting = ?", (setting,)) if setting is not None else ("", ())
        path = self.directory / ANSWERS
        with _run_errors(self.directory):
            asked = "SELECT question, setting, said, missing_frames FROM sent WHERE said IS NOT NULL OR missing_frames > 0"
            told = {(question, name): found for question, name, *found in self._rows_of("sent", asked)}
            return [
                AnswerRow(
                    **dict(zip(_ANSWER, numbers, strict=True)),
                    trace=trace_of(trace, path) if trace is not None else None,
                    **dict(zip(("said", "missing_frames"), told.get((numbers[0], numbers[1]), ()), strict=False)),
                )
                for *numbers, trace in self._connection.execute(
                    f"SELECT {', '.join(_ANSWER)}, trace FROM answers {where} ORDER BY question, setting", values
                )
            ]

    def sent(self) -> dict[tuple[int, str], tuple[str, int]]:
        """(question, setting) -> the prompt as it was sent, verbatim, and how many of its pictures stood for a missing one.

        Empty for answers of runs made before prompts were kept.
        """
        asked = "SELECT question, setting, text, missing_frames FROM sent JOIN prompts USING (prompt)"
        with _run_errors(self.directory):
            return {(question, name): (text, missing) for question, name, text, missing in self._rows_of("prompts", asked)}

    def _rows_of(self, table: str, asked: str) -> Iterable[Any]:
        """Rows of a table that runs made before did not have."""
        known = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        return self._connection.execute(asked) if known else ()

    # --- what is added ----------------------------------------------------------------------------------------------

    def describe(self, description: dict[str, Any]) -> None:
        """Write config.yaml anew: the sections that are not compared may change when a run is continued."""
        with _run_errors(self.directory):
            replace_file(self.directory / CONFIG, dump_yaml(description))

    def add(self, row: AnswerRow) -> None:
        """Commit one answer. SennaPruneError if the disk is full or read-only; what was committed before stays."""
        trace = json.dumps(row.trace) if row.trace is not None else None
        with _run_errors(self.directory), self._connection:
            self._connection.execute(
                f"INSERT INTO answers ({', '.join(_ANSWER)}, trace) VALUES ({', '.join('?' * len(_ANSWER))}, ?)",
                [*(getattr(row, name) for name in _ANSWER), trace],
            )
            if row.sent is not None:
                self._connection.execute("INSERT OR IGNORE INTO prompts (text) VALUES (?)", (row.sent,))
                self._connection.execute(
                    "INSERT OR REPLACE INTO sent SELECT ?, ?, prompt, ?, ? FROM prompts WHERE text = ?",
                    (row.question, row.setting, row.missing_frames or 0, row.said, row.sent),
                )

    def forget_failed(self) -> int:
        """Drop failed rows so that they are tried again; returns how many."""
        with _run_errors(self.directory), self._connection:
            self._connection.execute(
                "DELETE FROM sent WHERE (question, setting) IN (SELECT question, setting FROM answers WHERE status = 'failed')"
            )
            return self._connection.execute("DELETE FROM answers WHERE status = 'failed'").rowcount

    def write_answers(self, rows: Iterable[AnswerRow]) -> Path:
        """answers.jsonl, atomically: one JSON object a row, in the order given, with everything but the times."""
        path = self.directory / ANSWER_LINES
        write_atomically(path, "".join(json.dumps(_untimed(row)) + "\n" for row in rows))
        return path

    def write_metrics(self, metrics: dict[str, Any]) -> Path:
        """metrics.json, atomically: a reader sees the old file or the new one, never half of it."""
        path = self.directory / METRICS
        with _run_errors(self.directory):
            replace_file(path, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        return path


def _untimed(row: AnswerRow) -> dict[str, Any]:
    kept_apart = ("sent", "missing_frames", *(("said",) if row.said is None else ()))
    data = {name: value for name, value in asdict(row).items() if not name.endswith("_ms") and name not in kept_apart}
    if row.trace is not None:
        data["trace"] = {name: value for name, value in row.trace.items() if not name.endswith("_ms")}
    return data


def _pack_question(row: QuestionRow) -> tuple[Any, ...]:
    return (
        row.question,
        row.token,
        row.type,
        row.text,
        row.label,
        json.dumps(row.images),
        row.scene,
        int(row.scene_known),
        json.dumps(row.attributes),
    )


def _pack_truths(row: QuestionRow) -> tuple[Any, ...] | None:
    """None where there is nothing to keep."""
    if not (row.facts or row.earlier or row.future):
        return None
    earlier = [[camera, frame, path] for (camera, frame), path in row.earlier.items()]
    return row.question, json.dumps(dict(row.facts)), json.dumps(earlier), json.dumps(row.future)


def _match_or_write(directory: Path, description: dict[str, Any]) -> None:
    path = directory / CONFIG
    require_own(path)
    if not path.exists():
        if (directory / ANSWERS).exists():
            raise SennaPruneError(f"{directory} has answers but no {CONFIG}: give another directory with --out")
        replace_file(path, dump_yaml(description))
        return
    stored = read_yaml(path, CONFIG_BYTES)
    found = differences({key: stored.get(key) for key in COMPARED}, {key: description.get(key) for key in COMPARED})
    known = stored.get("identity")
    if isinstance(known, dict) and not any(str(name).startswith(CODE) for name in known):  # made before code was hashed
        found = [one for one in found if not one[0].startswith(CODE)]
    if found:
        shown = "; ".join(f"{name}: {_short(there)} there, {_short(here)} now" for name, there, here in found)
        raise SennaPruneError(f"the run directory {directory} was made with other settings ({shown}); give another with --out")


def read_description(directory: Path) -> dict[str, Any]:
    """A run's config.yaml. SennaPruneError: it is a link, unreadable, or not what a run writes."""
    require_own(directory / CONFIG)
    return check_description(read_yaml(directory / CONFIG, CONFIG_BYTES), directory / CONFIG)


def differences(there: Any, here: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Leaves that differ between two trees of plain data: (dotted name, there, here). The section's own name is left
    out.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in dict.fromkeys([*there, *here]):
            name = "" if not prefix and key in COMPARED else f"{prefix}{key}."
            found += differences(there.get(key), here.get(key), name)
        return found
    return [] if there == here else [(prefix.rstrip("."), there, here)]


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextlib.contextmanager
def _run_errors(directory: Path) -> Iterator[None]:
    """Faults of the disk and of the run's database as one line."""
    with disk_errors(directory):
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise SennaPruneError(full_disk(directory)) from error
            raise SennaPruneError(f"cannot use {directory / ANSWERS}: {error}; give another directory with --out") from error
        except sqlite3.DatabaseError as error:
            raise SennaPruneError(f"{directory / ANSWERS} is damaged ({error}); give another directory with --out") from error
