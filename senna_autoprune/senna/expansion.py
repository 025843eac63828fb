"""One image mark in ``input_ids`` stands for a whole view; here each mark becomes its visual positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError


@dataclass
class Expansion:
    """Where each position of the expanded sequence comes from.

    Attributes:
        source: column of ``input_ids`` behind each expanded position, (B, N).
        visual_mask: True at visual positions, (B, N).
        num_views: image marks in every row.
    """

    source: Tensor
    visual_mask: Tensor
    num_views: int

    @property
    def length(self) -> int:
        """N, the number of positions the decoder sees."""
        return self.source.shape[1]

    def spread(self, rows: Tensor) -> Tensor:
        """(B, n) values of the marks and tokens -> (B, N) values of the positions."""
        return rows.gather(1, self.source)


def count_views(input_ids: Tensor, image_token_id: int) -> int:
    """Image marks per row of ``input_ids`` (B, n).

    Raises:
        SennaPruneError: rows hold different numbers of marks (they could not share one batch of views).
    """
    counts = sorted(set((input_ids == image_token_id).sum(1).tolist()))
    if len(counts) > 1:
        raise SennaPruneError(
            f"questions of one batch hold different numbers of <image> marks ({', '.join(map(str, counts))}): "
            "batch questions with the same number of views"
        )
    return counts[0] if counts else 0


def expand_marks(input_ids: Tensor, image_token_id: int, tokens_per_view: int) -> Expansion:
    """Lay out ``input_ids`` (B, n) with each image mark widened to ``tokens_per_view`` positions.

    Raises:
        SennaPruneError: as :func:`count_views`.
    """
    views = count_views(input_ids, image_token_id)
    batch, width = input_ids.shape
    marks = input_ids == image_token_id  # (B, n)
    length = width + views * (tokens_per_view - 1)
    repeats = torch.where(marks, tokens_per_view, 1).flatten()  # (B * n)
    columns = torch.arange(width, device=input_ids.device).repeat(batch)  # (B * n)
    source = columns.repeat_interleave(repeats, output_size=batch * length).view(batch, length)  # (B, N)
    return Expansion(source=source, visual_mask=marks.gather(1, source), num_views=views)
