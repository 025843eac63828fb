"""True pruning in an unmodified decoder: all hooks are here, but for those of multimodal/, which find a stock model's images.

One prefill, in order: the root model's pre-hook learns where the visual tokens are; each decoder layer's pre-hook cuts (prefill.py: gathers
hidden states, rotary rows and mask) before the layer runs, so the layer computes and caches only what survives; attention.py shows the rows
that scores need. Decoding afterwards only gets each layer's own mask and positions. The hooks never ask which method they run.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import wraps
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import Cache

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.checks import check_scores
from senna_autoprune.pruning.context import PromptContext, PromptLayout, VisualContext, initial_layouts, runs_of
from senna_autoprune.pruning.cost import LayerCost
from senna_autoprune.pruning.decoder import attention
from senna_autoprune.pruning.decoder.cache import can_hold, leave, left_in
from senna_autoprune.pruning.decoder.calls import Calls
from senna_autoprune.pruning.decoder.decoding import Decode
from senna_autoprune.pruning.decoder.deepstack import DeepStack
from senna_autoprune.pruning.decoder.eager import without_graphs
from senna_autoprune.pruning.decoder.known import recognised, remember
from senna_autoprune.pruning.decoder.models import CACHE, cache_in, find_decoder, has_three_axes, sliding_window
from senna_autoprune.pruning.decoder.prefill import Prefill
from senna_autoprune.pruning.decoder.proven import check_call
from senna_autoprune.pruning.decoder.restore import restore, rows_asked
from senna_autoprune.pruning.decoder.states import refuse
from senna_autoprune.pruning.decoder.timing import HostTimer
from senna_autoprune.pruning.decoder.unwrap import compiled, running_model
from senna_autoprune.pruning.method import Method
from senna_autoprune.pruning.multimodal.finder import VisualFinder
from senna_autoprune.pruning.trace import Trace

THREE_AXES = "positions stay original: this model's have three axes, which cannot be renumbered (ours)"


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
        self.whole: WeakSet[Any] = WeakSet()  # caches of unpruned prompts, looked into once
        self.decoded = False  # any step over the cache of a pruned prefill
        self.timer = HostTimer()  # runs in the hooks and in what they ask of the attention
        self.stack = ExitStack()

    def __enter__(self) -> Trace:
        config, layers = self.decoder.config, self.decoder.layers
        self.layers = list(layers)[: config.num_hidden_layers]
        self.kernel = (config._attn_implementation or "eager").removeprefix(attention.PREFIX)
        self.windows = [sliding_window(config, index) for index in range(len(self.layers))]
        self.cost = LayerCost.from_config(config)
        with ExitStack() as stack:
            self.calls.attach(stack)
            if "flex" not in self.kernel or compiled(self.root):  # flex attention is itself compiled
                stack.enter_context(without_graphs())
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

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise SennaPruneError("a model inside a policy's with cannot be copied or pickled with its hooks; do so before or after the with")

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
        if self.decoder.config._attn_implementation != attention.probing_name(self.kernel):
            raise SennaPruneError(
                f"the attention kernel was changed to {self.decoder.config._attn_implementation!r} inside the with; change it before"
            )
        if args:  # by name from here on
            args, kwargs = (), inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
            kwargs = {**kwargs, **kwargs.pop("kwargs", {})}
        embeds, cache = kwargs.get("inputs_embeds"), cache_in(kwargs)
        tokens = embeds if embeds is not None else kwargs.get("input_ids")
        if tokens is None:
            return None
        batch, length = tokens.shape[:2]
        if _seen(cache):
            left = left_in(cache, len(self.layers))
            self._refuse_images(batch, length)
            if left is None:
                self._refuse_unknown(cache, kwargs.get("attention_mask"), _seen(cache) + length)
                return None
            self.decode, self.decoded = Decode(left), True
            return args, self.decode.step(kwargs)
        visual = self._given(batch) if self.given is not None else self.finder.context()
        if visual is None or (self.given is not None and length == 1):
            return None
        if tuple(visual.mask.shape) != (batch, length) or visual.mask.is_floating_point():
            raise SennaPruneError(
                f"visual_mask has shape {tuple(visual.mask.shape)} ({visual.mask.dtype}), but the decoder was given {batch} x {length} "
                "positions; pass a (B, N) bool mask"
            )
        check_call(self.decoder, kwargs)
        self.prefill = self._start(visual, kwargs, batch, length, tokens.device)
        positions = kwargs.get("position_ids")
        if has_three_axes(self.decoder) and positions is not None and positions.dim() == 3:
            self.prefill.after = positions[-3:].amax((0, 2)) + 1  # the model itself keeps it for its last prompt only
        self.prefill.deepstack, kwargs = DeepStack.taken(kwargs)
        return args, kwargs

    def _layer_hook(self, index: int) -> Any:
        def before_layer(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
            hidden = args[0] if args else kwargs["hidden_states"]
            if self.prefill is not None:
                hidden, kwargs = self.prefill.before_layer(index, hidden, kwargs)
            elif self.decode is not None:
                kwargs = self.decode.layer(index, hidden, kwargs, self.decoder, self.kernel)
            else:
                return None
            return ((hidden, *args[1:]), kwargs) if args else ((), {**kwargs, "hidden_states": hidden})

        return before_layer

    def _after_last(self, norm: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.prefill is None:
            return None
        hidden, _ = self.prefill.at_boundary(len(self.layers), args[0], {})
        return (hidden, *args[1:])

    def _finish(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if not self.calls.end():
            return None  # refused at its beginning
        state, decode, self.prefill, self.decode = self.prefill, self.decode, None, None
        if decode is not None:
            decode.expect(False)
        asked, self.finder.asked = self.finder.asked, None  # of this call alone
        seconds = self.timer.take()
        if state is not None and not state.done and state.cache is not None:
            state.cache.reset()  # it failed half-way; the cache was empty before
        if state is None or not state.done:
            return None
        check_scores(self.policy, [*state.scores, *(scores for context in state.contexts for scores in context.ranked)])
        cache = _cache_in(output) if state.cache is None else state.cache
        kv_bytes = 0
        if cache is not None and cache.get_seq_length():
            kv_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers[: len(self.layers)])
            if not state.cut:
                self.whole.add(cache)
            else:
                remember(self.decoder, cache.layers[len(self.layers) - 1].keys)
            leave(cache, state.left)
        for sample in range(state.batch):
            trace = state.trace_of(sample, kv_bytes // state.batch)
            if self.device.type == "cpu":
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
        self.device = torch.device(device)
        padding = kwargs.get("attention_mask")
        if padding is not None and padding.dim() != 2:
            raise SennaPruneError("pruning needs a 2-d attention_mask (B, N), got a prepared 4-d one; use a dynamic cache")
        valid = padding.bool() if padding is not None else None
        layouts = initial_layouts(visual.mask.to(device), valid)
        short = rows_asked(self.finder.asked, batch, length, min(layout.asking for layout in layouts)) is None
        if valid is not None and short and self.policy.budget.retention != 1 and not bool(valid[:, -1].all()):
            raise SennaPruneError("prompts are padded on the right, where a pruned answer would begin; pad them on the left")
        seeds = self._seeds(batch)
        contexts = [self._context(visual, sample, layout, seeds) for sample, layout in enumerate(layouts)]
        if valid is not None and all(layout.length == length for layout in layouts):
            valid = None  # a mask of ones
        cache = cache_in(kwargs)
        if cache is not None and not can_hold(cache):
            raise SennaPruneError("pruning needs layers that can hold different lengths: use a DynamicCache")
        if "flash" in self.kernel and any(self.windows):
            raise SennaPruneError(
                f"{self.kernel} counts this model's sliding window over the tokens that are left; load it with attn_implementation='sdpa'"
            )
        told = (self.policy, self.decoder, self.kernel, self.compact, self.timer)
        return Prefill(*told, contexts, batch, cache, length, given_valid=valid, valid=valid, windows=self.windows)

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

    def _refuse_images(self, batch: int, length: int) -> None:
        """Raise SennaPruneError if a call over a filled cache brings visual tokens: what came before them is not there to be ranked by."""
        mask = self.given.mask if self.given is not None else None
        told = mask is not None and length > 1 and tuple(mask.shape) == (batch, length) and bool(mask.any())
        if (told or self.finder.brings_images) and self.policy.budget.retention != 1:
            raise SennaPruneError(
                "these visual tokens come after a filled cache, where they are not pruned; start afresh with the whole conversation, "
                "or leave the policy's with for this turn"
            )

    def _refuse_unknown(self, cache: Any, mask: Any, length: int) -> None:
        """Raise SennaPruneError if a cache that says nothing of itself was made from a pruned prompt's tensors.

        Args:
            length: tokens in the cache and of this step; a mask that counts more was made for another prompt.
        """
        last = cache.layers[len(self.layers) - 1] if len(cache.layers) >= len(self.layers) else None
        if cache not in self.whole:
            if recognised(self.decoder, getattr(last, "keys", None)):
                refuse()
            self.whole.add(cache)
        if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] > length and self.policy.budget.retention != 1:
            raise SennaPruneError(
                f"attention_mask counts {mask.shape[1]} tokens, but the cache and this step hold {length}: the cache is not of this "
                "prompt, or was made by hand from a pruned one's tensors; copy a cache as a whole (copy.deepcopy)"
            )


def _cache_in(output: Any) -> Any:
    """The cache that a decoder has made itself, also in the tuple of return_dict=False."""
    if isinstance(output, tuple):
        return next((part for part in output if isinstance(part, Cache)), None)
    return getattr(output, CACHE, None)


def _seen(cache: Any) -> int:
    return cache.get_seq_length() if cache is not None else 0
