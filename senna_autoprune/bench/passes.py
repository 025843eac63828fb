"""What pruning really saves: wall time of prefill and decode on a Senna-shaped decoder with random weights, beside the FLOPs bound.

Settings are timed in turn, round after round, and speed-ups are medians of the ratios within a round: a machine that drifts slows both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.bench.shapes import BenchShape
from senna_autoprune.device import Marks
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.cost import LayerCost
from senna_autoprune.pruning.decoder.models import CACHE
from senna_autoprune.pruning.policy import Policy
from senna_autoprune.pruning.trace import PromptTrace, Trace

UNPRUNED = "unpruned"
ALONE = "lengths alone@"


@dataclass(kw_only=True)
class LengthsAlone(Policy):
    """The same lengths with nothing looked at: each layer keeps its first tokens. What is left of the bound here is the machine's loss
    on shorter matrices (weights are read all the same), not the pruner's.

    entering: visual tokens entering each layer, from a trace.
    """

    entering: tuple[int, ...] = ()

    def allocate(self, context: PromptContext) -> Allocation:
        """As given; the budget field is only nominal."""
        return Allocation(self.entering)

    def scores_from_attention(self, layer: int) -> bool:
        """Never."""
        return False

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """The first ones."""
        return torch.arange(count, device=context.layout.visual.device)


def lengths_alone(policy: Policy, model: Any, embeds: Tensor, mask: Tensor) -> LengthsAlone:
    """The lengths that ``policy`` gives this prompt, as a policy of their own. A hollow model gives them sooner."""
    with policy(model, visual_mask=mask) as trace, torch.inference_mode():
        model(inputs_embeds=embeds, use_cache=False, logits_to_keep=1)
    return LengthsAlone(tokens=trace[0].average_tokens, entering=tuple(trace[0].tokens_per_layer))


@dataclass
class Timing:
    """Milliseconds over rounds: median, 10th and 90th percentile."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Timing:
        low, middle, high = np.percentile(np.asarray(values), [10, 50, 90])
        return cls(float(middle), float(low), float(high))


@dataclass
class Pass:
    """One prefill and the decoding after it, in milliseconds.

    kv_bytes: of the cache after the prefill. trace: None for the unpruned model. pruner_ms: the part of the prefill that was the
    pruner's; None where it cannot be told (trace.py). peak_bytes: most that torch held on a CUDA device meanwhile, weights included.
    """

    prefill_ms: float
    decode_ms: float  # a token
    kv_bytes: int
    trace: PromptTrace | None = None
    pruner_ms: float | None = None
    peak_bytes: int | None = None


@dataclass
class BenchRow:
    """One setting. speedup: median over rounds of unpruned / this prefill time; reached: speedup / flops_bound.

    flops_bound: ratio of FLOPs by the paper's formula, which counts attention as n^2. causal_bound: with causal attention counted as it
    is computed, n (n + 1) / 2; None: the decoder's sizes were not told. net: share of the prefill that looking costs: 1 less the median
    over rounds of the lengths alone's prefill over this one; None: they were not run.
    """

    setting: str
    retention: float | None
    average_tokens: float
    prefill_ms: Timing
    decode_ms_per_token: Timing
    pruner_ms: Timing | None
    speedup: float
    flops_bound: float
    reached: float
    decode_speedup: float
    kv_bytes: int
    causal_bound: float | None = None
    peak_bytes: int | None = None
    net: float | None = None


def in_turn(names: Sequence[str], rounds: int, warmup: int, on_round: Callable[[int], None]) -> Iterator[tuple[str, bool]]:
    """Every name once a round, each round from the next one on; and whether the round counts, or is one of ``warmup`` before them.

    on_round: told the number of the round that is done, from 0.
    """
    for done in range(warmup + rounds):
        for turn in range(len(names)):
            yield names[(turn + done) % len(names)], done >= warmup
        on_round(done)


