"""``senna-prune ask``: one question about some pictures, unpruned and pruned, and what pruning did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from senna_autoprune.cli.options import (
    FAILED_SAMPLES,
    HELP,
    Grouped,
    budget_options,
    device_options,
    method_option_values,
    method_options,
    model_options,
    prompt_option,
)

if TYPE_CHECKING:
    from senna_autoprune.replay.ask import Said, Told


@click.command("ask", cls=Grouped, context_settings=HELP)
@model_options
@click.option("--image", "--images", "images", multiple=True, type=click.Path(), help="Picture; give it once each, or all after it.")
@click.argument("more_images", nargs=-1, type=click.Path())
@click.option("--scene", help="Instead of pictures: scene name or token. Default: the scene with most images.")
@click.option("--sample", help="Sample token, or which of the scene's keyframes with images, from 0. Default: the first.")
@click.option("--dataroot", type=click.Path(), help="Folder that holds VERSION/*.json, maps/, samples/.")
@click.option("--version", "version", help="Table version, e.g. v1.0-mini. Default: the only one under --dataroot.")
@click.option("--question", help="What to ask. Default, of a keyframe: Senna's planning question.")
@click.option("--max-new-tokens", type=click.IntRange(1, 4096), help="Longest answer. Default: the model's, by question type.")
@method_options
@budget_options
@method_option_values
@prompt_option
@device_options
@click.option("--seed", type=int, help="Of random pruning. Default: 0.")
@click.option("--prompt", "show_prompt", is_flag=True, help="Print the prompt as it was sent.")
@click.option("--out", type=click.Path(dir_okay=False), help="Page of this frame (.html), as of senna-prune replay.")
@click.pass_context
def command(
    ctx: click.Context,
    images: tuple[str, ...],
    more_images: tuple[str, ...],
    scene: str | None,
    sample: str | None,
    dataroot: str | None,
    version: str | None,
    question: str | None,
    show_prompt: bool,
    out: str | None,
    option_values: tuple[str, ...],
    **flags: Any,
) -> None:
    """Ask one question, unpruned and pruned: both answers, tokens per view and layer, mutual information, curve, times.

    With nothing given, the embedded model is asked for its plan at an embedded keyframe. Exit code 0: done; 2: bad set-up;
    3: done, but an answer is a failure of the model.
    """
    from senna_autoprune.adapters.open import adapter_for, open_model
    from senna_autoprune.cli.values import with_method_options
    from senna_autoprune.device import words
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.evaluation.config import EvalConfig
    from senna_autoprune.evaluation.evaluate import settings_of
    from senna_autoprune.files.yaml_files import build
    from senna_autoprune.replay.ask import ask, choose

    if out is not None and not out.endswith(".html"):
        raise SennaPruneError(f"--out {out}: the page of one frame ends in .html")
    given = with_method_options({name: value for name, value in flags.items() if value is not None}, option_values)
    adapter = adapter_for(given.get("model"), given.get("adapter"))
    chosen = choose((*images, *more_images), question, scene, sample, dataroot, version, adapter)
    for line in chosen.said:
        click.echo(line, err=True)
    if "model" not in given:
        given["model"] = _embedded_model()
    config = build(EvalConfig, {**given, "controls": False}, "the command line")
    setting = settings_of(config)[-1]
    click.echo(f"loading {config.model} on {words(config.device, config.dtype)}", err=True)
    model = open_model(
        str(config.model),
        config.adapter,
        vision_tower=config.vision_tower,
        dtype=config.dtype,
        device=config.device,
        prompt_template=config.prompt_template,
    )
    told = ask(model, chosen.asked, setting, config.seed, config.max_new_tokens)
    if show_prompt:
        click.echo(told.prompt + "\n")
    _print(told, setting.name)
    if out is not None:
        _write_page(model, chosen, setting, config, out)
    if told.unpruned.reason or told.pruned.reason:
        ctx.exit(FAILED_SAMPLES)


def _embedded_model() -> str:
    from senna_autoprune.demo import LABEL, embedded
    from senna_autoprune.errors import SennaPruneError

    found = embedded()
    if found is None:
        raise SennaPruneError("--model is missing, and this copy has no embedded one: give --model DIR")
    click.echo(f"using the embedded model (none given): {LABEL}", err=True)
    return str(found.model_dir)


def _print(told: Told, method: str) -> None:
    trace = told.trace
    _print_said("unpruned", told.unpruned)
    _print_said(method, told.pruned)
    click.echo("the answers are the same" if told.agrees else "the answers differ")
    if told.missing_frames:
        click.echo(f"{told.missing_frames} pictures stand for earlier ones that do not exist")
    share = f"{trace.average_tokens:.1f} of {trace.visual_tokens} visual tokens a layer ({trace.retention_tokens:.1%})"
    click.echo(f"\n{share}, {trace.flops_pruned / trace.flops_full:.1%} of the prefill's FLOPs")
    if trace.mutual_information is not None:
        curve = f", curve k {trace.k:.3g} a layer, x0 layer {trace.x0:.3g}" if trace.k is not None and trace.x0 is not None else ""
        click.echo(f"mutual information {trace.mutual_information:.4g}{curve}")
    _print_layers(told)
    for note in trace.notes:
        click.echo(f"note: {note}")


def _print_said(name: str, said: Said) -> None:
    click.echo(f"{name + ':':<12} {said.text.strip() or '(no text)'}")
    if said.reason:
        click.echo(f"{'':<12} failure: {said.reason}")

    def ms(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.0f} ms"

    times = f"prefill {ms(said.prefill_ms)}, decoding {ms(said.decode_ms)} for {said.new_tokens} tokens"
    click.echo(f"{'':<12} vision {ms(said.vision_ms)}, {times}")


def _print_layers(told: Told) -> None:
    """Tokens entering each layer, by view; layers that are alike in one line."""
    columns = [max(len(name), 5) for name in told.views]
    click.echo("layer   tokens  " + "  ".join(name.rjust(width) for name, width in zip(told.views, columns, strict=True)))
    per_view, tokens = told.trace.per_view, told.trace.tokens_per_layer
    first = 0
    for layer in range(len(tokens)):
        if layer + 1 < len(tokens) and (tokens[layer + 1], per_view[layer + 1]) == (tokens[first], per_view[first]):
            continue
        name = str(first) if first == layer else f"{first}-{layer}"
        counts = "  ".join(str(count).rjust(width) for count, width in zip(per_view[layer], columns, strict=True))
        click.echo(f"{name:<7} {tokens[layer]:>6}  {counts}")
        first = layer + 1


def _write_page(model: Any, chosen: Any, setting: Any, config: Any, out: str) -> None:
    from pathlib import Path

    from senna_autoprune.evaluation.answering.settings import budget_words
    from senna_autoprune.replay.frames import make_replay
    from senna_autoprune.replay.write import write_replay

    replay = make_replay(
        model,
        chosen.source,
        setting,
        budget_words(setting),
        seed=config.seed,
        prompt_template=config.prompt_template,
        max_new_tokens=config.max_new_tokens,
    )
    for path in write_replay(replay, Path(out)):
        click.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
