"""Retention curves of a run as a figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from senna_autoprune.evaluation.runs.rows import AnswerRow, whole
from senna_autoprune.pruning.parts.curves import retention_curve

CURE = "`senna-prune calibrate` chooses a gamma for this model"
NEARLY_ALL, HARDLY = 0.9, 0.02  # of the questions flat: not adapted; of the tokens apart: hardly
CURVE_LIMIT = 200  # curves drawn at most


@dataclass(frozen=True)
class Family:
    """The questions of one setting of AutoPrune: their traces, each with k, x0 and mutual information."""

    name: str
    curve: str  # of ``pruning.curves.CURVES``
    traces: list[dict[str, Any]]

    @property
    def flat(self) -> int:
        """How many questions are so complex that k is clamped at 0."""
        return sum(trace["k"] <= 1e-12 for trace in self.traces)


def adaptation(one: Family) -> str:
    """Whether the method adapted to these questions, in a sentence: how much the simplest and the most complex keep at the same depth.

    Compared are the tenth of the questions with the lowest mutual information and the tenth with the highest (at least one each).
    """
    asked = len(one.traces)
    if one.flat > NEARLY_ALL * asked:
        return f"did not adapt: k is clamped at 0 for {one.flat} of {asked} questions, which all get the same flat curve; {CURE}"
    order = sorted(one.traces, key=lambda trace: trace["mutual_information"])
    tenth = max(1, asked // 10)
    kept = np.array([trace["tokens_per_layer"] for trace in (*order[:tenth], *order[-tenth:])], dtype=float)
    low, high = kept[:tenth].mean(0), kept[-tenth:].mean(0)  # (layers,) of the simplest and the most complex
    total = max(one.traces[0]["visual_tokens"], 1)
    layer = int(np.abs(high - low).argmax())
    apart = abs(high[layer] - low[layer]) / total
    said = f"layer {layer}: {low[layer]:.0f} of {total} tokens at low mutual information, {high[layer]:.0f} at high"
    if asked < 2 or apart < HARDLY:
        return f"hardly adapted: at most {100 * apart:.1f} % of the tokens apart ({said}); {CURE}"
    return f"adapted: {said}"


def family(name: str, curve: str, setting: str, answers: Sequence[AnswerRow]) -> Family | None:
    """The family of ``setting``; None if none of its answers has a curve."""
    traces = [whole(row.trace) for row in answers if row.setting == setting and row.trace is not None]
    curved = [trace for trace in traces if trace["k"] is not None and trace["mutual_information"] is not None]
    return Family(name, curve, curved) if curved else None


def draw_curves(families: Sequence[Family], budget: str, most: int | None = None) -> Any:
    """The paper's Fig. 2: each question's retention curve over depth, coloured by its mutual information.

    A row a family: on the left the curves of eq. 5-8 from the k and x0 of the traces, on the right what was really kept.

    Args:
        families: at least one. budget: of all of them, for the title. most: curves of a family; None: ``CURVE_LIMIT``.
    """
    from matplotlib import pyplot
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    most = CURVE_LIMIT if most is None else most
    values = [trace["mutual_information"] for one in families for trace in one.traces[:most]]
    low, high = min(values), max(values)
    scaled = any(re.search(r"indicator[= ](cosine|attention)", one.name) for one in families)
    both = ListedColormap(pyplot.get_cmap("viridis")(np.linspace(0.18, 0.92, 256)))  # seen on white and on black
    colours = ScalarMappable(Normalize(low, high if high > low else low + 1e-6), cmap=both)
    down = len(families)
    figure, axes = pyplot.subplots(down, 2, figsize=(8.2, 2.4 * down + 0.5), squeeze=False, sharey=True, layout="constrained")
    for one, (left, right) in zip(families, axes, strict=True):
        for trace in sorted(one.traces[:most], key=lambda trace: trace["mutual_information"]):
            layers, colour = len(trace["tokens_per_layer"]), colours.to_rgba(trace["mutual_information"])
            depth = np.linspace(0, layers, 100)
            area = trace["retention_tokens"] * layers
            shape = retention_curve(one.curve, trace["k"], trace["x0"], layers, area)(depth)
            left.plot(depth, 100 * shape, color=colour, linewidth=0.8, alpha=0.7)
            kept = 100 * np.asarray(trace["tokens_per_layer"]) / max(trace["visual_tokens"], 1)
            right.step(range(layers), kept, where="mid", color=colour, linewidth=0.8, alpha=0.7)
        asked = len(one.traces)
        said = [f"first {most} of {asked} questions"] if asked > most else []
        said += [f"{one.flat} of {asked} flat"] if one.flat else []
        left.set_title(one.name + (f" ({', '.join(said)})" if said else ""), fontsize=8, loc="left", parse_math=False)
        left.set_ylabel("visual tokens, %")
        left.set_ylim(0, None)
    for axis in axes.flat:
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes[-1]:
        axis.set_xlabel("layer")
    figure.suptitle(f"Budget {budget}: curves of eq. 5-8 by question (left), visual tokens entering each layer (right)", fontsize=10)
    what = "mutual information, nats" + (" (cosine and attention scaled to it)" if scaled else "")
    figure.colorbar(colours, ax=axes, label=what, pad=0.02, aspect=20 * down)
    return figure
