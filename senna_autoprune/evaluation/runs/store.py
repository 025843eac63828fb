"""A run directory: what was asked, every answer as soon as it exists, and the measures at the end.

    config.yaml     settings, and what they met: hashes of model and questions, versions (written once)
    answers.sqlite  one row a (question, setting), committed as it is computed (groups.py), and the prompt it answers; the questions
                    themselves, so that a run can be measured, reported and replayed without its question file; which image files
                    the answers have seen; a number that config.yaml names, so that no other database passes for this run's
    answers.jsonl   the answers as text once a run is finished, without times: the same for equal answers
    metrics.json    written atomically when a run is summarised
    run.lock        held while a process works here (lock.py)

What a kill leaves of the database, and whether it is one of ours: ``files.database``.
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from sys import intern
from types import TracebackType
from typing import Any, Self

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.check import (
    attributes_of,
    images_of,
    packed_trace_of,
    trace_of,
    truths_of,
)
from senna_autoprune.evaluation.runs.groups import Groups
from senna_autoprune.evaluation.runs.identity import (
    ANSWER_LINES,
    ANSWERS,
    CONFIG,
    DATABASE,
    METRICS,
    finished_before,
    match_or_write,
    read_description,
    run_errors,
)
from senna_autoprune.evaluation.runs.packing import ANSWER_COLUMNS, TOLD, line_of, pack_question, pack_truths, stored_line, trace_text
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow, SeenImage
from senna_autoprune.evaluation.runs.schema import LAYOUT
from senna_autoprune.files.atomic import remove_parts, replace_file
from senna_autoprune.files.database import make_tables, open_database, read_database, seal
from senna_autoprune.files.lock import RunLock
from senna_autoprune.files.yaml_files import dump_yaml

logger = logging.getLogger(__name__)


class RunStore:
    """Opened by ``RunStore.start`` (to work in it, locked) or ``RunStore.read`` (to look). A context manager."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, lock: RunLock | None) -> None:
        self.directory = directory
        self._connection = connection
        self._lock = lock
        self._groups = Groups(self._commit)
        self._id: str | None = None
        self._unsaid: list[SeenImage] = []  # images that go with the next group

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
        with run_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undone, run_errors(directory):
            lock = undone.enter_context(RunLock(directory))
            remove_parts(directory)
            named = match_or_write(directory, description)
            connection = undone.enter_context(closing(open_database(directory / ANSWERS, LAYOUT)))  # used by a thread of groups.py, too
            store = cls(directory, connection, lock)
            store._require_this_runs(named)
            store._prepare(list(questions))
            store._name_database(named)
            undone.pop_all()
            return store

    @classmethod
    def read(cls, directory: str | Path) -> RunStore:
        """Open a run to read its answers. SennaPruneError if there is none, or it is damaged."""
        directory = Path(directory)
        path = directory / ANSWERS
        if not path.is_file():
            raise SennaPruneError(f"{directory} is not a run directory: it has no {ANSWERS}")
        with run_errors(directory):
            return cls(directory, read_database(path, LAYOUT), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._groups.flush()
        except SennaPruneError:
            if kind is None:
                raise  # else it is said already, or something worse is
        finally:
            self._groups.close()
            self._connection.close()
            if self._lock is not None:
                self._lock.__exit__(None, None, None)

    # --- is this database this run's? ---------------------------------------------------------------------------------

    def _stored_id(self) -> str | None:
        """The database's number; None of one made before there were any, and of an empty one."""
        found = next(iter(self._rows_of("run", "SELECT id FROM run")), None)
        return None if found is None else str(found[0])

    def _require_this_runs(self, named: str | None) -> None:
        """SennaPruneError: the database is not the one that config.yaml names, or has lost what the run had."""
        there, path = self._stored_id(), self.directory / ANSWERS
        remedy = "put it back, or give another directory with --out"
        if named is not None and there != named:
            what = "is empty or was made before" if there is None else f"is another run's ({there[:8]} there, {named[:8]} in {CONFIG})"
            raise SennaPruneError(f"{path} {what}, not the database that this run began: {remedy}")
        known = self._rows_of("answers", "SELECT COUNT(*) FROM answers WHERE status = 'ok'")
        held = next(iter(known), (0,))[0]
        if named is None and there is not None and held:
            raise SennaPruneError(f"{path} is another run's ({there[:8]}; {CONFIG} names none): {remedy}")
        finished = finished_before(self.directory)
        if held < finished:
            raise SennaPruneError(f"{path} holds {held} answers, {ANSWER_LINES} beside it {finished}: some were lost; {remedy}")

    def _name_database(self, named: str | None) -> None:
        """config.yaml names the database, from the moment on that there is one."""
        self._id = self._stored_id()
        if named is None and self._id is not None:
            self.describe(self.config)
        elif self._id is None:
            logger.warning(f"{self.directory} was made before runs named their databases: it goes on, that is not compared")

    def _require_asked(self, questions: Sequence[QuestionRow]) -> None:
        """SennaPruneError: the database holds other questions than are asked now, or other labels: a report would measure by them."""
        asked = {(row.question, row.token, row.text, row.label) for row in questions}
        there = set(self._connection.execute("SELECT question, token, text, label FROM questions"))
        if asked and asked != there:
            raise SennaPruneError(
                f"{self.directory / ANSWERS} holds {len(there)} questions, {len(there - asked)} of which are not among the {len(asked)} "
                "asked now: give another directory with --out"
            )

    def _prepare(self, questions: Sequence[QuestionRow]) -> None:
        if not make_tables(self._connection, LAYOUT):
            self._require_asked(questions)
        else:
            with self._connection:
                for table in ("questions", "truths", "run"):
                    self._connection.execute(f"DELETE FROM {table}")
                self._connection.execute("INSERT INTO run VALUES (?)", (secrets.token_hex(16),))
                self._connection.executemany("INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(pack_question, questions))
                self._connection.executemany("INSERT INTO truths VALUES (?, ?, ?, ?)", filter(None, map(pack_truths, questions)))
                seal(self._connection, LAYOUT)  # last, in the same transaction

    # --- what is there ----------------------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """config.yaml as plain data, without the database's number, which differs between equal runs.

        SennaPruneError: altered, so that it is not what a run writes.
        """
        return {name: section for name, section in read_description(self.directory).items() if name != DATABASE}

    def finished(self) -> set[tuple[int, str]]:
        """(question, setting) of every row, failed ones included."""
        self._groups.flush()
        return set(self._connection.execute("SELECT question, setting FROM answers"))

    def counts(self) -> tuple[int, int]:
        """Answers so far, failed ones included, and questions."""
        self._groups.flush()
        with run_errors(self.directory):
            return tuple(self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("answers", "questions"))  # type: ignore[return-value]

    def proven(self) -> set[str]:
        """Settings that have answered at least once."""
        self._groups.flush()
        rows = self._connection.execute("SELECT DISTINCT setting FROM answers WHERE status = 'ok'")
        return {setting for (setting,) in rows}

    def questions(self) -> list[QuestionRow]:
        """All questions of the run, in the order of the question file."""
        path = self.directory / ANSWERS
        with run_errors(self.directory):
            known = self._rows_of("truths", "SELECT * FROM truths")
            truths = {q: truths_of(facts, earlier, future, path) for q, facts, earlier, future in known}
            shown: dict[str, tuple[str, ...]] = {}  # of the questions of one sample the images are the same
            met: dict[str, dict[str, str]] = {}  # few conditions, each of many questions
            return [
                QuestionRow(
                    question,
                    token,
                    intern(kind),
                    intern(text),  # few texts, each of many questions
                    intern(label),
                    shown.get(images) or shown.setdefault(images, images_of(images, path)),
                    intern(scene),
                    bool(known),
                    met.get(attributes) or met.setdefault(attributes, attributes_of(attributes, path)),
                    **truths.get(question, {}),
                )
                for question, token, kind, text, label, images, scene, known, attributes in self._connection.execute(
                    "SELECT * FROM questions ORDER BY question"
                )
            ]

    def answers(self, setting: str | None = None) -> list[AnswerRow]:
        """Rows so far, ordered by question, of one setting or of all."""
        return list(self.iter_answers(setting))

    def measured(self, setting: str | None = None) -> list[AnswerRow]:
        """``answers`` as the measures read them: of the traces the numbers alone (``PackedTrace``)."""
        return list(self.iter_answers(setting, packed_trace_of))

    def iter_answers(
        self, setting: str | None = None, trace_from: Callable[[str, Path], Mapping[str, Any]] = trace_of
    ) -> Iterator[AnswerRow]:
        """``answers``, one by one."""
        where, values = ("WHERE setting = ?", (setting,)) if setting is not None else ("", ())
        path = self.directory / ANSWERS
        self._groups.flush()
        with run_errors(self.directory):
            asked = "SELECT question, setting, said, missing_frames FROM sent WHERE said IS NOT NULL OR missing_frames > 0"
            told = {(question, name): found for question, name, *found in self._rows_of("sent", asked)}
            waits: dict[int, float] = dict(self._rows_of("waits", "SELECT question, images_ms FROM waits"))
            stored = self._connection.execute(
                f"SELECT {', '.join(ANSWER_COLUMNS)}, trace FROM answers {where} ORDER BY question, setting", values
            )
            for question, name, status, answer, *numbers, trace in stored:
                said, missing = told.get((question, name), (None, None)) if told else (None, None)
                yield AnswerRow(  # type: ignore[misc]  # the numbers end before the trace
                    question,
                    intern(name),
                    intern(status),
                    None if answer is None else intern(answer),  # most are plans
                    *numbers,
                    trace=None if trace is None else trace_from(trace, path),
                    said=said,
                    missing_frames=missing,
                    images_ms=waits.get(question),
                )

    def words(self, setting: str) -> dict[int, str]:
        """question -> ``AnswerRow.words`` under one setting, in order; without the questions that have none."""
        self._groups.flush()
        with run_errors(self.directory):
            told = dict(self._rows_of("sent", "SELECT question, said FROM sent WHERE said IS NOT NULL AND setting = ?", (setting,)))
            rows = self._connection.execute("SELECT question, answer FROM answers WHERE setting = ? ORDER BY question", (setting,))
            found = ((question, told.get(question, answer)) for question, answer in rows)
            return {question: intern(text) for question, text in found if text is not None}

    def seen(self) -> list[SeenImage]:
        """The image files that answers so far were made from; none where a run was made before they were kept."""
        self._groups.flush()
        with run_errors(self.directory):
            return [SeenImage(*row) for row in self._rows_of("seen", "SELECT image, size, mtime_ns, ctime_ns, inode, sha256 FROM seen")]

    def sent(self) -> dict[tuple[int, str], tuple[str, int]]:
        """(question, setting) -> the prompt as it was sent, verbatim, and how many of its pictures stood for a missing one.

        Empty for answers of runs made before prompts were kept.
        """
        asked = "SELECT question, setting, text, missing_frames FROM sent JOIN prompts USING (prompt)"
        self._groups.flush()
        with run_errors(self.directory):
            return {(question, name): (text, missing) for question, name, text, missing in self._rows_of("prompts", asked)}

    def _rows_of(self, table: str, asked: str, values: tuple[Any, ...] = ()) -> Iterable[Any]:
        """Rows of a table that runs made before did not have."""
        known = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        return self._connection.execute(asked, values) if known else ()

    # --- what is added ----------------------------------------------------------------------------------------------

    def describe(self, description: dict[str, Any]) -> None:
        """Write config.yaml anew: the sections that are not compared may change when a run is continued."""
        named = {} if self._id is None else {DATABASE: {"id": self._id}}
        with run_errors(self.directory):
            replace_file(self.directory / CONFIG, dump_yaml({**description, **named}))

    def add(self, row: AnswerRow, seen: Iterable[SeenImage] = ()) -> None:
        """Keep one answer, and the image files that it is the first to be made from; both are committed within ``groups.SECONDS``.

        Raises:
            SennaPruneError: the disk is full or read-only; what was committed before stays.
        """
        self._unsaid += seen  # before the row: they are committed with it
        self._groups.add(row)

    def flush(self) -> None:
        """Commit what was added. SennaPruneError as in ``add``."""
        self._groups.flush()

    def _commit(self, rows: list[AnswerRow]) -> None:
        seen = list(self._unsaid)
        with run_errors(self.directory), self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?)",
                [(one.image, one.size, one.mtime_ns, one.ctime_ns, one.inode, one.sha256) for one in seen],
            )
            self._connection.executemany(
                f"INSERT INTO answers ({', '.join(ANSWER_COLUMNS)}, trace) VALUES ({', '.join('?' * len(ANSWER_COLUMNS))}, ?)",
                [(*(getattr(row, name) for name in ANSWER_COLUMNS), trace_text(row)) for row in rows],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO waits VALUES (?, ?)", [(row.question, row.images_ms) for row in rows if row.images_ms is not None]
            )
            for row in rows:
                if row.sent is not None:
                    self._connection.execute("INSERT OR IGNORE INTO prompts (text) VALUES (?)", (row.sent,))
                    self._connection.execute(
                        "INSERT OR REPLACE INTO sent SELECT ?, ?, prompt, ?, ? FROM prompts WHERE text = ?",
                        (row.question, row.setting, row.missing_frames or 0, row.said, row.sent),
                    )
        self._unsaid = self._unsaid[len(seen) :]

    def forget_failed(self) -> int:
        """Drop failed rows so that they are tried again; returns how many."""
        self._groups.flush()
        with run_errors(self.directory), self._connection:
            self._connection.execute(
                "DELETE FROM sent WHERE (question, setting) IN (SELECT question, setting FROM answers WHERE status = 'failed')"
            )
            return self._connection.execute("DELETE FROM answers WHERE status = 'failed'").rowcount

    def write_answers(self, rows: Iterable[AnswerRow] | None = None) -> Path:
        """answers.jsonl, atomically: one JSON object a row, with everything but the times. rows: None: all, as they are stored."""
        path = self.directory / ANSWER_LINES
        stored = self._lines()
        with run_errors(self.directory), closing(stored):  # left half read, it would hold the database after this store is closed
            replace_file(path, (line.encode() for line in (stored if rows is None else map(line_of, rows))))
        return path

    def _lines(self) -> Generator[str]:
        self._groups.flush()
        said = {
            (q, name): text for q, name, text in self._rows_of("sent", "SELECT question, setting, said FROM sent WHERE said IS NOT NULL")
        }
        for *row, trace in self._connection.execute(f"SELECT {', '.join(TOLD)}, trace FROM answers ORDER BY question, setting"):
            yield stored_line(row, trace, said.get((row[0], row[1])) if said else None)

    def write_metrics(self, metrics: dict[str, Any]) -> Path:
        """metrics.json, atomically: a reader sees the old file or the new one, never half of it."""
        path = self.directory / METRICS
        with run_errors(self.directory):
            replace_file(path, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        return path
