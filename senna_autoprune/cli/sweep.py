"""``senna-prune sweep``: every method at every budget on one checkpoint -> one table beside the paper's, and figures."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import ExitStack
from typing import Any

import click

from senna_autoprune.cli.options import (
    FAILED_SAMPLES,
    HELP,
    PRUNING,
    Grouped,
    asking_options,
    block,
    config_option,
    engine_options,
    examples,
    export_options,
    force_option,
    method_option_values,
    model_options,
    question_options,
    retry_option,
)

EXAMPLES = examples(
    "senna-prune sweep --limit 20 --methods fastv,divprune  # a trial",
    "senna-prune sweep --config table3 --model /models/Senna --questions val.json --out runs/table3",
    "senna-prune sweep --methods autoprune,autoprune:mode=release --retention 10%,25% --set autoprune.gamma=0.1",
)


@click.command(cls=Grouped, context_settings=HELP, epilog=EXAMPLES)
@model_options
@question_options
@block(
    PRUNING,
    click.option("--methods", help="all (default), or names with commas; a variant is name:option=value, e.g. autoprune:mode=release."),
    click.option("--retention", help="Budgets as shares: 0.2,25% or start:stop:step. Default: 0.08, 0.10, and 0.15:0.40:0.05."),
    click.option("--tokens-per-view", help="Budgets as visual tokens of each view, e.g. 26,32,38,45,51."),
    click.option("--ablation", help="indicators, curves, or both with a comma: AutoPrune's parts one by one (Table 4)."),
    method_option_values,
    click.option("--calibration", type=int, help="Questions on which cosine, attention and gamma=calibrated are scaled. Default: 32."),
)
@asking_options
@engine_options
@click.option("--out", help="Run folder; a started one is continued or extended. Default: runs/sweep-HASH.")
@config_option
@click.option("--figures/--no-figures", default=None, help="Figures as PNG and SVG. Default: on.")
@retry_option
@force_option
@export_options
@click.option(
    "--survival",
    type=int,
    help="Then follow what N keyframes show through the layers, with a question of each: how much of it every method keeps.",
)
@click.option("--full", is_flag=True, help="Print every table; without it one that fits 80 columns.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON document in the last line.")
@click.pass_context
def command(
    ctx: click.Context,
    config_file: str | None,
    option_values: tuple[str, ...],
    retry_failed: bool,
    force: bool,
    full: bool,
    csv_file: str | None,
    parquet_file: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Ask planning questions under every pruning method at every budget, and print what each retains of the accuracy.

    Answers are stored as they are computed: interrupted, the same command continues; with more methods or budgets it
    computes only what is new. Exit code 0: done; 2: bad set-up; 3: done, but some samples failed.
    """
    from senna_autoprune.cli.eval_tables import console_for, show_grid
    from senna_autoprune.cli.export import Export
    from senna_autoprune.cli.values import fill_in_embedded, options_by_method, said_keys
    from senna_autoprune.demo import label_of
    from senna_autoprune.evaluation.sweep.config import SweepConfig
    from senna_autoprune.evaluation.sweep.sweep import directory_of
    from senna_autoprune.files.yaml_files import load_config
    from senna_autoprune.survival.write import read_survival
    from senna_autoprune.tables.sweep import grids, write_files
    from senna_autoprune.tables.sweep_summary import next_commands, summary_grid, verdict_line

    export = Export.of(csv_file, parquet_file)
    given = {name: value for name, value in flags.items() if value is not None}
    if option_values:
        given["options"] = options_by_method(option_values, given.get("methods"))
    config = load_config(SweepConfig, config_file, given)
    progress_console = console_for(stderr=True)
    fill_in_embedded(config, progress_console, said_keys(given, config_file))

    survived, kept = ([], None) if config.survival else read_survival(directory_of(config))  # broken: told before anything is asked
    if config.survival:
        from senna_autoprune.survival.sources import find_evidence

        evidence = find_evidence(str(config.questions))
    result = _sweep(config, retry_failed, force, progress_console)
    figures: list[str] = []
    result.table["facts"]["label"] = label_of(config.model, config.questions)
    if config.figures:
        from senna_autoprune.report.sweep_figures import draw_all

        figures = draw_all(result.directory, result.table, result.answers, result.questions)
    asked = shlex.join(["senna-prune", *sys.argv[1:]])
    written = write_files(result.directory, result.table, figures, asked, survived)
    if config.survival:  # the table is there, whatever becomes of this
        figures += _survival(config, result, evidence, progress_console)
        survived, kept = read_survival(result.directory)
        written = write_files(result.directory, result.table, figures, asked, survived)
    console, said = console_for(), verdict_line(result.table)
    if result.table["facts"]["label"]:
        console.print(result.table["facts"]["label"], style="bold", markup=False)
    if said is not None:
        console.print(said, style="bold", markup=False, soft_wrap=True)
    for grid in [*grids(result.table), *survived] if full else [summary_grid(result.table)]:
        show_grid(grid, console)
    if kept is not None and not full:
        console.print(f"{kept} (survival.md).", markup=False, soft_wrap=True)
    click.echo(f"written: {', '.join(map(str, written))}" + (f", {len(figures)} figures" if figures else ""))
    if not full:
        for line in next_commands(str(result.directory)):
            console.print(line, markup=False, soft_wrap=True)
    for line in export.write(result.directory):
        click.echo(line)
    if result.speed is not None:
        click.echo(f"speed: {result.speed}")
    if as_json:
        speed = result.speed and result.speed.to_dict()
        click.echo(json.dumps({**result.table, "directory": str(result.directory), "speed": speed}, allow_nan=False))
    if result.failed:
        first = result.table["facts"]["failed"][0]
        click.echo(f"{result.failed} answers failed; the first: sample {first['token']}, {first['setting']}: {first['reason']}", err=True)
        ctx.exit(FAILED_SAMPLES)


def _sweep(config: Any, retry_failed: bool, force: bool, console: Any) -> Any:
    """Load and run; something moves all the time."""
    from senna_autoprune.cli.progress import answers_bar, counted
    from senna_autoprune.evaluation.answering.open import open_engine
    from senna_autoprune.evaluation.sweep.sweep import check, directory_of, settings_of, sweep

    def say(line: str) -> None:
        console.print(line, markup=False)

    questions, _ = check(config)
    directory, settings = directory_of(config), len(settings_of(config))
    with ExitStack() as stack:
        with console.status("getting ready"):
            engine = stack.enter_context(open_engine(config, say, directory))
        say(f"run folder {directory}")
        say(counted(len(questions), settings))
        with answers_bar(console, settings, at_once=config.at_once) as bar:
            result = sweep(config, engine, bar.on_row, retry_failed, force)
            bar.finish(result.rows)
    return result


def _survival(config: Any, result: Any, evidence: Any, console: Any) -> list[str]:
    """survival.json and survival.md of the sweep's cells in its folder; the path of their figure there, if one was asked for."""
    from senna_autoprune.cli.progress import questions_bar
    from senna_autoprune.evaluation.sweep.sweep import check
    from senna_autoprune.report.survival_figure import draw
    from senna_autoprune.survival.ask import measured, some_of
    from senna_autoprune.survival.write import write

    questions, root = check(config)
    chosen = some_of(questions, config.survival)
    console.print(f"survival of evidence: {len(chosen)} questions, {evidence[1]}", markup=False, soft_wrap=True)
    with questions_bar(console) as on_question:
        found = measured(config, result.cells, chosen, root, evidence, result.directory, on_question)
    write(found, result.directory)
    return draw(result.directory, found) if config.figures else []
