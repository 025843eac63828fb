"""How tokens are split over views."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from senna_autoprune import SennaPruneError
from senna_autoprune.pruning.parts.views import Group, groups, split_by_weights

CONTEXT: Any = SimpleNamespace(view_sizes=(4, 10, 6), visual=20)


def test_groups_of_the_scene_of_views_and_of_weighted_views() -> None:
    assert groups(CONTEXT, "scene", 7) == [Group(0, 20, 7)]
    assert groups(CONTEXT, "view", 9) == [Group(0, 4, 3), Group(4, 14, 3), Group(14, 20, 3)]
    assert groups(CONTEXT, "view", 9, (0, 1, 0.5)) == [Group(0, 4, 0), Group(4, 14, 7), Group(14, 20, 2)]
    assert [group.size for group in groups(CONTEXT, "view", 9)] == [4, 10, 6]
    with pytest.raises(SennaPruneError, match="2 view ratios are given, but the prompt has 3 views"):
        groups(CONTEXT, "view", 9, (1, 1))


def test_what_a_view_cannot_take_goes_to_the_others() -> None:
    assert split_by_weights(10, (4, 10, 6), (100, 1, 1)) == [4, 4, 2]
    assert split_by_weights(18, (4, 10, 6), (100, 1, 100)) == [4, 8, 6] and split_by_weights(20, (4, 10, 6), (0, 0, 0)) == [4, 10, 6]
    assert split_by_weights(5, (10, 10), (1, 1)) == [3, 2] and split_by_weights(0, (4, 4), (1, 2)) == [0, 0]
    assert split_by_weights(12, (4, 10), (2, 1)) == [4, 8]
    with pytest.raises(ValueError, match="cannot take 21 tokens of 20"):
        split_by_weights(21, (4, 10, 6), (1, 1, 1))
