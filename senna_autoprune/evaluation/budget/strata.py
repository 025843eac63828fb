"""Where does it hurt most: the certified setting in each condition, corrected for asking of many."""

from __future__ import annotations

from typing import Any

import numpy as np

from senna_autoprune.evaluation.budget.answers import Pairs
from senna_autoprune.evaluation.measures.breakdown import UNKNOWN
from senna_autoprune.evaluation.measures.clusters import NO_VERDICT
from senna_autoprune.evaluation.measures.intervals import scenes_upper
from senna_autoprune.evaluation.measures.paired_tests import ALPHA, holm, sign_flip
from senna_autoprune.evaluation.measures.parsing import parse_plan
from senna_autoprune.evaluation.measures.verdict import FEW

CONDITIONS = ("light", "weather", "speed_band")
WORSE, NOT_WORSE = "worse", "no loss shown"


def strata(pairs: Pairs, information: dict[int, float], with_users: set[str]) -> list[dict[str, Any]]:
    """Groups with their paired difference, sign-flip p by scene and Holm's, worst first; tiny ones say "too few scenes".

    Args:
        information: question -> mutual information of the pruned prompt, for three bands of complexity.
        with_users: samples (tokens) whose label names a vulnerable road user.
    """
    groups: dict[str, list[int]] = {}
    cuts = np.quantile(list(information.values()), [1 / 3, 2 / 3]) if len(information) >= 3 else None
    for i, question in enumerate(pairs.questions):
        for name in CONDITIONS:
            value = question.attributes.get(name, UNKNOWN)
            if value != UNKNOWN:
                groups.setdefault(f"{name.replace('_', ' ')}: {value}", []).append(i)
        if parse_plan(question.label).speed == "STOP":
            groups.setdefault("label: STOP", []).append(i)
        if question.token in with_users:
            groups.setdefault("vulnerable road user: yes", []).append(i)
        if cuts is not None and question.question in information:
            band = int(np.searchsorted(cuts, information[question.question]))
            groups.setdefault(f"complexity: {('low', 'middle', 'high')[2 - band]}", []).append(i)
    there = {name: pairs.at(members) for name, members in groups.items()}
    found = [_stratum(name, one) for name, one in there.items() if one.counted.questions]
    adjusted = holm({one["stratum"]: one["p_value"] for one in found if one["p_value"] is not None})
    for one in found:
        one["p_holm"] = adjusted.get(one["stratum"])
        if one["outcome"] is None:
            one["outcome"] = WORSE if one["p_holm"] < ALPHA and one["difference"] < 0 else NOT_WORSE
    return sorted(found, key=lambda one: (one["outcome"] == FEW, one["difference"]))


def _stratum(name: str, pairs: Pairs) -> dict[str, Any]:
    counted = pairs.counted
    few = counted.scenes < NO_VERDICT
    return {
        "stratum": name,
        "questions": int(counted.questions),
        "scenes": counted.scenes,
        "difference": counted.difference,
        "p_value": None if few else sign_flip(counted.gap),
        "dangerous": pairs.scenes_hit,
        "dangerous_upper": None if pairs.scenes_hit is None else scenes_upper(pairs.scenes_hit, counted.scenes),
        "outcome": FEW if few else None,
    }
