"""Tests of paired answers by scene: is it more than luck, is it not worse by more than a margin, and how many are needed?

Questions of a scene are not independent; a test over questions (McNemar) rejects true hypotheses in 23 to 46 % of runs at
150 scenes x 34 questions where it promises 5 % (docs/results/statistics.md). Here whole scenes change sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import ceil, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.intervals import CAUTIOUS, Paired, difference_effect

Array = NDArray[Any]
ALPHA = 0.05
_LARGEST = 200_000  # of the sum of |differences|, for the exact distribution
_DRAWS = 20_000


def sign_flip(differences: Array, seed: int = 0) -> float:
    """Two-sided p of the sum of the scenes' differences when each scene's sign is a fair coin.

    Exact for whole numbers (the distribution of the sum by convolution, any number of scenes); otherwise 20,000 seeded draws,
    the data counted among them. 1 where no scene differs. Args: (S,) after - before, summed in each scene.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0
    whole = np.rint(values)
    if np.array_equal(whole, values) and np.abs(whole).sum() <= _LARGEST:
        return _exact(np.sort(np.abs(whole).astype(np.int64)).tobytes(), abs(int(whole.sum())))
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(_DRAWS, len(values))) * 2 - 1
    distance = abs(float(values.sum()))
    return float((1 + (np.abs(signs @ values) >= distance * (1 - 1e-12)).sum()) / (1 + _DRAWS))


@lru_cache(maxsize=256)  # each pair of settings is compared in both directions, and in more than one table
def _exact(sizes: bytes, seen: int) -> float:
    """Chance that the scenes' differences sum to ``seen`` or more, either way. sizes: theirs without sign, ascending, as int64."""
    steps = np.frombuffer(sizes, dtype=np.int64)
    reach, held = int(steps.sum()), 0
    chance = np.zeros(reach + 1)  # of each sum of the steps whose coin says plus
    chance[0] = 1.0
    for step in steps.tolist():
        before = chance[: held + 1].copy()
        held += step
        chance[held + 1 - len(before) : held + 1] += before
        chance[: held + 1] *= 0.5
    sums = np.abs(2 * np.arange(reach + 1) - reach)
    return min(1.0, float(chance[sums >= seen].sum()))


@dataclass(frozen=True)
class SceneTest:
    """Paired answers of two settings: questions right only in one (``lost``: only before), scenes better and worse, and the
    sign-flip p by scene.
    """

    lost: int
    gained: int
    scenes_worse: int
    scenes_better: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def scene_test(pairs: Paired, seed: int = 0) -> SceneTest:
    """Before against after, by whole scenes."""
    gap = pairs.gained - pairs.lost
    worse, better = int((gap < 0).sum()), int((gap > 0).sum())
    return SceneTest(int(pairs.lost.sum()), int(pairs.gained.sum()), worse, better, sign_flip(gap, seed))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's (1979) step-down adjusted p of each test: below alpha they hold together at alpha."""
    adjusted, highest = {}, 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


@dataclass(frozen=True)
class NonInferiority:
    """Is "after" worse than "before" by less than ``margin`` (a share)? ``z`` is the score statistic at -margin; ``lower``
    the one-sided bound of after - before: it lies above -margin just where z passes.
    """

    difference: float
    lower: float
    z: float
    p_value: float
    margin: float
    design_effect: float
    scenes: int
    questions: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def non_inferiority(pairs: Paired, margin: float, alpha: float = ALPHA) -> NonInferiority:
    """Tango's score test of H0 "after - before <= -margin" with the (cautious) design effect, one-sided at ``alpha``.

    Raises:
        ValueError: no questions, or a margin outside (0, 1).
    """
    from scipy.special import ndtr

    total = pairs.questions
    if total == 0 or not 0 < margin < 1:
        raise ValueError(f"{total:g} questions, margin {margin}")
    effect = difference_effect(pairs, 1 - alpha, CAUTIOUS)
    z, lower = pairs.test(margin, alpha, alpha)
    return NonInferiority(pairs.difference, lower, z, float(ndtr(-z)), margin, effect, pairs.scenes, int(total))


def sample_size(
    discordant: float, margin: float, alpha: float = ALPHA, power: float = 0.8, effect: float = 1.0, truth: float = 0.0
) -> float:
    """Questions that show non-inferiority: (z_alpha + z_beta)^2 psi / (delta + truth)^2 x design effect, rounded up.

    Args:
        discordant: psi, share of questions that change from right to wrong or back. truth: the true difference (0: none).
    Returns:
        inf where the true loss is the margin or more.
    """
    from scipy.special import ndtri

    if margin + truth <= 0:
        return inf
    z = float(ndtri(power) - ndtri(alpha))
    return ceil(z * z * max(discordant - truth * truth, 0.0) / (margin + truth) ** 2 * effect)


def scenes_for_safety(share: float, alpha: float = ALPHA) -> int:
    """Scenes without one event that show "at most this share of scenes" at 1 - alpha: log(alpha) / log(1 - share)."""
    return ceil(np.log(alpha) / np.log1p(-share) - 1e-9)
