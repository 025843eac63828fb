"""What tests of the page share: a rendered report, its outline, a run in which every string is an attack."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from senna_autoprune.report.page import Replays, render_report
from senna_autoprune.report.run import Run
from tests.replay.browser import ATTACKS
from tests.report.runs import Made, made

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
REPLAYS = Replays("flips.html", {2: 1, 1: 2, 5: 3})


def rendered(run: Run, replays: Replays | None = REPLAYS, flips: int = 12) -> str:
    return render_report(run, flips, replays, [], WHEN, "answers.html")


class Outline(HTMLParser):
    """Headings, ids, and the elements that must have a name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in found:
            self.ids.append(str(found["id"]))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag]


def hostile(folder: Path) -> Made:
    """A run in which every string that comes from a checkpoint, a question file or the tables is an attack."""
    run, text = made(folder), "$\\frac{" + "".join(ATTACKS).replace("\x00", "")  # with a NUL config.yaml is refused
    for number, row in enumerate(run.questions):
        strange = {"token": f"{text}{number}", "scene": f"{text}{number // 2}", "text": text}
        run.questions[number] = replace(row, **strange, attributes=dict.fromkeys(row.attributes, text))
    names = {"autoprune": text, "random": text + "2"}
    rows = []
    for row in run.answers:
        found = row.trace and {**row.trace, "notes": [text]}
        wild = row.setting == "autoprune" and row.question == 4
        rows.append(replace(row, setting=names.get(row.setting, row.setting), trace=found, answer=text if wild else row.answer))
    rows[0] = replace(rows[0], status="failed", reason=text)
    run.answers = rows
    described = run.description
    settings = {names.get(name, name): entry for name, entry in described["settings"].items()}
    settings[text] = {"method": text, "options": {"retention": 0.5, text: text}, "blind": False}
    run.description = {
        **described,
        "config": {**described["config"], "method": text, text: text},
        "settings": settings,
        "identity": {"weights_sha256": text, "versions": {text: text}},
        "places": {**described["places"], "model": text, "questions": text},
        **{name: {text: {text: [text]}} for name in ("model", "machine")},
        "questions": {"variant": {text: text}},
    }
    return run
