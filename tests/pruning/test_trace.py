"""The trace of a prefill: what is left on the device travels once."""

from __future__ import annotations

import torch

from senna_autoprune.pruning.trace import PromptTrace


class _Device:
    """A tensor elsewhere that counts its journeys."""

    def __init__(self, *ids: int) -> None:
        self.ids, self.journeys = ids, 0

    def cpu(self) -> torch.Tensor:
        self.journeys += 1
        return torch.tensor(self.ids)


def test_a_summary_of_a_trace():
    """Two layers of two views: four tokens, then two and a merged one."""
    trace = PromptTrace(
        4, 9, (2, 2), [4, 3], 3, 100.0, 60.0, 12, 0.5, 1.5, 2.5, 0.25, ["a note"], device_ids=[torch.arange(4), torch.tensor([1, 3, -1])]
    )
    assert trace.to_dict() == {
        "mutual_information": 0.5, "k": 1.5, "x0": 2.5, "visual_tokens": 4, "text_tokens": 9, "tokens_per_layer": [4, 3],
        "average_tokens": 3.5, "retention_tokens": 3.5 / 4, "per_view": [1.5, 1.5], "flops_full": 100.0, "flops_pruned": 60.0,
        "kv_bytes": 12, "pruner_ms": 0.25, "notes": ["a note"],
    }  # fmt: skip
    assert trace.merged_per_layer == [0, 1] and [kept.tolist() for kept in trace.kept] == [[0, 1, 2, 3], [1, 3]]
    assert PromptTrace(0, 9, (), [0], 0, 1.0, 1.0, 0, device_ids=[torch.tensor([])]).retention_tokens == 1.0


def test_a_set_that_layers_share_travels_once():
    everything, few = _Device(0, 1, 2, 3), _Device(1, 3)
    layers = [everything, everything, few, few, few]
    trace = PromptTrace(4, 1, (2, 2), [4, 4, 2, 2, 2], 2, 1.0, 1.0, 0, device_ids=layers)  # type: ignore[arg-type]
    assert [ids.tolist() for ids in trace.ids] == [[0, 1, 2, 3]] * 2 + [[1, 3]] * 3
    assert trace.per_view == [[2, 2]] * 2 + [[1, 1]] * 3
    assert (everything.journeys, few.journeys) == (1, 1)
    assert trace.ids[0] is trace.ids[1] and trace.ids[2] is trace.ids[4]
