"""Prune2Drive (arXiv 2508.13305): before the decoder, farthest-point sampling in each view, with a ratio of its own for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.before import keep_before_decoder
from senna_autoprune.pruning.parts.diversity import cosine_similarities, farthest_points
from senna_autoprune.pruning.parts.views import groups
from senna_autoprune.pruning.policy import Policy


@dataclass(kw_only=True)
class Prune2Drive(Policy):
    """T-FPS per view on the cosine distance of embeddings. Positions stay original, as released.

    view_ratios: relative retention of each view, in prompt order; scaled so that they average R (a view keeps all it has at most).
    None: equal. The paper searches them with labels for its own model and data; no search is made here.

    Raises:
        SennaPruneError: on an impossible budget, or ratios that do not fit the views.
    """

    scope: str = "view"
    view_ratios: Sequence[float] | None = None

    paper = "arXiv 2508.13305"
    cuts = "before the decoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scope != "view":
            raise SennaPruneError("Prune2Drive: samples each view by itself; for all views at once use divprune")
        ratios = self.view_ratios
        if ratios is not None and (min(ratios, default=0) < 0 or not 0 < sum(ratios) < math.inf):
            raise SennaPruneError(f"Prune2Drive: view_ratios={list(ratios)} must be numbers >= 0, not all 0")

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer."""
        return keep_before_decoder(context)

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """Farthest points of each view."""
        tokens, kept = context.visual_hidden, []
        for part in groups(context, self.scope, count, self.view_ratios):
            distance = 1 - cosine_similarities(tokens[part.start : part.stop])
            kept.append(farthest_points(distance, part.share).sort().values + part.start)
        return torch.cat(kept)
