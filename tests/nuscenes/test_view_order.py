"""Orders of six views."""

from __future__ import annotations

from senna_autoprune.nuscenes.view_order import PANORAMA, TWO_ROWS, places


def test_both_orders_hold_the_same_six_views_and_others_keep_their_own() -> None:
    rows = TWO_ROWS[0] + TWO_ROWS[1]
    assert sorted(rows) == sorted(PANORAMA) and len(set(rows)) == 6
    assert places(["front", "front right", "front left", "back", "back left", "back right"], PANORAMA) == [2, 3, 1, 5, 0, 4]
    assert places(["left", "", "right"], PANORAMA) == [0, 1, 2]
