"""Label-free calibration: what the complexity indicators say of some questions -> factors and gamma that fit this model.

Mutual information's scale depends on the model: with sharp attention the paper's gamma clamps k at 0 for every question,
and nothing adapts. Nothing here reads a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.answerer import asked_of
from senna_autoprune.evaluation.answering.models import driving_model
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.decoder.models import find_decoder
from senna_autoprune.pruning.parts import indicators
from senna_autoprune.pruning.parts.curves import CurveParameters
from senna_autoprune.pruning.policy import Policy

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna

INDICATORS = ("mutual_information", "attention", "cosine")
LOWEST_K = 0.1  # of k0, at the 95th percentile of the indicator


@dataclass(kw_only=True)
class IndicatorProbe(Policy):
    """Prunes nothing and takes down every sample's indicators in ``found``, a dict a sample."""

    retention: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.found: list[dict[str, float]] = []

    def probes(self, layers: int) -> tuple[int, ...]:
        """The decoder's input (cosine) and layer 0 (the two that read attention)."""
        return (-1, 0)

    def measure(self, context: PromptContext, layer: int) -> Tensor:
        """(1,) cosine, then (2,) mutual information and average attention."""
        if layer < 0:
            return indicators.cosine_similarity(context.visual_hidden, context.text_hidden)[None]
        assert context.attention is not None
        rows = context.attention.to_visual()  # (H, T, V)
        return torch.stack([indicators.mutual_information(rows), indicators.average_attention(rows)])

    def allocate(self, context: PromptContext) -> Allocation:
        """Everything, in every layer."""
        if context.boundary == 0:
            context.scratch["cosine"] = context.measured[0]
        else:
            information, attention = context.measured
            values = {"mutual_information": information, "attention": attention, "cosine": context.scratch["cosine"]}
            self.found.append(values)
        return Allocation((context.visual,) * context.layers)


def probe_questions(
    model: DrivingModel | Senna, probe: Policy, questions: Iterable[QuestionRow], root: Path, prompt_template: str = "eval"
) -> list[QuestionRow]:
    """One prefill a question under a policy that only looks; returns those whose images could be read, in order.

    Args:
        root: folder of relative image paths.
    """
    driving, seen = driving_model(model, prompt_template), []
    for question in questions:
        try:
            asked = asked_of(question, root)
            prepared = driving.prepare(asked, driving.see(asked))
        except SennaPruneError:
            continue
        with torch.inference_mode(), probe(driving.model):
            driving.generate([prepared], 1)
        seen.append(question)
    return seen


def measure_indicators(
    model: DrivingModel | Senna, questions: Iterable[QuestionRow], root: Path, prompt_template: str = "eval"
) -> dict[str, list[float]]:
    """Every indicator of each question (one prefill a question). Questions whose images cannot be read are left out.

    Raises:
        SennaPruneError: fewer than two questions could be measured, or an indicator is not finite.
    """
    probe = IndicatorProbe()
    probe_questions(model, probe, questions, root, prompt_template)
    if len(probe.found) < 2:
        raise SennaPruneError("calibration: fewer than two questions could be measured; see --calibration and --images")
    values = {name: [found[name] for found in probe.found] for name in INDICATORS}
    for name, row in values.items():
        if not np.isfinite(row).all():
            raise SennaPruneError(f"calibration: {name} is not finite (broken weights, or a dtype too small)")
    return values


def scale_to_information(values: dict[str, list[float]], indicator: str) -> float:
    """The factor that brings the indicator's mean to mutual information's, to six digits.

    Raises:
        SennaPruneError: its mean is 0.
    """
    mean = float(np.mean(values[indicator]))
    if abs(mean) < 1e-12:
        raise SennaPruneError(f"calibration: the mean of {indicator} is 0 on these questions, no factor can scale it")
    return float(f"{np.mean(values['mutual_information']) / mean:.6g}")


def calibrated_gamma(information: Sequence[float], layers: int) -> dict[str, float]:
    """gamma and k0 with which k of eq. 8 runs from 0.1 K to K between the 95th and the 5th percentile of I.

    K is the paper's k0 at this depth. Two conditions fix slope and intercept: gamma = 0.9 K / (I95 - I5) and
    k0 = K + gamma I5; the inflexion, x = x0 + k by eq. 8 with beta = gamma, follows.

    Raises:
        SennaPruneError: the indicator is the same for (nearly) all questions, so nothing can adapt to them.
    """
    steepest = CurveParameters.for_depth(layers).k0
    low, high = np.quantile(np.asarray(information), [0.05, 0.95])
    if high - low < 1e-9:
        raise SennaPruneError("calibration: mutual information is the same for all questions: nothing can adapt to them")
    gamma = (1 - LOWEST_K) * steepest / (high - low)
    return {"gamma": float(f"{gamma:.6g}"), "k0": float(f"{steepest + gamma * low:.6g}")}


def calibrate(model: DrivingModel | Senna, questions: Sequence[QuestionRow], root: Path, prompt_template: str = "eval") -> dict[str, Any]:
    """All of the above as plain data, for a run's config: percentiles, factors, gamma with k0, and on how many questions."""
    model = driving_model(model, prompt_template)
    values = measure_indicators(model, questions, root, prompt_template)
    percentiles = {
        name: dict(zip(("p5", "p50", "p95"), np.quantile(row, [0.05, 0.5, 0.95]).tolist(), strict=True), mean=float(np.mean(row)))
        for name, row in values.items()
    }
    result: dict[str, Any] = {"questions": len(values["cosine"]), "indicators": percentiles, "indicator_scale": {}}
    for name in ("cosine", "attention"):
        result["indicator_scale"][name] = scale_to_information(values, name)
    layers = find_decoder(model.model).config.num_hidden_layers
    try:
        result["gamma"] = calibrated_gamma(values["mutual_information"], layers)
    except SennaPruneError as error:
        result["gamma"] = {"error": str(error)}
    return result
