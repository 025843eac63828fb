"""One benchmark from its plan: refuse what does not fit, time the vision stage, build the decoder, time every setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor

from senna_autoprune.bench.hollow import hollow_decoder
from senna_autoprune.bench.memory import check_fits, needed
from senna_autoprune.bench.passes import ALONE, BenchRow, Passes, Timing, lengths_alone, take_turns, to_rows
from senna_autoprune.bench.sample import SampleCheck, SampledPasses
from senna_autoprune.bench.shapes import BenchShape, build_decoder, build_prompt
from senna_autoprune.bench.vision import time_vision
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.cost import LayerCost
from senna_autoprune.pruning.methods.registry import build_policy
from senna_autoprune.pruning.policy import Policy
from senna_autoprune.senna.configuration import SennaConfig

SMALLEST_SAMPLE = 2
CLOCKS = {"wall": perf_counter, "cpu": process_time}  # cpu: of all threads, blind to other jobs on the machine


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    vision: Senna's configuration, if its vision stage is to be timed. layers_sample: layers to build; None: all.
    check_sample: build the whole decoder beside the sample and compare. shares: retentions below 1. controls: also the rows at 1.00 and
    of the lengths alone, in ``control_rounds`` of the rounds. options: of the method, but for its budget and seed. clock: of ``CLOCKS``.
    batch_size: most prompts at once, only for the memory they take. bucket: of the method (AutoPrune's).

    Raises:
        SennaPruneError: if the sample is larger than the whole, batches are asked of a sample, there is no sample to check, or the clock
            does not fit the device.
    """

    shape: BenchShape
    shares: tuple[float, ...]
    method: str = "autoprune"
    options: Mapping[str, Any] = field(default_factory=dict)
    vision: SennaConfig | None = None
    layers_sample: int | None = None
    check_sample: bool = False
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    rounds: int = 9
    warmup: int = 2
    decode_steps: int = 8
    controls: bool = True
    control_rounds: int = 9
    clock: str = "wall"
    batch_size: int = 1
    seed: int = 0
    bucket: int = 1

    def __post_init__(self) -> None:
        if self.built > self.shape.layers:
            raise SennaPruneError(f"bench: --layers-sample {self.built} is more than the {self.shape.layers} layers there are")
        if self.clock != "wall" and not self.device.startswith("cpu"):
            raise SennaPruneError(f"bench: CPU time says nothing about {self.device}; use --clock wall")
        if self.check_sample and not self.layers_sample:
            raise SennaPruneError("bench: --check-sample compares a sample with the whole decoder; give --layers-sample too")
        twice = {"retention", "seed", *(["bucket"] if self.bucket > 1 else [])} & set(self.options)
        if twice:
            raise SennaPruneError(f"bench: {', '.join(sorted(twice))} has an option of its own: leave it out of the method's")
        if self.layers_sample and self.batch_size > 1:
            raise SennaPruneError(
                "bench: prompts together are measured on whole decoders only; drop --batch-size and --concurrency, or --layers-sample"
            )

    @property
    def built(self) -> int:
        """Layers to build."""
        return self.layers_sample or self.shape.layers

    def name(self, share: float) -> str:
        """Of a setting: ``autoprune:mode=release@0.25``."""
        said = ",".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        return f"{self.method}:{said}@{share:.2f}" if said else f"{self.method}@{share:.2f}"

    def policies(self) -> dict[str, Policy]:
        """The method at every share, and at 1.00 as a control."""
        shares = (1.0, *self.shares) if self.controls else self.shares
        given = {**({"bucket": self.bucket} if self.bucket > 1 else {}), **self.options}
        return {self.name(share): build_policy(self.method, retention=share, seed=self.seed, **given) for share in shares}

    def check_memory(self) -> None:
        """Raises:
        SennaPruneError: if the decoder does not fit; with both figures, and what a sample would need.
        """
        least = needed(self.shape, self.dtype, SMALLEST_SAMPLE)
        need = needed(self.shape, self.dtype, self.built, self.batch_size)
        if self.check_sample:
            whole = needed(self.shape, self.dtype, self.shape.layers)
            need, advice = replace(whole, weights=whole.weights + need.weights), "leave --check-sample out"
        else:
            sample = f"measure a sample instead: --layers-sample {SMALLEST_SAMPLE} needs {least.total / 1e9:.1f} GB"
            advice = "free some first" if self.built == SMALLEST_SAMPLE else sample
        check_fits(need, self.device, advice)


