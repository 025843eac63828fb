"""Proof on the user's own model: a pruned run against its full-length twin (decoder/full_length.py), on the same weights.

A real prompt and some decode steps go through ``generate``; only floating-point noise may be left between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.context import VisualContext
from senna_autoprune.pruning.decoder.check import STEPS, Probe, SelfCheck, compared, refuse_known
from senna_autoprune.pruning.decoder.full_length import full_length, hidden_tokens
from senna_autoprune.pruning.decoder.hooks import PruningHooks
from senna_autoprune.pruning.decoder.models import sliding_window
from senna_autoprune.pruning.method import Method

GROWING = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "inputs_embeds", "position_ids")


@torch.no_grad()
def self_check(
    model: Any,
    batch: Mapping[str, Any],
    policy: Method,
    steps: int = STEPS,
    visual_mask: Tensor | None = None,
    cls_scores: Tensor | None = None,
    view_sizes: tuple[int, ...] | None = None,
    keys: Tensor | None = None,
) -> SelfCheck:
    """Generate a few tokens from a real prompt, pruned, and compare every step's logits with the full-length twin's.

    Nothing is copied: the twin is the same model with masks, one slow forward over prompt and answer. A policy that merges tokens has no
    such twin; the model is checked by a probe's cuts instead (``method`` of the result says so).

    Args:
        batch: what ``generate`` takes. steps: tokens to generate. The rest: as a policy takes them.

    Returns:
        SelfCheck; it does not raise where the numbers differ.

    Raises:
        SennaPruneError: the policy cannot run on the model at all, or the twin cannot.
    """
    refuse_known(model)
    given = VisualContext(visual_mask, view_sizes, cls_scores, keys) if visual_mask is not None else None
    decoder = PruningHooks(policy, model, given).decoder
    checked = _with_twin(policy, decoder)
    hooks, trace, seen, output = _generated(model, batch, checked, given, steps)
    if any(count for prompt in trace for count in prompt.merged_per_layer):
        checked = Probe()
        hooks, trace, seen, output = _generated(model, batch, checked, given, steps)
    got = torch.stack(output.logits, 1)  # (B, steps, vocab)
    new = output.sequences[:, -steps:][:, :-1]  # the last one is nobody's input
    mask, valid = seen["mask"], seen["valid"]
    length = mask.shape[1] + new.shape[1]
    gone = hidden_tokens(list(trace), mask, length)
    valid = nn.functional.pad(valid.bool(), (0, new.shape[1]), value=True) if valid is not None else None
    with full_length(decoder, gone, hooks.compact, valid):
        want = model(**_longer(hooks.model, batch, new), use_cache=False).logits[:, -steps:]
    return compared(got, want, trace, checked, policy, decoder, "logits")


# --- parts -----------------------------------------------------------------------------------------------------------------------------


def _generated(model: Any, batch: Mapping[str, Any], policy: Method, given: VisualContext | None, steps: int) -> tuple[Any, Any, Any, Any]:
    """Hooks, trace, what ``_Watching`` saw and the output of a pruned ``generate``."""
    hooks = PruningHooks(policy, model, given)
    seen: dict[str, Any] = {}
    named = (getattr(hooks.model.config, f"{name}_token_id", None) for name in ("image", "video", "vision_start", "audio"))
    marks = [mark for mark in named if isinstance(mark, int) and mark >= 0]  # in an answer they would ask for a picture in the twin
    with hooks as trace, _Watching(hooks, seen):
        output = model.generate(
            **batch,
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            num_beams=1,
            suppress_tokens=marks or None,
            use_cache=True,
            return_dict_in_generate=True,
            output_logits=True,
        )
    if not len(trace):
        raise SennaPruneError("the self-check's prompt has no visual tokens, so there is nothing to prune; give one with an image")
    return hooks, trace, seen, output


class _Watching:
    """Keeps where the visual tokens of the prefill were, and its padding."""

    def __init__(self, hooks: PruningHooks, seen: dict[str, Any]) -> None:
        self.hooks, self.seen = hooks, seen

    def __enter__(self) -> None:
        self.handle = self.hooks.decoder.register_forward_pre_hook(self._look, with_kwargs=True)

    def __exit__(self, *exception: Any) -> None:
        self.handle.remove()

    def _look(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.hooks.prefill is not None:
            visual = self.hooks.given or self.hooks.finder.context()
            assert visual is not None
            self.seen.update(mask=visual.mask, valid=kwargs.get("attention_mask"))


def _with_twin(policy: Method, decoder: Any) -> Method:
    """The policy, or a probe in its place where masks cannot show what the policy does: windows over new numbers."""
    windows = any(sliding_window(decoder.config, layer) for layer in range(len(decoder.layers)))
    return Probe() if policy.positions == "compact" and windows else policy


def _longer(model: Any, batch: Mapping[str, Any], new: Tensor) -> dict[str, Any]:
    """The batch with ``new`` (B, n) tokens behind it; pictures and their sizes stay."""
    longer = dict(batch)
    for name in GROWING:
        value = batch.get(name)
        if value is None:
            continue
        if name == "input_ids":
            more = new.to(value)
        elif name == "inputs_embeds":
            more = model.get_input_embeddings()(new).to(value)
        elif name == "attention_mask":
            more = torch.ones_like(new).to(value)
        elif name == "position_ids":
            more = value[..., -1:] + torch.arange(1, new.shape[1] + 1, device=value.device)
        else:
            more = torch.zeros_like(new).to(value)
        longer[name] = torch.cat([value, more], dim=-2 if name == "inputs_embeds" else -1)
    return longer
