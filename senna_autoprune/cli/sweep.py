"""``senna-prune sweep``: every method at every budget on one checkpoint -> one table beside the paper's, and figures."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import click

from senna_autoprune.errors import SennaPruneError

FAILED_SAMPLES = 3  # exit code of a sweep that finished but could not ask everything


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", help="Checkpoint folder (original layout or ours) or hub id.")
@click.option("--questions", help="Question file (LLaVA-format JSON list), see `senna-prune questions build`.")
@click.option("--images", help="Folder of relative image paths. Default: the question file's data root, else its folder.")
@click.option("--vision-tower", help="CLIP folder to use in place of the one the checkpoint names.")
@click.option("--out", help="Run folder; a started one is continued or extended. Default: runs/sweep-HASH.")
@click.option("--config", "config_file", type=click.Path(), help="YAML file with the same keys; flags win over it.")
@click.option("--methods", help="all (default), or names with commas; a variant is name:option=value, e.g. autoprune:mode=release.")
@click.option("--retention", help="Budgets as shares: 0.2,0.25 or start:stop:step. Default: 0.20:0.40:0.05.")
@click.option("--tokens-per-view", help="Budgets as visual tokens of each view, e.g. 26,32,38,45,51.")
@click.option("--ablation", help="indicators, curves, or both with a comma: AutoPrune's parts one by one (Table 4).")
@click.option("--set", "option_values", multiple=True, metavar="METHOD.NAME=VALUE", help="Option of a method in all its rows.")
@click.option("--calibration", type=int, help="Questions on which cosine, attention and gamma=calibrated are scaled. Default: 32.")
@click.option("--types", help="Question types to ask, separated by commas; the table is about plan. Default: plan.")
@click.option("--limit", type=int, help="Only the first N questions of those types.")
@click.option("--max-new-tokens", type=int, help="Longest answer. Default: by question type, 16 for plan.")
@click.option("--prompt-template", help="eval (default, the original evaluation's wording) or train.")
@click.option("--batch-size", type=int, help="Questions asked together; answers stay the same. Default: 1.")
@click.option("--device", help="Any torch device. Default: cpu.")
@click.option("--dtype", help="float32 (default), bfloat16 or float16.")
@click.option("--seed", type=int, help="Of random pruning, random answers and the bootstrap. Default: 0.")
@click.option("--resamples", type=int, help="Bootstrap resamples. Default: 2000.")
@click.option("--figures/--no-figures", default=None, help="Figures as PNG and SVG. Default: on.")
@click.option("--retry-failed", is_flag=True, help="When continuing, ask failed questions again.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON document in the last line.")
@click.pass_context
def command(
    ctx: click.Context,
    config_file: str | None,
    option_values: tuple[str, ...],
    retry_failed: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Ask planning questions under every pruning method at every budget, and print what each retains of the accuracy.

    Answers are stored as they are computed: interrupted, the same command continues; with more methods or budgets it
    computes only what is new. Exit code 0: done; 2: bad set-up; 3: done, but some samples failed.
    """
    from senna_autoprune.cli.eval import _fill_in as fill_in
    from senna_autoprune.cli.eval_tables import console_for
    from senna_autoprune.config import load_config
    from senna_autoprune.demo import label_of
    from senna_autoprune.evaluation.sweep_config import SweepConfig
    from senna_autoprune.evaluation.sweep_files import write_files

    given = {name: value for name, value in flags.items() if value is not None}
    if option_values:
        given["options"] = _options(option_values)
    config = load_config(SweepConfig, config_file, given)
    progress_console = console_for(stderr=True)
    if config.model is None or config.questions is None:
        fill_in(config, progress_console)

    result = _sweep(config, retry_failed, progress_console)
    result.table["facts"]["label"] = label_of(config.model, config.questions)
    figures: list[str] = []
    if config.figures:
        from senna_autoprune.evaluation.figures import draw_all

        figures = draw_all(result.directory, result.table, result.answers, result.questions)
    asked = shlex.join(["senna-prune", *sys.argv[1:]])
    written = write_files(result.directory, result.table, figures, asked)
    _print(result.table, console_for())
    click.echo(f"written: {', '.join(map(str, written))}" + (f", {len(figures)} figures" if figures else ""))
    if as_json:
        click.echo(json.dumps({**result.table, "directory": str(result.directory)}, allow_nan=False))
    if result.failed:
        first = result.table["facts"]["failed"][0]
        click.echo(f"{result.failed} answers failed; the first: sample {first['token']}, {first['setting']}: {first['reason']}", err=True)
        ctx.exit(FAILED_SAMPLES)


def _options(texts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """``autoprune.gamma=0.1`` -> {"autoprune": {"gamma": 0.1}}."""
    import yaml

    options: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        method, dot, option = name.partition(".")
        if not (sign and dot and method and option):
            raise SennaPruneError(f"--set {text}: write it as METHOD.NAME=VALUE, like --set autoprune.gamma=0.1")
        try:
            options.setdefault(method.strip(), {})[option.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SennaPruneError(f"--set {text}: the value cannot be read") from error
    return options


def _sweep(config: Any, retry_failed: bool, console: Any) -> Any:
    """Load and run under a progress bar with an estimate of the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from senna_autoprune.evaluation.sweep import check, directory_of, sweep
    from senna_autoprune.senna import load_senna

    check(config)
    console.print(f"loading {config.model}", markup=False)
    senna = load_senna(config.model, config.vision_tower, config.dtype, config.device)
    console.print(f"run folder {directory_of(config)}", markup=False)
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as progress:
        task = progress.add_task("answers", total=None, note="")
        computed = failed = 0

        def on_row(row: Any, done: int, total: int) -> None:
            nonlocal computed, failed
            if not computed:  # rows found on disk are no measure of speed
                progress.reset(task, total=total, completed=done - 1)
            computed += 1
            failed += row.status == "failed"
            progress.update(task, completed=done, note=f"{failed} failed" if failed else "")

        result = sweep(config, senna, on_row, retry_failed)
        progress.update(task, total=result.rows, completed=result.rows)
        return result


def _print(table: dict[str, Any], console: Any) -> None:
    """The grids as light tables; what is said of them below each."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from senna_autoprune.evaluation.sweep_files import grids

    for grid in grids(table):
        console.print(f"\n{escape(grid.title)}", style="bold", soft_wrap=True)
        shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for index, column in enumerate(grid.columns):
            shown.add_column(escape(column), justify="left" if not index else "right", overflow="fold")
        for index, row in enumerate(grid.rows):
            shown.add_row(*map(escape, row), end_section=index in grid.sections)
        console.print(shown)
        for note in grid.notes:
            console.print(escape(note), style="dim")
