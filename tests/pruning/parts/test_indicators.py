"""Indicators of complexity, against loops and known tables."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune.pruning.parts import indicators
from tests import twins


def attention(heads, rows, visual, sharpness, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(heads, rows, visual + 5, generator=generator)
    return logits.softmax(-1)[..., :visual]  # some mass goes elsewhere: rows do not sum to one


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 12), st.floats(0, 20), st.integers(0, 10**6))
def test_mutual_information_lies_between_its_bounds_and_equals_its_twin(heads, rows, visual, sharpness, seed):
    weights = attention(heads, rows, visual, sharpness, seed)
    value = indicators.mutual_information(weights).item()
    assert 0 <= value <= math.log(min(rows, visual)) + 1e-5
    assert value == pytest.approx(twins.mutual_information(weights), abs=1e-4)


def test_mutual_information_of_known_tables():
    assert indicators.mutual_information(torch.eye(4)[None]).item() == pytest.approx(math.log(4))  # each row its own token
    assert indicators.mutual_information(torch.ones(2, 3, 5)).item() == pytest.approx(0, abs=1e-7)  # rows alike
    with pytest.raises(ValueError, match="H, T, V"):
        indicators.mutual_information(torch.ones(3, 5))


def test_attention_and_cosine_indicators():
    weights = torch.full((2, 3, 4), 0.1)
    assert indicators.average_attention(weights).item() == pytest.approx(0.4)
    same = torch.randn(5, 8)
    assert indicators.cosine_similarity(same, same).item() == pytest.approx(1)
