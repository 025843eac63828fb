"""SparseVLM (arXiv 2410.04417): text raters judge the visual tokens at three depths, and some of the dropped are recycled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import SampleContext
from senna_autoprune.pruning.methods.merging import merge_dropped
from senna_autoprune.pruning.methods.sparsevlm_release import CUTS, LISTS, by_rank, corrected_score, listed
from senna_autoprune.pruning.methods.staged import merging, scaled_cuts, solve_stages
from senna_autoprune.pruning.policy import Policy
from senna_autoprune.pruning.raters import rank_of, rated, text_raters
from senna_autoprune.pruning.revival import Revived

PROPORTIONS = (300, 200, 110)


@dataclass(kw_only=True)
class SparseVLM(Policy):
    """Cuts after layers 2, 6, 15 of 32 by the mean attention of the raters (text close to the image) in the layer below.

    mode="paper" (default): the released proportions 300 : 200 : 110 scaled for the budget, depths by L / 32; 30 % of the dropped are
    recycled into a tenth by density peaks, and count. R cannot be below the share of the layers above the first cut.
    Released versions, whose constants are their budget, so give none: "v1.5", "v2.0" with the list named ``retain`` (192, 128, 96, 64);
    "v1.0" adapts to the text: rank x ``scale`` + ``bias`` tokens. v1.x renumbers positions; v2.0 and paper keep the original ones.
    noise: per layer the uniform numbers that break density ties, instead of drawing them from the seed.

    Raises:
        SennaPruneError: on a bad option, or an impossible budget (with the nearest possible one).
    """

    mode: str = "paper"
    retain: int = 192
    scale: float = 13.5
    bias: float = 0.0
    noise: Mapping[int, Tensor] | None = None

    def __post_init__(self) -> None:
        self.check_choice("mode", ("paper", *CUTS))
        if self.retain not in LISTS["v1.5"]:
            raise SennaPruneError(f"SparseVLM: there is no released list retain={self.retain!r}; choose 192, 128, 96 or 64")
        self.own_budget = self.mode != "paper"  # type: ignore[misc]
        self.positions = "compact" if self.mode in ("v1.0", "v1.5") else "original"  # type: ignore[misc]
        super().__post_init__()

    def probes(self, layers: int) -> tuple[int, ...]:
        """The decoder's input shows the raters; v1.0 looks at the rank before each cut."""
        return (-1, *(cut - 1 for cut in CUTS["v1.0"] if cut < layers and self.mode == "v1.0"))

    def measure(self, context: SampleContext, layer: int) -> Tensor | None:
        """At the input the raters, which stay on the device; then, for v1.0, the rank of what they attend to."""
        if layer == -1:
            context.scratch["raters"] = text_raters(context.visual_hidden, context.text_hidden[-context.layout.asking :])
            return None
        assert context.attention is not None
        return rank_of(context.attention.to_visual(), context.scratch["raters"])[None]

    def allocate(self, context: SampleContext) -> Allocation:
        """Three stages, recycled tokens included."""
        if self.mode != "paper":
            return by_rank(context, self.scale, self.bias) if self.mode == "v1.0" else listed(context, self.mode, self.retain)
        cuts = scaled_cuts(context.layers, [cut / 32 for cut in CUTS["v1.5"]])
        shares = [share / PROPORTIONS[-1] for share in PROPORTIONS[len(PROPORTIONS) - len(cuts) :]]
        return merging(solve_stages(context, cuts, lambda scale: [min(1.0, scale * share) for share in shares]))

    def score(self, context: SampleContext, layer: int) -> Tensor:
        """Mean over heads and raters; v2.0 corrects it."""
        assert context.attention is not None
        raters = context.scratch["raters"]
        return corrected_score(context, raters) if self.mode == "v2.0" else rated(context.attention.to_visual(), raters)

    def revive(self, context: SampleContext, layer: int, dropped: Tensor, count: int) -> Revived:
        """Cluster means of the best of the dropped."""
        return merge_dropped(context, dropped, count, (self.noise or {}).get(layer - 1))
