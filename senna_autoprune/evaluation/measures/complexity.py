"""Does pruning cost more where a question is harder, and does adapting to complexity pay? By constructed complexity, if a file has it.

The sidecar of a question file may hold ``complexity``: {record id: {"complexity": number, ...}} (the synthetic world's does). Bands are the
terciles of the asked questions. The paper's claim is the *interaction*: what the adaptive method gains over a static one, on complex
questions more than on simple ones. Intervals: percentile bootstrap over scenes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.clusters import by_cluster
from senna_autoprune.evaluation.measures.parsing import parse_light, parse_motion, parse_plan, parse_road_users
from senna_autoprune.evaluation.measures.retention import Interval, accuracy_retention, bootstrap, resampled

Array = NDArray[Any]
BANDS = ("simple", "medium", "complex")
CLOSED = ("plan", "vru", "motion", "light")  # types whose answers are right or wrong
ATTRIBUTE = "complexity"
LEAST = 30  # questions with a known complexity, below which nothing is said


def is_right(kind: str, label: str, answer: str) -> bool | None:
    """Whether an answer says what its label says: the plan, yes or no, every object's plan, the light; None for free text."""
    if kind == "plan":
        return parse_plan(answer) == parse_plan(label)
    if kind == "vru":
        return parse_road_users(answer).present == parse_road_users(label).present
    if kind == "motion":
        true, said = parse_motion(label), parse_motion(answer)
        return all(said.get(number) == plan for number, plan in true.items())
    if kind == "light":
        return parse_light(answer) == parse_light(label)
    return None


def complexity_of(attributes: Mapping[str, str]) -> float | None:
    """A question's constructed complexity among its attributes, where its file states one."""
    try:
        return float(attributes[ATTRIBUTE])
    except (KeyError, ValueError):
        return None


def bands_of(values: Sequence[float]) -> list[str]:
    """The tercile of each value; equal values share a band, so bands may differ in size."""
    low, high = np.quantile(np.asarray(values, dtype=float), [1 / 3, 2 / 3]) if len(values) else (0.0, 0.0)
    return [BANDS[0] if value <= low else BANDS[1] if value <= high else BANDS[2] for value in values]


def retention_by_band(
    before: Sequence[bool], after: Sequence[bool], bands: Sequence[str], scenes: Sequence[Hashable]
) -> dict[str, dict[str, Any]]:
    """Band -> retention with interval, and its number of questions; bands that do not occur are left out."""
    found = {}
    for band in BANDS:
        at = [i for i, one in enumerate(bands) if one == band]
        if at:
            kept = accuracy_retention([before[i] for i in at], [after[i] for i in at], [scenes[i] for i in at])
            found[band] = {**kept.to_dict(), "questions": len(at)}
    return found


def interaction(
    before: Sequence[bool],
    adaptive: Sequence[bool],
    static: Sequence[bool],
    bands: Sequence[str],
    scenes: Sequence[Hashable],
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """(adaptive - static) on complex questions minus (adaptive - static) on simple ones, in shares of the unpruned right answers there.

    Above 0: adapting pays where questions are complex, as the paper claims. Undefined where a band has no right unpruned answer.
    """
    inside = np.array([[band == BANDS[0], band == BANDS[-1]] for band in bands], dtype=float).reshape(-1, 2)  # (Q, 2)
    gain = (np.asarray(adaptive, dtype=float) - np.asarray(static, dtype=float))[:, None] * inside
    rows = np.concatenate([gain, np.asarray(before, dtype=float)[:, None] * inside], axis=1)  # (Q, 4)
    return bootstrap([by_cluster(rows, scenes)], _difference, resamples, seed)


def _difference(sums: Array) -> Array:
    simple, complicated, right_simple, right_complex = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        in_complex = complicated / np.where(right_complex > 0, right_complex, np.nan)
        return in_complex - simple / np.where(right_simple > 0, right_simple, np.nan)


def spearman(
    first: Sequence[float], second: Sequence[float], scenes: Sequence[Hashable], resamples: int = 500, seed: int = 0
) -> dict[str, Any]:
    """Rank correlation with its interval over resampled scenes; None where one of the two is constant or fewer than three are known."""
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    value = _rank_correlation(x, y)
    members: dict[Hashable, list[int]] = {}
    for index, scene in enumerate(scenes):
        members.setdefault(scene, []).append(index)
    low = high = None
    if value is not None and len(members) > 1:
        groups = [np.array(one) for one in members.values()]

        def of(drawn: Array) -> float:
            at = np.concatenate([groups[i] for i in drawn])
            one = _rank_correlation(x[at], y[at])
            return np.nan if one is None else one

        values = resampled(lambda drawn: np.apply_along_axis(of, -1, drawn), len(groups), resamples, seed)
        known = values[np.isfinite(values)]
        low, high = (float(bound) for bound in np.quantile(known, [0.025, 0.975])) if len(known) else (None, None)
    return {"value": value, "low": low, "high": high, "count": len(x), "scenes": len(members)}


def _rank_correlation(x: Array, y: Array) -> float | None:
    from scipy.stats import rankdata

    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def oracle(hits: Mapping[str, Sequence[bool]]) -> list[bool]:
    """For each question whether any of the settings is right: what choosing among them by the label would reach."""
    return [any(answers) for answers in zip(*hits.values(), strict=True)]
