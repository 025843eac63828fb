"""True pruning in an unmodified decoder: all hooks are here, but for those of multimodal/, which find a stock model's images.

One prefill, in order: the root model's pre-hook learns where the visual tokens are; each decoder layer's pre-hook cuts (gathers hidden
states, rotary rows and mask) before the layer runs, so the layer computes and caches only what survives; attention.py shows the rows
that scores need. Decoding afterwards only gets each layer's own mask and positions. The hooks never ask which method they run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.checks import check_allocation, check_numbers, check_revived, check_scores, check_selection
from senna_autoprune.pruning.context import PromptContext, PromptLayout, VisualContext, initial_layouts, runs_of
from senna_autoprune.pruning.cost import LayerCost
from senna_autoprune.pruning.decoder import attention
from senna_autoprune.pruning.decoder.cache import CachedLayer, can_hold, leave, left_in
from senna_autoprune.pruning.decoder.calls import Calls
from senna_autoprune.pruning.decoder.decoding import Decode
from senna_autoprune.pruning.decoder.deepstack import MERGED, DeepStack
from senna_autoprune.pruning.decoder.gather import attention_mask, cut, gather_batch
from senna_autoprune.pruning.decoder.models import find_decoder, has_three_axes, sliding_window
from senna_autoprune.pruning.decoder.proven import check_call
from senna_autoprune.pruning.decoder.restore import restore
from senna_autoprune.pruning.decoder.rotary import table_at, table_kind
from senna_autoprune.pruning.decoder.timing import HostTimer
from senna_autoprune.pruning.decoder.unwrap import compiled, running_model
from senna_autoprune.pruning.method import Method
from senna_autoprune.pruning.multimodal.finder import VisualFinder
from senna_autoprune.pruning.trace import PromptTrace, Trace

THREE_AXES = "positions stay original: this model's have three axes, which cannot be renumbered (ours)"


@dataclass
class Prefill:
    """A prefill under way: one context a sample, and what the current layer must be given."""

    contexts: list[PromptContext]
    batch: int
    cache: Any
    valid: Tensor | None
    length: int  # of the unpruned prompt
    given_valid: Tensor | None  # (B, N) of the unpruned prompt
    left: list[CachedLayer] = field(default_factory=list)
    cut: bool = False
    deepstack: DeepStack | None = None
    rotary: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)  # by kind of layer, since the last cut
    position_ids: Tensor | None = None
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)  # by sliding window, since the last cut
    capture: attention.Capture | None = None
    ids: list[list[Tensor]] = field(default_factory=list)  # per layer, per sample
    entering: list[list[int]] = field(default_factory=list)
    places: Tensor | None = None  # (B, M) by which a sliding window counts, once tokens were cut


class PruningHooks:
    """Hooks of one policy on one model; a context manager that yields the Trace and always removes everything.

    Raises:
        SennaPruneError: if the model has no Llama-family decoder, or a forward's visual positions cannot be found.
    """

    def __init__(self, policy: Method, model: Any, given: VisualContext | None = None, seeds: Sequence[int] | None = None) -> None:
        self.policy, self.given, self.seeds, self.root = policy, given, seeds, model
        self.model = running_model(model)
        self.decoder = find_decoder(self.model)
        self.trace = Trace()
        self.calls = Calls(self.model, model, self.decoder, type(policy).__name__)
        self.finder = VisualFinder(self.model, policy.needs)
        self.compact = policy.positions == "compact" and not has_three_axes(self.decoder)
        self.prefill: Prefill | None = None
        self.decode: Decode | None = None
        self.restored: Tensor | None = None
        self.decoded = False  # any step over the cache of a pruned prefill
        self.timer = HostTimer()  # runs in the hooks and in what they ask of the attention
        self.stack = ExitStack()

    def __enter__(self) -> Trace:
        config, layers = self.decoder.config, self.decoder.layers
        self.layers = list(layers)[: config.num_hidden_layers]
        self.kernel = (config._attn_implementation or "eager").removeprefix(attention.PREFIX)
        self.cost = LayerCost.from_config(config)
        with ExitStack() as stack:
            self.calls.attach(stack)
            if "flex" not in self.kernel or compiled(self.root):  # flex attention is itself compiled
                stack.enter_context(torch.compiler.set_stance("force_eager"))  # a graph made before may not call our hooks
            before = config._attn_implementation
            config._attn_implementation = attention.probing_name(self.kernel)
            stack.callback(setattr, config, "_attn_implementation", before)
            self.finder.attach(stack, ask=self.given is None)
            stack.callback(self.decoder.register_forward_pre_hook(self._timed(self._begin), with_kwargs=True).remove)
            stack.callback(self.decoder.register_forward_hook(self._finish, with_kwargs=True, always_call=True).remove)
            for index, layer in enumerate(self.layers):
                hook = self._timed(self._layer_hook(index))
                stack.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
            stack.callback(self.decoder.norm.register_forward_pre_hook(self._timed(self._after_last)).remove)
            stack.callback(self.model.register_forward_hook(self._blank_dropped).remove)
            for layer in self.layers:
                stack.callback(attention.withdraw, layer.self_attn)
            self.stack = stack.pop_all()
        return self.trace

    def __exit__(self, kind: type[BaseException] | None, *exception: Any) -> None:
        self.prefill = self.decode = None
        self.stack.close()
        if kind is not None or len(self.trace) or self.decoded:
            return
        if self.calls.unserved():
            raise SennaPruneError(
                f"{type(self.root).__name__} ran, but not through the decoder that was pruned, so nothing was; give the policy the model "
                "whose forward runs"
            )
        warnings.warn("nothing was pruned in this with: no prompt with visual tokens reached the model", stacklevel=4)

    # --- hooks ------------------------------------------------------------------------------------------------------------------------

    def _timed(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(hook)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timer:
                return hook(*args, **kwargs)

        return timed

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        self.calls.begin()
        self.prefill = self.decode = None
        embeds, cache = kwargs.get("inputs_embeds"), kwargs.get("past_key_values")
        tokens = embeds if embeds is not None else kwargs.get("input_ids", args[0] if args else None)
        if tokens is None:
            return None
        batch, length = tokens.shape[:2]
        if _seen(cache):
            left = left_in(cache, len(self.layers))
            self._refuse_images(batch, length)
            self.decode = Decode(left) if left else None
            self.decoded = self.decoded or self.decode is not None
            return (args, self.decode.step(kwargs, self.finder.positions_given)) if self.decode else None
        visual = self._given(batch) if self.given is not None else self.finder.context()
        if visual is None or (self.given is not None and length == 1):
            return None
        if tuple(visual.mask.shape) != (batch, length):
            raise SennaPruneError(
                f"visual_mask has shape {tuple(visual.mask.shape)}, but the decoder was given {batch} x {length} positions; "
                "pass a (B, N) mask"
            )
        check_call(self.decoder, kwargs)
        self.prefill = self._start(visual, kwargs, batch, length, tokens.device)
        self.prefill.deepstack, kwargs = DeepStack.taken(kwargs)
        return args, kwargs

    def _layer_hook(self, index: int) -> Any:
        def before_layer(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
            hidden = args[0] if args else kwargs["hidden_states"]
            if self.prefill is not None:
                hidden, kwargs = self._prefill_layer(index, hidden, kwargs)
            elif self.decode is not None:
                kwargs = self.decode.layer(index, hidden, kwargs, self.decoder, self.kernel)
            else:
                return None
            return ((hidden, *args[1:]), kwargs) if args else ((), {**kwargs, "hidden_states": hidden})

        return before_layer

    def _after_last(self, norm: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.prefill is None:
            return None
        hidden, _ = self._cut(self.prefill, len(self.layers), args[0], {})
        return (hidden, *args[1:])

    def _finish(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if not self.calls.end():
            return None  # refused at its beginning
        state, self.prefill, self.decode = self.prefill, None, None
        asked, self.finder.asked = self.finder.asked, None  # of this call alone
        seconds = self.timer.take()
        if state is None or len(state.entering) <= len(self.layers):
            return None  # no prefill of ours, or one that failed half-way
        check_scores(self.policy, [scores for context in state.contexts for scores in context.ranked])
        cache = _cache_in(output) if state.cache is None else state.cache
        kv_bytes = 0
        if cache is not None and cache.get_seq_length():
            kv_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers[: len(self.layers)])
            leave(cache, state.left)
        for sample, context in enumerate(state.contexts):
            trace = self._sample_trace(state, sample, context, kv_bytes // state.batch)
            if context.layout.visual.device.type == "cpu":
                trace.pruner_ms = 1e3 * seconds / state.batch
            self.trace.append(trace)
        if not state.cut:
            return None
        output, self.restored = restore(state.contexts, state.length, state.given_valid, asked, output)
        return output

    def _blank_dropped(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Once the loss is computed, logits of dropped tokens say that they are none."""
        there, self.restored = self.restored, None
        logits = getattr(output, "logits", None)
        if there is not None and logits is not None and logits.shape[:2] == there.shape:
            output.logits = logits.masked_fill(~there[..., None].to(logits.device), float("nan"))

    # --- prefill ----------------------------------------------------------------------------------------------------------------------

    def _start(self, visual: VisualContext, kwargs: dict[str, Any], batch: int, length: int, device: Any) -> Prefill:
        padding = kwargs.get("attention_mask")
        if padding is not None and padding.dim() != 2:
            raise SennaPruneError("pruning needs a 2-d attention_mask (B, N), got a prepared 4-d one; use a dynamic cache")
        valid = padding.bool() if padding is not None else None
        layouts = initial_layouts(visual.mask.to(device), valid)
        seeds = self._seeds(batch)
        contexts = [self._context(visual, sample, layout, seeds) for sample, layout in enumerate(layouts)]
        if valid is not None and all(layout.length == length for layout in layouts):
            valid = None  # a mask of ones
        cache = kwargs.get("past_key_values")
        if cache is not None and not can_hold(cache):
            raise SennaPruneError("pruning needs layers that can hold different lengths: use a DynamicCache")
        if "flash" in self.kernel and any(sliding_window(self.decoder.config, index) for index in range(len(self.layers))):
            raise SennaPruneError(
                f"{self.kernel} counts this model's sliding window over the tokens that are left; load it with attn_implementation='sdpa'"
            )
        return Prefill(contexts, batch, cache, valid, length, valid)

    def _given(self, batch: int) -> VisualContext:
        """What the caller told of the visual tokens; ``generate`` repeats each sample for its beams and returned sequences."""
        assert self.given is not None
        rows, times = self.given.mask.shape[0], self.calls.expansion
        return self.given.repeated(times) if times > 1 and rows * times == batch else self.given

    def _seeds(self, batch: int) -> Sequence[int] | None:
        """One seed a row; all beams and returned sequences of a sample have the sample's.

        Raises:
            SennaPruneError: there are more or fewer than samples.
        """
        if self.seeds is None or len(self.seeds) == batch:
            return self.seeds
        if len(self.seeds) * self.calls.expansion != batch:
            raise SennaPruneError(f"{len(self.seeds)} seeds were given for a batch of {batch}; give one a sample")
        return [seed for seed in self.seeds for _ in range(self.calls.expansion)]

    def _context(self, visual: VisualContext, sample: int, layout: PromptLayout, seeds: Sequence[int] | None) -> PromptContext:
        sizes = visual.views(sample) or runs_of(layout.visual.cpu())
        total = len(layout.visual)
        if sum(sizes) != total:
            raise SennaPruneError(f"view_sizes sum to {sum(sizes)}, but sample {sample} has {total} visual tokens")
        scores = visual.cls_scores[sample].to(layout.visual.device) if visual.cls_scores is not None else None
        if scores is not None and scores.shape != (total,):
            raise SennaPruneError(f"cls_scores has {tuple(scores.shape)} for sample {sample}, which has {total} visual tokens")
        keys = visual.keys[sample].to(layout.visual.device) if visual.keys is not None else None
        return PromptContext(
            layers=len(self.layers),
            visual=total,
            text=len(layout.text),
            view_sizes=tuple(sizes),
            budget=self.policy.budget,
            cost=self.cost,
            layout=layout,
            generator=torch.Generator().manual_seed(self.policy.seed if seeds is None else seeds[sample]),
            decoder=self.decoder,
            cls_scores=scores,
            keys=keys,
            missing=visual.missing,
            compact=self.compact,
            notes=[*visual.notes, *([THREE_AXES] if self.policy.positions == "compact" and not self.compact else [])],
        )

    def _prefill_layer(self, index: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        state = self.prefill
        assert state is not None
        hidden, kwargs = self._cut(state, index, hidden, kwargs)
        rows = self._rows_wanted(state, index)
        if rows:
            layouts, window = [context.layout for context in state.contexts], self._window(state, index)
            state.capture = attention.Capture(layouts, state.valid, rows, timer=self.timer, window=window, places=state.places)
            attention.request(self.layers[index].self_attn, state.capture)
        window, length = sliding_window(self.decoder.config, index), hidden.shape[1]
        counted = (state.left[0].length if state.left else length) if self.compact else state.length
        state.left.append(
            CachedLayer(
                length=length,
                prompt=state.length,
                compact=self.compact,
                counted=counted,
                cut=state.cut,
                valid=state.valid,
                places=state.places if window else None,
                window=window,
                maskless=self.kernel == "sdpa" or "flash" in self.kernel,
            )
        )
        return hidden, kwargs

    def _window(self, state: Prefill, index: int) -> int | None:
        """The sliding window of a layer, if the prompt is longer."""
        window = sliding_window(self.decoder.config, index)
        return window if window is not None and state.length > window else None

    def _rows_wanted(self, state: Prefill, index: int) -> str | None:
        """Which rows of layer ``index`` anybody will read: the allocation's probe, or the scores of the cut above it."""
        if index in self.policy.probes(len(self.layers)):
            return self.policy.rows
        above = index + 1
        cuts = any(_chosen(context, above) < len(context.layout.visual) for context in state.contexts)
        return self.policy.rows if cuts and self.policy.scores_from_attention(above) else None

    def _cut(self, state: Prefill, boundary: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """The cut at the input of layer ``boundary`` (L: after the last): allocate if it is time, select, revive, gather."""
        rows = state.capture.result if state.capture is not None else None
        state.capture = None
        if state.deepstack is not None:
            hidden = state.deepstack.add(boundary, hidden, [context.layout for context in state.contexts])
        for sample, context in enumerate(state.contexts):
            context.boundary, context.hidden = boundary, hidden[sample]
            context.attention = rows[sample] if rows is not None else None
            if kwargs:
                cos, sin = kwargs["position_embeddings"]  # (B or 1, N, h)
                context.rotary_below = context.rotary
                context.rotary = (cos[sample % cos.shape[0]], sin[sample % sin.shape[0]])
        if boundary - 1 in self.policy.probes(len(self.layers)):
            self._allocate(state, boundary - 1)
        if any(_chosen(context, boundary) < len(context.layout.visual) for context in state.contexts):
            hidden = self._gather(state, boundary, hidden, kwargs)
        if state.cut and kwargs:
            rotary, mask = self._rotary(state, boundary, hidden, kwargs), self._mask(state, boundary, hidden)
            kwargs = {**kwargs, "position_embeddings": rotary, "attention_mask": mask}
            if state.position_ids is not None and kwargs.get("position_ids") is not None:
                kwargs["position_ids"] = state.position_ids
        state.ids.append([context.layout.ids for context in state.contexts])
        state.entering.append([len(context.layout.visual) for context in state.contexts])
        for context in state.contexts:
            context.hidden = context.attention = None  # nothing of a layer outlives it
        return hidden, kwargs

    def _allocate(self, state: Prefill, layer: int) -> None:
        asking = [sample for sample, context in enumerate(state.contexts) if context.visual]
        contexts = [state.contexts[sample] for sample in asking]
        last = layer == max(self.policy.probes(len(self.layers)))
        numbers = [self.policy.measure(context, layer) for context in contexts]
        for number in numbers:
            check_numbers(self.policy, number)
        asked = [number for number in numbers if number is not None]
        values = iter(torch.stack(asked).tolist() if asked else [])  # the one synchronisation with the host
        for sample, context, number in zip(asking, contexts, numbers, strict=True):
            context.measured = next(values) if number is not None else []
            allocation = self.policy.allocate(context)
            check_allocation(self.policy, context, allocation, [counts[sample] for counts in state.entering], last)
            context.allocation = allocation

    def _gather(self, state: Prefill, boundary: int, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor:
        cuts, merged = [], []
        for context in state.contexts:
            chosen, current = _chosen(context, boundary), len(context.layout.visual)
            if chosen >= current:
                kept, revived = torch.arange(current, device=hidden.device), None
            else:
                kept, revived = self.policy.select(context, boundary, chosen), None
                check_selection(self.policy, kept, current, chosen, boundary)
                extra = _allocated(context, boundary) - chosen
                if extra > 0:
                    revived = self.policy.revive(context, boundary, _complement(kept, current), extra)
                    check_revived(self.policy, revived, extra, boundary)
                    if state.deepstack is not None:
                        context.note(MERGED)
            merged.append(revived.tokens if revived else None)
            cuts.append(cut(context.layout, hidden.shape[1], kept, boundary - 1, revived))
        gathered = gather_batch(hidden, merged, cuts)
        state.valid, state.cut = gathered.valid, True
        for context, layout in zip(state.contexts, gathered.layouts, strict=True):
            context.layout = layout
        self._place(state, gathered.hidden, kwargs)
        return gathered.hidden

    def _place(self, state: Prefill, hidden: Tensor, kwargs: dict[str, Any]) -> None:
        """Positions of the tokens that are left; each layer's rotary rows and mask follow from them."""
        if not kwargs:  # after the last layer nothing rotates or attends any more
            return
        state.masks, state.rotary = {}, {}
        if self.compact:
            state.places = positions = torch.arange(hidden.shape[1], device=hidden.device)[None].expand(state.batch, -1)
            if state.valid is not None:
                positions = (state.valid.long().cumsum(-1) - 1).clamp_min(0)
            state.position_ids = positions
            return
        state.places = origin = torch.stack([context.layout.origin for context in state.contexts])  # (B, M)
        if kwargs.get("position_ids") is not None:
            state.position_ids = _take(kwargs["position_ids"][..., None], origin)[..., 0]

    def _rotary(self, state: Prefill, index: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        kind = table_kind(self.decoder, index)
        if kind not in state.rotary:
            if self.compact:
                assert state.position_ids is not None
                state.rotary[kind] = table_at(self.decoder, index, hidden, state.position_ids)
            else:
                assert state.places is not None
                cos, sin = kwargs["position_embeddings"]
                state.rotary[kind] = (_take(cos, state.places), _take(sin, state.places))
        return state.rotary[kind]

    def _mask(self, state: Prefill, index: int, hidden: Tensor) -> Tensor | None:
        window, length = self._window(state, index), hidden.shape[1]
        if window not in state.masks:
            state.masks[window] = attention_mask(state.valid, length, length, self.kernel, hidden, window, state.places)
        return state.masks[window]

    def _sample_trace(self, state: Prefill, sample: int, context: PromptContext, kv_bytes: int) -> PromptTrace:
        entering = [counts[sample] for counts in state.entering]
        tokens, text = entering[: len(self.layers)], context.text
        described = self.policy.describe(context) if context.visual else {}
        return PromptTrace(
            visual_tokens=context.visual,
            text_tokens=text,
            view_sizes=context.view_sizes,
            tokens_per_layer=tokens,
            tokens_leaving=entering[-1],
            flops_full=self.cost.prefill([context.visual + text] * len(tokens)),
            flops_pruned=self.cost.prefill(count + text for count in tokens),
            kv_bytes=kv_bytes,
            notes=context.notes,
            device_ids=[ids[sample] for ids in state.ids[: len(self.layers)]],
            **described,
        )

    def _refuse_images(self, batch: int, length: int) -> None:
        """Raise SennaPruneError if a call over a filled cache brings visual tokens: what came before them is not there to be ranked by."""
        mask = self.given.mask if self.given is not None else None
        told = mask is not None and length > 1 and tuple(mask.shape) == (batch, length) and bool(mask.any())
        if (told or self.finder.brings_images) and self.policy.budget.retention != 1:
            raise SennaPruneError(
                "these visual tokens come after a filled cache, where they are not pruned; start afresh with the whole conversation, "
                "or leave the policy's with for this turn"
            )


def _cache_in(output: Any) -> Any:
    """The cache that a decoder has made itself, also in the tuple of return_dict=False."""
    if isinstance(output, tuple):
        return next((part for part in output if isinstance(part, Cache)), None)
    return getattr(output, "past_key_values", None)


def _seen(cache: Any) -> int:
    return cache.get_seq_length() if cache is not None else 0


def _allocated(context: PromptContext, layer: int) -> int:
    """Visual tokens that shall enter ``layer``, merged ones included."""
    assert context.allocation is not None
    return context.allocation.entering[layer]


def _chosen(context: PromptContext, layer: int) -> int:
    """Current visual tokens that stay at the input of ``layer``: all there are, until an allocation says otherwise."""
    current = len(context.layout.visual)
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
