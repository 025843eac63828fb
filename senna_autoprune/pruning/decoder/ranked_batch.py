"""The short way of a cut (ranked.py) for a batch whose layers attend prompt by prompt on a CPU (one_by_one.py): one sort for all prompts.

Slots are those of the padded batch: at visual tokens a rank is the mean attention, at text +inf, at padding -inf. Here, too, gather.py is
the way for everything else, and the twin in the tests. What is small is worked out by numpy: between two layers of a model nothing is in
the cache, and an operation of torch takes several times as long as one of numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.pruning.context import AttentionRows, PromptLayout, ShortLayout
from senna_autoprune.pruning.decoder import rows_once
from senna_autoprune.pruning.parts.selection import top_tokens


class RankedBatch:
    """The tables of a batch's prompts, shortened with them.

    starts: slots of padding on the left of each. there: (B, M) bool, False at padding; None: no padding.
    """

    def __init__(self, layouts: Sequence[PromptLayout], length: int) -> None:
        """layouts: of prompts that end at slot ``length``."""
        self._text = np.array([len(layout.text) for layout in layouts])
        self._samples = np.arange(len(layouts))
        self._ranks = np.full((len(layouts), length), -np.inf, dtype=np.float32)
        for row, layout in zip(self._ranks, layouts, strict=True):
            row[length - layout.length :] = 0
            row[layout.text.numpy() if layout.host_text is None else layout.host_text] = np.inf
        self.means = rows_once.Means(torch.from_numpy(self._ranks), [layout.asking for layout in layouts])
        self._table: Tensor | None = None  # (B M, 2 h), cosines and sines
        self.starts = [length - layout.length for layout in layouts]
        self.there: Tensor | None = None

    def plan(self, entering: Sequence[Sequence[int]]) -> None:
        """Visual tokens of each prompt that enter each layer: (B, L), or (B, L + 1) with those that leave the last."""
        self._tokens = np.array(entering).T
        self._lengths = self._tokens + self._text  # (L, B)

    def rank(self, rows: Sequence[AttentionRows]) -> Tensor:
        """(B, M): the mean over heads and rows at visual tokens, +inf at text, -inf at padding; of a layer whose rows were kept."""
        scores = self.means.ranks.clone()
        for sample, one in enumerate(rows):
            scores[sample, one.start :] += one.weights.mean((0, 1))
        return scores

    def keep(self, scores: Tensor, boundary: int) -> Tensor:
        """(B M') which of all B M slots stay, ascending: each prompt's text and its best visual tokens, ties to the lower slot.

        At padding the prompt's first slot, for padding must hold numbers. NaN ranks somehow: it is refused after the last layer.
        """
        size, lengths = scores.shape[1], self._lengths[boundary]
        first = size * self._samples  # of each prompt
        values = scores.detach().numpy()
        bar = np.sort(values, axis=1)[self._samples, size - lengths]  # vectorised: a partition takes several times as long
        no_worse = values >= bar[:, None]
        if (no_worse.sum(1) == lengths).all():
            kept = np.flatnonzero(no_worse)
        else:  # ties
            rows = zip(scores, lengths.tolist(), first, strict=True)
            kept = np.concatenate([top_tokens(row, count).numpy() + start for row, count, start in rows])
        longest = int(lengths.max())
        starts = longest - lengths
        self.starts, self.there = starts.tolist(), None
        if any(self.starts):
            there = np.arange(longest) >= starts[:, None]  # (B, M')
            padded = np.full(there.shape, first[:, None])
            padded[there] = kept
            kept, self.there = padded.reshape(-1), torch.from_numpy(there)
        return torch.from_numpy(kept)

    def layouts(self, before: Sequence[PromptLayout], boundary: int, kept: Tensor, slots: int) -> list[PromptLayout]:
        """What is left of the layouts of ``slots`` slots each. kept: (B M') of ``keep``."""
        tokens, padding = self._tokens[boundary].tolist(), self.starts
        return [OfBatch(one, kept, sample, slots, tokens[sample], padding[sample]) for sample, one in enumerate(before)]

    def follow(self, kept: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, M', h) after a cut; the ranks follow, too.

        Args:
            kept: (B M') of ``keep``. rotary: of the whole prompts, (B or 1, N, h).
        """
        batch, half = len(self._samples), rotary[0].shape[-1]
        if self._table is None:
            self._table = torch.cat([table.expand(batch, -1, -1) for table in rotary], dim=-1).flatten(0, 1)
        self._table = self._table.index_select(0, kept)
        self._ranks = self._ranks.reshape(-1)[kept.numpy()].reshape(batch, -1)
        if self.there is not None:
            self._ranks[~self.there.numpy()] = -np.inf
        self.means.ranks = torch.from_numpy(self._ranks)
        table = self._table.view(batch, -1, self._table.shape[1])
        return table[..., :half], table[..., half:]


class OfBatch(ShortLayout):
    """What is left of a batch's prompt; its slots, too, are worked out when somebody asks."""

    def __init__(self, before: PromptLayout, kept: Tensor, sample: int, slots: int, tokens: int, padding: int) -> None:
        """kept: (B M') of ``RankedBatch.keep``; this is prompt ``sample`` of B. slots: M of each before the cut."""
        self.before, self._tokens, self.asking, self.padding = before, tokens, before.asking, padding
        self._kept, self._sample, self._slots = kept, sample, slots

    @cached_property
    def source(self) -> Tensor:  # type: ignore[override]
        stop = (self._sample + 1) * (self.length + self.padding)
        return self._kept[stop - self.length : stop] - self._sample * self._slots

    @property
    def length(self) -> int:
        return self.before.length - self.before.tokens + self._tokens
