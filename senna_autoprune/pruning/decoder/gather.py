"""Index arithmetic of a cut: which slots survive, in which order, and how a ragged batch is padded. Pure tensors, no model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.pruning.context import PromptLayout, Revived

MERGED_TAG = 1000  # the i-th token merged after layer l is called -(1000 l + i), as in the recordings; -(1 + i) before layer 1


@dataclass
class SampleCut:
    """One sample's cut. source: (M',) rows of cat(hidden, merged) in their new order; layout: the unpadded new layout."""

    source: Tensor
    layout: PromptLayout


def cut(layout: PromptLayout, length: int, kept: Tensor, layer: int, revived: Revived | None = None) -> SampleCut:
    """Drop all visual tokens but ``kept``; put the revived ones where they ask to be, by default after the last visual slot.

    Args:
        layout: of the current sequence. length: its physical length M (with padding).
        kept: (n,) ascending indices into the current visual tokens.
        layer: the layer whose output is cut.
        revived: C merged tokens (context.py).

    Returns:
        SampleCut whose layout counts slots from 0, without padding; text is never dropped.
    """
    device = kept.device
    kept_slots = layout.visual.index_select(0, kept)
    slots = torch.cat([layout.text, kept_slots])
    ids, origin = layout.ids.index_select(0, kept), layout.origin.index_select(0, slots)
    keys = 2 * slots  # even keys leave room for merged tokens right behind any slot
    if revived is not None:
        merged = len(revived.centres)
        behind = layout.visual[-1:].expand(merged) if revived.behind is None else layout.visual.index_select(0, revived.behind)
        slots = torch.cat([slots, length + torch.arange(merged, device=device)])
        keys = torch.cat([keys, 2 * behind + 1])
        tags = -((MERGED_TAG * layer if layer > 0 else 1) + torch.arange(merged, device=device))  # never 0: that is an original index
        ids = torch.cat([ids, tags])
        origin = torch.cat([origin, layout.origin.index_select(0, layout.visual.index_select(0, revived.centres))])
    order = torch.sort(keys, stable=True).indices  # (M',) new slot -> element
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=device))  # element -> new slot
    text = len(layout.text)
    visual = place[text:]
    if revived is not None and revived.behind is not None:  # merged tokens stand between kept ones
        visual, ranked = visual.sort()
        ids = ids.index_select(0, ranked)
    return SampleCut(
        slots.index_select(0, order),
        PromptLayout(place[:text], visual, ids, origin.index_select(0, order), layout.asking),
    )


@dataclass
class Gathered:
    """A batch after a cut. hidden: (B, M', d); valid: (B, M') bool or None; layouts with padded slots (padding is on the left)."""

    hidden: Tensor
    valid: Tensor | None
    layouts: list[PromptLayout]


def gather_batch(hidden: Tensor, merged: list[Tensor | None], cuts: list[SampleCut]) -> Gathered:
    """Apply every sample's cut; samples that keep fewer tokens are padded on the left, so the last token stays last.

    Args:
        hidden: (B, M, d). merged: per sample (C, d) or None.
    """
    lengths = [len(one.source) for one in cuts]
    longest = max(lengths)
    if len(cuts) == 1 and merged[0] is None:
        return Gathered(hidden.index_select(1, cuts[0].source), None, [cuts[0].layout])
    rows, layouts = [], []
    for sample, one in enumerate(cuts):
        states, extra = hidden[sample], merged[sample]
        if extra is not None:
            states = torch.cat([states, extra.to(states.dtype)])
        row, padding = states.index_select(0, one.source), longest - lengths[sample]
        layout = one.layout
        if padding:
            row = torch.cat([row.new_zeros(padding, row.shape[1]), row])
            origin = torch.cat([layout.origin[:1].expand(padding), layout.origin])
            layout = PromptLayout(layout.text + padding, layout.visual + padding, layout.ids, origin, layout.asking)
        rows.append(row)
        layouts.append(layout)
    valid = None
    if min(lengths) < longest:
        starts = longest - torch.tensor(lengths, device=hidden.device)
        valid = torch.arange(longest, device=hidden.device)[None, :] >= starts[:, None]
    return Gathered(torch.stack(rows), valid, layouts)


def beyond(window: int, queries: Tensor, keys: Tensor) -> Tensor:
    """Which keys a sliding window hides: positions (..., q) and (..., k) -> (..., q, k) bool, True at a distance of ``window`` or more."""
    return queries[..., :, None] - keys[..., None, :] >= window


def attention_mask(
    valid: Tensor | None,
    queries: int,
    keys: int,
    implementation: str,
    like: Tensor,
    window: int | None = None,
    places: Tensor | None = None,
) -> Tensor | None:
    """The mask a kernel wants for a causal block: the last ``queries`` of ``keys`` tokens attend to all before them.

    Args:
        valid: (B, keys) bool, False at padding; None: no padding.
        window: how far back a token sees, counted in ``places`` (B, keys), the positions of the tokens; None: to the beginning.
        implementation: "sdpa", "eager", "flash..." or another name that takes a boolean mask.
        like: a tensor of the device and dtype of the hidden states.

    Returns:
        None where the kernel needs none, (B, keys) bool for flash, (B or 1, 1, queries, keys) additive for eager, flex; else boolean.
    """
    if "flash" in implementation:
        return valid
    if valid is None and window is None and (queries == 1 or (queries == keys and implementation == "sdpa")):
        return None
    positions = torch.arange(keys, device=like.device)
    allowed = positions[None, :] <= positions[keys - queries :, None]  # (queries, keys)
    allowed = allowed[None, None]
    if window is not None:
        assert places is not None
        allowed = allowed & ~beyond(window, places[:, keys - queries :], places)[:, None]
    if valid is not None:
        allowed = allowed & valid[:, None, None, :]
        # a padding row may attend to itself: an all-masked row would be NaN, and its output is never read
        allowed = allowed | (positions[None, :] == positions[keys - queries :, None])[None, None]
    if implementation == "eager" or "flex" in implementation:  # both add the mask to the scores
        return torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill(~allowed, torch.finfo(like.dtype).min)
    return allowed
