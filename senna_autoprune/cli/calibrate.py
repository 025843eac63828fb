"""``senna-prune calibrate``: what the complexity indicators say on this model -> gamma and factors that fit it, no labels."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", required=True, help="Checkpoint folder (original layout or ours) or hub id.")
@click.option("--questions", required=True, help="Question file; its labels are not read.")
@click.option("--images", help="Folder of relative image paths. Default: the question file's data root, else its folder.")
@click.option("--vision-tower", help="CLIP folder to use in place of the one the checkpoint names.")
@click.option("--adapter", help="How the model is asked: YAML file, family or entry point. Default: by the checkpoint.")
@click.option("--types", default="plan", show_default=True, help="Question types to measure, separated by commas, or all.")
@click.option("--count", default=32, show_default=True, type=click.IntRange(2), help="Questions to measure, scenes taking turns.")
@click.option("--prompt-template", default="eval", show_default=True, type=click.Choice(["eval", "train"]))
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document in the last line.")
def command(
    model: str,
    questions: str,
    images: str | None,
    vision_tower: str | None,
    adapter: str | None,
    types: str,
    count: int,
    prompt_template: str,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Choose AutoPrune's gamma for a model without labels, so that k adapts to its questions instead of being clamped.

    k of eq. 8 then runs from 0.1 to 1 of the paper's k0 between the 95th and the 5th percentile of mutual information.
    """
    from senna_autoprune.adapters.open import open_model
    from senna_autoprune.evaluation.answering.calibration import calibrate
    from senna_autoprune.evaluation.answering.questions import load_questions, samples_of
    from senna_autoprune.evaluation.config import AskConfig
    from senna_autoprune.evaluation.sweep.sweep import in_turns
    from senna_autoprune.files.yaml_files import build

    asked = {"model": model, "adapter": adapter, "questions": questions, "images": images, "types": types}
    config = build(AskConfig, asked, "the command line")
    rows, root = load_questions(config)
    chosen = [sample[0] for sample in in_turns(samples_of(rows))][:count]
    place: dict[str, Any] = {"vision_tower": vision_tower, "dtype": dtype, "device": device, "prompt_template": prompt_template}
    found = calibrate(open_model(model, adapter, **place), chosen, root)
    _print(found)
    if as_json:
        click.echo(json.dumps(found, allow_nan=False))


def _print(found: dict[str, Any]) -> None:
    from senna_autoprune.cli.eval_tables import console_for

    console = console_for()
    console.print(f"{found['questions']} questions measured")
    for name, spread in found["indicators"].items():
        numbers = ", ".join(f"{key} {spread[key]:.4g}" for key in ("p5", "p50", "p95", "mean"))
        factor = found["indicator_scale"].get(name)
        console.print(f"{name}: {numbers}" + (f"; indicator_scale {factor:g}" if factor is not None else ""))
    gamma = found["gamma"]
    if "error" in gamma:
        console.print(gamma["error"], style="yellow", markup=False)
    else:
        console.print(f"use it with: --set gamma={gamma['gamma']:g} --set k0={gamma['k0']:g}")
