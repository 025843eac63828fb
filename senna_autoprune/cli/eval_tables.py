"""Grids on a terminal, and a run's measures as such."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from senna_autoprune.cli.screen import console_for as console_for
from senna_autoprune.errors import visible
from senna_autoprune.tables.grid import Grid
from senna_autoprune.tables.run import failures, grids, other_grids, warnings
from senna_autoprune.tables.summary import summary_grid, verdict_line

if TYPE_CHECKING:
    from rich.console import Console


def show(metrics: dict[str, Any], console: Console, full: bool = True) -> None:
    """Print the verdict and what a run measured: everything, or the summary that fits a narrow screen."""
    verdict, summary = verdict_line(metrics), None if full else summary_grid(metrics)
    if verdict is not None:
        console.print(f"\n{escape(verdict)}", style="bold", soft_wrap=True)
    for grid in grids(metrics) if summary is None else [summary, *other_grids(metrics)]:
        show_grid(grid, console)
    for warning in warnings(metrics):
        console.print(plain(warning), style="yellow")
    failed = failures(metrics)
    if failed:
        console.print(plain(failed), style="red")


def plain(text: str) -> str:
    """Text of a model or a file as a terminal may have it: control codes are spelt out, nothing is markup."""
    return escape(visible(text))


def show_grid(grid: Grid, console: Console) -> None:
    """A light table: the first column is a name; what is said of the table stands below it."""
    console.print(f"\n{plain(grid.title)}", style="bold", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(grid.columns):
        justify: Any = "left" if index in grid.texts else "right"
        table.add_column(plain(column), justify=justify, no_wrap=not index, overflow="fold")
    for index, row in enumerate(grid.rows):
        style = "bold" if index in grid.strong else None
        table.add_row(*map(plain, row), end_section=index in grid.sections, style=style)
    console.print(table)
    for note in grid.notes:
        console.print(plain(note), style="dim")
