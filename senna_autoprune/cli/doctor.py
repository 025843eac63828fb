"""``senna-prune doctor``: whether pruned numbers of a model can be trusted on this machine, in one command."""

from __future__ import annotations

import json
from typing import Any

import click

from senna_autoprune.cli.options import HELP, SHARE, device_options, method_option_values, model_options

FAILED = 1


@click.command(context_settings=HELP)
@model_options
@click.option("--attention", help="Attention kernel to load the model with (sdpa, eager, flash_attention_2, ...). Default: the model's.")
@click.option("--method", default="autoprune", show_default=True, help="Method (`senna-prune methods`), or METHOD:NAME=VALUE.")
@click.option("--retention", type=SHARE, default=0.4, show_default=True, help="Share of visual tokens kept: 0.4 or 40%.")
@method_option_values
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    ctx: click.Context,
    model: str | None,
    vision_tower: str | None,
    adapter: str | None,
    attention: str | None,
    method: str,
    retention: float,
    option_values: tuple[str, ...],
    device: str | None,
    dtype: str | None,
    as_json: bool,
) -> None:
    """Run a prompt pruned, and its full-length twin with masked keys on the same model, and compare every logit.

    Without --model the embedded one. Exit code 0: they differ by rounding only; 1: they differ; 2: the model cannot be pruned, and why.
    """
    from senna_autoprune import demo
    from senna_autoprune.adapters.examine import examine
    from senna_autoprune.adapters.open import open_model
    from senna_autoprune.cli.values import one_method
    from senna_autoprune.device import AUTO, settle
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.pruning.methods.registry import METHODS, build_policy

    method, options = one_method(method, option_values)
    policy = build_policy(method, retention=retention, **options)
    if model is None:
        found = demo.embedded()
        if found is None:
            raise SennaPruneError("--model is missing, and this copy has no embedded model: give --model DIR")
        model = str(found.model_dir)
    device, dtype = settle(device or AUTO, dtype or AUTO)
    driving = open_model(model, adapter, vision_tower=vision_tower, attn_implementation=attention, device=device, dtype=dtype)
    examined = examine(driving, policy, tuple(dict.fromkeys([method, *METHODS])))
    if as_json:
        click.echo(json.dumps({"model": model, **examined.to_dict()}))
    else:
        click.echo("\n".join(_lines(model, examined)))
    if not examined.check.passed:
        ctx.exit(FAILED)


def _lines(model: str, examined: Any) -> list[str]:
    check = examined.check
    versions = ", ".join(f"{name} {number}" for name, number in examined.versions.items())
    proof = "proven" if check.proven else "not proven (docs/models.md); it has passed the short check"
    lines = [
        f"model            {model}",
        f"versions         {versions}",
        f"device           {check.device}, {check.dtype}, attention kernel {check.kernel}",
        f"family           {examined.family}, decoder {check.model_type}: {proof}",
        f"visual tokens    {examined.found}",
        f"check            {check.method}, {check.steps} tokens, {len(check.tokens_per_layer)} layers",
        f"kept             {check.visual_tokens} -> {min(check.tokens_per_layer)} in the last of them",
    ]
    can = [name for name, why in examined.methods.items() if why is None]
    lines += [f"methods          {', '.join(can)}"]
    lines += [f"  not {name}: {why}" for name, why in examined.methods.items() if why is not None]
    lines += [f"difference       {check.difference:.2g} of the greatest logit ({check.scale:.4g}); rounding is up to {check.tolerance:g}"]
    lines += ["passed: pruned runs of this model equal the full-length twin" if check.passed else f"FAILED: {check.reason}"]
    return lines
