"""Proof on the user's own model: a pruned run against its full-length twin (decoder/full_length.py), on the same weights.

``self_check`` runs a real prompt and some decode steps through ``generate``. ``check_decoder``, the short form, needs no prompt: random
tokens go through the decoder alone. Both say how far the pruned run is from the twin; only floating-point noise may be left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import AttentionRows, SampleContext, VisualContext
from senna_autoprune.pruning.decoder.full_length import full_length, hidden_tokens
from senna_autoprune.pruning.decoder.hooks import PruningHooks
from senna_autoprune.pruning.decoder.lookahead import next_layer_attention
from senna_autoprune.pruning.decoder.models import find_decoder, sliding_window
from senna_autoprune.pruning.decoder.proven import REFUSED, is_proven
from senna_autoprune.pruning.methods.autoprune import AutoPrune
from senna_autoprune.pruning.method import Method
from senna_autoprune.pruning.policy import Policy

# greatest difference that rounding may make, as a share of the greatest value: sums run in another order in the twin
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
GROWING = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "inputs_embeds", "position_ids")
STEPS = 4  # tokens that are compared: the prefill's, and those of the decode steps behind it


@dataclass(frozen=True)
class SelfCheck:
    """How far a pruned run was from its twin.

    passed: the run was pruned, and ``difference`` <= ``tolerance``. difference: greatest difference of two logits (``of`` "states": of two
    last hidden states), as a share of the greatest ``scale`` = max |value|. steps: tokens compared, the prefill's last among them.
    tokens_per_layer: visual tokens that entered each layer, of ``visual_tokens``. method: whose cuts were checked. reason: why not passed.
    looks_ahead: whether a layer's attention can be told before it runs (PyramidDrop); None: not looked into.
    """

    passed: bool
    difference: float
    tolerance: float
    scale: float
    steps: int
    of: str
    visual_tokens: int
    tokens_per_layer: tuple[int, ...]
    method: str
    model_type: str
    proven: bool
    kernel: str
    dtype: str
    device: str
    reason: str | None = None
    looks_ahead: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@torch.no_grad()
def self_check(
    model: Any,
    batch: Mapping[str, Any],
    policy: Policy,
    steps: int = STEPS,
    visual_mask: Tensor | None = None,
    cls_scores: Tensor | None = None,
    view_sizes: tuple[int, ...] | None = None,
    keys: Tensor | None = None,
) -> SelfCheck:
    """Generate a few tokens from a real prompt, pruned, and compare every step's logits with the full-length twin's.

    Nothing is copied: the twin is the same model with masks, one slow forward over prompt and answer. A policy that merges tokens has no
    such twin; its cuts are checked with AutoPrune's, at the same budget (``method`` of the result says so).

    Args:
        batch: what ``generate`` takes. steps: tokens to generate. The rest: as a policy takes them.

    Returns:
        SelfCheck; it does not raise where the numbers differ.

    Raises:
        SennaPruneError: the policy cannot run on the model at all, or the twin cannot.
    """
    decoder, given = find_decoder(model), None
    if visual_mask is not None:
        given = VisualContext(visual_mask, view_sizes, cls_scores, keys)
    checked = _with_twin(policy, decoder)
    hooks, trace, seen, output = _generated(model, batch, checked, given, steps)
    if any(count for sample in trace for count in sample.merged_per_layer):
        checked = _stand_in(policy)
        hooks, trace, seen, output = _generated(model, batch, checked, given, steps)
    got = torch.stack(output.logits, 1)  # (B, steps, vocab)
    new = output.sequences[:, -steps:][:, :-1]  # the last one is nobody's input
    mask, valid = seen["mask"], seen["valid"]
    length = mask.shape[1] + new.shape[1]
    gone = hidden_tokens(list(trace), mask, length)
    valid = nn.functional.pad(valid.bool(), (0, new.shape[1]), value=True) if valid is not None else None
    with full_length(decoder, gone, hooks.compact, valid):
        want = model(**_longer(model, batch, new), use_cache=False).logits[:, -steps:]
    return _result(got, want, trace, checked, policy, decoder, "logits")


@torch.no_grad()
def check_decoder(decoder: Any, policy: Policy | None = None, steps: int = STEPS) -> SelfCheck:
    """The short form: 46 random tokens, 30 of them said to be visual, through the decoder alone; and the rows that scores read.

    Args:
        policy: None: AutoPrune at 0.4. Raises as ``self_check``.
    """
    checked = _with_twin(policy or AutoPrune(retention=0.4), decoder)
    embedding = decoder.get_input_embeddings()
    draw = torch.Generator().manual_seed(0)
    mask = torch.tensor([[False] * 4 + ([True] * 10 + [False] * 2) * 3 + [False] * 6])
    prompt = mask.shape[1]
    ids = torch.randint(embedding.num_embeddings, (1, prompt + steps - 1), generator=draw)
    embeds = embedding(ids.to(embedding.weight.device))
    mask = mask.to(embeds.device)
    hooks = PruningHooks(checked, decoder, VisualContext(mask))
    with hooks as trace:
        output = decoder(inputs_embeds=embeds[:, :prompt], use_cache=True)
        rows = [output.last_hidden_state[:, -1]]
        for step in range(prompt, prompt + steps - 1):
            output = decoder(inputs_embeds=embeds[:, step : step + 1], past_key_values=output.past_key_values, use_cache=True)
            rows.append(output.last_hidden_state[:, -1])
    got = torch.stack(rows, 1)
    with full_length(decoder, hidden_tokens(list(trace), mask, embeds.shape[1]), hooks.compact):
        want = decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, prompt - 1 :]
    result = _result(got, want, trace, checked, policy, decoder, "states")
    return result if not result.passed else _rows_too(result, decoder, embeds[:, :prompt], mask)


_CHECKED: WeakKeyDictionary[Any, SelfCheck] = WeakKeyDictionary()


def check_once(decoder: Any) -> SelfCheck:
    """``check_decoder``, once for each decoder; a fault of any kind in it is a check that did not pass."""
    if decoder not in _CHECKED:
        try:
            _CHECKED[decoder] = check_decoder(decoder)
        except Exception as error:  # a decoder that nobody looked into may fail anywhere
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            facts = _facts(decoder)
            _CHECKED[decoder] = SelfCheck(False, float("inf"), 0.0, 0.0, 0, "states", 0, (), "AutoPrune", **facts, reason=reason)
    return _CHECKED[decoder]


def admit(model: Any, allow_unproven: bool = False) -> None:
    """Let a model pass whose decoder was proved (proven.py), or has passed ``check_once`` in this process.

    Args:
        allow_unproven: run that check here and now.

    Raises:
        SennaPruneError: the type is known not to work, or was not proved and the check was not asked for, or did not pass.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind in REFUSED:
        raise SennaPruneError(f"models of type {kind!r} cannot be pruned: {REFUSED[kind]}")
    decoder = find_decoder(model)
    kind = decoder.config.model_type
    if is_proven(decoder):
        return
    if kind in REFUSED:
        raise SennaPruneError(f"decoders of type {kind!r} cannot be pruned: {REFUSED[kind]}")
    named = f"decoder {kind!r} ({type(decoder).__name__})"
    if not allow_unproven and not (decoder in _CHECKED and _CHECKED[decoder].passed):
        raise SennaPruneError(
            f"{named} was not proved to prune rightly; pass allow_unproven=True, which first compares it with its full-length twin"
        )
    checked = check_once(decoder)
    if not checked.passed:
        raise SennaPruneError(f"{named} does not prune rightly: {checked.reason}")


