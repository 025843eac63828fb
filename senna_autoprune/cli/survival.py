"""``senna-prune survival``: how much of the evidence of pedestrians, vehicles, lights, ... survives each pruning method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from senna_autoprune.cli.options import (
    HELP,
    config_option,
    device_options,
    method_option_values,
    model_options,
    prompt_option,
    question_options,
)


@click.command(context_settings=HELP)
@model_options
@question_options
@click.option(
    "--dataroot", help="nuScenes root whose boxes are the evidence. Default: evidence.json beside the questions, else their root."
)
@click.option("--version", help="Version of its tables. Default: the question file's.")
@click.option("--evidence", help="Instead of boxes: an evidence file, or DriveLM's v1_1 frames (JSON).")
@click.option("--least-visible", type=click.IntRange(1, 4), help="nuScenes visibility level that a box needs. Default: 2.")
@click.option("--run", "run_folder", help="Run folder of eval or sweep that says which answers flipped.")
@click.option("--out", help="Folder of survival.json, survival.md and a figure. Default: --run's folder, else runs/survival.")
@config_option
@click.option("--methods", help="all (default), or names with commas; a variant is name:option=value.")
@click.option("--retention", help="Budgets as shares: 0.2,0.25 or start:stop:step. Default: 0.25.")
@click.option("--tokens-per-view", help="Budgets as visual tokens of each view.")
@method_option_values
@click.option("--types", help="Question types to look with, separated by commas, or all. Default: plan.")
@click.option("--limit", type=int, help="Only N questions of those types, of all scenes in turn.")
@prompt_option
@device_options
@click.option("--seed", type=int, help="Of random pruning and the bootstrap. Default: 0.")
@click.option("--figures/--no-figures", default=None, help="A figure of survival over depth as PNG and SVG. Default: on.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document in the last line.")
def command(
    dataroot: str | None,
    version: str | None,
    evidence: str | None,
    least_visible: int | None,
    run_folder: str | None,
    config_file: str | None,
    option_values: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Follow the visual tokens that show annotated objects through the layers, under each method and budget. Needs no labels.

    Survival is set beside chance (the share of all tokens that is left) and beside the random control, by class, distance and view.
    """
    from senna_autoprune.cli.eval_tables import console_for, show_grid
    from senna_autoprune.cli.progress import questions_bar
    from senna_autoprune.cli.values import fill_in_embedded, options_by_method
    from senna_autoprune.device import words
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.evaluation.answering.questions import load_questions
    from senna_autoprune.evaluation.sweep.cells import cells_of, needs_calibration
    from senna_autoprune.evaluation.sweep.config import SweepConfig, specs
    from senna_autoprune.files.yaml_files import load_config
    from senna_autoprune.report.survival_figure import draw
    from senna_autoprune.survival.ask import measured
    from senna_autoprune.survival.sources import find_evidence
    from senna_autoprune.survival.write import grids, sentence, write

    given = {name: value for name, value in flags.items() if value is not None}
    if given.get("retention") is None and given.get("tokens_per_view") is None and config_file is None:
        given["retention"] = "0.25"
    if option_values:
        given["options"] = options_by_method(option_values, given.get("methods"))
    config = load_config(SweepConfig, config_file, given)
    console = console_for(stderr=True)
    fill_in_embedded(config, console)
    if any(needs_calibration(row) for row in specs(config)):
        raise SennaPruneError("survival measures no calibration: give indicator_scale or gamma as a number (see senna-prune calibrate)")
    cells = cells_of(config, None)
    questions, root = load_questions(config)
    assert config.questions is not None  # filled in, else refused
    found = find_evidence(config.questions, dataroot, version, evidence, least_visible)
    console.print(f"evidence: {found[1]}", markup=False, soft_wrap=True)
    console.print(f"loading {config.model} on {words(config.device, config.dtype)}", markup=False)
    with questions_bar(console) as on_question:
        result = measured(config, cells, questions, root, found, run_folder, on_question)
    for grid in grids(result):
        if grid.rows and len(grid.columns) > 2:
            show_grid(grid, console_for())
    said = sentence(result)
    if said:
        click.echo(f"{said}.")
    folder = Path(config.out or run_folder or "runs/survival")
    written = [*write(result, folder), *([folder / path for path in draw(folder, result)] if config.figures else [])]
    click.echo(f"written: {', '.join(map(str, written))}")
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
