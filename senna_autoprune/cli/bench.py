"""``senna-prune bench``: measured speed-up of pruning on random weights, beside its FLOPs bound. The last line is JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from senna_autoprune.cli.options import HELP, device_options, method_option_values

DTYPES = ("float32", "bfloat16", "float16")
WIDTH = 160  # of tables that go into a file
SHARES = "0.20,0.25,0.40"


@click.command(name="bench", context_settings=HELP)
@click.option("--shape", "shape_name", type=click.Choice(["senna-7b"]), help="A real decoder's shape, with its vision stage.")
@click.option("--layers-sample", type=click.IntRange(2), help="Build only N of the layers and scale, where memory or time is short.")
@click.option("--check-sample", is_flag=True, help="Measure the whole decoder in the same rounds, and say how far the scaled are off.")
@click.option("--layers", type=click.IntRange(2), help="[default: 24]")
@click.option("--hidden", type=click.IntRange(2), help="[default: 768]")
@click.option("--heads", type=click.IntRange(1), help="[default: 12]")
@click.option("--mlp", type=click.IntRange(1), help="MLP width  [default: Vicuna's 2.6875 x hidden]")
@click.option("--views", type=click.IntRange(1), help="Cameras of 128 visual tokens each.  [default: 6]")
@click.option("--text-tokens", type=click.IntRange(3), help="[default: 200]")
@click.option("--method", default="autoprune", show_default=True, help="Method (`senna-prune methods`), or METHOD:NAME=VALUE.")
@click.option("--retention", "retentions", help="Shares of visual tokens, comma separated.  [default: 0.20,0.25,0.40]")
@method_option_values
@device_options
@click.option("--rounds", type=click.IntRange(1), help="Timed rounds; every setting runs once in each.  [default: 9; with --shape 3]")
@click.option("--warmup", type=click.IntRange(0), help="Rounds before them.  [default: 1]")
@click.option("--decode-steps", default=1, show_default=True, type=click.IntRange(1))
@click.option("--controls/--no-controls", default=True, show_default=True, help="The rows at 1.00 and of the lengths alone.")
@click.option("--control-rounds", default=9, show_default=True, type=click.IntRange(1), help="Rounds in which these run, spread evenly.")
@click.option("--clock", default="wall", show_default=True, type=click.Choice(["wall", "cpu"]), help="cpu: for a machine with other jobs.")
@click.option("--batch-size", metavar="N[,N...]", help="Also prefill throughput in batches of N.")
@click.option("--concurrency", metavar="N[,N...]", help="Also N prompts in flight at once, a thread and on a GPU a stream each.")
@click.option("--batch-rounds", default=2, show_default=True, type=click.IntRange(1), help="Rounds of both.")
@click.option("--questions", type=click.IntRange(2), help="Instead: N questions of one keyframe against N single ones, stage by stage.")
@click.option("--bucket", default=1, show_default=True, type=click.IntRange(1), help="Layers keep multiples of N tokens, so shapes repeat.")
@click.option("--compare", "earlier_file", metavar="FILE", help="Print against an earlier JSON of this command, setting by setting.")
@click.option("--keep-memory/--return-memory", default=True, show_default=True, help="On a CPU: whether freed blocks stay, as in a run.")
@click.option("--seed", default=0, show_default=True)
def command(
    shape_name: str | None,
    layers_sample: int | None,
    check_sample: bool,
    method: str,
    retentions: str | None,
    option_values: tuple[str, ...],
    dtype: str | None,
    device: str | None,
    rounds: int | None,
    warmup: int | None,
    decode_steps: int,
    controls: bool,
    control_rounds: int,
    clock: str,
    batch_size: str | None,
    concurrency: str | None,
    batch_rounds: int,
    questions: int | None,
    bucket: int,
    earlier_file: str | None,
    keep_memory: bool,
    seed: int,
    **geometry: int | None,
) -> None:
    """Measure prefill and decode of a Senna-shaped decoder with random weights, unpruned and pruned.

    Reached = measured speed-up / FLOPs bound. The row at 1.00 keeps every token and so shows what the hooks themselves cost. The rows
    "lengths alone" run the same lengths without looking at any attention: what they miss of the bound is the machine's, not the pruner's.

    --shape senna-7b takes 15 GB in bfloat16 and refuses if there is less. --layers-sample 2 builds 2 of its 32 layers: a layer is timed
    at the lengths of the real schedule and summed over it, while the pruner runs at full depth; scaled figures are marked.

    --questions 10 is at the width of senna-7b with 2 layers, unless a shape is given; from JPEG files to the end of answers of 16 tokens.
    """
    import torch
    from rich.progress import Progress

    from senna_autoprune.bench.compare import pairs, read_earlier
    from senna_autoprune.bench.kernels import picked
    from senna_autoprune.bench.machine import describe, one_line
    from senna_autoprune.bench.passes import UNPRUNED, to_json
    from senna_autoprune.bench.plan import BenchPlan, run
    from senna_autoprune.bench.shapes import SHAPES, TOKENS_PER_VIEW, BenchShape
    from senna_autoprune.bench.vision import senna_config
    from senna_autoprune.cli import bench_questions, bench_together
    from senna_autoprune.cli.eval_tables import show_grid
    from senna_autoprune.cli.screen import console_for
    from senna_autoprune.cli.values import one_method, parse_counts, parse_shares
    from senna_autoprune.device import AUTO, keep_freed_memory, settle
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.tables import bench as tables

    begun = perf_counter()
    if keep_memory:
        keep_freed_memory()  # as a run does
    device, dtype = settle(device or AUTO, dtype or AUTO)
    if dtype not in DTYPES:
        raise SennaPruneError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    earlier = read_earlier(Path(earlier_file)) if earlier_file is not None else None
    sizes, in_flight = parse_counts("--batch-size", batch_size), parse_counts("--concurrency", concurrency)
    method, options = one_method(method, option_values)
    given: dict[str, Any] = {name: value for name, value in geometry.items() if value is not None}
    shape = replace(SHAPES[shape_name], **given) if shape_name else BenchShape(**given)
    if questions is not None:
        shape, layers_sample = bench_questions.shape_of(given, shape_name, layers_sample), None
    plan = BenchPlan(
        shape,
        tuple(share for share in parse_shares(retentions or (SHARES if questions is None else bench_questions.SHARES)) if share < 1),
        method=method,
        options=options,
        vision=senna_config(shape.hidden) if shape_name or questions else None,
        layers_sample=layers_sample,
        check_sample=check_sample,
        dtype=getattr(torch, dtype),
        device=device,
        rounds=rounds or (2 if questions else 3 if shape_name else 9),
        warmup=warmup if warmup is not None else 1,
        decode_steps=decode_steps,
        controls=controls,
        control_rounds=control_rounds,
        clock=clock,
        batch_size=max([1, *sizes, *in_flight]),
        seed=seed,
        bucket=bucket,
    )
    machine = describe(dtype, device)
    out = console_for(width=WIDTH)
    kernels = picked(shape, plan.dtype, device)
    out.print(f"machine: {one_line(machine)}")
    out.print("attention: SDPA, " + ", ".join(f"{name} {kernels[name]}" for name in ("unpruned", "pruned", "masked")))
    tokens = f"{shape.tokens} tokens ({shape.views * TOKENS_PER_VIEW} visual)"
    measured = "" if clock == "wall" else "; CPU time"
    title = f"{shape_name or 'decoder'}: {shape.layers} layers x {shape.hidden}, {dtype}, {device}, {tokens}; random weights{measured}"
    with Progress(console=console_for(stderr=True), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def on_step(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        if questions is not None:
            found = bench_questions.measure(plan, questions, title, out, on_step)
        else:
            result = run(plan, on_step)
    if questions is not None:
        click.echo(json.dumps({"shape": asdict(shape), "machine": machine, "clock": clock, **found, "seconds": perf_counter() - begun}))
        return
    if result.rounds < plan.rounds:
        out.print(f"interrupted after {result.rounds} of {plan.rounds} rounds")
    shown = [(title, result.rows, result.scaled)]
    if result.whole is not None:
        shown.append((f"the whole decoder: {title}", result.whole, None))
    for heading, rows, scaled in shown:
        show_grid(tables.settings_table(heading, rows, scaled is not None), out)
        asked = [row for row in rows if row.setting in (UNPRUNED, *result.policies)]
        show_grid(tables.stages_table(asked, result.vision, scaled), out)
    if result.check is not None:
        show_grid(tables.check_table(result.check), out)
    document = to_json(
        shape,
        result.rows,
        shape_name=shape_name,
        machine=machine,
        rounds=result.rounds,
        warmup=plan.warmup,
        clock=clock,
        attention=kernels,
        vision_ms=asdict(result.vision) if result.vision is not None else None,
        scaled=result.scaled,
        whole=[asdict(row) for row in result.whole] if result.whole is not None else None,
        check=[asdict(check) for check in result.check] if result.check is not None else None,
    )
    if earlier is not None and earlier_file is not None:
        show_grid(tables.compare_table(pairs(earlier, document, result.rows, Path(earlier_file)), earlier_file), out)
    if document["overhead_at_1"] is not None:
        out.print(f"overhead of the hooks at retention 1.00: {100 * document['overhead_at_1']:.1f} %")
    if result.rounds == plan.rounds:
        document.update(bench_together.measure(plan, result, sizes, in_flight, batch_rounds, out))
    document["seconds"] = perf_counter() - begun
    out.print(f"{document['seconds']:.0f} s in all")
    click.echo(json.dumps(document))
