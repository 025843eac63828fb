"""Method = allocation (how many tokens in each layer) + selection (which) + revival (what becomes of the rest).

What a decoder asks of a method, with the answers that most give. ``Policy`` (policy.py) adds the budget and the ``with``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation, Budget
from senna_autoprune.pruning.context import PromptContext, Revived
from senna_autoprune.pruning.parts.selection import split_evenly, top_tokens, top_tokens_per_view


class Method:
    """The three parts, and when they are asked.

    budget, scope, seed: see Policy.
    """

    budget: Budget
    scope: str
    seed: int

    positions: ClassVar[str] = "original"  # or "compact": renumbered after each cut
    needs: ClassVar[frozenset[str]] = frozenset()  # what to ask the vision tower for, e.g. "cls_scores"
    rows: ClassVar[str] = "text"  # attention rows that scores read: "text" or "last"
    own_budget: ClassVar[bool] = False  # a mode whose released constants are its budget, so that none is given
    spends: ClassVar[str] = "entering"  # what the budget counts: tokens "entering" or "leaving" a layer; "released": the notes tell
    # for ``senna-prune methods``
    paper: ClassVar[str] = ""
    cuts: ClassVar[str] = "between layers"  # or "before the decoder"
    optional: ClassVar[frozenset[str]] = frozenset()  # what the method uses where the vision tower has it, and can do without

    def check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Raise SennaPruneError unless the field ``name`` is one of ``choices``."""
        if getattr(self, name) not in choices:
            raise SennaPruneError(f"{type(self).__name__}: {name}={getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")

    def probes(self, layers: int) -> tuple[int, ...]:
        """Layers after which ``allocate`` is asked (again); -1 is the decoder's input."""
        return (-1,)

    def measure(self, context: PromptContext, layer: int) -> Tensor | None:
        """Numbers the allocation needs on the host, as a small 1-d tensor; all prompts' travel in one transfer."""
        return None

    def allocate(self, context: PromptContext) -> Allocation:
        """How many visual tokens enter each layer."""
        raise SennaPruneError(f"{type(self).__name__} has no allocate(context): say how many visual tokens enter each layer")

    def scores_from_attention(self, layer: int) -> bool:
        """Whether the cut at the input of ``layer`` reads the attention of the layer below."""
        return layer > 0

    def ranks_by_mean_attention(self, layer: int) -> bool:
        """Whether the cut at the input of ``layer`` keeps the scene's tokens of the highest mean attention and does nothing else: what
        ``score`` and ``select`` here do. The decoder then takes a shorter way to the same tokens (decoder/ranked.py), and asks neither.
        """
        stock = type(self).score in STOCK_SCORES and type(self).select is _SELECT and not {"score", "select"} & vars(self).keys()
        return stock and self.scope == "scene" and self.rows == "text" and self.scores_from_attention(layer)

    def score(self, context: PromptContext, layer: int) -> Tensor:
        """(v,) importance of the current visual tokens at the input of ``layer``. Default: mean attention of the layer below."""
        if context.attention is None:
            raise SennaPruneError(
                f"{type(self).__name__} has no score(context, layer), and there is no attention to rank by at the input of layer {layer}; "
                "define score, or cut at a layer >= 1 whose scores_from_attention is true"
            )
        return context.attention.mean_to_visual()

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """(count,) ascending indices of the current visual tokens that stay. Default: the best scores, per scene or per view."""
        scores = context.scratch["scores"] = self.score(context, layer)
        if not isinstance(scores, Tensor) or scores.shape != context.layout.visual.shape:
            said = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            tokens = len(context.layout.visual)
            raise SennaPruneError(f"{type(self).__name__}.score: gave {said} for {tokens} visual tokens; give one score each")
        context.ranked.append(scores)
        if self.scope == "scene":
            context.view_counts = None
            return top_tokens(scores, count)
        sizes = context.view_counts or list(context.view_sizes)
        groups = _ranges(sizes, len(context.layout.visual), scores.device)
        context.view_counts = split_evenly(count, [len(group) for group in groups])
        return top_tokens_per_view(scores, count, groups)

    def revive(self, context: PromptContext, layer: int, dropped: Tensor, count: int) -> Revived:
        """``count`` new tokens out of the ``dropped`` ((D,) ascending indices); asked if the allocation selects fewer than enter."""
        raise SennaPruneError(f"{type(self).__name__} selects fewer tokens than enter layer {layer}, but has no revive to make the rest")

    def describe(self, context: PromptContext) -> dict[str, Any]:
        """mutual_information, k and x0 for the trace, where the method has them."""
        return {}


STOCK_SCORES: set[Any] = {Method.score}  # functions that are ``context.attention.mean_to_visual()``
_SELECT = Method.select


def _ranges(sizes: list[int], total: int, device: Any) -> list[Tensor]:
    """Contiguous index ranges of the given sizes; tokens beyond them (merged ones) form a last group."""
    sizes = [*sizes, total - sum(sizes)] if total > sum(sizes) else sizes
    edges = [0]
    for size in sizes:
        edges.append(edges[-1] + size)
    return [torch.arange(start, stop, device=device) for start, stop in zip(edges[:-1], edges[1:], strict=True)]
