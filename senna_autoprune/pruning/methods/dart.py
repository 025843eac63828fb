"""DART (arXiv 2502.11494): keep what duplicates a few pivot tokens least.

The paper cuts inside the decoder, on the states that enter its third layer (``layer=2``); engines that run the decoder as one
piece (such as TensorRT-Edge-LLM) do the same on the embeddings, before it, and so does the default here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.before import keep_before_decoder
from senna_autoprune.pruning.parts.selection import split_evenly, top_tokens
from senna_autoprune.pruning.parts.staged import solve_stages
from senna_autoprune.pruning.parts.views import groups
from senna_autoprune.pruning.policy import Policy


@dataclass(kw_only=True)
class DART(Policy):
    """Pivots are the visual tokens of each view, and the text tokens, of the largest L1 norm; then each pivot in turn takes the
    tokens least similar to it (cosine) of those that are left. Positions stay original.

    layer: at whose input to cut; 0: before the decoder. The paper's budget n follows from (layer V + (L - layer) n) / L = R V.
    The release takes pivots by the norm of their keys, here it is that of the states, at every layer; the paper finds no difference.
    image_pivots, text_pivots: of each view, and of the text (shared by the views); released: 4 and 4.

    Raises:
        SennaPruneError: on an impossible budget or layer, or no pivot at all.
    """

    scope: str = "view"
    image_pivots: int = 4
    text_pivots: int = 4
    layer: int = 0

    paper = "arXiv 2502.11494"
    cuts = "before the decoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer < 0:
            raise SennaPruneError(f"DART: layer={self.layer!r} must be 0 (before the decoder) or a layer of it")
        if min(self.image_pivots, self.text_pivots) < 0 or self.image_pivots + self.text_pivots == 0:
            raise SennaPruneError(f"DART: {self.image_pivots} image and {self.text_pivots} text pivots; none below 0, and at least one")

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer, or from ``layer`` on."""
        if self.layer == 0:
            return keep_before_decoder(context)
        cuts = [self.layer] if self.layer < context.layers else []
        return Allocation(tuple(solve_stages(context, cuts, lambda share: [share] * len(cuts))))

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """Pivots of each view, then what is least like them."""
        tokens, text = context.visual_hidden.float(), context.text_hidden.float()
        words = text[_largest(text, min(self.text_pivots, len(text)))]
        kept = [
            part.start + least_duplicated(tokens[part.start : part.stop], words, part.share, self.image_pivots)
            for part in groups(context, self.scope, count)
        ]
        return torch.cat(kept)


def _largest(tokens: Tensor, count: int) -> Tensor:
    """(count,) indices of the largest L1 norms, largest first, ties to the lower index."""
    return torch.sort(tokens.abs().sum(dim=-1), descending=True, stable=True).indices[:count]


def least_duplicated(tokens: Tensor, words: Tensor, count: int, image_pivots: int) -> Tensor:
    """(count,) ascending indices of ``tokens`` (v, d): image pivots first, the rest split evenly over all pivots in their order.

    Args:
        words: (P, d) text pivots.
    """
    pivots = _largest(tokens, min(image_pivots, count))
    chosen = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    chosen[pivots] = True
    sources = torch.cat([tokens[pivots], words])  # (P, d)
    similar = torch.nn.functional.normalize(sources, dim=-1) @ torch.nn.functional.normalize(tokens, dim=-1).T  # (P, v)
    rest = count - len(pivots)
    for row, share in zip(similar, split_evenly(rest, [rest] * len(sources)) if rest else [], strict=False):
        chosen[top_tokens(-row.masked_fill(chosen, torch.inf), share)] = True
    return top_tokens(chosen.float(), count)  # not nonzero: its size would have to come to the host
