"""The short way of a cut (ranked.py) for a batch whose layers attend prompt by prompt on a CPU (one_by_one.py): one sort for all prompts.

Slots are those of the padded batch: at visual tokens a rank is the mean attention, at text +inf, at padding -inf. Here, too, gather.py is
the way for everything else, and the twin in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.pruning.context import AttentionRows, PromptLayout


class RankedBatch:
    """The tables of a batch's prompts, shortened with them.

    starts: slots of padding on the left of each. there: (B, M) bool, False at padding; None: no padding.
    """

    def __init__(self, layouts: Sequence[PromptLayout], length: int) -> None:
        """layouts: of prompts that end at slot ``length``."""
        self._text = [len(layout.text) for layout in layouts]
        ranks = np.full((len(layouts), length), -np.inf, dtype=np.float32)
        for row, layout in zip(ranks, layouts, strict=True):
            row[length - layout.length :] = 0
            row[layout.text.numpy() if layout.host_text is None else layout.host_text] = np.inf
        self._ranks = torch.from_numpy(ranks)  # (B, M)
        self._shares: dict[int, Tensor] = {}
        self._table: Tensor | None = None  # (B M, 2 h), or with the ranks (B M, 2 h + 1)
        self.starts = [length - layout.length for layout in layouts]
        self.there: Tensor | None = None

    def rank(self, rows: Sequence[AttentionRows]) -> Tensor:
        """(B, M): the mean over heads and rows at visual tokens, +inf at text, -inf at padding."""
        scores = self._ranks.clone()
        for sample, one in enumerate(rows):
            weights = one.weights.flatten(0, 1)  # (H T, M or without the padding)
            if len(weights) not in self._shares:
                self._shares[len(weights)] = torch.full((1, len(weights)), 1 / len(weights))
            share, first = self._shares[len(weights)], scores.shape[1] - weights.shape[1]
            own = self._ranks[sample : sample + 1, first:]
            scores[sample, first:] = torch.addmm(own, share, weights)[0]
        return scores

    def keep(self, scores: Tensor, tokens: Sequence[int]) -> Tensor:
        """(B, M') slots that stay, ascending, 0 at padding: each prompt's text and ``tokens`` best visual ones, ties to the lower slot."""
        lengths = [text + count for text, count in zip(self._text, tokens, strict=True)]
        longest, slots = max(lengths), torch.arange(scores.shape[1])
        self.starts = [longest - length for length in lengths]
        order = torch.sort(scores, dim=1, descending=True, stable=True).indices  # (B, M)
        staying = torch.zeros(scores.shape, dtype=torch.bool).scatter_(1, order, slots < torch.tensor(lengths)[:, None])
        kept = staying.nonzero()[:, 1]  # of one prompt after the other
        if not any(self.starts):
            self.there = None
            return kept.view(len(lengths), longest)
        self.there = slots[:longest] >= torch.tensor(self.starts)[:, None]  # (B, M')
        return torch.zeros(self.there.shape, dtype=torch.long).masked_scatter_(self.there, kept)

    def follow(self, source: Tensor, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Hidden states (B, M', d), cosines and sines (B, M', h) after a cut.

        Args:
            source: (B, M') of ``keep``. hidden: (B, M, d). rotary: of the whole prompts, (B or 1, N, h).
        """
        batch, slots, width = hidden.shape
        flat = (source + slots * torch.arange(batch)[:, None]).flatten()
        half = rotary[0].shape[-1]
        if self._table is None:
            parts = [table.expand(batch, -1, -1) for table in rotary]
            self._joined = parts[0].dtype == self._ranks.dtype
            self._table = torch.cat([*parts, self._ranks[..., None]] if self._joined else parts, dim=-1).flatten(0, 1)
        self._table = self._table.index_select(0, flat)
        ranks = self._table[:, -1] if self._joined else self._ranks.flatten().index_select(0, flat)
        ranks = ranks.view(source.shape)
        self._ranks = ranks if self.there is None else ranks.masked_fill(~self.there, float("-inf"))
        cos, sin = (self._table[:, first : first + half].view(*source.shape, half) for first in (0, half))
        return hidden.flatten(0, 1).index_select(0, flat).view(*source.shape, width), (cos, sin)