# --- parts -----------------------------------------------------------------------------------------------------------------------------


def _generated(model: Any, batch: Mapping[str, Any], policy: Method, given: VisualContext | None, steps: int) -> tuple[Any, Any, Any, Any]:
    """Hooks, trace, what ``_Watching`` saw and the output of a pruned ``generate``."""
    hooks = PruningHooks(policy, model, given)
    seen: dict[str, Any] = {}
    with hooks as trace, _Watching(hooks, seen):
        output = model.generate(
            **batch,
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            num_beams=1,
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


def _with_twin(policy: Policy, decoder: Any) -> Method:
    """The policy, or AutoPrune in its place where masks cannot show what the policy does: windows over new numbers."""
    windows = any(sliding_window(decoder.config, layer) for layer in range(len(decoder.layers)))
    return _stand_in(policy) if policy.positions == "compact" and windows else policy


def _stand_in(policy: Policy) -> Method:
    return AutoPrune(retention=policy.budget.retention or 0.5)


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


def _facts(decoder: Any) -> dict[str, Any]:
    weight = decoder.get_input_embeddings().weight
    return {
        "model_type": str(decoder.config.model_type),
        "proven": is_proven(decoder),
        "kernel": str(decoder.config._attn_implementation or "eager"),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "device": str(weight.device),
    }


def _result(got: Tensor, want: Tensor, trace: Any, checked: Method, asked: Any, decoder: Any, of: str) -> SelfCheck:
    got, want = got.float(), want.float().to(got.device)
    scale = float(want.abs().max())
    difference = float((got - want).abs().max()) / max(scale, 1e-30)
    tolerance = TOLERANCES.get(decoder.get_input_embeddings().weight.dtype, 1e-4)
    counts = tuple(trace[0].tokens_per_layer)
    reason = None
    if not difference <= tolerance:  # also NaN
        reason = f"the pruned run differs from its full-length twin by {difference:.2g} of the greatest value; {tolerance:g} is rounding"
    elif min(counts) >= trace[0].visual_tokens:
        reason = "nothing was pruned, so nothing was checked; give a smaller budget"
    name = type(checked).__name__
    if asked is not None and checked is not asked:
        name += f" (in place of {type(asked).__name__}, whose tokens no mask can show)"
    return SelfCheck(
        reason is None,
        difference,
        tolerance,
        scale,
        got.shape[1],
        of,
        trace[0].visual_tokens,
        counts,
        name,
        **_facts(decoder),
        reason=reason,
    )


@dataclass(kw_only=True)
class _Looking(Policy):
    """Keeps everything, and what scores would read: the rows of every layer but the last, and what each next layer would attend to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rows_seen: list[AttentionRows | None] = []
        self.ahead: list[Tensor | str] = []

    def probes(self, layers: int) -> tuple[int, ...]:
        return tuple(range(layers - 1))

    def measure(self, context: SampleContext, layer: int) -> Tensor | None:
        self.rows_seen.append(context.attention)
        try:
            self.ahead.append(next_layer_attention(context, unproven=True))
        except Exception as error:  # a layer without the parts that the lookahead needs
            self.ahead.append(f"{type(error).__name__}: {error}")
        return None

    def allocate(self, context: SampleContext) -> Allocation:
        return Allocation((context.visual,) * context.layers)


def _rows_too(result: SelfCheck, decoder: Any, embeds: Tensor, mask: Tensor) -> SelfCheck:
    """Also the attention that scores read against the layers' own, which an eager kernel gives."""
    own: dict[int, Tensor] = {}
    looking, before = _Looking(retention=1.0), decoder.config._attn_implementation
    with ExitStack() as stack:
        stack.callback(setattr, decoder.config, "_attn_implementation", before)
        decoder.config._attn_implementation = "eager"
        for index, layer in enumerate(decoder.layers):
            stack.callback(layer.self_attn.register_forward_hook(_keeper(own, index)).remove)
        with PruningHooks(looking, decoder, VisualContext(mask)):
            decoder(inputs_embeds=embeds, use_cache=False)
    first = int(mask[0].nonzero().max()) + 1  # of the text that asks
    worst = ahead = 0.0
    for index, (rows, coming) in enumerate(zip(looking.rows_seen, looking.ahead, strict=True)):
        shown, next_shown = own[index], own[index + 1]
        if rows is None or shown is None or shown.shape[1:] != (rows.weights.shape[0], embeds.shape[1], embeds.shape[1]):
            worst = float("inf")
            break
        worst = max(worst, float((rows.weights.float() - shown[0, :, first:].float()).abs().max()))
        expected = next_shown[0, :, -1].float().mean(0)[mask[0]]
        ahead = max(ahead, float("inf") if isinstance(coming, str) else float((coming - expected).abs().max()))
    reason = None
    if not worst <= result.tolerance:
        reason = f"the attention that scores read differs from the layers' own by {worst:.2g}"
    return SelfCheck(**{**asdict(result), "passed": reason is None, "reason": reason, "looks_ahead": ahead <= result.tolerance})


def _keeper(own: dict[int, Tensor], index: int) -> Callable[..., None]:
    def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        own[index] = output[1]

    return keep
