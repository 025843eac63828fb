"""Every answer of a run as a page beside its report: all questions, to search and to filter, not only the worst flips.

The rows travel as JSON; the script shows a hundred at a time and sets text only (see ``replay.html`` for what keeps strings from
becoming markup).
"""

from __future__ import annotations

import hashlib
from typing import Any

from senna_autoprune.evaluation.measures.flips import HARMLESS
from senna_autoprune.evaluation.measures.parsing import parse_plan
from senna_autoprune.evaluation.runs.rows import UNPRUNED
from senna_autoprune.replay.html import script_json
from senna_autoprune.replay.pages import base64_text, environment, page_file, page_style
from senna_autoprune.report.page import PACKAGE, Replays
from senna_autoprune.report.run import Run, short

MOST_ROWS = 20_000  # in a page; the rest is in --csv
LONGEST = 300  # characters of a text


def render_answers(run: Run, replays: Replays | None) -> str:
    """The whole page."""
    from markupsafe import Markup

    script = page_file(PACKAGE, "answers.js")
    digest = base64_text(hashlib.sha256(script.encode()).digest())
    rows = answer_rows(run, replays, MOST_ROWS)
    return (
        environment(PACKAGE)
        .get_template("answers.html.j2")
        .render(
            title=f"All answers: unpruned and {run.method}",
            label=run.label,
            left_out=len(run.questions) - len(rows),
            directory=run.directory,
            style=Markup(page_style(PACKAGE, "report.css")),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            data=Markup(script_json({"rows": rows, "replay": None if replays is None else replays.file})),
        )
    )


def answer_rows(run: Run, replays: Replays | None, most: int | None = None) -> list[dict[str, Any]]:
    """A row a question, in the order of the run: its label, both answers, whether they are right, what changed. most: rows."""
    asked = {question.question: question for question in run.questions[:most]}
    texts: dict[tuple[int, str], str] = {}
    for row in run.answers:
        if row.setting in (UNPRUNED, run.method) and row.question in asked:
            texts[row.question, row.setting] = (row.answer if row.answer is not None else f"({row.reason or 'no answer'})").strip()
    flips = {flip["question"]: flip["severity"] for flip in run.metrics["flips"].get(run.method, {}).get("list", [])}
    plans = run.description.get("adapter") is None  # an adapter reads plans in its own way
    rows = []
    for question in asked.values():
        number, label = question.question, question.label.strip()
        before, after = (texts.get((number, name), "(not asked yet)") for name in (UNPRUNED, run.method))
        severity = flips.get(number)
        rows.append(
            {
                "number": number,
                "scene": short(question.scene, LONGEST),
                "type": question.type,
                "label": short(label, LONGEST),
                "unpruned": short(before, LONGEST),
                "pruned": short(after, LONGEST),
                "right": [_right(question.type, label, text) if plans else None for text in (before, after)],
                "flip": None if severity is None else severity.replace("_", " "),
                "kind": _kind(severity, before, after),
                "frame": None if replays is None else replays.frames.get(number),
            }
        )
    return rows


def _right(kind: str, label: str, text: str) -> bool | None:
    """Whether a plan is right; None of other questions, and of labels that are none."""
    wanted = parse_plan(label)
    return parse_plan(text) == wanted if kind == "plan" and wanted.valid else None


def _kind(severity: str | None, before: str, after: str) -> str:
    if severity is None:
        return "same" if before == after else "changed"
    return "repaired" if severity == "repaired" else "harmless" if severity in HARMLESS else "harmful"
