"""``senna-prune bench``: measured speed-up of pruning on random weights, beside its FLOPs bound. The last line is JSON."""

from __future__ import annotations

import json
import platform
import sys

import click


@click.command(name="bench")
@click.option("--layers", default=24, show_default=True, type=click.IntRange(2))
@click.option("--hidden", default=768, show_default=True, type=click.IntRange(2))
@click.option("--heads", default=12, show_default=True, type=click.IntRange(1))
@click.option("--mlp", type=click.IntRange(1), help="MLP width  [default: Vicuna's 2.6875 x hidden]")
@click.option("--views", default=6, show_default=True, type=click.IntRange(1), help="Cameras of 128 visual tokens each.")
@click.option("--text-tokens", default=200, show_default=True, type=click.IntRange(3))
@click.option("--method", default="autoprune", show_default=True, help="A registered pruning method.")
@click.option("--retention", "retentions", default="0.20,0.25,0.40", show_default=True, help="Shares of visual tokens, comma separated.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option("--device", default="cpu", show_default=True)
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(3), help="Timed rounds; every setting runs once in each.")
@click.option("--warmup", default=2, show_default=True, type=click.IntRange(1))
@click.option("--decode-steps", default=8, show_default=True, type=click.IntRange(1))
@click.option("--batch-size", default=1, show_default=True, type=click.IntRange(1), help="Also: prefill throughput in batches of N.")
@click.option("--seed", default=0, show_default=True)
def command(
    layers: int,
    hidden: int,
    heads: int,
    mlp: int | None,
    views: int,
    text_tokens: int,
    method: str,
    retentions: str,
    dtype: str,
    device: str,
    rounds: int,
    warmup: int,
    decode_steps: int,
    batch_size: int,
    seed: int,
) -> None:
    """Measure prefill and decode of a Senna-shaped decoder with random weights, unpruned and pruned.

    Reached = measured speed-up / FLOPs bound. The row at 1.00 keeps every token and so shows what the hooks themselves cost. The rows
    "lengths alone" run the same lengths without looking at any attention: what they miss of the bound is the machine's, not the pruner's.
    """
    import torch
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from senna_autoprune.cli.values import parse_shares
    from senna_autoprune.evaluation.bench import BenchShape, build_decoder, build_prompt, lengths_alone, measure, to_json
    from senna_autoprune.pruning.methods.registry import build_policy

    shape = BenchShape(layers, hidden, heads, mlp, views=views, text_tokens=text_tokens)
    shares = [1.0, *parse_shares(retentions)]
    policies = {f"{method}@{share:.2f}": build_policy(method, retention=share, seed=seed) for share in shares}
    pruning = [f"{method}@{share:.2f}" for share in shares if share < 1]
    console = Console(stderr=True)
    model = build_decoder(shape, getattr(torch, dtype), device, seed)
    embeds, mask = build_prompt(shape, getattr(torch, dtype), device, seed + 1)
    alone = {name.replace(method, "lengths alone"): lengths_alone(policies[name], model, embeds, mask) for name in pruning}
    policies = {**policies, **alone}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("rounds", total=rounds + warmup)
        rows = measure(
            model,
            embeds,
            mask,
            policies,
            rounds=rounds,
            warmup=warmup,
            decode_steps=decode_steps,
            on_round=lambda done: progress.update(task, completed=done + 1),
        )
    tokens = f"{embeds.shape[1]} tokens ({int(mask.sum())} visual)"
    table = Table(title=f"{layers} layers x {hidden}, {dtype}, {device}, {tokens}; random weights")
    times = ("prefill ms", "p10-p90", "speed-up", "FLOPs bound", "reached", "decode ms/token", "decode x")
    columns = ("setting", "tokens a layer", *times, "KV MB")
    for column in columns:
        table.add_column(column, justify="left" if column == "setting" else "right")
    for row in rows:
        table.add_row(
            row.setting,
            f"{row.average_tokens:.1f}",
            f"{row.prefill_ms.median:.1f}",
            f"{row.prefill_ms.p10:.0f}-{row.prefill_ms.p90:.0f}",
            f"{row.speedup:.2f}",
            f"{row.flops_bound:.2f}",
            f"{row.reached:.2f}",
            f"{row.decode_ms_per_token.median:.2f}",
            f"{row.decode_speedup:.2f}",
            f"{row.kv_bytes / 1e6:.1f}",
        )
    Console(width=None if sys.stdout.isatty() else 130).print(table)
    machine = {
        "dtype": dtype,
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "rounds": rounds,
    }
    document = to_json(shape, rows, **machine)
    click.echo(f"overhead of the hooks at retention 1.00: {100 * document['overhead_at_1']:.1f} %")
    if batch_size > 1:
        from senna_autoprune.evaluation.bench_batches import build_prompts, measure_batches

        prompts = build_prompts(shape, batch_size, getattr(torch, dtype), device, seed + 1)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("rounds of batches", total=rounds + warmup)
            batches = measure_batches(
                model,
                prompts,
                {name: policy for name, policy in policies.items() if name not in alone},
                rounds=rounds,
                warmup=warmup,
                on_round=lambda done: progress.update(task, completed=done + 1),
            )
        lengths = sorted(one.shape[1] for one, _ in prompts)
        click.echo(f"prefill throughput, {batch_size} prompts of {lengths[0]}-{lengths[-1]} tokens, padding included")
        table = Table()
        for column in ("setting", "tokens a layer", f"prompts/s, batch {batch_size}", "prompts/s, batch 1", "gain"):
            table.add_column(column, justify="left" if column == "setting" else "right")
        for batch in batches:
            low, high = batch.tokens_per_layer
            kept = f"{low:.1f}" if low == high else f"{low:.1f}-{high:.1f}"
            table.add_row(batch.setting, kept, f"{batch.together.median:.2f}", f"{batch.alone.median:.2f}", f"{batch.gain:.2f}")
        Console().print(table)
        document["batches"] = [batch.to_dict() for batch in batches]
    click.echo(json.dumps(document))
