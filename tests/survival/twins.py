"""The slow, obvious forms of what survival computes with arrays."""

from __future__ import annotations

import numpy as np


def covered_twin(boxes, regions, cells=120):
    """Cover of each box by counting a fine raster of points inside it."""
    found = []
    for left, top, right, bottom in boxes:
        inside = 0.0
        for i in range(cells):
            for j in range(cells):
                x, y = left + (i + 0.5) / cells * (right - left), top + (j + 0.5) / cells * (bottom - top)
                inside += sum(r.weight for r in regions if r.left <= x < r.right and r.top <= y < r.bottom)
        found.append(min(1.0, inside / cells**2))
    return np.array(found)


def survival_twin(weights, kept):
    """Object by object, layer by layer, token by token."""
    survival, chance = [], []
    for row in weights:
        survival.append([sum(row[int(t)] for t in ids) / sum(row) if sum(row) > 0 else float("nan") for ids in kept])
    for ids in kept:
        chance.append(len(ids) / weights.shape[1])
    return np.array(survival), np.array(chance)


def projected_twin(corners, intrinsic, size, steps=80):
    """The rectangle of densely sampled points on the twelve edges that lie before the camera."""
    edges = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
    points = []
    for i, j in edges:
        for t in np.linspace(0, 1, steps):
            point = corners[:, i] * (1 - t) + corners[:, j] * t
            if point[2] >= 0.1:
                pixel = intrinsic @ point
                points.append(pixel[:2] / pixel[2] / size)
    if not points:
        return None
    left, top = np.clip(np.min(points, 0), 0, 1)
    right, bottom = np.clip(np.max(points, 0), 0, 1)
    return (left, top, right, bottom) if right > left and bottom > top else None
