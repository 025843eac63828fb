"""Policy = allocation (how many tokens in each layer) + selection (which) + revival (what becomes of the rest).

A method is a dataclass derived from ``Policy``; its fields are its hyper-parameters. Calling it with a model gives a context manager:

    with AutoPrune(retention=0.25)(model) as trace:
        model.generate(**batch)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import BUDGET_FIELDS, Allocation, Budget
from senna_autoprune.pruning.context import SampleContext, VisualContext
from senna_autoprune.pruning.revival import Revived
from senna_autoprune.pruning.selection import split_evenly, top_tokens, top_tokens_per_view
from senna_autoprune.pruning.trace import Trace

SCOPES = ("scene", "view")


@dataclass(kw_only=True)
class Policy:
    """Base of every method. Give exactly one budget: retention, tokens, tokens_per_view or flops (budget.py).

    scope: "scene" ranks all views together, "view" splits each layer's tokens evenly over the views.
    seed: of everything random in the method.

    Raises:
        SennaPruneError: on a bad budget or option, when constructed or when the prompt makes the budget impossible.
    """

    retention: float | None = None
    tokens: float | None = None
    tokens_per_view: float | None = None
    flops: float | None = None
    scope: str = "scene"
    seed: int = 0

    positions: ClassVar[str] = "original"  # or "compact": renumbered after each cut
    needs: ClassVar[frozenset[str]] = frozenset()  # what to ask the vision tower for, e.g. "cls_scores"
    rows: ClassVar[str] = "text"  # attention rows that scores read: "text" or "last"
    own_budget: ClassVar[bool] = False  # a mode whose released constants are its budget, so that none is given

    def __post_init__(self) -> None:
        self.budget = Budget(**{name: getattr(self, name) for name in BUDGET_FIELDS}, own=self.own_budget)
        self.check_choice("scope", SCOPES)

    def check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Raise SennaPruneError unless the field ``name`` is one of ``choices``."""
        if getattr(self, name) not in choices:
            raise SennaPruneError(f"{type(self).__name__}: {name}={getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")

    # --- the three parts, and when they are asked -------------------------------------------------------------------------------------

    def probes(self, layers: int) -> tuple[int, ...]:
        """Layers after which ``allocate`` is asked (again); -1 is the decoder's input."""
        return (-1,)

    def measure(self, context: SampleContext, layer: int) -> Tensor | None:
        """Numbers the allocation needs on the host, as a small 1-d tensor; all samples' travel in one transfer."""
        return None

    def allocate(self, context: SampleContext) -> Allocation:
        """How many visual tokens enter each layer."""
        raise NotImplementedError

    def scores_from_attention(self, layer: int) -> bool:
        """Whether the cut at the input of ``layer`` reads the attention of the layer below."""
        return layer > 0

    def score(self, context: SampleContext, layer: int) -> Tensor:
        """(v,) importance of the current visual tokens at the input of ``layer``. Default: mean attention of the layer below."""
        assert context.attention is not None
        return context.attention.mean_to_visual()

    def select(self, context: SampleContext, layer: int, count: int) -> Tensor:
        """(count,) ascending indices of the current visual tokens that stay. Default: the best scores, per scene or per view."""
        scores = context.scratch["scores"] = self.score(context, layer)
        if self.scope == "scene":
            context.view_counts = None
            return top_tokens(scores, count)
        sizes = context.view_counts or list(context.view_sizes)
        groups = _ranges(sizes, len(context.layout.visual), scores.device)
        context.view_counts = split_evenly(count, [len(group) for group in groups])
        return top_tokens_per_view(scores, count, groups)

    def revive(self, context: SampleContext, layer: int, dropped: Tensor, count: int) -> Revived:
        """``count`` new tokens out of the ``dropped`` ((D,) ascending indices); asked if the allocation selects fewer than enter."""
        raise NotImplementedError

    def describe(self, context: SampleContext) -> dict[str, Any]:
        """mutual_information, k and x0 for the trace, where the method has them."""
        return {}

    # --- use --------------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def __call__(
        self,
        model: Any,
        visual_mask: Tensor | None = None,
        cls_scores: Tensor | None = None,
        view_sizes: tuple[int, ...] | None = None,
        keys: Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Iterator[Trace]:
        """Prune every prefill of ``model`` inside the ``with``; the model is as before afterwards, also after an exception.

        Args:
            model: any Llama-family ``*ForCausalLM`` or VLM of transformers 5.
            visual_mask: (B, N) bool, where the visual tokens are; None: the model says, and all that follows is found from it too (Senna by
                ``visual_context``; LLaVA, LLaVA-NeXT and Qwen2.5-VL by multimodal/; of others, where the ``image_token_id`` stands).
            cls_scores: (B, V) CLS attention of the vision tower, for methods that use it.
            view_sizes: visual tokens of each view; None: every contiguous run is a view.
            keys: (B, V, c) the vision tower's attention keys of the visual tokens, for methods that compare tokens.
            seeds: one for each sample of the batch, so that a sample's draws do not depend on its company; None: ``seed`` for all.

        Yields:
            Trace: one SampleTrace per sample and prefill.

        Raises:
            SennaPruneError: if visual positions cannot be found, the budget is impossible, or the mask to the other arguments is missing.
        """
        from senna_autoprune.pruning.engine import Engine

        if visual_mask is None and not (cls_scores is None and view_sizes is None and keys is None):
            raise SennaPruneError("cls_scores, view_sizes and keys describe a visual_mask; pass visual_mask=(B, N) bool with them")
        given = VisualContext(visual_mask, view_sizes, cls_scores, keys) if visual_mask is not None else None
        with Engine(self, model, given, seeds) as trace:
            yield trace


def _ranges(sizes: list[int], total: int, device: Any) -> list[Tensor]:
    """Contiguous index ranges of the given sizes; tokens beyond them (merged ones) form a last group."""
    import torch

    sizes = [*sizes, total - sum(sizes)] if total > sum(sizes) else sizes
    edges = [0]
    for size in sizes:
        edges.append(edges[-1] + size)
    return [torch.arange(start, stop, device=device) for start, stop in zip(edges[:-1], edges[1:], strict=True)]
