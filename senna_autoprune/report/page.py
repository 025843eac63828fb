"""A run's report as one HTML file without a script: what was run, what was measured, and how far to believe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from senna_autoprune.evaluation.answering.named import in_words, pointed_to
from senna_autoprune.evaluation.answering.pictures import is_the_same
from senna_autoprune.evaluation.answering.settings import Setting, budget_words
from senna_autoprune.evaluation.measures.flips import HARMLESS, SEVERITIES
from senna_autoprune.evaluation.runs.rows import MAJORITY, NO_IMAGE, RANDOM_ANSWER, UNPRUNED
from senna_autoprune.replay.pages import environment, page_style
from senna_autoprune.replay.sources import views_of
from senna_autoprune.report.figures import Figure, figures
from senna_autoprune.report.information import Measured, information_grid, information_of, separation
from senna_autoprune.report.run import Run, facts, flatten, section, short
from senna_autoprune.report.svg import PAGE, drawing, inline_svg
from senna_autoprune.report.thumbnails import thumbnail
from senna_autoprune.survival.write import read_grids
from senna_autoprune.tables.grid import UNDEFINED, Grid, interval, number, percent
from senna_autoprune.tables.run import (
    breakdown_grid,
    cost_grid,
    failures,
    flip_grid,
    other_grids,
    p_value,
    plan_grid,
    recall_grid,
    warnings,
)
from senna_autoprune.tables.summary import summary_grid, verdict_line

PACKAGE = "senna_autoprune.report"
LONGEST_ANSWER = 300  # characters of an answer that are shown
MOST_LISTED = 200  # flips in the table below the pictures

CONTROLS = {
    "random": "drops visual tokens at random, at the same budget",
    "uniform": "keeps evenly spaced visual tokens, at the same budget",
    NO_IMAGE: "the unpruned model sees even grey views: what it knows from the question alone",
    MAJORITY: "the most frequent label of these questions, for all of them",
    RANDOM_ANSWER: "labels drawn by their frequency",
}


# id -> its name, and the parts of which one must be there; none: it always is
SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "short": ("In short", ()),
    "accuracy": ("Accuracy", ("plan", "others")),
    "confusion": ("Confusion", ("confusions",)),
    "flips": ("Flips", ("flips",)),
    "survival": ("Survival of evidence", ("survival",)),
    "cost": ("Cost", ()),
    "information": ("Mutual information", ()),
    "conditions": ("Conditions", ("breakdown",)),
    "run": ("What was run", ()),
}


@dataclass(frozen=True)
class Replays:
    """A replay page of flips. file: its name, beside the report. frames: question -> number of its frame, from 1."""

    file: str
    frames: Mapping[int, int]


@dataclass(frozen=True)
class Card:
    """A headline number."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True)
class FlipCard:
    """A flip with a picture of what was seen. href: None without a replay; source: None without images."""

    question: int
    severity: str
    kind: str
    meaning: str
    scene: str
    token: str
    label: str
    unpruned: str
    pruned: str
    href: str | None
    source: str | None
    size: tuple[int, int]
    views: int


def render_report(
    run: Run,
    flips: int,
    replays: Replays | None,
    notes: Sequence[str],
    when: datetime,
    answers: str | None = None,
    information: tuple[list[Measured], str] | None = None,
) -> str:
    """The whole page.

    Args:
        flips: how many get a picture, worst first.
        notes: further things that the reader must know.
        answers: name of the page of all answers, beside the report.
        information: ``information_of(run)``, where that is known already.
    """
    found, name = information or information_of(run)
    drawn = {key: _inline(figure) for key, figure in figures(run.metrics, found, name).items()}
    listed = run.metrics["flips"].get(run.method, {}).get("list", [])
    shown = {
        "plan": plan_grid(run.metrics),
        "others": other_grids(run.metrics),
        "survival": read_grids(run.directory),
        "confusions": confusions(run.metrics),
        "flips": flip_grid(run.metrics),
        "breakdown": breakdown_grid(run.metrics),
    }
    return (
        environment(PACKAGE)
        .get_template("report.html.j2")
        .render(
            **shown,
            **frame(run.directory, f"{run.method} at {budget_of(run)}", run.label, _about(run), when),
            sections=[(key, name) for key, (name, parts) in SECTIONS.items() if not parts or any(shown[part] for part in parts)],
            method=run.method,
            sentence=verdict_line(run.metrics),
            lead=lead(run.metrics),
            summary=summary_grid(run.metrics),
            cards=headline(run.metrics),
            groups=facts(run.description, run.metrics),
            figures=drawn,
            controls={key: text for key, text in CONTROLS.items() if key in run.metrics["settings"]},
            recall=recall_grid(run.metrics),
            flip_cards=[_flip_card(run, flip, replays) for flip in listed[:flips]],
            flip_rest=_flip_rest(listed[flips:]),
            replays=replays,
            again=in_words(pointed_to(run.description)),
            answers=answers,
            cost=cost_grid(run.metrics),
            information=information_grid(found, name) if found else None,
            separations={pruned: separation(found, pruned) for pruned in (False, True)},
            warnings=[*_missing(run), *notes, *warnings(run.metrics)],
            number=number,
            p_value=p_value,
        )
    )


