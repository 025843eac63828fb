"""Every answer of a run as a table of one line a question and setting: CSV for a spreadsheet, Parquet for a data frame.

A spreadsheet takes a cell that begins with = + - or @ for a formula, quoted or not. So in CSV text that does (after white space,
full-width signs too) gets an apostrophe in front, and so does text that begins with one: ``cell.removeprefix("'")`` is what the
model wrote, but for control codes, which are spelt out. Parquet holds the text as it is.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from senna_autoprune.demo import label_of_run
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.parsing import parse_plan
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.atomic import disk_errors, replace_file, write_atomically
from senna_autoprune.files.csv_cells import csv_text

TEXTS = ("token", "scene", "type", "setting", "status", "label", "answer", "reason", "data")
WHOLE = ("question", "right", "new_tokens", "kv_bytes")
COLUMNS = (
    "question", "token", "scene", "type", "setting", "status", "label", "answer", "right", "reason",
    "vision_ms", "prefill_ms", "decode_ms", "new_tokens", "kv_bytes", "average_tokens", "mutual_information", "k", "data",
)  # fmt: skip
EXTRA = "--parquet needs pyarrow: pip install 'senna_autoprune[parquet]' (--csv needs nothing)"


def lines(run: str | Path, setting: str | None = None) -> list[dict[str, Any]]:
    """All answers of a run, or one setting's, by question.

    Raises:
        SennaPruneError: no run, or no answers of that setting.
    """
    with RunStore.read(run) as store:
        questions = {question.question: question for question in store.questions()}
        answers, said = store.answers(setting), label_of_run(store.config)
    if not answers:
        raise SennaPruneError(f"{run} has no answers" + (f" of {setting!r}" if setting else ""))
    return [_line(questions[answer.question], answer, said) for answer in answers]


def _line(question: QuestionRow, answer: AnswerRow, data: str | None) -> dict[str, Any]:
    """The cells of one answer; ``right`` (1 or 0, by the strict parser) only where a planning label can be read; ``data``: what
    must be said of the run's model and scenes.
    """
    cells: dict[str, Any] = {name: getattr(answer, name, None) for name in COLUMNS}
    cells |= {name: getattr(question, name) for name in ("token", "scene", "type")} | {"label": question.label.strip(), "data": data}
    label = parse_plan(question.label)
    if question.type == "plan" and label.valid and answer.answer is not None:
        cells["right"] = int(parse_plan(answer.answer) == label)
    return cells | {name: (answer.trace or {}).get(name) for name in ("average_tokens", "mutual_information", "k")}


def write_csv(run: str | Path, path: Path, setting: str | None = None) -> int:
    """The answers as CSV, atomically; returns how many. SennaPruneError: see ``lines``; the file cannot be written."""
    found = lines(run, setting)
    write_atomically(path, csv_text(COLUMNS, found))
    return len(found)


def require_parquet() -> None:
    """SennaPruneError: pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise SennaPruneError(EXTRA) from error


def write_parquet(run: str | Path, path: Path, setting: str | None = None) -> int:
    """The answers as Parquet, atomically; returns how many. SennaPruneError: pyarrow is not installed; see ``write_csv``."""
    require_parquet()
    import pyarrow
    from pyarrow import parquet

    found = lines(run, setting)
    kinds = {name: pyarrow.string() if name in TEXTS else pyarrow.int64() if name in WHOLE else pyarrow.float64() for name in COLUMNS}
    columns = {name: pyarrow.array([line[name] for line in found], kinds[name]) for name in COLUMNS}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    with disk_errors(path.parent):
        replace_file(path, file.getvalue())
    return len(found)
