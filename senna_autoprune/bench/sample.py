"""A deep decoder measured on a few of its layers: how long a layer takes for so many tokens, summed over the real schedule.

A pruned prefill runs every layer on another number of tokens, so a few layers cannot simply be multiplied. Instead:

    prefill(n_0..n_{L-1}) = sum_l t(n_l) + head + pruner          decode = sum_l d(n_l) + head

t(n), d(n): one stock layer's prefill of n tokens, and its decode step on a cache of n, measured again in every round on the layers at
hand, one after the other as in a decoder (so that weights come from memory, not from a cache), at up to ``POINTS`` of the lengths that
occur; straight lines between. head: embedding lookup, last norm and vocabulary. pruner: hooks, scores, cuts and gathers of all L layers
with the method's real lengths, measured at full depth on the hollow decoder (bench_hollow.py). FLOPs and KV bytes are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from torch import Tensor

from senna_autoprune.bench.hollow import bare_pass
from senna_autoprune.bench.passes import Pass, Passes, together
from senna_autoprune.pruning.policy import Policy

POINTS = 12


class LayerTimes:
    """Milliseconds of one layer against its tokens.

    Args:
        model: a LlamaForCausalLM of the sampled layers. embeds: (1, N, d). steps: decode steps to average over. clock: seconds.
    """

    def __init__(self, model: Any, embeds: Tensor, steps: int, clock: Callable[[], float] = perf_counter) -> None:
        self._model, self._embeds, self._steps, self._clock = model, embeds, steps, clock
        self._sampled = len(model.model.layers)
        self.head: tuple[float, float] = (0.0, 0.0)  # of a prefill, of a decode step
        self.lengths: list[int] = []
        self._times: list[tuple[float, float]] = []

    def measure(self, points: Sequence[int]) -> None:
        """Time the layers at these lengths anew."""
        self.lengths, self._times = sorted(points), []
        self.head = bare_pass(self._model, self._embeds, [], self._steps, clock=self._clock)
        for length in self.lengths:
            embeds, lengths = self._embeds[:, :length], [length] * self._sampled
            prefill, decode = bare_pass(self._model, embeds, lengths, self._steps, head=False, clock=self._clock)
            self._times.append((prefill / self._sampled, decode / self._sampled))

    @property
    def last(self) -> dict[int, tuple[float, float]]:
        """The latest times: tokens -> milliseconds of a prefill and of a decode step."""
        return dict(zip(self.lengths, self._times, strict=True))

    def total(self, tokens_per_layer: Sequence[int]) -> tuple[float, float]:
        """A prefill and a decode step of layers that see so many tokens, head included."""
        prefill, decode = (np.interp(tokens_per_layer, self.lengths, column).sum() for column in zip(*self._times, strict=True))
        return float(prefill) + self.head[0], float(decode) + self.head[1]


def spread_lengths(lengths: set[int], points: int = POINTS) -> list[int]:
    """At most ``points`` of the lengths: the shortest, the longest, and always the one farthest from those taken. Ascending."""
    left = sorted(lengths)
    taken = [left.pop(0)] + ([left.pop()] if left else [])
    while left and len(taken) < points:
        taken.append(max(left, key=lambda length: min(abs(length - other) for other in taken)))
        left.remove(taken[-1])
    return sorted(taken)


class SampledPasses(Passes):
    """Passes of the decoder that ``hollow`` (bench_hollow.py) has the depth of, scaled from the layers that ``model`` has.

    Call ``new_round`` before each round: the layers are timed in the same round as what is scaled from them.
    """

    def __init__(
        self, model: Any, hollow: Any, embeds: Tensor, mask: Tensor, decode_steps: int, clock: Callable[[], float] = perf_counter
    ) -> None:
        super().__init__(model, embeds, mask, decode_steps, clock)
        self.hollow = hollow
        self.times = LayerTimes(model, embeds, decode_steps, clock)
        self._lengths = {embeds.shape[1]}

    @property
    def deep(self) -> Any:
        """The hollow one: only that has all layers."""
        return self.hollow

    def plan(self, policies: Sequence[Policy]) -> None:
        """Learn which lengths occur under ``policies``."""
        for policy in policies:
            self._lengths.update(self._entering(self.run(self.hollow, policy, 0)))

    def new_round(self) -> None:
        """Time the layers again."""
        self.times.measure(spread_lengths(self._lengths))

    def once(self, policy: Policy | None) -> Pass:
        """One scaled pass; the pruner in it is measured, not scaled."""
        hollow = self.run(self.hollow, policy, 0)
        prefill, decode = self.times.total(self._entering(hollow))
        pruner = self._pruner(hollow)
        return Pass(prefill + pruner, decode, hollow.kv_bytes, hollow.trace, pruner if policy is not None else None)

    def _pruner(self, hollow: Pass) -> float:
        """The pruner's own time; where that cannot be told, what the prefill took more than its layers without a pruner."""
        if hollow.trace is None:
            return 0.0
        if hollow.pruner_ms is not None:
            return hollow.pruner_ms
        return hollow.prefill_ms - bare_pass(self.hollow, self.embeds, self._entering(hollow), clock=self.clock)[0]

    def describe(self) -> dict[str, Any]:
        """What was measured on how many layers, and how the rest came about."""
        built, layers, lengths = len(self.model.model.layers), len(self.hollow.model.layers), len(self._lengths)
        times = {length: {"prefill_ms": prefill, "decode_ms": decode} for length, (prefill, decode) in self.times.last.items()}
        return {
            "figures": ["prefill_ms", "speedup", "reached", "decode_ms_per_token", "decode_speedup"],
            "how": (
                f"{built} of {layers} layers were built. In every round they were timed at {len(times)} of the {lengths} lengths that the "
                f"schedules hold; a setting's time is the sum over its {layers} lengths. The pruner ran at full depth."
            ),
            "layers_built": built,
            "layer_ms": times,
            "head_ms": {"prefill_ms": self.times.head[0], "decode_ms": self.times.head[1]},
        }

    def _entering(self, hollow: Pass) -> list[int]:
        """Tokens, text included, that enter each layer."""
        if hollow.trace is None:
            return [self.embeds.shape[1]] * len(self.hollow.model.layers)
        return [count + hollow.trace.text_tokens for count in hollow.trace.tokens_per_layer]


@dataclass(frozen=True)
class SampleCheck:
    """How far a setting's scaled times are from the whole decoder's: medians of their ratios within a round."""

    setting: str
    prefill: float
    decode: float

    @classmethod
    def of(cls, setting: str, scaled: Sequence[Pass | None], whole: Sequence[Pass | None]) -> SampleCheck:
        pairs = together(scaled, whole)
        return cls(
            setting,
            float(np.median([one.prefill_ms / other.prefill_ms for one, other in pairs])),
            float(np.median([one.decode_ms / other.decode_ms for one, other in pairs])),
        )
