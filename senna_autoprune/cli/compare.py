"""``senna-prune compare``: two finished runs, paired by question."""

from __future__ import annotations

import json
from pathlib import Path

import click

from senna_autoprune.cli.options import HELP


@click.command("compare", context_settings=HELP)
@click.argument("a", metavar="RUN_A", type=click.Path())
@click.argument("b", metavar="RUN_B", type=click.Path())
@click.option("--setting", help="Whose answers of A, as the run's table calls it. Default: the run's own method.")
@click.option("--setting-b", help="Whose answers of B. Default: the run's own method.")
@click.option("--flips", type=click.IntRange(0), default=20, show_default=True, help="Changed answers to list, worst first.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sign flips, where they are drawn.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write one HTML page to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as one JSON document in the last line.")
def command(a: str, b: str, setting: str | None, setting_b: str | None, flips: int, seed: int, out: Path | None, as_json: bool) -> None:
    """Is B worse than A? Two checkpoints, two methods, two dtypes: on the questions that both answered, pair by pair.

    RUN_A and RUN_B are run folders of `eval`, `sweep` or `budget`; the same folder twice compares two of its settings.
    """
    from senna_autoprune.cli.eval_tables import console_for, show_grid
    from senna_autoprune.evaluation.compare import compare, read_side
    from senna_autoprune.tables.compare import grids

    found = compare(read_side(a, setting), read_side(b, setting_b), seed)
    console = console_for()
    for label in dict.fromkeys(side["label"] for side in (found["a"], found["b"]) if side["label"]):
        console.print(label, style="bold")
    console.print(found["sentence"], style="bold", markup=False, soft_wrap=True)
    if found["warning"]:
        console.print(found["warning"], style="yellow", markup=False)
    for grid in grids(found, flips):
        show_grid(grid, console)
    if out is not None:
        from senna_autoprune.files.regular import require_no_link
        from senna_autoprune.report.compare import write_comparison

        for run in (a, b):
            require_no_link(out.parent, Path(run))
        console.print(f"written: {write_comparison(found, out)}", markup=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps(found, allow_nan=False))
