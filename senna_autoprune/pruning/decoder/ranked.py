"""The short way of a cut: one unpadded prompt whose tokens are ranked by the mean attention of its text rows, and dropped.

Ranking, selecting and merging with the text are one sort over slots: text has the rank +inf. Rotary rows and ranks are gathered by one
index, and where tokens were (context.py: ShortLayout) is worked out only if somebody asks. gather.py is the way for everything else, and
the twin in the tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.pruning.context import AttentionRows, PromptLayout
from senna_autoprune.pruning.decoder import rows_once
from senna_autoprune.pruning.parts.selection import top_tokens


class Ranked:
    """One prompt's tables, shortened with it.

    future: of rows_once, or None where every token stays: no scores are needed there, and nothing may differ from stock.
    """

    def __init__(self, layout: PromptLayout, length: int, once: bool) -> None:
        self.text, self.asking = layout.text, layout.asking
        self.future = rows_once.future(layout.asking, length, layout.text.device) if once else None
        ranks = np.zeros(length, dtype=np.float32)
        ranks[layout.text.cpu().numpy() if layout.host_text is None else layout.host_text] = np.inf
        self.means = rows_once.Means(torch.from_numpy(ranks)[None].to(layout.text.device), [layout.asking])
        self._table: Tensor | None = None  # (M, 2 h), cosines and sines; a column more would put every row across a cache line's edge

    def rank(self, rows: AttentionRows) -> Tensor:
        """(1, M): the mean over heads and rows at visual tokens, +inf at text; of a layer whose rows were kept."""
        return self.means.ranks + rows.weights.mean((0, 1))

    def keep(self, ranked: Tensor, tokens: int) -> Tensor:
        """(M',) ascending slots: all text and the ``tokens`` best visual ones, ties to the lower slot."""
        return top_tokens(ranked[0], len(self.text) + tokens)

    def follow(self, source: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Cosines and sines (1, M', h) after a cut. rotary: of the whole prompt, (1, N, h)."""
        if self._table is None:
            self._table = torch.cat([table[0] for table in rotary], dim=1)
        self._table = self._table.index_select(0, source)
        self.means.ranks = self.means.ranks.index_select(1, source)
        half = rotary[0].shape[-1]
        return self._table[None, :, :half], self._table[None, :, half:]


def can_rank(kwargs: dict[str, Any], batch: int = 1) -> bool:
    """Whether a layer's keywords hold one rotary table (B or 1, N, h) for all heads, as ``follow`` wants."""
    tables = kwargs.get("position_embeddings")
    return isinstance(tables, tuple) and len(tables) == 2 and all(table.dim() == 3 and table.shape[0] in (1, batch) for table in tables)
