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
from senna_autoprune.pruning.decoder import rows_once
from senna_autoprune.pruning.parts.selection import top_tokens_of_each


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
        self.means = rows_once.Means(torch.from_numpy(ranks), [layout.asking for layout in layouts])
        self._tables: list[Tensor] = []  # cosines and sines (B M, h)
        self.starts = [length - layout.length for layout in layouts]
        self.there: Tensor | None = None

    def rank(self, rows: Sequence[AttentionRows]) -> Tensor:
        """(B, M): the mean over heads and rows at visual tokens, +inf at text, -inf at padding; of a layer whose rows were kept."""
        scores = self.means.ranks.clone()
        for sample, one in enumerate(rows):
            scores[sample, one.start :] += one.weights.mean((0, 1))
        return scores

    def keep(self, scores: Tensor, tokens: Sequence[int]) -> Tensor:
        """(B, M') slots that stay, ascending, 0 at padding: each prompt's text and ``tokens`` best visual ones, ties to the lower slot."""
        lengths = [text + count for text, count in zip(self._text, tokens, strict=True)]
        longest = max(lengths)
        self.starts = [longest - length for length in lengths]
        kept = top_tokens_of_each(scores, lengths)
        if not any(self.starts):
            self.there = None
            return kept.view(len(lengths), longest)
        there = np.arange(longest) >= np.array(self.starts)[:, None]  # (B, M'); on the host, where an operation costs a tenth
        source = np.zeros(there.shape, dtype=np.int64)
        source[there] = kept.numpy()
        self.there = torch.from_numpy(there)
        return torch.from_numpy(source)

    def follow(self, source: Tensor, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Hidden states (B, M', d), cosines and sines (B, M', h) after a cut.

        Args:
            source: (B, M') of ``keep``. hidden: (B, M, d). rotary: of the whole prompts, (B or 1, N, h).
        """
        batch, slots, width = hidden.shape
        flat = torch.from_numpy((source.numpy() + slots * np.arange(batch)[:, None]).reshape(-1))
        before = self._tables or [table.expand(batch, -1, -1).flatten(0, 1) for table in rotary]
        self._tables = [table.index_select(0, flat) for table in before]
        ranks = self.means.ranks.flatten().index_select(0, flat).view(source.shape)
        self.means.ranks = ranks if self.there is None else ranks.masked_fill_(~self.there, float("-inf"))
        cos, sin = (table.view(*source.shape, -1) for table in self._tables)
        return hidden.flatten(0, 1).index_select(0, flat).view(*source.shape, width), (cos, sin)
