"""Policy = a method (method.py) with its budget, ready to use.

A method is a dataclass derived from ``Policy``; its fields are its hyper-parameters. Calling it with a model gives a context manager:

    with AutoPrune(retention=0.25)(model) as trace:
        model.generate(**batch)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import BUDGET_FIELDS, Budget
from senna_autoprune.pruning.context import VisualContext
from senna_autoprune.pruning.method import Method
from senna_autoprune.pruning.trace import Trace

SCOPES = ("scene", "view")


@dataclass(kw_only=True)
class Policy(Method):
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

    def __post_init__(self) -> None:
        self.budget = Budget(**{name: getattr(self, name) for name in BUDGET_FIELDS}, own=self.own_budget)
        self.check_choice("scope", SCOPES)

    @contextmanager
    def __call__(
        self,
        model: Any,
        visual_mask: Tensor | None = None,
        cls_scores: Tensor | None = None,
        view_sizes: tuple[int, ...] | None = None,
        keys: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        allow_unproven: bool = False,
    ) -> Iterator[Trace]:
        """Prune every prefill of ``model`` inside the ``with``; the model is as before afterwards, also after an exception.

        Args:
            model: a ``*ForCausalLM`` or VLM of transformers 5 whose decoder was proved (docs/models.md).
            visual_mask: (B, N) bool, where the visual tokens are; None: the model says, and all that follows is found from it too (Senna by
                ``visual_context``; LLaVA, LLaVA-NeXT and others by multimodal/; of others, where the ``image_token_id`` stands).
            cls_scores: (B, V) CLS attention of the vision tower, for methods that use it.
            view_sizes: visual tokens of each view; None: every contiguous run is a view.
            keys: (B, V, c) the vision tower's attention keys of the visual tokens, for methods that compare tokens.
            seeds: one for each prompt of the batch, so that a prompt's draws do not depend on its company; None: ``seed`` for all.
            allow_unproven: a decoder that nobody proved is compared with its full-length twin first, and refused if they differ.

        Yields:
            Trace: one PromptTrace per prompt and prefill.

        Raises:
            SennaPruneError: if the decoder was not proved, visual positions cannot be found, the budget is impossible, or the mask to the
                other arguments is missing.
        """
        from senna_autoprune.pruning.decoder.check import admit, refuse_known
        from senna_autoprune.pruning.decoder.hooks import PruningHooks

        if visual_mask is None and not (cls_scores is None and view_sizes is None and keys is None):
            raise SennaPruneError("cls_scores, view_sizes and keys describe a visual_mask; pass visual_mask=(B, N) bool with them")
        given = VisualContext(visual_mask, view_sizes, cls_scores, keys) if visual_mask is not None else None
        refuse_known(model)
        hooks = PruningHooks(self, model, given, seeds)
        admit(hooks.decoder, allow_unproven)
        with hooks as trace:
            yield trace