def frame(directory: Path | str, title: str, label: str | None, about: str, when: datetime) -> dict[str, Any]:
    """What the layout of every report needs."""
    from markupsafe import Markup

    return {
        "directory": directory,
        "title": title,
        "label": label,
        "about": about,
        "when": f"{when:%Y-%m-%d %H:%M} UTC",
        "style": Markup(page_style(PACKAGE, "report.css")),
    }


def _about(run: Run) -> str:
    places, asked = section(run.description, "places"), run.metrics["questions"]
    variant = [f"{name} {value}" for name, value in flatten(section(section(run.description, "questions"), "variant"))]
    return " · ".join(
        [
            f"model {_last(places.get('model'))}",
            ", ".join([f"questions {_last(places.get('questions'))}", *variant]),
            f"{asked['complete']} questions, {run.metrics['scenes']['count']} scenes",
        ]
    )


def _last(place: Any) -> str:
    """A path's last two names, a hub id; where it lies is among the facts."""
    return "/".join(Path(str(place)).parts[-2:])


def _inline(figure: Figure) -> dict[str, Any]:
    with drawing(PAGE):
        return {"svg": inline_svg(figure.draw(PAGE), figure.name, figure.description), "caption": figure.caption}


def budget_of(run: Run) -> str:
    """The budget of the run's method for a reader."""
    entry = section(run.description, "settings")[run.method]
    return budget_words(Setting(run.method, run.method, section(entry, "options")))


def _missing(run: Run) -> list[str]:
    """What the run lacks of what it set out to do."""
    found = [] if len(run.answers) >= run.asked else [f"unfinished: {len(run.answers)} of {run.asked} answers are there"]
    complete, asked = run.metrics["questions"]["complete"], run.metrics["questions"]["asked"]
    if complete < asked:
        found.append(f"all figures are about the {complete} of {asked} questions that every setting answered")
    failed = failures(run.metrics)
    return found if failed is None else [*found, failed]


# --- headline ---------------------------------------------------------------------------------------------------------


def lead(metrics: Mapping[str, Any]) -> str:
    """The result in a sentence or two, beside its controls."""
    settings, method = metrics["settings"], metrics["method"]
    cost = settings[method]["cost"]
    spent = f"{method} keeps {percent(cost['retention_tokens'])} of the visual tokens, averaged over the layers."
    if "plan" not in settings[method] or UNPRUNED not in settings:
        return spent
    before, after = (settings[name]["plan"]["exact_accuracy"] for name in (UNPRUNED, method))
    said = f"{spent} Planning accuracy is {percent(before)} unpruned and {percent(after)} pruned."
    others = [name for name in ("random", NO_IMAGE, MAJORITY) if "plan" in settings.get(name, {})]
    if not before or not others:
        return said
    kept = {name: interval(settings[name]["plan"]["retention"]["exact_accuracy"]) for name in (method, *others)}
    beside = ", ".join(f"{name} {kept[name]}" for name in others if name != method)
    return f"{said} Retained of the unpruned accuracy: {kept[method]}; for comparison: {beside}."


