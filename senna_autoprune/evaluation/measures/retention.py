"""Retention: a measure of the pruned answers divided by the same measure of the unpruned ones, with an interval.

Shares and their ratios have score intervals with a design effect (``intervals.py``). Measures that are no shares (macro-F1)
are bootstrapped: keyframes of one scene are 0.5 s apart and far from independent, so *scenes* are resampled with replacement
(percentile interval). A measure is a function of sums over questions: statistics (S, D), one row a scene, are summed under
resampling counts (B, S), and the measure runs once on the (B, D) result.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.clusters import Clusters, by_cluster
from senna_autoprune.evaluation.measures.intervals import Bounds, Hits, Paired, ratio_interval, share_interval
from senna_autoprune.evaluation.measures.metrics import labelled_macro_f1, pair_once
from senna_autoprune.evaluation.measures.parsing import PATHS, SPEEDS, Plan

Array = NDArray[Any]
Measure = Callable[[Array], Array]  # statistics (..., D) -> values (...)
_CHUNK = 256  # resamples at a time: (256, 850 scenes) counts are 1.7 MB


@dataclass(frozen=True)
class Interval:
    """A value with its interval. ``low``/``high`` are None with fewer than two scenes, where the value is undefined, and where
    all resamples are alike (nothing differs: a bootstrap then has no interval to give).

    ``kind``: "score" (``design_effect``: what the counts were divided by) or "bootstrap". ``undefined``: resamples in which
    the measure was undefined (the unpruned model had nothing right), left out of the interval.
    """

    value: float | None
    low: float | None
    high: float | None
    scenes: int
    resamples: int
    undefined: int = 0
    kind: str = "bootstrap"
    design_effect: float | None = None

    @classmethod
    def score(cls, bounds: Bounds) -> Interval:
        """A score interval (``intervals.py``): nothing is resampled."""
        return cls(bounds.value, bounds.low, bounds.high, bounds.scenes, 0, 0, "score", bounds.design_effect)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def by_scene(rows: Array, scenes: Sequence[Hashable]) -> Array:
    """Sums of per-question statistics (Q, D) within each scene -> (S, D), scenes in order of first appearance."""
    return by_cluster(rows, scenes)


def _times(drawn: Array) -> Array:
    """How often each of S scenes was drawn, (..., S) float64, of the S places (..., S) in each resample."""
    flat = drawn.reshape(-1, drawn.shape[-1])
    places = flat + drawn.shape[-1] * np.arange(len(flat))[:, None]
    return np.bincount(places.ravel(), minlength=flat.size).reshape(drawn.shape).astype(np.float64)


def _interval(point: float, samples: Array, scenes: int, resamples: int, level: float) -> Interval:
    if not np.isfinite(point):
        return Interval(None, None, None, scenes, resamples, int((~np.isfinite(samples)).sum()))
    finite = samples[np.isfinite(samples)]
    undefined = int(samples.size - finite.size)
    if scenes < 2 or finite.size == 0:
        return Interval(float(point), None, None, scenes, resamples, undefined)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    if low == high:
        return Interval(float(point), None, None, scenes, resamples, undefined)
    return Interval(float(point), float(low), float(high), scenes, resamples, undefined)


def resampled(value: Callable[[Array], Array], scenes: int, resamples: int, seed: int) -> Array:
    """(B,) values of resamples, drawn by ``scipy.stats.bootstrap``; ``value`` takes places (..., S) in S >= 2 scenes."""
    if not resamples:
        return np.empty(0)
    from scipy.stats import DegenerateDataWarning
    from scipy.stats import bootstrap as drawn_by_scipy

    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # of its interval, which is undefined where one resample's value is
        found = drawn_by_scipy(
            (np.arange(scenes),),
            lambda drawn, axis: value(drawn),
            n_resamples=resamples,
            batch=_CHUNK,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return np.asarray(found.bootstrap_distribution)


def bootstrap(
    statistics: Sequence[Array],
    combine: Callable[..., Array],
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of ``combine(*sums)`` over scenes; resamples in which it is undefined are left out and counted.

    Args:
        statistics: arrays (S, D_i) with the same scenes in the same order (paired: one resample draws the same scenes
            for all).
        combine: takes sums (..., D_i) of each, returns values (...); NaN or inf where undefined.
    """
    scenes = statistics[0].shape[0]
    if scenes == 0:
        return Interval(None, None, None, 0, resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        point = float(combine(*(s.sum(axis=0) for s in statistics)))
    if scenes == 1:
        return _interval(point, np.array([point]), scenes, resamples, level)
    values = resampled(lambda drawn: combine(*(_times(drawn) @ s for s in statistics)), scenes, resamples, seed)
    return _interval(point, values, scenes, resamples, level)


def mean_measure(sums: Array) -> Array:
    """Statistics (hits, count) -> share."""
    return sums[..., 0] / sums[..., 1]


def macro_f1_measure(sums: Array) -> Array:
    """Statistics = flattened speed (4 x 5) and path (5 x 6) counts, D = 50 -> macro-F1 over the labelled meta-actions."""
    cut = len(SPEEDS) * (len(SPEEDS) + 1)
    lead = sums.shape[:-1]
    speed = sums[..., :cut].reshape(*lead, len(SPEEDS), len(SPEEDS) + 1)
    path = sums[..., cut:].reshape(*lead, len(PATHS), len(PATHS) + 1)
    return labelled_macro_f1(speed, path)


def hit_statistics(hits: Hits) -> Array:
    """(Q, 2): 1 where right, and 1 for the question."""
    return np.stack([np.asarray(hits, dtype=np.float64), np.ones(len(hits))], axis=1)


def plan_statistics(labels: Sequence[Plan], answers: Sequence[Plan]) -> Array:
    """(Q, 50): the one-hot confusion counts of each question, as ``macro_f1_measure`` reads them."""
    cut = len(SPEEDS) * (len(SPEEDS) + 1)
    speeds = _cells([p.speed for p in labels], [p.speed for p in answers], SPEEDS)
    paths = _cells([p.path for p in labels], [p.path for p in answers], PATHS)
    rows = np.zeros((len(labels), cut + len(PATHS) * (len(PATHS) + 1)))
    at = np.arange(len(labels))
    rows[at, speeds] = 1
    rows[at, cut + paths] = 1
    return rows


def plan_sums(labels: Sequence[Plan], answers: Sequence[Plan], scenes: Clusters) -> Array:
    """(S, 50): ``by_scene`` of ``plan_statistics``, without a row a question."""
    cut = len(SPEEDS) * (len(SPEEDS) + 1)
    wide = cut + len(PATHS) * (len(PATHS) + 1)

    def cells(label: Plan, answer: Plan) -> tuple[int, int]:
        speed, path = _cells([label.speed], [answer.speed], SPEEDS), _cells([label.path], [answer.path], PATHS)
        return int(speed[0]), cut + int(path[0])

    codes, count = scenes.codes
    pairs, found = pair_once(cells, labels, answers).codes
    at = np.array(found, dtype=np.intp).reshape(-1, 2)[pairs]  # (Q, 2)
    places = (codes[:, None] * wide + at).ravel()
    return np.bincount(places, minlength=count * wide).reshape(count, wide).astype(np.float64)


def _cells(labels: Sequence[str], answers: Sequence[str], classes: Sequence[str]) -> Array:
    """The place of each pair in a flattened confusion matrix, (Q,); answers of no class are in the last column."""
    index = {name: i for i, name in enumerate(classes)}
    wide = len(classes) + 1
    pairs = zip(labels, answers, strict=True)
    return np.array([index[label] * wide + index.get(answer, len(classes)) for label, answer in pairs], dtype=np.intp)


def accuracy(hits: Hits, scenes: Sequence[Hashable]) -> Interval:
    """Share of right answers with Wilson's interval over scenes."""
    right, count = by_cluster(hit_statistics(hits), scenes).T if len(hits) else np.zeros((2, 0))
    return Interval.score(share_interval(right, count))


def accuracy_retention(before: Hits, after: Hits, scenes: Sequence[Hashable]) -> Interval:
    """Right after / right before with the paired score interval over scenes; never without width, also where nothing flipped."""
    return Interval.score(ratio_interval(Paired.of(before, after, scenes)))


def retention(
    pruned: Array,
    unpruned: Array,
    scenes: Sequence[Hashable],
    measure: Measure = mean_measure,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """measure(pruned) / measure(unpruned) with its interval over scenes; undefined where the unpruned measure is 0.

    Args:
        pruned, unpruned: per-question statistics (Q, D) of the same questions.
        scenes: scene of each question.
    """
    return retention_of(by_scene(pruned, scenes), by_scene(unpruned, scenes), measure, resamples, seed)


def retention_of(pruned: Array, unpruned: Array, measure: Measure = mean_measure, resamples: int = 2000, seed: int = 0) -> Interval:
    """``retention`` of sums by scene (S, D)."""
    return bootstrap([pruned, unpruned], lambda p, u: _ratio(measure(p), measure(u)), resamples, seed)


def _ratio(above: Array, below: Array) -> Array:
    """above / below, NaN where below is 0 (also for 0 / 0 and x / 0)."""
    return np.where(below == 0, np.nan, above / np.where(below == 0, 1, below))


@dataclass(frozen=True)
class McNemar:
    """Paired answers: ``lost`` right only unpruned, ``gained`` right only pruned; two-sided exact p of such a split
    under p = 1/2.
    """

    lost: int
    gained: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def mcnemar(unpruned_right: Hits, pruned_right: Hits) -> McNemar:
    """McNemar's exact test; p = 1 where no pair differs. It treats questions as independent: read it beside the
    interval over scenes.
    """
    if len(unpruned_right) != len(pruned_right):
        raise ValueError(f"{len(unpruned_right)} answers before, {len(pruned_right)} after")
    before, after = np.asarray(unpruned_right, dtype=bool), np.asarray(pruned_right, dtype=bool)
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    return McNemar(lost, gained, _split_p(lost, gained))


@lru_cache(maxsize=256)  # the same pairs of settings stand in more than one table
def _split_p(lost: int, gained: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + gained, 0.5).pvalue) if lost + gained else 1.0
