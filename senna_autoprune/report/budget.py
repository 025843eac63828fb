"""The certificate of ``senna-prune budget`` as a page: the sentence, the staircase, the tables, what was run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from senna_autoprune.demo import label_of_run
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.verdict import METRES, POINTS, amount
from senna_autoprune.evaluation.runs.description import check_description
from senna_autoprune.evaluation.runs.results import CERTIFICATE as RESULT
from senna_autoprune.evaluation.runs.results import read_result, there
from senna_autoprune.files.atomic import write_atomically
from senna_autoprune.replay.pages import environment
from senna_autoprune.report.drawing import save, sign
from senna_autoprune.report.page import PACKAGE, frame
from senna_autoprune.report.run import facts
from senna_autoprune.report.svg import PAGE, PAPER, Ink, drawing, inline_svg
from senna_autoprune.report.write import FIGURES, REPORT, Written, make_folder
from senna_autoprune.tables.budget import grids

SECTIONS = [("verdict", "Verdict"), ("tables", "Tables"), ("run", "What was run")]
CAPTIONS = {
    "staircase": "Each budget with its loss (dot) and the one-sided 95 % bound (bar); left of the dashed line lies more than the margin.",
    "ladders": "Each method from the largest budget down: green budgets were shown to be safe, the first that was not is a cross. "
    "No further: fewer tokens could not be asked for, the table says why.",
}


def is_budget(directory: str | Path) -> bool:
    """Whether a run directory holds a certificate."""
    return there(Path(directory) / RESULT)


def write_budget_report(directory: str | Path, out: str | Path | None = None) -> Written:
    """report.html and the staircase figure of a finished search.

    Raises:
        SennaPruneError: its budget.json is not ours, or a folder that cannot be written.
    """
    directory = Path(directory)
    folder = make_folder(out, directory)
    found = read_result(directory / RESULT)
    check_description(found["run"], directory / RESULT)
    try:
        page, drawn = _page(directory, found), picture_of(found)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise SennaPruneError(f"{directory / RESULT} is not a certificate of this senna-prune: run the budget's command again") from error
    write_atomically(folder / REPORT, page)
    files = [folder / REPORT]
    if drawn is not None:
        with drawing(PAPER):
            figure = drawn(found, PAPER)
            sign(figure, label_of_run(found["run"]))
            path = folder / FIGURES / f"{drawn.__name__}.png"
            save(figure, path, path.with_suffix(".svg"))
        files.append(path)
    return Written(files)


def _page(directory: Path, found: Mapping[str, Any]) -> str:
    picture, drawn = None, picture_of(found)
    caption = CAPTIONS[drawn.__name__] if drawn is not None else None
    if drawn is not None and caption is not None:
        with drawing(PAGE):
            picture = inline_svg(drawn(found, PAGE), drawn.__name__, caption)
    halves = found["halves"]
    choosing = f"{len(halves['choose'])} scenes to choose on, " if halves["choose"] else ""
    about = f"{choosing}{len(halves['certify'])} scenes to certify on"
    return environment(PACKAGE).get_template("budget.html.j2").render(
        **frame(directory, "The smallest safe budget", label_of_run(found["run"]), about, datetime.now(UTC)),
        sections=SECTIONS,
        sentence=found["sentence"],
        notes=[line for line in (found.get("power"), found.get("warning")) if line],
        picture=picture,
        caption=caption,
        tables=grids(found),
        groups=facts(found["run"]),
    )  # fmt: skip


def picture_of(found: Mapping[str, Any]) -> Callable[[Mapping[str, Any], Ink], Any] | None:
    """The figure of a certificate: of one method, or of all side by side; None where nothing pruned was asked."""
    if found.get("sequence"):
        return staircase
    return ladders if any(one["sequence"] for one in found.get("each", [])) else None


def ladders(found: Mapping[str, Any], ink: Ink) -> Any:
    """Methods as rows, budgets from left (large) to right: as far as each was shown to be safe."""
    from matplotlib.figure import Figure

    rows = sorted(found["each"], key=lambda one: one["kind"] == "control")
    tried = sorted({100 * step["budget"] for one in rows for step in one["sequence"]}, reverse=True)
    figure = Figure(figsize=(6.4, 0.8 + 0.28 * len(rows)))
    axes = figure.subplots()
    for place, one in enumerate(rows):
        safe = [100 * step["budget"] for step in one["sequence"] if step["outcome"] == "safe"]
        failed = [100 * step["budget"] for step in one["sequence"] if step["outcome"] != "safe"]
        axes.plot(safe, [place] * len(safe), marker="o", linewidth=2, color=ink.good)
        axes.plot(failed, [place] * len(failed), marker="x", linewidth=0, color=ink.bad)
        if one["stopped"]:  # nothing failed: the method has no such budget, or gave no answer there
            at = min(safe, default=max(tried))
            axes.annotate("no further", (at, place), xytext=(8, 0), textcoords="offset points", va="center", color=ink.faint)
    axes.set_yticks(range(len(rows)), [one["method"] + (" (control)" if one["kind"] == "control" else "") for one in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xticks(tried, [f"{budget:.3g}" for budget in tried])
    axes.invert_xaxis()
    axes.set_xlabel("visual tokens kept, per cent")
    return figure


def staircase(found: Mapping[str, Any], ink: Ink) -> Any:
    """Budgets as steps from the largest down: the observed difference, its bound, the margin; safe ones in green."""
    from matplotlib.figure import Figure

    steps, in_metres = found["sequence"], (found.get("over") or {}).get("unit") == METRES
    scale = 1 if in_metres else 100
    figure = Figure(figsize=(4.6, 0.7 + 0.36 * max(len(steps), 2)))
    axes = figure.subplots()
    axes.grid(visible=False, axis="y")
    for place, step in enumerate(steps):
        last = step["looks"][-1]
        colour = ink.good if step["outcome"] == "safe" else ink.bad
        axes.plot([scale * last["lower"], scale * last["difference"]], [place, place], color=colour, linewidth=2)
        axes.plot([scale * last["lower"]], [place], marker="|", markersize=12, color=colour)
        axes.plot([scale * last["difference"]], [place], marker="o", color=colour)
        danger = "" if last["dangerous"] is None else f"; {last['dangerous']} of {last['scenes']} scenes dangerous"
        words, place_of = f"{step['outcome']}{danger}", ("axes fraction", "data")  # beside the axes: no line runs through them
        axes.annotate(words, (1, place), (8, 0), place_of, "offset points", va="center", color=ink.text)
    margin = found["margins"]["margin"]
    axes.axvline(-scale * margin, color=ink.text, linestyle="--", linewidth=1)
    words, place_of = f"margin {amount(margin, METRES if in_metres else POINTS)}", ("data", "axes fraction")
    axes.annotate(words, (-scale * margin, 1), (0, 4), place_of, "offset points", ha="center", color=ink.text)
    axes.axvline(0, color=ink.faint, linewidth=0.8)
    axes.set_yticks(range(len(steps)), [f"{100 * step['budget']:.3g} %" for step in steps])
    axes.set_ylim(len(steps) - 0.4, -0.6)
    low = min([scale * step["looks"][-1]["lower"] for step in steps] + [-scale * margin])
    high = max(scale * step["looks"][-1]["difference"] for step in steps)
    axes.set_xlim(low * 1.06, max(high * 1.06, -low * 0.06))
    axes.locator_params(axis="x", nbins=6)  # so few that their labels stand apart
    axes.set_xlabel("metres of L2, unpruned minus pruned" if in_metres else f"points of {found['measure']}, pruned minus unpruned")
    axes.set_ylabel("visual tokens kept")
    return figure
