"""What pruning did to each prompt: numbers and provenance, kept on the device until somebody reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from senna_autoprune.pruning.context import PromptLayout


@dataclass
class PromptTrace:
    """One prompt's prefill under a policy.

    mutual_information: the indicator's value (nats in paper mode, bits summed over heads in release mode); None if the method has none.
    k, x0: steepness (1/layer) and inflexion (layer) of the curve; None likewise.
    tokens_per_layer: visual tokens entering each layer 0..L-1, merged ones included.
    tokens_leaving: n_L, what is left if the method cuts after the last layer.
    visual_tokens V, text_tokens t, view_sizes; flops_full, flops_pruned: multiply-accumulates of the prefill (cost.py).
    kv_bytes: this prompt's share of the bytes that the cache held after the prefill; 0 without a cache.
    pruner_ms: this prompt's share of the prefill's time that went into deciding what stays and gathering it, attention of the
        text rows included (also where it is computed once and the kernel is spared it: decoder/rows_once.py); None where that cannot be
        told from the model's own work (on a GPU, which the hooks never wait for).
    notes: what the user must know about these numbers.
    """

    visual_tokens: int
    text_tokens: int
    view_sizes: tuple[int, ...]
    tokens_per_layer: list[int]
    tokens_leaving: int
    flops_full: float
    flops_pruned: float
    kv_bytes: int
    mutual_information: float | None = None
    k: float | None = None
    x0: float | None = None
    pruner_ms: float | None = None
    notes: list[str] = field(default_factory=list)
    device_ids: list[Tensor] = field(default_factory=list, repr=False)
    layouts: list[PromptLayout] = field(default_factory=list, repr=False)  # per layer; in place of device_ids, which they work out

    @cached_property
    def ids(self) -> list[Tensor]:
        """Per layer (n_l,) original visual index, or -(1000 layer + i) for a token merged after ``layer``. On the host."""
        device_ids = self.device_ids or [layout.ids for layout in self.layouts]
        distinct = {id(ids): ids for ids in device_ids}  # layers that share a set share a tensor: it travels once
        moved = {name: ids.cpu() for name, ids in distinct.items()}
        return [moved[id(ids)] for ids in device_ids]

    @property
    def kept(self) -> list[Tensor]:
        """Per layer the original indices 0..V-1 of visual tokens that enter it unmerged, ascending, int64."""
        return [ids[ids >= 0] for ids in self.ids]

    @property
    def merged_per_layer(self) -> list[int]:
        """Per layer how many merged tokens enter it."""
        return [int((ids < 0).sum()) for ids in self.ids]

    @property
    def per_view(self) -> list[list[int]]:
        """Per layer, per view, how many of its tokens enter unmerged."""
        edges = torch.tensor(self.view_sizes).cumsum(0)
        views = len(self.view_sizes)
        return [torch.bincount(torch.bucketize(kept, edges, right=True), minlength=views).tolist() for kept in self.kept]

    @property
    def average_tokens(self) -> float:
        """Visual tokens per layer, averaged over layers."""
        return sum(self.tokens_per_layer) / len(self.tokens_per_layer)

    @property
    def retention_tokens(self) -> float:
        """Average tokens as a share of V; 1.0 for a prompt without visual tokens."""
        return self.average_tokens / self.visual_tokens if self.visual_tokens else 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary (no per-token lists)."""
        per_view = self.per_view
        return {
            "mutual_information": self.mutual_information,
            "k": self.k,
            "x0": self.x0,
            "visual_tokens": self.visual_tokens,
            "text_tokens": self.text_tokens,
            "tokens_per_layer": self.tokens_per_layer,
            "average_tokens": self.average_tokens,
            "retention_tokens": self.retention_tokens,
            "per_view": [sum(layer[view] for layer in per_view) / len(per_view) for view in range(len(self.view_sizes))],
            "flops_full": self.flops_full,
            "flops_pruned": self.flops_pruned,
            "kv_bytes": self.kv_bytes,
            "pruner_ms": self.pruner_ms,
            "notes": self.notes,
        }


class Trace(Sequence[PromptTrace]):
    """Every prompt that ran inside the context manager, in order: ``trace[0].kept[5]``."""

    def __init__(self) -> None:
        self._prompts: list[PromptTrace] = []

    def append(self, prompt: PromptTrace) -> None:
        """Used by the engine at the end of each prefill."""
        self._prompts.append(prompt)

    def __getitem__(self, index: Any) -> Any:
        return self._prompts[index]

    def __len__(self) -> int:
        return len(self._prompts)
