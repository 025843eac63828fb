"""``senna-prune bench --questions N``: N questions of one keyframe against N single ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from senna_autoprune.bench.plan import BenchPlan
    from senna_autoprune.bench.shapes import BenchShape

LAYERS = 2  # built of a named shape, unless it is said
SHARES = "0.60"  # of two layers the first sees everything


def shape_of(given: dict[str, Any], shape_name: str | None, layers_sample: int | None) -> BenchShape:
    """What is built: the named shape's width with few layers, or the shape that was given."""
    from senna_autoprune.bench.shapes import SHAPES, BenchShape

    if given and shape_name is None:
        return BenchShape(**given)
    return replace(SHAPES[shape_name or "senna-7b"], **{"layers": layers_sample or LAYERS, **given})


def measure(plan: BenchPlan, questions: int, title: str, out: Console, on_step: Callable[[str, int, int | None], None]) -> dict[str, Any]:
    """Measure, print the table; the measurement as plain data. SennaPruneError as ``measure_questions``."""
    from senna_autoprune.bench.keyframe import measure_questions
    from senna_autoprune.bench.plan import CLOCKS
    from senna_autoprune.cli.eval_tables import show_grid
    from senna_autoprune.evaluation.answering.settings import Setting
    from senna_autoprune.tables.bench import ANSWER_TOKENS, questions_table

    assert plan.vision is not None
    given = {**({"bucket": plan.bucket} if plan.bucket > 1 else {}), **plan.options}
    rows = measure_questions(
        plan.shape,
        plan.vision,
        [Setting(plan.name(share), plan.method, {**given, "retention": share}) for share in plan.shares],
        questions=questions,
        answer_tokens=ANSWER_TOKENS,
        dtype=plan.dtype,
        device=plan.device,
        rounds=plan.rounds,
        warmup=plan.warmup,
        seed=plan.seed,
        clock=CLOCKS[plan.clock],
        on_step=on_step,
    )
    show_grid(questions_table(title, rows), out)
    return {"answer_tokens": ANSWER_TOKENS, "rounds": plan.rounds, "questions": [row.to_dict() for row in rows]}
