"""What a sweep says in one sentence: down to which budget each method's loss is shown to be small, and what is left at the smallest.

The bounds are those of ``measures.verdict`` (one-sided 95 %, by scene), each on its own: with twelve methods one of them is lucky, so
the sentence points to ``senna-prune budget``, which chooses on one half of the scenes and certifies on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from senna_autoprune.evaluation.measures.clusters import NO_VERDICT
from senna_autoprune.evaluation.measures.verdict import CONFIDENCE, points, up

MARGIN = 0.02  # points of accuracy that may be lost: the largest margin that ``senna-prune budget`` takes of itself
NAMED = 3  # methods at most that the sentence names


def sweep_verdict(entries: Sequence[Mapping[str, Any]], scenes: int) -> dict[str, Any] | None:
    """``margin``, ``reached`` (method -> the smallest budget down to which it is shown to lose at most the margin) and ``sentence``.

    Args:
        entries: of ``table.tabulate``, those of methods with ``lower``, the bound of their loss, and ``retention_tokens``.
    Returns:
        None where no method was measured.
    """
    found = [entry for entry in entries if entry["kind"] == "method" and entry["status"] == "ok" and "lower" in entry]
    found = [entry for entry in found if entry.get("retention_tokens") is not None]
    if not found:
        return None
    if scenes < NO_VERDICT:
        said = f"no verdict, {scenes} scene{'s' * (scenes != 1)} (at least {NO_VERDICT} are needed)"
        return {"margin": MARGIN, "reached": {}, "sentence": said}
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for entry in sorted(found, key=lambda one: one["retention_tokens"], reverse=True):
        rows.setdefault(entry["row"], []).append(entry)
    reached: dict[str, Mapping[str, Any]] = {}
    for row, cells in rows.items():
        for cell in cells:  # from the largest budget down, stopping at the first that is not shown
            if cell["lower"] is None or cell["lower"] <= -MARGIN:
                break
            reached[row] = cell
    said = f"{CONFIDENCE}, {scenes} scenes, each of {len(rows)} on its own; one certified: senna-prune budget"
    if reached:
        best = sorted(reached, key=lambda row: reached[row]["retention_tokens"])
        words = [f"{row} down to {_share(reached[row])}" for row in best[:NAMED]]
        more = f" and {len(best) - NAMED} more" if len(best) > NAMED else ""
        first = f"not worse by more than {points(MARGIN)}: {', '.join(words)}{more} of tokens ({said})"
    else:
        near = max(found, key=lambda one: -1.0 if one["lower"] is None else one["lower"])
        closest = (
            ""
            if near["lower"] is None
            else f"; closest: {near['row']} at {_share(near)}, not worse by more than {points(up(-near['lower']))}"
        )
        first = f"no method is shown to lose at most {points(MARGIN)} at any of these budgets{closest} ({said})"
    return {"margin": MARGIN, "reached": {row: cell["budget"] for row, cell in reached.items()}, "sentence": f"{first}; {_least(found)}"}


def _least(found: Sequence[Mapping[str, Any]]) -> str:
    """What is kept at the smallest budget: where it breaks."""
    smallest = min(found, key=lambda one: one["retention_tokens"])
    there = [entry for entry in found if entry["budget"] == smallest["budget"]]
    best = max(there, key=lambda one: one["accuracy"]["value"])
    kept = (best.get("retention") or {}).get("value")
    held = f"accuracy {100 * best['accuracy']['value']:.1f} %" if kept is None else f"{100 * kept:.1f} % of the accuracy"
    return f"at {_share(smallest)} the most is kept by {best['row']}, {held}"


def _share(entry: Mapping[str, Any]) -> str:
    return f"{100 * entry['retention_tokens']:.3g} %"
