"""Proof of a decoder on its own weights: a pruned run against its full-length twin (full_length.py), and what scores read of its layers.

The short form of pruning/self_check.py: it needs no prompt, no image and no method. Random tokens go through the decoder alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation, Budget
from senna_autoprune.pruning.context import AttentionRows, PromptContext, VisualContext
from senna_autoprune.pruning.decoder.full_length import full_length, hidden_tokens
from senna_autoprune.pruning.decoder.hooks import PruningHooks
from senna_autoprune.pruning.decoder.lookahead import next_layer_attention
from senna_autoprune.pruning.decoder.models import CACHE, find_decoder
from senna_autoprune.pruning.decoder.proven import PROVEN, REFUSED, is_proven, is_stock
from senna_autoprune.pruning.decoder.unwrap import running_model
from senna_autoprune.pruning.method import Method

# greatest difference that rounding may make, as a share of the greatest value: sums run in another order in the twin
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
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


class Probe(Method):
    """A method for checks: a few tokens go at random before layer 0, more by attention at every third of the depth."""

    own_budget = True
    spends = "released"
    scope, seed = "scene", 0

    def __init__(self) -> None:
        self.budget = Budget(own=True)

    def allocate(self, context: PromptContext) -> Allocation:
        shares = [(0.9, 0.6, 0.3)[3 * layer // context.layers] for layer in range(context.layers)]
        return Allocation(tuple(max(1, round(share * context.visual)) for share in shares))

    def score(self, context: PromptContext, layer: int) -> Tensor:
        if context.attention is not None:
            return context.attention.mean_to_visual()
        return torch.rand(len(context.layout.visual), generator=context.generator).to(context.layout.visual.device)


def check_prompt(decoder: Any, more: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings (1, 46 + more, d) of random tokens, and a mask (1, 46) of 30 that are said to be visual, in three blocks."""
    embedding = decoder.get_input_embeddings()
    mask = torch.tensor([[False] * 4 + ([True] * 10 + [False] * 2) * 3 + [False] * 6])
    ids = torch.randint(embedding.num_embeddings, (1, mask.shape[1] + more), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeds = embedding(ids.to(embedding.weight.device))
    return embeds, mask.to(embeds.device)


@torch.no_grad()
def check_decoder(decoder: Any, method: Method | None = None, steps: int = STEPS) -> SelfCheck:
    """The short form: random tokens, most of them said to be visual, through the decoder alone; and the rows that scores read.

    Args:
        method: that keeps positions and merges nothing; None: Probe.

    Raises:
        SennaPruneError: the hooks cannot prune it, or a mask cannot hide tokens from its layers.
    """
    checked = method or Probe()
    embeds, mask = check_prompt(decoder, steps - 1)
    prompt = mask.shape[1]
    hooks = PruningHooks(checked, decoder, VisualContext(mask))
    with hooks as trace:
        output = decoder(inputs_embeds=embeds[:, :prompt], use_cache=True)
        rows = [output.last_hidden_state[:, -1]]
        for step in range(prompt, prompt + steps - 1):
            output = decoder(inputs_embeds=embeds[:, step : step + 1], **{CACHE: getattr(output, CACHE)}, use_cache=True)
            rows.append(output.last_hidden_state[:, -1])
    got = torch.stack(rows, 1)
    with full_length(decoder, hidden_tokens(list(trace), mask, embeds.shape[1]), hooks.compact):
        want = decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, prompt - 1 :]
    result = compared(got, want, trace, checked, checked, decoder, "states")
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
            _CHECKED[decoder] = SelfCheck(False, float("inf"), 0.0, 0.0, 0, "states", 0, (), "Probe", **facts, reason=reason)
    return _CHECKED[decoder]


def proof_of(model: Any) -> dict[str, str]:
    """For a run's provenance: nothing of a proven decoder; of another, "self_check" and how it went (``check_once``).

    Raises:
        SennaPruneError: it did not pass, or is known not to work.
    """
    refuse_known(model)
    decoder = find_decoder(running_model(model))
    if is_proven(decoder):
        return {}
    admit(decoder, allow_unproven=True)
    found = check_once(decoder)
    said = f"{found.model_type} is not proven; in the short check it differs by {found.difference:.2g} of the greatest state"
    return {"self_check": f"{said}, where rounding is up to {found.tolerance:g}"}


def refuse_known(model: Any) -> None:
    """Raise SennaPruneError if models of this type are known not to work (REFUSED)."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind in REFUSED:
        raise SennaPruneError(f"models of type {kind!r} cannot be pruned: {REFUSED[kind]}")


def admit(decoder: Any, allow_unproven: bool = False) -> None:
    """Let a decoder pass that was proved (proven.py), or has passed ``check_once`` in this process.

    Args:
        allow_unproven: run that check here and now.

    Raises:
        SennaPruneError: the type is known not to work, or was not proved and the check was not asked for, or did not pass.
    """
    if is_proven(decoder):
        return
    refuse_known(decoder)
    named = f"decoder {decoder.config.model_type!r} ({type(decoder).__name__})"
    if decoder.config.model_type in PROVEN and not is_stock(decoder):
        named += ", whose forward is not transformers' own,"
    if not allow_unproven and not (decoder in _CHECKED and _CHECKED[decoder].passed):
        raise SennaPruneError(f"{named} was not proved to prune rightly; allow_unproven=True compares it with its full-length twin first")
    checked = check_once(decoder)
    if not checked.passed:
        raise SennaPruneError(f"{named} does not prune rightly: {checked.reason}")


# --- parts -------------------------------------------------------------------------------------------------------


def _facts(decoder: Any) -> dict[str, Any]:
    weight = decoder.get_input_embeddings().weight
    return {
        "model_type": str(decoder.config.model_type),
        "proven": is_proven(decoder),
        "kernel": str(decoder.config._attn_implementation or "eager"),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "device": str(weight.device),
    }


def compared(got: Tensor, want: Tensor, trace: Any, checked: Method, asked: Any, decoder: Any, of: str) -> SelfCheck:
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


class _Looking(Probe):
    """Keeps everything, and what scores would read: the rows of every layer but the last, and what each next layer would attend to."""

    def __init__(self) -> None:
        super().__init__()
        self.rows_seen: list[AttentionRows | None] = []
        self.ahead: list[Tensor | str] = []

    def probes(self, layers: int) -> tuple[int, ...]:
        return tuple(range(layers - 1))

    def measure(self, context: PromptContext, layer: int) -> Tensor | None:
        self.rows_seen.append(context.attention)
        try:
            self.ahead.append(next_layer_attention(context, unproven=True))
        except Exception as error:  # a layer without the parts that the lookahead needs
            self.ahead.append(f"{type(error).__name__}: {error}")
        return None

    def allocate(self, context: PromptContext) -> Allocation:
        return Allocation((context.visual,) * context.layers)


def _rows_too(result: SelfCheck, decoder: Any, embeds: Tensor, mask: Tensor) -> SelfCheck:
    """Also the attention that scores read against the layers' own, which an eager kernel gives."""
    own: dict[int, Tensor] = {}
    looking, before = _Looking(), decoder.config._attn_implementation
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
