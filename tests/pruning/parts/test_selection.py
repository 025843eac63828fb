"""Which tokens survive, against plain Python; views and runs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune.pruning.context import runs_of
from senna_autoprune.pruning.parts import selection

NUMBER = st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, 0.4, 0.5, float("inf"), float("-inf"), float("nan")])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.data())
def test_top_tokens_equal_a_python_sort_ties_to_the_lower_index(scores, data):
    count = data.draw(st.integers(0, len(scores)))
    twin = sorted(sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:count])
    assert selection.top_tokens(torch.tensor(scores, dtype=torch.float), count).tolist() == twin


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.data())
def test_the_best_are_those_of_a_sort(size, data):
    """With ties, infinities and NaN, which a sort puts first."""
    scores = torch.tensor(data.draw(st.lists(NUMBER, min_size=size, max_size=size)))
    count = data.draw(st.integers(0, size))
    order = torch.sort(scores, descending=True, stable=True).indices
    assert selection.top_tokens(scores, count).tolist() == sorted(order[:count].tolist())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.data())
def test_split_evenly(sizes, data):
    count = data.draw(st.integers(0, sum(sizes)))
    quota = selection.split_evenly(count, sizes)
    assert sum(quota) == count
    assert all(0 <= share <= size for share, size in zip(quota, sizes, strict=True))
    unfilled = [share for share, size in zip(quota, sizes, strict=True) if share < size]
    assert not unfilled or max(quota) - min(unfilled) <= 1
    with pytest.raises(ValueError, match="cannot take"):
        selection.split_evenly(sum(sizes) + 1, sizes)


def test_every_nth_is_evenly_spread():
    assert selection.every_nth(4, 16) == [2, 6, 10, 14]
    for size in range(1, 40):
        for count in range(1, size + 1):
            picked = selection.every_nth(count, size)
            assert sorted(set(picked)) == picked and len(picked) == count and picked[-1] < size


def test_runs_of_visual_slots():
    assert runs_of(torch.tensor([3, 4, 5, 9, 10, 20])) == (3, 2, 1)
    assert runs_of(torch.tensor([], dtype=torch.long)) == ()
