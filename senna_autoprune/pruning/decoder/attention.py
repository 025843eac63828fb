"""See a few rows of a layer's attention without asking the layer for them.

transformers dispatches attention by name. Under a name of ours, the layer's own kernel runs unchanged (SDPA, flash, flex, eager), and
beside it the softmax rows of the text tokens are computed from the q and k that are already there: O(H T M), never O(M^2).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from senna_autoprune.pruning.context import AttentionRows, PromptLayout
from senna_autoprune.pruning.decoder import one_by_one, rows_once
from senna_autoprune.pruning.decoder.gather import beyond
from senna_autoprune.pruning.decoder.timing import HostTimer

PREFIX = "senna_prune|"


@dataclass
class Capture:
    """A request for rows of one attention module, and its answer: one AttentionRows a sample, or ``ranks``. timer: runs meanwhile.

    window: the layer's sliding window if it hides anything, counted in ``places`` (B, M); without places, in slots.
    future: of ``rows_once.future``, where the rows may be computed once, for this answer and for the layer's output; None: beside it.
    means: if nothing is asked for but the ranks (B, M) that it adds up; rows may be given all the same.
    """

    layouts: Sequence[PromptLayout]
    valid: Tensor | None  # (B, M) bool, None: no padding
    rows: str  # "text": all text after the last visual token; "last": the last token
    result: list[AttentionRows] | None = None
    timer: HostTimer = field(default_factory=HostTimer)
    window: int | None = None
    places: Tensor | None = None
    future: Tensor | None = None
    means: rows_once.Means | None = None
    ranks: Tensor | None = None

    def take(self, found: list[AttentionRows] | Tensor | None) -> None:
        """An answer of either kind; None: none."""
        if isinstance(found, Tensor):
            self.ranks = found
        else:
            self.result = found


_CAPTURES: WeakKeyDictionary[nn.Module, Capture] = WeakKeyDictionary()
_PADDED: WeakKeyDictionary[nn.Module, one_by_one.Padding] = WeakKeyDictionary()


def request(module: nn.Module, capture: Capture) -> None:
    """Ask for rows of ``module``'s next forward."""
    _CAPTURES[module] = capture


def separate(module: nn.Module, padding: one_by_one.Padding) -> None:
    """Let ``module``'s next forward attend prompt by prompt, where it is plain causal attention."""
    _PADDED[module] = padding


def withdraw(module: nn.Module) -> None:
    """Take both back; no error if there is nothing."""
    _CAPTURES.pop(module, None)
    _PADDED.pop(module, None)


def probing_name(implementation: str) -> str:
    """The name under which ``implementation`` runs with its rows visible; registers it (and its mask twin) on first use."""
    if implementation.startswith(PREFIX):
        return implementation
    name = PREFIX + implementation
    if name not in AttentionInterface._global_mapping:
        AttentionInterface.register(name, _probing(implementation))
        masks = AttentionMaskInterface._global_mapping
        if implementation in masks:
            AttentionMaskInterface.register(name, cast(Callable[..., Any], masks[implementation]))
    return name


def _probing(implementation: str) -> Callable[..., Any]:
    def forward(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
        capture = _CAPTURES.pop(module, None) if _CAPTURES else None
        padding = _PADDED.pop(module, None) if _PADDED else None
        kernel, output = _kernel(implementation, module), None
        if padding is not None and rows_once.plain(implementation, module, query, kwargs):
            asked = (capture.layouts, capture.timer, capture.means) if capture is not None and capture.rows == "text" else ()
            output, found = one_by_one.attend(kernel, module, (query, key, value), padding, kwargs, *asked)
            if capture is not None:
                capture.take(found)
        elif padding is not None and padding.mask is not None:
            attention_mask = padding.mask()
        elif (
            capture is not None
            and capture.future is not None
            and rows_once.serves(implementation, module, query, key, attention_mask, kwargs)
        ):
            layout = capture.layouts[0]
            more = (capture.future, layout.asking, kwargs, capture.timer, capture.means)
            output, seen = rows_once.attend(kernel, module, (query, key, value), *more)
            capture.take(seen if capture.means is not None else [AttentionRows(seen[0, :, -layout.asking :], layout)])
        if capture is not None and capture.result is None and capture.ranks is None:
            scaling = kwargs.get("scaling")
            with capture.timer, torch.no_grad():  # nothing learns from what ranks tokens, and checkpointing does not repeat it
                cap, sinks = (None, None) if implementation == "sdpa" else (kwargs.get("softcap"), kwargs.get("s_aux"))  # not of SDPA
                capture.result = attention_rows(query, key, query.shape[-1] ** -0.5 if scaling is None else scaling, capture, cap, sinks)
        return kernel(module, query, key, value, attention_mask, **kwargs) if output is None else (output, None)

    return forward


def _kernel(implementation: str, module: nn.Module) -> Callable[..., Any]:
    """The function transformers would have called. Eager attention is no entry of the table but a function of the model's file."""
    if implementation == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward
    return AttentionInterface._global_mapping[implementation]


def attention_rows(
    query: Tensor, key: Tensor, scaling: float, capture: Capture, cap: float | None = None, sinks: Tensor | None = None
) -> list[AttentionRows]:
    """Causal softmax attention of the asked rows, in float32.

    Args:
        query: (B, H, M, h) and key: (B, G, M, h), rotary applied; H is a multiple of G (grouped queries).
        cap: of the scores, by tanh (Gemma 2); None: no cap. sinks: (H,) scores of a column that takes its share and is not shown (GPT-OSS).

    Returns:
        per sample weights (H, T, M).
    """
    heads, groups, slots = query.shape[1], key.shape[1], key.shape[2]
    positions = torch.arange(slots, device=query.device)
    answers = []
    for sample, layout in enumerate(capture.layouts):
        if capture.valid is None:  # they are the last ones
            first = slots - (layout.asking if capture.rows == "text" else 1)
            rows, asked = positions[first:], query[sample, :, first:]
        else:
            rows = layout.text_rows if capture.rows == "text" else layout.text_rows[-1:]
            asked = query[sample].index_select(1, rows)
        asked = asked.float() * scaling  # (H, T, h)
        asked = asked.reshape(groups, heads // groups * len(rows), -1)
        scores = asked @ key[sample].float().transpose(1, 2)  # (G, H/G T, M)
        scores = scores.view(heads, len(rows), slots)
        if cap is not None:
            scores = cap * torch.tanh(scores / cap)
        # Nothing but text follows the first asked row of an unpadded sequence: only those columns can lie in the future
        tail = slots - len(rows) if capture.valid is None and capture.window is None else 0
        hidden = positions[None, tail:] > rows[:, None]  # (T, M - tail)
        if capture.valid is not None:
            hidden = hidden | ~capture.valid[sample][None, :]
        if capture.window is not None:
            places = positions if capture.places is None else capture.places[sample]
            hidden = hidden | beyond(capture.window, places.index_select(0, rows), places)
        scores[..., tail:].masked_fill_(hidden, float("-inf"))
        if sinks is not None:
            scores = torch.cat([scores, sinks.detach().float().view(heads, 1, 1).expand(-1, len(rows), 1)], dim=-1)
        answers.append(AttentionRows(torch.softmax(scores, -1, out=scores)[..., :slots], layout))
    return answers
