"""Evidence: where the decisive objects of a sample are in its views, and how much of each visual token shows one.

An object's place is a list of rectangles in a view, as shares of its width and height: a projected box, a key object's box, or the patches
in which a renderer saw it. A token that is one patch (LLaVA, Qwen) shows an object by the share of its own rectangle that the object's
cover. A token that mixes patches (Senna's adapter) shows it by the share of its attribution that lies on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.errors import SennaPruneError

Array = NDArray[Any]
CLASSES = ("pedestrian", "cyclist", "vehicle", "light", "cone", "other")
BANDS_M = (10.0, 20.0, 40.0)  # limits of the distance bands
UNKNOWN_BAND = "unknown"


@dataclass(frozen=True)
class Region:
    """A rectangle of a view: left, top, right, bottom as shares of width and height; ``weight``: how much of it shows the object."""

    view: str
    left: float
    top: float
    right: float
    bottom: float
    weight: float = 1.0


@dataclass(frozen=True)
class Evidence:
    """One object of a sample. name: one of ``CLASSES``; distance_m, and whether the right plan hangs on it: None where nobody knows."""

    name: str
    regions: tuple[Region, ...]
    distance_m: float | None = None
    decides_plan: bool | None = None

    @property
    def band(self) -> str:
        """``0-10 m``, ``10-20 m``, ..., ``40+ m``."""
        if self.distance_m is None:
            return UNKNOWN_BAND
        low = 0.0
        for high in BANDS_M:
            if self.distance_m < high:
                return f"{low:g}-{high:g} m"
            low = high
        return f"{low:g}+ m"

    @property
    def views(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(region.view for region in self.regions))


def covered(boxes: Array, regions: Sequence[Region]) -> Array:
    """(n,) share of each box (n, 4) (left, top, right, bottom) that the regions cover, their weights in. Regions are taken as disjoint, and
    the sum is cut at 1; an empty box is covered by nothing.
    """
    shares = np.zeros(len(boxes))
    area = np.clip(boxes[:, 2] - boxes[:, 0], 0, None) * np.clip(boxes[:, 3] - boxes[:, 1], 0, None)
    for region in regions:
        width = np.minimum(boxes[:, 2], region.right) - np.maximum(boxes[:, 0], region.left)
        height = np.minimum(boxes[:, 3], region.bottom) - np.maximum(boxes[:, 1], region.top)
        shares += region.weight * np.clip(width, 0, None) * np.clip(height, 0, None)
    return np.divide(shares, area, out=np.zeros_like(shares), where=area > 0).clip(0, 1)


def token_weights(evidence: Evidence, views: Sequence[str], boxes: Sequence[Array], mixing: Sequence[Array] | None = None) -> Array:
    """(V,) how much of each visual token of a prompt shows the object, in the order of its views.

    Args:
        views: what each image of the prompt shows.
        boxes: per image (P, 4) the rectangles of its patches (of its tokens, where a token is a patch).
        mixing: per image (T, P), >= 0: how strongly each patch moves each token; rows are normalised here. None: a token is a patch.
    Raises:
        SennaPruneError: boxes, mixing and views are not of the same images.
    """
    if len(boxes) != len(views) or (mixing is not None and len(mixing) != len(views)):
        raise SennaPruneError(f"{len(views)} views, token boxes of {len(boxes)} images: evidence needs both of the same prompt")
    weights = []
    for index, view in enumerate(views):
        shown = covered(boxes[index], [region for region in evidence.regions if region.view == view])
        if mixing is not None:
            rows = np.asarray(mixing[index], dtype=float)
            shown = rows @ shown / np.maximum(rows.sum(1), np.finfo(float).tiny)
        weights.append(shown)
    return np.concatenate(weights) if weights else np.zeros(0)


def evidence_of(record: Mapping[str, Any], where: str) -> Evidence:
    """One object of an evidence file: ``{"class", "regions": [[view, left, top, right, bottom, weight?], ...], "distance_m"?,
    "decides_plan"?}``.

    Raises:
        SennaPruneError: it is not that.
    """
    try:
        regions = tuple(Region(str(row[0]), *(float(value) for value in row[1:])) for row in record["regions"])
        distance = record.get("distance_m")
        decides = record.get("decides_plan")
        if decides is not None and not isinstance(decides, bool):
            raise TypeError(f"decides_plan is {decides!r}, not true or false")
        found = Evidence(str(record["class"]), regions, None if distance is None else float(distance), decides)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SennaPruneError(f"{where}: not an object with class, distance_m and regions ({type(error).__name__}: {error})") from error
    numbers = [value for r in regions for value in (r.left, r.top, r.right, r.bottom, r.weight)] + [found.distance_m or 0.0]
    ordered = all(r.left <= r.right and r.top <= r.bottom and r.weight >= 0 for r in regions)
    if found.name not in CLASSES or not np.isfinite(numbers).all() or not ordered:
        raise SennaPruneError(f"{where}: class must be one of {', '.join(CLASSES)}, and each region left, top, right, bottom in order")
    return found
