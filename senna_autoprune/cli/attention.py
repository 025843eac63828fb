"""``senna-prune attention``: the paper's Fig. 1 for one question: text-to-image attention, layer by layer, over the views."""

from __future__ import annotations

import re
from typing import Any

import click

from senna_autoprune.cli.options import device_options
from senna_autoprune.errors import SennaPruneError


@click.command("attention", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", help="Checkpoint folder (original layout or ours) or hub id.")
@click.option("--vision-tower", help="CLIP folder to use in place of the one the checkpoint names.")
@click.option("--adapter", help="How the model is asked: YAML file, family or entry point. Default: by the checkpoint.")
@click.option("--questions", help="Question file, see `senna-prune questions build`.")
@click.option("--question", type=int, help="Which of the file, from 0, as runs number them. Default: the first.")
@click.option("--images", help="Folder of relative image paths. Default: the question file's data root, else its folder.")
@click.option("--scene", help="Instead of a file: scene name, scene token, or a sample token. Default: the scene with most images.")
@click.option("--keyframe", type=int, help="Which of the scene's keyframes with images, from 0. Default: the first.")
@click.option("--dataroot", type=click.Path(), help="Folder that holds VERSION/*.json, maps/, samples/.")
@click.option("--version", "version", help="Table version, e.g. v1.0-mini. Default: the only one under --dataroot.")
@click.option("--layers", help="Layers to draw, from 0, e.g. 0,1,4,8,15. Default: five over the depth.")
@click.option(
    "--attribution",
    type=click.Choice(["projector", "adapter"]),
    default="projector",
    show_default=True,
    help="Spread a token over its patches through projector and adapter, or the adapter alone (a 200th of the work on a 7B model).",
)
@click.option("--prompt-template", type=click.Choice(["eval", "train"]), default="eval", show_default=True, help="Wording of the prompt.")
@device_options
@click.option("--out", type=click.Path(), help="Picture: .png, .svg or .pdf. Default: attention-NAME.png.")
def command(
    vision_tower: str | None,
    adapter: str | None,
    layers: str | None,
    attribution: Any,
    prompt_template: str,
    device: str | None,
    dtype: str | None,
    out: str | None,
    **asked: Any,
) -> None:
    """Draw where a question looks in chosen layers of the unpruned model, and measure how far that moves between them.

    With nothing given, the embedded model looks at an embedded scene.
    """
    from senna_autoprune.adapters.open import open_model
    from senna_autoprune.device import AUTO, settle, words
    from senna_autoprune.report.attention import STRONGEST, choose, look, save_attention
    from senna_autoprune.report.drawing import picture_path

    wanted = None if layers is None else _layers(layers)
    path = None if out is None else picture_path(out)
    choice = choose(**asked)
    for line in choice.said:
        click.echo(line, err=True)
    device, dtype = settle(device or AUTO, dtype or AUTO)
    click.echo(f"loading {choice.model} on {words(device, dtype)}", err=True)
    place: dict[str, Any] = {"vision_tower": vision_tower, "dtype": dtype, "device": device, "prompt_template": prompt_template}
    found = look(open_model(choice.model, adapter, **place), choice.question, choice.root, wanted, prompt_template, attribution)
    if choice.label:
        click.echo(choice.label)
    click.echo(f"{choice.name}: answer {found.answer.strip()!r}, label {choice.question.label.strip()!r}")
    names = [view or f"view {number}" for number, view in enumerate(found.views, start=1)]
    for one in found.layers:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(names, one.views, strict=True))
        click.echo(f"layer {one.layer}: {one.on_views:.1%} of the text's attention on the views; of it {shares}")
        if one.moved is not None:
            click.echo(
                f"  moved since the layer above: total variation {one.moved.total_variation:.3f}, Jensen-Shannon "
                f"{one.moved.jensen_shannon:.3f} bit; {one.moved.staying:.0%} of the strongest {STRONGEST:.0%} of the tokens stay "
                f"(chance: {STRONGEST:.0%})"
            )
    path = path or picture_path(f"attention-{re.sub(r'[^A-Za-z0-9._-]+', '-', choice.name)}.png")
    save_attention(found, found.views, path, choice.label)
    click.echo(str(path))


def _layers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SennaPruneError(f"--layers {text}: write layer numbers with commas, like 0,1,4,8,15") from None
