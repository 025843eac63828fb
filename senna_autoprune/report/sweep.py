"""The report of a sweep: its tables and figures, as ``senna-prune sweep`` wrote them, on one page."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from senna_autoprune.demo import label_of_run
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.identity import ANSWERS, read_description
from senna_autoprune.evaluation.runs.results import TABLE, read_result, there
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.atomic import write_atomically
from senna_autoprune.files.regular import read_regular
from senna_autoprune.replay.pages import base64_text, environment
from senna_autoprune.report.page import PACKAGE, frame
from senna_autoprune.report.run import facts
from senna_autoprune.report.survival_figure import MEANING, NAME
from senna_autoprune.report.svg import PAGE, drawing, inline_svg
from senna_autoprune.report.sweep_figures import FIGURE_MEANINGS, OF_TABLE, curves_by_information, middle_budget, of_table, share_of_views
from senna_autoprune.report.write import FIGURES, REPORT, Written, make_folder
from senna_autoprune.survival.write import read_grids
from senna_autoprune.tables.sweep import grids
from senna_autoprune.tables.sweep_summary import summary_grid, verdict_line

MOST_CURVES = 60  # of a family, in the page
LARGEST = 50_000_000  # bytes of a picture
SECTIONS = [("verdict", "Verdict"), ("figures", "Figures"), ("tables", "Tables"), ("run", "What was run")]


def write_sweep_report(directory: str | Path, out: str | Path | None = None) -> Written:
    """report.html of a finished sweep; its pictures are PNG files of the sweep, put into the page.

    Raises:
        SennaPruneError: the sweep has no table yet, its table is not ours, or a folder that cannot be written.
    """
    directory = Path(directory)
    folder = make_folder(out, directory)
    description, table = read_description(directory), _table(directory)
    try:
        tables, summary = grids(table), summary_grid(table)
        drawn = _inline(directory, table)
        count = f"{table['facts']['questions']} questions, {table['facts']['scenes']['count']} scenes"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise SennaPruneError(f"{directory / TABLE} is not a table of this senna-prune: run the sweep's command again") from error
    tables += read_grids(directory)
    page = (
        environment(PACKAGE)
        .get_template("sweep.html.j2")
        .render(
            **frame(directory, "Pruning methods at every budget", label_of_run(description), count, datetime.now(UTC)),
            sections=SECTIONS,
            sentence=verdict_line(table),
            summary=summary,
            groups=facts(description),
            tables=tables,
            drawn=drawn,
            figures=_figures(directory / FIGURES, drawn),
        )
    )
    write_atomically(folder / REPORT, page)
    return Written([folder / REPORT])


def _table(directory: Path) -> Any:
    path = directory / TABLE
    if not there(path):
        raise SennaPruneError(f"the sweep {directory} has no {TABLE} yet: run its `senna-prune sweep` command to the end, then report it")
    return read_result(path)


def _inline(directory: Path, table: Any) -> dict[str, dict[str, Any]]:
    """Figures in the page's colours: those that the table is enough for, and those that need some of the run's answers."""
    with drawing(PAGE):
        found = of_table(table, PAGE)
        if (directory / ANSWERS).is_file():
            found.update({name: figure for name, figure in _of_store(directory, table).items() if figure is not None})
        return {
            name: {
                "svg": inline_svg(figure, name, f"{FIGURE_MEANINGS[name]} The numbers are in the tables."),
                "caption": FIGURE_MEANINGS[name],
                "wide": name not in OF_TABLE,
            }
            for name, figure in found.items()
        }


def _of_store(directory: Path, table: Any) -> dict[str, Any]:
    """Only answers of AutoPrune at one budget are read, and only so many of their curves are drawn."""
    budget = middle_budget(table)
    wanted = [cell["setting"] for cell in table["cells"] if cell["status"] == "ok" and cell["budget"] == budget]
    with RunStore.read(directory) as store:
        answers = [row for name in wanted if name.startswith("autoprune") for row in store.measured(name)]
        questions = store.questions()
    return {
        "curves_by_information": curves_by_information(table, answers, MOST_CURVES),
        "share_of_views": share_of_views(table, questions),
    }


def _figures(folder: Path, drawn: Collection[str]) -> list[dict[str, str]]:
    """The sweep's own pictures that are there and not drawn already, with what they show."""
    found = []
    for name, meaning in {**FIGURE_MEANINGS, NAME: MEANING}.items():
        path = folder / f"{name}.png"
        if name not in drawn and path.is_file():
            picture = base64_text(read_regular(path, LARGEST, own=True))
            found.append({"source": f"data:image/png;base64,{picture}", "meaning": meaning})
    return found
