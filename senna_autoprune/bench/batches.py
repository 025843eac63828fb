"""Prefill throughput in ragged batches: N different prompts at once against the same N one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from senna_autoprune.bench.passes import UNPRUNED, Timing, in_turn
from senna_autoprune.bench.shapes import BenchShape, build_prompt
from senna_autoprune.device import Marks
from senna_autoprune.pruning.decoder.whole_batch import one_prompt_at_a_time
from senna_autoprune.pruning.policy import Policy
from senna_autoprune.pruning.trace import Trace

SPREAD = 0.1  # the shortest prompt of a batch has this share of the text less than the longest


@dataclass
class BatchRow:
    """One setting. ``together``, ``alone``: prompts/s in a batch of ``batch_size`` and one by one (over rounds);
    ``gain``: median of their ratios within a round. ``tokens_per_layer``: lowest and highest average of the batch's prompts.
    """

    setting: str
    batch_size: int
    together: Timing
    alone: Timing
    gain: float
    tokens_per_layer: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the timings are named for what they are."""
        found = asdict(self)
        found["prompts_per_s_together"], found["prompts_per_s_alone"] = found.pop("together"), found.pop("alone")
        return found


def build_prompts(shape: BenchShape, size: int, dtype: torch.dtype, device: str, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """``size`` prompts (1, N_i, d) with visual masks (1, N_i), all different, their text ``SPREAD`` apart in length."""
    fewest = max(shape.views + 2, round(shape.text_tokens * (1 - SPREAD)))
    prompts = []
    for index in range(size):
        text = shape.text_tokens - (shape.text_tokens - fewest) * index // max(size - 1, 1)
        changed = BenchShape(**{**asdict(shape), "text_tokens": text})
        prompts.append(build_prompt(changed, dtype, device, seed + index))
    return prompts


def pad(prompts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Left-padded embeddings (B, N, d), visual mask (B, N) and attention mask (B, N)."""
    longest = max(embeds.shape[1] for embeds, _ in prompts)
    first = prompts[0][0]
    embeds = first.new_zeros(len(prompts), longest, first.shape[2])
    visual = torch.zeros(len(prompts), longest, dtype=torch.bool, device=first.device)
    valid = torch.zeros(len(prompts), longest, dtype=torch.long, device=first.device)
    for row, (one, mask) in enumerate(prompts):
        start = longest - one.shape[1]
        embeds[row, start:], visual[row, start:], valid[row, start:] = one[0], mask[0], 1
    return embeds, visual, valid


def measure_batches(
    model: Any,
    prompts: list[tuple[Tensor, Tensor]],
    policies: dict[str, Policy],
    *,
    rounds: int = 3,
    warmup: int = 1,
    on_round: Callable[[int], None] = lambda done: None,
) -> list[BatchRow]:
    """Prompts per second, unpruned and under every policy; settings take turns. Padding is part of a batch's time.

    Args:
        prompts: of ``build_prompts``. policies: name -> policy; "unpruned" is added.
    """
    embeds, visual, valid = pad(prompts)
    names = [UNPRUNED, *policies]
    together: dict[str, list[float]] = {name: [] for name in names}
    alone: dict[str, list[float]] = {name: [] for name in names}
    kept: dict[str, tuple[float, float]] = {}
    marks = Marks(embeds.device)

    def timed(name: str, one: Tensor, mask: Tensor, attention: Tensor | None) -> tuple[float, list[float]]:
        pruned: AbstractContextManager[Trace] | None = policies[name](model, visual_mask=mask) if name in policies else None
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            trace = stack.enter_context(pruned) if pruned is not None else None
            if pruned is None and len(one) > 1:
                stack.enter_context(one_prompt_at_a_time(model))  # as the evaluation asks unpruned batches
            start = marks.mark()
            model(inputs_embeds=one, attention_mask=attention, use_cache=True, logits_to_keep=1)
            seconds = marks.ms(start, marks.mark()) / 1e3
        return seconds, [sample.average_tokens for sample in trace] if trace is not None else [float(mask[0].sum())]

    for name, counts in in_turn(names, rounds, warmup, on_round):
        batch, averages = timed(name, embeds, visual, valid)
        single = sum(timed(name, one, mask, None)[0] for one, mask in prompts)
        kept[name] = (min(averages), max(averages))
        if counts:
            together[name].append(len(prompts) / batch)
            alone[name].append(len(prompts) / single)
    return [
        BatchRow(
            name,
            len(prompts),
            Timing.of(together[name]),
            Timing.of(alone[name]),
            float(torch.tensor([b / a for b, a in zip(together[name], alone[name], strict=True)]).median()),
            kept[name],
        )
        for name in names
    ]
