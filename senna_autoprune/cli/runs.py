"""``senna-prune runs``: what is in a folder of runs, without a model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from senna_autoprune.cli.options import HELP


@click.command(context_settings=HELP)
@click.argument("folder", default="runs", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON document a run, a line each.")
def command(folder: str, as_json: bool) -> None:
    """List the runs in FOLDER (default: runs): method, budget, how far, accuracy unpruned and pruned, verdict."""
    from senna_autoprune.cli.eval_tables import console_for, show_grid
    from senna_autoprune.evaluation.runs.listing import runs_in
    from senna_autoprune.tables.grid import Grid, percent

    found = list(runs_in(Path(folder)))
    if as_json:
        for line in found:
            click.echo(json.dumps({**asdict(line), "directory": str(line.directory)}))
        return
    grid = Grid(
        f"{len(found)} run{'s' * (len(found) != 1)} in {folder}",
        ["run", "method", "budget", "state", "unpruned", "pruned"],
        texts=(0, 1, 2, 3),
    )
    for line in found:
        accuracies = ["" if value is None else percent(value) for value in (line.unpruned, line.pruned)]
        grid.rows.append([line.directory.name, line.method, line.budget, line.state, *accuracies])
        if line.verdict:
            grid.notes.append(f"{line.directory.name}: {line.verdict}")
    show_grid(grid, console_for())
    if found:
        console_for().print("next: `senna-prune report RUN` makes a page of one", markup=False)
