"""Tables of ``senna-prune bench``. A figure that was scaled from a few layers says so in its column's head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from senna_autoprune.bench.batches import BatchRow
from senna_autoprune.bench.compare import Pair
from senna_autoprune.bench.in_flight import InFlightRow
from senna_autoprune.bench.keyframe import STAGES, QuestionsRow
from senna_autoprune.bench.passes import BenchRow, Timing
from senna_autoprune.bench.sample import SampleCheck
from senna_autoprune.tables.grid import Grid

ANSWER_TOKENS = 16  # of the answer that the stages are added up for


def settings_table(title: str, rows: Sequence[BenchRow], scaled: bool) -> Grid:
    """Prefill and decode of every setting beside its bound."""
    mark = " (scaled)" if scaled else ""
    prefill = (f"prefill ms{mark}", "p10-p90", f"speed-up{mark}", "FLOPs bound", "causal", f"reached{mark}")
    decode = (f"decode ms/token{mark}", f"decode x{mark}")
    peak = any(row.peak_bytes is not None for row in rows)
    table = Grid(title, ["setting", "tokens a layer", *prefill, *decode, "KV MB", *(["peak MB"] if peak else [])])
    for row in rows:
        table.rows.append(
            [
                row.setting,
                f"{row.average_tokens:.1f}",
                f"{row.prefill_ms.median:.1f}",
                f"{row.prefill_ms.p10:.0f}-{row.prefill_ms.p90:.0f}",
                f"{row.speedup:.2f}",
                f"{row.flops_bound:.2f}",
                "-" if row.causal_bound is None else f"{row.causal_bound:.2f}",
                f"{row.reached:.2f}",
                f"{row.decode_ms_per_token.median:.2f}",
                f"{row.decode_speedup:.2f}",
                f"{row.kv_bytes / 1e6:.1f}",
                *([f"{row.peak_bytes / 1e6:.0f}" if row.peak_bytes is not None else "-"] if peak else []),
            ]
        )
    table.notes.append(
        "FLOPs bound: the paper's formula, attention counted as n^2. causal: the true one, attention as it is computed, n (n + 1) / 2."
    )
    return table


def stages_table(rows: Sequence[BenchRow], vision: Timing | None, scaled: dict[str, Any] | None) -> Grid:
    """Where the time of one question goes, stage by stage: medians."""
    mark = " (scaled)" if scaled else ""
    title = f"stages of a question with an answer of {ANSWER_TOKENS} tokens"
    columns = (f"prefill ms{mark}", "pruner ms, in it", "share", "net")
    table = Grid(title, ["setting", *columns, f"decode ms/token{mark}", f"in all s{mark}", f"x{mark}"])
    whole = [in_all(row, vision) for row in rows]
    for row, total in zip(rows, whole, strict=True):
        prefill, pruner = row.prefill_ms.median, row.pruner_ms.median if row.pruner_ms is not None else None
        table.rows.append(
            [
                row.setting,
                f"{prefill:.1f}",
                f"{pruner:.1f}" if pruner is not None else "-",
                f"{100 * pruner / prefill:.1f} %" if pruner is not None else "-",
                f"{100 * row.net:.1f} %" if row.net is not None else "-",
                f"{row.decode_ms_per_token.median:.2f}",
                f"{total:.2f}",
                f"{whole[0] / total:.2f}",
            ]
        )
    if any(row.net is not None for row in rows):
        table.notes.append(
            "pruner: its hooks and the text rows' attention, which the kernel is spared; net: what looking costs beside the lengths alone"
        )
    if vision is not None:
        spread = f"{vision.median:.1f} ms ({vision.p10:.0f}-{vision.p90:.0f})"
        table.notes.append(f"vision, in all of it: CLIP tower, projector and adapter on all views of a keyframe, {spread}, measured whole")
    if scaled:
        table.notes.append(f"(scaled): {scaled['how']}")
    return table


def in_all(row: BenchRow, vision: Timing | None) -> float:
    """Seconds from pixels (or, without a vision stage, from the prompt) to the last token of the answer."""
    stages = (vision.median if vision is not None else 0.0) + row.prefill_ms.median + ANSWER_TOKENS * row.decode_ms_per_token.median
    return stages / 1e3


def check_table(checks: Sequence[SampleCheck]) -> Grid:
    """Scaled against measured."""
    table = Grid("scaled / whole decoder, medians of the ratios within a round", ["setting", "prefill", "decode"])
    for check in checks:
        table.rows.append([check.setting, f"{check.prefill:.3f}", f"{check.decode:.3f}"])
    return table


def batches_table(batches: Sequence[BatchRow], lengths: Sequence[int]) -> Grid:
    """Throughput together and one by one."""
    size = batches[0].batch_size
    title = f"prefill throughput, {size} prompts of {min(lengths)}-{max(lengths)} tokens, padding included"
    table = Grid(title, ["setting", "tokens a layer", f"prompts/s, batch {size}", "prompts/s, batch 1", "gain"])
    for batch in batches:
        low, high = batch.tokens_per_layer
        kept = f"{low:.1f}" if low == high else f"{low:.1f}-{high:.1f}"
        table.rows.append([batch.setting, kept, f"{batch.together.median:.2f}", f"{batch.alone.median:.2f}", f"{batch.gain:.2f}"])
    return table


def in_flight_table(rows: Sequence[InFlightRow], lengths: Sequence[int], steps: int) -> Grid:
    """Throughput at once and one after the other, and what a prompt waits."""
    count = rows[0].in_flight
    title = f"{count} prompts of {min(lengths)}-{max(lengths)} tokens in flight at once, a thread each; prefill and {steps} decode steps"
    heads = ["setting", f"prompts/s, {count} at once", "prompts/s, 1 at a time", "gain", "ms a prompt", "p10-p90"]
    table = Grid(title.replace(" 1 decode steps", " 1 decode step"), heads)
    for row in rows:
        ms = row.latency_ms
        cells = [
            f"{row.together.median:.2f}",
            f"{row.alone.median:.2f}",
            f"{row.gain:.2f}",
            f"{ms.median:.0f}",
            f"{ms.p10:.0f}-{ms.p90:.0f}",
        ]
        table.rows.append([row.setting, *cells])
    return table


def questions_table(title: str, rows: Sequence[QuestionsRow]) -> Grid:
    """All questions of a keyframe beside as many single ones, and where the time of both goes."""
    count = rows[0].questions
    heads = [f"{stage} ms" for stage in STAGES]
    table = Grid(
        f"{count} questions of one keyframe, {title}", ["setting", "asked", *heads, "other ms", "in all s", f"of {count} single ones"]
    )
    for row in rows:
        for asked, taken, ms, times in (
            (f"{count} of one keyframe", row.shared, row.shared_ms, 1),
            (f"{count} x one alone", row.single, row.single_ms, count),
        ):
            stages = [times * ms[stage] for stage in STAGES]
            whole = times * taken.median
            other = 1e3 * whole - sum(stages)
            share = f"{row.ratio:.3f}" if times == 1 else "1"
            rest = f"{other:.0f}" if other >= 0 else "-"  # all in processor time, its stages by the wall clock
            table.rows.append([row.setting, asked, *(f"{ms:.0f}" for ms in stages), rest, f"{whole:.2f}", share])
    table.notes.append(
        f"answers of {ANSWER_TOKENS} tokens, stages: medians by the wall clock. images: files opened, padded, resized; "
        "vision: tower, projector, adapter; "
        f"one alone: one question of a keyframe of its own, counted {count} times"
    )
    return table


def compare_table(pairs: Sequence[Pair], path: str) -> Grid:
    """Then and now, setting by setting."""
    table = Grid(f"beside {path}", ["setting", "prefill ms then", "now", "now / then", "speed-up then", "now"])
    for pair in pairs:
        ratio = pair.now_ms / pair.before_ms
        table.rows.append(
            [
                pair.setting,
                f"{pair.before_ms:.1f}",
                f"{pair.now_ms:.1f}",
                f"{ratio:.3f}",
                f"{pair.before_speedup:.2f}",
                f"{pair.now_speedup:.2f}",
            ]
        )
    table.notes.append("Times of two starts differ by whatever else ran; speed-ups are over the unpruned row of the same start.")
    return table
