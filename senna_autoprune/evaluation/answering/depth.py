"""Complexity indicators in every layer of the unpruned decoder, and how each ranks questions beside their constructed complexity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.calibration import INDICATORS, probe_questions
from senna_autoprune.evaluation.measures.clusters import clusters_of
from senna_autoprune.evaluation.measures.complexity import complexity_of, spearman
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts import indicators
from senna_autoprune.pruning.policy import Policy

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna


@dataclass(kw_only=True)
class DepthProbe(Policy):
    """Prunes nothing; ``found`` holds a dict a prompt: indicator -> its value in each layer (L,)."""

    retention: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.found: list[dict[str, list[float]]] = []

    def probes(self, layers: int) -> tuple[int, ...]:
        """The decoder's input, for the cosine of layer 0, and every layer."""
        return tuple(range(-1, layers))

    def measure(self, context: PromptContext, layer: int) -> Tensor:
        """(1,) cosine of what enters the next layer; after a layer also (2,) its mutual information and average attention."""
        cosine = indicators.cosine_similarity(context.visual_hidden, context.text_hidden)[None]
        if layer < 0:
            return cosine
        assert context.attention is not None
        rows = context.attention.mean_heads_to_visual()  # (1, T, V)
        return torch.cat([cosine, indicators.mutual_information(rows)[None], indicators.average_attention(rows)[None]])

    def allocate(self, context: PromptContext) -> Allocation:
        """Everything, in every layer."""
        rows = context.scratch.setdefault("layers", {name: [] for name in INDICATORS})
        cosine, *attention = context.measured
        for name, value in zip(("mutual_information", "attention"), attention, strict=False):  # none below the first layer
            rows[name].append(value)
        if context.boundary < context.layers:
            rows["cosine"].append(cosine)
        else:
            self.found.append(rows)
        return Allocation((context.visual,) * context.layers)


def by_layer(
    model: DrivingModel | Senna, questions: Sequence[QuestionRow], root: Path, prompt_template: str = "eval", seed: int = 0
) -> dict[str, Any]:
    """Rank correlation (Spearman) of each indicator with constructed complexity, layer by layer; one unpruned prefill a question.

    The interval is given for the layer that correlates most and for the layer that the method reads; the former is the greatest of
    as many as there are layers, so its interval is too narrow.

    Returns:
        ``questions``, ``layers``, and by type ("all" first) and indicator: ``by_layer`` (L,) of values or None, ``strongest`` (layer with
        value, low, high), ``read`` (the same for layer 0).
    Raises:
        SennaPruneError: fewer than three questions have a complexity and images that can be read.
    """
    probe, stated = DepthProbe(), [question for question in questions if complexity_of(question.attributes) is not None]
    asked = probe_questions(model, probe, stated, root, prompt_template)
    if len(asked) < 3:
        raise SennaPruneError(
            f"{len(asked)} questions have a constructed complexity and images that can be read; by layer needs three: the sidecar of "
            "the question file states it, as the synthetic world's does"
        )
    values = [complexity_of(question.attributes) or 0.0 for question in asked]
    scenes, depth = clusters_of(asked), len(probe.found[0]["mutual_information"])
    found: dict[str, Any] = {"questions": len(asked), "layers": depth, "types": {}}
    for kind in ("all", *dict.fromkeys(question.type for question in asked)):
        at = [i for i, question in enumerate(asked) if kind in ("all", question.type)]
        found["types"][kind] = {
            name: _one(
                [[probe.found[i][name][layer] for i in at] for layer in range(depth)],
                [values[i] for i in at],
                [scenes[i] for i in at],
                seed,
            )
            for name in INDICATORS
        }
    return found


def _one(layers: list[list[float]], values: list[float], scenes: list[Any], seed: int) -> dict[str, Any]:
    """``layers`` (L, Q) of one indicator."""
    correlations = [spearman(row, values, scenes, resamples=0)["value"] for row in layers]
    known = [layer for layer, value in enumerate(correlations) if value is not None]
    strongest = max(known, key=lambda layer: abs(correlations[layer] or 0.0), default=None)
    chosen = {"read": 0, "strongest": strongest}
    return {"by_layer": correlations} | {
        name: None if layer is None else {"layer": layer, **spearman(layers[layer], values, scenes, seed=seed)}
        for name, layer in chosen.items()
    }
