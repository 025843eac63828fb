"""``senna-prune eval``: a checkpoint and a question file -> accuracy unpruned and pruned, beside its controls."""

from __future__ import annotations

import json
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
    budget_options,
    config_option,
    engine_options,
    examples,
    export_options,
    force_option,
    method_option_values,
    method_options,
    model_options,
    question_options,
    retry_option,
)

EXAMPLES = examples(
    "senna-prune eval --limit 12           # the embedded model, a trial",
    "senna-prune eval --model /models/Senna --questions val.json --retention 25%",
    "senna-prune eval --method autoprune:mode=release --set k0=0.3 --csv a.csv",
    "senna-prune eval --config eval --method fastv --no-controls",
)


@click.command(cls=Grouped, context_settings=HELP, epilog=EXAMPLES)
@model_options
@question_options
@method_options
@budget_options
@block(
    PRUNING,
    click.option(
        "--budget", type=click.Choice(["tokens", "flops"]), help="What --retention is a share of. Default: tokens; flops: of the prefill."
    ),
    method_option_values,
    click.option("--controls/--no-controls", default=None, help="Also random and uniform pruning and no-image. Default: on."),
)
@asking_options
@engine_options
@click.option("--out", help="Run folder; a started one is continued. Default: runs/METHOD-BUDGET-HASH of the settings.")
@config_option
@retry_option
@force_option
@export_options
@click.option("--full", is_flag=True, help="Print every table; without it one that fits 80 columns.")
@click.option("--json", "as_json", is_flag=True, help="Print the measures as one JSON document in the last line.")
@click.pass_context
def command(
    ctx: click.Context,
    config_file: str | None,
    option_values: tuple[str, ...],
    retry_failed: bool,
    force: bool,
    csv_file: str | None,
    parquet_file: str | None,
    full: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Ask planning questions with and without pruned visual tokens, and measure what pruning costs.

    Answers are stored as they are computed: interrupted, the same command continues. Exit code 0: done; 2: bad set-up;
    3: done, but some samples failed.
    """
    from senna_autoprune.cli.eval_tables import console_for, show
    from senna_autoprune.cli.export import Export
    from senna_autoprune.cli.values import fill_in_embedded, said_keys, with_method_options
    from senna_autoprune.demo import label_of
    from senna_autoprune.evaluation.config import EvalConfig
    from senna_autoprune.files.yaml_files import load_config
    from senna_autoprune.tables.summary import next_commands

    export = Export.of(csv_file, parquet_file)
    given = with_method_options({name: value for name, value in flags.items() if value is not None}, option_values)
    config = load_config(EvalConfig, config_file, given)
    console, progress_console = console_for(), console_for(stderr=True)
    fill_in_embedded(config, progress_console, said_keys(given, config_file))

    result = _evaluate(config, retry_failed, force, progress_console)
    metrics = result.metrics
    label = label_of(config.model, config.questions)
    if label is not None:
        console.print(label, style="bold")
    console.print(f"model {metrics['run']['places']['model']}, questions {metrics['run']['places']['questions']}", markup=False)
    show(metrics, console, full)
    console.print(f"run: {result.directory}", markup=False, soft_wrap=True)
    for line in export.write(result.directory):
        console.print(line, markup=False, soft_wrap=True)
    if not full:
        for line in next_commands(str(result.directory), metrics):
            console.print(line, markup=False, soft_wrap=True)
    if result.speed is not None:
        console.print(f"speed: {result.speed}", markup=False)
    if as_json:
        speed = result.speed and result.speed.to_dict()
        click.echo(json.dumps({"label": label, **_compact(metrics, str(result.directory)), "speed": speed}, allow_nan=False))
    if result.failed:
        ctx.exit(FAILED_SAMPLES)


def _evaluate(config: Any, retry_failed: bool, force: bool, console: Any) -> Any:
    """Load and run; something moves all the time."""
    from senna_autoprune.cli.progress import answers_bar, counted
    from senna_autoprune.evaluation.answering.open import open_engine
    from senna_autoprune.evaluation.evaluate import evaluate, prepare, run_directory

    def say(line: str) -> None:
        console.print(line, markup=False)

    prepared = prepare(config)
    directory, settings = run_directory(config), len(prepared.asking.settings)
    with ExitStack() as stack:
        with console.status("getting ready"):
            engine = stack.enter_context(open_engine(config, say, directory))
        say(f"run folder {directory}")
        say(counted(len(prepared.questions), settings))
        with answers_bar(console, settings, at_once=config.at_once) as bar:
            result = evaluate(config, engine, prepared, bar.on_row, retry_failed, force)
            bar.finish(result.rows)
    return result


def _compact(metrics: dict[str, Any], directory: str) -> dict[str, Any]:
    """The measures without the long list of flips (metrics.json has it)."""
    flips = {name: {k: v for k, v in found.items() if k != "list"} for name, found in metrics["flips"].items()}
    return {**metrics, "flips": flips, "directory": directory}
