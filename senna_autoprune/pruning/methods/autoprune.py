"""AutoPrune: the question's complexity bends a retention curve over depth whose area is the budget (arXiv 2509.23931).

mode="paper" (default) is what the paper states, and is here; mode="release" is what the released code does, and is in
autoprune_release.py (spec autoprune.md; never blended).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation, solve_flops, solve_tokens
from senna_autoprune.pruning.context import PromptContext, Revived
from senna_autoprune.pruning.method import STOCK_SCORES
from senna_autoprune.pruning.methods import autoprune_release as release
from senna_autoprune.pruning.parts import indicators
from senna_autoprune.pruning.parts.curves import CURVES, CurveParameters, retention_curve
from senna_autoprune.pruning.parts.merging import merge_dropped
from senna_autoprune.pruning.parts.revival import split_for_merge
from senna_autoprune.pruning.policy import Policy

INDICATORS = ("mutual_information", "attention", "cosine", "static")


@dataclass(kw_only=True)
class AutoPrune(Policy):
    """Complexity-adaptive pruning. Give one budget: retention, tokens, tokens_per_view or flops.

    mode: "paper" or "release". scope: "scene" or "view". revival: "drop" or "merge" (paper mode; the release always merges).
    k0, gamma, x0, beta: eq. 8; None: 0.4, 0.2, 14.9 at 32 layers, scaled by depth in paper mode; beta defaults to gamma.
    indicator, curve: the ablations of Table 4. indicator_scale: factor that brings cosine or attention to MI's mean (calibrate).
    count: "entering" (layer 0 counted in full) or "leaving" (after each cut, as the release counts). min_keep: lower bound a layer.
    bucket: every layer after the first keeps a multiple of it, within the budget, so that shapes repeat (paper mode).
    quantum: the indicator is rounded to a multiple of it, so that prompts share few schedules; 0: as measured (paper mode).
    noise: release only; per layer the (M,) uniform numbers of its density ties, instead of drawing them from the seed.

    Raises:
        SennaPruneError: on an unknown option or an impossible budget.
    """

    mode: str = "paper"
    indicator: str = "mutual_information"
    curve: str = "logistic"
    revival: str = "drop"
    count: str = "entering"
    k0: float | None = None
    gamma: float | None = None
    x0: float | None = None
    beta: float | None = None
    indicator_scale: float = 1.0
    min_keep: int = 1
    bucket: int = 1
    quantum: float = 0.0
    noise: Mapping[int, Tensor] | None = None

    paper = "arXiv 2509.23931"
    optional = frozenset({"cls_scores"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("mode", ("paper", "release"))
        self.check_choice("indicator", INDICATORS)
        self.check_choice("curve", tuple(CURVES))
        self.check_choice("revival", ("drop", "merge"))
        self.check_choice("count", ("entering", "leaving"))
        self.released = self.mode == "release"
        self.positions = "compact" if self.released else "original"  # type: ignore[misc]
        self.needs = frozenset({"cls_scores"}) if self.released else frozenset()  # type: ignore[misc]
        self.spends = "released" if self.released else self.count  # type: ignore[misc]
        if not isinstance(self.bucket, int) or self.bucket < 1:
            raise SennaPruneError(f"AutoPrune: bucket must be a whole number of at least 1, got {self.bucket!r}")
        if not (isinstance(self.quantum, (int, float)) and 0 <= self.quantum < math.inf):
            raise SennaPruneError(f"AutoPrune: quantum must be a number of at least 0, got {self.quantum!r}")
        changed = [
            name
            for name, default in (
                ("indicator", "mutual_information"),
                ("curve", "logistic"),
                ("scope", "scene"),
                ("flops", None),
                ("bucket", 1),
                ("quantum", 0),
            )
            if self.released and getattr(self, name) != default
        ]
        if changed:
            raise SennaPruneError(f"AutoPrune: mode='release' reproduces the released code, without {', '.join(changed)}; use mode='paper'")

    def probes(self, layers: int) -> tuple[int, ...]:
        """The layers whose attention tells the complexity."""
        if self.released:
            return release.PROBES
        return (-1,) if self.indicator in ("static", "cosine") else (0,)

    def measure(self, context: PromptContext, layer: int) -> Tensor | None:
        """The complexity indicator, for the host."""
        if self.released:
            return release.measure(context, layer)
        if self.indicator == "static":
            return None
        if self.indicator == "cosine":
            value = indicators.cosine_similarity(context.visual_hidden, context.text_hidden)
        else:
            assert context.attention is not None
            rows = context.attention.mean_heads_to_visual()  # (1, T, V): both indicators begin with this mean
            function = indicators.mutual_information if self.indicator == "mutual_information" else indicators.average_attention
            value = function(rows)
        return value[None]

    def allocate(self, context: PromptContext) -> Allocation:
        """Eq. 5-8 in paper mode; the released schedule in release mode."""
        if self.released:
            return release.allocate(context, self.k0, self.gamma, self.x0)
        complexity = self.indicator_scale * indicators.finite(context.measured[0]) if context.measured else 0.0
        eq8 = CurveParameters.for_depth(context.layers, self.k0, self.gamma, self.x0, self.beta)
        level = round(complexity / self.quantum) * self.quantum if self.quantum else complexity
        k, x = eq8.steepness(level), eq8.inflexion(level)
        context.scratch["curve"] = {"mutual_information": complexity if context.measured else None, "k": k, "x0": x}
        return self._schedule(context, k, x)

    def _schedule(self, context: PromptContext, k: float, x: float) -> Allocation:
        """Paper steps 3-6: the renormalised curve as integers."""
        layers, visual = context.layers, context.visual
        depth, least = np.arange(1, layers + 1), {"min_keep": self.min_keep, "bucket": self.bucket}
        if self.flops is not None:
            shape = retention_curve(self.curve, k, x, layers, layers)(depth[:-1])
            counts = solve_flops(shape.tolist(), visual, context.text, self.flops, context.cost, **least)
        else:
            average = context.average_tokens()
            if average == visual:
                return Allocation((visual,) * layers)
            shape = retention_curve(self.curve, k, x, layers, average * layers)(depth)
            total = int(average * layers + 0.5)
            if self.count == "entering":
                counts = solve_tokens(shape[:-1].tolist(), visual, total, **least)
            else:  # what leaves the last layer counts, but cutting there would change nothing
                counts = solve_tokens(shape.tolist(), visual, total, **least, fixed=0)[:-1]
        entering = [visual, *counts]
        return Allocation(tuple(entering), self._merge_split(entering) if self.revival == "merge" else None)

    def _merge_split(self, entering: list[int]) -> tuple[int, ...]:
        selected = [entering[0]]
        for before, now in zip(entering[:-1], entering[1:], strict=True):
            selected.append(split_for_merge(before, now)[0])
        return tuple(selected)

    def ranks_by_mean_attention(self, layer: int) -> bool:
        """In paper mode, unless tokens are merged."""
        return not self.released and self.revival == "drop" and super().ranks_by_mean_attention(layer)

    def score(self, context: PromptContext, layer: int) -> Tensor:
        """Mean text-to-vision attention in the layer below."""
        attention = super().score(context, layer)
        return release.score(context, layer, attention) if self.released else attention

    def revive(self, context: PromptContext, layer: int, dropped: Tensor, count: int) -> Revived:
        """Merge the most relevant of the dropped into ``count`` cluster means."""
        return merge_dropped(context, dropped, count, (self.noise or {}).get(layer - 1))

    def describe(self, context: PromptContext) -> dict[str, Any]:
        """The indicator and the curve for the trace."""
        return context.scratch.get("curve", {})


STOCK_SCORES.add(AutoPrune.score)  # in paper mode
