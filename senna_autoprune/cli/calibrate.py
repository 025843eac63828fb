"""``senna-prune calibrate``: what the complexity indicators say on this model -> gamma and factors that fit it, no labels."""

from __future__ import annotations

import json
from typing import Any

import click

from senna_autoprune.cli.options import device_options


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", help="Checkpoint folder (original layout or ours) or hub id. Default: the embedded one.")
@click.option("--questions", help="Question file; its labels are not read. Default: the embedded one.")
@click.option("--images", help="Folder of relative image paths. Default: the question file's data root, else its folder.")
@click.option("--vision-tower", help="CLIP folder to use in place of the one the checkpoint names.")
@click.option("--adapter", help="How the model is asked: YAML file, family or entry point. Default: by the checkpoint.")
@click.option("--types", default="plan", show_default=True, help="Question types to measure, separated by commas, or all.")
@click.option("--count", default=32, show_default=True, type=click.IntRange(2), help="Questions to measure, scenes taking turns.")
@click.option("--prompt-template", default="eval", show_default=True, type=click.Choice(["eval", "train"]))
@click.option(
    "--by-layer", is_flag=True, help="Rank correlation of each indicator with the questions' constructed complexity, layer by layer."
)
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document in the last line.")
def command(
    model: str | None,
    questions: str | None,
    images: str | None,
    vision_tower: str | None,
    adapter: str | None,
    types: str,
    count: int,
    prompt_template: str,
    device: str | None,
    dtype: str | None,
    by_layer: bool,
    as_json: bool,
) -> None:
    """Choose AutoPrune's gamma for a model without labels, so that k adapts to its questions instead of being clamped.

    k of eq. 8 then runs from 0.1 to 1 of the paper's k0 between the 95th and the 5th percentile of mutual information.
    With --by-layer: in which layer does an indicator rank questions as their construction does? The question file must say how complex
    each is, as the synthetic world's does.
    """
    from senna_autoprune.cli.eval_tables import console_for
    from senna_autoprune.cli.values import fill_in_embedded
    from senna_autoprune.device import words
    from senna_autoprune.evaluation.answering.calibration import calibrate
    from senna_autoprune.evaluation.answering.depth import by_layer as layer_by_layer
    from senna_autoprune.evaluation.answering.engine import ModelPlace
    from senna_autoprune.evaluation.answering.questions import load_questions, samples_of
    from senna_autoprune.evaluation.config import AskConfig
    from senna_autoprune.evaluation.sweep.sweep import in_turns
    from senna_autoprune.files.yaml_files import build

    place = {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}
    asked = {
        **place,
        "vision_tower": vision_tower,
        "prompt_template": prompt_template,
        "model": model,
        "adapter": adapter,
        "questions": questions,
        "images": images,
        "types": types,
    }
    config = build(AskConfig, asked, "the command line")
    fill_in_embedded(config, console_for(stderr=True))
    rows, root = load_questions(config)
    turns = enumerate(in_turns(samples_of(rows)))  # a keyframe's questions take turns, too: not always its first type
    chosen = [sample[place % len(sample)] for place, sample in turns][:count]
    click.echo(f"loading {config.model} on {words(config.device, config.dtype)}", err=True)
    loaded = ModelPlace.of(config).load()
    found = layer_by_layer(loaded, chosen, root) if by_layer else calibrate(loaded, chosen, root)
    (_print_layers if by_layer else _print)(found)
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


def _print_layers(found: dict[str, Any]) -> None:
    from senna_autoprune.cli.eval_tables import console_for

    console = console_for()
    console.print(
        f"{found['questions']} questions, {found['layers']} layers: Spearman's rank correlation with constructed complexity [95 %]"
    )
    for kind, rows in found["types"].items():
        for name, row in rows.items():
            read, strongest = (_correlation(row[key]) for key in ("read", "strongest"))
            console.print(f"{kind}, {name}: {read}; strongest: {strongest}", markup=False)


def _correlation(value: dict[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        return "unknown"
    bounds = "" if value["low"] is None else f" [{value['low']:+.2f}, {value['high']:+.2f}]"
    return f"layer {value['layer']} {value['value']:+.2f}{bounds}"
