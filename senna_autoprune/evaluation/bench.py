"""What pruning really saves: wall time of prefill and decode on a Senna-shaped decoder with random weights, beside the FLOPs bound.

Settings are timed in turn, round after round, and speed-ups are medians of the ratios within a round: a machine that drifts slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import SampleContext
from senna_autoprune.pruning.policy import Policy
from senna_autoprune.pruning.trace import Trace

TOKENS_PER_VIEW = 128
VICUNA_MLP_RATIO = 11008 / 4096


@dataclass(frozen=True)
class BenchShape:
    """A decoder and a prompt. hidden, mlp: widths; text_tokens: all text of the prompt, spread as in Senna's (before, between, after)."""

    layers: int = 24
    hidden: int = 768
    heads: int = 12
    mlp: int | None = None
    vocabulary: int = 32000
    views: int = 6
    text_tokens: int = 200

    def __post_init__(self) -> None:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise SennaPruneError(f"bench: --hidden {self.hidden} must be an even multiple of --heads {self.heads}")
        if self.layers < 2 or self.views < 1 or self.text_tokens < self.views + 2:
            raise SennaPruneError("bench: needs at least 2 layers, 1 view, and 2 text tokens more than views")


def build_decoder(shape: BenchShape, dtype: torch.dtype, device: str, seed: int = 0) -> Any:
    """A stock LlamaForCausalLM of that shape with seeded random weights, SDPA attention, in eval mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.mlp or round(shape.hidden * VICUNA_MLP_RATIO / 16) * 16,
        vocab_size=shape.vocabulary,
        max_position_embeddings=4096,
    )
    config._attn_implementation = "sdpa"
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(previous)


def build_prompt(shape: BenchShape, dtype: torch.dtype, device: str, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Embeddings (1, N, d) and visual mask (1, N): a quarter of the text first, a little between views, at least a third after."""
    between = min(4, shape.text_tokens // (3 * shape.views))
    before = (shape.text_tokens - between * (shape.views - 1)) // 4
    after = shape.text_tokens - before - between * (shape.views - 1)
    mask = [False] * before
    for view in range(shape.views):
        mask += [True] * TOKENS_PER_VIEW + [False] * (between if view < shape.views - 1 else after)
    generator = torch.Generator().manual_seed(seed)
    embeds = torch.randn(1, len(mask), shape.hidden, generator=generator) * 0.02
    return embeds.to(device=device, dtype=dtype), torch.tensor([mask], device=device)


@dataclass(kw_only=True)
class LengthsAlone(Policy):
    """The same lengths with nothing looked at: each layer keeps its first tokens. What is left of the bound here is the machine's loss
    on shorter matrices (weights are read all the same), not the pruner's.

    entering: visual tokens entering each layer, from a trace.
    """

    entering: tuple[int, ...] = ()

    def allocate(self, context: SampleContext) -> Allocation:
        """As given; the budget field is only nominal."""
        return Allocation(self.entering)

    def scores_from_attention(self, layer: int) -> bool:
        """Never."""
        return False

    def select(self, context: SampleContext, layer: int, count: int) -> Tensor:
        """The first ones."""
        return torch.arange(count, device=context.layout.visual.device)


def lengths_alone(policy: Policy, model: Any, embeds: Tensor, mask: Tensor) -> LengthsAlone:
    """The lengths that ``policy`` gives this prompt, as a policy of their own."""
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
class BenchRow:
    """One setting. speedup: median over rounds of unpruned / this prefill time; bound: ratio of FLOPs; reached: speedup / bound."""

    setting: str
    retention: float | None
    average_tokens: float
    prefill_ms: Timing
    decode_ms_per_token: Timing
    speedup: float
    flops_bound: float
    reached: float
    decode_speedup: float
    kv_bytes: int


def measure(
    model: Any,
    embeds: Tensor,
    mask: Tensor,
    policies: dict[str, Policy],
    *,
    rounds: int = 9,
    warmup: int = 2,
    decode_steps: int = 8,
    on_round: Callable[[int], None] = lambda done: None,
) -> list[BenchRow]:
    """Time the unpruned model and every policy in turn.

    Args:
        embeds: (1, N, d); mask: (1, N) bool. policies: name -> policy; "unpruned" is added.

    Returns:
        one BenchRow per setting, the unpruned one first.
    """
    names = ["unpruned", *policies]
    prefill: dict[str, list[float]] = {name: [] for name in names}
    decode: dict[str, list[float]] = {name: [] for name in names}
    traces: dict[str, Any] = {}
    for done in range(warmup + rounds):
        for turn in range(len(names)):
            name = names[(turn + done) % len(names)]
            context: AbstractContextManager[Trace | None] = policies[name](model, visual_mask=mask) if name in policies else nullcontext()
            with context as trace, torch.inference_mode():
                prefill_ms, decode_ms, kv_bytes = _time_once(model, embeds, decode_steps)
            if done >= warmup:
                prefill[name].append(prefill_ms)
                decode[name].append(decode_ms)
            traces[name] = (trace[0] if trace is not None else None, kv_bytes)
        on_round(done)
    rows = []
    visual = int(mask.sum())
    for name in names:
        trace, kv_bytes = traces[name]
        speedup = float(np.median(np.array(prefill["unpruned"]) / np.array(prefill[name])))
        bound = trace.flops_full / trace.flops_pruned if trace is not None else 1.0
        rows.append(
            BenchRow(
                setting=name,
                retention=trace.retention_tokens if trace is not None else None,
                average_tokens=trace.average_tokens if trace is not None else float(visual),
                prefill_ms=Timing.of(prefill[name]),
                decode_ms_per_token=Timing.of(decode[name]),
                speedup=speedup,
                flops_bound=bound,
                reached=speedup / bound,
                decode_speedup=float(np.median(np.array(decode["unpruned"]) / np.array(decode[name]))),
                kv_bytes=kv_bytes,
            )
        )
    return rows


def _time_once(model: Any, embeds: Tensor, steps: int) -> tuple[float, float, int]:
    """Milliseconds of one prefill, of one decode step (mean of ``steps``), and the cache's bytes after the prefill."""
    _synchronise(embeds)
    start = time.perf_counter()
    output = model(inputs_embeds=embeds, use_cache=True, logits_to_keep=1)
    _synchronise(embeds)
    prefilled = time.perf_counter()
    cache = output.past_key_values
    kv_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    token = output.logits[:, -1].argmax(-1, keepdim=True)
    begin = time.perf_counter()
    for _ in range(steps):
        token = model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)
    _synchronise(embeds)
    decoded = time.perf_counter()
    return (prefilled - start) * 1e3, (decoded - begin) * 1e3 / max(steps, 1), kv_bytes


def _synchronise(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)


def to_json(shape: BenchShape, rows: Sequence[BenchRow], **machine: Any) -> dict[str, Any]:
    """The whole measurement as one JSON-ready document; ``overhead_at_1`` is the cost of the hooks when nothing is pruned."""
    hooks_only = next((row for row in rows if row.setting.endswith("@1.00")), None)
    return {
        "shape": asdict(shape),
        **machine,
        "overhead_at_1": 1 / hooks_only.speedup - 1 if hooks_only else None,
        "rows": [asdict(row) for row in rows],
    }
