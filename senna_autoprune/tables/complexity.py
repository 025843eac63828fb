"""The sweep by constructed complexity as grids of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from senna_autoprune.tables.grid import Grid, interval

BANDS = ("simple", "medium", "complex")


def complexity_grids(found: Mapping[str, Any]) -> list[Grid]:
    """Retention by band; the paper's claim as an interaction; MI against complexity; the oracle. Empty parts are left out."""
    sizes = ", ".join(f"{found['questions'].get(band, 0)} {band}" for band in BANDS)
    bands = Grid(f"Retention by constructed complexity, % of unpruned ({sizes})", ["method", "budget", *BANDS], texts=(0, 1))
    for cell in found["cells"]:
        bands.rows.append([cell["row"], cell["budget"], *(interval(cell["bands"].get(band), "") for band in BANDS)])
    counts = ", ".join(f"{count} {kind}" for kind, count in found["types"].items() if count)
    bands.notes = [f"closed questions that every setting answered: {counts}; bands are terciles of steps + views + distractors / 4"]
    claim = Grid(
        "Does adapting pay on complex questions? (adaptive - static) on complex minus on simple",
        ["adaptive", "against", "budget", "points"],
    )
    claim.texts = (0, 1, 2)
    claim.rows = [[one["adaptive"], one["static"], one["budget"], interval(one, "")] for one in found["interactions"]]
    claim.notes = ["above 0: adapting gains more where questions are complex, as the paper claims; in brackets 95 % over scenes"]
    ranks = Grid("Mutual information against constructed complexity (Spearman)", ["questions", "correlation", "count"])
    ranks.rows = [[kind, _correlation(one), str(one["count"])] for kind, one in found["mutual_information"].items()]
    others = Grid(
        "Other indicators against constructed complexity (Spearman)", ["indicator", "questions", "correlation", "count"], texts=(0, 1)
    )
    for name, kinds in found.get("indicators", {}).items():  # 0.1 knew of none
        others.rows += [[name, kind, _correlation(one), str(one["count"])] for kind, one in kinds.items()]
    for grid in (ranks, others):
        grid.notes = ["where a method reads it, before anything is cut; in which layer it is strongest: senna-prune calibrate --by-layer"]
    best = Grid("Oracle: per question the best variant of autoprune, chosen by the label", ["budget", "variants", "oracle", "best variant"])
    for one in found["oracle"]:
        best.rows.append([one["budget"], str(one["variants"]), interval(one["oracle"], ""), interval(one["best"], "")])
    best.notes = ["what any adaptive choice among these variants could gain at most; the distance to the best single one is that room"]
    return [grid for grid in (bands, claim, ranks, others, best) if grid.rows]


def _correlation(one: Mapping[str, Any]) -> str:
    text = "n/a" if one["value"] is None else f"{one['value']:+.2f}"
    return text if one["low"] is None else f"{text} [{one['low']:+.2f}, {one['high']:+.2f}]"