@dataclass
class BenchResult:
    """What came of a plan.

    rows: of the decoder that was built, or scaled from it. rounds: that were finished, fewer after an interrupt. vision: of all views of a
    scene. scaled: how the rows were scaled from a sample; None: nothing was. whole, check: with ``check_sample`` the whole decoder's rows,
    and the two compared. model: the decoder that was built, for further measurements. prompt: embeddings and visual mask.
    """

    rows: list[BenchRow]
    rounds: int
    policies: dict[str, Policy]
    vision: Timing | None
    scaled: dict[str, Any] | None
    whole: list[BenchRow] | None
    check: list[SampleCheck] | None
    model: Any
    prompt: tuple[Tensor, Tensor]


def run(plan: BenchPlan, on_step: Callable[[str, int, int | None], None] = lambda what, done, total: None) -> BenchResult:
    """Measure.

    Args:
        on_step: told what is being done, how much of it, and of how much (None: unknown).

    Raises:
        SennaPruneError: if the method or a budget is impossible, or memory is short.
    """
    policies, clock = plan.policies(), CLOCKS[plan.clock]
    plan.check_memory()
    vision = None
    if plan.vision is not None:
        vision = time_vision(
            plan.vision,
            plan.shape.views,
            plan.dtype,
            plan.device,
            rounds=plan.rounds,
            seed=plan.seed,
            clock=clock,
            on_round=lambda done: on_step("vision", done, plan.rounds + 1),
        )
    on_step(f"building {plan.built} layers", 0, None)
    model = build_decoder(plan.shape, plan.dtype, plan.device, plan.seed, layers=plan.built)
    embeds, mask = build_prompt(plan.shape, plan.dtype, plan.device, plan.seed + 1)
    passes = Passes(model, embeds, mask, plan.decode_steps, clock)
    if plan.layers_sample:
        passes = SampledPasses(model, hollow_decoder(model, plan.shape.layers, embeds), embeds, mask, plan.decode_steps, clock)
    settings, controls = dict(policies), {plan.name(1.0)}
    if plan.controls:
        for share in plan.shares:
            control = f"{ALONE}{share:.2f}"
            settings[control] = lengths_alone(policies[plan.name(share)], passes.deep, embeds, mask)
            controls.add(control)
    if isinstance(passes, SampledPasses):
        passes.plan(list(settings.values()))
    turns = passes.of(settings)
    names = list(turns)
    if plan.check_sample:
        on_step(f"building all {plan.shape.layers} layers", 0, None)
        whole_model = build_decoder(plan.shape, plan.dtype, plan.device, plan.seed)
        everything = Passes(whole_model, embeds, mask, plan.decode_steps, clock)
        turns |= {f"whole {name}": one for name, one in everything.of(settings).items()}
    seen = take_turns(
        turns,
        rounds=plan.rounds,
        warmup=plan.warmup,
        seldom={name for name in turns if name.removeprefix("whole ") in controls},
        seldom_rounds=plan.control_rounds,
        before_round=passes.new_round,
        on_round=lambda done: on_step("rounds", done, plan.warmup + plan.rounds),
    )
    visual, cost = int(mask.sum()), LayerCost.from_config(model.config)
    whole = {name: seen[f"whole {name}"] for name in names} if plan.check_sample else None
    return BenchResult(
        rows=to_rows({name: seen[name] for name in names}, visual, cost),
        rounds=len(seen[names[0]]),
        policies=policies,
        vision=vision,
        scaled=passes.describe() if isinstance(passes, SampledPasses) else None,
        whole=to_rows(whole, visual, cost) if whole else None,
        check=[SampleCheck.of(name, seen[name], whole[name]) for name in names] if whole else None,
        model=model,
        prompt=(embeds, mask),
    )
