"""Where each of six views stands in a picture. Every picture of ours takes its order from here."""

from __future__ import annotations

from collections.abc import Sequence

TWO_ROWS = (("front left", "front", "front right"), ("back left", "back", "back right"))  # as a driver sees them
PANORAMA = ("back left", "front left", "front", "front right", "back right", "back")  # around the car, from left to right


def places(views: Sequence[str], order: Sequence[str]) -> list[int]:
    """The place of each view in ``order``; views of other names keep the order in which they come.

    Args:
        views: what each image shows, "" where nobody knows.
        order: names of views from first to last place, e.g. ``PANORAMA``.
    """
    return [order.index(view) for view in views] if set(views) == set(order) else list(range(len(views)))
