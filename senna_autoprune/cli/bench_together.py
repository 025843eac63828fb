"""``senna-prune bench --batch-size`` and ``--concurrency``: several prompts together, beside the same ones one by one."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from senna_autoprune.bench.plan import BenchPlan, BenchResult


def measure(plan: BenchPlan, result: BenchResult, sizes: list[int], in_flight: list[int], rounds: int, out: Console) -> dict[str, Any]:
    """Measure, print a table a number of prompts; ``batches`` and ``in_flight`` of the document, where they were asked for.

    Args:
        sizes: of batches. in_flight: prompts at once, a thread each. In both 1 stands in every table beside the others, and is none itself.
    """
    from rich.progress import Progress

    from senna_autoprune.bench.batches import build_prompts, measure_batches
    from senna_autoprune.bench.in_flight import measure_in_flight
    from senna_autoprune.cli.eval_tables import show_grid
    from senna_autoprune.cli.screen import console_for
    from senna_autoprune.tables.bench import batches_table, in_flight_table

    policies = {plan.name(share): result.policies[plan.name(share)] for share in plan.shares}
    document: dict[str, Any] = {}
    for what, counts in (("batches", sizes), ("in flight", in_flight)):
        for count in (count for count in counts if count > 1):
            started = perf_counter()
            prompts = build_prompts(plan.shape, count, plan.dtype, plan.device, plan.seed + 1)
            lengths = [embeds.shape[1] for embeds, _ in prompts]
            with Progress(console=console_for(stderr=True), transient=True) as progress:
                task = progress.add_task(f"rounds of {count} {what}", total=rounds)
                turns: dict[str, Any] = {"rounds": rounds, "on_round": lambda done, task=task: progress.update(task, completed=done + 1)}
                if what == "batches":
                    batches = measure_batches(result.model, prompts, policies, warmup=0, **turns)
                    table, rows = batches_table(batches, lengths), [row.to_dict() for row in batches]
                else:
                    flights = measure_in_flight(result.model, prompts, policies, decode_steps=plan.decode_steps, warmup=1, **turns)
                    table, rows = in_flight_table(flights, lengths, plan.decode_steps), [row.to_dict() for row in flights]
            show_grid(table, out)
            out.print(f"{what if what == 'batches' else 'prompts in flight'} took {perf_counter() - started:.0f} s")
            document.setdefault(what.replace(" ", "_"), []).extend(rows)
    return document
