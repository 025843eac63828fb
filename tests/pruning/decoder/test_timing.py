"""The pruner's own time: hooks and attention rows, not the model's work between them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from senna_autoprune import AutoPrune
from senna_autoprune.pruning.decoder import attention, timing
from senna_autoprune.pruning.decoder.timing import HostTimer
from senna_autoprune.pruning.trace import PromptTrace
from tests.models import six_blocks, tiny_llama


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that moves only when told to."""
    clock = SimpleNamespace(now=50.0)
    monkeypatch.setattr(timing, "perf_counter", lambda: clock.now)
    return clock


def test_a_block_in_a_block_counts_once(clock: SimpleNamespace) -> None:
    timer = HostTimer()
    with timer:
        clock.now += 1
        with timer:
            clock.now += 2
    clock.now += 4
    with pytest.raises(KeyError), timer:
        clock.now += 8
        raise KeyError
    assert timer.take() == 11
    assert timer.take() == 0


def _measured(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, batch: int) -> tuple[list[PromptTrace], int, int]:
    """Traces of two prefills in which the clock moves 1 s in every cut's selection, 0.1 s for every request of attention
    rows, 1000 s in every MLP; and how many selections and requests a prefill had.
    """
    done = {"select": 0, "rows": 0}

    def slow(name: str, seconds: float, function: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            clock.now += seconds
            done[name] += 1
            return function(*args, **kwargs)

        return run

    model = tiny_llama(groups=2)  # rows are computed beside the kernel
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda *_: setattr(clock, "now", clock.now + 1000))
    embeds, mask = six_blocks()
    monkeypatch.setattr(attention, "attention_rows", slow("rows", 0.1, attention.attention_rows))
    monkeypatch.setattr(AutoPrune, "select", slow("select", 1.0, AutoPrune.select))
    embeds, mask = embeds.expand(batch, -1, -1), mask.expand(batch, -1)
    with AutoPrune(retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
        cache = model(inputs_embeds=embeds, use_cache=True).past_key_values
        model(inputs_embeds=embeds[:, :1], past_key_values=cache)  # a decode step belongs to no prefill
        model(inputs_embeds=embeds, use_cache=True)
    return list(trace), done["select"] // 2, done["rows"] // 2


@pytest.mark.parametrize("batch", [1, 2])
def test_hooks_and_rows_are_timed_and_the_model_is_not(clock: Any, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    traces, selections, rows = _measured(clock, monkeypatch, batch)
    assert selections > 1 and rows > 1 and len(traces) == 2 * batch
    for trace in traces:
        assert trace.pruner_ms == pytest.approx(1e3 * (selections + 0.1 * rows) / batch)
        assert trace.to_dict()["pruner_ms"] == trace.pruner_ms
