"""Every answer of a run as CSV, one line a question and setting, for a spreadsheet or pandas.

    python tools/answers_to_csv.py runs/mine --out answers.csv

A spreadsheet takes a cell that begins with = + - or @ for a formula, quoted or not. So text that does (after white space,
full-width signs too) gets an apostrophe in front, and so does text that begins with one: `cell.removeprefix("'")` is what the
model wrote.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

from senna_autoprune import SennaPruneError
from senna_autoprune.demo import label_of_run
from senna_autoprune.evaluation.measures.parsing import parse_plan
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.atomic import write_atomically

DANGEROUS = tuple("=+-@'＝＋－＠")
COLUMNS = (
    "question", "token", "scene", "type", "setting", "status", "label", "answer", "right", "reason",
    "vision_ms", "prefill_ms", "decode_ms", "new_tokens", "kv_bytes", "average_tokens", "mutual_information", "k", "data",
)  # fmt: skip


def as_data(value: object) -> object:
    """``value``, which no spreadsheet will run."""
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(DANGEROUS) else value


def line(question: QuestionRow, answer: AnswerRow, data: str | None) -> dict[str, object]:
    """The cells of one answer; ``right`` (1 or 0, by the strict parser) only where a planning label can be read; ``data``: what
    must be said of the run's model and scenes.
    """
    cells = {name: getattr(answer, name, None) for name in COLUMNS}
    cells |= {name: getattr(question, name) for name in ("token", "scene", "type")} | {"label": question.label.strip(), "data": data}
    label = parse_plan(question.label)
    if question.type == "plan" and label.valid and answer.answer is not None:
        cells["right"] = int(parse_plan(answer.answer) == label)
    cells |= {name: (answer.trace or {}).get(name) for name in ("average_tokens", "mutual_information", "k")}
    return {name: as_data(value) for name, value in cells.items()}


def main(arguments: list[str] | None = None) -> None:
    """SennaPruneError: no run, no such setting, or a file that cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder of `senna-prune eval` or `sweep`")
    parser.add_argument("--setting", help="only this setting's answers (default: all)")
    parser.add_argument("--out", type=Path, help="file to write (default: the terminal)")
    options = parser.parse_args(arguments)

    with RunStore.read(options.run) as store:
        questions = {question.question: question for question in store.questions()}
        answers, said = store.answers(options.setting), label_of_run(store.config)
    if not answers:
        raise SennaPruneError(f"{options.run} has no answers" + (f" of {options.setting!r}" if options.setting else ""))
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(line(questions[answer.question], answer, said) for answer in answers)
    if options.out is None:
        sys.stdout.write(table.getvalue())
    else:
        write_atomically(options.out, table.getvalue())
        print(f"{len(answers)} answers in {options.out}")


if __name__ == "__main__":
    try:
        main()
    except SennaPruneError as error:
        sys.exit(f"error: {error}")
