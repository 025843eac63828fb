"""``senna-prune benchmarks``: standard benchmarks through lmms-eval, in the form of the paper's Tables 1 and 2."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from senna_autoprune.cli.options import FAILED_SAMPLES, HELP, method_option_values

DTYPES = ("auto", "float32", "bfloat16", "float16")


@click.command(context_settings=HELP)
@click.option("--suite", required=True, help="table1 (LLaVA-1.5), table2 (LLaVA-NeXT), or a YAML file like configs/llava15_table1.yaml.")
@click.option("--model", required=True, help="Stock checkpoint folder or hub id, e.g. llava-hf/llava-1.5-7b-hf.")
@click.option("--methods", help="all (default), or names with commas; a variant is name:option=value, e.g. autoprune:mode=release.")
@method_option_values
@click.option("--tokens", help="Budgets as visual tokens, averaged over the layers. Default: the suite's, e.g. 192,128,64.")
@click.option("--tasks", help="Tasks of the suite, by lmms-eval's name or by column, separated by commas. Default: all.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N questions of each task: a trial, not a measurement.")
@click.option("--out", help="Folder of results; a started one is continued or extended. Default: runs/benchmarks-SUITE-MODEL.")
@click.option("--device", help="Any torch device. Default: auto, the first GPU, else the CPU.")
@click.option("--dtype", type=click.Choice(DTYPES), default="auto", help="Default: auto, the checkpoint's.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, help="Questions asked together. Default: 1.")
@click.option("--include-path", help="Folder of further lmms-eval task files, for suites of your own.")
@click.option("--dry-run", is_flag=True, help="Print the command lines that would be run, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON document in the last line.")
@click.pass_context
def command(
    ctx: click.Context,
    suite: str,
    model: str,
    methods: str | None,
    option_values: tuple[str, ...],
    tokens: str | None,
    tasks: str | None,
    out: str | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run every row of a table on every benchmark with lmms-eval, one command line a cell, and print the table.

    Unpruned, no-image, random and uniform are always among the rows. Every answer is kept as it is computed: interrupted, the same
    command goes on where it was; with more methods, budgets or tasks it computes only what is new. lmms-eval is an optional extra;
    it downloads its data sets on first use, most of which ask for `hf auth login`. Exit code 0: done (a method may not reach a
    budget: n/a); 2: bad set-up; 3: some cells failed, and are tried again next time.
    """
    from importlib.metadata import version

    from senna_autoprune.cli.eval_tables import console_for, show_grid
    from senna_autoprune.cli.values import options_by_method
    from senna_autoprune.lmms.cells import TaskCell, cells_of, place_of, read_result, require_lmms_eval, run_cells
    from senna_autoprune.lmms.suites import load_suite
    from senna_autoprune.lmms.table import grid, outcome_line, tabulate, write_files

    if options.get("device") == "auto":
        options["device"] = None
    chosen = load_suite(suite, methods, tasks, tokens, options_by_method(option_values, methods))
    place = place_of(model, out or f"runs/benchmarks-{Path(suite).stem}-{Path(model).name}", **options)
    cells = cells_of(chosen, place)
    if dry_run:
        for cell in cells:
            click.echo(shlex.join(cell.command))
        done = sum(read_result(cell) is not None for cell in cells)
        click.echo(f"{len(cells)} cells, {done} of them finished; nothing was run", err=True)
        return
    require_lmms_eval()

    started: list[float] = []

    def on_start(cell: TaskCell) -> None:
        started.append(perf_counter())
        click.echo(f"$ {shlex.join(cell.command)}", err=True)

    outcomes = []
    asked = shlex.join(["senna-prune", *sys.argv[1:]])
    table, written = tabulate(chosen, place, [], version("lmms_eval")), []
    for number, outcome in enumerate(run_cells(cells, on_start), start=1):
        outcomes.append(outcome)
        seconds = perf_counter() - started.pop() if started else None
        click.echo(outcome_line(outcome, number, len(cells), seconds), err=True)
        table = tabulate(chosen, place, outcomes, version("lmms_eval"))
        written = write_files(place.out, table, asked)
    show_grid(grid(table), console_for())
    click.echo(f"written: {', '.join(map(str, written))}")
    if as_json:
        click.echo(json.dumps({**table, "directory": str(place.out)}, allow_nan=False))
    if table["facts"]["cells"]["failed"]:
        click.echo(f"{table['facts']['cells']['failed']} cells failed; the same command tries them again", err=True)
        ctx.exit(FAILED_SAMPLES)
