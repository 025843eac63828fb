"""Prefill apart from decode, by hooks; sane logits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from senna_autoprune.evaluation.answering import stopwatch
from senna_autoprune.evaluation.answering.stopwatch import SaneLogits, Stopwatch


class _Clock:
    """A clock that moves only when told to."""

    now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(stopwatch, "perf_counter", lambda: clock.now)
    return clock


class _Sleeper(nn.Module):
    """A model whose calls take as long as they are told, and whose cache grows by a layer of 8 bytes with each."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self.clock = clock
        self.device = torch.device("cpu")
        self.layers: list[Any] = []

    def forward(self, seconds: float) -> Any:
        self.clock.sleep(seconds)
        self.layers.append(SimpleNamespace(keys=torch.zeros(1), values=torch.zeros(1)))
        return SimpleNamespace(past_key_values=SimpleNamespace(layers=list(self.layers)))


def test_the_first_call_is_the_prefill_and_the_rest_is_decoding(clock: _Clock) -> None:
    model = _Sleeper(clock)
    with Stopwatch(model) as watch:
        clock.sleep(0.05)  # before the first call: neither
        model(0.06)
        model(0.01)
        model(0.01)
        clock.sleep(0.01)  # choosing the token counts as decoding
    assert watch.prefill_ms == pytest.approx(60)
    assert watch.decode_ms == pytest.approx(30)
    assert watch.kv_bytes == 8  # after the prefill, not at the end
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_what_a_policy_does_in_its_hooks_is_timed(clock: _Clock) -> None:
    model = _Sleeper(clock)
    with Stopwatch(model) as watch:
        handle = model.register_forward_pre_hook(lambda module, args: clock.sleep(0.05))
        model(0.0)
        handle.remove()
    assert watch.prefill_ms == pytest.approx(50)


def test_nothing_is_claimed_without_a_call_or_after_an_error(clock: _Clock) -> None:
    with Stopwatch(_Sleeper(clock)) as watch:
        pass
    assert (watch.prefill_ms, watch.decode_ms, watch.kv_bytes) == (None, None, None)
    model = _Sleeper(clock)
    with pytest.raises(RuntimeError), Stopwatch(model) as watch:
        model(0.0)
        raise RuntimeError
    assert watch.prefill_ms is None
    assert not model._forward_hooks


@pytest.mark.parametrize(
    ("values", "sane"),
    [([1.0, 2.0], True), ([1.0, -torch.inf], True), ([1.0, torch.inf], False), ([torch.nan, 1.0], False), ([-torch.inf] * 2, False)],
)
def test_sane_logits(values: list[float], sane: bool) -> None:
    seen = SaneLogits()
    assert seen.sane
    scores = torch.tensor([values])
    assert seen(torch.zeros(1, 1), scores) is scores
    seen(torch.zeros(1, 1), torch.zeros(1, 2))
    assert seen.sane is sane
