"""One pruned prefill under way: at each layer's input it allocates, selects, revives and gathers, and says what the layer then needs.

The hooks (hooks.py) call it, and the method decides; here only the order of things is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from senna_autoprune.pruning.checks import check_allocation, check_numbers, check_revived, check_selection
from senna_autoprune.pruning.context import AttentionRows, PromptContext, PromptLayout, ShortLayout
from senna_autoprune.pruning.decoder import attention, one_by_one, rows_once
from senna_autoprune.pruning.decoder.cache import CachedLayer
from senna_autoprune.pruning.decoder.deepstack import MERGED, DeepStack
from senna_autoprune.pruning.decoder.gather import attention_mask, cut, gather_batch
from senna_autoprune.pruning.decoder.proven import LOOKAHEAD
from senna_autoprune.pruning.decoder.ranked import Ranked, can_rank
from senna_autoprune.pruning.decoder.ranked_batch import RankedBatch
from senna_autoprune.pruning.decoder.rotary import table_at, table_kind
from senna_autoprune.pruning.decoder.timing import HostTimer
from senna_autoprune.pruning.method import Method
from senna_autoprune.pruning.trace import PromptTrace


@dataclass
class Prefill:
    """One context a sample, and what the current layer must be given.

    kernel: of the attention. compact: tokens are renumbered after each cut. timer: runs while rows of attention are read.
    after: (B,) the first position behind a prompt with three axes.
    cache: that the caller gave. length: N of the unpruned prompt, given_valid: (B, N) of it.
    valid: (B, M) bool, False at padding, and places: (B, M) by which a sliding window counts, both of what is left.
    windows: each layer's sliding window. ranked: while every cut so far took the short way (ranked.py, ranked_batch.py).
    apart: whether layers attend prompt by prompt to a batch (one_by_one.py). future: of ``rows_once``, if its text rows are a by-product.
    tables: (of the layer below, of this one), cosines and sines of the whole prompts. scores: that the short way ranked by.
    rotary and masks: since the last cut, by kind of layer and by sliding window. layouts and entering: per layer, per sample.
    """

    policy: Method
    decoder: Any
    kernel: str
    compact: bool
    timer: HostTimer
    contexts: list[PromptContext]
    batch: int
    cache: Any
    length: int
    given_valid: Tensor | None
    valid: Tensor | None
    windows: list[int | None]
    ranked: Ranked | RankedBatch | None = None
    apart: bool = False
    future: Tensor | None = None
    after: Tensor | None = None
    deepstack: DeepStack | None = None
    tables: tuple[Any, Any] = (None, None)
    left: list[CachedLayer] = field(default_factory=list)
    cut: bool = False
    capture: attention.Capture | None = None
    places: Tensor | None = None
    position_ids: Tensor | None = None
    rotary: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)
    scores: list[Tensor] = field(default_factory=list)
    layouts: list[list[PromptLayout]] = field(default_factory=list)
    entering: list[list[int]] = field(default_factory=list)
    _ways: dict[int, str | None] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return self.contexts[0].layers

    @property
    def done(self) -> bool:
        """Whether the cut after the last layer was made."""
        return len(self.entering) > self.depth

    def before_layer(self, index: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """What layer ``index`` is given: hidden (B, M, d) cut, with the keywords that go with it; and what its cache will say of it."""
        hidden, kwargs = self.at_boundary(index, hidden, kwargs)
        rows = self._rows_wanted(index)
        if rows:
            layouts, window = [context.layout for context in self.contexts], self._window(index)
            self.capture = attention.Capture(layouts, self.valid, rows, timer=self.timer, window=window, places=self.places)
            if isinstance(self.ranked, Ranked) and self.policy.ranks_by_mean_attention(index + 1):
                self.capture.future = self.ranked.future
            if self.ranked is not None and index not in self.policy.probes(self.depth) and self._way(index + 1) == "ranks":
                self.capture.means = self.ranked.means
            attention.request(self.decoder.layers[index].self_attn, self.capture)
        if self.apart:
            starts = self._starts(hidden.shape[1])
            late = partial(self._mask, index, hidden) if self.cut and self._mask_late else None
            attention.separate(self.decoder.layers[index].self_attn, one_by_one.Padding(starts, self.future, late))
        window, length = self.windows[index], hidden.shape[1]
        counted = (self.left[0].length if self.left else length) if self.compact else self.length
        self.left.append(
            CachedLayer(
                length=length,
                prompt=self.length,
                compact=self.compact,
                counted=counted,
                cut=self.cut,
                valid=self.valid,
                places=self.places if window else None,
                window=window,
                shown=self.given_valid if index == 0 else None,
                after=self.after if index == 0 else None,
                maskless=self.kernel == "sdpa" or "flash" in self.kernel,
            )
        )
        return hidden, kwargs

    def _window(self, index: int) -> int | None:
        """The sliding window of a layer, if the prompt is longer."""
        window = self.windows[index]
        return window if window is not None and self.length > window else None

    def _rows_wanted(self, index: int) -> str | None:
        """Which rows of layer ``index`` anybody will read: the allocation's probe, or the scores of the cut above it."""
        if index in self.policy.probes(self.depth):
            return self.policy.rows
        above = index + 1
        return self.policy.rows if self._way(above) is not None and self.policy.scores_from_attention(above) else None

    def at_boundary(self, boundary: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """The cut at the input of layer ``boundary`` (L: after the last): allocate if it is time, select, revive, gather."""
        rows, ranks = (self.capture.result, self.capture.ranks) if self.capture is not None else (None, None)
        self.capture = None
        if boundary == 0:
            self.apart = self._may_part()
            if self.apart and all(context.visual for context in self.contexts):  # of others all rows would be text rows
                self.future = rows_once.future(max(context.layout.asking for context in self.contexts), self.length, hidden.device)
            self.ranked = self._may_rank(kwargs)
        if self.deepstack is not None:
            hidden = self.deepstack.add(boundary, hidden, [context.layout for context in self.contexts])
        if kwargs:
            self.tables = self.tables[1], kwargs["position_embeddings"]
        probing = boundary - 1 in self.policy.probes(self.depth)
        if probing:
            self._show(boundary, hidden, rows)
            self._allocate(boundary - 1)
        way = self._way(boundary)
        if way == "ranks" and (rows is not None or ranks is not None):
            hidden = self._gather_ranked(boundary, hidden, kwargs, ranks, rows)
        elif way is not None:
            if not probing:
                self._show(boundary, hidden, rows)
            self.ranked = None
            hidden = self._gather(boundary, hidden, kwargs)
        if self.cut and kwargs:
            rotary, mask = self._rotary(boundary, hidden, kwargs), None if self._mask_late else self._mask(boundary, hidden)
            kwargs = {**kwargs, "position_embeddings": rotary, "attention_mask": mask}
            if kwargs.get("position_ids") is not None and (self.position_ids is not None or self._ids_unread):
                kwargs["position_ids"] = self.position_ids
        self.layouts.append([context.layout for context in self.contexts])
        self.entering.append([context.layout.tokens for context in self.contexts])
        for context in self.contexts:
            context.hidden = context.attention = None  # nothing of a layer outlives it
        return hidden, kwargs

    def _show(self, boundary: int, hidden: Tensor, rows: list[AttentionRows] | None) -> None:
        """Let the method see where it is. rows: of the layer below, if they were asked for."""
        for sample, context in enumerate(self.contexts):
            context.boundary, context.hidden = boundary, hidden[sample]
            context.attention = rows[sample] if rows is not None else None
            context.row, (context.tables_below, context.tables) = sample, self.tables

    def _allocate(self, layer: int) -> None:
        asking = [sample for sample, context in enumerate(self.contexts) if context.visual]
        contexts = [self.contexts[sample] for sample in asking]
        last = layer == max(self.policy.probes(self.depth))
        numbers = [self.policy.measure(context, layer) for context in contexts]
        for number in numbers:
            check_numbers(self.policy, number)
        asked = [number for number in numbers if number is not None]
        numbers_there = torch.stack(asked) if len(asked) > 1 else asked[0][None] if asked else None
        values = iter(numbers_there.tolist() if numbers_there is not None else [])  # the one synchronisation with the host
        for sample, context, number in zip(asking, contexts, numbers, strict=True):
            context.measured = next(values) if number is not None else []
            allocation = self.policy.allocate(context)
            check_allocation(self.policy, context, allocation, [counts[sample] for counts in self.entering], last)
            context.allocation = allocation
        if isinstance(self.ranked, RankedBatch):
            entering = [context.allocation.entering for context in self.contexts if context.allocation is not None]
            self.ranked.plan([[*counts, *counts[-1:] * (self.depth + 1 - len(counts))] for counts in entering])

    def _may_rank(self, kwargs: dict[str, Any]) -> Ranked | RankedBatch | None:
        """Tables for the short way, where these prompts can go it at all; a method may still go another one at any cut."""
        one = self.batch == 1 and self.valid is None and not any(self.windows)
        plain = not self.compact and self.deepstack is None and all(context.visual for context in self.contexts)
        if not (one or self.apart) or not plain or not can_rank(kwargs, self.batch) or table_kind(self.decoder, 0) is not None:
            return None
        if not any(self.policy.ranks_by_mean_attention(layer) for layer in range(1, self.depth + 1)):
            return None
        if one:
            return Ranked(self.contexts[0].layout, self.length, once=not self.contexts[0].keeps_all)
        return RankedBatch([context.layout for context in self.contexts], self.length)

    def _may_part(self) -> bool:
        """Whether layers may attend to the prompts one by one: a batch on the CPU, padded on the left, and cut."""
        if self.batch == 1 or self.kernel != "sdpa" or any(self.windows) or any(context.keeps_all for context in self.contexts):
            return False
        layouts = [context.layout for context in self.contexts]
        firsts = [min(int(part[0]) for part in (one.text, one.visual) if len(part)) for one in layouts]
        return layouts[0].text.device.type == "cpu" and firsts == [self.length - one.length for one in layouts]

    @cached_property
    def _ids_unread(self) -> bool:
        """Whether layers take their positions from the rotary table alone, so that nobody need gather position_ids."""
        return self.ranked is not None and self.kernel in ("sdpa", "eager") and self.decoder.config.model_type in LOOKAHEAD

    @property
    def _mask_late(self) -> bool:
        """Whether a padded batch's mask is made only if a layer cannot attend prompt by prompt: of layers that do no more with it."""
        return self.apart and self.decoder.config.model_type in LOOKAHEAD

    def _way(self, boundary: int) -> str | None:
        """What the cut at this boundary needs: None: no cut; "ranks": if there are any, the short way; "method": it selects.

        Asked again, it is the same: below an allocation stands a probe, and above a probe nobody asks before it has allocated.
        """
        if boundary not in self._ways:
            chosen = [_chosen(context, boundary) for context in self.contexts]
            way = "method" if any(count < one.layout.tokens for count, one in zip(chosen, self.contexts, strict=True)) else None
            if way is not None and self.ranked is not None and self.policy.ranks_by_mean_attention(boundary):
                allocated = [_allocated(context, boundary) for context in self.contexts]
                way = "ranks" if allocated == chosen else way
            self._ways[boundary] = way
        return self._ways[boundary]

    def _starts(self, slots: int) -> list[int]:
        """Slots of padding on the left of each prompt; the short way knows them."""
        if isinstance(self.ranked, RankedBatch):
            return self.ranked.starts
        return [slots - context.layout.length for context in self.contexts]

    def _gather_ranked(
        self, boundary: int, hidden: Tensor, kwargs: dict[str, Any], ranks: Tensor | None, rows: list[AttentionRows] | None
    ) -> Tensor:
        ranked, positions = self.ranked, None
        self.cut, self.masks, self.places = True, {}, None
        if kwargs and not self._ids_unread:  # after the last layer nothing rotates or attends any more
            positions = kwargs.get("position_ids") if self.position_ids is None else self.position_ids
        if isinstance(ranked, RankedBatch):
            scores = ranked.rank(rows or []) if ranks is None else ranks  # (B, M)
            return self._gather_ranked_batch(ranked, boundary, hidden, kwargs, scores, positions)
        assert ranked is not None
        context, tokens = self.contexts[0], _chosen(self.contexts[0], boundary)
        scores = ranked.rank((rows or [])[0]) if ranks is None else ranks
        self.scores.append(scores)
        source = ranked.keep(scores, tokens)
        context.layout, context.view_counts = ShortLayout(context.layout, source, tokens), None
        if kwargs:
            self.rotary = {None: ranked.follow(source, kwargs["position_embeddings"])}
            self.position_ids = positions.index_select(-1, source) if positions is not None else None
        return hidden.index_select(1, source)

    def _gather_ranked_batch(
        self, ranked: RankedBatch, boundary: int, hidden: Tensor, kwargs: dict[str, Any], scores: Tensor, positions: Tensor | None
    ) -> Tensor:
        batch, slots, width = hidden.shape
        self.scores.append(scores)
        kept = ranked.keep(scores, boundary)
        layouts = ranked.layouts([context.layout for context in self.contexts], boundary, kept, slots)
        for context, layout in zip(self.contexts, layouts, strict=True):
            context.layout, context.view_counts = layout, None
        self.valid = ranked.there
        if kwargs:
            self.rotary = {None: ranked.follow(kept, kwargs["position_embeddings"])}
        if positions is not None:
            axes = positions.shape[:-2]
            self.position_ids = positions.expand(*axes, batch, -1).flatten(-2).index_select(-1, kept).view(*axes, batch, -1)
        return hidden.flatten(0, 1).index_select(0, kept).view(batch, -1, width)

    def _gather(self, boundary: int, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor:
        cuts, merged = [], []
        for context in self.contexts:
            chosen, current = _chosen(context, boundary), context.layout.tokens
            if chosen >= current:
                kept, revived = torch.arange(current, device=hidden.device), None
            else:
                kept, revived = self.policy.select(context, boundary, chosen), None
                check_selection(self.policy, kept, current, chosen, boundary)
                extra = _allocated(context, boundary) - chosen
                if extra > 0:
                    revived = self.policy.revive(context, boundary, _complement(kept, current), extra)
                    check_revived(self.policy, revived, extra, boundary)
                    if self.deepstack is not None:
                        context.note(MERGED)
            merged.append(revived.tokens if revived else None)
            cuts.append(cut(context.layout, hidden.shape[1], kept, boundary - 1, revived))
        gathered = gather_batch(hidden, merged, cuts)
        self.valid, self.cut = gathered.valid, True
        for context, layout in zip(self.contexts, gathered.layouts, strict=True):
            context.layout = layout
        self._place(gathered.hidden, kwargs)
        return gathered.hidden

    def _place(self, hidden: Tensor, kwargs: dict[str, Any]) -> None:
        """Positions of the tokens that are left; each layer's rotary rows and mask follow from them."""
        if not kwargs:  # after the last layer nothing rotates or attends any more
            return
        self.masks, self.rotary = {}, {}
        if self.compact:
            self.places = positions = torch.arange(hidden.shape[1], device=hidden.device)[None].expand(self.batch, -1)
            if self.valid is not None:
                positions = (self.valid.long().cumsum(-1) - 1).clamp_min(0)
            self.position_ids = positions
            return
        self.places = origin = torch.stack([context.layout.origin for context in self.contexts])  # (B, M)
        if kwargs.get("position_ids") is not None:
            self.position_ids = _take(kwargs["position_ids"][..., None], origin)[..., 0]

    def _rotary(self, index: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        kind = table_kind(self.decoder, index)
        if kind not in self.rotary:
            if self.compact:
                assert self.position_ids is not None
                self.rotary[kind] = table_at(self.decoder, index, hidden, self.position_ids)
            else:
                assert self.places is not None
                cos, sin = kwargs["position_embeddings"]
                self.rotary[kind] = (_take(cos, self.places), _take(sin, self.places))
        return self.rotary[kind]

    def _mask(self, index: int, hidden: Tensor) -> Tensor | None:
        window, length = self._window(index), hidden.shape[1]
        if window not in self.masks:
            self.masks[window] = attention_mask(self.valid, length, length, self.kernel, hidden, window, self.places)
        return self.masks[window]

    def trace_of(self, sample: int, kv_bytes: int) -> PromptTrace:
        """What one sample's prefill did, after the last layer."""
        context, entering = self.contexts[sample], [counts[sample] for counts in self.entering]
        tokens, text, cost = entering[: self.depth], context.text, context.cost
        described = self.policy.describe(context) if context.visual else {}
        return PromptTrace(
            visual_tokens=context.visual,
            text_tokens=text,
            view_sizes=context.view_sizes,
            tokens_per_layer=tokens,
            tokens_leaving=entering[-1],
            flops_full=cost.prefill([context.visual + text] * len(tokens)),
            flops_pruned=cost.prefill(count + text for count in tokens),
            kv_bytes=kv_bytes,
            notes=context.notes,
            layouts=[layouts[sample] for layouts in self.layouts[: self.depth]],
            **described,
        )


def _allocated(context: PromptContext, layer: int) -> int:
    """Visual tokens that shall enter ``layer``, merged ones included."""
    assert context.allocation is not None
    return context.allocation.entering[layer]


def _chosen(context: PromptContext, layer: int) -> int:
    """Current visual tokens that stay at the input of ``layer``: all there are, until an allocation says otherwise."""
    current = context.layout.tokens
    if context.allocation is None or layer >= len(context.allocation.entering):
        return current
    return min(context.allocation.chosen(layer), current)


def _complement(kept: Tensor, total: int) -> Tensor:
    """Ascending indices 0..total-1 that are not in ``kept``; no host synchronisation, the size is known."""
    flags = torch.zeros(total, dtype=torch.long, device=kept.device).index_fill_(0, kept, 1)
    return torch.sort(flags, stable=True).indices[: total - len(kept)]


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """Gather rows (..., B or 1, N, h) at index (B, M) along N."""
    if index.shape[0] == 1:
        return rows.index_select(-2, index[0])
    expanded = rows.expand(*rows.shape[:-3], index.shape[0], *rows.shape[-2:])
    where = index[..., None].expand(*expanded.shape[:-2], index.shape[1], rows.shape[-1])
    return expanded.gather(-2, where)