def take_turns(
    passes: Mapping[str, Callable[[], Pass]],
    *,
    rounds: int = 9,
    warmup: int = 2,
    seldom: Collection[str] = (),
    seldom_rounds: int = 3,
    before_round: Callable[[], None] = lambda: None,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[str, list[Pass | None]]:
    """Run every setting's pass once a round, each round from the next one on.

    Args:
        passes: setting -> one timed pass. seldom: settings that run in ``seldom_rounds`` of the rounds only, the first among them, and in
            the warm-up. before_round: called at the start of each. on_round: told how many rounds are done, warm-up included.

    Returns:
        per setting, in order, its passes after the warm-up, None in a round that it sat out. An interrupt ends it early, with the rounds
        that were finished; if there is none, it is passed on.
    """
    names = list(passes)
    full = {rounds * index // min(seldom_rounds, rounds) for index in range(min(seldom_rounds, rounds))}
    seen: dict[str, list[Pass | None]] = {name: [] for name in names}
    try:
        for done in range(warmup + rounds):
            before_round()
            for turn in range(len(names)):
                name = names[(turn + done) % len(names)]
                sits_out = done >= warmup and name in seldom and done - warmup not in full
                one = None if sits_out else passes[name]()
                if done >= warmup:
                    seen[name].append(one)
            on_round(done + 1)
    except KeyboardInterrupt:
        if not all(seen.values()):
            raise
    finished = min(map(len, seen.values()))
    return {name: found[:finished] for name, found in seen.items()}


def to_rows(seen: Mapping[str, Sequence[Pass | None]], visual: int, cost: LayerCost | None = None) -> list[BenchRow]:
    """One BenchRow per setting, in order. The first is the unpruned model, which has ``visual`` visual tokens.

    Args:
        cost: of a layer of the decoder, for the causal bound.
    """
    reference = seen[next(iter(seen))]
    return [_row(name, passes, reference, visual, cost, seen.get(_twin(name))) for name, passes in seen.items()]


def _twin(name: str) -> str:
    """The setting that has this one's lengths alone."""
    return "" if name.startswith(ALONE) else f"{ALONE}{name.rpartition('@')[2]}"


def causal_bound(trace: PromptTrace, cost: LayerCost) -> float:
    """Multiply-accumulates of the full over those of the pruned prefill, causal attention counted as it is computed."""
    full = cost.causal(trace.visual_tokens + trace.text_tokens) * len(trace.tokens_per_layer)
    return full / sum(cost.causal(count + trace.text_tokens) for count in trace.tokens_per_layer)


def together(first: Sequence[Pass | None], second: Sequence[Pass | None]) -> list[tuple[Pass, Pass]]:
    """Passes of two settings in the rounds in which both ran."""
    return [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]


def _row(
    name: str,
    seen: Sequence[Pass | None],
    reference: Sequence[Pass | None],
    visual: int,
    cost: LayerCost | None,
    lengths: Sequence[Pass | None] | None,
) -> BenchRow:
    beside = [one.prefill_ms / other.prefill_ms for one, other in together(lengths, seen)] if lengths is not None else []
    pairs, passes = together(reference, seen), [one for one in seen if one is not None]
    speedup = float(np.median([before.prefill_ms / after.prefill_ms for before, after in pairs]))
    trace, pruner = passes[-1].trace, [one.pruner_ms for one in passes if one.pruner_ms is not None]
    bound = trace.flops_full / trace.flops_pruned if trace is not None else 1.0
    return BenchRow(
        setting=name,
        retention=trace.retention_tokens if trace is not None else None,
        average_tokens=trace.average_tokens if trace is not None else float(visual),
        prefill_ms=Timing.of([one.prefill_ms for one in passes]),
        decode_ms_per_token=Timing.of([one.decode_ms for one in passes]),
        pruner_ms=Timing.of(pruner) if pruner else None,
        speedup=speedup,
        flops_bound=bound,
        reached=speedup / bound,
        decode_speedup=float(np.median([before.decode_ms / after.decode_ms for before, after in pairs])),
        kv_bytes=passes[-1].kv_bytes,
        peak_bytes=max((one.peak_bytes for one in passes if one.peak_bytes is not None), default=None),
        net=1 - float(np.median(beside)) if beside else None,
        causal_bound=None if cost is None else causal_bound(trace, cost) if trace is not None else 1.0,
    )


class Passes:
    """Timed passes of one prompt through a decoder.

    Args:
        embeds: (1, N, d). mask: (1, N) bool. decode_steps: at least 1. clock: seconds; with another than the wall clock, which times the
            pruner in place (trace.py), its share is unknown.
    """

    def __init__(self, model: Any, embeds: Tensor, mask: Tensor, decode_steps: int, clock: Callable[[], float] = perf_counter) -> None:
        self.model, self.embeds, self.mask, self.decode_steps, self.clock = model, embeds, mask, decode_steps, clock

    @property
    def deep(self) -> Any:
        """A decoder of full depth."""
        return self.model

    def new_round(self) -> None:
        """Called before each round."""

    def of(self, policies: Mapping[str, Policy]) -> dict[str, Callable[[], Pass]]:
        """What ``take_turns`` wants: the unpruned model's pass and one of each policy."""
        settings: dict[str, Policy | None] = {UNPRUNED: None, **policies}
        return {name: partial(self.once, policy) for name, policy in settings.items()}

    def once(self, policy: Policy | None) -> Pass:
        """One pass of the whole decoder."""
        return self.run(self.model, policy, self.decode_steps)

    def run(self, model: Any, policy: Policy | None, steps: int) -> Pass:
        """One prefill and ``steps`` decode steps of ``model``, under ``policy`` or without."""
        context: AbstractContextManager[Trace | None] = policy(model, visual_mask=self.mask) if policy is not None else nullcontext()
        with context as trace, torch.inference_mode():
            marks = Marks(self.embeds.device, self.clock)
            on_cuda = self.embeds.is_cuda
            if on_cuda:
                torch.cuda.reset_peak_memory_stats(self.embeds.device)
            begun = marks.mark()
            output = model(inputs_embeds=self.embeds, use_cache=True, logits_to_keep=1)
            filled = marks.mark()
            cache = getattr(output, CACHE)
            kv_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
            token = output.logits[:, -1].argmax(-1, keepdim=True)
            begin = marks.mark()
            for _ in range(steps):
                logits = model(input_ids=token, **{CACHE: cache}, use_cache=True, logits_to_keep=1).logits
                token = logits[:, -1].argmax(-1, keepdim=True)
            decode_ms = marks.ms(begin, marks.mark()) / max(steps, 1)
            prefill_ms = marks.ms(begun, filled)
            peak = torch.cuda.max_memory_allocated(self.embeds.device) if on_cuda else None
        sample = trace[0] if trace is not None else None
        pruner_ms = sample.pruner_ms if sample is not None and self.clock is perf_counter else None
        return Pass(prefill_ms, decode_ms, kv_bytes, sample, pruner_ms, peak)


def to_json(shape: BenchShape, rows: Sequence[BenchRow], **more: Any) -> dict[str, Any]:
    """The whole measurement as one JSON-ready document; ``overhead_at_1`` is the cost of the hooks when nothing is pruned."""
    hooks_only = next((row for row in rows if row.setting.endswith("@1.00")), None)
    return {
        "shape": asdict(shape),
        **more,
        "overhead_at_1": 1 / hooks_only.speedup - 1 if hooks_only else None,
        "rows": [asdict(row) for row in rows],
    }