def headline(metrics: Mapping[str, Any]) -> list[Card]:
    """The numbers to look at first."""
    settings, method = metrics["settings"], metrics["method"]
    plan, cost = settings[method].get("plan"), settings[method]["cost"]
    cards = []
    if plan is not None and UNPRUNED in settings:
        before = settings[UNPRUNED]["plan"]
        pair = f"{percent(before['exact_accuracy'])} → {percent(plan['exact_accuracy'])}"
        cards.append(Card("Planning accuracy, unpruned → pruned", pair, f"pruned {interval(plan['exact_accuracy_interval'])}, exact parse"))
        kept = plan["retention"]["exact_accuracy"]
        reason = f"95 % interval over {kept['scenes']} scenes" if kept["value"] is not None else "the unpruned model got nothing right"
        cards.append(Card("Retention of accuracy", interval(kept), reason))
        by_scene = "scene_test_against" in plan  # runs made before there was one have McNemar's test
        against = plan["scene_test_against" if by_scene else "mcnemar_against"].get("random")
        if against is not None:
            pairs = f"right where random is wrong: {against['gained']}, the reverse: {against['lost']}"
            beside = interval(settings["random"]["plan"]["retention"]["exact_accuracy"])
            test = f"{'p by scene' if by_scene else 'McNemar p'} {p_value(against['p_value'])}"
            cards.append(Card("Retention of random at the same budget", beside, f"{pairs} ({test})"))
    flips = metrics["flips"].get(method)
    if flips is not None:
        share = f"{percent(flips['harmful_rate'])} of {flips['compared']} answers; {flips['flips']} changed at all"
        upper = flips.get("scenes", {}).get("harmful_upper")
        bound = "" if upper is None else f"; at most {percent(upper)} of scenes have one (95 %)"
        cards.append(Card("Harmful flips", str(flips["harmful"]), share + bound))
    tokens = f"{number(cost['tokens_per_view'], 1)} a view and layer"
    cards.append(Card("Visual tokens kept", percent(cost["retention_tokens"]), tokens))
    gain = f"the FLOPs would allow {number(cost['flops_bound'], 2)}×: {number(cost['reached'], 2)} of that is reached"
    speed = UNDEFINED if cost["prefill_speedup"] is None else f"{cost['prefill_speedup']:.2f}×"
    cards.append(Card("Prefill speed-up, measured", speed, gain))
    return cards


# --- confusion --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Confusion:
    """Counts of answers (columns) by label (rows). rows: label, [(count, share of its row, right)], recall."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[tuple[int, float, bool]], str]]


def confusions(metrics: Mapping[str, Any]) -> list[Confusion]:
    """Speed and path, unpruned and pruned; labels that do not occur are left out."""
    found = []
    for axis in ("speed", "path"):
        for name, words in ((UNPRUNED, "unpruned"), (metrics["method"], f"pruned ({metrics['method']})")):
            plan = metrics["settings"].get(name, {}).get("plan")
            if plan is None:
                continue
            counts = plan[axis]["confusion"]
            rows = []
            for label, row in zip(counts["rows"], counts["counts"], strict=True):
                total = sum(row)
                if total:
                    cells = [(n, n / total, column == label) for n, column in zip(row, counts["columns"], strict=True)]
                    rows.append((label, cells, percent(plan[axis]["recall"][label])))
            found.append(Confusion(f"{axis.capitalize()}, {words}", counts["columns"], rows))
    return found


# --- flips ------------------------------------------------------------------------------------------------------------


def _flip_card(run: Run, flip: Mapping[str, Any], replays: Replays | None) -> FlipCard:
    row = next(row for row in run.questions if row.question == flip["question"])
    # what the run cannot have answered from is not shown: it would mislead, or put a file of yours into the report of a stranger's run
    mine = all(image in run.seen and is_the_same(run.seen[image], run.images) for image in row.images)
    seen = thumbnail([run.images / image for image in row.images], views_of(row.images)) if mine else None
    frame = replays.frames.get(row.question) if replays is not None else None
    severity = flip["severity"]
    label, before, after = (short(flip[key].strip(), LONGEST_ANSWER) for key in ("label", "unpruned", "pruned"))
    return FlipCard(
        question=row.question,
        severity=severity.replace("_", " "),
        kind="repaired" if severity == "repaired" else "harmless" if severity in HARMLESS else "harmful",
        meaning=SEVERITIES[severity],
        scene=flip["scene"],
        token=flip["token"],
        label=label,
        unpruned=before,
        pruned=after,
        href=None if frame is None or replays is None else f"{replays.file}#frame={frame}",
        source=None if seen is None else seen[0],
        size=(0, 0) if seen is None else seen[1],
        views=len(row.images),
    )


def _flip_rest(listed: Sequence[Mapping[str, Any]]) -> Grid | None:
    if not listed:
        return None
    grid = Grid(
        "Further flips, in words", ["severity", "question", "scene", "sample", "label", "unpruned", "pruned"], texts=(0, 2, 3, 4, 5, 6)
    )
    for flip in listed[:MOST_LISTED]:
        texts = [short(flip[key].strip(), LONGEST_ANSWER) for key in ("scene", "token", "label", "unpruned", "pruned")]
        grid.rows.append([flip["severity"].replace("_", " "), str(flip["question"]), *texts])
    if len(listed) > MOST_LISTED:
        grid.notes.append(f"{len(listed) - MOST_LISTED} more are in metrics.json")
    return grid
