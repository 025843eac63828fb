"""Survival of evidence over depth as a picture: a panel a class, a line a method at one budget, beside the random control."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from senna_autoprune.files.regular import require_own_folder
from senna_autoprune.report.drawing import save, sign
from senna_autoprune.report.svg import PAPER, Ink, drawing
from senna_autoprune.report.sweep_figures import colours_of
from senna_autoprune.survival.evidence import CLASSES
from senna_autoprune.survival.write import method_and_budget

NAME = "survival_by_layer"
MEANING = (
    "Of the tokens that show an object, the share that still enters each layer, a panel a class (in brackets: objects): the methods "
    "that keep most, and random (* control)."
)
MOST_LINES = 8  # beside the controls


def draw(directory: Path, result: Mapping[str, Any]) -> list[str]:
    """``figures/survival_by_layer`` of a result of ``survival`` as PNG and SVG, if it has a method's figures.

    Returns:
        the path of the PNG, relative to ``directory``; empty where there is nothing to draw.
    Raises:
        SennaPruneError: the folder cannot be written.
    """
    require_own_folder(directory / "figures")
    with drawing(PAPER):
        figure = survival_by_layer(result)
        if figure is None:
            return []
        sign(figure, result["label"])
        save(figure, directory / "figures" / f"{NAME}.png", directory / "figures" / f"{NAME}.svg")
    return [f"figures/{NAME}.png"]


def _chosen(result: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The budget that most settings reached (of several the middle one), and its settings by method, at most ``MOST_LINES`` of them: those
    that keep most, and random.
    """
    budgets: dict[str, dict[str, str]] = {}
    for name in result["measures"]:
        method, budget = method_and_budget(result, name)
        budgets.setdefault(budget, {})[method] = name
    most = [share for share, found in budgets.items() if len(found) == max(map(len, budgets.values()))]
    share = most[len(most) // 2]
    kinds = {method: result["settings"][name]["kind"] for method, name in budgets[share].items()}
    mean = {method: result["measures"][name]["all"]["mean"] for method, name in budgets[share].items()}
    best = sorted((m for m, kind in kinds.items() if kind == "method"), key=lambda m: -mean[m])[:MOST_LINES]
    return share, {method: name for method, name in budgets[share].items() if method in best or method == "random"}


def survival_by_layer(result: Mapping[str, Any], ink: Ink = PAPER) -> Any:
    """The figure; None where no method was measured."""
    if not result["measures"]:
        return None
    share, settings = _chosen(result)
    if set(settings) <= {"random"}:
        return None
    from matplotlib import pyplot

    named = {name for setting in settings.values() for name in result["measures"][setting]["class"]}
    classes = [name for name in CLASSES if name in named]
    figure, axes = pyplot.subplots(1, len(classes), figsize=(2.0 * len(classes) + 0.8, 2.6), sharey=True, squeeze=False)
    colours = colours_of(list(settings), {method: result["settings"][name]["kind"] for method, name in settings.items()}, ink)
    for axis, name in zip(axes[0], classes, strict=True):
        count = 0
        for method, setting in settings.items():
            found = result["measures"][setting]["class"].get(name)
            if found is None:
                continue
            count = max(count, found["objects"])
            label = f"{method} *" if method == "random" else method
            axis.plot([100 * value for value in found["by_layer"]["survival"]], color=colours[method], linewidth=1.4, label=label)
        axis.set_title(f"{name} ({count})", fontsize=9)
        axis.set_xlabel("decoder layer")
        axis.set_ylim(0, 103)
    axes[0][0].set_ylabel(f"evidence still there at {share}, %")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center left", bbox_to_anchor=(0.93, 0.5), fontsize=8)
    return figure
