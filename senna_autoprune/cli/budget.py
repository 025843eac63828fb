"""``senna-prune budget``: the smallest token budget that is safe on these questions, with a certificate."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import click

from senna_autoprune.cli.options import (
    ASKING,
    FAILED_SAMPLES,
    HELP,
    MACHINE,
    Grouped,
    block,
    config_option,
    device_options,
    engine_options,
    force_option,
    method_option_values,
    model_options,
    prompt_option,
    question_options,
    retry_option,
)

asking = block(
    "Questions",
    click.option("--limit", type=int, help="Only N questions, of all scenes in turn."),
    block(ASKING, click.option("--max-new-tokens", type=int, help="Longest answer. Default: 16.")),
    prompt_option,
    block(MACHINE, click.option("--batch-size", type=int, help="Questions asked together; answers stay the same. Default: 1.")),
    device_options,
    block(ASKING, click.option("--seed", type=int, help="Of the halves and the order of scenes. Default: 0.")),
)


@click.command(cls=Grouped, context_settings=HELP)
@block(
    "The certificate",
    click.option(
        "--margin",
        type=float,
        help="Greatest loss, in points (of l2: metres). Default: half of (unpruned - best trivial control), at most 2 (0.1 m).",
    ),
    click.option(
        "--safety",
        type=float,
        help="Greatest share of scenes with a newly dangerous flip, in per cent. Default: 2, if so many scenes can show it.",
    ),
    click.option("--types", help="Question types that count, with commas. Default: plan."),
    click.option("--methods", help="One or more, with commas, or all; one is chosen on the first half. Default: autoprune."),
    click.option("--each", is_flag=True, default=None, help="Certify every method on all scenes, side by side, in place of choosing one."),
    click.option("--grid", help="Shares of visual tokens: 0.1,0.2 or start:stop:step. Default: 0.10 to 0.60."),
    click.option(
        "--measure",
        help="accuracy against the labels, agreement with unpruned, or l2 in metres. Default: what the adapter and the labels allow.",
    ),
    click.option("--choose-share", type=float, help="Share of scenes for choosing. Default: 0.5; 0: one method, all scenes certify."),
    click.option("--looks", type=int, help="Looks at the certificate's scenes. Default: 3."),
)
@method_option_values
@model_options
@question_options
@click.option("--out", help="Run folder; a started one is continued. Default: runs/budget-HASH of the settings.")
@config_option
@asking
@engine_options
@retry_option
@force_option
@click.option("--full", is_flag=True, help="Print all tables (the page has them); else the verdict and what was tested.")
@click.option("--json", "as_json", is_flag=True, help="Print the certificate as one JSON document in the last line.")
@click.pass_context
def command(
    ctx: click.Context,
    config_file: str | None,
    option_values: tuple[str, ...],
    retry_failed: bool,
    force: bool,
    full: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """How far may this model be pruned on these questions, and how sure is that?

    Margins are fixed before any pruned answer exists. Half of the scenes chooses the method, the other half certifies: budgets from
    the largest down, stopping at the first that is not shown to be safe. Interrupted, the same command continues. Exit code 0: a
    budget is safe; 2: bad set-up; 3: some samples failed; 4: no budget was shown to be safe; 5: these questions cannot show harm.
    """
    from senna_autoprune.cli.eval_tables import console_for
    from senna_autoprune.cli.values import fill_in_embedded, options_by_method, said_keys
    from senna_autoprune.demo import label_of
    from senna_autoprune.evaluation.budget.config import BudgetConfig
    from senna_autoprune.files.yaml_files import load_config

    given = {name: value for name, value in flags.items() if value is not None}
    if option_values:
        given["options"] = options_by_method(option_values, given.get("methods", "autoprune"))
    config = load_config(BudgetConfig, config_file, _embedded_margins(given, config_file))
    progress = console_for(stderr=True)
    fill_in_embedded(config, progress, said_keys(given, config_file))
    result = _search(config, retry_failed, force, progress)
    console, label = console_for(), label_of(config.model, config.questions)
    if label is not None:
        console.print(label, style="bold")
    show(result.certificate, console, full)
    for path in _write(result, label):
        console.print(f"written: {path}", markup=False, soft_wrap=True)
    if not full:
        console.print("all tables: --full, or the page", markup=False)
    if as_json:
        click.echo(json.dumps({"label": label, **result.certificate, "directory": str(result.directory)}, allow_nan=False))
    ctx.exit(FAILED_SAMPLES if result.failed and not result.certificate["exit_code"] else result.certificate["exit_code"])


def _embedded_margins(given: dict[str, Any], config_file: str | None) -> dict[str, Any]:
    """What the embedded questions can show, where the user named no questions and no margins."""
    from senna_autoprune.evaluation.budget.config import EMBEDDED

    if config_file is not None or any(name in given for name in ("model", "questions", "margin", "safety", "choose_share")):
        return given
    methods = given.get("methods", "")
    chosen = {} if methods == "all" or "," in methods else {"choose_share": 0.0}  # of one method all scenes certify
    return {**EMBEDDED, **chosen, **given}


def show(certificate: dict[str, Any], console: Any, full: bool = True) -> None:
    """Print the verdict and a table that fits 80 columns, or all tables."""
    from senna_autoprune.cli.eval_tables import show_grid
    from senna_autoprune.tables.budget import grids, summary_grid

    console.print(certificate["sentence"], style="bold", markup=False, soft_wrap=True)
    if certificate["warning"]:
        console.print(certificate["warning"], style="yellow", markup=False, soft_wrap=True)
    for grid in grids(certificate) if full else [summary_grid(certificate)]:
        show_grid(grid, console)


def _search(config: Any, retry_failed: bool, force: bool, console: Any) -> Any:
    """Load and run; a line for each step, a bar for all answers."""
    from senna_autoprune.cli.progress import answers_bar
    from senna_autoprune.evaluation.answering.open import open_engine
    from senna_autoprune.evaluation.budget.check import check, directory_of
    from senna_autoprune.evaluation.budget.search import search

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    check(config)
    with ExitStack() as stack:
        with console.status("getting ready"):
            engine = stack.enter_context(open_engine(config, say, directory_of(config)))
        say(f"run folder {directory_of(config)}")
        with answers_bar(console, settings=2, bound=True, at_once=config.at_once) as bar:  # unpruned and no-image come first
            result = search(config, engine, bar.on_row, say, retry_failed, force)
            bar.finish(result.rows)
            return result


def _write(result: Any, label: str | None) -> list[Any]:
    """The certificate's page and figure beside budget.json."""
    from senna_autoprune.report.budget import write_budget_report

    return [result.directory / "budget.json", *write_budget_report(result.directory).files]
