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


def test_a_set_that_layers_share_travels_once():
    everything, few = _Device(0, 1, 2, 3), _Device(1, 3)
    layers = [everything, everything, few, few, few]
    trace = PromptTrace(4, 1, (2, 2), [4, 4, 2, 2, 2], 2, 1.0, 1.0, 0, device_ids=layers)  # type: ignore[arg-type]
    assert [ids.tolist() for ids in trace.ids] == [[0, 1, 2, 3]] * 2 + [[1, 3]] * 3
    assert trace.per_view == [[2, 2]] * 2 + [[1, 1]] * 3
    assert (everything.journeys, few.journeys) == (1, 1)
    assert trace.ids[0] is trace.ids[1] and trace.ids[2] is trace.ids[4]
