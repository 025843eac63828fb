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
@click.option("--dataroot", help="nuScenes root whose boxes are the evidence. Default: the question file's.")
@click.option("--version", help="Version of its tables. Default: the question file's.")
@click.option("--evidence", help="Instead of boxes: an evidence file, or DriveLM's v1_1 frames (JSON).")
@click.option("--least-visible", type=click.IntRange(1, 4), default=2, show_default=True, help="nuScenes visibility level a box needs.")
@click.option("--run", "run_folder", help="Run folder of eval or sweep that says which answers flipped.")
@click.option("--out", help="Folder of survival.json and survival.md. Default: --run's folder, else runs/survival.")
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
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document in the last line.")
def command(
    dataroot: str | None,
    version: str | None,
    evidence: str | None,
    least_visible: int,
    run_folder: str | None,
    config_file: str | None,
    option_values: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Follow the visual tokens that show annotated objects through the layers, under each method and budget. Needs no labels.

    Survival is set beside chance (the share of all tokens that is left) and beside the random control, by class, distance and view.
    """
    from rich.progress import Progress

    from senna_autoprune.cli.eval_tables import console_for, show_grid
    from senna_autoprune.cli.values import fill_in_embedded, options_by_method
    from senna_autoprune.demo import label_of
    from senna_autoprune.device import words
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.evaluation.answering.engine import ModelPlace
    from senna_autoprune.evaluation.answering.models import driving_model
    from senna_autoprune.evaluation.answering.questions import load_questions
    from senna_autoprune.evaluation.sweep.cells import cells_of, needs_calibration
    from senna_autoprune.evaluation.sweep.config import SweepConfig, specs
    from senna_autoprune.files.yaml_files import load_config
    from senna_autoprune.pruning.decoder.check import proof_of
    from senna_autoprune.survival.flips import flipped_answers
    from senna_autoprune.survival.run import follow
    from senna_autoprune.survival.write import grids, result_of, sentence, write

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
    evidence_of, source = _evidence(config.questions, dataroot, version, evidence, least_visible)
    flipped = flipped_answers(Path(run_folder)) if run_folder else None
    console.print(f"loading {config.model} on {words(config.device, config.dtype)}", markup=False)
    model = driving_model(ModelPlace.of(config).load(), config.prompt_template)
    provenance = {**model.provenance, **proof_of(model.model)}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("questions", total=len(questions))

        def on_question(done: int, _total: int) -> None:
            bar.update(task, completed=done)

        asked = (model, questions, root, [cell.setting for cell in cells], evidence_of)
        survived = follow(*asked, config.seed, config.prompt_template, flipped, on_question)
    result = result_of(survived, cells, source, label_of(config.model, config.questions), config.seed, provenance)
    for grid in grids(result):
        if grid.rows and len(grid.columns) > 2:
            show_grid(grid, console_for())
    said = sentence(result)
    if said:
        click.echo(f"{said}.")
    written = write(result, Path(config.out or run_folder or "runs/survival"))
    click.echo(f"written: {', '.join(map(str, written))}")
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))


def _evidence(questions: str | None, dataroot: str | None, version: str | None, file: str | None, least_visible: int) -> tuple[Any, str]:
    """Evidence by sample token, and where it comes from in words."""
    from senna_autoprune.nuscenes.questions_file import read_sidecar
    from senna_autoprune.nuscenes.scenes import load_tables
    from senna_autoprune.replay.sources import find_version
    from senna_autoprune.survival.sources import nuscenes_evidence, read_evidence

    if file is not None:
        known = read_evidence(file)
        return lambda token: known.get(token, []), file
    assert questions is not None
    sidecar = read_sidecar(questions)
    version = version or sidecar.get("data", {}).get("version")
    dataroot = dataroot or sidecar.get("dataroot") or str(Path(questions).parent)
    version = version or find_version(dataroot)
    nusc = load_tables(dataroot, version)
    return lambda token: nuscenes_evidence(nusc, token, least_visible), f"boxes of {version} in {dataroot}"
